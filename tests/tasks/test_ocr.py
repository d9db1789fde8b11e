"""Texts are read from the likeliest path, and their errors are counted as Levenshtein counts them."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditsvc.tasks.ocr import Ocr, levenshtein

LETTERS = "abcd"
TASK = Ocr(tuple(LETTERS))


def path(steps: str, length: int = 12) -> torch.Tensor:
    """``(1, length, 5)`` logits of a path: letters, and ``-`` for nothing."""
    numbers = [LETTERS.find(step) % 5 for step in steps.ljust(length, "-")]
    return torch.nn.functional.one_hot(torch.tensor([numbers]), 5).float() * 8


def text(words: str, length: int = 8) -> torch.Tensor:
    return torch.tensor([[LETTERS.find(letter) for letter in words.ljust(length, "-")]])


def plain_levenshtein(left: str, right: str) -> int:
    row = list(range(len(right) + 1))
    for one in left:
        row, before = [row[0] + 1], row
        for place, other in enumerate(right):
            row.append(min(before[place + 1] + 1, row[place] + 1, before[place] + (one != other)))
    return row[-1]


def test_repeats_and_nothings_are_taken_out():
    assert TASK.read(path("aa-ab--bb"))[0].tolist()[:4] == [0, 0, 1, 1]
    assert TASK.scores(path("aa-ab--bb"), text("aabb")).item() == 1.0


def test_the_score_is_one_less_the_error_rate_and_never_below_nothing():
    assert TASK.scores(path("abc"), text("abcd")).item() == 0.75
    assert TASK.scores(path("dcdcdcdc"), text("ab")).item() == 0.0
    assert TASK.scores(path(""), text("")).item() == 1.0
    assert TASK.scores(path("a"), text("")).item() == 0.0


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.text(LETTERS, max_size=7), st.text(LETTERS, max_size=7)), min_size=1, max_size=6))
def test_distances_are_those_of_the_plain_table(pairs):
    left, right = (torch.cat([text(pair[side]) for pair in pairs]) for side in (0, 1))
    assert levenshtein(left, right).tolist() == [plain_levenshtein(*pair) for pair in pairs]


def test_equal_texts_are_equal_answers_however_long_the_batch():
    whole = TASK.score_batch(torch.cat([path("ab"), path("ba")]), torch.cat([text("ab"), text("ab")]))
    alone = TASK.score_batch(path("ab", length=5), text("ab", length=2))
    assert whole.answer[0] == alone.answer[0] != whole.answer[1]


def test_the_loss_is_lower_for_the_right_text_and_its_own_answer_scores_one():
    right, wrong = TASK.loss(path("abc"), text("abc")), TASK.loss(path("abd"), text("abc"))
    assert 0 <= float(right) < float(wrong)
    outputs = torch.cat([path("ab-b"), path("")])
    assert TASK.scores(outputs, TASK.as_targets(outputs)).tolist() == [1.0, 1.0]


def test_a_reader_is_shown_the_text():
    found = TASK.score_batch(path("ab-b"), text("abc"))
    row = np.zeros(1, [("tally", "i4", (TASK.tally_size,))])
    row["tally"] = found.tally.numpy()
    assert (TASK.describe_answer(row[0]), TASK.describe_target(text("abc")[0])) == ("abb", "abc")
    assert found.tally[0, :2].tolist() == [1, 3]
