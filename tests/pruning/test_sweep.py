"""The largest compression that passes, with few audits; the right answer is known without running an audit."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditsvc import pruning
from auditsvc.errors import InvalidInput
from auditsvc.models import Model
from auditsvc.pruning import Ladder, Outcome, ladder, rows, sweep
from auditsvc.pruning.methods import prunable
from auditsvc.records import Recipe
from tests.fakes.progress import QuietProgress
from tests.models.families import model_of

PARENT = model_of("small_cnn", width=8)
STRENGTHS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def sparsity_of(recipe: Recipe) -> float:
    return recipe.targets["sparsity"]


def make(recipe: Recipe) -> dict:
    return pruning.prune(PARENT, recipe)


class Auditor:
    """Passes every candidate up to a limit for its method, and remembers what it was asked."""

    def __init__(self, **limits: float) -> None:
        self.limits = {name.replace("_", "-"): limit for name, limit in limits.items()}
        self.seen: list[tuple[str, float]] = []

    def __call__(self, recipe: Recipe, model: Model) -> Outcome:
        self.seen.append((recipe.method, sparsity_of(recipe)))
        return Outcome(sparsity_of(recipe) <= self.limits[recipe.method], {"accuracy": 1 - sparsity_of(recipe)})


@given(limit=st.floats(0, 1))
@settings(max_examples=8, deadline=None)
def test_bisection_finds_the_strongest_that_passes_in_four_audits_of_ten(limit: float) -> None:
    auditor = Auditor(magnitude_global=limit)
    frontier = sweep(PARENT, [ladder("magnitude-global", "sparsity", STRENGTHS)], make, auditor)
    passing = [strength for strength in STRENGTHS if strength <= limit]
    found = None if frontier.best is None else sparsity_of(frontier.best.recipe)
    assert found == (max(passing) if passing else None)
    assert frontier.audits == len(auditor.seen) <= 4


def test_a_method_that_can_only_do_worse_costs_few_audits() -> None:
    auditor = Auditor(magnitude_global=0.8, magnitude_per_layer=0.4)
    ladders = [ladder(name, "sparsity", STRENGTHS) for name in ("magnitude-global", "magnitude-per-layer")]
    frontier = sweep(PARENT, ladders, make, auditor)
    assert frontier.best.recipe == ladders[0].recipes[7]
    second = [strength for method, strength in auditor.seen if method == "magnitude-per-layer"]
    assert second and min(second) >= 0.8
    skipped = [trial for trial in frontier.trials if trial.ending == "no smaller than the best"]
    assert {trial.ladder for trial in skipped} == {"magnitude-per-layer"}


def test_a_failed_cheap_check_saves_the_audit() -> None:
    auditor = Auditor(magnitude_global=0.5)

    def few_zeros(_recipe: Recipe, model: Model) -> Outcome:
        weights = torch.cat([model.weights()[name].flatten() for name in prunable(PARENT.module)])
        zeros = float((weights == 0).float().mean())
        return Outcome(zeros < 0.65, {"zeros": zeros})

    plain = sweep(PARENT, [ladder("magnitude-global", "sparsity", STRENGTHS)], make, Auditor(magnitude_global=0.5))
    cheap = sweep(PARENT, [ladder("magnitude-global", "sparsity", STRENGTHS)], make, auditor, cheap=few_zeros)
    assert cheap.best.recipe == plain.best.recipe
    assert cheap.audits < plain.audits
    failed = [trial for trial in cheap.trials if trial.ending == "failed the cheap check"]
    assert failed and all(trial.readings["zeros"] >= 0.65 for trial in failed)


@pytest.mark.parametrize(("cheap", "ending"), [(True, "inconclusive in the cheap check"), (False, "inconclusive")])
def test_a_rung_that_nobody_could_decide_did_not_fail(cheap: bool, ending: str) -> None:
    unsure = Outcome(passed=False, inconclusive=True)
    first = unsure if cheap else Outcome(passed=True)
    each = ladder("magnitude-global", "sparsity", (0.5,))
    found = sweep(PARENT, [each], make, lambda recipe, model: unsure, cheap=lambda recipe, model: first)
    assert [trial.ending for trial in found.trials] == [ending]


def test_what_cannot_be_made_is_told_and_ends_the_ladder_there() -> None:
    each = ladder("structured-l1", "macs", (1.5, 2, 500), round_to=1)
    frontier = sweep(PARENT, [each], make, lambda recipe, model: Outcome(True), goal="macs")
    assert frontier.best.recipe == each.recipes[1]
    assert ["out of reach" in trial.reason for trial in frontier.trials if trial.ending == "can't be made"] == [True]


def test_rows_are_plain_data_with_facts_readings_and_the_winner() -> None:
    progress = QuietProgress()
    each = ladder("magnitude-global", "sparsity", (0.5, 0.9), seed=4)
    frontier = sweep(PARENT, [each], make, Auditor(magnitude_global=0.6), progress=progress)
    data = json.loads(json.dumps(rows(frontier)))
    assert [row["ending"] for row in data] == ["passed", "failed"]
    assert [row["best"] for row in data] == [True, False]
    assert data[0]["accuracy"] == 0.5 and data[0]["recipe"] == each.recipes[0].digest
    assert {"macs", "parameters", "nonzero", "bytes_dense", "bytes_compressed"} <= set(data[0])
    assert each.recipes[0].seed == 4
    assert len(progress.said) == 2


def test_an_empty_sweep_is_refused() -> None:
    for ladders in ([], [Ladder("nothing", ())]):
        with pytest.raises(InvalidInput, match="at least one"):
            sweep(PARENT, ladders, make, Auditor())
