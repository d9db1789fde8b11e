"""Answers are kept by content: across objects and processes, never across code or models, within a size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from auditsvc.errors import InvalidInput
from auditsvc.models import Model
from auditsvc.records import CheckSpec, Evidence
from auditsvc.services import answer_cache as module
from auditsvc.services.answer_cache import AnswerCache
from auditsvc.services.audit import audit_again
from auditsvc.services.candidates import prune_candidate, register_parent
from auditsvc.services.measurement import measure_candidate
from tests.services import line


def test_answers_are_found_by_the_next_object_and_not_by_other_code(tmp_path: Path, monkeypatch) -> None:
    answers = np.zeros(3, dtype=[("score", "f4"), ("answer", "i4")])
    AnswerCache(tmp_path / "answers", "cpu")["key"] = answers
    again = AnswerCache(tmp_path / "answers", "cpu")
    assert np.array_equal(again["key"], answers) and again["key"] is again["key"]
    with pytest.raises(KeyError):
        AnswerCache(tmp_path / "answers", "cuda")["key"]
    monkeypatch.setattr(module, "code_version", lambda: "other")
    with pytest.raises(KeyError):
        AnswerCache(tmp_path / "answers", "cpu")["key"]


def test_a_damaged_file_is_no_answer_and_the_oldest_go_first(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path, "cpu", most=3000)
    for number in range(4):
        cache[str(number)] = np.full(200, number, dtype=np.float32)  # about 930 bytes each
    assert len(list(tmp_path.iterdir())) == 3
    again = AnswerCache(tmp_path, "cpu")
    assert "0" not in again and again["3"][0] == 3
    for path in tmp_path.iterdir():
        path.write_bytes(b"damaged")
    assert "3" not in AnswerCache(tmp_path, "cpu")


def test_the_parent_is_not_asked_again_for_the_next_candidate(tmp_path: Path, monkeypatch) -> None:
    ctx = line.ports_in(tmp_path / "store")
    parent, _ = register_parent(ctx, line.parent_in(tmp_path / "parent"), line.FACTS)
    calibration = ctx.datasets.open(line.data_in(tmp_path / "calibration", 40, seed=1))
    data = line.data_in(tmp_path / "audited", seed=2)
    other = line.GOOD.model_copy(update={"targets": {"sparsity": 0.2}})
    candidates = [prune_candidate(ctx, parent, recipe, calibration) for recipe in (line.GOOD, other)]
    checks = {"accuracy": CheckSpec(version=1), "lighting": CheckSpec(version=1, parameters={"exposure_stops": [-2]})}
    rules = [{"rule": "loss", "reading": "accuracy/drop.clean", "at_most": 0.1, "why": "a test"}]
    policy = line.policy(checks=checks, rules=rules)
    asked: list[float] = []
    call = Model.__call__
    monkeypatch.setattr(Model, "__call__", lambda self, images: asked.append(len(images)) or call(self, images))
    images = []
    for candidate in candidates:
        asked.clear()
        found = measure_candidate(ctx, candidate, policy, ctx.datasets.open(data))
        assert all(isinstance(one, Evidence) for one in found)
        images.append(sum(asked))
    assert images[1] == images[0] / 2


def test_an_audit_that_is_measured_again_shows_answers_that_were_planted(tmp_path: Path) -> None:
    ctx = line.ports_in(tmp_path / "store")
    parent, _ = register_parent(ctx, line.parent_in(tmp_path / "parent"), line.FACTS)
    calibration = ctx.datasets.open(line.data_in(tmp_path / "calibration", 40, seed=1))
    data = ctx.datasets.open(line.data_in(tmp_path / "audited", seed=2))
    candidate = prune_candidate(ctx, parent, line.GOOD, calibration)
    rules = [{"rule": "right", "reading": "accuracy/score.clean", "at_least": 0.5, "why": "a test"}]
    policy = line.policy(checks={"accuracy": CheckSpec(version=1)}, rules=rules)
    with pytest.raises(InvalidInput, match="audit it first"):
        audit_again(ctx, candidate, policy, data)
    measure_candidate(ctx, candidate, policy, data)
    before = ctx.ledger.size()
    assert audit_again(ctx, candidate, policy, data).differing == ()
    for path in (ctx.folder / "answers").iterdir():
        answers = np.load(path)
        if answers.dtype.names:
            answers["score"] = 0
            np.save(path, answers)
    planted = policy.model_copy(update={"version": 2, "alpha": 0.04})
    measure_candidate(ctx, candidate, planted, data)
    found = audit_again(ctx, candidate, planted, data)
    assert not found.same and ("accuracy/score.clean", "overall") in {one[:2] for one in found.differing}
    assert ctx.ledger.size() == before + 2, "the second policy and its evidence; measuring again records nothing"
