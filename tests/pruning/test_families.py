"""Which methods work on which families of networks; ``python -m tests.pruning.test_families`` prints the table.

The table in the guide is this one: the tests below prove its cells, and one holds the guide to it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

from auditsvc import pruning
from auditsvc.importing import Trip, round_trip_all
from auditsvc.models import Model, assemble, load_model, model_files
from auditsvc.models.complexity import macs
from auditsvc.pruning.dependency_graph import dependency_graph_of
from auditsvc.pruning.methods import CRITERIA
from auditsvc.records import Recipe
from auditsvc.runtimes.onnx_export import compare_onnx, onnx_bytes
from tests.models.families import FAMILIES, model_of
from tests.pruning.toy import Toy

TOY = Toy(128)
RECIPES = {
    **{f"structured-{name}": {"macs": 1.5, "round_to": 1} for name in CRITERIA},
    "magnitude-global": {"sparsity": 0.5},
    "magnitude-per-layer": {"sparsity": 0.5},
    "n-m": {"keep": 2, "of": 4},
}
FORMATS = ("int8", "float16", "bfloat16")

LEFT_ALONE = {
    "plain": {"head"},
    "residual": {"head"},
    "depthwise": {"head"},
    "grouped": {"head"},
    "concat": {"head"},
    "attention": {"head", "down"},
    "split": {"head", "detour.0"},
    "fixed view": {"head", "before.0"},
}
"""The layers in front of a split, a fixed view or a normalisation across channels keep all of their channels."""


def recipe(method: str, number_format: str | None = None) -> Recipe:
    return Recipe(
        method=method, targets=RECIPES.get(method, {}), data=TOY.ref.digest, number_format=number_format, seed=3
    )


@cache
def parent(family: str) -> Model:
    return model_of(FAMILIES[family])


def candidate(family: str, wanted: Recipe, folder: Path) -> Trip:
    """The candidate, saved; the trip compares the files with the model in memory."""
    model = assemble(pruning.prune(parent(family), wanted, TOY), parent(family).card)
    folder.mkdir()
    for name, data in model_files(model.weights(), model.card).items():
        (folder / name).write_bytes(data)
    return Trip(folder, model, TOY.images[:50])


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_that_cannot_be_narrowed_are_left_alone(family: str) -> None:
    wiring = dependency_graph_of(parent(family))
    assert {reason.split(":")[0] for reason in wiring.left_alone} == LEFT_ALONE[family]


@pytest.mark.slow
def test_candidates_come_back_in_a_clean_process_and_in_onnx_runtime(tmp_path: Path) -> None:
    wanted = recipe("structured-l1", "int8")
    all_come_back([candidate(family, wanted, tmp_path / family) for family in tuple(FAMILIES)[::3]])


def all_recipes() -> list[Recipe]:
    """Every method, every number format of the parent alone, and INT8 after each kind of method."""
    plain = [recipe(method) for method in RECIPES] + [recipe("none", number_format) for number_format in FORMATS]
    return plain + [recipe(method, "int8") for method in ("structured-l2", "magnitude-global", "n-m")]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_candidate_comes_back_in_a_clean_process_and_in_onnx_runtime(family: str, tmp_path: Path) -> None:
    all_come_back([candidate(family, item, tmp_path / str(number)) for number, item in enumerate(all_recipes())])


def all_come_back(trips: list[Trip]) -> None:
    round_trip_all(trips)
    for trip in trips:
        assert compare_onnx(onnx_bytes(trip.model, trip.images), trip.model, trip.images) == ()


@pytest.mark.parametrize("family", FAMILIES)
def test_structured_pruning_meets_its_target(family: str) -> None:
    model = parent(family)
    for criterion in ("l1", "random"):
        smaller = assemble(pruning.prune(model, recipe(f"structured-{criterion}"), TOY), model.card)
        assert macs(smaller) / (macs(model) / 1.5) == pytest.approx(1, abs=0.02)
        assert smaller.counts()["parameters"] < model.counts()["parameters"]


@pytest.mark.parametrize("family", ["grouped", "attention"])
def test_groups_and_heads_stay_equal(family: str) -> None:
    model = parent(family)
    smaller = assemble(pruning.prune(model, recipe("structured-l2"), TOY), model.card)
    for layer in smaller.module.modules():
        if getattr(layer, "groups", 1) > 1:
            assert layer.groups == 4
            assert layer.weight.shape[0] % 4 == 0
        if hasattr(layer, "heads"):
            assert layer.q.out_features == layer.k.out_features == layer.out.in_features
            assert layer.q.out_features % layer.heads == 0


def test_a_silent_branch_is_no_proof() -> None:
    """Scales that start at zero, as in many residual networks, hide what their branch computes; groups still hold."""
    model = model_of(FAMILIES["grouped"])
    for name, parameter in model.module.named_parameters():
        if parameter.dim() == 1 and name.endswith("weight"):
            parameter.data.zero_()
    assert {(item.name, item.parts) for item in dependency_graph_of(model).coupled} == {
        (item.name, item.parts) for item in dependency_graph_of(parent("grouped")).coupled
    }


def test_the_reloaded_folder_is_pruned_again_without_its_parent(tmp_path: Path) -> None:
    """A candidate can be a parent: the class is rebuilt from the shapes that pruning left."""
    trip = candidate("residual", recipe("structured-l1"), tmp_path / "once")
    again = load_model(trip.folder)
    twice = assemble(pruning.prune(again, recipe("structured-l1"), TOY), again.card)
    assert macs(again) / macs(twice) == pytest.approx(1.5, rel=0.02)
    assert bool(torch.isfinite(twice(TOY.images[:2])).all())


WORDS = {
    "plain": "plain convolutions",
    "residual": "residual connections",
    "depthwise": "depthwise convolutions",
    "grouped": "grouped convolutions",
    "concat": "concatenation",
    "attention": "attention",
    "split": "`chunk` of channels (YOLO's C2f)",
    "fixed view": "channel numbers in a `view`",
}


def table() -> str:
    """The table of the guide: a cell says yes because the tests above made, reloaded and compared its candidates."""
    structured, zeros, formats = (
        f"channels, {len(CRITERIA)} criteria",
        "unstructured, global or per layer; N:M",
        ", ".join(FORMATS) + "; INT8 after any",
    )
    lines = [f"| family | {structured} | {zeros} | {formats} | layers that keep all channels |", "|---" * 5 + "|"]
    for family in FAMILIES:
        kept = ", ".join(f"`{name}`" for name in sorted(LEFT_ALONE[family]))
        lines.append(f"| {WORDS[family]} | yes | yes | yes | {kept} |")
    return "\n".join(lines)


def test_the_guide_has_this_table() -> None:
    guide = Path(__file__).parents[2] / "auditsvc" / "guide" / "models.md"
    assert table() in guide.read_text("utf-8"), "print it with: python -m tests.pruning.test_families"


if __name__ == "__main__":
    print(table())
