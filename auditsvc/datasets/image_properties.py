"""Image properties measured from pixels: light, contrast, sharpness, colour, and size and position of the object.

They make slices without annotation: pruning often harms dark or blurred images first.  All are computed from stored
sRGB values, so they rank the images of one data set and are not photometric.  Size and position are those of the
region that differs in brightness from the image's border: exact for an object on a plain background, else estimated.

References: D. Hasler and S. Suesstrunk (2003), "Measuring Colorfulness in Natural Images",
doi:10.1117/12.477378; J. L. Pech-Pacheco et al. (2000), "Diatom autofocusing in brightfield microscopy",
doi:10.1109/ICPR.2000.903548 (the variance of the Laplacian).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from auditsvc.datasets.dataset import Dataset
from auditsvc.datasets.prediction_table import PredictedDataset
from auditsvc.errors import InvalidInput

_LUMA = (0.2126, 0.7152, 0.0722)
_LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))


def luma(images: Tensor) -> Tensor:
    """``(N, C, H, W)`` in 0..1 to ``(N, H, W)``: Rec. 709 weights, or the one channel that there is."""
    if images.shape[1] != 3:
        return images.mean(dim=1)
    return (images * images.new_tensor(_LUMA)[:, None, None]).sum(dim=1)


def brightness(images: Tensor) -> Tensor:
    """``(N,)``: the mean luma."""
    return luma(images).mean(dim=(1, 2))


def contrast(images: Tensor) -> Tensor:
    """``(N,)``: the standard deviation of the luma (RMS contrast)."""
    return luma(images).std(dim=(1, 2), correction=0)


def sharpness(images: Tensor) -> Tensor:
    """``(N,)``: the variance of the luma's Laplacian."""
    kernel = images.new_tensor(_LAPLACIAN)[None, None]
    return functional.conv2d(luma(images)[:, None], kernel).var(dim=(1, 2, 3), correction=0)


def colourfulness(images: Tensor) -> Tensor:
    """``(N,)``: Hasler and Suesstrunk's M3 on the 0..1 scale; 0 for grey images."""
    if images.shape[1] != 3:
        return images.new_zeros(len(images))
    red, green, blue = images.unbind(dim=1)
    one, other = red - green, (red + green) / 2 - blue
    spread = (one.var(dim=(1, 2), correction=0) + other.var(dim=(1, 2), correction=0)).sqrt()
    centre = (one.mean(dim=(1, 2)) ** 2 + other.mean(dim=(1, 2)) ** 2).sqrt()
    return spread + 0.3 * centre


def _salience(images: Tensor) -> Tensor:
    """``(N, H, W)``: how far each pixel's luma is from the mean of the image's border, as a fraction of their sum."""
    found = luma(images)
    edge = torch.cat((found[:, 0], found[:, -1], found[:, :, 0], found[:, :, -1]), dim=1).mean(dim=1)
    away = (found - edge[:, None, None]).abs()
    return away / away.sum(dim=(1, 2), keepdim=True).clamp_min(1e-9)


def _from_centre(images: Tensor) -> tuple[Tensor, Tensor]:
    """``(H, 1)`` and ``(1, W)``: places from -1 to 1 along each side."""
    height, width = images.shape[-2:]
    rows = torch.linspace(-1, 1, height, device=images.device)[:, None]
    return rows, torch.linspace(-1, 1, width, device=images.device)[None]


def size(images: Tensor) -> Tensor:
    """``(N,)``: the spread of the salient region, as a share of the image's half diagonal."""
    salience, (rows, columns) = _salience(images), _from_centre(images)
    middle_row = (salience * rows).sum(dim=(1, 2), keepdim=True)
    middle_column = (salience * columns).sum(dim=(1, 2), keepdim=True)
    spread = (salience * ((rows - middle_row) ** 2 + (columns - middle_column) ** 2)).sum(dim=(1, 2))
    return (spread / 2).sqrt()


def border(images: Tensor) -> Tensor:
    """``(N,)``: the distance of the salient region's centre from the image's: 0 in the middle, 1 at an edge."""
    salience, (rows, columns) = _salience(images), _from_centre(images)
    down, across = (salience * rows).sum(dim=(1, 2)), (salience * columns).sum(dim=(1, 2))
    return torch.maximum(down.abs(), across.abs())


PROPERTIES: dict[str, Callable[[Tensor], Tensor]] = {
    "brightness": brightness,
    "contrast": contrast,
    "sharpness": sharpness,
    "colourfulness": colourfulness,
    "size": size,
    "border": border,
}


def properties_of(dataset: Dataset, names: Iterable[str]) -> dict[str, NDArray[np.float64]]:
    """These properties of every image, in one pass.

    Raises:
        InvalidInput: a property of another name.
    """
    wanted = tuple(names)
    unknown = [name for name in wanted if name not in PROPERTIES]
    if unknown:
        raise InvalidInput(f"no image property named {', '.join(unknown)}; there are {', '.join(PROPERTIES)}")
    if wanted and isinstance(dataset, PredictedDataset):
        raise InvalidInput("image properties need the images; these are predictions only")
    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in wanted}
    with torch.inference_mode():
        for batch in dataset.batches(64) if wanted else ():
            for name in wanted:
                parts[name].append(PROPERTIES[name](batch.images).double().numpy())
    return {name: np.concatenate(found) for name, found in parts.items()}
