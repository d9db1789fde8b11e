"""Curves by hand: where a floor is crossed, and what agreement of all images proves."""

from __future__ import annotations

import numpy as np
import pytest

from auditsvc.evaluation.intervals import unseen
from auditsvc.evaluation.metrics.severity_curve import crossing


@pytest.mark.parametrize(
    ("heights", "expected"),
    [((1, 0.8, 0.4), 1.75), ((1, 0.9, 0.6), 2.0), ((0.4, 0.3, 0.2), 0.0), ((1, 0.5, 0.4), 1.0), ((1, 0.2, 0.9), 0.625)],
)
def test_the_floor_is_crossed_where_the_line_between_two_points_meets_it(heights, expected):
    axis = np.array((0.0, 1.0, 2.0))
    assert crossing(axis, np.array(heights)[:, None], np.array([0.5]))[0] == pytest.approx(expected)


@pytest.mark.parametrize("images", [20, 100, 1000])
def test_where_no_image_differed_the_rule_of_three_holds(images):
    assert float(unseen(np.array(images), 0.05)) == pytest.approx(3 / images, rel=0.08)
