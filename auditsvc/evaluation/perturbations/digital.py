"""Digital corruptions and noise: brightness, contrast, saturation, elastic warps, pixelation, JPEG; gaussian, shot,
impulse and speckle noise.
"""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from scipy import stats
from torch import Tensor
from torch.nn import functional

from auditsvc.evaluation.perturbations.blur import both_sides, gaussian_matrix
from auditsvc.evaluation.perturbations.noise_bank import layer_seeds, row, sheets, windows
from auditsvc.evaluation.randomness import uniform

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


_WARPS = 16


def brightness(images: Tensor, _seeds: Tensor, amount: float) -> Tensor:
    """Lighter by ``amount`` in the V of HSV: colours keep hue and saturation."""
    if images.shape[1] == 1:
        return (images + amount).clamp_(0, 1)
    value = images.amax(dim=1, keepdim=True)
    gain = (value + amount).clamp_(max=1) / value.clamp(min=1e-6)
    return torch.where(value > 1e-6, images * gain, (images + amount).clamp(0, 1))


def contrast(images: Tensor, _seeds: Tensor, share: float) -> Tensor:
    """Differences from each channel's mean shrunk to ``share``."""
    means = images.mean(dim=(2, 3), keepdim=True)
    return torch.lerp(means, images, share).clamp_(0, 1)


def saturate(images: Tensor, _seeds: Tensor, gain: float, offset: float) -> Tensor:
    """The S of HSV times ``gain`` plus ``offset``; what has no colour turns red, hue 0, where there is an offset."""
    if images.shape[1] == 1:
        return images
    value, least = images.amax(dim=1, keepdim=True), images.amin(dim=1, keepdim=True)
    range_ = value - least
    wanted = (range_ / value.clamp(min=1e-6) * gain + offset).clamp_(0, 1)
    red = torch.tensor((0.0, 1.0, 1.0), device=images.device)[:, None, None]
    share = torch.where(range_ > 0, (value - images) / range_.clamp(min=1e-12), red)
    return (value * (1 - wanted * share)).clamp_(0, 1)


@lru_cache(maxsize=16)
def _box(size: int, smaller: int) -> Tensor:
    """``(smaller, size)``: each output is the mean of the pixels whose centre is in its box, as Pillow's BOX."""
    scale = size / smaller
    reach = 0.5 * max(scale, 1.0)
    matrix = np.zeros((smaller, size))
    for number in range(smaller):
        centre = (number + 0.5) * scale
        first, last = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), size)
        spots = (np.arange(first, last) - centre + 0.5) / max(scale, 1.0)
        weights = ((spots > -0.5) & (spots <= 0.5)).astype(np.float64)
        matrix[number, first:last] = weights / weights.sum()
    return torch.from_numpy(matrix.astype(np.float32))


def pixelate(images: Tensor, _seeds: Tensor, share: float, smooth: bool) -> Tensor:
    """Scaled down to ``share`` of the side by boxes, and up again by boxes (``smooth``) or by the nearest pixel."""
    height, width = images.shape[-2:]
    tall, wide = int(height * share), int(width * share)
    images = (images * 255).round_()
    across = (images @ _box(width, wide).to(images.device).T).add_(0.5).floor_()
    small = (_box(height, tall).to(images.device) @ across).add_(0.5).floor_().div_(255)
    if smooth:
        return both_sides(small, _box(tall, height), _box(wide, width)).mul_(255).round_().div_(255)
    rows = ((torch.arange(height, device=images.device) + 0.5) * (tall / height)).long()
    columns = ((torch.arange(width, device=images.device) + 0.5) * (wide / width)).long()
    return small.index_select(2, rows).index_select(3, columns)


def jpeg_compression(images: Tensor, _seeds: Tensor, quality: int) -> Tensor:
    """Stored as JPEG and read again, by the codec itself, on the CPU: no approximation of a codec comes near it."""
    stored = (images.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).cpu().numpy()
    found = np.empty_like(stored)
    for number, image in enumerate(stored):
        buffer = BytesIO()
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "JPEG", quality=int(quality))
        read = np.asarray(Image.open(buffer))
        found[number] = read[..., None] if read.ndim == 2 else read
    return torch.from_numpy(found).to(images.device).permute(0, 3, 1, 2).float().div_(255).contiguous()


def elastic_transform(images: Tensor, seeds: Tensor, strength: float, sigma: float, skew: float) -> Tensor:
    """A warp of rubber: shifts smoothed over ``sigma`` and scaled by ``strength``, after a random ``skew``.

    All three are shares of the image's side.  Both maps are joined, so that the image is sampled once.
    """
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device, dtype=torch.float32)[:, None].expand(height, width)
    columns = torch.arange(width, device=images.device, dtype=torch.float32)[None, :].expand(height, width)
    if strength:
        with torch.inference_mode(mode=False):
            warps = _warps(height, width, sigma, strength).to(images.device)
        rows, columns = (
            rows + sheets(warps, seeds, height, width, 33),
            columns + sheets(warps, seeds, height, width, 34),
        )
    else:
        rows, columns = rows.expand(len(images), -1, -1), columns.expand(len(images), -1, -1)
    if skew:
        rows, columns = _skewed(rows, columns, seeds, skew)
    grid = torch.stack(((2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1), dim=-1)
    return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False).clamp_(0, 1)


@lru_cache(maxsize=8)
def _warps(height: int, width: int, sigma: float, strength: float) -> Tensor:
    """``(K, 2 H, 2 W)`` in pixels: uniform shifts, smoothed."""
    draw = 2 * uniform(layer_seeds(f"warp {sigma}", _WARPS), (2 * height, 2 * width), 35) - 1
    down = gaussian_matrix(2 * height, sigma * height, 3.0, "reflect")
    across = gaussian_matrix(2 * width, sigma * width, 3.0, "reflect")
    return both_sides(draw, down, across) * (strength * height)


def _skewed(rows: Tensor, columns: Tensor, seeds: Tensor, skew: float) -> tuple[Tensor, Tensor]:
    """Where the places were before a random affine map that moves three points by up to ``skew`` of the side."""
    height, width = rows.shape[-2:]
    side = min(height, width) // 3
    middle = torch.tensor((height // 2, width // 2), dtype=torch.float32, device=rows.device)
    corners = torch.tensor(((side, side), (side, -side), (-side, -side)), dtype=torch.float32, device=rows.device)
    before = middle + corners
    after = before + skew * height * (2 * uniform(seeds, (3, 2), 36) - 1)
    ones = torch.ones(len(seeds), 3, 1, device=rows.device)
    back = torch.linalg.solve(torch.cat((after, ones), dim=2), before.expand(len(seeds), 3, 2))
    across, down = (back[:, :, axis, None, None] for axis in (0, 1))
    x, y = columns, rows
    return down[:, 0] * x + down[:, 1] * y + down[:, 2], across[:, 0] * x + across[:, 1] * y + across[:, 2]
