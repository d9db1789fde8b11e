"""The corruptions of ImageNet-C and CIFAR-10-C: 15 for judging and 4 to spare, each at five severities.

Written for batches of tensors; an image's corruption depends on its own seed alone.  Parameters are the authors'
(``tables``).  What does not depend on the image, such as noise, fog or snow, is drawn once into a bank, and every
image takes the window that its seed names.  Frost is the exception to the letter: the authors paste photographs
from the web, which are not ours to ship, so a texture with the photographs' colours and spectrum stands in.

Reference: D. Hendrycks and T. Dietterich (2019), "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", arXiv:1903.12261; C. Michaelis et al. (2019), arXiv:1907.07484 (any image size).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from auditsvc.measuring.corruptions.blur import defocus_blur, gaussian_blur, glass_blur, motion_blur, zoom_blur
from auditsvc.measuring.corruptions.digital import (
    brightness,
    contrast,
    elastic_transform,
    jpeg_compression,
    pixelate,
    saturate,
)
from auditsvc.measuring.corruptions.noise import gaussian_noise, impulse_noise, shot_noise, speckle_noise
from auditsvc.measuring.corruptions.tables import SMALL, TABLES, Corruption, TableName, table_for
from auditsvc.measuring.corruptions.weather import fog, frost, snow, spatter

_WORKS: dict[Corruption, Callable[..., Tensor]] = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "defocus_blur": defocus_blur,
    "glass_blur": glass_blur,
    "motion_blur": motion_blur,
    "zoom_blur": zoom_blur,
    "snow": snow,
    "frost": frost,
    "fog": fog,
    "brightness": brightness,
    "contrast": contrast,
    "elastic_transform": elastic_transform,
    "pixelate": pixelate,
    "jpeg_compression": jpeg_compression,
    "speckle_noise": speckle_noise,
    "gaussian_blur": gaussian_blur,
    "spatter": spatter,
    "saturate": saturate,
}

CORRUPTIONS: tuple[Corruption, ...] = tuple(_WORKS)
"""All 19; the first 15 are those that the mean corruption error is made of."""

JUDGED = CORRUPTIONS[:15]


def corrupt(images: Tensor, seeds: Tensor, *, name: Corruption, severity: int, table: TableName = "auto") -> Tensor:
    """``images`` (N, C, H, W) in 0..1, one or three channels, corrupted at ``severity`` 1 to 5.

    ``auto`` takes the CIFAR parameters for images under 64 pixels and the ImageNet parameters from there on:
    radii are in pixels, so the ImageNet table would wipe a small image out.
    """
    chosen = table_for(images.shape[-1]) if table == "auto" else table
    parameters = TABLES[chosen][name][severity - 1]
    return _WORKS[name](images, seeds, *(parameters if isinstance(parameters, tuple) else (parameters,)))


__all__ = ["CORRUPTIONS", "JUDGED", "SMALL", "TABLES", "Corruption", "TableName", "corrupt", "table_for"]
