"""``python -m tests.bench.sequential``: images until a loss rule is decided in stages, beside a fixed number; JSON.

The fixed audit has the images that meet the rule with power 0.99 for a candidate that loses nothing, and judges once
by Tango's interval at alpha.  The staged one is a policy with six stages, judged by the gate's own interval at a sixth
of alpha after each, and goes on to one and a half times as many images at the most; its false rejections are then no
more than the fixed audit's, and its false approvals fewer.

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

from auditsvc.evaluation import tango
from auditsvc.records.messages import reach_of_loss
from tests.gate.sample import a_policy, a_rule

LIMIT, CHANGING, ALPHA, POWER = 0.03, 0.05, 0.05, 0.99
RUNS, LONGEST = 20_000, 1.5
POLICY = a_policy(a_rule(at_most=LIMIT), alpha=ALPHA, stages=(0.1, 0.2, 0.3, 0.45, 0.7, 1.0))


def counts(loss: float, sizes: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``(RUNS, stages)``: images lost and won so far, after each stage."""
    changing = max(CHANGING, loss)
    lost, won = (changing + loss) / 2, (changing - loss) / 2
    rng, shares = np.random.default_rng(seed), [lost, won, 1 - lost - won]
    drawn = np.stack([rng.multinomial(size, shares, size=RUNS)[:, :2] for size in np.diff([0, *sizes])], axis=1)
    return drawn[..., 0].cumsum(axis=1), drawn[..., 1].cumsum(axis=1)


def staged(loss: float, sizes: NDArray[np.int64], seed: int) -> tuple[float, float]:
    """The mean number of images, and the share that was approved."""
    lost, won = counts(loss, sizes, seed)
    ends = tango(lost, won, sizes[None], POLICY.level)
    verdict = np.where(ends.high <= LIMIT, 1, np.where(ends.low > LIMIT, -1, 0))
    stopped = verdict != 0
    first = np.where(stopped.any(axis=1), stopped.argmax(axis=1), len(sizes) - 1)
    return float(sizes[first].mean()), float((verdict[np.arange(RUNS), first] == 1).mean())


def fixed(loss: float, images: int, seed: int) -> float:
    """The share that the fixed audit approves."""
    lost, won = counts(loss, np.array([images]), seed)
    return float((tango(lost[:, -1], won[:, -1], images, ALPHA).high <= LIMIT).mean())


def main() -> None:
    """Simulate both."""
    start = time.process_time()
    images = math.ceil((reach_of_loss(CHANGING, 0.0, LIMIT, ALPHA, POWER) / LIMIT) ** 2)
    sizes = np.array([round(LONGEST * images * share) for share in POLICY.stages or (1.0,)])
    good, approved = staged(0.0, sizes, 1)
    bad, slipped = staged(3 * LIMIT, sizes, 2)
    _, at_limit = staged(LIMIT, sizes, 3)
    print(json.dumps({
        "images_ratio_bad": round(bad / images, 3), "images_ratio_good": round(good / images, 3),
        "false_approval": round(at_limit, 4), "false_rejection": round(1 - approved, 4), "alpha": ALPHA,
        "fixed_images": images, "fixed_false_approval": round(fixed(LIMIT, images, 4), 4),
        "fixed_false_rejection": round(1 - fixed(0.0, images, 5), 4), "bad_approved": slipped,
        "cpu_s": round(time.process_time() - start, 1),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
