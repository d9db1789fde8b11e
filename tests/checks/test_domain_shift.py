"""Domain shift: known changes of camera and pipeline, and a second domain at a known distance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from auditsvc.checks.domain_shift import DomainShift
from auditsvc.errors import InvalidInput
from auditsvc.evaluation import image_seeds
from auditsvc.evaluation.metrics.mmd import mean_discrepancy
from auditsvc.evaluation.perturbations import camera
from auditsvc.records import OVERALL, Unmeasured
from tests.fakes.models import SeesMeanBrightness, SeesOneCorner, array_dataset, case_of

SEEDS = image_seeds(1, "shift", torch.arange(40))
EVERYTHING = DomainShift(mists=(0.5,), curve=True, errors_apart=True, other="camera=b")


def outcomes(check, case):
    return {(reading.metric, reading.slice): reading.outcome for reading in check.measure(case)}


def photographs(count=40, size=16):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("condition", [one.name for one in EVERYTHING.conditions()])
def test_a_change_is_the_same_in_any_batch_and_keeps_an_image(condition):
    (change,) = [
        work for axis in EVERYTHING.axes() for one, work in zip(axis.conditions, axis.disturbances, strict=True)
        if one.name == condition
    ]  # fmt: skip
    images = photographs()
    whole = change(images, SEEDS)
    parts = [change(images[part], SEEDS[part]) for part in torch.arange(39, -1, -1).split(7)]
    assert torch.allclose(torch.cat(parts).flip(0), whole, atol=2e-6)
    assert whole.shape == images.shape and not torch.equal(whole, images)
    assert float(whole.min()) >= 0 and float(whole.max()) <= 1
    assert change(images[:, :1], SEEDS).shape == (40, 1, 16, 16)


def test_an_even_image_stays_even_through_lens_and_scaling():
    even = torch.full((4, 3, 16, 16), 0.4)
    for change in (
        lambda images, seeds: camera.resample(images, seeds, share=0.5),
        lambda images, seeds: camera.defocus(images, seeds, share=0.05),
        lambda images, seeds: camera.shake(images, seeds, share=0.1),
        lambda images, seeds: camera.recolour(images, seeds, strength=2.0),
    ):
        assert torch.allclose(change(even, SEEDS[:4]), even, atol=1e-3)


def test_a_model_of_mean_brightness_is_lost_in_haze_alone():
    """Haze whitens dark images; lens, shake and resizing leave their mean where it is."""
    dataset = array_dataset(photographs() * 0.8, np.zeros(40, np.int64))
    check = DomainShift(hazes=(3.0,), rains=())
    found = outcomes(check, case_of(SeesMeanBrightness(), SeesMeanBrightness(), dataset))
    assert found["score.haze@3", OVERALL].value == 0
    assert all(found[f"score.{name}", OVERALL].value == 1 for name in ("resolution@0.5", "blur@0.01", "shake@0.04"))


def test_every_declared_metric_comes_on_every_slice():
    dataset = array_dataset(photographs(), np.array([0, 1] * 20), {"camera": ["a", "b"] * 20})
    found = outcomes(EVERYTHING, case_of(SeesOneCorner(), SeesMeanBrightness(), dataset))
    assert {metric for metric, name in found if name == OVERALL} == {one.id for one in EVERYTHING.metrics()}


def two_cameras(difference, count=400):
    images = photographs(count)
    images[1::2] = (images[1::2] + difference).clamp(0, 1)
    return array_dataset(images, np.zeros(count, np.int64), {"camera": ["a", "b"] * (count // 2)})


def test_another_domain_is_far_and_the_same_is_not():
    check = DomainShift(other="camera=b")
    near, far = (
        outcomes(check, case_of(SeesMeanBrightness(0.9), SeesMeanBrightness(0.9), two_cameras(difference)))
        for difference in (0.0, 0.1)
    )
    assert far["mmd.other", OVERALL].low > near["mmd.other", OVERALL].high
    assert near["mmd.other", OVERALL].low < 0 < far["mmd.other", OVERALL].low
    assert near["mmd_p_value.other", OVERALL].value > 0.01 > far["mmd_p_value.other", OVERALL].value


def test_the_loss_in_the_other_domain_is_that_slices():
    found = outcomes(
        DomainShift(other="camera=b"), case_of(SeesMeanBrightness(0.55), SeesMeanBrightness(0.9), two_cameras(0.2))
    )
    assert found["drop.other", OVERALL].value == 1
    assert found["drop.other", OVERALL].images == 200


def test_too_few_images_have_no_distance():
    found = outcomes(
        DomainShift(other="camera=b"), case_of(SeesMeanBrightness(), SeesMeanBrightness(), two_cameras(0, 30))
    )
    assert isinstance(found["mmd.other", OVERALL], Unmeasured)


def test_a_domain_that_is_not_there_is_named():
    with pytest.raises(InvalidInput, match="camera=c"):
        outcomes(DomainShift(other="camera=c"), case_of(SeesMeanBrightness(), SeesMeanBrightness(), two_cameras(0, 30)))


def test_equal_sets_are_called_far_as_seldom_as_promised():
    chance, called = torch.Generator().manual_seed(0), 0
    for number in range(300):
        one, other = torch.randn(120, 3, generator=chance), torch.randn(120, 3, generator=chance)
        called += mean_discrepancy(one, other, 0.05, number).low > 0
    assert called / 300 < 0.09


def test_clusters_of_equal_images_are_no_distance():
    """Each cluster is one image five times: without the clusters a distance is called in far more than 5 % of cases."""
    chance, called = torch.Generator().manual_seed(1), np.zeros(2)
    clusters = np.arange(200) // 5
    for number in range(200):
        one, other = (torch.randn(40, 3, generator=chance).repeat_interleave(5, 0) for _ in range(2))
        for place, of in enumerate(((clusters, clusters), (None, None))):
            called[place] += mean_discrepancy(one, other, 0.05, number, of).low > 0
    assert called[0] / 200 < 0.1
    assert called[1] > called[0]
