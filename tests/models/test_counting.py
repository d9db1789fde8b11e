"""Counts that one can check by hand, and against Torch-Pruning's own counter."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch
import torch_pruning

from auditsvc.errors import InvalidInput
from auditsvc.evaluation.latency import Turns, time_in_turns
from auditsvc.models import WEIGHTS, assemble, model_files
from auditsvc.models.complexity import ShapeCounter, _counted, facts, macs
from auditsvc.pruning import prune
from auditsvc.records import Recipe
from tests.models.families import FAMILIES, grey_images, model_of


def test_macs_of_a_plain_network_are_those_of_pencil_and_paper() -> None:
    first, second = 28 * 28 * 9 * (1 * 8 + 8 * 8), 14 * 14 * 9 * (8 * 16 + 16 * 16)
    assert macs(model_of("small_cnn", width=8)) == first + second + 16 * 49 * 10


@pytest.mark.parametrize("architecture", ["small_resnet", "small_mobile", "small_grouped", "small_concat"])
def test_macs_agree_with_another_counter(architecture: str) -> None:
    """Torch-Pruning also counts normalisation, two for each number; that part is small."""
    model = model_of(architecture)
    theirs, _ = torch_pruning.utils.count_ops_and_params(model.module, grey_images(1))
    assert macs(model) == pytest.approx(theirs, rel=0.2)
    assert macs(model) <= theirs


def test_attention_counts_its_products_of_tokens() -> None:
    tokens, width = 49, 32
    linears = tokens * (4 * width * width + 2 * 4 * width * width) + 28 * 28 * width
    products = 2 * tokens * tokens * width
    assert macs(model_of("small_attention")) == linears + products + width * 10


@pytest.mark.parametrize("architecture", FAMILIES.values())
def test_other_shapes_are_counted_without_changing_the_model(architecture: str) -> None:
    model = model_of(architecture)
    counter, own = ShapeCounter(model), macs(model)
    shapes = {name: tensor.shape for name, tensor in model.weights().items() if name.startswith("head")}
    classes = {"head.weight": torch.Size((20, shapes["head.weight"][1])), "head.bias": torch.Size((20,))}
    assert counter.macs(classes) == own + 10 * shapes["head.weight"][1]
    assert counter.parameters(classes) == model.counts()["parameters"] + 10 * (shapes["head.weight"][1] + 1)
    assert (counter.macs({}), macs(model)) == (own, own)


def test_facts_are_of_the_bytes_that_are_saved() -> None:
    model = model_of("small_cnn", width=8)
    with torch.no_grad():
        model.module.head.weight[:, ::2] = 0
    data = model_files(model.weights(), model.card)[WEIGHTS]
    found = facts(model)
    assert found["bytes_dense"] == len(data)
    assert found["bytes_compressed"] == len(zlib.compress(data, 6)) < 0.8 * len(data)
    assert found["parameters"] - found["nonzero"] == 10 * 16 * 49 / 2


def test_work_is_timed_in_turns_of_alternating_order() -> None:
    order: list[str] = []
    turns = time_in_turns([lambda: order.append("a"), lambda: order.append("b")], 6)
    assert order == ["a", "b", "b", "a"] * 5
    assert turns[0].runs == turns[1].runs == 6
    assert turns[0].median_ms >= 0 and turns[0].iqr_ms >= 0
    for runs in (2, 5):
        with pytest.raises(InvalidInput, match=f"even number of at least 4 turns, not {runs}"):
            time_in_turns([lambda: None], runs)


def simulated(ratio: float, seed: int, penalty: float = 0.1) -> Turns:
    """A machine that drifts, with bursts, on which the one that runs first is slower."""
    random = np.random.default_rng(seed)
    machine = np.exp(np.cumsum(random.normal(0, 0.05, 60))) * np.where(random.random(60) < 0.1, 3, 1)
    first = np.where(np.arange(60) % 2 == 0, 1 + penalty, 1.0)
    noise = random.lognormal(0, 0.1, (2, 60))
    return Turns(np.stack([machine * first, machine * (1 + penalty - (first - 1)) / ratio]) * noise)


def test_the_interval_of_a_ratio_of_latencies_holds_the_true_one() -> None:
    found = [simulated(1.2, seed).ratio(0, 1) for seed in range(200)]
    assert np.mean([one.low <= 1.2 <= one.high for one in found]) > 0.9
    assert np.mean([one.high - one.low for one in found]) < 0.15
    assert all(one.low <= one.value <= one.high for one in found)


@pytest.mark.parametrize("family", FAMILIES)
def test_macs_at_other_channels_are_those_of_the_smaller_model(family: str) -> None:
    model = model_of(FAMILIES[family])
    weights = prune(model, Recipe(method="structured-l1", targets={"macs": 1.5, "round_to": 1}, seed=3), None)
    shapes = {name: tensor.shape for name, tensor in weights.items()}
    smaller = assemble(weights, model.card)
    assert ShapeCounter(model).macs(shapes) == _counted(smaller.module, smaller.card.input, "cpu") == macs(smaller)
