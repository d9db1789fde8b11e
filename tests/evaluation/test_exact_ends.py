"""Every interval and p-value at exact numbers: from SciPy, from a definition, or on the boundary of a rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from auditsvc.evaluation import images_needed, student, tango, wilson
from auditsvc.evaluation.intervals import (
    Units,
    bca,
    bootstrap_weights,
    bounded_mean,
    corrected,
    groups_of,
    mcnemar,
    student_p,
)

VALUES = np.array([0.0, 0.1, 0.1, 0.3, 0.9, 0.2, 0.0, 0.5, 0.4, 0.7])


def sums_of(values):
    return float(values.sum()), float((values**2).sum())


def units_of(values, sizes=None, counts=None):
    """One slice of units."""
    ones = np.ones(len(values))
    sizes, counts = (ones if one is None else np.asarray(one, float) for one in (sizes, counts))
    return Units(np.zeros(len(values), np.int64), np.asarray(values, float), sizes, counts, 1)


def ends_of(values, sizes=None, counts=None, alpha=0.05, floor=-1.0):
    found = bounded_mean(units_of(values, sizes, counts), alpha, floor, 1.0)
    return float(found.low[0]), float(found.value[0]), float(found.high[0])


def mean(weights):
    return weights @ VALUES / weights.sum(axis=1)


@pytest.mark.parametrize(("total", "expected"), [(0, (0.0, 0.0)), (9, (1.0, 1.0))])
def test_no_success_starts_at_exactly_zero_and_no_failure_ends_at_exactly_one(total, expected):
    found = wilson(total, 9, 0.05)
    assert (float(found.low) if total == 0 else float(found.high)) == expected[0]
    assert float(found.value) == expected[1]


def test_tango_is_closed_where_every_image_changed():
    assert [float(end) for end in vars(tango(7, 0, 7, 0.05)).values()][::2] == [1.0, 1.0]
    assert [float(end) for end in vars(tango(0, 7, 7, 0.05)).values()][:2] == [-1.0, -1.0]


def test_student_is_cut_to_its_scale_and_its_value_too():
    found = student([1.2, -1.2], [0.9, 0.9], [3, 3], 0.05, 0.0, 0.3)
    assert (found.value.tolist(), found.low.tolist(), found.high.tolist()) == ([0.3, 0.0], [0.0, 0.0], [0.3, 0.3])


def test_two_images_are_enough_for_student():
    scores = np.array([0.4, 0.5])
    expected = stats.ttest_1samp(scores, 0.0).confidence_interval(0.90)
    found = student(*sums_of(scores), 2, 0.05, -5.0, 5.0)
    assert (float(found.low), float(found.high)) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("lost", "won"), [(1, 0), (5, 1), (7, 7), (12, 3)])
def test_mcnemars_p_is_the_exact_binomial_one(lost, won):
    expected = stats.binomtest(lost, lost + won, 0.5, alternative="greater").pvalue
    assert float(mcnemar(lost, won)) == pytest.approx(expected)
    assert float(mcnemar(0, won)) == 1.0


def test_images_needed_is_the_formula_of_liu_at_power_80_and_assumes_one_change():
    z = stats.norm.isf(0.05) + stats.norm.isf(0.2)
    assert images_needed(30, 1000, 0.02, 0.05) == int(np.ceil(z * z * 0.03 / 0.02**2))
    assert images_needed(0, 100, 0.02, 0.05) == images_needed(1, 100, 0.02, 0.05) < images_needed(2, 100, 0.02, 0.05)
    assert images_needed(0, 0, 0.02, 0.05) == images_needed(1, 1, 0.02, 0.05)
    assert images_needed(1, 1, 0.02, 0.05) == int(np.ceil(z * z / 0.02**2))
    assert images_needed(3, 2, 0.02, 0.05) == int(np.ceil(z * z * 1.5 / 0.02**2))
    assert images_needed(30, 1000, 0.02, 0.05, power=0.9) > images_needed(30, 1000, 0.02, 0.05)


def test_the_corrected_bootstrap_interval_is_scipys():
    found = stats.bootstrap((VALUES,), np.mean, n_resamples=999, confidence_level=0.9, method="BCa", random_state=3)
    left = np.array([np.delete(VALUES, number).mean() for number in range(10)])
    own = corrected(float(VALUES.mean()), found.bootstrap_distribution, left, 0.05)
    assert (float(own.low), float(own.high)) == pytest.approx(tuple(found.confidence_interval), abs=1e-12)
    assert float(own.value) == VALUES.mean()


def test_a_bootstrap_without_skew_is_corrected_for_bias_alone():
    drawn = np.arange(101.0)
    found = corrected(40.0, drawn, np.full(5, 40.0), 0.1)
    bias = stats.norm.ppf(40.5 / 101)
    low, high = (100 * stats.norm.cdf(2 * bias + z) for z in (stats.norm.ppf(0.1), stats.norm.isf(0.1)))
    assert (float(found.low), float(found.high)) == pytest.approx((low, high))


def test_an_estimate_outside_every_resample_is_held_by_the_interval():
    drawn = np.linspace(0.4, 0.6, 11)
    for value, end in ((0.1, "low"), (0.9, "high")):
        found = corrected(value, drawn, np.array([0.1, 0.5, 0.9]), 0.05)
        assert float(getattr(found, end)) == value
        assert 0.4 <= float(found.high if end == "low" else found.low) <= 0.6
        assert np.isfinite([found.low, found.high]).all()


@pytest.mark.parametrize("clusters", [None, np.array([5, 5, 2, 2, 2, 9, 9, 9, 9, 0])])
def test_the_bootstrap_leaves_out_each_image_or_each_whole_cluster(clusters):
    weights = bootstrap_weights(10, clusters, 400, np.random.default_rng(4))
    units = np.arange(10) if clusters is None else clusters
    left = np.array([mean((units != one)[None].astype(float))[0] for one in np.unique(units)])
    expected = corrected(float(mean(np.ones((1, 10)))[0]), mean(weights), left, 0.05)
    found = bca(mean, weights, clusters, 0.05)
    assert [float(end) for end in vars(found).values()] == pytest.approx(
        [float(end) for end in vars(expected).values()]
    )


def test_images_are_drawn_alone_and_clusters_as_wholes():
    rng = np.random.default_rng(6)
    alone = bootstrap_weights(4, None, 3, np.random.default_rng(6))
    assert alone.tolist() == rng.multinomial(4, [0.25] * 4, size=3).tolist()
    rng = np.random.default_rng(6)
    whole = bootstrap_weights(5, np.array([8, 3, 8, 8, 3]), 50, np.random.default_rng(6))
    assert whole.tolist() == rng.multinomial(2, [0.5, 0.5], size=50)[:, [1, 0, 1, 1, 0]].tolist()


def test_there_are_at_most_fifty_groups_and_they_keep_clusters_whole():
    assert [one if one is None else one.tolist() for one in groups_of(3, None)] == [[0, 1, 2], None]
    assert groups_of(50, None)[0].tolist() == list(range(50))
    assert groups_of(52, None)[0].tolist() == [*range(50), 0, 1]
    found = groups_of(4, np.array([70, 20, 70, 30]))
    assert [one.tolist() for one in found if one is not None] == [[2, 0, 2, 1], [2, 0, 2, 1]]


@pytest.mark.parametrize(("images", "alpha"), [(1, 0.3), (5, 0.4), (20, 0.05), (1000, 0.01)])
def test_where_nothing_changed_tango_has_a_closed_form(images, alpha):
    z = stats.norm.isf(alpha)
    found = tango(0, 0, images, alpha)
    end = z * z / (images + z * z)
    assert (float(found.low), float(found.high)) == pytest.approx((-end, end), abs=1e-12)


@pytest.mark.parametrize(("ones", "images"), [(0, 1), (0, 5), (0, 125), (1, 50), (3, 50), (49, 50), (50, 50)])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_the_interval_of_any_scores_is_clopper_and_pearsons_where_they_are_0_and_1(ones, images, alpha):
    scores = np.r_[np.ones(ones), np.zeros(images - ones)]
    low, value, high = ends_of(scores, alpha=alpha, floor=0.0)
    expected = stats.binomtest(ones, images).proportion_ci(1 - 2 * alpha)
    assert value == pytest.approx(ones / images)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.004)
    assert low <= expected.low + 1e-4
    assert high >= expected.high - 1e-4


@pytest.mark.parametrize("sizes", [None, np.array([9, 1, 4, 4, 30, 2, 7, 7, 1, 12])])
def test_the_interval_of_any_scores_is_the_quantile_of_the_randomly_weighted_mean(sizes):
    sizes = np.ones(10) if sizes is None else sizes
    rng, unseen = np.random.default_rng(0), (sizes**2).sum() / sizes.sum()
    weights = rng.exponential(size=(200_000, 11)) * np.r_[sizes, unseen]
    drawn = [weights @ np.r_[VALUES, end] / weights.sum(axis=1) for end in (-1.0, 1.0)]
    low, value, high = ends_of(VALUES, sizes)
    assert value == pytest.approx((sizes @ VALUES) / sizes.sum())
    assert (low, high) == pytest.approx((np.quantile(drawn[0], 0.05), np.quantile(drawn[1], 0.95)), abs=0.015)


def test_the_interval_of_any_scores_is_mirrored_with_them_and_knows_copies_by_their_number():
    low, _, high = ends_of(VALUES)
    assert ends_of(-VALUES) == pytest.approx((-high, -VALUES.mean(), -low))
    assert ends_of(np.repeat(VALUES, 3)) == pytest.approx(ends_of(VALUES, counts=np.full(10, 3)))
    assert ends_of(np.ones(4))[2] == ends_of(-np.ones(4))[0] * -1 == 1.0


def test_slices_without_a_unit_or_with_one_disturb_no_other():
    places = np.array([0, 0, 2, 3, 3, 3])
    scores = np.array([0.5, -0.2, 0.1, 0.0, 0.0, 1.0])
    found = bounded_mean(Units(places, scores, np.ones(6), np.ones(6), 4), 0.05, -1.0, 1.0)
    for place in (0, 2, 3):
        alone = ends_of(scores[places == place])
        assert (found.low[place], found.value[place], found.high[place]) == pytest.approx(alone)


@given(st.integers(0, 10**6))
def test_one_image_more_that_is_lost_never_lowers_an_end(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 30, rng.integers(1, 40))
    lost = rng.integers(-sizes, sizes) * (rng.random(len(sizes)) < rng.random())
    more = lost.copy()
    more[rng.integers(len(sizes))] += 1
    before, after = ends_of(lost / sizes, sizes), ends_of(more / sizes, sizes)
    assert all(end >= earlier - 1e-8 for earlier, end in zip(before, after, strict=True))


def test_students_p_is_scipys_and_one_where_there_is_no_spread():
    expected = stats.ttest_1samp(VALUES, 0.0, alternative="greater").pvalue
    assert float(student_p(units_of(VALUES))[0]) == pytest.approx(expected)
    assert float(student_p(units_of(-VALUES))[0]) == pytest.approx(1 - expected)
    assert float(student_p(units_of(VALUES, np.full(10, 7)))[0]) == pytest.approx(expected)
    twice = stats.ttest_1samp(np.repeat(VALUES, 2), 0.0, alternative="greater").pvalue
    assert float(student_p(units_of(VALUES, counts=np.full(10, 2)))[0]) == pytest.approx(twice)
    for values in ([0.4], [1.0] * 4, [0.0] * 5):
        assert float(student_p(units_of(values))[0]) == 1.0


@pytest.mark.parametrize(("value", "below"), [(-1.0, 1 / 202), (200.0, 201 / 202), (40.0, 40.5 / 101)])
@pytest.mark.parametrize("left", [np.full(5, 40.0), np.array([1.0, 2.0, 4.0, 9.0, 40.0]), np.array([9e-4, 1e-4, 0.0])])
def test_the_corrected_ends_are_efrons_also_where_every_resample_is_on_one_side(value, below, left):
    drawn, bias, off = np.arange(101.0), stats.norm.ppf(below), left.mean() - left
    skew = (off**3).sum() / (6 * (off**2).sum() ** 1.5) if off.any() else 0.0
    low, high = (100 * stats.norm.cdf(bias + (bias + z) / (1 - skew * (bias + z))) for z in stats.norm.ppf([0.1, 0.9]))
    found = corrected(value, drawn, left, 0.1)
    assert (float(found.low), float(found.high)) == pytest.approx((min(low, value), max(high, value)))
