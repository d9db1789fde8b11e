"""Another batch size, thread count or order of images: the same readings to six digits, and the same verdicts."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from auditsvc.checks.accuracy import Accuracy
from auditsvc.checks.adversarial import Adversarial
from auditsvc.checks.calibration import Calibration
from auditsvc.checks.corruption import Corruptions
from auditsvc.checks.fairness import Fairness
from auditsvc.evaluation import Check, EvalContext
from auditsvc.gate import decide
from auditsvc.models import assemble
from auditsvc.pruning import prune
from auditsvc.records import Measured, Reading, Recipe
from tests.contracts.sample import a_candidate
from tests.fakes import NOON
from tests.fakes.models import array_dataset, case_of
from tests.gate.sample import a_policy, a_rule, an_evidence
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


def readings(checks: tuple[Check, ...], one: EvalContext) -> dict[str, list[Reading]]:
    return {check.id: list(check.measure(one)) for check in checks}


Numbers = dict[tuple[str, str, str], float]


def numbers(found: dict[str, list[Reading]]) -> Numbers:
    return {
        (reading.metric, reading.slice, part): getattr(reading.outcome, part)
        for given in found.values()
        for reading in given
        if isinstance(reading.outcome, Measured)
        for part in ("value", "low", "high")
    }


def verdicts(found: dict[str, list[Reading]], limits: Numbers) -> list[str]:
    """Of rules on every loss, whose limits are a thousandth above and below its upper end in the first audit."""
    rules, evidence = [], []
    for check, given in found.items():
        outcomes = {(one.metric, one.slice): one.outcome for one in given if one.metric.startswith("drop.")}
        evidence.append(an_evidence(outcomes, check=check))
        for metric, place in outcomes:
            end = limits.get((metric, place, "high"))
            for off in (-1e-3, 1e-3) if end is not None else ():
                where = {"reading": f"{check}/{metric}", "slices": place, "at_most": end + off}
                rules.append(a_rule(rule=f"rule-{len(rules)}", **where))
    decision = decide(a_policy(*rules), a_candidate(), evidence, at=NOON)
    return [judgement.verdict for judgement in decision.judgements]


@cache
def first() -> dict[str, list[Reading]]:
    return readings(ORDERED + DRAWN, case(np.arange(IMAGES), 32))


@pytest.mark.parametrize(("size", "threads"), [(7, 1), (60, 1), (32, 2)])
def test_batch_size_and_threads_change_no_reading_and_no_verdict(size: int, threads: int) -> None:
    wanted, before = numbers(first()), torch.get_num_threads()
    assert len(wanted) > 50
    torch.set_num_threads(threads)
    try:
        found = readings(ORDERED + DRAWN, case(np.arange(IMAGES), size))
    finally:
        torch.set_num_threads(before)
    assert numbers(found) == pytest.approx(wanted, abs=1e-6)
    decided = verdicts(first(), wanted)
    assert {"met", "unknown"} <= set(decided)
    assert verdicts(found, wanted) == decided


def test_the_order_of_the_images_changes_no_reading_of_untouched_ones_and_no_verdict() -> None:
    """But those of a bootstrap, whose ends move by what its draws leave open."""
    exact = (Accuracy(), Fairness(min_images=5))
    known = {check.id: first()[check.id] for check in exact}
    found = readings(exact, case(np.random.default_rng(1).permutation(IMAGES), 32))
    assert numbers(found) == pytest.approx(numbers(known), abs=1e-6)
    assert verdicts(found, numbers(known)) == verdicts(known, numbers(known))
