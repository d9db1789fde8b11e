"""``python -m tests.bench.resubmission``: what 50 submissions gain and what a first try costs; one JSON line.

The candidates are independent: the worst case, as candidates that err alike are one try.
"""

from __future__ import annotations

import json

import numpy as np

from auditsvc.datasets import SliceColumn, Slices
from auditsvc.evaluation import tango
from auditsvc.records import Policy
from auditsvc.services.policies import read_policy
from auditsvc.services.power import chance_of_approval

TRIES, IMAGES, LIMIT, LOSS, CHANGING = 50, 300, 0.05, 0.0501, 0.1


def resubmission_50(policy: Policy | None = None, runs: int = 20_000) -> dict[str, float]:
    """How often one of 50 candidates passes, each of which truly loses just more than the limit."""
    policy, rng = policy or read_policy("standard"), np.random.default_rng(20261130)
    shares = [(CHANGING + LOSS) / 2, (CHANGING - LOSS) / 2, 1 - CHANGING]
    found = {}
    for name, levels in (
        ("spending", [policy.level_of(number) for number in range(1, TRIES + 1)]),
        ("without", [policy.alpha] * TRIES),
    ):
        passed = np.zeros(runs, bool)
        for level in levels:
            pairs, which = np.unique(rng.multinomial(IMAGES, shares, size=runs)[:, :2], axis=0, return_inverse=True)
            passed |= (tango(pairs[:, 0], pairs[:, 1], IMAGES, level).high <= LIMIT)[which.ravel()]
        found[name] = float(passed.mean())
    return found


def power_first_try(policy: Policy | None = None, changing: float = 0.02, images: int = 1000, runs: int = 200) -> float:
    """How often the whole policy approves a first candidate that loses nothing, on 12 slices of so many images."""
    group = SliceColumn("group", tuple("abcdefghijkl"), np.repeat(np.arange(12, dtype=np.int32), images))
    return chance_of_approval(
        policy or read_policy("standard"), Slices(12 * images, (group,)), changing=changing
    ).chance


def main() -> None:
    """One line of JSON."""
    found = resubmission_50()
    by_size = {f"power_{size}_a_slice": power_first_try(images=size) for size in (125, 250, 500)}
    print(json.dumps({"resubmission_50": found["spending"], "resubmission_50_without": found["without"],
                      "power_first_try": power_first_try(), **by_size}))  # fmt: skip


if __name__ == "__main__":
    main()
