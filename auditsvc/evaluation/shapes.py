"""Squares in images, placed by two numbers in 0..1 each: what patches, occlusions and searches share."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def side_of(fraction: float, height: int, width: int) -> int:
    """The side, in pixels, of a square of this fraction of the image's area; at least one."""
    return max(1, round(math.sqrt(fraction * height * width)))


def squares(down: Tensor, across: Tensor, side: int, height: int, width: int) -> Tensor:
    """``(N, 1, H, W)`` bool, true inside one square of each image.

    The square lies wholly inside; where it would be taller or wider than the image it is cut to it.
    """
    tall, wide = min(side, height), min(side, width)
    top = (down * (height - tall + 1)).long()[:, None]
    left = (across * (width - wide + 1)).long()[:, None]
    rows, columns = torch.arange(height, device=down.device), torch.arange(width, device=down.device)
    vertical, horizontal = (rows >= top) & (rows < top + tall), (columns >= left) & (columns < left + wide)
    return vertical[:, None, :, None] & horizontal[:, None, None, :]
