"""The modal answer is what most seeds say, and a tie is no agreement to leave the parent."""

from __future__ import annotations

import numpy as np
import pytest

from auditsvc.evaluation.slice_discovery import disagreement, modal


@pytest.mark.parametrize(
    ("given", "parent", "expected"),
    [((1, 1, 2), 0, (1, 2)), ((1, 1, 0), 0, (1, 2)), ((1, 0), 0, (0, 1)), ((1, 2), 0, (1, 1)), ((0, 0, 1), 0, (0, 2)),
     ((2, 1, 2, 1), 1, (1, 2))],
)  # fmt: skip
def test_most_seeds_decide(given, parent, expected):
    answer, agreed = modal(np.array(given)[:, None], np.array([parent]))
    assert (int(answer[0]), int(agreed[0])) == expected


def test_luck_that_differs_by_seed_is_not_an_exemplar():
    rng = np.random.default_rng(0)
    parent = np.zeros(1000, np.int64)
    answers = np.stack([(rng.random(1000) < 0.05).astype(np.int64) for _ in range(5)])
    answers[:, :10] = 1
    changed = np.flatnonzero(modal(answers, parent)[0] != parent)
    assert set(range(10)) <= set(changed) and len(changed) < 16
    assert disagreement(answers) == pytest.approx(2 * 0.05 * 0.95, abs=0.02)
