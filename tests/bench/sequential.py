"""``python -m tests.bench.sequential``: images until a loss rule is decided, beside a fixed number; one JSON line.

The fixed audit has the images that meet the rule with power 0.99 for a candidate that loses nothing, and judges once
by Tango's interval.  The sequential one looks after every ten images and goes on to twice as many at the most; its
false rejections are then no more than the fixed audit's, and its false approvals fewer.
``images_ratio_good`` is for a candidate that loses nothing, ``images_ratio_bad`` for one that loses three times the
limit; both are mean images over the fixed number.  ``false_approval`` is at a loss of exactly the limit,
``false_rejection`` the share of good ones that were not approved; those of the fixed audit stand beside them.
"""

from __future__ import annotations

import json
import math
import time

import numpy as np
from numpy.typing import NDArray

from auditsvc.measuring import tango
from auditsvc.measuring.sequential import decided
from auditsvc.records.sentences import reach_of_loss

LIMIT, CHANGING, ALPHA, POWER = 0.03, 0.05, 0.05, 0.99
RUNS, STEP, LONGEST = 4000, 10, 2.0


def counts(loss: float, images: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``(RUNS, images / STEP)``: images lost and won so far, at every look."""
    changing = max(CHANGING, loss)
    lost, won = (changing + loss) / 2, (changing - loss) / 2
    drawn = np.random.default_rng(seed).multinomial(STEP, [lost, won, 1 - lost - won], size=(RUNS, images // STEP))
    return drawn[..., 0].cumsum(axis=1), drawn[..., 1].cumsum(axis=1)


def sequential(loss: float, longest: int, seed: int) -> tuple[float, float]:
    """The mean number of images, and the share that was approved."""
    lost, won = counts(loss, longest, seed)
    looks = np.arange(1, lost.shape[1] + 1) * STEP
    verdict = decided(lost, won, looks[None], LIMIT, ALPHA)
    stopped = verdict != 0
    first = np.where(stopped.any(axis=1), stopped.argmax(axis=1), len(looks) - 1)
    approved = verdict[np.arange(RUNS), first] == 1
    return float(looks[first].mean()), float(approved.mean())


def fixed(loss: float, images: int, seed: int) -> float:
    """The share that the fixed audit approves."""
    lost, won = counts(loss, images, seed)
    return float((tango(lost[:, -1], won[:, -1], images, ALPHA).high <= LIMIT).mean())


def main() -> None:
    """Simulate both."""
    start = time.process_time()
    images = STEP * math.ceil((reach_of_loss(CHANGING, 0.0, LIMIT, ALPHA, POWER) / LIMIT) ** 2 / STEP)
    longest = STEP * round(LONGEST * images / STEP)
    good, approved = sequential(0.0, longest, 1)
    bad, slipped = sequential(3 * LIMIT, longest, 2)
    _, at_limit = sequential(LIMIT, longest, 3)
    print(json.dumps({
        "images_ratio_bad": round(bad / images, 3), "images_ratio_good": round(good / images, 3),
        "false_approval": round(at_limit, 4), "false_rejection": round(1 - approved, 4), "alpha": ALPHA,
        "fixed_images": images, "fixed_false_approval": fixed(LIMIT, images, 4),
        "fixed_false_rejection": round(1 - fixed(0.0, images, 5), 4), "bad_approved": slipped,
        "cpu_s": round(time.process_time() - start, 1),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
