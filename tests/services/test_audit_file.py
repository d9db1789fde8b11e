"""``audit.yaml``: what is written is read again, and every fault is named with the field that was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditsvc.errors import InvalidInput, NotFound
from auditsvc.records.architecture import ModelDescription
from auditsvc.services.audit_file import AuditFile, audit_of, read_audit_file, rendered

AUDIT = AuditFile.model_validate(
    {
        "model": "shirts",
        "parent": "dense.pt",
        "candidate": {"path": "small.pt", "architecture": "shapes:small"},
        "data": "photos",
        "submitter": "ann",
        "describe": {"architecture": "shapes:make", "classes": ["a", "b"], "preprocessing": {"mean": [0.5]}},
    }
)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    text = rendered(AUDIT, {"describe.classes": "CHECK: the order"})
    (tmp_path / "audit.yaml").write_text(text)
    assert read_audit_file(tmp_path / "audit.yaml") == AUDIT
    assert "  # CHECK: the order" in text


def test_a_model_says_more_than_what_is_said_of_both() -> None:
    assert AUDIT.said(AUDIT.parent).architecture == "shapes:make"
    assert AUDIT.candidate is not None
    said = AUDIT.said(AUDIT.candidate)
    assert (said.architecture, said.classes) == ("shapes:small", ("a", "b"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("parnt: dense.pt", "did you mean 'parent'"),
        ("describe: {preprocesing: {}}", "did you mean 'preprocessing'"),
        ("describe: {preprocessing: {men: [0.5]}}", "did you mean 'mean'"),
        ("model: m\nparent: p\ndata: d\nsubmitter: ann", "one of candidate"),
        ("model: m\nparent: p\ncandidate: c\ndata: d\nsubmitter: ann\ncalibration: e", "nothing else does"),
        ("- a list", "valid dictionary"),
        ("{", "is not YAML"),
    ],
)
def test_every_fault_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "audit.yaml").write_text(text)
    with pytest.raises(InvalidInput, match=words):
        read_audit_file(tmp_path / "audit.yaml")


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="auditsvc init"):
        read_audit_file(tmp_path / "audit.yaml")
    with pytest.raises(InvalidInput, match="--candidate MODEL with --parent MODEL"):
        audit_of({"model": "m", "data": "d", "submitter": "ann"}, ModelDescription())
    with pytest.raises(InvalidInput, match="--as NAME"):
        audit_of({"model": "m", "data": "d", "parent": "p", "candidate": "c"}, ModelDescription())
