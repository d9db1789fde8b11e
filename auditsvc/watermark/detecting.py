"""Look for a mark in a model: the exact test against the stored original.

Nothing here needs the images or the gradients that the mark was made with: the seed, the unmarked
weights and the suspect are enough, so anybody who is shown these three can repeat it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from auditsvc.records import Digest
from auditsvc.watermark.keys import SLOTS, Payload, all_subkeys, carrier, require_bound
from auditsvc.watermark.statistics import HARD_CLIP, Floats, evened, log10_p

FIT_STEPS = 4
"""Alternating least-squares steps for the scales of output and input channels."""


@dataclass(frozen=True)
class Detection:
    """How strongly a suspect carries one key's mark.

    ``log10_p`` bounds the chance that the key has nothing to do with the suspect.  ``blind_z`` is the same
    test without the original: it is reported, and nothing depends on it.  ``lineage`` is the mean absolute
    cosine of corresponding filters: near 1 for relatives, near 0.1 for strangers; it uses no key.
    """

    z: float
    log10_p: float
    blind_z: float
    bits_matched: int
    bits_total: int
    coordinates: int
    aligned: bool
    lineage: float
    message: Payload | None = None
    """The message that was read, where its check sum fits."""


def detect(
    suspect: Mapping[str, Tensor],
    unmarked_weights: Mapping[str, Tensor],
    *,
    seed: bytes,
    unmarked: Digest,
    payload: Payload | None,
) -> Detection:
    """Test a suspect for the mark of ``seed``.

    Without ``payload`` the message is read from the suspect, and ``p`` pays for the 2**64 messages that it
    might have been.

    Raises:
        InvalidInput: ``unmarked`` is not the digest of ``unmarked_weights``.
    """
    require_bound(unmarked_weights, unmarked)
    return judge(residuals_of(suspect, unmarked_weights), all_subkeys(seed), unmarked, payload)


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


def carries(name: str, weight: Tensor) -> bool:
    """Whether this tensor of an unmarked model may carry a mark: a weight of two or four dimensions."""
    return name.rpartition(".")[2] == "weight" and weight.dim() in (2, 4) and weight.is_floating_point()


def residuals_of(suspect: Mapping[str, Tensor], original: Mapping[str, Tensor]) -> list[Residual]:
    """The residual of each layer that both have, under the same name and in the same shape."""
    found = []
    for name, weight in original.items():
        other = suspect.get(name)
        if carries(name, weight) and other is not None and other.shape == weight.shape:
            found.append(residual(name, other.float().numpy(force=True), weight.float().numpy(force=True)))
    return [one for one in found if len(one.places)]


def residual(name: str, suspect: NDArray[np.float32], original: NDArray[np.float32]) -> Residual:
    """The residual of one layer after the best scale for each output and input channel, signs included."""
    filters, channels = original.shape[0], original.shape[1]
    ours = original.reshape(filters, channels, -1).astype(np.float64)
    theirs = np.nan_to_num(suspect.reshape(filters, channels, -1).astype(np.float64), posinf=0.0, neginf=0.0)
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


def judge(
    residuals: list[Residual],
    subkeys: Mapping[int, bytes],
    unmarked: Digest,
    payload: Payload | None,
    *,
    aligned: bool = False,
) -> Detection:
    """The test itself, over the weights that belong to these sub-keys."""
    even = evened([one.values for one in residuals], [one.filters for one in residuals])
    totals, blind_totals = np.zeros(SLOTS), np.zeros(SLOTS)
    squares = blind_squares = 0.0
    used = 0
    for one, values in zip(residuals, even, strict=True):
        key = carrier(subkeys, unmarked, one.layer, one.size)
        signs, slots = key.signs[one.places].astype(np.float64), key.slots[one.places]
        mine = signs != 0
        totals += np.bincount(slots, values * signs, SLOTS)
        blind_totals += np.bincount(slots, one.blind * signs, SLOTS)
        squares += float(np.square(values[mine]).sum())
        blind_squares += float(np.square(one.blind[mine], dtype=np.float64).sum())
        used += int(mine.sum())
    read = np.where(totals < 0, -1.0, 1.0)
    message = Payload.from_signs(read) if squares else None
    expected = payload.signs.astype(np.float64) if payload else read
    z = float(totals @ expected) / squares**0.5 if squares else 0.0
    blind_z = float(blind_totals @ expected) / blind_squares**0.5 if blind_squares else 0.0
    known = payload or message
    matched = int((read == known.signs).sum()) if known and squares else 0
    likeness = np.concatenate([one.likeness for one in residuals]) if residuals else np.zeros(1)
    return Detection(
        z=z,
        log10_p=log10_p(z, 1.0 if payload else 2.0**SLOTS),
        blind_z=blind_z,
        bits_matched=matched,
        bits_total=SLOTS,
        coordinates=used,
        aligned=aligned,
        lineage=float(likeness.mean()),
        message=message,
    )
