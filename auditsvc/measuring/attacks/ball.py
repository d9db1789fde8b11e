"""How far an attacked image may lie from its original: the L-infinity or the L2 ball, cut to 0..1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from auditsvc.measuring.randomness import normal, uniform

Norm = Literal["Linf", "L2"]

_TINY = 1e-12


def length(change: Tensor) -> Tensor:
    """The L2 length of each image's change, ``(N, 1, 1, 1)``."""
    sizes: Tensor = change.flatten(1).norm(dim=1).clamp(min=_TINY)
    return sizes[:, None, None, None]


@dataclass(frozen=True)
class Ball:
    """All images within ``radius`` (in image units, 0..1) of an original."""

    norm: Norm
    radius: float

    def project(self, moved: Tensor, originals: Tensor) -> Tensor:
        """The nearest image of the ball, cut to 0..1.  In L2 the cut comes last; it only shortens the change."""
        if self.norm == "Linf":
            return torch.minimum(torch.maximum(moved, originals - self.radius), originals + self.radius).clamp_(0, 1)
        change = moved - originals
        return (originals + change * (self.radius / length(change)).clamp(max=1)).clamp_(0, 1)

    def step(self, gradient: Tensor) -> Tensor:
        """The steepest direction of length one."""
        return gradient.sign() if self.norm == "Linf" else gradient / length(gradient)

    def start(self, originals: Tensor, seeds: Tensor, stream: int, *, on_edge: bool = False) -> Tensor:
        """A random image of the ball; ``on_edge`` scales it to the radius, as APGD does."""
        shape = originals.shape[1:]
        if self.norm == "Linf":
            change = 2 * uniform(seeds, shape, stream) - 1
            scale = change.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=_TINY) if on_edge else 1.0
            return (originals + self.radius * change / scale).clamp_(0, 1)
        change = normal(seeds, shape, stream)
        inner = 1.0 if on_edge else uniform(seeds, (1, 1, 1), stream + 500)
        return (originals + self.radius * inner * change / length(change)).clamp_(0, 1)
