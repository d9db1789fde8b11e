"""Blur: gaussian, defocus, glass, motion and zoom."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from auditsvc.evaluation.perturbations.noise_bank import layer_seeds
from auditsvc.evaluation.randomness import uniform

_DIRECT = 7
"""Kernels up to this side are summed directly; larger ones go through Fourier space."""

_GLASSES = 32


@lru_cache(maxsize=64)
def gaussian_matrix(size: int, sigma: float, truncate: float = 4.0, edge: str = "nearest") -> Tensor:
    """``(size, size)``: a gaussian of ``sigma`` pixels along one side, its edges continued."""
    reach = int(truncate * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-6)) ** 2)
    matrix = np.zeros((size, size))
    for offset, weight in zip(range(-reach, reach + 1), weights / weights.sum(), strict=True):
        places = np.arange(size) + offset
        if edge == "nearest":
            places = np.clip(places, 0, size - 1)
        else:
            places = np.where(places < 0, -1 - places, places) % (2 * size)
            places = np.minimum(places, 2 * size - 1 - places)
        np.add.at(matrix, (np.arange(size), places), weight)
    return torch.from_numpy(matrix.astype(np.float32))


def both_sides(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """A separable map: ``rows`` (H', H) down and ``columns`` (W', W) across."""
    return rows.to(images.device) @ images @ columns.to(images.device).T


def gaussian_blur(images: Tensor, _seeds: Tensor, sigma: float) -> Tensor:
    """A gaussian of ``sigma`` pixels."""
    height, width = images.shape[-2:]
    return both_sides(images, gaussian_matrix(height, sigma), gaussian_matrix(width, sigma)).clamp_(0, 1)


def disk(radius: float, soft: float) -> NDArray[np.float32]:
    """A lens out of focus: an even disk, its rim softened by a gaussian of ``soft`` pixels; cut to what is not zero."""
    reach, side = (8, 3) if radius <= 8 else (int(radius), 5)
    line = np.arange(-reach, reach + 1)
    even = ((line[:, None] ** 2 + line[None, :] ** 2) <= radius**2).astype(np.float64)
    even /= even.sum()
    tap = np.exp(-0.5 * (np.arange(side) - side // 2) ** 2 / soft**2)
    tap /= tap.sum()
    padded = np.pad(even, side // 2, mode="reflect")
    down = sum(weight * padded[place : place + len(line)] for place, weight in enumerate(tap))
    full = sum(weight * down[:, place : place + len(line)] for place, weight in enumerate(tap))
    used = np.flatnonzero((full > 1e-7).any(axis=0))
    return np.asarray(full[used[0] : used[-1] + 1, used[0] : used[-1] + 1], dtype=np.float32)


def defocus_blur(images: Tensor, _seeds: Tensor, radius: float, soft: float) -> Tensor:
    """Out of focus by a disk of ``radius`` pixels."""
    kernel = torch.from_numpy(disk(radius, soft)).to(images.device)
    side = len(kernel)
    reach = side // 2
    mode = "reflect" if reach < min(images.shape[-2:]) else "replicate"
    padded = functional.pad(images, (reach, reach, reach, reach), mode=mode)
    if side <= _DIRECT:
        channels = images.shape[1]
        weight = kernel.expand(channels, 1, side, side).contiguous()
        return functional.conv2d(padded, weight, groups=channels).clamp_(0, 1)
    return _filtered(padded, kernel[None, None], images.shape[-2], images.shape[-1]).clamp_(0, 1)


def _filtered(padded: Tensor, kernels: Tensor, height: int, width: int) -> Tensor:
    """Correlation with ``kernels`` (N or 1, 1, k, k) through Fourier space; the first ``height`` x ``width`` of it."""
    tall, wide = _smooth(padded.shape[-2]), _smooth(padded.shape[-1])
    spectrum = torch.fft.rfft2(padded, s=(tall, wide))
    spectrum *= torch.fft.rfft2(kernels, s=(tall, wide)).conj()
    whole: Tensor = torch.fft.irfft2(spectrum, s=(tall, wide))
    return whole[..., :height, :width]


def _smooth(size: int) -> int:
    """The next size whose transform is fast: only factors of two, three and five."""
    while True:
        rest = size
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return size
        size += 1


def motion_blur(images: Tensor, seeds: Tensor, radius: float, sigma: float) -> Tensor:
    """Moved while exposed: one-sided, fading with ``sigma`` pixels, at most 45 degrees off the horizontal."""
    return moved(images, 90 * uniform(seeds, (), 20) - 45, radius, sigma)


def moved(images: Tensor, degrees: Tensor, radius: float, sigma: float) -> Tensor:
    """The images ``(N, C, H, W)`` moved along their ``degrees`` (N,)."""
    height, width = images.shape[-2:]
    length = int(min(2 * radius + 1, math.ceil(4.5 * sigma)))
    weights = torch.exp(-(torch.arange(length, dtype=torch.float64) ** 2) / (2 * sigma**2))
    total = torch.exp(-(torch.arange(int(2 * radius + 1), dtype=torch.float64) ** 2) / (2 * sigma**2)).sum()
    angle = torch.deg2rad(degrees.double())[:, None]
    steps = torch.arange(length, device=images.device)
    down = torch.ceil(steps * torch.sin(angle) - 0.5).long()
    across = torch.ceil(steps * torch.cos(angle) - 0.5).long()
    inside = (down.abs() < height) & (across.abs() < width)
    reach = length
    kernels = torch.zeros(len(images), (2 * reach + 1) ** 2, dtype=torch.float64, device=images.device)
    places = (down + reach) * (2 * reach + 1) + across + reach
    kernels.scatter_add_(1, places, inside * (weights / total).to(images.device))
    kernels = kernels.float().view(-1, 1, 2 * reach + 1, 2 * reach + 1)
    padded = functional.pad(images, (reach, reach, reach, reach), mode="replicate")
    return _filtered(padded, kernels, height, width).clamp_(0, 1)


def zoom_blur(images: Tensor, _seeds: Tensor, end: float, step: float) -> Tensor:
    """Zoomed while exposed: the mean of the image at magnifications from 1 up to ``end``."""
    factors = np.arange(1, end, step).tolist()
    images = images.contiguous(memory_format=torch.channels_last)  # interpolated twice as fast, to the same values
    total = images.clone()
    for factor in factors:
        total += zoomed(images, factor)
    return total.div_(len(factors) + 1).clamp_(0, 1).contiguous()


def zoomed(images: Tensor, factor: float) -> Tensor:
    """The middle of the image, magnified, at the image's own size."""
    height, width = images.shape[-2:]
    tall, wide = math.ceil(height / factor), math.ceil(width / factor)
    top, left = (height - tall) // 2, (width - wide) // 2
    part = images[..., top : top + tall, left : left + wide]
    size = (max(round(tall * factor), height), max(round(wide * factor), width))
    return functional.interpolate(part, size, mode="bilinear", align_corners=True)[..., :height, :width]


@lru_cache(maxsize=8)
def _glasses(height: int, width: int, delta: int, rounds: int) -> Tensor:
    """``(K, H * W)``: the source of each pixel for each of K panes, as if made pixel by pixel as the authors do.

    Their exchange of two pixels is a copy (both sides are views of one array), so it is a copy here: in one round a
    pixel takes the new value of its source where that was visited before it, and else the old one.  Chains of new
    values are followed to their ends by doubling.
    """
    seeds = layer_seeds(f"glass {delta} {rounds}", _GLASSES)
    size = height * width
    places = torch.arange(size).view(height, width)
    visited = places[delta + 1 : height - delta + 1, delta + 1 : width - delta + 1].flip((0, 1)).reshape(-1)
    order = torch.full((size,), size).index_copy_(0, visited, torch.arange(len(visited)))
    panes = torch.arange(size).expand(_GLASSES, -1)
    for turn in range(rounds):
        offsets = (uniform(seeds, (size, 2), 30 + turn)[:, : len(visited)] * 2 * delta).long() - delta
        sources = visited + offsets[..., 1] * width + offsets[..., 0]
        earlier = order[sources] < order[visited]
        link = (torch.arange(size) + size).repeat(_GLASSES, 1)  # from ``size`` on: the old value of a pixel
        link[:, visited] = torch.where(earlier, sources, sources + size)
        flat = link.view(-1)
        left = torch.nonzero(flat < size).squeeze(1)
        while len(left):
            flat[left] = flat[left - left % size + flat[left]]
            left = left[flat[left] < size]
        panes = panes.gather(1, link.sub_(size))
    return panes


def glass_blur(images: Tensor, seeds: Tensor, sigma: float, delta: int, rounds: int) -> Tensor:
    """Frosted glass: each pixel is taken from up to ``delta`` pixels away, between two gaussian blurs."""
    height, width = images.shape[-2:]
    with torch.inference_mode(mode=False):
        panes = _glasses(height, width, delta, rounds).to(images.device)
    first = (gaussian_blur(images, seeds, sigma) * 255).floor_().div_(255)
    pane = panes[(uniform(seeds, (), 21) * _GLASSES).long()]
    seen = first.flatten(2).gather(2, pane[:, None].expand(-1, images.shape[1], -1)).view_as(images)
    return gaussian_blur(seen, seeds, sigma)
