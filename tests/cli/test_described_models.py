"""What options say about a model: class names from a file, boxes as they are written, arguments of a factory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from auditsvc.cli.output import described_by
from auditsvc.errors import InvalidInput
from auditsvc.records.architecture import ModelDescription


def said(task: str = "classification", **options: Any) -> ModelDescription:
    names = ("classes", "image", "output", "layout", "confidence", "architecture", "preprocessing")
    return described_by(task, *(options.get(name) for name in names))


@pytest.mark.parametrize(
    ("file", "text"),
    [("names.txt", "cat\nhot dog\n\n"), ("names.json", '["cat", "hot dog"]'), ("n.json", '{"1":"hot dog","0":"cat"}'),
     ("data.yaml", "path: .\nnames:\n  0: cat\n  1: hot dog\n")],
)  # fmt: skip
def test_class_names_come_from_a_file(file: str, text: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text(text)
    assert said(classes=str(tmp_path / file)).classes == ("cat", "hot dog") == said(classes="cat, hot dog").classes


def test_a_file_without_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "n.json").write_text("3")
    with pytest.raises(InvalidInput, match=r"n\.json holds no list of class names"):
        said(classes=str(tmp_path / "n.json"))


def test_boxes_are_said_after_their_layout() -> None:
    made = said("detection", layout="detections:yxyx:shares", confidence=0.3).decoding
    assert made is not None
    assert (made.layout, made.corners, made.unit, made.confidence) == ("detections", "yxyx", "shares", 0.3)
    with pytest.raises(InvalidInput, match="--decoding can't be used"):
        said("detection", layout="detections:upside-down")


def test_a_factory_is_given_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AUDITSVC_ARCHITECTURES", "AUDITSVC_ARCHITECTURES_DIR"):
        monkeypatch.setenv(name, "")
    found = said(architecture="shapes:make(width=8, kind='wide')")
    assert (found.architecture, found.arguments) == ("shapes:make", {"width": 8, "kind": "wide"})
    for wrong in ("shapes:make(8)", "shapes:make(width=open('x'))", "shapes:make(width"):
        with pytest.raises(InvalidInput, match=r"FACTORY\(name=value"):
            said(architecture=wrong)
