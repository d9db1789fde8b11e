"""What a refused file is, why, and the command that converts it."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
import torch
from torch import nn

from auditsvc.importing import inspect_folder
from auditsvc.models.model_files import HEAD_BYTES, foreign


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("foreign")
    net, example = nn.Linear(2, 2).eval(), (torch.zeros(1, 2),)
    torch.save(net.state_dict(), folder / "saved.pt")
    torch.save(net.state_dict(), folder / "old.pt", _use_new_zipfile_serialization=False)
    torch.jit.save(torch.jit.trace(net, example), folder / "script.pt")
    torch.export.save(torch.export.export(net, example), folder / "program.pt2")
    (folder / "packed.tgz").write_bytes(gzip.compress(b"x"))
    (folder / "keras.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (folder / "lite.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))
    return {path.stem: path for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("stem", "what", "command"),
    [
        ("saved", "a zip archive as torch.save writes it", "torch.load('model.safetensors', weights_only=True)"),
        ("old", "a Python pickle", "torch.load('model.safetensors', weights_only=True)"),
        ("script", "a TorchScript archive", "torch.jit.load('model.safetensors')"),
        ("program", "a torch.export archive", "torch.export.load('model.safetensors')"),
        ("packed", "an archive", "Unpack it"),
        ("keras", "an HDF5 file", "tf2onnx"),
        ("lite", "a TensorFlow Lite model", "tf2onnx"),
    ],
)
def test_a_foreign_file_is_told_by_its_content(
    files: dict[str, Path], stem: str, what: str, command: str, tmp_path: Path
) -> None:
    renamed = tmp_path / "model.safetensors"
    renamed.write_bytes(files[stem].read_bytes())
    (reason,) = (reason for reason in inspect_folder(tmp_path) if "is missing" not in reason)
    assert what in reason
    assert command in reason


def test_the_commands_work_where_the_file_is_trusted(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    monkeypatch.chdir(tmp_path)
    for stem in ("saved", "script", "program"):
        reason = foreign(files[stem].read_bytes()[:HEAD_BYTES], files[stem].name, files[stem])
        (tmp_path / files[stem].name).write_bytes(files[stem].read_bytes())
        code = reason.split('python -c "')[1].rsplit('"', 1)[0]
        exec(code, {})
        assert sorted(load_file("model.safetensors")) == ["bias", "weight"]


def test_a_name_with_quotes_never_gets_into_a_command() -> None:
    reason = foreign(b"\x80\x04" + bytes(20), "x');import os;('.pt")
    assert "import os" not in reason.split("Convert it")[1]


def test_a_damaged_zip_is_refused_too() -> None:
    buffer = io.BytesIO(b"PK\x03\x04" + bytes(50))
    assert "zip archive" in foreign(buffer.getvalue(), "a.pt", buffer.getvalue())


def test_plain_text_and_onnx_are_not_foreign() -> None:
    assert foreign(b"\x08\x08\x12\x07pytorch", "model.onnx") is None
    assert foreign(b"Apache License", "LICENSE") is None
