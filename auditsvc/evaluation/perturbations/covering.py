"""Occlusions: plain patches, bars, clutter, other objects.

A black cover would also change the exposure, so covers are grey, noise or parts of the image itself.  All functions
take ``images (N, C, H, W)`` in 0..1 and ``seeds (N,)`` and hide about ``fraction`` of each image's area.

Reference: T. DeVries and G. W. Taylor (2017), arXiv:1708.04552 (Cutout); K. K. Singh and Y. J. Lee (2017),
arXiv:1704.04232 (hide-and-seek); P. Chen et al. (2020), arXiv:2001.04086 (GridMask); A. Kortylewski et al. (2020),
arXiv:2006.15538 (object-shaped and textured occluders).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from auditsvc.evaluation.perturbations.noise_bank import side_of, squares
from auditsvc.evaluation.randomness import uniform

_SCREENS = 12
"""Cells of the hide-and-seek grid along the image's shorter side, where there is room."""


def hide_square(images: Tensor, seeds: Tensor, *, fraction: float, grey: float) -> Tensor:
    """One grey square of each image, at a random place wholly inside it."""
    height, width = images.shape[-2:]
    place = uniform(seeds, (2,))
    inside = squares(place[:, 0], place[:, 1], side_of(fraction, height, width), height, width)
    return torch.where(inside, torch.full_like(images, grey), images)


def hide_cells(images: Tensor, seeds: Tensor, *, fraction: float, grey: float) -> Tensor:
    """Cells of a grid, each hidden or not by chance: leaves, a fence, dirt on the lens."""
    height, width = images.shape[-2:]
    cells = max(2, min(_SCREENS, min(height, width) // 2))
    draw = uniform(seeds, (cells, cells), 10)
    hidden = max(1, round(fraction * cells * cells))
    limit = draw.flatten(1).sort(dim=1).values[:, hidden - 1, None, None]
    rows = torch.arange(height, device=seeds.device) * cells // height
    columns = torch.arange(width, device=seeds.device) * cells // width
    inside = (draw <= limit)[:, None, rows][:, :, :, columns]
    return torch.where(inside, torch.full_like(images, grey), images)


def hide_texture(images: Tensor, seeds: Tensor, *, fraction: float) -> Tensor:
    """One square filled with the picture's own pixels, shuffled in small tiles: clutter of the same colours."""
    height, width = images.shape[-2:]
    place = uniform(seeds, (2,))
    inside = squares(place[:, 0], place[:, 1], side_of(fraction, height, width), height, width)
    tile = max(1, min(height, width) // 8)
    rows = _shuffled(seeds, height, tile, 11)
    columns = _shuffled(seeds, width, tile, 12)
    picked = images.gather(2, rows[:, None, :, None].expand_as(images))
    picked = picked.gather(3, columns[:, None, None, :].expand_as(images))
    return torch.where(inside, picked, images)


def _shuffled(seeds: Tensor, size: int, tile: int, stream: int) -> Tensor:
    """``(N, size)``: places along one side, shuffled tile by tile."""
    tiles = -(-size // tile)
    order = uniform(seeds, (tiles,), stream).argsort(dim=1)
    places = order[:, :, None] * tile + torch.arange(tile, device=seeds.device)
    return places.flatten(1)[:, :size].clamp(max=size - 1)


def hide_object(images: Tensor, seeds: Tensor, *, fraction: float, grey: float) -> Tensor:
    """One round, uneven shape such as a hand or a leaf: its radius wavers with the angle."""
    height, width = images.shape[-2:]
    draw = uniform(seeds, (10,), 13)
    waves = 0.25 * (draw[:, 2:6] - 0.5)
    mean = 1 + (waves**2).sum(dim=1) / 2
    radius = torch.sqrt(fraction * height * width / (math.pi * mean))
    rows, columns = _around(draw[:, 0], radius, height), _around(draw[:, 1], radius, width)
    rows, columns = rows[:, :, None], columns[:, None, :]
    angle = torch.atan2(rows.expand(-1, height, width), columns.expand(-1, height, width))
    reach = torch.ones_like(angle)
    for number in range(4):
        phase = 2 * math.pi * draw[:, 6 + number, None, None]
        reach = reach + waves[:, number, None, None] * torch.cos((number + 2) * angle + phase)
    inside = (rows**2 + columns**2).sqrt() <= radius[:, None, None] * reach
    return torch.where(inside[:, None], torch.full_like(images, grey), images)


def _around(draw: Tensor, radius: Tensor, size: int) -> Tensor:
    """``(N, size)``: pixel places from a middle that keeps the shape inside where it fits."""
    room = (size - 2 * radius).clamp(min=0)
    middle = size / 2 + (draw - 0.5) * room
    return torch.arange(size, device=draw.device)[None, :] + 0.5 - middle[:, None]


def hide_edge(images: Tensor, seeds: Tensor, *, fraction: float, grey: float) -> Tensor:
    """A bar along one of the four edges: a door, a shelf, a bad crop."""
    height, width = images.shape[-2:]
    edge = (4 * uniform(seeds, (1, 1), 14)).long()
    rows = torch.arange(height, device=seeds.device)[None, :, None]
    columns = torch.arange(width, device=seeds.device)[None, None, :]
    tall, wide = max(1, round(fraction * height)), max(1, round(fraction * width))
    edge = edge[:, :, None] if edge.dim() == 2 else edge
    inside = (
        ((edge == 0) & (rows < tall)) | ((edge == 1) & (rows >= height - tall))
        | ((edge == 2) & (columns < wide)) | ((edge == 3) & (columns >= width - wide))
    )  # fmt: skip
    return torch.where(inside[:, None], torch.full_like(images, grey), images)
