"""``python -m tests.bench.coverage``: how often rules approve what they should not; tables, and one JSON line last.

Every figure is of a rule "at most L points lost" and a candidate that loses exactly L: the share of runs in which the
upper end is below L, nominally 5 %.  ``paired``: independent 0/1 answers.  ``clustered``: images in clusters, the
answers of one cluster alike with an intraclass correlation (ICC) up to 1, clusters of equal and of unequal size.
``graded``: a little noise on every score, and a few images that lose everything.  ``calibration_change_miss``: a
calibrated parent and a candidate that is 3 points too sure.  All use the functions of the package.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product

import numpy as np

from auditsvc.checks.calibration import Binned, change_interval
from auditsvc.datasets.dataset import SliceColumn, Slices
from auditsvc.evaluation.intervals import Units, bootstrap_weights, bounded_mean
from auditsvc.evaluation.paired import FEWEST_CLUSTERS, Sample, losses
from tests.bench.resubmission import power_first_try, resubmission_50

ALPHA, SEED = 0.05, 20261130
IMAGES = (20, 50, 59, 75, 100, 125, 200, 300, 500, 1000)
CHANGING = (1.0, 1.2, 2.0, 4.0)
"""Multiples of the loss."""
LIMITS = (0.01, 0.02, 0.05)
CLUSTERS = (10, 15, 20, 30, 40, 60, 80, 100)
ALIKE = (0.05, 0.2, 0.5, 1.0)
GRADED = (50, 60, 90, 125, 200, 300, 500, 1000)
SHARES = (0.005, 0.01, 0.02, 0.03, 0.05)
Falses = dict[tuple[float, ...], float]


def paired(runs: int = 20_000) -> Falses:
    """By images, limit and share of answers that change."""
    rng, found = np.random.default_rng(SEED), {}
    for images, limit, times in product(IMAGES, LIMITS, CHANGING):
        lost, won = limit * (times + 1) / 2, limit * (times - 1) / 2
        drawn = rng.multinomial(images, [lost, won, 1 - lost - won], size=runs)[:, :2]
        kinds, number = np.unique(drawn, axis=0, return_counts=True)
        found[images, limit, times] = float(number[upper_ends(kinds, images) < limit].sum() / runs)
    return found


def upper_ends(kinds: np.ndarray, images: int) -> np.ndarray:
    """The upper ends that the package gives to these ``(K, 2)`` counts of lost and won, each a slice of one sample."""
    rest = images - kinds.sum(axis=1, keepdims=True)
    change = np.tile(np.array([1, -1, 0], np.int8), len(kinds)).repeat(np.concatenate((kinds, rest), axis=1).ravel())
    return losses(Sample(change, _slices(len(kinds), images), None), ALPHA).high[1:]


def _slices(number: int, images: int) -> Slices:
    """This many slices of this many images."""
    labels, codes = tuple(map(str, range(number))), np.arange(number, dtype=np.int32).repeat(images)
    return Slices(number * images, (SliceColumn("run", labels, codes),))


def clustered(runs: int = 1500, each: int = 50, loss: float = 0.05, changing: float = 0.2) -> Falses:
    """By clusters, ICC and whether their sizes differ; below ``FEWEST_CLUSTERS`` a loss is unknown."""
    rng, found = np.random.default_rng(SEED), {}
    shares = np.array([(changing + loss) / 2, (changing - loss) / 2, 1 - changing])
    for clusters, alike, unequal in product(CLUSTERS, ALIKE, (0.0, 1.0)):
        sizes = rng.integers(1, 2 * each, (runs, clusters)) if unequal else np.full((runs, clusters), each)
        chance = rng.dirichlet(shares * (1 - alike) / alike, (runs, clusters)) if alike < 1 else (
            np.eye(3)[rng.choice(3, (runs, clusters), p=shares)])  # fmt: skip
        counts = rng.multinomial(sizes, chance)
        found[clusters, alike, unequal] = _approved((counts[..., 0] - counts[..., 1]) / sizes, sizes, loss)
    return found


def graded(runs: int = 3000, noise: float = 0.001) -> Falses:
    """By images and the share of them that lose everything, which is the limit; the others move up or down a little."""
    rng, found = np.random.default_rng(SEED), {}
    for images, share in product(GRADED, SHARES):
        counts = rng.multinomial(images, [share, (1 - share) / 2, (1 - share) / 2], size=runs)
        scores = np.tile([1.0, noise, -noise], runs)
        units = Units(np.arange(runs).repeat(3), scores, np.ones(3 * runs), counts.ravel().astype(float), runs)
        found[images, share] = float((bounded_mean(units, ALPHA, -1.0, 1.0).high < share).mean())
    return found


def _approved(means: np.ndarray, sizes: np.ndarray, limit: float) -> float:
    """``(runs, units)``: how often the upper end is under the limit; every run is a slice of one sample."""
    runs, units = means.shape
    place = np.repeat(np.arange(runs), units)
    found = bounded_mean(
        Units(place, means.ravel(), sizes.ravel().astype(float), np.ones(runs * units), runs), ALPHA, -1, 1
    )
    return float((found.high < limit).mean())


def calibration(runs: int = 300, draws: int = 300, off: float = 0.03) -> Falses:
    """By images: how often the upper end of the change is below the truth."""
    rng, found = np.random.default_rng(SEED), {}
    for images in (125, 300, 1000):
        missed = 0
        for _ in range(runs):
            share = rng.uniform(0.5, 0.89, images)
            right = (rng.random(images) < share).astype(float)
            own, dense = (Binned.of(share + more, right, 15) for more in (off, 0.0))
            missed += float(change_interval(bootstrap_weights(images, None, draws, rng), ALPHA, own, dense).high) < off
        found[(float(images),)] = missed / runs
    return found


def table(title: str, found: Falses) -> Iterator[str]:
    """Rows by the first number of the case: the largest share over the others."""
    yield f"\n| {title} | largest share approved falsely |\n|---|---|"
    for first in sorted({case[0] for case in found}):
        yield f"| {first:g} | {100 * max(share for case, share in found.items() if case[0] == first):.1f} % |"


def main() -> None:
    """Four tables and the line."""
    every = {"paired": paired(), "clustered": clustered(), "graded": graded(), "calibration": calibration()}
    for title, found in every.items():
        print("\n".join(table(title, found)))
    worst = {f"worst_{name}": max(found.values()) for name, found in every.items() if name != "calibration"}
    print(json.dumps({
        **worst,
        "calibration_change_miss": max(every["calibration"].values()),
        "resubmission_50": resubmission_50()["spending"],
        "power_first_try": power_first_try(),
        "cases": {name: len(found) for name, found in every.items()},
        "fewest_clusters": FEWEST_CLUSTERS,
        "alpha": ALPHA,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
