"""A bank of random numbers, drawn once, of which each image takes a window; and masks of squares, placed by two numbers
in 0..1, for patches, occlusions and searches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from auditsvc.evaluation.randomness import image_seeds, normal, uniform


def side_of(fraction: float, height: int, width: int) -> int:
    """The side, in pixels, of a square of this fraction of the image's area; at least one."""
    return max(1, round(math.sqrt(fraction * height * width)))


def squares(down: Tensor, across: Tensor, side: int, height: int, width: int) -> Tensor:
    """``(N, 1, H, W)`` bool, true inside one square of each image.

    The square is wholly inside the image, and cut to its size if larger.
    """
    tall, wide = min(side, height), min(side, width)
    top = (down * (height - tall + 1)).long()[:, None]
    left = (across * (width - wide + 1)).long()[:, None]
    rows, columns = torch.arange(height, device=down.device), torch.arange(width, device=down.device)
    vertical, horizontal = (rows >= top) & (rows < top + tall), (columns >= left) & (columns < left + wide)
    return vertical[:, None, :, None] & horizontal[:, None, None, :]


LENGTH = 1 << 22
"""Numbers in a row: 27 images of 224 pixels and three channels, or 1300 of 32."""


@lru_cache(maxsize=2)
def _raw(kind: str) -> Tensor:
    """A row of standard normal or of uniform numbers."""
    seeds = image_seeds(0, f"bank of {kind}", torch.arange(1024))
    draw = normal if kind == "normal" else uniform
    return draw(seeds, (LENGTH // 1024,)).flatten()


@lru_cache(maxsize=6)
def row(kind: str, shape: Callable[..., Tensor] | None, parameters: tuple[Any, ...], device: str) -> Tensor:
    """The row of this kind, shaped by a function of it and ``parameters``, on a device."""
    with torch.inference_mode(mode=False):
        numbers = _raw(kind)
        return (numbers if shape is None else shape(numbers, *parameters)).to(device)


def windows(numbers: Tensor, seeds: Tensor, size: int, stream: int) -> Tensor:
    """``(N, size)``: for each image the window that its seed names."""
    places = (uniform(seeds, (), stream) * (len(numbers) - size + 1)).long()
    if seeds.device.type == "cpu" and size > 1 << 14:
        return torch.stack([numbers[place : place + size] for place in places.tolist()])
    return numbers.unfold(0, size, 1)[places]


def sheets(layers: Tensor, seeds: Tensor, height: int, width: int, stream: int) -> Tensor:
    """``(N, height, width)``: for each image a window of a random layer of ``layers`` (K, H, W)."""
    draw = uniform(seeds, (3,), stream)
    count, tall, wide = layers.shape
    layer = (draw[:, 0] * count).long()
    top = (draw[:, 1] * (tall - height + 1)).long()
    left = (draw[:, 2] * (wide - width + 1)).long()
    start = (layer * tall + top) * wide + left
    flat = layers.reshape(-1)
    if seeds.device.type == "cpu" and height * width > 1 << 12:
        return torch.stack([flat.as_strided((height, width), (wide, 1), place) for place in start.tolist()])
    inside = torch.arange(height, device=seeds.device)[:, None] * wide + torch.arange(width, device=seeds.device)
    return flat[start[:, None, None] + inside]


def layer_seeds(purpose: str, layers: int) -> Tensor:
    """Seeds for making the layers of a sheet; the same on every machine."""
    return image_seeds(0, f"sheet of {purpose}", torch.arange(layers))
