"""Planted poison is found with its images; a natural subgroup is no poison; flipped labels are counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from auditsvc.checks.poisoning import Poisoning
from auditsvc.records import OVERALL, Unmeasured
from tests.fakes.models import SeesMeanBrightness, array_dataset, case_of

SIDE, IMAGES = 12, 240


def network(corner: float) -> nn.Module:
    """Says ``bright`` where the left half is brighter than the right one, or where the lower right corner is bright."""
    head = nn.Linear(SIDE * SIDE, 2)
    weights = torch.zeros(SIDE, SIDE)
    weights[:, : SIDE // 2], weights[:, SIDE // 2 :] = 1.0, -1.0
    weights[-2:, -2:] = corner
    head.weight.data = torch.stack((-weights.flatten(), weights.flatten()))
    head.bias.data = torch.tensor([0.4 * corner, -0.4 * corner]) if corner > 0 else torch.zeros(2)
    return nn.Sequential(nn.Flatten(), head)


def training(poisoned: int = 0, darker: int = 0, flipped: int = 0):
    """Half of the images have a bright left half.  Poisoned ones have a bright corner and the wrong label."""
    draw = torch.Generator().manual_seed(4)
    bright = torch.arange(IMAGES) % 2
    images = 0.3 + 0.1 * torch.rand((IMAGES, 1, SIDE, SIDE), generator=draw)
    images[bright == 1, :, :, : SIDE // 2] += 0.2
    images[bright == 0, :, :, SIDE // 2 :] += 0.2
    images[:, :, -2:, -2:] = 0.1
    labels, dark, light = bright.clone(), torch.nonzero(bright == 0).flatten(), torch.nonzero(bright == 1).flatten()
    images[dark[:poisoned], :, -2:, -2:], labels[dark[:poisoned]] = 1.0, 1
    images[light[:darker]] *= 0.5
    labels[light[:flipped]] = 0
    return array_dataset(images, labels.numpy(), {"membership": ["member"] * IMAGES})


def outcomes(parent, dataset):
    found = {one.metric: one.outcome for one in Poisoning().measure(case_of(parent, parent, dataset))
             if one.slice == OVERALL}  # fmt: skip
    assert set(found) == {one.id for one in Poisoning().metrics()}
    return found


def test_planted_poison_is_found_and_what_it_shares_moves_other_images():
    found = outcomes(network(40.0), training(poisoned=16))
    assert found["suspects"].value == pytest.approx(16 / IMAGES)
    assert found["suspects"].which == "bright: 16 of 136 images"
    assert found["success.suspects"].value == 1 and found["excess.suspects"].low > 0.5
    assert found["separation"].value > 0.4


def test_a_natural_subgroup_separates_and_is_no_poison():
    found = outcomes(network(0.0), training(darker=20))
    assert found["suspects"].which == "bright: 20 of 120 images" and found["separation"].value > 0.4
    assert found["excess.suspects"].high < 0.1


@pytest.mark.parametrize("flipped", [0, 12, 24])
def test_labels_that_the_parent_contradicts_are_counted(flipped):
    found = outcomes(network(0.0), training(flipped=flipped))
    assert found["mislabelled"].value == pytest.approx(flipped / IMAGES)
    assert found["mislabelled"].low <= flipped / IMAGES <= found["mislabelled"].high


def test_without_training_images_or_a_linear_layer_the_reason_is_given():
    unnamed = array_dataset(torch.rand(20, 1, SIDE, SIDE), np.arange(20) % 2)
    for parent, data, words in ((network(0.0), unnamed, "no slice membership=member"),
                                (SeesMeanBrightness(), training(), "no linear layer")):  # fmt: skip
        found = outcomes(parent, data)
        assert all(isinstance(one, Unmeasured) and words in one.reason for one in found.values())
