"""HOTA and IDF1 against TrackEval's numbers, and a tracker that keeps names while boxes overlap.

The numbers are what TrackEval 1.3.0 gives for the same frames (``HOTA`` and ``Identity``, in memory); it is not
installed with the tests, as it needs OpenCV.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditsvc.evaluation.metrics.hota import Frame, association, counted, hota, identity, linked_tracks, overlaps

TRACKEVAL = {
    0: (0.4960228611924588, 0.4394235061756769, 0.5573770491803278),
    1: (0.6686097990216858, 0.6650471848191281, 0.759825327510917),
    3: (0.6609232199352927, 0.7152680323532562, 0.8351648351648352),
    5: (0.49427383658034296, 0.4352109183873837, 0.5228758169934641),
}
"""HOTA, AssA, IDF1 by the seed of ``world``."""


def world(seed: int, frames: int = 40, people: int = 5) -> tuple[list[Frame], list[Frame]]:
    """People who walk, and a detector that misses some, shakes, and makes some up."""
    chance = np.random.default_rng(seed)
    start, speed = chance.uniform(0, 0.7, (people, 2)), chance.normal(0, 0.015, (people, 2))
    size = chance.uniform(0.08, 0.2, (people, 2))
    objects, answers = [], []
    for time in range(frames):
        at = start + speed * time
        boxes = np.concatenate((at, at + size), 1)
        there = (at > 0).all(1) & (at + size < 1).all(1) & (chance.random(people) < 0.95)
        shown = np.flatnonzero(there)
        objects.append(Frame(boxes[shown], shown % 1, shown + 100))
        kept = shown[chance.random(len(shown)) < 0.85]
        seen = boxes[kept] + chance.normal(0, 0.008, (len(kept), 4))
        extra = chance.uniform(0, 0.8, (chance.integers(0, 2), 2))
        seen = np.concatenate((seen, np.concatenate((extra, extra + 0.1), 1)))
        answers.append(Frame.of(seen, np.zeros(len(seen), np.int64)))
    return objects, answers


@pytest.mark.parametrize("seed", TRACKEVAL)
def test_sums_over_frames_are_what_trackeval_finds(seed):
    objects, answers = world(seed)
    sums = counted(objects, linked_tracks(answers, 0.3, 1)).sum(axis=0)[None]
    found = [float(measure(sums)[0]) for measure in (hota, association, identity)]
    assert found == pytest.approx(TRACKEVAL[seed], abs=1e-12)


def test_who_answers_all_is_perfect_and_who_swaps_two_names_is_not():
    objects, _ = world(1)
    assert [float(m(counted(objects, objects).sum(0)[None])[0]) for m in (hota, association, identity)] == [1, 1, 1]
    swapped = [
        Frame(one.boxes, one.classes, np.select([one.names == 100, one.names == 101], [101, 100], one.names))
        if number >= 20 else one
        for number, one in enumerate(objects)
    ]  # fmt: skip
    sums = counted(objects, swapped).sum(axis=0)[None]
    assert hota(sums)[0] < 1 and association(sums)[0] < 1 and identity(sums)[0] < 1
    found, missed, false = sums[0, :3]
    assert (missed, false) == (0, 0) and found == sum(len(one.names) for one in objects)


@given(st.integers(0, 1000), st.permutations(range(6)))
def test_names_are_only_names(seed, order):
    objects, answers = world(seed, frames=8)
    tracks = linked_tracks(answers, 0.3, 1)
    many = 1 + max((int(one.names.max(initial=0)) for one in tracks), default=0)
    renamed = [Frame(one.boxes, one.classes, (one.names + order[0]) * 7 % (7 * many)) for one in tracks]
    distinct = len({int(n) for one in tracks for n in one.names}) == len({int(n) for one in renamed for n in one.names})
    if distinct:
        assert counted(objects, renamed) == pytest.approx(counted(objects, tracks))


def test_a_box_goes_on_while_it_overlaps_and_waits_as_long_as_it_may():
    moving = [Frame.of(np.array([[0.1 + 0.02 * t, 0.1, 0.3 + 0.02 * t, 0.3]]), np.zeros(1, np.int64)) for t in range(6)]
    nothing = Frame.of(np.zeros((0, 4)), np.zeros(0, np.int64))
    gone = [*moving[:2], nothing, *moving[3:]]
    assert [one.names.tolist() for one in linked_tracks(gone, 0.3, 1)] == [[0], [0], [], [0], [0], [0]]
    assert [one.names.tolist() for one in linked_tracks(gone, 0.3, 0)] == [[0], [0], [], [1], [1], [1]]
    other = Frame.of(moving[1].boxes, np.ones(1, np.int64))
    assert [one.names.tolist() for one in linked_tracks([moving[0], other], 0.3, 1)] == [[0], [1]]


def test_boxes_of_two_classes_never_overlap_and_boxes_without_area_share_nothing():
    one = Frame.of(np.array([[0, 0, 1, 1], [0.5, 0.5, 0.5, 0.5]]), np.array([0, 0]))
    other = Frame.of(np.array([[0, 0, 0.5, 1], [0, 0, 1, 1]]), np.array([0, 1]))
    assert overlaps(one, other).tolist() == [[0.5, 0], [0, 0]]


def test_where_there_is_nothing_there_is_no_measure():
    nothing = [Frame.of(np.zeros((0, 4)), np.zeros(0, np.int64))] * 3
    sums = counted(nothing, nothing).sum(axis=0)[None]
    assert all(np.isnan(measure(sums)[0]) for measure in (hota, association, identity))
    objects, _ = world(0, frames=3)
    missed = counted(objects, nothing).sum(axis=0)[None]
    assert [float(measure(missed)[0]) for measure in (hota, association, identity)] == [0, 0, 0]
