"""The corruption check on models that see brightness only, and its error ratios by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from auditsvc.checks.corruption import Corruptions, error_ratios
from auditsvc.datasets import Slices
from auditsvc.evaluation.paired import Pair, empty_predictions
from auditsvc.records import OVERALL, Unmeasured
from tests.fakes.models import SeesMeanBrightness, SeesOneCorner, array_dataset, case_of, grey_dataset


def outcomes(check, case):
    return {(reading.metric, reading.slice): reading.outcome for reading in check.measure(case)}


def test_brightness_loses_the_dark_images_one_severity_after_the_other():
    """The CIFAR table adds 0.05, 0.1, 0.15, 0.2 and 0.3 to grey images of 0.28 to 0.47."""
    dataset = grey_dataset([0.28, 0.33, 0.37, 0.42, 0.47, 0.9])
    check = Corruptions(corruptions=("brightness",), curve=True, floor=0.6)
    found = outcomes(check, case_of(SeesMeanBrightness(), SeesMeanBrightness(), dataset))
    heights = [found[f"score.brightness@{severity}", OVERALL].value for severity in range(1, 6)]
    assert heights == pytest.approx([5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    assert found["failure_severity.brightness", OVERALL].value == pytest.approx(2 + (4 / 6 - 0.6) / (1 / 6))
    assert found["mce", OVERALL].value == pytest.approx(1.0)
    assert found["mce", OVERALL].low < 1 < found["mce", OVERALL].high


def pair(name, parent, candidate):
    made = [empty_predictions(len(parent), 0) for _ in range(2)]
    made[0]["score"], made[1]["score"] = parent, candidate
    return Pair(name, made[0], made[1], None)


def test_the_error_ratio_is_the_mean_of_the_corruptions_ratios():
    fog = (np.array([1.0, 0, 1, 1]), np.array([1.0, 0, 1, 0]))
    snow = (np.array([1.0, 1, 0, 0]), np.array([1.0, 0, 0, 0]))
    clean = pair("clean", [1, 1, 1, 1], [1, 1, 1, 0])
    found = {reading.metric: reading.outcome for reading in error_ratios([fog, snow], clean, 1, Slices(4, ()), 0.05)}
    assert found["mce"].value == pytest.approx((3 / 2 + 2) / 2)
    assert found["relative_mce"].value == pytest.approx((2 / 2 + 1) / 2)
    assert found["mce"].low < found["mce"].value < found["mce"].high


def test_the_interval_of_the_error_ratio_covers():
    """Independent errors of 20 and 30 per cent: the true ratio is 1.5, and each end errs about one time in twenty."""
    chance, missed = np.random.default_rng(0), np.zeros(2)
    for _ in range(400):
        errors = [((chance.random(400) < 0.3).astype(float), (chance.random(400) < 0.2).astype(float)) for _ in "ab"]
        clean = pair("clean", np.ones(400), np.ones(400))
        (mce, _) = [reading.outcome for reading in error_ratios(errors, clean, 1, Slices(400, ()), 0.05)]
        missed += (mce.low > 1.5, mce.high < 1.5)
    assert (missed / 400 < 0.10).all()


def test_a_parent_without_errors_leaves_nothing_to_divide_by():
    clean = pair("clean", [1, 1], [1, 1])
    (mce, _) = [item.outcome for item in error_ratios([(np.ones(2), np.zeros(2))], clean, 1, Slices(2, ()), 0.05)]
    assert isinstance(mce, Unmeasured)


def test_every_declared_metric_comes_for_every_slice():
    images = torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    dataset = array_dataset(images, np.array([0, 1] * 6), {"half": ["a", "b"] * 6})
    check = Corruptions(severities=(2, 5), curve=True, errors_apart=True)
    found = outcomes(check, case_of(SeesOneCorner(), SeesMeanBrightness(), dataset))
    assert set(found) == {(metric.id, name) for metric in check.metrics() for name in dataset.slices.names}
