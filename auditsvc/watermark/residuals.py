"""What one layer of a suspect has that the original hasn't."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditsvc.watermark.statistics import HARD_CLIP, Floats

FIT_STEPS = 8
"""Alternating least-squares steps for the scales of output and input channels."""


@dataclass(frozen=True)
class Residual:
    """What one layer of the suspect has that the original hasn't, in units of the filter's own size.

    All arrays are flat, over the weights that are alive in both; ``places`` are their positions in the layer.
    """

    layer: str
    size: int
    places: NDArray[np.int64]
    filters: NDArray[np.int64]
    values: NDArray[np.float32]
    blind: NDArray[np.float32]
    likeness: Floats
    """For each filter, its absolute cosine with the original."""


def residual(name: str, suspect: NDArray[np.float32], original: NDArray[np.float32]) -> Residual:
    """The residual of one layer after the best scale for each output and input channel, signs included."""
    filters, channels = original.shape[0], original.shape[1]
    ours = original.reshape(filters, channels, -1).astype(np.float64)
    theirs = suspect.reshape(filters, channels, -1).astype(np.float64)
    alive = (ours != 0) & (theirs != 0)
    ours, theirs = ours * alive, theirs * alive
    rows, columns = fit_scales(theirs, ours)
    scale = rows[:, None, None] * columns[None, :, None]
    full = original.reshape(filters, -1).astype(np.float64)
    sizes = np.sqrt((full**2).sum(1) / np.maximum((full != 0).sum(1), 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        values = (theirs / scale - ours) / sizes[:, None, None]
        theirs_size = np.sqrt((theirs**2).sum((1, 2)) / np.maximum(alive.sum((1, 2)), 1))
        blind = np.clip(theirs / theirs_size[:, None, None], -HARD_CLIP, HARD_CLIP)
        fitted = ours * scale
        cosine = np.abs((theirs * fitted).sum((1, 2))) / np.sqrt((theirs**2).sum((1, 2)) * (fitted**2).sum((1, 2)))
    usable = alive & np.isfinite(values)
    places = np.flatnonzero(usable)
    return Residual(
        layer=name,
        size=original.size,
        places=places,
        filters=places // max(ours[0].size, 1),
        values=values.reshape(-1)[places].astype(np.float32),
        blind=blind.reshape(-1)[places].astype(np.float32),
        likeness=np.nan_to_num(cosine[alive.any((1, 2))]),
    )


def fit_scales(suspect: Floats, original: Floats) -> tuple[Floats, Floats]:
    """Scales ``a`` of filters and ``b`` of channels for which ``suspect`` is nearest to ``a * b * original``.

    Both are ``(filters, channels, weights)``.  Scales can be negative: a flipped sign is undone too.
    """
    products, squares = (suspect * original).sum(2), (original**2).sum(2)
    columns = np.ones(original.shape[1])
    rows = np.ones(original.shape[0])
    for step in range(FIT_STEPS):
        rows = _ratio(products @ columns, squares @ columns**2)
        if step + 1 < FIT_STEPS:
            columns = _ratio(rows @ products, rows**2 @ squares)
    return rows, columns


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.ones_like(above), where=below > 0)
