"""Looking after every image errs as rarely as promised, and decides what is clear early."""

from __future__ import annotations

import numpy as np
import pytest

from auditsvc.measuring.sequential import decided, log_capital


def looks(loss, seed, images=800, runs=600, changing=0.1):
    lost, won = (changing + loss) / 2, (changing - loss) / 2
    drawn = np.random.default_rng(seed).multinomial(1, [lost, won, 1 - lost - won], size=(runs, images))
    return drawn[..., 0].cumsum(axis=1), drawn[..., 1].cumsum(axis=1), np.arange(1, images + 1)[None]


@pytest.mark.parametrize("sign", [1, -1])
def test_at_the_limit_neither_verdict_is_ever_reached_more_often_than_alpha(sign):
    found = decided(*looks(0.05, 1), 0.05, 0.05)
    assert (found == sign).any(axis=1).mean() <= 0.05


def test_what_is_clear_is_decided_early_and_right():
    good, bad = (decided(*looks(loss, 2), 0.05, 0.05) for loss in (0.0, 0.1))
    assert (good == 1).any(axis=1).mean() > 0.9
    assert (bad == -1).any(axis=1).mean() > 0.95
    assert (bad == 1).any(axis=1).mean() <= 0.01


def test_the_capital_is_the_mean_of_the_bets_multiplied_image_by_image():
    rng = np.random.default_rng(3)
    change = rng.choice([1, -1, 0], 40, p=[0.1, 0.2, 0.7])
    stakes = np.geomspace(0.02, 0.98, 24) / (1 - 0.05)
    by_hand = np.log(np.prod(1 + stakes[:, None] * (0.05 - change[None]), axis=1).mean())
    counted = log_capital((change == 1).sum(), (change == -1).sum(), 40, 0.05)
    assert float(counted) == pytest.approx(by_hand, abs=1e-9)
