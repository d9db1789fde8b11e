"""Weather: fog, frost, snow, and spatter of rain or mud."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from auditsvc.evaluation.perturbations.blur import both_sides, gaussian_matrix, moved, zoomed
from auditsvc.evaluation.perturbations.noise_bank import layer_seeds, sheets
from auditsvc.evaluation.randomness import normal, uniform


def _layers(height: int, width: int) -> int:
    """How many sheets of weather are made: more of small ones, which hold less of it each."""
    return 256 if height * width <= 4096 else 32


_FROST_MEAN = ((78, 149, 166), (201, 205, 215), (201, 205, 215), (138, 153, 165), (112, 123, 135), (71, 95, 105))
_FROST_SPREAD = ((27, 17, 15), (21, 22, 23), (21, 22, 23), (29, 29, 30), (44, 43, 42), (35, 43, 47))
_FROST_SLOPE = -1.65
"""Colours (of 255) and fall of power with frequency, measured on the authors' six photographs."""


def fog(images: Tensor, seeds: Tensor, amount: float, decay: float) -> Tensor:
    """A cloud of light over the image, ``amount`` times white at its densest, dimmed back to the old maximum."""
    height, width = images.shape[-2:]
    with torch.inference_mode(mode=False):
        clouds = _clouds(1 << (max(height, width) - 1).bit_length(), decay).to(images.device)
    brightest = images.amax(dim=(1, 2, 3), keepdim=True)
    cloud = sheets(clouds, seeds, height, width, 22)[:, None] * amount
    return (images + cloud).mul_(brightest / (brightest + amount)).clamp_(0, 1)


@lru_cache(maxsize=8)
def _clouds(size: int, decay: float) -> Tensor:
    """``(K, 2 size - 1, 2 size - 1)``: diamond-square clouds, which continue across their edges, laid side by side.

    Reference: A. Fournier, D. Fussell and L. Carpenter (1982), doi:10.1145/358523.358553.
    """
    layers = _layers(size, size)
    seeds = layer_seeds(f"fog {size} {decay}", layers)
    sheet = torch.zeros(layers, size, size, dtype=torch.float64)
    step, wobble, stream = size, 100.0, 40

    def moved_mean(total: Tensor) -> Tensor:
        nonlocal stream
        stream += 1
        draw = 2 * uniform(seeds, total.shape[1:], stream).double() - 1
        return total / 4 + wobble * wobble * draw

    while step >= 2:
        half = step // 2
        corners = sheet[:, ::step, ::step]
        total = corners + corners.roll(-1, 1)
        sheet[:, half::step, half::step] = moved_mean(total + total.roll(-1, 2))
        middles, corners = sheet[:, half::step, half::step], sheet[:, ::step, ::step]
        sheet[:, ::step, half::step] = moved_mean(middles + middles.roll(1, 1) + corners + corners.roll(-1, 2))
        sheet[:, half::step, ::step] = moved_mean(middles + middles.roll(1, 2) + corners + corners.roll(-1, 1))
        step, wobble = half, wobble / decay
    low, high = sheet.amin(dim=(1, 2), keepdim=True), sheet.amax(dim=(1, 2), keepdim=True)
    sheet = ((sheet - low) / (high - low)).float()
    return sheet.tile(1, 2, 2)[:, :-1, :-1].contiguous()


def frost(images: Tensor, seeds: Tensor, keep: float, cover: float) -> Tensor:
    """Ice on the lens: ``keep`` of the image and ``cover`` of a texture."""
    height, width = images.shape[-2:]
    with torch.inference_mode(mode=False):
        ice = _ice(512 if max(height, width) <= 512 else 2048).to(images.device)
    kind = (uniform(seeds, (), 24) * len(_FROST_MEAN)).long()
    field = sheets(ice, seeds, height, width, 25)[:, None]
    mean = torch.tensor(_FROST_MEAN, device=images.device)[kind][:, :, None, None] / 255
    spread = torch.tensor(_FROST_SPREAD, device=images.device)[kind][:, :, None, None] / 255
    if images.shape[1] != 3:
        mean, spread = mean.mean(dim=1, keepdim=True), spread.mean(dim=1, keepdim=True)
    return (field * (cover * spread)).add_(cover * mean).add_(images, alpha=keep).clamp_(0, 1)


@lru_cache(maxsize=2)
def _ice(size: int) -> Tensor:
    """``(4, size, size)``: fields of mean 0 and spread 1 whose power falls with frequency as the photographs' does."""
    noise = normal(layer_seeds("frost", 4), (size, size), 26).double()
    down, across = torch.fft.fftfreq(size).double(), torch.fft.rfftfreq(size).double()
    frequency = (down[:, None] ** 2 + across[None, :] ** 2).sqrt()
    frequency[0, 0] = torch.inf
    field = torch.fft.irfft2(torch.fft.rfft2(noise) * frequency ** (_FROST_SLOPE / 2), s=(size, size))
    field = field - field.mean(dim=(1, 2), keepdim=True)
    evened: Tensor = field / field.std(dim=(1, 2), keepdim=True)
    return evened.clamp(-2.5, 2.5).float()


def snow(
    images: Tensor, seeds: Tensor, mean: float, spread: float, zoom: float, least: float, radius: float,
    sigma: float, keep: float,
) -> Tensor:  # fmt: skip
    """Flakes that fall in streaks, over an image that is whitened to ``1 - keep``."""
    height, width = images.shape[-2:]
    with torch.inference_mode(mode=False):
        layers = _flakes(height, width, mean, spread, zoom, least, radius, sigma).to(images.device)
    flakes = sheets(layers, seeds, height, width, 27)[:, None]
    return _whitened(images, keep).add_(flakes).add_(flakes.flip((2, 3))).clamp_(0, 1)


def _whitened(images: Tensor, keep: float) -> Tensor:
    """The image, lightened towards white where it is dark: what a snowy day does to colours."""
    if images.shape[1] == 3:
        weights = torch.tensor((0.299, 0.587, 0.114), device=images.device)
        grey = torch.einsum("c,nchw->nhw", weights, images)[:, None]
    else:
        grey = images
    return torch.maximum(images, grey * 1.5 + 0.5).mul_(1 - keep).add_(images, alpha=keep)


@lru_cache(maxsize=8)
def _flakes(
    height: int, width: int, mean: float, spread: float, zoom: float, least: float, radius: float, sigma: float
) -> Tensor:
    """``(K, 2 H, 2 W)``: layers of flakes, each falling in a direction of its own."""
    seeds = layer_seeds(f"snow {mean} {spread} {zoom}", _layers(height, width))
    layer = mean + spread * normal(seeds, (1, 2 * height, 2 * width), 28)
    layer = zoomed(layer, zoom)
    layer = torch.where(layer < least, torch.zeros_like(layer), layer.clamp(0, 1))
    streaks = moved(layer, -135 + 90 * uniform(seeds, (), 29), radius, sigma)
    return ((streaks * 255).round_() / 255)[:, 0].contiguous()


def spatter(
    images: Tensor, seeds: Tensor, mean: float, spread: float, blur: float, least: float, strength: float, mud: int
) -> Tensor:
    """Drops of water that add a pale gleam, or of mud that cover."""
    height, width = images.shape[-2:]
    with torch.inference_mode(mode=False):
        drops = _drops(height, width, mean, spread, blur, least, strength, mud).to(images.device)
    cover = sheets(drops, seeds, height, width, 31)[:, None]
    colour = torch.tensor((63, 42, 20) if mud else (175, 238, 238), device=images.device) / 255
    if images.shape[1] != 3:
        colour = (colour * torch.tensor((0.2989, 0.5870, 0.1140), device=images.device)).sum(0, keepdim=True)
    tint = cover * colour[:, None, None]
    return (images * (1 - cover) + tint if mud else images + tint).clamp_(0, 1)


@lru_cache(maxsize=8)
def _drops(
    height: int, width: int, mean: float, spread: float, blur: float, least: float, strength: float, mud: int
) -> Tensor:
    """``(K, H, W)``: how much each pixel is covered, 0..1."""
    seeds = layer_seeds(f"spatter {mean} {spread} {blur}", _layers(height, width))
    liquid = mean + spread * normal(seeds, (height, width), 32)
    liquid = both_sides(liquid, gaussian_matrix(height, blur), gaussian_matrix(width, blur))
    wet = liquid >= least
    if mud:
        soft = wet.float()
        soft = both_sides(soft, gaussian_matrix(height, strength), gaussian_matrix(width, strength))
        return torch.where(soft < 0.8, torch.zeros_like(soft), soft)
    shine = [_shine(layer) for layer in torch.where(wet, liquid, torch.zeros_like(liquid)).cpu().numpy()]
    return torch.from_numpy(np.stack(shine).astype(np.float32) * strength)


def _shine(liquid: NDArray[np.float32]) -> NDArray[np.float64]:
    """The gleam of one layer of water, at most 1: bright where the relief of the distance to the rim rises."""
    bytes_of = (liquid * 255).astype(np.uint8)
    rim = _rim(bytes_of.astype(np.float64))
    distance = np.minimum(ndimage.distance_transform_edt(~rim), 20) if rim.any() else np.full(rim.shape, 20.0)
    smooth = np.floor(ndimage.uniform_filter(distance, 3, mode="mirror") + 1e-6).astype(np.uint8)
    counts = np.bincount(smooth.ravel(), minlength=256)
    first = counts[np.flatnonzero(counts)[0]]
    levels = (np.cumsum(counts) - first) / max(smooth.size - first, 1) * 255
    evened = np.round(levels)[smooth]
    relief = ndimage.correlate(evened, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]), mode="mirror").clip(0, 255)
    gleam = bytes_of * ndimage.uniform_filter(relief, 3, mode="mirror")
    return np.asarray(gleam / max(float(gleam.max()), 1e-9))


def _rim(liquid: NDArray[np.float64], weak: float = 50, strong: float = 150) -> NDArray[np.bool_]:
    """Canny's edges of one layer in 0..255, as the authors' library finds them without a blur of its own.

    Reference: J. Canny (1986), doi:10.1109/TPAMI.1986.4767851.
    """
    across, down = ndimage.sobel(liquid, 1, mode="nearest"), ndimage.sobel(liquid, 0, mode="nearest")
    steep = np.abs(across) + np.abs(down)
    height, width = steep.shape
    around = np.pad(steep, 1)

    def beside(row: int, column: int) -> NDArray[np.float64]:
        return around[1 + row : 1 + row + height, 1 + column : 1 + column + width]

    flat, level = np.abs(down), np.abs(across)
    low, high = np.tan(np.pi / 8), np.tan(3 * np.pi / 8)
    ridge = np.select(
        [flat < level * low, flat > level * high, across * down >= 0],
        [
            (steep > beside(0, -1)) & (steep >= beside(0, 1)),
            (steep > beside(-1, 0)) & (steep >= beside(1, 0)),
            (steep > beside(-1, -1)) & (steep > beside(1, 1)),
        ],
        (steep > beside(-1, 1)) & (steep > beside(1, -1)),
    )
    labels, _ = ndimage.label(ridge & (steep > weak), np.ones((3, 3)))
    firm = np.unique(labels[ridge & (steep > strong)])
    return np.isin(labels, firm[firm > 0])
