"""The corruptions of ImageNet-C and CIFAR-10-C: 15 for evaluation and 4 for validation, each at five severities.

Parameters are those of make_imagenet_c.py and make_cifar_c.py for severity 1 to 5; elastic parameters of ImageNet-C
are fractions of the side.  Corruptions run on batches of tensors, and each depends on the image's own seed alone.
Noise, fog and snow are drawn once from a fixed seed into a bank, from which each image takes the window that its seed
selects: drawing fresh normal numbers would cost more than all else.  Windows of two images may overlap, which no
statistic over images can distinguish from fresh draws at these sizes.  Frost uses a synthetic texture with the colours
and spectrum of the authors' photographs, which cannot be redistributed.

Reference: D. Hendrycks and T. Dietterich (2019), "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", arXiv:1903.12261; C. Michaelis et al. (2019), arXiv:1907.07484 (any image size).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor

from auditsvc.evaluation.perturbations.blur import defocus_blur, gaussian_blur, glass_blur, motion_blur, zoom_blur
from auditsvc.evaluation.perturbations.digital import (
    brightness,
    contrast,
    elastic_transform,
    gaussian_noise,
    impulse_noise,
    jpeg_compression,
    pixelate,
    saturate,
    shot_noise,
    speckle_noise,
)
from auditsvc.evaluation.perturbations.weather import fog, frost, snow, spatter

TableName = Literal["auto", "imagenet", "cifar"]
Corruption = Literal[
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression", "speckle_noise",
    "gaussian_blur", "spatter", "saturate",
]  # fmt: skip

SMALL = 64
"""Images narrower than this get the CIFAR parameters."""


def table_for(width: int) -> Literal["imagenet", "cifar"]:
    """The table that fits images of this width."""
    return "cifar" if width < SMALL else "imagenet"


TABLES: dict[str, dict[str, tuple[Any, ...]]] = {
    "imagenet": {
        "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),
        "shot_noise": (60, 25, 12, 5, 3),
        "impulse_noise": (0.03, 0.06, 0.09, 0.17, 0.27),
        "speckle_noise": (0.15, 0.2, 0.35, 0.45, 0.6),
        "gaussian_blur": (1, 2, 3, 4, 6),
        "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        "zoom_blur": ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
        "fog": ((1.5, 2), (2.0, 2), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)),
        "frost": ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
        "snow": (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8), (0.2, 0.3, 2, 0.5, 12, 4, 0.7), (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65), (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        "spatter": (
            (0.65, 0.3, 4, 0.69, 0.6, 0), (0.65, 0.3, 3, 0.68, 0.6, 0), (0.65, 0.3, 2, 0.68, 0.5, 0),
            (0.65, 0.3, 1, 0.65, 1.5, 1), (0.67, 0.4, 1, 0.65, 1.5, 1),
        ),
        "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
        "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
        "saturate": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
        "jpeg_compression": (25, 18, 15, 10, 7),
        "pixelate": ((0.6, False), (0.5, False), (0.4, False), (0.3, False), (0.25, False)),
        "elastic_transform": tuple(
            (share, 0.01, 0.0) for share in (0.0625, 0.08125, 0.10625, 0.125, 0.15)
        ),
    },
    "cifar": {
        "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
        "shot_noise": (500, 250, 100, 75, 50),
        "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),
        "speckle_noise": (0.06, 0.1, 0.12, 0.16, 0.2),
        "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1),
        "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        "zoom_blur": ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        "snow": (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9), (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85), (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        "spatter": (
            (0.62, 0.1, 0.7, 0.7, 0.5, 0), (0.65, 0.1, 0.8, 0.7, 0.5, 0), (0.65, 0.3, 1, 0.69, 0.5, 0),
            (0.65, 0.1, 0.7, 0.69, 0.6, 1), (0.65, 0.1, 0.5, 0.68, 0.6, 1),
        ),
        "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
        "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
        "saturate": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
        "jpeg_compression": (80, 65, 58, 50, 40),
        "pixelate": ((0.95, True), (0.9, True), (0.85, True), (0.75, True), (0.65, True)),
        "elastic_transform": (
            (0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)
        ),
    },
}  # fmt: skip

EXACT: dict[str, float] = {
    "defocus_blur": 0.05,
    "zoom_blur": 0.05,
    "brightness": 0.05,
    "contrast": 0.05,
    "pixelate": 0.05,
    "jpeg_compression": 0.05,
    "gaussian_blur": 0.05,
    "saturate": 0.05,
}
"""Corruptions without chance: the mean difference to the authors' code, in 1/255, before they cut to whole bytes."""

ALIKE: dict[str, float] = {
    "gaussian_noise": 0.02,
    "shot_noise": 0.02,
    "impulse_noise": 0.03,
    "speckle_noise": 0.02,
    "glass_blur": 0.03,
    "motion_blur": 0.03,
    "elastic_transform": 0.03,
    "snow": 0.08,
    "fog": 0.12,
    "frost": 0.12,
    "spatter": 0.10,
}
"""Random corruptions: by what share the mean and the spread of the change that they make may differ from the
authors' code over some hundred images.  Fog, frost and snow vary much from image to image; frost is synthetic."""


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
