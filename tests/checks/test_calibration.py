"""Calibration error without the bias of binning, and intervals that hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from auditsvc.checks.calibration import (
    Binned,
    Calibration,
    change_interval,
    error_interval,
    selective_change,
    selective_risk,
)
from auditsvc.evaluation.intervals import bca, bootstrap_weights
from auditsvc.records import OVERALL, Unmeasured
from tests.fakes.models import array_dataset, case_of


def drawn(seed, images, excess=0.0):
    """Confidences of 0.6 to 0.99, and answers that are right that often, less ``excess``."""
    rng = np.random.default_rng(seed)
    told = rng.uniform(0.6, 0.99, images)
    return told, (rng.random(images) < told - excess).astype(float)


def test_a_perfectly_calibrated_model_has_no_error_on_average():
    """The plain binned error is 5 points here; squared and debiased it is zero on average."""
    found = [Binned.of(*drawn(seed, 200), 15).squared_error(np.ones((1, 200)))[0] for seed in range(300)]
    assert np.mean(found) == pytest.approx(0.0, abs=0.0006)
    curve = Binned.of(*drawn(1, 200), 15).reliability(None, 0.05)
    assert sum(right.images * abs(told - right.value) for told, right in curve) / 200 > 0.04


@pytest.mark.parametrize(("images", "excess"), [(300, 0.15), (1000, 0.08)])
@pytest.mark.slow
def test_the_ends_of_the_error_hold_the_truth(images, excess):
    ends = []
    for seed in range(200):
        told, right = drawn(seed, images, excess)
        weights = bootstrap_weights(images, None, 300, np.random.default_rng(seed))
        ends.append(error_interval(weights, 0.05, Binned.of(told, right, 15)))
    assert np.mean([end.low > excess for end in ends]) <= 0.09
    assert np.mean([end.high < excess for end in ends]) <= 0.09


@pytest.mark.parametrize(("images", "before", "after"), [(125, 0.0, 0.03), (300, 0.0, 0.1), (300, 0.03, 0.0)])
@pytest.mark.slow
def test_a_candidate_that_grew_too_sure_is_seldom_called_less_so_than_it_is(images, before, after):
    """The root of a cut estimate flattered the change: its upper end lay below the truth in one case of four."""
    ends, runs = [], 150
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        share = rng.uniform(0.5, 0.89, images)
        right = (rng.random(images) < share).astype(float)
        own, dense = (Binned.of(share + more, right, 15) for more in (after, before))
        ends.append(change_interval(bootstrap_weights(images, None, 300, rng), 0.05, own, dense))
    most = 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)  # three standard errors
    assert np.mean([end.high < after - before for end in ends]) <= most
    assert np.mean([end.low > after - before for end in ends]) <= most


def test_the_same_confidences_have_no_change_of_error():
    model = Binned.of(*drawn(1, 300, 0.1), 15)
    weights = bootstrap_weights(300, None, 300, np.random.default_rng(0))
    assert [float(end) for end in vars(change_interval(weights, 0.05, model, model)).values()] == [0.0, 0.0, 0.0]


def test_clustered_images_are_no_calibration_error_and_widen_the_curve():
    rng = np.random.default_rng(5)
    clusters = np.repeat(np.arange(60), 5)
    found, plain, curves = [], [], []
    for _ in range(150):
        told = rng.uniform(0.6, 0.99, 60).repeat(5)
        right = (rng.random(60).repeat(5) < told).astype(float)
        weights = np.ones((1, 300))
        found.append(Binned.of(told, right, 15, clusters).squared_error(weights)[0])
        plain.append(Binned.of(told, right, 15).squared_error(weights)[0])
        curves.append([Binned.of(told, right, 5).reliability(of, 0.05)[2][1] for of in (clusters, None)])
    assert abs(np.mean(found)) < np.mean(plain) / 3
    assert all(own.low <= alone.low and own.high >= alone.high for own, alone in curves)
    assert curves[0][0].clusters is not None and curves[0][1].clusters is None


def test_resampling_clusters_is_wider_than_resampling_images():
    values = np.repeat(np.random.default_rng(0).random(40), 10)
    clusters = np.repeat(np.arange(40), 10)
    rng = np.random.default_rng(1)

    def mean(weights):
        return weights @ values / weights.sum(axis=1)

    apart, together = (bca(mean, bootstrap_weights(400, which, 500, rng), which, 0.05) for which in (None, clusters))
    assert together.high - together.low > 2.5 * (apart.high - apart.low)


def test_bca_holds_the_mean_of_skewed_scores():
    missed = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        values = rng.exponential(size=60)
        found = bca(lambda w, v=values: w @ v / w.sum(axis=1), bootstrap_weights(60, None, 500, rng), None, 0.05)
        missed.append((found.low > 1.0, found.high < 1.0))
    assert np.mean(missed, axis=0)[0] <= 0.09
    assert np.mean(missed, axis=0)[1] <= 0.11


class Sure(nn.Module):
    """Says class 1 with logits ``sharpness`` times what is written in the image."""

    def __init__(self, sharpness):
        super().__init__()
        self.sharpness = sharpness

    def forward(self, images):
        logit = images[:, 0, 0, 0] * 4 * self.sharpness
        return torch.stack((torch.zeros_like(logit), logit), dim=1)


def test_a_candidate_that_grew_too_sure_is_seen_though_every_answer_is_the_same():
    rng = np.random.default_rng(5)
    level = rng.uniform(0.05, 1, 1500)
    right = rng.random(1500) < 1 / (1 + np.exp(-4 * level))
    images = torch.tensor(level, dtype=torch.float32)[:, None, None, None].expand(-1, 3, 4, 4).clone()
    kinds = ["x"] * 1440 + ["y"] * 60
    dataset = array_dataset(images, right.astype(np.int64), {"kind": kinds})
    case = case_of(Sure(4.0), Sure(1.0), dataset)
    found = {(item.metric, item.slice): item.outcome for item in Calibration().measure(case)}
    assert found["parent_calibration_error", OVERALL].high < 0.06
    assert found["calibration_error", OVERALL].low > 0.08
    assert found["calibration_change", OVERALL].low > 0.05
    assert found["confidence_change", OVERALL].low > 0.05
    assert isinstance(found["calibration_error", "kind=y"], Unmeasured)
    assert list(Calibration().measure(case)) == list(Calibration().measure(case))


def test_selective_risk_is_the_mean_error_rate_over_every_share_that_is_kept():
    """Of the surest answer none is wrong, of the two surest one, of three one: (0 + 1/2 + 1/3) / 3."""
    told, right = np.array([0.7, 0.9, 0.8]), np.array([1.0, 1.0, 0.0])
    one = np.ones((1, 3))
    assert selective_risk(told, right)(one)[0] == pytest.approx((0 + 1 / 2 + 1 / 3) / 3)
    assert selective_risk(np.full(3, 0.9), right)(one)[0] == pytest.approx(1 / 3)
    assert selective_change((told, right), (np.full(3, 0.9), right))(one)[0] == pytest.approx(5 / 18 - 1 / 3)


def test_weights_in_selective_risk_are_copies_of_images():
    rng = np.random.default_rng(0)
    told, right = rng.random(30), (rng.random(30) < 0.7).astype(float)
    times = rng.integers(0, 3, 30)
    copied = selective_risk(np.repeat(told, times), np.repeat(right, times))(np.ones((1, times.sum())))[0]
    assert selective_risk(told, right)(times[None].astype(float))[0] == pytest.approx(copied)


def test_the_reliability_curve_holds_every_image_once_and_a_bin_without_images_is_unmeasured():
    told, answers = drawn(3, 400)
    images = torch.tensor(told, dtype=torch.float32)[:, None, None, None].expand(-1, 3, 4, 4).clone()
    found = {item.metric: item.outcome for item in
             Calibration().measure(case_of(Sure(1.0), Sure(0.0), array_dataset(images, answers.astype(np.int64))))
             if item.slice == OVERALL}  # fmt: skip
    told_by_bin = [found[f"confidence.bin@{number}"].value for number in range(1, 16)]
    assert told_by_bin == sorted(told_by_bin)
    assert sum(found[f"accuracy.bin@{number}"].images for number in range(1, 16)) == 400
    assert found["parent_accuracy.bin@1"].images == 400
    assert isinstance(found["parent_accuracy.bin@2"], Unmeasured)


def test_an_output_that_is_no_number_is_wrong_and_unsure():
    class Broken(nn.Module):
        def forward(self, images):
            return torch.full((len(images), 2), float("nan"))

    dataset = array_dataset(torch.rand(120, 3, 4, 4), np.ones(120, np.int64))
    found = {item.metric: item.outcome for item in Calibration().measure(case_of(Broken(), Sure(1.0), dataset))}
    assert found["confidence_change"].value < -0.4
