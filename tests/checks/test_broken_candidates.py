"""Two candidates that clean accuracy would let through, and that these checks must not.

Slow: both parents are trained here, on the digits of the package.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from auditsvc.checks.accuracy import Accuracy
from auditsvc.checks.adversarial import Adversarial
from auditsvc.checks.lighting import Lighting
from auditsvc.measuring import image_seeds, light, uniform
from auditsvc.records import OVERALL
from tests.bench.networks import DIGITS, ResNet, digits, robust_network
from tests.fakes.models import array_dataset, case_of

pytestmark = pytest.mark.slow


def outcomes(check, case):
    return {reading.metric: reading.outcome for reading in check.measure(case) if reading.slice == OVERALL}


def fitted(network, images, targets, epochs, rate, disturb=lambda images, number: images):
    torch.manual_seed(3)
    steps = torch.optim.SGD(network.parameters(), rate, 0.9, weight_decay=5e-4)
    plan = torch.optim.lr_scheduler.OneCycleLR(steps, rate, total_steps=epochs * -(-len(targets) // 64))
    network.train()
    for epoch in range(epochs):
        for number, part in enumerate(torch.randperm(len(targets)).split(64)):
            steps.zero_grad()
            seen = disturb(images[part], 1000 * epoch + number)
            functional.cross_entropy(network(seen), targets[part]).backward()
            steps.step()
            plan.step()
    return network.eval()


def any_exposure(images, number):
    """What the parent was trained on: up to four stops darker and one brighter, drawn for each image."""
    seeds = image_seeds(5, f"exposure {number}", torch.arange(len(images)))
    stops = -4 + 5 * uniform(seeds, (1, 1, 1))
    return light.to_srgb((light.to_linear(images) * 2.0**stops).clamp(0, 1))


def test_batch_statistics_estimated_again_without_the_training_light_are_found_in_the_dark():
    """No weight is pruned and clean accuracy hardly moves, yet the network has lost the dark."""
    data, audit = digits("train"), digits("audit")
    parent = fitted(ResNet(1), data.images, data.targets, 5, 0.2, any_exposure)
    candidate = copy.deepcopy(parent)
    for layer in candidate.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None
    candidate.train()
    with torch.no_grad():
        for part in data.images[:2000].split(100):
            candidate(part)
    case = case_of(
        candidate.eval(), parent, array_dataset(audit.images[:1000], audit.targets[:1000].numpy(), None, DIGITS)
    )
    clean = outcomes(Accuracy(), case)["drop.clean"]
    dark = outcomes(Lighting(exposure_stops=(-3, -4)), case)
    assert clean.value < 0.03
    assert max(dark["drop.exposure@-3EV"].low, dark["drop.exposure@-4EV"].low) > 0.10


def test_a_robust_parent_pruned_and_fine_tuned_plainly_is_found_under_attack():
    """Clean accuracy stays or rises, and what the parent had learned about attacks is gone."""
    data, audit = digits("train"), digits("audit")
    parent = robust_network()
    candidate = copy.deepcopy(parent)
    layers = [layer for layer in candidate.modules() if isinstance(layer, nn.Conv2d)]
    every = torch.cat([layer.weight.detach().abs().flatten() for layer in layers])
    limit = every.kthvalue(int(0.8 * len(every))).values
    for layer in layers:
        kept = (layer.weight.detach().abs() > limit).float()
        layer.weight.data.mul_(kept)
        layer.weight.register_hook(lambda slope, kept=kept: slope * kept)
    candidate = fitted(candidate, data.images, data.targets, 2, 0.05)
    for layer in layers:
        layer.weight._backward_hooks = None
    case = case_of(candidate, parent, array_dataset(audit.images[:1000], audit.targets[:1000].numpy(), None, DIGITS))
    clean = outcomes(Accuracy(), case)["drop.clean"]
    attacked = outcomes(Adversarial(budgets=(8,), methods=("apgd",), steps=20, images=200), case)["drop.apgd@8"]
    assert clean.value < 0.01
    assert attacked.low > 0.03
