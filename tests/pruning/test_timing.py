"""A latency target becomes MACs, once; after that the recipe can be repeated."""

from __future__ import annotations

import pytest

from auditsvc.errors import InvalidInput
from auditsvc.models import Model
from auditsvc.models.complexity import macs
from auditsvc.pruning import concrete, latency_target, prune
from auditsvc.pruning.latency_target import measured_speed
from auditsvc.records import Recipe
from tests.models.families import model_of

PARENT = model_of("small_mobile")


def root(parent: Model, candidate: Model) -> float:
    """A machine on which time goes with the square root of the MACs."""
    return (macs(parent) / macs(candidate)) ** 0.5


@pytest.mark.slow
def test_a_latency_becomes_the_macs_that_meet_it() -> None:
    wanted = Recipe(method="structured-l1", targets={"latency": 1.6, "round_to": 1, "steps": 2}, seed=5)
    found = concrete(PARENT, wanted, speed=root)
    assert set(found.targets) == {"macs", "round_to", "steps"}
    assert found.targets["macs"] == pytest.approx(1.6**2, rel=0.06)
    assert (found.targets["steps"], found.seed, found.method) == (2, 5, "structured-l1")
    prune(PARENT, found)


def test_other_recipes_stay_as_they_are() -> None:
    recipe = Recipe(method="structured-l1", targets={"macs": 2})
    assert concrete(PARENT, recipe) is recipe


def test_a_latency_that_cannot_be_met_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency_target, "TRIALS", 4)

    def stairs(parent: Model, candidate: Model) -> float:
        return 3.0 if macs(parent) / macs(candidate) > 2 else 1.1

    with pytest.raises(
        InvalidInput, match=r"can't be met within 2%; the nearest is (1.10|3.00) times faster with macs"
    ):
        concrete(PARENT, Recipe(method="structured-l1", targets={"latency": 2, "round_to": 1}), speed=stairs)
    with pytest.raises(InvalidInput, match="exactly one"):
        concrete(PARENT, Recipe(method="structured-l1", targets={"latency": 2, "macs": 2}))


def test_a_model_is_as_fast_as_itself() -> None:
    assert measured_speed(PARENT, PARENT) == pytest.approx(1, abs=0.3)
