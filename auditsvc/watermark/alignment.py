"""Alignment of a suspect's channels with the original's: order, magnitude, sign, and missing channels.

Only the suspect and the original are used, never the key, so alignment does not affect ``p``.

Layers are processed in execution order, so the inputs of a layer are already matched; the best one-to-one assignment
of its filters to the original's (Hungarian method) matches its outputs.  The scale of a filter gives the magnitude and
sign of its channel, which is divided out of the layers that read it.  Two more sweeps compare each set of channels in
all layers that write or read it.

Suspects with fewer channels (structured pruning) or more (dummies) are matched as far as possible.  Limits: layers
that were split, merged or inserted are not undone.

Reference: S. Ainsworth et al. (2023), "Git Re-Basin", arXiv:2209.04836; the score of a pair is the likelihood
ratio of "the same filter, scaled, with noise" against "unrelated".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from auditsvc.watermark.channel_graph import ChannelGraph, Norm, Span, Wire

SWEEPS = 2
"""Sweeps over all spaces after the first pass."""

CREDIBLE = 0.3
"""Below this cosine a pair of filters says nothing about the magnitude of its channel."""

Floats = NDArray[np.float64]
Array = NDArray[np.float32]
Arrays = Mapping[str, Array]


def align(suspect: Arrays, original: Arrays, wiring: ChannelGraph) -> dict[str, Array]:
    """The suspect's layers in the original's shapes and order of channels, 0 where a channel is missing.

    Layers that the wiring doesn't know are passed on as they are.
    """
    aligner = _Aligner(suspect, original, wiring)
    aligner.run()
    known = {step.weight for step in wiring.steps if isinstance(step, Wire)}
    rest = {name: array for name, array in suspect.items() if name not in known}
    return rest | {wire.weight: whole for wire in aligner.wires if (whole := aligner.restored(wire)) is not None}


@dataclass
class _Aligner:
    suspect: Arrays
    original: Arrays
    wiring: ChannelGraph
    places: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    """For each space, the suspect's channel for each original one, or -1."""
    factors: dict[int, Floats] = field(default_factory=dict)
    """For each scale, how many times larger the suspect's channel is, by original channel."""
    wires: list[Wire] = field(init=False)
    widths: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        steps = self.wiring.steps
        both = [s for s in steps if isinstance(s, Wire) and s.weight in self.suspect and s.weight in self.original]
        self.widths = {wire.writes.space: len(self.suspect[wire.weight]) for wire in reversed(both)}
        self.widths = self.wiring.sizes | self.widths
        self.wires = [wire for wire in both if self.fits(wire)]
        for space in self.wiring.pinned:
            if self.widths[space] == self.wiring.sizes[space]:
                self.places[space] = np.arange(self.widths[space])

    def fits(self, wire: Wire) -> bool:
        """Whether the suspect's layer is as wide as what it reads and writes; a damaged one is left out."""
        theirs, ours = self.suspect[wire.weight], self.original[wire.weight]
        read = 1 if wire.depthwise else sum(self.widths[span.space] * span.repeat for span in wire.reads)
        return theirs.shape == (self.widths[wire.writes.space], read, *ours.shape[2:])

    def run(self) -> None:
        for wire in self.wires:
            if wire.writes.space not in self.places:
                self.assign(wire.writes.space, forward_only=True)
            self.rescale()
        for _ in range(SWEEPS):
            for space in dict.fromkeys(wire.writes.space for wire in self.wires):
                if space not in self.wiring.pinned:
                    self.assign(space, forward_only=False)
            self.rescale()

    def assign(self, space: int, *, forward_only: bool) -> None:
        """Match the channels of one space by all that is known of them."""
        total = np.zeros((self.widths[space], self.wiring.sizes[space]))
        found = False
        for wire in self.wires:
            for pair in self.views(wire, space, forward_only=forward_only):
                if pair[0].shape == (total.shape[0], pair[1].shape[1]):
                    total += likelihood(*pair)
                    found = True
        if found:
            rows, columns = linear_sum_assignment(total, maximize=True)
            place = np.full(total.shape[1], -1, np.int64)
            place[columns] = rows
            self.places[space] = place

    def views(self, wire: Wire, space: int, *, forward_only: bool) -> list[tuple[Array, Array]]:
        """Pairs (suspect's, original's) of comparable rows, one for each channel of the space."""
        theirs, ours = self.suspect[wire.weight], self.original[wire.weight]
        pairs: list[tuple[Array, Array]] = []
        if wire.writes.space == space and wire.depthwise:
            pairs.append((theirs.reshape(len(theirs), -1), ours.reshape(len(ours), -1)))
        elif wire.writes.space == space and (seen := self.with_inputs(wire)) is not None:
            pairs.append((seen.reshape(len(seen), -1), ours.reshape(len(ours), -1)))
        reads_it = any(span.space == space for span in wire.reads) and not wire.depthwise
        if not forward_only and reads_it and (place := self.places.get(wire.writes.space)) is not None:
            pairs += self.columns(wire, space, place)
        return pairs

    def columns(self, wire: Wire, space: int, place: NDArray[np.int64]) -> list[tuple[Array, Array]]:
        """What a layer that reads the space makes of each of its channels."""
        theirs, ours = self.suspect[wire.weight], self.original[wire.weight]
        factor = self.factors.get(wire.writes.scale, np.ones(len(place)))
        kept = place >= 0
        turned = (theirs[place[kept]] / factor[kept].reshape(-1, *[1] * (theirs.ndim - 1))).astype(np.float32)
        pairs: list[tuple[Array, Array]] = []
        start = start_ours = 0
        for span in wire.reads:
            width, size = self.widths[span.space] * span.repeat, self.wiring.sizes[span.space] * span.repeat
            if span.space == space:
                one, other = turned[:, start : start + width], ours[kept][:, start_ours : start_ours + size]
                pairs.append((_by_channel(one, span), _by_channel(other, span)))
            start, start_ours = start + width, start_ours + size
        return pairs

    def inputs(self, wire: Wire) -> tuple[NDArray[np.int64], Floats] | None:
        """For each original input of a layer the suspect's input, or -1, and its magnitude."""
        indices, factors, start = [], [], 0
        for span in wire.reads:
            place = self.places.get(span.space)
            if place is None:
                return None
            spread = place[:, None] * span.repeat + np.arange(span.repeat)
            indices.append(np.where(place[:, None] >= 0, start + spread, -1).reshape(-1))
            factors.append(np.repeat(self.factors.get(span.scale, np.ones(len(place))), span.repeat))
            start += self.widths[span.space] * span.repeat
        index = np.concatenate(indices)
        return index, np.concatenate(factors)

    def with_inputs(self, wire: Wire) -> Array | None:
        """The suspect's weight with its inputs in the original's order and magnitude, if those are known."""
        theirs = self.suspect[wire.weight]
        if wire.depthwise:
            return theirs
        found = self.inputs(wire)
        if found is None:
            return None
        index, factor = found
        shape = (1, -1, *[1] * (theirs.ndim - 2))
        return np.where((index >= 0).reshape(shape), theirs[:, index] * factor.reshape(shape), 0).astype(np.float32)

    def restored(self, wire: Wire) -> Array | None:
        """The suspect's weight in the original's order and magnitude, or None where the shapes don't allow it."""
        seen, place = self.with_inputs(wire), self.places.get(wire.writes.space)
        ours = self.original[wire.weight]
        if seen is None or place is None:
            return None
        factor = self.ratio(wire)
        missing = (place < 0).reshape(-1, *[1] * (ours.ndim - 1))
        return np.where(missing, 0, seen[place] / factor.reshape(missing.shape)).astype(np.float32)

    def rescale(self) -> None:
        """Find the magnitude of every channel that is matched, in the order in which the layers run."""
        self.factors.clear()
        present = {wire.weight for wire in self.wires}
        for step in self.wiring.steps:
            if isinstance(step, Norm):
                self.normalise(step)
            elif step.weight in present and step.writes.scale not in self.factors and self.matched(step):
                ratio = self.ratio(step)
                entered = self.factors.get(step.reads[0].scale, np.ones_like(ratio)) if step.depthwise else 1.0
                self.factors[step.writes.scale] = ratio * entered

    def matched(self, wire: Wire) -> bool:
        """Whether both sides of a layer are matched."""
        return wire.writes.space in self.places and self.with_inputs(wire) is not None

    def ratio(self, wire: Wire) -> Floats:
        """How many times larger each filter is than the original's, 1 where that is unknown."""
        ours, place = self.original[wire.weight], self.places[wire.writes.space]
        seen = self.with_inputs(wire)
        if seen is None:
            return np.ones(len(ours))
        one = ours.reshape(len(ours), -1).astype(np.float64)
        other = np.where((place >= 0)[:, None], seen[place].reshape(len(ours), -1), 0).astype(np.float64)
        both = (one != 0) & (other != 0)
        one, other = one * both, other * both
        dot, ours2, theirs2 = (one * other).sum(1), (one**2).sum(1), (other**2).sum(1)
        sure = dot**2 > CREDIBLE**2 * ours2 * theirs2
        known: Floats = np.divide(dot, ours2, out=np.ones_like(dot), where=sure & (ours2 > 0))
        return known

    def normalise(self, norm: Norm) -> None:
        """Carry magnitudes through a normalisation."""
        place = self.places.get(norm.writes.space)
        tensors = (norm.gain, norm.variance)
        if place is None or any(name not in self.suspect or name not in self.original for name in tensors):
            return
        if self.suspect[norm.gain].shape != self.suspect[norm.variance].shape:
            return
        ours, theirs = (
            side[norm.gain] / np.sqrt(np.maximum(side[norm.variance], 0) + norm.epsilon)
            for side in (self.original, self.suspect)
        )
        if ours.shape != place.shape or theirs.shape != (self.widths[norm.writes.space],):
            return
        known = (place >= 0) & (ours != 0) & (theirs[place] != 0)
        change = np.divide(theirs[place], ours, out=np.ones(len(ours)), where=known)
        self.factors[norm.writes.scale] = change * self.factors.get(norm.reads.scale, np.ones(len(ours)))


def _by_channel(weight: Array, span: Span) -> Array:
    """``(channels, everything else)`` of the part of a weight that reads one space."""
    grouped = weight.reshape(weight.shape[0], -1, span.repeat, *weight.shape[2:])
    return np.ascontiguousarray(np.moveaxis(grouped, 1, 0)).reshape(grouped.shape[1], -1)


def likelihood(suspect: Array, original: Array) -> Floats:
    """``(suspect's rows, original's rows)``: the log likelihood ratio of each pair being one filter, scaled."""
    theirs, ours = suspect.astype(np.float64), original.astype(np.float64)
    norms = np.sqrt((theirs**2).sum(1)[:, None] * (ours**2).sum(1)[None])
    cosine = np.divide(theirs @ ours.T, norms, out=np.zeros_like(norms), where=norms > 0)
    ratio: Floats = -np.log1p(-np.minimum(cosine**2, 1 - 1e-6)) * (ours != 0).sum(1)[None] / 2
    return ratio
