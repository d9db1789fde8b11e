"""``python -m tests.bench.coverage``: how often intervals and rules err, as two Markdown tables and one JSON line.

Levels: how often the truth lies outside each end of Wilson's interval, nominally 5 % each.  Losses: how often a
rule "at most 5 points lost" approves a candidate that loses exactly five (false approval), and does not approve one
that loses nothing (false rejection; what too few images cost), when a share of the images changes its answer.
"""

from __future__ import annotations

import json

import numpy as np

from auditsvc.evaluation import tango, wilson

ALPHA, LIMIT, RUNS = 0.05, 0.05, 20_000
SIZES = (20, 50, 125, 500, 2000, 5000)
RATES = (0.5, 0.8, 0.9, 0.95, 0.99)
CHANGING = (0.06, 0.1, 0.2)


def level(images: int, rate: float, rng: np.random.Generator) -> tuple[float, float]:
    """How often the lower end is above the truth, and the upper end below it."""
    found = wilson(rng.binomial(images, rate, RUNS), images, ALPHA)
    return float((found.low > rate).mean()), float((found.high < rate).mean())


def approved(images: int, changing: float, loss: float, rng: np.random.Generator) -> float:
    """How often the loss rule is met."""
    lost, won = (changing + loss) / 2, (changing - loss) / 2
    drawn = rng.multinomial(images, [lost, won, 1 - changing], size=RUNS)[:, :2]
    pairs, times = np.unique(drawn, axis=0, return_counts=True)
    return float(times[tango(pairs[:, 0], pairs[:, 1], images, ALPHA).high <= LIMIT].sum() / RUNS)


def main() -> None:
    """Two tables."""
    rng = np.random.default_rng(20261122)
    worst_level = worst_approval = 0.0
    print("| images | " + " | ".join(f"{rate:g}" for rate in RATES) + " |\n|---|" + "---|" * len(RATES))
    for images in SIZES:
        ends = [level(images, rate, rng) for rate in RATES]
        worst_level = max(worst_level, *(max(pair) for pair in ends))
        print(f"| {images} | " + " | ".join(f"{100 * low:.1f} / {100 * high:.1f}" for low, high in ends) + " |")
    print("\n| images | " + " | ".join(f"{100 * share:g} % change" for share in CHANGING) + " |\n|---|"
          + "---|" * len(CHANGING))  # fmt: skip
    for images in SIZES:
        errors = [(approved(images, share, LIMIT, rng), 1 - approved(images, share, 0.0, rng)) for share in CHANGING]
        worst_approval = max(worst_approval, *(false for false, _ in errors))
        print(f"| {images} | " + " | ".join(f"{100 * yes:.1f} / {100 * no:.1f}" for yes, no in errors) + " |")
    print(json.dumps({"worst_level_error": worst_level, "worst_false_approval": worst_approval, "alpha": ALPHA}))


if __name__ == "__main__":
    main()
