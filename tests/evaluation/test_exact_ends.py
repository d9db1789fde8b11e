"""Every interval and p-value at exact numbers: from SciPy, from a definition, or on the boundary of a rule."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from auditsvc.evaluation import images_needed, student, tango, wilson
from auditsvc.evaluation.intervals import (
    FEW,
    Interval,
    bca,
    bootstrap_weights,
    corrected,
    graded,
    groups_of,
    hall_interval,
    mcnemar,
    student_p,
)

VALUES = np.array([0.0, 0.1, 0.1, 0.3, 0.9, 0.2, 0.0, 0.5, 0.4, 0.7])


def sums_of(values):
    return tuple(float((values**power).sum()) for power in (1, 2, 3))


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
    found = student(*sums_of(scores)[:2], 2, 0.05, -5.0, 5.0)
    assert (float(found.low), float(found.high)) == pytest.approx((expected.low, expected.high))


def test_halls_interval_solves_halls_transformation():
    """Hall's cubic of the studentised mean is Student's quantile at the ends."""
    found, n = hall_interval(*sums_of(VALUES), 10, 0.05), 10
    spread = VALUES.std(ddof=1)
    skew = np.mean((VALUES - VALUES.mean()) ** 3) / spread**3
    for end, sign in ((float(found.low), 1), (float(found.high), -1)):
        pull = (VALUES.mean() - end) / spread
        cubic = pull + skew * pull**2 / 3 + skew**2 * pull**3 / 27 + skew / (6 * n)
        assert np.sqrt(n) * cubic == pytest.approx(sign * stats.t.isf(0.05, n - 1))
    assert float(found.value) == VALUES.mean()


@pytest.mark.parametrize(("differing", "sums_count"), [(FEW - 1, False), (FEW, True), (FEW + 1, True)])
def test_sums_count_from_exactly_few_differing_images(differing, sums_count):
    values, bounded = np.tile(VALUES, 4), Interval(*(np.array(end) for end in (0.32, -0.9, 0.9)))
    found = graded(sums_of(values), 40, differing, bounded, 0.05)
    ends = student(*sums_of(values)[:2], 40, 0.05, -1.0, 1.0), hall_interval(*sums_of(values), 40, 0.05)
    expected = (min(float(e.low) for e in ends), max(float(e.high) for e in ends)) if sums_count else (-0.9, 0.9)
    assert (float(found.low), float(found.high)) == expected
    assert float(found.value) == pytest.approx(0.32)


def test_graded_scores_without_spread_get_the_score_interval_whatever_their_number():
    bounded = Interval(*(np.array(end) for end in (0.5, 0.41, 0.6)))
    found = graded((20.0, 10.0, 5.0), 40, 40, bounded, 0.05)
    assert (float(found.low), float(found.value), float(found.high)) == (0.41, 0.5, 0.6)


def test_a_score_interval_that_misses_the_value_is_stretched_to_it():
    above, below = (Interval(*(np.array(end) for end in ends)) for ends in ((0.6, 0.55, 0.7), (0.3, 0.2, 0.45)))
    assert float(graded((0.5, 0.5, 0.5), 1, 1, above, 0.05).low) == 0.5
    assert float(graded((0.5, 0.5, 0.5), 1, 1, below, 0.05).high) == 0.5


def test_students_p_is_scipys_and_one_where_there_is_no_spread():
    expected = stats.ttest_1samp(VALUES, 0.0, alternative="greater").pvalue
    assert float(student_p(*sums_of(VALUES)[:2], 10)) == pytest.approx(expected)
    assert float(student_p(-VALUES.sum(), (VALUES**2).sum(), 10)) == pytest.approx(1 - expected)
    assert student_p([0.4, 4.0, 0.0], [0.16, 4.0, 0.0], [1, 4, 5]).tolist() == [1.0, 1.0, 1.0]


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


def test_halls_interval_of_mirrored_scores_is_mirrored():
    found, mirrored = hall_interval(*sums_of(VALUES), 10, 0.05), hall_interval(*sums_of(-VALUES), 10, 0.05)
    assert (float(mirrored.low), float(mirrored.high)) == pytest.approx((-float(found.high), -float(found.low)))


@pytest.mark.parametrize(("sign", "end"), [(1, "high"), (-1, "low")])
def test_students_ends_in_graded_scores_are_cut_at_one(sign, end):
    values = sign * np.array([1.0] * 23 + [-1.0] * 2)
    uncut = student(*sums_of(values)[:2], 25, 0.05, -2.0, 2.0)
    hall = hall_interval(*sums_of(values), 25, 0.05)
    assert abs(float(getattr(uncut, end))) > 1 > abs(float(getattr(hall, end)))
    found = graded(sums_of(values), 25, 25, uncut, 0.05)
    assert float(getattr(found, end)) == sign


def test_graded_scores_that_are_mirrored_get_the_mirrored_interval():
    values, bounded = np.tile(VALUES, 4), Interval(*(np.array(end) for end in (0.0, -0.9, 0.9)))
    found, mirrored = (graded(sums_of(sign * values), 40, 40, bounded, 0.05) for sign in (1, -1))
    assert (float(mirrored.low), float(mirrored.high)) == pytest.approx((-float(found.high), -float(found.low)))
