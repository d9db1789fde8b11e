"""The same audit by another batch size, thread count or order of images has the same readings, to six digits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from auditsvc.checks.accuracy import Accuracy
from auditsvc.checks.adversarial import Adversarial
from auditsvc.checks.calibration import Calibration
from auditsvc.checks.corruption import Corruptions
from auditsvc.checks.fairness import Fairness
from auditsvc.evaluation import Check, EvalContext
from auditsvc.models import assemble
from auditsvc.pruning import prune
from auditsvc.records import Measured, Recipe
from tests.fakes.models import array_dataset, case_of
from tests.models.families import grey_images, model_of

IMAGES = 60
PARENT = model_of("small_cnn", width=8)
CANDIDATE = assemble(prune(PARENT, Recipe(method="magnitude-global", targets={"sparsity": 0.7})), PARENT.card)
PIXELS = grey_images(IMAGES)
with torch.inference_mode():
    TARGETS = PARENT(PIXELS).argmax(1).numpy()
TARGETS[::7] = (TARGETS[::7] + 1) % 10
ORDERED = (Accuracy(), Fairness(min_images=5), Calibration(min_images=50))
DRAWN = (Corruptions(corruptions=("gaussian_noise",), severities=(3,)), Adversarial(budgets=(2.0,), steps=2, images=16))


def case(order: np.ndarray, size: int) -> EvalContext:
    halves = {"half": [str(number % 2) for number in order]}
    data = array_dataset(PIXELS[order], TARGETS[order], halves, tuple("0123456789"))
    return case_of(CANDIDATE.module, PARENT.module, data, batch_size=size)


def readings(checks: tuple[Check, ...], one: EvalContext) -> Iterator[tuple[str, str, str, float]]:
    for check in checks:
        for reading in check.measure(one):
            if isinstance(reading.outcome, Measured):
                for part in ("value", "low", "high"):
                    yield reading.metric, reading.slice, part, getattr(reading.outcome, part)


def numbers(checks: tuple[Check, ...], one: EvalContext) -> dict[tuple[str, str, str], float]:
    return {(metric, where, part): value for metric, where, part, value in readings(checks, one)}


@pytest.mark.parametrize(("size", "threads"), [(7, 1), (60, 1), (32, 2)])
def test_batch_size_and_threads_change_no_reading(size: int, threads: int) -> None:
    order, before = np.arange(IMAGES), torch.get_num_threads()
    wanted = numbers(ORDERED + DRAWN, case(order, 32))
    assert len(wanted) > 50
    torch.set_num_threads(threads)
    try:
        assert numbers(ORDERED + DRAWN, case(order, size)) == pytest.approx(wanted, abs=1e-6)
    finally:
        torch.set_num_threads(before)


def test_the_order_of_the_images_changes_no_reading_of_untouched_ones() -> None:
    """But those of a bootstrap, whose ends move by what its draws leave open."""
    exact = (Accuracy(), Fairness(min_images=5))
    wanted = numbers(exact, case(np.arange(IMAGES), 32))
    assert numbers(exact, case(np.random.default_rng(1).permutation(IMAGES), 32)) == pytest.approx(wanted, abs=1e-6)
