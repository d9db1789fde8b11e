"""Measures of a corpus against the same counts taken one by one, and their intervals against plain resampling."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from auditsvc.checks.object_detection import ObjectDetection
from auditsvc.checks.semantic_segmentation import SemanticSegmentation
from auditsvc.checks.text_recognition import TextRecognition
from auditsvc.datasets import Slices, column_from
from auditsvc.datasets.dataset import Batch
from auditsvc.evaluation import EvalContext
from auditsvc.evaluation.metrics.ratio import bounded, interval_of, share, shift_to_margin, summed
from auditsvc.evaluation.sequential import StageContext, Staged, order_of
from auditsvc.evaluation.sharding import (
    GatheredContext,
    ImageRange,
    ShardContext,
    as_bytes,
    from_bytes,
    merge_partial_results,
)
from auditsvc.records import OVERALL, Measured, Reading, Unmeasured
from tests.fakes.dense import SeesSquares, case_of_squares

ALPHA = 0.05


def readings(check, case: EvalContext) -> dict[tuple[str, str], Measured | Unmeasured]:
    found: list[Reading] = list(check.measure(case))
    assert {reading.metric for reading in found} == {one.id for one in check.metrics()}
    return {(reading.metric, reading.slice): reading.outcome for reading in found}


def test_objects_are_counted_over_all_images_and_for_every_group():
    case = case_of_squares(SeesSquares(least=0.5), SeesSquares(), images=120)
    found = readings(ObjectDetection(draws=200), case)
    squares = case.dataset.squares
    dim = case.dataset.dim
    for name, inside in (("overall", dim | ~dim), ("light=dim", dim), ("light=plain", ~dim)):
        there = squares[inside]
        assert found["parent_recall", name].value == 1.0
        assert found["recall", name].value == pytest.approx(float((there >= 0.5).sum() / (there > 0).sum()))
        assert found["drop.recall", name].value == pytest.approx(1 - found["recall", name].value)
        assert found["precision", name].value == 1.0
    apart = abs(found["recall", "light=dim"].value - found["recall", "light=plain"].value)
    assert found["recall_difference", "overall"].value == pytest.approx(apart)
    worst = found["drop.worst_class", "overall"]
    assert worst.value > found["drop.recall", "overall"].value and worst.which == "dark"


def test_a_group_that_is_too_small_is_unmeasured():
    case = case_of_squares(SeesSquares(), SeesSquares(), images=40)
    found = readings(ObjectDetection(draws=200, min_images=30), case)
    assert isinstance(found["recall", "light=dim"], Unmeasured)
    assert isinstance(found["recall_difference", "overall"], Unmeasured)
    assert isinstance(found["recall", "overall"], Measured)


def test_where_nothing_differs_a_share_of_unseen_images_still_could():
    case = case_of_squares(SeesSquares(), SeesSquares(), images=120)
    loss = readings(ObjectDetection(draws=200), case)["drop.recall", "overall"]
    assert loss.value == 0 and 0.02 < loss.high < 0.04 and loss.low == -loss.high


def test_pixels_are_pooled_and_errors_of_texts_rise():
    pixels = case_of_squares(SeesSquares(least=0.5), SeesSquares(), images=80, task="segmentation")
    found = readings(SemanticSegmentation(draws=200), pixels)
    pair = pixels.pair("clean")
    shared, said, there = pair.candidate["tally"].astype(float).reshape(80, 2, 3).sum(axis=0).T
    assert found["miou", "overall"].value == pytest.approx(float(np.mean(shared / (said + there - shared))))
    assert found["drop.miou", "overall"].value > 0 and found["parent_miou", "overall"].value == 1.0
    texts = case_of_squares(SeesSquares(least=0.5), SeesSquares(), images=80, task="ocr")
    found = readings(TextRecognition(draws=200), texts)
    assert found["parent_cer", "overall"].value == 0 and found["parent_exact_match", "overall"].value == 1
    assert found["rise.cer", "overall"].value == pytest.approx(found["cer", "overall"].value)
    assert found["drop.exact_match", "overall"].value == pytest.approx(1 - found["exact_match", "overall"].value)


def test_sums_of_slices_and_of_groups_left_out_are_those_of_the_images():
    chance = np.random.default_rng(0)
    counts = chance.integers(0, 9, (300, 4)).astype(float)
    slices = Slices(300, (column_from("kind", list(chance.choice(["a", "b"], 300))),), np.arange(300) // 3)
    found = summed(counts, slices, 50, chance)
    codes = slices.columns[0].codes
    for place, inside in enumerate((np.ones(300, bool), codes == 0, codes == 1)):
        assert np.allclose(found[place][0], counts[inside].sum(axis=0))
        left = (np.arange(300) // 3) % 50 != 7
        assert np.allclose(found[place][1 + 50 + 7], counts[inside & left].sum(axis=0))
    assert np.allclose(found[1][1:51] + found[2][1:51], found[0][1:51])


@pytest.mark.parametrize("clustered", [False, True])
def test_intervals_of_a_ratio_cover_the_truth(clustered):
    """Found of objects, with images of different size and, if clustered, alike in threes."""
    missed = [0, 0]
    for seed in range(300):
        chance = np.random.default_rng(seed)
        skill = np.repeat(chance.beta(8, 2, 40), 3) if clustered else chance.beta(8, 2, 120)
        objects = chance.integers(1, 10, 120)
        counts = np.stack((chance.binomial(objects, skill), objects), axis=1).astype(float)
        slices = Slices(120, (), np.repeat(np.arange(40), 3) if clustered else None)
        (sums,) = summed(counts, slices, 400, chance)
        found = interval_of(share(sums[:, 0], sums[:, 1]), 400, ALPHA, 40 if clustered else 120)
        missed[0] += float(found.low) > 0.8
        missed[1] += float(found.high) < 0.8
    assert max(missed) <= 25, "of 300 runs about 15 may miss on each side"


def test_the_ends_move_out_where_few_images_differ():
    (sums,) = summed(np.ones((100, 1)), Slices(100, ()), 200, np.random.default_rng(0))
    plain = interval_of(share(sums[:, 0], sums[:, 0]), 200, ALPHA, 100)
    assert float(plain.high) == float(plain.low) == 1.0
    moved = shift_to_margin(plain, 0, 100, ALPHA, 0.0)
    assert 0.96 < float(moved.low) < 0.98 and float(moved.high) == 1.0
    assert float(shift_to_margin(plain, 50, 100, ALPHA, 0.0).low) == 1.0


def test_a_little_noise_on_every_image_does_not_keep_the_ends_from_moving_out():
    plain = bounded(0.001, 0.0009, 0.0011)
    assert float(shift_to_margin(plain, 0.1, 100, ALPHA, -1.0).high) > 0.026
    assert float(shift_to_margin(plain, 0.1, 40, ALPHA, -1.0).high) > 0.06


def test_groups_that_are_too_small_are_named_and_keep_the_gap_open():
    case = case_of_squares(SeesSquares(least=0.5), SeesSquares(), images=60)
    column = column_from("site", ["a"] * 29 + ["b"] * 27 + ["c"] * 4)
    case.dataset = replace(case.dataset, slices=Slices(60, (column,)))
    found = {(one.metric, one.slice): one.outcome for one in ObjectDetection(draws=200, min_images=20).measure(case)}
    for name in (OVERALL, "site=a"):
        gap = found["recall_difference", name]
        assert gap.high == 1.0 and "site=c (4 images)" in gap.which
    assert "site=c (4 images)" in found["recall_difference", "site=c"].reason


def test_a_graded_task_in_parts_and_in_stages_is_the_task_in_one_piece():
    check = ObjectDetection(draws=200)
    whole = case_of_squares(SeesSquares(least=0.5), SeesSquares(), images=120)
    expected = list(check.measure(whole))
    names = ("candidate", "candidate_digest", "parent", "parent_digest", "task", "dataset", "seed", "alpha")
    fields = {name: getattr(whole, name) for name in names}
    pieces = []
    for number in range(3):
        piece = ShardContext(**fields, part=ImageRange(number, 3))
        list(check.measure(piece))
        pieces.append(from_bytes(as_bytes(piece.found)))
    assert list(check.measure(GatheredContext(**fields, found=merge_partial_results(pieces)))) == expected
    kept: dict = {}
    for size in (60, 120):
        stage = Staged(whole.dataset, order_of(whole.dataset.slices, 7), size)
        staged = list(check.measure(StageContext(**{**fields, "dataset": stage}, kept=kept)))
    assert staged == expected


def test_flips_of_a_graded_task_say_how_much_was_lost():
    case = case_of_squares(SeesSquares(least=0.5), SeesSquares(), images=60)
    case.pair("clean")
    assert {flip.change for flip in case.flips} == {"worse"}
    losses = [flip.scores[0] - flip.scores[1] for flip in case.flips]
    assert losses == sorted(losses, reverse=True)


def test_batches_hold_targets_of_every_form():
    for task, shape in (("detection", (2, 4, 5)), ("segmentation", (2, 16, 16)), ("ocr", (2, 8))):
        batch = next(case_of_squares(SeesSquares(), SeesSquares(), images=8, task=task).dataset.batches(2))
        assert isinstance(batch, Batch) and tuple(batch.targets.shape) == shape
        assert torch.is_tensor(batch.targets)
