"""A pair of one's own: state dicts of a network that takes normalised images, from the command line to a verdict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from auditsvc.cli import main
from tests.services.line import data_in, policy

CODE = """from torch import nn

def make():
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
"""
PREPARED = "mean: [0.5], std: [0.1]"


def network() -> nn.Sequential:
    """Bright where the normalised mean is over 1, so 0.6 of the image's own; raw images never are."""
    net = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        for part in net.parameters():
            part.zero_()
        net[2].weight[0], net[2].bias[1] = 0.25, 1.0
        net[4].weight[1, 0] = net[4].weight[0, 1] = 9.0
    return net.eval()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUDITSVC_ARCHITECTURES", "")
    monkeypatch.setenv("AUDITSVC_ARCHITECTURES_DIR", "")
    (tmp_path / "own_net.py").write_text(CODE)
    torch.save({"epoch": 9, "state_dict": network().state_dict()}, "parent.pt")
    pruned = network()
    prune.l1_unstructured(pruned[2], "weight", amount=0.5)
    torch.save(nn.DataParallel(pruned).state_dict(), "candidate.pt")
    data_in(tmp_path / "data")
    (tmp_path / "policy.yaml").write_text(json.dumps(policy().model_dump(mode="json", exclude_defaults=True)))
    return tmp_path


def audit(*more: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    words = "audit --data data --model own --parent parent.pt --candidate candidate.pt --policy policy.yaml --as sue"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr("sys.argv", ["auditsvc", *words.split(), *more])
        main()
    seen = capsys.readouterr()
    return int(ended.value.code or 0), seen.out + seen.err


@pytest.mark.slow
def test_state_dicts_are_audited_and_missing_preprocessing_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = audit("--architecture", "own_net:make", capsys=capsys)
    assert code == 2
    assert "not distinguishable from guessing" in said
    assert "own mean" in said
    code, said = audit("--architecture", "own_net:make", "--preprocessing", PREPARED, capsys=capsys)
    assert code == 0, said
    assert "took the weights from 'state_dict'" in said
    assert "removed the prefix module." in said
    assert "pruning masks permanent" in said
    code, said = audit("--architecture", "own_net:make", "--preprocessing", PREPARED, "--expect-accuracy", "0.6",
                       capsys=capsys)  # fmt: skip
    assert code == 2
    assert "its owner states 60.0 %" in said
