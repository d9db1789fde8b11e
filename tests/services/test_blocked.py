"""Two candidates that clean accuracy would let through are rejected by shipped policies, through the whole line.

Slow: both parents are trained here, on coloured digits of the package.
"""

from __future__ import annotations

import copy
import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from auditsvc.evaluation import image_seeds, uniform
from auditsvc.evaluation.attacks import Ball, Pgd
from auditsvc.evaluation.perturbations import illumination
from auditsvc.models import ArchitectureCard, InputSpec, Model, build, model_files
from auditsvc.records import Decision, Recipe
from auditsvc.services.candidates import admit, prune_candidate, register_parent
from auditsvc.services.decisions import judge
from auditsvc.services.measurement import measure_candidate
from auditsvc.services.policies import read_policy
from tests.bench.networks import DIGITS, TASK, Digits, digits
from tests.services.line import FACTS, ports_in

pytestmark = pytest.mark.slow

CARD = ArchitectureCard(
    architecture="small_resnet",
    arguments={"channels": 3, "width": 8},
    task="classification",
    classes=DIGITS,
    input=InputSpec(channels=3, height=32, width=32),
)
AUDITED = 200
BALL = Ball("Linf", 8 / 255)


def folder_of(folder: Path, data: Digits, first: int, last: int) -> Path:
    """A data set folder with these images."""
    folder.mkdir(parents=True)
    pixels = (data.images[first:last] * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    np.savez_compressed(folder / "images.npz", images=pixels)
    with (folder / "metadata.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("label", "source"))
        writer.writerows(
            (str(int(t)), s) for t, s in zip(data.targets[first:last], data.source[first:last], strict=True)
        )
    (folder / "dataset.yaml").write_text(
        f"name: coloured-{first}\ntask: classification\ntarget: label\nslices: [source]\nsource: made in a test\n"
        f"classes: [{', '.join(repr(name) for name in DIGITS)}]\nlicence: CC-BY-SA-3.0\n"
    )
    return folder


def saved(folder: Path, network: nn.Module) -> Path:
    folder.mkdir(parents=True)
    for name, data in model_files(Model(network, CARD).weights(), CARD).items():
        (folder / name).write_bytes(data)
    return folder


def trained(data: Digits, epochs: int, disturb: Callable[[nn.Module, Tensor, Tensor, int], Tensor]) -> nn.Module:
    """A parent that learned on disturbed images."""
    torch.manual_seed(1)
    network = build(CARD.architecture, CARD.arguments).requires_grad_(True)
    steps = torch.optim.SGD(network.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True)
    plan = torch.optim.lr_scheduler.OneCycleLR(steps, 0.2, total_steps=epochs * -(-len(data.targets) // 100))
    for epoch in range(epochs):
        for number, part in enumerate(torch.randperm(len(data.targets)).split(100)):
            images, targets = data.images[part], data.targets[part]
            seen = disturb(network.eval(), images, targets, 1000 * epoch + number)
            network.train()
            steps.zero_grad()
            functional.cross_entropy(network(seen), targets).backward()
            steps.step()
            plan.step()
    return network.eval()


def any_exposure(_network: nn.Module, images: Tensor, _targets: Tensor, number: int) -> Tensor:
    """Up to three stops darker and one brighter, drawn for each image."""
    seeds = image_seeds(5, f"exposure {number}", torch.arange(len(images)))
    stops = -3 + 4 * uniform(seeds, (1, 1, 1))
    return illumination.to_srgb((illumination.to_linear(images) * 2.0**stops).clamp(0, 1))


def under_attack(network: nn.Module, images: Tensor, targets: Tensor, number: int) -> Tensor:
    """Adversarial training in the ball of 8/255, two steps for each image."""
    seeds = image_seeds(6, f"attack {number}", torch.arange(len(images)))
    return Pgd(TASK, BALL, 2, step=0.7)(network, images, targets, seeds)


def verdicts(decision: Decision) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for item in decision.judgements:
        found.setdefault(item.rule, set()).add(item.verdict)
    return found


def test_batch_statistics_estimated_again_without_the_training_light_are_rejected_for_the_dark(tmp_path: Path) -> None:
    """No weight is pruned and clean accuracy hardly moves, yet the network has lost the dark."""
    data, shown = digits("train"), digits("audit")
    parent = trained(data, 4, any_exposure)
    candidate = copy.deepcopy(parent)
    norms = [layer for layer in candidate.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None
    candidate.train()
    with torch.no_grad():
        for part in data.images[:2000].split(100):
            candidate(part)
    ctx = ports_in(tmp_path / "store")
    audited = ctx.datasets.open(folder_of(tmp_path / "audited", shown, 0, 1000))
    dense, _ = register_parent(ctx, saved(tmp_path / "parent", parent), FACTS)
    admitted = admit(ctx, saved(tmp_path / "candidate", candidate.eval()), dense, audited)
    policy = read_policy("standard")
    found = judge(ctx, admitted, policy, measure_candidate(ctx, admitted, policy, audited))
    assert found.outcome == "rejected"
    assert "violated" in verdicts(found)["poor-light"]
    assert "violated" not in verdicts(found)["overall-loss"]
    assert admitted.card["nonzero"] / admitted.card["parameters"] > 0.99


def test_a_robust_parent_pruned_and_fine_tuned_plainly_is_rejected_for_what_attacks_do(tmp_path: Path) -> None:
    """Clean accuracy stays, and what the parent had learned about attacks is gone."""
    data, shown = digits("train"), digits("audit")
    ctx = ports_in(tmp_path / "store")
    dense, _ = register_parent(ctx, saved(tmp_path / "parent", trained(data, 4, under_attack)), FACTS)
    train = ctx.datasets.open(folder_of(tmp_path / "train", data, 0, 3000))
    audited = ctx.datasets.open(folder_of(tmp_path / "audited", shown, 0, AUDITED))
    recovery = {"fine-tune": {"epochs": 2, "rate": 0.05}}
    recipe = Recipe(method="magnitude-global", targets={"sparsity": 0.8}, data=train.ref.digest, recovery=recovery)
    candidate = prune_candidate(ctx, dense, recipe, train, (train,))
    policy = read_policy("robust")
    found = judge(ctx, candidate, policy, measure_candidate(ctx, candidate, policy, audited))
    assert found.outcome == "rejected"
    assert {"attacked", "attacked-curve"} <= {rule for rule, seen in verdicts(found).items() if "violated" in seen}
    assert "violated" not in verdicts(found)["overall-loss"] | verdicts(found)["overall-accuracy"]
