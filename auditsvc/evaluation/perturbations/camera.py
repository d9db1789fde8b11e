"""Camera and codec changes: the same scene from another camera, with other preprocessing or on another day.

They are smaller than the corruptions, as when a camera, a codec or a resizing library is replaced.  All functions take
``images (N, C, H, W)`` in 0..1 and ``seeds (N,)``; blur widths are fractions of the image width.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from auditsvc.evaluation.perturbations import blur, digital
from auditsvc.evaluation.perturbations.illumination import dim, to_linear, to_srgb
from auditsvc.evaluation.perturbations.weather import fog as clouds
from auditsvc.evaluation.randomness import uniform

Kernel = Literal["nearest", "area", "bilinear", "bicubic"]

_BT601 = (0.299, 0.114)
_BT709 = (0.2126, 0.0722)


def resample(images: Tensor, _seeds: Tensor, *, share: float, kernel: Kernel = "bilinear") -> Tensor:
    """Stored at ``share`` of the side and scaled back: a camera of fewer pixels, or another resizing library."""
    height, width = images.shape[-2:]
    size = (max(1, round(height * share)), max(1, round(width * share)))
    smooth = kernel in ("bilinear", "bicubic")
    corners = False if smooth else None
    small = functional.interpolate(images, size, mode=kernel, align_corners=corners, antialias=smooth)
    return functional.interpolate(small, (height, width), mode="bilinear", align_corners=False).clamp_(0, 1)


def compress(images: Tensor, seeds: Tensor, *, quality: int) -> Tensor:
    """Stored as JPEG of this quality."""
    return digital.jpeg_compression(images, seeds, quality)


def defocus(images: Tensor, seeds: Tensor, *, share: float) -> Tensor:
    """A lens a little out of focus: a gaussian of ``share`` of the width."""
    return blur.gaussian_blur(images, seeds, share * images.shape[-1])


def shake(images: Tensor, seeds: Tensor, *, share: float) -> Tensor:
    """A hand that shook: moved by ``share`` of the width, in any direction up to 45 degrees off the horizontal."""
    pixels = max(share * images.shape[-1], 0.5)
    return blur.moved(images, 90 * uniform(seeds, (), 50) - 45, math.ceil(pixels), max(pixels / 2, 0.3))


def grain(images: Tensor, seeds: Tensor, *, full_well: float) -> Tensor:
    """A smaller sensor: white is ``full_well`` electrons, read with 3 electrons of noise."""
    return dim(images, seeds, stops=0.0, full_well=full_well, read_noise=3.0)


def recolour(images: Tensor, _seeds: Tensor, *, strength: float) -> Tensor:
    """Decoded by the wrong colour matrix (BT.709 for BT.601), ``strength`` times as far."""
    if images.shape[1] != 3:
        return images
    matrix = torch.linalg.inv(_luma(_BT709)) @ _luma(_BT601)
    mixed = torch.eye(3, dtype=torch.float64) + strength * (matrix - torch.eye(3, dtype=torch.float64))
    return torch.einsum("dc,nchw->ndhw", mixed.to(images), images).clamp_(0, 1)


def _luma(weights: tuple[float, float]) -> Tensor:
    """RGB to luma and two colour differences."""
    red, blue = weights
    green = 1 - red - blue
    to_blue = (-red / (2 - 2 * blue), -green / (2 - 2 * blue), 0.5)
    to_red = (0.5, -green / (2 - 2 * red), -blue / (2 - 2 * red))
    rows = ((red, green, blue), to_blue, to_red)
    return torch.tensor(rows, dtype=torch.float64)


def reduce(images: Tensor, _seeds: Tensor, *, bits: int) -> Tensor:
    """Stored in fewer bits for each channel."""
    levels = 2**bits - 1
    rounded: Tensor = (images * levels).round_().div_(levels)
    return rounded


def haze(images: Tensor, seeds: Tensor, *, depth: float) -> Tensor:
    """Haze that thickens towards the top of the picture, by Koschmieder's law with optical depth ``depth`` there."""
    height = images.shape[-2]
    far = torch.linspace(1, 0, height, device=images.device)[:, None]
    seen = torch.exp(-depth * far) * torch.ones_like(images[:, :1])
    air = 0.85 + 0.1 * uniform(seeds, (1, 1, 1), 51)
    return to_srgb((to_linear(images) * seen + air * (1 - seen)).clamp_(0, 1))


def mist(images: Tensor, seeds: Tensor, *, amount: float) -> Tensor:
    """Patches of mist."""
    return clouds(images, seeds, amount, 2.0)


def rain(images: Tensor, seeds: Tensor, *, share: float) -> Tensor:
    """Streaks of rain over ``share`` of the image, thin, bright and nearly upright."""
    height, width = images.shape[-2:]
    draw = uniform(seeds, (2 * height, width), 52)
    length = max(3, height // 8)
    drops = (draw < share / length).float()[:, None]
    streaks = functional.max_pool2d(drops, (length, 1), stride=1)[:, :, :height]
    lean = (uniform(seeds, (1, 1), 53) - 0.5) * 0.5
    rows = torch.arange(height, device=images.device)
    offset = (lean * rows).round().long()[:, 0, :, None]
    across = (torch.arange(width, device=images.device)[None, None, :] + offset) % width
    leaned = streaks[:, 0].gather(2, across)
    return torch.lerp(images, torch.full_like(images, 0.8), 0.6 * leaned[:, None])
