"""Bites of channels: rounded, in order, and as many as the target needs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditsvc.errors import InvalidInput
from auditsvc.pruning.channel_removal import (
    RemovedChannels,
    kept_shapes,
    mask_channels,
    merge_removals,
    remove_channels,
)
from auditsvc.pruning.channel_selection import choose, pruning_steps_of
from auditsvc.pruning.dependency_graph import Coupled, Cut
from auditsvc.pruning.plan import Channels


def layer(name: str, channels: int, parts: int = 1) -> Coupled:
    numbers = torch.arange(channels)
    return Coupled(name, channels, parts, (Cut(f"{name}.weight", 0, numbers, numbers),))


def gone(removals: RemovedChannels) -> dict[str, int]:
    return {name: len(numbers) for (name, _), numbers in removals.items()}


LAYERS = (layer("a", 32), layer("b", 64, parts=4), layer("c", 20))
SCORES = tuple(torch.rand(each.units, generator=torch.Generator().manual_seed(3)) for each in LAYERS)


def cost(removals: RemovedChannels) -> float:
    return 116.0 - sum(gone(removals).values())


@given(factor=st.floats(1.1, 5), round_to=st.sampled_from([1, 2, 4]), everywhere=st.sampled_from([0, 1]))
@settings(max_examples=60, deadline=None)
def test_targets_are_met_and_widths_are_rounded(factor: float, round_to: int, everywhere: int) -> None:
    targets = Channels(macs=factor, round_to=round_to, everywhere=everywhere)
    steps = pruning_steps_of(LAYERS, SCORES, targets)
    try:
        removals = choose(steps, cost, 116 / factor, ())
    except InvalidInput as error:
        assert round_to > 1 or factor > 4.5, error
        return
    assert cost(removals) == pytest.approx(116 / factor, rel=0.02)
    for each in LAYERS:
        kept = each.channels - gone(removals).get(f"{each.name}.weight", 0)
        assert kept == each.channels or kept % round_to == 0
        assert kept % each.parts == 0
        assert kept >= 0.1 * each.channels


def test_the_least_important_channels_go_first() -> None:
    scores = (torch.tensor([5.0, 1.0, 4.0, 2.0, 3.0, 6.0, 7.0, 8.0]),)
    steps = pruning_steps_of((layer("a", 8),), scores, Channels(macs=2, round_to=1))
    removals = choose(steps, lambda removals: 8.0 - sum(gone(removals).values()), 5.0, ())
    assert removals[("a.weight", 0)].tolist() == [1, 3, 4]


def test_the_same_share_of_each_layer_goes_when_layers_are_not_compared() -> None:
    scores = (torch.full((32,), 100.0), torch.full((16,), 1.0), torch.full((20,), 10.0))
    removals = choose(pruning_steps_of(LAYERS, scores, Channels(macs=2, round_to=1, everywhere=0)), cost, 58.0, ())
    assert all(abs(gone(removals)[f"{each.name}.weight"] / each.channels - 0.5) < 0.1 for each in LAYERS)


def test_no_layer_loses_more_than_the_most() -> None:
    scores = (torch.full((32,), 1e-6), torch.ones(16), torch.ones(20))
    removals = choose(pruning_steps_of(LAYERS, scores, Channels(macs=2, round_to=1, most=0.5)), cost, 80.0, ())
    assert gone(removals)["a.weight"] == 16


def test_a_target_out_of_reach_names_what_was_left_alone() -> None:
    with pytest.raises(InvalidInput) as refused:
        choose(pruning_steps_of(LAYERS, SCORES, Channels(macs=50, round_to=1)), cost, 2.0, ("head: the answers",))
    assert refused.value.reasons == ("not pruned: head: the answers",)


def test_removing_and_silencing_agree_about_what_is_kept() -> None:
    weights = {"a.weight": torch.arange(12.0).view(4, 3), "a.running_mean": torch.ones(4)}
    removals = merge_removals({("a.weight", 0): torch.tensor([1])}, {("a.weight", 0): torch.tensor([1, 3])},
                    {("a.weight", 1): torch.tensor([0]), ("a.running_mean", 0): torch.tensor([3])})  # fmt: skip
    left = remove_channels(weights, removals)
    assert left["a.weight"].tolist() == [[1.0, 2.0], [7.0, 8.0]]
    assert {name: t.shape for name, t in left.items()} == kept_shapes(
        {n: t.shape for n, t in weights.items()}, removals
    )
    quiet = mask_channels(weights, removals)
    assert quiet["a.weight"].tolist() == [[0, 1, 2], [0, 0, 0], [0, 7, 8], [0, 0, 0]]
    assert quiet["a.running_mean"].tolist() == [1, 1, 1, 1]
