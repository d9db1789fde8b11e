"""``python -m tests.bench.resubmission``: what 50 submissions gain, with and without spending alpha; one JSON line.

The candidates are independent: the worst case, as candidates that err alike are one try.
"""

from __future__ import annotations

import json

import numpy as np

from auditsvc.evaluation import tango
from auditsvc.records import Policy
from auditsvc.services.policies import read_policy

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


def main() -> None:
    """One line of JSON."""
    found = resubmission_50()
    print(json.dumps({"resubmission_50": found["spending"], "resubmission_50_without": found["without"]}))


if __name__ == "__main__":
    main()
