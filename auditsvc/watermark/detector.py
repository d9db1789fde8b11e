"""Watermark detection: the exact test of a suspect against the stored original.

The seed, the unmarked weights and the suspect suffice, so anyone with these three can repeat the test; neither images
nor gradients are needed.  A suspect is compared as it is and with its channels aligned (``alignment``), and the
comparison in which the filters resemble the original's more is tested.  That choice does not use the key, so it does
not affect ``p``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from auditsvc.records import Digest, Mark
from auditsvc.watermark.alignment import align
from auditsvc.watermark.channel_graph import ChannelGraph
from auditsvc.watermark.significance import Floats, Residual, log10_p, normalize_residuals, residual
from auditsvc.watermark.suspect_loader import renamed
from auditsvc.watermark.watermark_keys import (
    SLOTS,
    Payload,
    Reveal,
    all_subkeys,
    carrier,
    require_bound,
    require_revealed,
)


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
    wiring: ChannelGraph | None = None,
) -> Detection:
    """Test a suspect for the mark of ``seed``.

    With the unmarked model's ``wiring`` (see ``trace_channels``) a suspect is found whose channels were renumbered,
    scaled, flipped or removed; without it only layers of unchanged shape are compared, in unchanged order.
    Without ``payload`` the message is read from the suspect, and ``p`` pays for the 2**64 messages that it
    might have been.

    Raises:
        InvalidInput: ``unmarked`` is not the digest of ``unmarked_weights``.
    """
    require_bound(unmarked_weights, unmarked)
    return compare(suspect, unmarked_weights, wiring).judge(all_subkeys(seed), unmarked, payload)


def verify_reveal(
    suspect: Mapping[str, Tensor],
    unmarked_weights: Mapping[str, Tensor],
    *,
    reveal: Reveal,
    mark: Mark,
    payload: Payload,
    wiring: ChannelGraph | None = None,
) -> Detection:
    """The same test with one sub-key of sixteen, as an arbiter runs it: against the mark that was published.

    Raises:
        InvalidInput: a sub-key that the mark does not commit to, or weights other than the mark's unmarked ones.
    """
    require_bound(unmarked_weights, mark.unmarked)
    require_revealed(reveal, mark.parameters["subkeys_root"])
    comparison = compare(suspect, unmarked_weights, wiring)
    return comparison.judge({reveal.lane: reveal.subkey}, mark.unmarked, payload)


def carries(name: str, weight: Tensor) -> bool:
    """Whether this tensor of an unmarked model may carry a mark: a weight of two or four dimensions."""
    return name.rpartition(".")[2] == "weight" and weight.dim() in (2, 4) and weight.is_floating_point()


Arrays = Mapping[str, NDArray[np.float32]]


def compare(suspect: Mapping[str, Tensor], original: Mapping[str, Tensor], wiring: ChannelGraph | None) -> Comparison:
    """What the suspect has that the original hasn't, in the order of channels that makes them more alike."""
    ours = arrays(original)
    weights = [name for name, weight in original.items() if carries(name, weight)]
    theirs = renamed(arrays(suspect), ours, weights)
    plain = Comparison(residuals_of(theirs, ours, weights), aligned=False)
    if wiring is None:
        return plain
    aligned = Comparison(residuals_of(align(theirs, ours, wiring), ours, weights), aligned=True)
    return aligned if aligned.likeness > 1.001 * plain.likeness else plain


def arrays(weights: Mapping[str, Tensor]) -> dict[str, NDArray[np.float32]]:
    """All floating-point and integer tensors as float32; what is not finite counts as missing, so 0."""
    full = {name: tensor.detach().float().numpy(force=True) for name, tensor in weights.items()}
    return {name: np.nan_to_num(array, posinf=0.0, neginf=0.0) for name, array in full.items()}


def residuals_of(suspect: Arrays, original: Arrays, weights: Sequence[str]) -> list[Residual]:
    """The residual of each layer that both have in the same shape."""
    shared = [name for name in weights if name in suspect and suspect[name].shape == original[name].shape]
    found = [residual(name, suspect[name], original[name]) for name in shared]
    return [one for one in found if len(one.places)]


@dataclass(frozen=True)
class Comparison:
    """All residuals of one suspect against one original; any number of keys can be tested on it."""

    residuals: list[Residual]
    aligned: bool

    @property
    def likeness(self) -> float:
        """The summed likeness of all filters, larger ones counting more; independent of the key."""
        return sum(float(one.likeness.sum()) * one.size / max(len(one.likeness), 1) for one in self.residuals)

    @property
    def lineage(self) -> float:
        """The mean likeness of a filter; 0 where nothing could be compared."""
        likeness = np.concatenate([one.likeness for one in self.residuals]) if self.residuals else np.zeros(1)
        return float(likeness.mean())

    def judge(self, subkeys: Mapping[int, bytes], unmarked: Digest, payload: Payload | None) -> Detection:
        """The test itself, over the weights that belong to these sub-keys."""
        sums = self._sums(subkeys, unmarked)
        read = np.where(sums.totals < 0, -1.0, 1.0)
        message = Payload.from_signs(read) if sums.squares else None
        expected = payload.signs.astype(np.float64) if payload else read
        known = payload or message
        z = _ratio(float(sums.totals @ expected), sums.squares)
        return Detection(
            z=z,
            log10_p=log10_p(z, 1.0 if payload else 2.0**SLOTS),
            blind_z=_ratio(float(sums.blind_totals @ expected), sums.blind_squares),
            bits_matched=int((read == known.signs).sum()) if known and sums.squares else 0,
            bits_total=SLOTS,
            coordinates=sums.used,
            aligned=self.aligned,
            lineage=self.lineage,
            message=message,
        )

    def _sums(self, subkeys: Mapping[int, bytes], unmarked: Digest) -> _Sums:
        even = self._even
        totals, blind_totals = np.zeros(SLOTS), np.zeros(SLOTS)
        squares = blind_squares = 0.0
        used = 0
        for one, values in zip(self.residuals, even, strict=True):
            key = carrier(subkeys, unmarked, one.layer, one.size)
            signs, slots = key.signs[one.places].astype(np.float64), key.slots[one.places]
            mine = signs != 0
            totals += np.bincount(slots, values * signs, SLOTS)
            blind_totals += np.bincount(slots, one.blind * signs, SLOTS)
            squares += float(np.square(values[mine]).sum())
            blind_squares += float(np.square(one.blind[mine], dtype=np.float64).sum())
            used += int(mine.sum())
        return _Sums(totals, squares, blind_totals, blind_squares, used)

    @cached_property
    def _even(self) -> list[Floats]:
        return normalize_residuals([one.values for one in self.residuals], [one.filters for one in self.residuals])


@dataclass(frozen=True)
class _Sums:
    """Correlations by message slot, ``(64,)``, and squared lengths: with the original and without."""

    totals: Floats
    squares: float
    blind_totals: Floats
    blind_squares: float
    used: int


def _ratio(total: float, squares: float) -> float:
    """Standard deviations, to nine digits: the last ones of a sum depend on memory alignment."""
    return float(f"{total / squares**0.5:.9g}") if squares else 0.0
