"""Multi-object tracking metrics: an IoU tracker, HOTA and IDF1, as sums over frames.

Both models use the same tracker, so differences come from the detector.  It joins the boxes of one frame to those of
the preceding frames by overlap alone.

References: E. Bochinski et al. (2017), "High-Speed Tracking-by-Detection without Using Image Information",
doi:10.1109/AVSS.2017.8078516 (the tracker; here with an optimal assignment for each frame); J. Luiten et al. (2021),
"HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking", doi:10.1007/s11263-020-01375-2; E. Ristani et al.
(2016), "Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking", arXiv:1609.01775 (IDF1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Numbers = NDArray[np.float64]
Whole = NDArray[np.int64]

OVERLAPS = np.arange(1, 20) / 20
"""HOTA's mean is over these: an answer finds an object if they overlap so far."""

ONE = 0.5
"""The overlap of IDF1."""

TINY = 1e-9

COUNTED = 4 * len(OVERLAPS) + 3
"""Numbers of one frame: for each overlap found, missed, false, and how well what was found is followed; then objects
under their own name, all objects, all answers."""


@dataclass(frozen=True)
class Frame:
    """What is on one frame, or is said to be: ``boxes`` (M, 4), ``classes`` (M,), ``names`` (M,): who each is."""

    boxes: Numbers
    classes: Whole
    names: Whole

    @classmethod
    def of(cls, boxes: Numbers, classes: Whole) -> Frame:
        """Boxes without track identities."""
        return cls(boxes, classes, np.full(len(boxes), -1))


def overlaps(one: Frame, other: Frame) -> Numbers:
    """``(M, K)``: intersection over union of what is of one class, 0 else."""
    corner = np.maximum(one.boxes[:, None, :2], other.boxes[None, :, :2])
    end = np.minimum(one.boxes[:, None, 2:], other.boxes[None, :, 2:])
    shared = (end - corner).clip(0).prod(axis=2)
    areas = [(frame.boxes[:, 2:] - frame.boxes[:, :2]).clip(0).prod(axis=1) for frame in (one, other)]
    whole = areas[0][:, None] + areas[1] - shared
    share = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
    return np.asarray(share * (one.classes[:, None] == other.classes))


def linked_tracks(frames: Sequence[Frame], least: float, patience: int) -> list[Frame]:
    """The same frames with names: a box goes on as whom it overlaps best, by at least ``least``.

    Who is not seen for more than ``patience`` frames is gone.
    """
    last = Frame.of(np.zeros((0, 4)), np.zeros(0, np.int64))
    unseen, new, found = np.zeros(0, np.int64), 0, []
    for frame in frames:
        near = overlaps(last, frame)
        rows, columns = linear_sum_assignment(-np.where(near >= least, near, 0.0))
        joined = near[rows, columns] >= least
        names = np.full(len(frame.names), -1)
        names[columns[joined]] = last.names[rows[joined]]
        strange = np.flatnonzero(names < 0)
        names[strange] = np.arange(new, new + len(strange))
        new += len(strange)
        found.append(Frame(frame.boxes, frame.classes, names))
        waits = np.ones(len(last.names), bool)
        waits[rows[joined]] = False
        waits &= unseen < patience
        last = Frame(*(np.concatenate((kept[waits], now)) for kept, now in zip(
            (last.boxes, last.classes, last.names), (frame.boxes, frame.classes, names), strict=True)))  # fmt: skip
        unseen = np.concatenate((unseen[waits] + 1, np.zeros(len(names), np.int64)))
    return found


def counted(objects: Sequence[Frame], answers: Sequence[Frame]) -> Numbers:
    """``(F, COUNTED)``: what is counted on each frame of one sequence; sums of it give HOTA and IDF1."""
    objects, answers = _renumbered(objects), _renumbered(answers)
    size = tuple(1 + max(int(one.names.max(initial=-1)) for one in frames) for frames in (objects, answers))
    near = [overlaps(one, other) for one, other in zip(objects, answers, strict=True)]
    often = [np.zeros(number) for number in size]
    together, meeting = np.zeros(size), np.zeros(size)
    for one, other, share in zip(objects, answers, near, strict=True):
        either = share.sum(axis=0)[None] + share.sum(axis=1)[:, None] - share
        place = np.ix_(one.names, other.names)
        together[place] += np.divide(share, either, out=np.zeros_like(share), where=either > TINY)
        meeting[place] += share >= ONE - TINY
        often[0][one.names] += 1
        often[1][other.names] += 1
    alike = together / np.maximum(often[0][:, None] + often[1] - together, TINY)
    matched = [_matched(alike[np.ix_(one.names, other.names)] * share, share) for one, other, share in
               zip(objects, answers, near, strict=True)]  # fmt: skip
    who = dict(zip(*(part.tolist() for part in linear_sum_assignment(-meeting)), strict=True))
    found = np.zeros((len(objects), COUNTED))
    for number, overlap in enumerate(OVERLAPS):
        _count(found, number, overlap, (objects, answers), matched, often)
    for row, one, other, share in zip(found, objects, answers, near, strict=True):
        own = [share[i, j] >= ONE - TINY for i, name in enumerate(one.names) for j in
               np.flatnonzero(other.names == who.get(int(name), -1))]  # fmt: skip
        row[-3:] = sum(own), len(one.names), len(other.names)
    return found


def _renumbered(frames: Sequence[Frame]) -> list[Frame]:
    """Names from 0, as they come; one name of two classes is two."""
    known: dict[tuple[int, int], int] = {}
    return [
        Frame(
            frame.boxes,
            frame.classes,
            np.array(
                [known.setdefault((int(kind), int(name)), len(known)) for kind, name in
                 zip(frame.classes, frame.names, strict=True)], np.int64
            ),
        )
        for frame in frames
    ]  # fmt: skip


def _matched(wanted: Numbers, share: Numbers) -> tuple[Whole, Whole, Numbers]:
    """Who is matched with whom on one frame, and how far they overlap."""
    rows, columns = linear_sum_assignment(-wanted)
    return rows, columns, share[rows, columns]


def _count(
    found: Numbers,
    number: int,
    overlap: float,
    frames: tuple[list[Frame], list[Frame]],
    matched: Sequence[tuple[Whole, Whole, Numbers]],
    often: Sequence[Numbers],
) -> None:
    """Found, missed, false, followed at one overlap."""
    pairs = np.zeros((len(often[0]), len(often[1])))
    chosen = []
    for one, other, (rows, columns, share) in zip(*frames, matched, strict=True):
        hit = share >= overlap - TINY
        place = one.names[rows[hit]], other.names[columns[hit]]
        np.add.at(pairs, place, 1)
        chosen.append(place)
    well = pairs / np.maximum(often[0][:, None] + often[1] - pairs, 1)
    for row, one, other, place in zip(found, *frames, chosen, strict=True):
        hits = len(place[0])
        row[4 * number : 4 * number + 4] = hits, len(one.names) - hits, len(other.names) - hits, well[place].sum()


def _parts(sums: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """``(B, 19)`` each: found, all that there is or is said to be, how well it is followed."""
    each = sums[:, :-3].reshape(len(sums), len(OVERLAPS), 4)
    return each[..., 0], each[..., :3].sum(axis=2), each[..., 3]


def _over(part: Numbers, whole: Numbers) -> Numbers:
    return np.asarray(np.divide(part, whole, out=np.zeros_like(part), where=whole > 0))


def hota(sums: Numbers) -> Numbers:
    """``(B,)``: the geometric mean of finding and following, a mean over the overlaps; NaN where nothing is."""
    found, whole, well = _parts(sums)
    value = np.sqrt(_over(found, whole) * _over(well, found)).mean(axis=1)
    return np.where(whole[:, 0] > 0, value, np.nan)


def association(sums: Numbers) -> Numbers:
    """``(B,)``: how well what was found is followed (AssA), a mean over the overlaps; NaN where there is nothing."""
    found, whole, well = _parts(sums)
    return np.where(whole[:, 0] > 0, _over(well, found).mean(axis=1), np.nan)


def identity(sums: Numbers) -> Numbers:
    """``(B,)``: IDF1, the share of objects and answers that bear one name throughout; NaN where there is nothing."""
    both = sums[:, -2] + sums[:, -1]
    return np.where(both > 0, _over(2 * sums[:, -3], both), np.nan)
