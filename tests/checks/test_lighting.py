"""Lighting against a model that sees nothing but mean brightness, and against published colour numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from auditsvc.checks.lighting import Lighting
from auditsvc.evaluation import image_seeds
from auditsvc.evaluation.perturbations import illumination
from auditsvc.records import OVERALL
from tests.fakes.models import SeesMeanBrightness, SeesOneCorner, array_dataset, case_of, grey_dataset

EVERYTHING = Lighting(
    exposure_stops=(-2, 1), gammas=(0.5, 2), kelvins=(3200, 9000), low_light_stops=(-4,), shadow_stops=(1, 3),
    uneven_stops=(2,), glare_peaks=(2,), backlight_stops=(2,), flicker_depths=(0.2,), curve=True, errors_apart=True,
)  # fmt: skip
SEEDS = image_seeds(1, "light", torch.arange(64))


def outcomes(check, case):
    return {(reading.metric, reading.slice): reading.outcome for reading in check.measure(case)}


def photographs(count=64, size=16):
    chance = torch.Generator().manual_seed(4)
    return torch.rand(count, 3, size, size, generator=chance)


def test_one_stop_less_light_halves_linear_light():
    """18 % grey is sRGB 0.4614 and 9 % is 0.3318; the model's threshold lies between them."""
    dataset = grey_dataset([0.4614 + 0.0001, 0.9])
    threshold = (0.4614 + 0.3318) / 2
    dataset = array_dataset(dataset.images, np.array([1, 1]))
    model = SeesMeanBrightness(threshold)
    found = outcomes(Lighting(exposure_stops=(-1, 0)), case_of(model, model, dataset))
    assert found["score.exposure@-1EV", OVERALL].value == 0.5
    assert found["score.exposure@+0EV", OVERALL].value == 1.0
    exposed = illumination.expose(torch.full((1, 3, 2, 2), 0.4614), SEEDS[:1], stops=-1)
    assert float(exposed.mean()) == pytest.approx(0.3318, abs=2e-4)


def test_the_severity_at_which_the_floor_breaks_lies_between_the_stops():
    """Grey images from 0.5 to 1: with each stop the darker ones fall under the threshold."""
    images = torch.linspace(0.55, 1.0, 10)[:, None, None, None].expand(-1, 3, 8, 8).clone()
    dataset = array_dataset(images, np.ones(10, np.int64))
    found = outcomes(
        Lighting(exposure_stops=(-3, -1, -2), curve=True, floor=0.5),
        case_of(SeesMeanBrightness(), SeesMeanBrightness(), dataset),
    )
    heights = [found[f"score.exposure@{stops}EV", OVERALL].value for stops in (-1, -2, -3)]
    assert heights == sorted(heights, reverse=True)
    failure_severity = found["failure_severity.darker", OVERALL]
    curve = np.interp(failure_severity.value, (0, 1, 2, 3), (1, *heights))
    assert curve == pytest.approx(0.5)
    assert failure_severity.low < failure_severity.value < failure_severity.high <= 3
    area = sum((a + b) / 2 for a, b in zip((1, *heights), heights, strict=False)) / 3
    assert found["area.darker", OVERALL].value == pytest.approx(area)


def test_a_candidate_that_needs_more_light_loses_in_the_dark_only():
    dataset = array_dataset(photographs() * 0.5 + 0.5, np.ones(64, np.int64))
    found = outcomes(
        Lighting(exposure_stops=(-1, 1)), case_of(SeesMeanBrightness(0.65), SeesMeanBrightness(0.4), dataset)
    )
    assert found["drop.exposure@-1EV", OVERALL].value == 1
    assert found["drop.exposure@+1EV", OVERALL].value == 0


def test_misses_and_false_alarms_are_told_apart():
    found = outcomes(
        Lighting(exposure_stops=(-4, 4), errors_apart=True),
        case_of(SeesMeanBrightness(), SeesMeanBrightness(), grey_dataset([0.3, 0.4, 0.6, 0.7])),
    )
    assert (
        found["false_negative.exposure@-4EV", OVERALL].value == 1
        and found["false_positive.exposure@-4EV", OVERALL].value == 0
    )
    assert (
        found["false_negative.exposure@+4EV", OVERALL].value == 0
        and found["false_positive.exposure@+4EV", OVERALL].value == 1
    )
    assert found["false_negative.exposure@-4EV", OVERALL].images == 2
    assert found["false_negative.exposure@-4EV", "kind=dark"].state == "unmeasured"


def test_every_declared_metric_comes_for_every_slice():
    dataset = array_dataset(photographs(12), np.array([0, 1] * 6), {"half": ["a", "b"] * 6})
    found = outcomes(EVERYTHING, case_of(SeesOneCorner(), SeesMeanBrightness(), dataset))
    assert set(found) == {(metric.id, name) for metric in EVERYTHING.metrics() for name in dataset.slices.names}


@pytest.mark.parametrize("condition", [one.name for one in EVERYTHING.conditions()])
def test_light_changes_an_image_alike_in_any_batch_and_keeps_it_an_image(condition):
    images = photographs()
    (disturb,) = [
        work for axis in EVERYTHING.axes() for one, work in zip(axis.conditions, axis.disturbances, strict=True)
        if one.name == condition
    ]  # fmt: skip
    whole = disturb(images, SEEDS)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    parts = torch.cat([disturb(images[part], SEEDS[part]) for part in order.split(7)])
    assert torch.allclose(parts, whole[order], atol=1e-6)
    assert whole.shape == images.shape and whole.dtype == torch.float32
    assert float(whole.min()) >= 0 and float(whole.max()) <= 1 and not torch.equal(whole, images)
    grey = disturb(images[:, :1], SEEDS)
    assert grey.shape == (64, 1, 16, 16) and torch.isfinite(grey).all()


def test_srgb_goes_there_and_back():
    stored = torch.linspace(0, 1, 1001)
    assert torch.allclose(illumination.to_srgb(illumination.to_linear(stored)), stored, atol=1e-6)


@pytest.mark.parametrize(
    ("kelvin", "x", "y"), [(2856, 0.4476, 0.4074), (4000, 0.3804, 0.3767), (10000, 0.2807, 0.2884)]
)
def test_black_bodies_have_their_published_chromaticity(kelvin, x, y):
    """CIE illuminant A and the Planckian locus."""
    white = illumination.white_of(kelvin)
    share = white / white.sum()
    assert (float(share[0]), float(share[1])) == (pytest.approx(x, abs=2e-3), pytest.approx(y, abs=2e-3))


def test_a_lamp_of_daylight_changes_nothing_and_a_warm_one_is_redder():
    grey = torch.full((1, 3, 4, 4), 0.5)
    assert torch.allclose(illumination.tint(grey, SEEDS[:1], kelvin=illumination.DAYLIGHT), grey, atol=1e-4)
    red, green, blue = illumination.tint(grey, SEEDS[:1], kelvin=2856)[0, :, 0, 0].tolist()
    assert red > green > blue


@pytest.mark.parametrize("stops", [0.0, -3.0, -6.0])
def test_sensor_noise_has_the_variance_of_photons_and_read_out(stops):
    grey = torch.full((200, 1, 32, 32), 0.5)
    well, read = 2000.0, 0.5
    seeds = image_seeds(2, "dim", torch.arange(200))
    dimmed = illumination.dim(grey, seeds, stops=stops, full_well=well, read_noise=read)
    seen = illumination.to_linear(dimmed).double()
    electrons = float(illumination.to_linear(torch.tensor(0.5))) * well * 2.0**stops
    expected = (electrons + read**2) / (well * 2.0**stops) ** 2
    assert float(seen.mean()) == pytest.approx(electrons / (well * 2.0**stops), rel=0.01)
    assert float(seen.var()) == pytest.approx(expected, rel=0.03)
