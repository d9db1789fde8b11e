"""Files that load without an error may still be another model; the round trip notices."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from auditsvc.errors import Refused, Unavailable
from auditsvc.importing import Trip, inspect_folder, round_trip, round_trip_all
from auditsvc.importing.clean_process import run_clean
from auditsvc.models import CARD, WEIGHTS, Model, model_files
from tests.fakes.progress import QuietProgress
from tests.models.families import FAMILIES, grey_images, model_of


def saved(model: Model, folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, data in model_files(model.weights(), model.card).items():
        (folder / name).write_bytes(data)
    return folder


def test_every_family_answers_the_same_in_a_clean_process(tmp_path: Path) -> None:
    images, progress = grey_images(5), QuietProgress()
    models = [model_of(name) for name in FAMILIES.values()]
    trips = [Trip(saved(model, tmp_path / model.card.architecture), model, images) for model in models]
    round_trip_all(trips, progress=progress)
    assert progress.steps == [("reload in a clean process", len(trips))]
    assert len(progress.ticks) == len(trips)


class OneForTwo(nn.Module):
    """A batch size written into the code: one answer for each pair of images."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1).reshape(len(images) // 2, -1)[:, :10]


def test_every_difference_in_every_folder_is_named(tmp_path: Path) -> None:
    good, bad, worse, other = (model_of("small_cnn", seed=seed) for seed in range(4))
    seven = model_of("small_cnn", classes=7)
    seven = Model(seven.module, seven.card.model_copy(update={"classes": seven.card.classes[:7]}))
    kept = {"good": good, "bad": bad, "worse": worse, "other": seven}
    folders = {name: saved(model, tmp_path / name) for name, model in kept.items()}
    with torch.no_grad():
        bad.module.head.bias[0] += 1e-3
        other.module.head.bias[0] = float("inf")
    weights = worse.weights() | {"head.bias": torch.full((10,), float("nan"))}
    (folders["worse"] / WEIGHTS).write_bytes(model_files(weights, worse.card)[WEIGHTS])
    pairs = (("good", good), ("bad", bad), ("worse", worse), ("other", other), ("good", Model(OneForTwo(), good.card)))
    with pytest.raises(Refused) as refused:
        round_trip_all([Trip(folders[name], model, grey_images()) for name, model in pairs])
    differ = [reason for reason in refused.value.reasons if "outputs differ (largest difference 0.001)" in reason]
    assert [reason.split(":")[:2] for reason in differ] == [["bad", " batch of 4"], ["bad", " batch of 2"]]
    assert [reason for reason in refused.value.reasons if reason not in differ] == [
        "worse: these weights are not a small_cnn",
        "worse: not a finite number in head.bias",
        "other: batch of 4: the model itself gives NaN or infinity",
        "other: batch of 4: outputs are (4, 7) float32, not (4, 10) float32",
        "other: batch of 2: the model itself gives NaN or infinity",
        "other: batch of 2: outputs are (2, 7) float32, not (2, 10) float32",
        "good: batch of 4: outputs are (4, 10) float32, not (2, 10) float32",
        "good: batch of 2: outputs are (2, 10) float32, not (1, 10) float32",
    ]


def test_one_image_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="two images"):
        round_trip(tmp_path, model_of("small_cnn"), grey_images(1))


def test_files_are_judged_before_a_process_is_started(tmp_path: Path) -> None:
    folder = saved(model_of("small_cnn"), tmp_path / "model")
    (folder / "run.py").write_text("print('hello')")
    (folder / "link").symlink_to("/etc/hostname")
    (folder / CARD).unlink()
    with pytest.raises(Refused) as refused:
        round_trip(folder, model_of("small_cnn"), grey_images())
    assert [reason.split(";")[0] for reason in refused.value.reasons] == [
        "model: architecture.json is missing",
        "model: link is not a plain file",
        "model: run.py is not a file of a model folder",
    ]


def test_a_folder_of_ours_has_nothing_against_it(tmp_path: Path) -> None:
    assert inspect_folder(saved(model_of("small_cnn"), tmp_path / "model")) == ()
    assert inspect_folder(tmp_path / "nowhere") == (f"{tmp_path / 'nowhere'} is not a folder",)


@pytest.fixture
def clean_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module that can be run as a clean process."""
    from auditsvc.importing import clean_process

    monkeypatch.setattr(clean_process, "_ROOT", str(tmp_path))
    yield tmp_path / "script.py"


def test_the_clean_process_sees_no_secret_and_not_our_folder(
    clean_script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDITSVC_KEY_PASSPHRASE", "hush")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
    clean_script.write_text("import json, os, sys; print(json.dumps([dict(os.environ), sys.path, os.getcwd()]))")
    work = tmp_path / "work"
    work.mkdir()
    ((environment, paths, folder),) = run_clean("script", {}, work, seconds=30)
    assert set(environment) <= {"PATH", "LD_LIBRARY_PATH", "HOME", "TMPDIR", "LANG", "CUDA_VISIBLE_DEVICES", "LC_CTYPE"}
    assert folder == str(work)
    assert str(tmp_path / "elsewhere") not in paths and "" not in paths


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("import time; time.sleep(60)", "stopped after 1 s"),
        ("raise SystemExit('out of milk')", "out of milk"),
        ("import os; os.kill(os.getpid(), 11)", "it said nothing"),
        ("print('hello')", "not JSON"),
    ],
)
def test_a_child_that_fails_is_a_tool_that_failed(clean_script: Path, tmp_path: Path, script: str, words: str) -> None:
    clean_script.write_text(script)
    with pytest.raises(Unavailable, match=words):
        run_clean("script", {}, tmp_path, seconds=1 if "sleep" in script else 30)


def test_a_killed_fork_server_is_started_again(clean_script: Path, tmp_path: Path) -> None:
    clean_script.write_text("import json, os; print(json.dumps([os.getpid(), os.getppid()]))")
    ((_, server),) = run_clean("script", {}, tmp_path, seconds=30)
    os.kill(server, 9)
    ((child, started),) = run_clean("script", {}, tmp_path, seconds=30)
    assert started != server and child != started


def test_a_child_that_is_cancelled_is_ended(tmp_path: Path, clean_script: Path) -> None:
    from auditsvc.errors import Cancelled

    clean_script.write_text(f"import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n{json.dumps('x')}")
    seen: list[int] = []

    def stop() -> None:
        seen.append(1)
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        run_clean("script", {}, tmp_path, seconds=30, on_answer=stop)
    assert seen == [1]
