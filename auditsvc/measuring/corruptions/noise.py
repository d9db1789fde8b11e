"""Noise: gaussian, shot, impulse and speckle."""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from auditsvc.measuring.corruptions.bank import row, windows

_QUANTILES = 4096


def gaussian_noise(images: Tensor, seeds: Tensor, sigma: float) -> Tensor:
    """Normal noise of standard deviation ``sigma`` in image units."""
    scaled = row("normal", torch.mul, (sigma,), str(seeds.device))
    return windows(scaled, seeds, images[0].numel(), 5).view_as(images).add_(images).clamp_(0, 1)


def speckle_noise(images: Tensor, seeds: Tensor, sigma: float) -> Tensor:
    """Normal noise in proportion to the image: standard deviation ``sigma`` times the value."""
    scaled = row("normal", torch.mul, (sigma,), str(seeds.device))
    return windows(scaled, seeds, images[0].numel(), 5).view_as(images).add_(1).mul_(images).clamp_(0, 1)


def impulse_noise(images: Tensor, seeds: Tensor, amount: float) -> Tensor:
    """Salt and pepper: ``amount`` of all values become 0 or 1, half and half."""
    jumps = row("uniform", _jumps, (amount,), str(seeds.device))
    return windows(jumps, seeds, images[0].numel(), 5).view_as(images).add_(images).clamp_(0, 1)


def _jumps(draws: Tensor, amount: float) -> Tensor:
    """2 for salt, -2 for pepper, else 0: added and clipped it overrides any value."""
    return 2 * (draws >= 1 - amount / 2).float() - 2 * (draws < amount / 2).float()


def shot_noise(images: Tensor, seeds: Tensor, photons: float) -> Tensor:
    """Photons counted one by one: white is ``photons`` of them.  The image is taken at its 256 levels.

    Counts come from a table of each level's law at 4096 quantiles.
    """
    device = str(seeds.device)
    table = row("uniform", _counts, (photons,), device)
    draws = windows(row("uniform", _places, (), device), seeds, images[0].numel(), 5).view_as(images)
    places = (images * 255).round_().to(torch.int32).mul_(_QUANTILES).add_(draws)
    return table.index_select(0, places.reshape(-1)).view_as(images)


def _places(draws: Tensor) -> Tensor:
    """Draws as numbers of quantiles."""
    return (draws * _QUANTILES).to(torch.int32)


def _counts(_draws: Tensor, photons: float) -> Tensor:
    """``(256 * 4096,)``: for each level, counts at the middle of each quantile, as values in 0..1."""
    middle = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    levels = np.arange(256)[:, None] / 255 * photons
    counts = np.arange(int(photons + 8 * np.sqrt(photons) + 10))
    reached = np.asarray(stats.poisson.cdf(counts[None, :], levels))
    found = np.stack([np.searchsorted(line, middle) for line in reached])
    return torch.from_numpy(np.minimum(found / photons, 1.0).astype(np.float32).ravel())
