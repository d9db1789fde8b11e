"""Every interval against published numbers, an independent library or a direct solution of its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from auditsvc.evaluation import images_needed, student, tango, wilson
from auditsvc.evaluation.intervals import Units, bounded_mean

TWO_SIDED_95 = 0.025


@pytest.mark.parametrize(
    ("successes", "images", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals_of_newcombe_1998(successes, images, low, high):
    found = wilson(successes, images, TWO_SIDED_95)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


@given(st.integers(1, 3000), st.data(), st.floats(0.001, 0.2))
def test_wilson_equals_scipy(images, data, alpha):
    successes = data.draw(st.integers(0, images))
    found = wilson(successes, images, alpha)
    expected = stats.binomtest(successes, images).proportion_ci(1 - 2 * alpha, "wilson")
    assert (float(found.low), float(found.high)) == (
        pytest.approx(expected.low, abs=1e-12), pytest.approx(expected.high, abs=1e-12),
    )  # fmt: skip


def tango_by_likelihood(lost: int, won: int, images: int, z: float, side: float) -> float:
    """Tango's bound from its definition: the likelihood maximised numerically under each difference."""

    def score(delta: float) -> float:
        def unlikely(rarer: float) -> float:
            common, same = rarer + delta, 1 - 2 * rarer - delta
            parts = ((lost, common), (won, rarer), (images - lost - won, same))
            return -sum(count * np.log(max(share, 1e-300)) for count, share in parts if count)

        found = optimize.minimize_scalar(
            unlikely, bounds=(max(0.0, -delta), (1 - delta) / 2), method="bounded", options={"xatol": 1e-13}
        )
        variance = images * (2 * found.x + delta - delta * delta)
        return float((lost - won - images * delta) / np.sqrt(max(variance, 1e-300)))

    estimate = (lost - won) / images
    ends = (-1 + 1e-9, estimate) if side > 0 else (estimate, 1 - 1e-9)
    return float(optimize.brentq(lambda delta: score(delta) - side * z, *ends, xtol=1e-12))


@pytest.mark.parametrize("counts", [(5, 3, 60), (1, 9, 100), (20, 20, 400), (0, 3, 50), (12, 0, 80), (44, 26, 1000)])
def test_tango_solves_the_constrained_likelihood(counts):
    lost, won, images = counts
    found = tango(lost, won, images, 0.05)
    z = float(stats.norm.isf(0.05))
    assert float(found.low) == pytest.approx(tango_by_likelihood(lost, won, images, z, +1), abs=2e-6)
    assert float(found.high) == pytest.approx(tango_by_likelihood(lost, won, images, z, -1), abs=2e-6)


def test_tango_gives_the_published_interval():
    found = tango(0, 1, 44, TWO_SIDED_95)
    assert (float(found.low), float(found.high)) == (pytest.approx(-0.1181, abs=2e-4), pytest.approx(0.0594, abs=2e-4))


@given(st.integers(1, 500), st.data())
def test_tango_turns_over_when_parent_and_candidate_change_places(images, data):
    lost = data.draw(st.integers(0, images))
    won = data.draw(st.integers(0, images - lost))
    one, other = tango(lost, won, images, 0.05), tango(won, lost, images, 0.05)
    assert float(one.low) == pytest.approx(-float(other.high), abs=1e-9)
    assert -1 <= float(one.low) <= float(one.value) <= float(one.high) <= 1


@pytest.mark.parametrize(("images", "discordant"), [(100, 0.05), (400, 0.05), (1000, 0.02)])
def test_tango_seldom_promises_less_harm_than_there_is(images, discordant):
    """Type-I error of "the loss is under two points" where it is exactly two points."""
    chance = np.random.default_rng(1)
    lost_share = (discordant + 0.02) / 2
    drawn = chance.multinomial(images, [lost_share, discordant - lost_share, 1 - discordant], size=20_000)
    high = tango(drawn[:, 0], drawn[:, 1], np.full(20_000, images), 0.05).high
    assert np.mean(high < 0.02) <= 0.056


def test_wilson_covers_on_average():
    """Averaged over all true shares, each end errs about as often as it says."""
    chance = np.random.default_rng(2)
    truth = chance.uniform(0.02, 0.98, 40_000)
    found = wilson(chance.binomial(150, truth), np.full(40_000, 150), 0.05)
    assert np.mean(found.low > truth) == pytest.approx(0.05, abs=0.006)
    assert np.mean(found.high < truth) == pytest.approx(0.05, abs=0.006)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=60))
def test_student_equals_scipy(values):
    scores = np.array(values)
    found = student(scores.sum(), (scores**2).sum(), len(scores), 0.05, -10.0, 10.0)
    if scores.std() < 1e-6:
        return
    expected = stats.ttest_1samp(scores, 0.0).confidence_interval(0.90)
    assert (float(found.low), float(found.high)) == (
        pytest.approx(expected.low, abs=1e-6), pytest.approx(expected.high, abs=1e-6),
    )  # fmt: skip


@pytest.mark.parametrize(("total", "squares", "images"), [(0.4, 0.16, 1), (5.0, 5.0, 5)])
def test_scores_without_spread_say_nothing_about_their_own_spread(total, squares, images):
    found = student(total, squares, images, 0.05, 0.0, 1.0)
    assert (float(found.low), float(found.high)) == (0.0, 1.0)


@pytest.mark.parametrize(("margin", "share", "needed"), [(0.02, 0.05, 773), (0.01, 0.02, 1237), (0.05, 0.10, 248)])
def test_images_needed_gives_the_known_table(margin, share, needed):
    """The table of sample sizes at power 0.8 and one-sided 5 %: z = 1.645 + 0.842."""
    assert images_needed(share * 10_000, 10_000, margin, 0.05) == pytest.approx(needed, abs=1)


def graded_losses(seed: int, runs: int, images: int, share: float, *, both: bool) -> np.ndarray:
    """Losses of a graded score: most images don't change, a few change by a skewed amount."""
    chance = np.random.default_rng(seed)
    sizes = chance.beta(0.8, 2.0, (runs, images)) * (chance.random((runs, images)) < share)
    return sizes * np.where(chance.random(sizes.shape) < 0.5, 1, -1) if both else sizes


def test_students_upper_end_is_too_low_where_few_images_lose_much():
    """Why there is another: the end that approves errs four times as often as it says."""
    losses = graded_losses(1, 2000, 125, 0.02, both=False)
    found = student(losses.sum(axis=1), (losses**2).sum(axis=1), 125, 0.05, -1.0, 1.0)
    assert np.mean(found.high < 0.02 * 0.8 / 2.8) > 0.15


def bounded(losses):
    """The interval of each row of ``(runs, images)`` losses."""
    runs, images = losses.shape
    ones = np.ones(losses.size)
    return bounded_mean(Units(np.repeat(np.arange(runs), images), losses.ravel(), ones, ones, runs), 0.05, -1.0, 1.0)


@pytest.mark.parametrize(("images", "share"), [(50, 0.1), (125, 0.02), (125, 0.3), (500, 0.1)])
@pytest.mark.parametrize("both", [False, True])
def test_graded_losses_are_seldom_larger_than_their_upper_end(images, share, both):
    truth = 0.0 if both else share * 0.8 / 2.8
    found = bounded(graded_losses(1, 600, images, share, both=both))
    assert np.mean(found.high < truth) < 0.06
    assert np.mean(found.low > truth) < 0.06


@pytest.mark.parametrize(("images", "share"), [(50, 0.01), (50, 0.05), (125, 0.02), (400, 0.005)])
def test_a_little_noise_on_every_image_does_not_hide_that_a_few_lose_everything(images, share):
    rng = np.random.default_rng(3)
    losses = np.where(rng.random((800, images)) < share, 1.0, rng.normal(0, 0.001, (800, images)))
    assert np.mean(bounded(losses).high < share) <= 0.06
    plain = student(losses.sum(axis=1), (losses**2).sum(axis=1), images, 0.05, -1.0, 1.0)
    assert np.mean(plain.high < share) > 0.06
