"""``auditsvc model check`` says what a model is, how it answers, and what can't be measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from auditsvc.cli import main
from tests.importing.graphs import brightness


def check(folder: Path, *words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["auditsvc", "model", "check", "net.onnx", *words])
        main()
    return int(ended.value.code or 0), capsys.readouterr().out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.onnx").write_bytes(brightness(("n", 28, 28, 1), kind="uint8"))
    for number in range(40):
        place = tmp_path / "photos" / ("bright" if number % 2 else "dark")
        place.mkdir(parents=True, exist_ok=True)
        Image.new("L", (28, 28), 200 if number % 2 else 20 + number).save(place / f"{number}.png")
    return tmp_path


def test_without_data_it_says_what_the_file_says_and_what_is_needed(folder: Path, capsys) -> None:
    code, text = check(folder, capsys=capsys)
    assert code == 0
    assert "takes 'x': uint8 N x 28 x 28 x 1" in text
    assert "needed         the classes, in the order of the outputs" in text


def test_with_data_it_shows_predictions_and_the_order_of_the_outputs(folder: Path, capsys) -> None:
    code, text = check(folder, "--data", "photos", "--classes", "dark,bright", "--json", capsys=capsys)
    found = json.loads(text)
    assert code == 0, found
    assert found["output"] == [2] and found["unmeasured"] == []
    assert (found["card"]["classes"], found["card"]["output_classes"]) == (["bright", "dark"], ["dark", "bright"])
    assert [(one["value"], one["images"]) for one in found["right"]] == [(1.0, 40)]
    assert "none of the common ones is better" in found["preprocessing"]
