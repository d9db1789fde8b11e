"""A network of a user's own, outside the package: what ``--architecture`` names."""

from __future__ import annotations

from torch import nn


def make(hidden: int = 4, classes: int = 2) -> nn.Module:
    """Two layers, 0 and 3 with the pooling between them."""
    return nn.Sequential(
        nn.Conv2d(3, hidden, 3, padding=1), nn.ReLU(), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(hidden, classes),
    )  # fmt: skip


def probable() -> nn.Module:
    """The same, with a softmax at the end."""
    return nn.Sequential(*make(), nn.Softmax(1))


def boom() -> object:
    """No network."""
    return "not a module"
