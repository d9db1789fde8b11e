"""Does the model still see when part of the image is hidden?

Pruning removes redundancy, and redundancy is what carries a network past a hand, a sticker or a lamp post.
Clean accuracy can't show the loss: with nothing hidden, the few features that are left may be enough.

Each image loses one square, drawn once from its seed, so a run costs one forward pass per model and fraction,
and repeats exactly.  This is a random probe, not a search: it says what ordinary clutter does, and nothing
about an adversary who chooses the place.

Reference: T. DeVries and G. W. Taylor (2017), "Improved Regularization of Convolutional Neural Networks with
Cutout", arXiv:1708.04552 (there a training aid, here a probe).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from auditsvc.measuring import Case, Check, uniform
from auditsvc.records import Reading

Fraction = Annotated[float, Field(gt=0, lt=1)]


def hide_square(images: Tensor, seeds: Tensor, *, fraction: float, grey: float) -> Tensor:
    """Hide one square of this fraction of each image's area; ``(N, C, H, W)``.

    The square lies wholly inside the image; where it would be taller or wider than the image it is cut to it.
    """
    height, width = images.shape[-2:]
    side = max(1, round((fraction * height * width) ** 0.5))
    tall, wide = min(side, height), min(side, width)
    place = uniform(seeds, (2,))
    top = (place[:, 0] * (height - tall + 1)).long()[:, None]
    left = (place[:, 1] * (width - wide + 1)).long()[:, None]
    rows, columns = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    inside = ((rows >= top) & (rows < top + tall))[:, :, None] & ((columns >= left) & (columns < left + wide))[
        :, None, :
    ]
    return torch.where(inside[:, None], torch.full_like(images, grey), images)


class Occlusion(Check):
    """Hide one grey square of each image and compare candidate with parent.

    Emits ``score.hidden@F``, ``parent.`` and ``drop.`` for every hidden area fraction ``F``.
    """

    id = "occlusion"
    version = 1

    fractions: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.1, 0.25)
    grey: Annotated[float, Field(ge=0, le=1)] = 0.5

    def conditions(self) -> tuple[str, ...]:
        """One for each fraction: ``hidden@0.25``."""
        return tuple(f"hidden@{fraction:g}" for fraction in self.fractions)

    def measure(self, case: Case) -> Iterator[Reading]:
        """Compare once for each fraction."""
        for name, fraction in zip(self.conditions(), self.fractions, strict=True):
            yield from case.compare(name, partial(hide_square, fraction=fraction, grey=self.grey))
