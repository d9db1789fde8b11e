"""The networks and images of the robustness benches: coloured digits, a small residual network, two ways to train it.

Both networks are trained here, from the digits in the package, so nothing is downloaded; the weights are kept in
``build/bench`` and made again when this file changes.
"""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from auditsvc.evaluation import image_seeds, normal, uniform
from auditsvc.evaluation.attacks import Ball, Pgd
from auditsvc.models import ArchitectureCard, InputSpec, Model
from auditsvc.tasks.classification import Classification

ROOT = Path(__file__).parents[2]
DIGITS = tuple("0123456789")
TASK = Classification(DIGITS)


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm_one = nn.BatchNorm2d(outputs)
        self.two = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm_two = nn.BatchNorm2d(outputs)
        self.short = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if stride > 1 else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        deep = functional.relu(self.norm_one(self.one(features)))
        return functional.relu(self.norm_two(self.two(deep)) + self.short(features))


class ResNet(nn.Module):
    """``blocks`` blocks in each of three stages on images of 32 pixels: 1 is ResNet-8, 3 is ResNet-20."""

    def __init__(self, blocks: int, classes: int = 10, width: int = 16) -> None:
        super().__init__()
        self.entry = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        stages, inputs = [], width
        for stage in range(3):
            for number in range(blocks):
                outputs, stride = width * 2**stage, 2 if stage and not number else 1
                stages.append(Block(inputs, outputs, stride))
                inputs = outputs
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(inputs, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stages(self.entry(images)).mean(dim=(2, 3)))


@dataclass(frozen=True)
class Digits:
    """Images ``(N, 3, 32, 32)`` in 0..1, targets, and the writers' source as metadata."""

    images: Tensor
    targets: Tensor
    source: list[str]


def digits(split: str) -> Digits:
    """The ``train`` or ``audit`` half: 5000 digits in two colours each, a little apart, and a little noisy."""
    folder = ROOT / "auditsvc/demo/digits"
    with (folder / "metadata.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    chosen = [number for number, row in enumerate(rows) if row["split"] == split]
    ink = torch.from_numpy(np.load(folder / "images.npz")["images"][chosen]).float() / 255
    ink = functional.pad(ink, (2, 2, 2, 2))[:, None]
    seeds = image_seeds(20, "colours", torch.tensor(chosen))
    paper = 0.35 + 0.3 * uniform(seeds, (3, 1, 1), 0)
    sign = torch.where(uniform(seeds, (1, 1, 1), 1) < 0.5, -1.0, 1.0)
    pen = paper + sign * (0.2 + 0.15 * uniform(seeds, (3, 1, 1), 2))
    images = ink * pen + (1 - ink) * paper + 0.03 * normal(seeds, (3, 32, 32), 5)
    targets = torch.tensor([int(rows[number]["label"]) for number in chosen])
    return Digits(images.clamp(0, 1).contiguous(), targets, [rows[number]["source"] for number in chosen])


def as_model(network: nn.Module) -> Model:
    """The network as the product sees it."""
    spec = InputSpec(channels=3, height=32, width=32)
    return Model(network, ArchitectureCard(architecture="bench", task="classification", classes=DIGITS, input=spec))


def trained(name: str, blocks: int, epochs: int, *, robust: bool) -> nn.Module:
    """A network trained on the ``train`` half, or the one that was kept; ``robust`` attacks while it trains."""
    source = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    place = ROOT / "build" / "bench" / f"{name}-{source}.safetensors"
    network = ResNet(blocks)
    if place.exists():
        network.load_state_dict(load_file(place))
        return network.eval()
    torch.manual_seed(1)
    network = ResNet(blocks)
    data = digits("train")
    rate = torch.optim.SGD(network.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True)
    steps = epochs * -(-len(data.targets) // 100)
    plan = torch.optim.lr_scheduler.OneCycleLR(rate, 0.2, total_steps=steps)
    for _ in range(epochs):
        for part in torch.randperm(len(data.targets)).split(100):
            images, targets = data.images[part], data.targets[part]
            if robust:
                network.eval()
                attack = Pgd(TASK, Ball("Linf", 8 / 255), 3, step=0.5)
                images = attack(network, images, targets, torch.randint(1 << 60, (len(part),)))
            network.train()
            rate.zero_grad()
            functional.cross_entropy(network(images), targets).backward()
            rate.step()
            plan.step()
    place.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), place)
    return network.eval()


def standard_network() -> nn.Module:
    """ResNet-8, trained without attacks."""
    return trained("standard", 1, 8, robust=False)


def robust_network() -> nn.Module:
    """ResNet-8, trained on attacked images in the L-infinity ball of 8/255."""
    return trained("robust", 1, 10, robust=True)
