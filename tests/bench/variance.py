"""``python -m tests.bench.variance``: what would make the intervals of paired 0/1 losses narrower, one JSON line.

A parent's margins (logit of the right class less the best other) are drawn by class; a candidate's differ by noise, so
that 2 or 5 % of the answers change.  ``strata`` is the share of the variance that is left within classes, ``control``
the share left by the best linear use of a graded score whose mean were known exactly (unlimited unlabelled images),
``graded`` the variance of the graded loss beside that of the 0/1 loss.  ``false_graded`` and ``false_01`` are how often
a rule "at most 2 points lost" is met by a candidate that turns the answers on the border, more than 2 points of them
(500 images, alpha 5 %), when it is judged by the graded and by the 0/1 loss.
"""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from auditsvc.evaluation.paired import Sample, losses
from tests.bench.coverage import ALPHA, SEED, _slices

CLASSES, LARGE, IMAGES, RUNS, LIMIT = 10, 1_000_000, 500, 200, 0.02
Numbers = NDArray[np.float64]


def margins(count: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], Numbers]:
    """Classes, and the parent's margins: right where positive, in about 95 % of cases."""
    kinds = rng.integers(0, CLASSES, count)
    return kinds, 2.0 + 0.12 * (kinds - 4.5) + 1.1 * rng.standard_normal(count)


def lost(parent: Numbers, candidate: Numbers) -> tuple[Numbers, Numbers]:
    """The 0/1 loss of each image, and the loss of a graded score, the probability of the right class."""
    graded = [1 / (1 + np.exp(-2 * one)) for one in (parent, candidate)]
    return (parent > 0).astype(float) - (candidate > 0), graded[0] - graded[1]


def met(change: Numbers) -> float:
    """How often the rule is met, each run a slice of one sample."""
    found = losses(Sample(change, _slices(RUNS, IMAGES), None), ALPHA)
    return float((found.high[1:] < LIMIT).mean())


def main() -> None:
    """Both noises, then the candidate on the border."""
    rng, line = np.random.default_rng(SEED), {}
    for name, noise in (("2 %", 0.25), ("5 %", 0.6)):
        kinds, parent = margins(LARGE, rng)
        change, graded = lost(parent, parent + noise * rng.standard_normal(LARGE))
        within = np.mean([change[kinds == kind].var() for kind in range(CLASSES)])
        line[name] = {
            "changing": float((change != 0).mean()),
            "strata": float(within / change.var()),
            "control": float(1 - np.corrcoef(change, graded)[0, 1] ** 2),
            "graded": float(graded.var() / change.var()),
        }
    _, parent = margins(RUNS * IMAGES, rng)
    change, graded = lost(parent, np.where((parent > 0) & (parent < 0.3), -0.01, parent))
    line["border"] = {"points_lost": 100 * float(change.mean()), "graded_points_lost": 100 * float(graded.mean()),
                      "false_graded": met(graded), "false_01": met(change)}  # fmt: skip
    print(json.dumps(line))


if __name__ == "__main__":
    main()
