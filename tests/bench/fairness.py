"""``python -m tests.bench.fairness``: rates of groups and their intervals beside fairlearn's, one JSON line.

Both count the selection rate of the same random rows.  fairlearn's bootstrap draws rows and groups them again for
each resample; ours draws the cells' counts, which is the same distribution.  fairlearn gets few resamples (it takes
seconds for each), and the cost of one is what is compared, over and above the frame without resamples.

``speedup_fairlearn`` is on 10^6 images in 200 groups, per resample; ``cpu_s`` is ours on 10^6 images in 1000 groups
with 2000 resamples, counting included; ``max_abs_diff`` the largest difference of any group's rate;
``interval_gap`` that of the mean interval's width, relative, on a small case where fairlearn can draw 400 samples.
"""

from __future__ import annotations

import json
import resource
import time

import numpy as np
from fairlearn.metrics import MetricFrame, selection_rate
from numpy.typing import NDArray

from auditsvc.checks.fairness import Cells

ROWS, DRAWS, THEIRS = 10**6, 2000, 4
QUANTILES = (0.05, 0.95)


def rows(number: int, groups: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Groups of unequal size, each with its own selection rate."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(groups, 5.0))
    which = rng.choice(groups, number, p=shares)
    return which, (rng.random(number) < np.linspace(0.3, 0.7, groups)[which]).astype(np.int64)


def ours(
    which: NDArray[np.int64], said: NDArray[np.int64], groups: int, draws: int
) -> tuple[Cells, NDArray[np.float64]]:
    cells = Cells.of(which, said, (groups, 2))
    drawn = cells.resampled((1,), (0, 1), draws, np.random.default_rng(1))
    return cells, np.nanquantile(drawn, QUANTILES, axis=0)


def theirs(which: NDArray[np.int64], said: NDArray[np.int64], draws: int) -> MetricFrame:
    boot = {"n_boot": draws, "ci_quantiles": list(QUANTILES), "random_state": 1} if draws else {}
    return MetricFrame(metrics=selection_rate, y_true=said, y_pred=said, sensitive_features=which, **boot)


def cpu(work: object, *given: object) -> tuple[object, float]:
    start = time.process_time()
    return work(*given), time.process_time() - start  # type: ignore[operator]


def main() -> None:
    """Count, draw, compare."""
    which, said = rows(ROWS, 1000, 0)
    (_, _), seconds = cpu(ours, which, said, 1000, DRAWS)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    which, said = rows(ROWS, 200, 0)
    (cells, _), own = cpu(ours, which, said, 200, DRAWS)
    frame, once = cpu(theirs, which, said, 0)
    _, drawn = cpu(theirs, which, said, THEIRS)
    rates = cells.shares((1,), (0, 1))
    small, told = rows(5000, 5, 2)
    _, ends = ours(small, told, 5, 4000)
    other = np.array([np.asarray(end) for end in theirs(small, told, 400).by_group_ci])
    widths = (ends[1] - ends[0]).mean(), (other[1] - other[0]).mean()
    print(json.dumps({
        "speedup_fairlearn": round((drawn - once) / THEIRS / (own / DRAWS)),
        "max_abs_diff": float(np.abs(rates - frame.by_group.to_numpy(float)).max()),
        "peak_mb": round(peak), "cpu_s": round(seconds, 2), "interval_gap": round(abs(widths[0] / widths[1] - 1), 3),
        "fairlearn_s_per_resample": round((drawn - once) / THEIRS, 2), "fairlearn_s": round(once, 2),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
