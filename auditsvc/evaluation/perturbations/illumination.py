"""Illumination and sensor models, computed in linear light.

Stored images are sRGB.  Every disturbance converts to linear light first, works in physical units (stops, kelvin,
electrons), clips where a sensor would, and converts back.  All functions take ``images (N, C, H, W)`` in 0..1 and
``seeds (N,)`` and return images of the same shape.

Reference: IEC 61966-2-1:1999 (sRGB); EMVA 1288 (sensor noise); B. Kim et al. (2002), US 7024034 (chromaticity of
black bodies, 1667 to 25000 K); K. Lam (1985), "Metamerism and colour constancy" (the Bradford transform).
"""

from __future__ import annotations

import torch
from torch import Tensor

from auditsvc.evaluation.randomness import normal, poisson, uniform

DAYLIGHT = 6504.0
"""Kelvin of the light that stored images are balanced for."""

_XYZ = torch.tensor(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]],
    dtype=torch.float64,
)
_BRADFORD = torch.tensor(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]], dtype=torch.float64
)


def to_linear(images: Tensor) -> Tensor:
    """sRGB values in 0..1 to linear light in 0..1."""
    return torch.where(images <= 0.04045, images / 12.92, ((images + 0.055) / 1.055) ** 2.4)


def to_srgb(light: Tensor) -> Tensor:
    """Linear light in 0..1 to sRGB values in 0..1."""
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light.clamp(min=1e-12) ** (1 / 2.4) - 0.055)


def expose(images: Tensor, _seeds: Tensor, *, stops: float) -> Tensor:
    """The same scene exposed by ``stops`` more (or less); one stop is a factor of two."""
    return to_srgb((to_linear(images) * 2.0**stops).clamp(0, 1))


def bend(images: Tensor, _seeds: Tensor, *, gamma: float) -> Tensor:
    """A display or a camera curve that is off: stored values to the power of ``gamma``."""
    return images.clamp(0, 1) ** gamma


def dim(
    images: Tensor, seeds: Tensor, *, stops: float, full_well: float, read_noise: float, regain: bool = True
) -> Tensor:
    """A scene at an exposure changed by ``stops`` (negative is darker), on a sensor that counts electrons.

    ``full_well`` electrons are white; photons arrive by Poisson's law, reading adds ``read_noise`` electrons (rms).
    With ``regain`` the camera amplifies back to the old brightness, and the noise with it.
    """
    electrons = to_linear(images) * (full_well * 2.0**stops)
    counted = poisson(seeds, electrons, 0) + read_noise * normal(seeds, images.shape[1:], 1)
    gain = full_well * (2.0**stops if regain else 1.0)
    return to_srgb((counted / gain).clamp(0, 1))


def white_of(kelvin: float) -> Tensor:
    """The XYZ of a black body of this temperature, with Y = 1."""
    inverse = 1e3 / kelvin
    if kelvin <= 4000:
        x = -0.2661239 * inverse**3 - 0.2343589 * inverse**2 + 0.8776956 * inverse + 0.179910
    else:
        x = -3.0258469 * inverse**3 + 2.1070379 * inverse**2 + 0.2226347 * inverse + 0.240390
    if kelvin <= 2222:
        y = -1.1063814 * x**3 - 1.34811020 * x**2 + 2.18555832 * x - 0.20219683
    elif kelvin <= 4000:
        y = -0.9549476 * x**3 - 1.37418593 * x**2 + 2.09137015 * x - 0.16748867
    else:
        y = 3.0817580 * x**3 - 5.87338670 * x**2 + 3.75112997 * x - 0.37001483
    return torch.tensor([x / y, 1.0, (1 - x - y) / y], dtype=torch.float64)


def tint_matrix(kelvin: float) -> Tensor:
    """``(3, 3)`` on linear RGB: daylight replaced by a lamp of ``kelvin``, the camera not rebalanced."""
    cones = _BRADFORD @ white_of(kelvin) / (_BRADFORD @ white_of(DAYLIGHT))
    adapt = torch.linalg.inv(_BRADFORD) @ torch.diag(cones) @ _BRADFORD
    matrix: Tensor = torch.linalg.inv(_XYZ) @ adapt @ _XYZ
    return matrix


def tint(images: Tensor, _seeds: Tensor, *, kelvin: float) -> Tensor:
    """The scene under a lamp of this colour temperature; images without three channels have no colour to change."""
    if images.shape[1] != 3:
        return images
    matrix = tint_matrix(kelvin).to(images)
    return to_srgb(torch.einsum("dc,nchw->ndhw", matrix, to_linear(images)).clamp(0, 1))


def _across(images: Tensor, seeds: Tensor, stream: int) -> Tensor:
    """``(N, 1, H, W)``: signed distance from a random line through the middle part, in half diagonals."""
    height, width = images.shape[-2:]
    draw = uniform(seeds, (2,), stream)
    angle, offset = 2 * torch.pi * draw[:, 0], 0.6 * (draw[:, 1] - 0.5)
    rows = torch.linspace(-1, 1, height, device=images.device)[None, :, None]
    columns = torch.linspace(-1, 1, width, device=images.device)[None, None, :]
    along = torch.cos(angle)[:, None, None] * columns + torch.sin(angle)[:, None, None] * rows
    return (along - offset[:, None, None])[:, None]


def shadow(images: Tensor, seeds: Tensor, *, stops: float, penumbra: float) -> Tensor:
    """A shadow over one side: ``stops`` less light there, its edge ``penumbra`` of the image's width wide."""
    depth = torch.sigmoid(_across(images, seeds, 2) * (4 / max(2 * penumbra, 1e-6)))
    return to_srgb(to_linear(images) * 2.0 ** (-abs(stops) * depth))


def slope(images: Tensor, seeds: Tensor, *, stops: float) -> Tensor:
    """Uneven light: it falls by ``stops`` from one side of the image to the other, in a random direction."""
    depth = (_across(images, seeds, 3) / 2 + 0.5).clamp(0, 1)
    return to_srgb(to_linear(images) * 2.0 ** (-abs(stops) * depth))


def glare(images: Tensor, seeds: Tensor, *, peak: float, area: float) -> Tensor:
    """A mirror image of a lamp: an ellipse of light, ``peak`` times white in its middle, on ``area`` of the image."""
    height, width = images.shape[-2:]
    draw = uniform(seeds, (4,), 4)[:, :, None, None]
    stretch = 2.0 ** (draw[:, 2] - 0.5)
    size = (area * height * width / torch.pi) ** 0.5
    rows = torch.arange(height, device=images.device)[None, :, None] + 0.5 - draw[:, 0] * height
    columns = torch.arange(width, device=images.device)[None, None, :] + 0.5 - draw[:, 1] * width
    angle = torch.pi * draw[:, 3]
    along = torch.cos(angle) * columns + torch.sin(angle) * rows
    aside = torch.cos(angle) * rows - torch.sin(angle) * columns
    spot = peak * torch.exp(-((along / stretch) ** 2 + (aside * stretch) ** 2) / size**2)
    return to_srgb((to_linear(images) + spot[:, None]).clamp(0, 1))


def backlight(images: Tensor, _seeds: Tensor, *, stops: float, veil: float) -> Tensor:
    """Light from behind: the middle ``stops`` darker, the surround as much brighter, and a share of stray light."""
    height, width = images.shape[-2:]
    rows = torch.linspace(-1, 1, height, device=images.device)[:, None]
    columns = torch.linspace(-1, 1, width, device=images.device)[None, :]
    outside = torch.sigmoid(8 * ((rows**2 + columns**2).sqrt() - 0.7))
    light = to_linear(images) * 2.0 ** (abs(stops) * (2 * outside - 1))
    return to_srgb(((1 - veil) * light + veil).clamp(0, 1))


def flicker(images: Tensor, seeds: Tensor, *, depth: float, periods: float) -> Tensor:
    """A lamp on alternating current under a rolling shutter: rows brighter and darker by ``depth``."""
    height = images.shape[-2]
    phase = 2 * torch.pi * uniform(seeds, (1,), 6)
    row = torch.linspace(0, 2 * torch.pi * periods, height, device=images.device)
    gain = 1 + depth * torch.sin(row[None, :] + phase)
    return to_srgb((to_linear(images) * gain[:, None, :, None]).clamp(0, 1))
