"""Every corruption against code that was written by others, and against its own promises."""

from __future__ import annotations

import colorsys
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch.nn import functional

from auditsvc.evaluation import image_seeds, uniform
from auditsvc.evaluation.perturbations.blur import _glasses, moved, zoom_blur, zoomed
from auditsvc.evaluation.perturbations.corruptions import ALIKE, CORRUPTIONS, EXACT, JUDGED, TABLES, corrupt
from auditsvc.evaluation.perturbations.noise_bank import layer_seeds

SEEDS = image_seeds(3, "corruptions", torch.arange(64))


def pictures(count=24, size=32, channels=3):
    coarse = torch.rand(count, channels, 7, 7, generator=torch.Generator().manual_seed(0))
    fine = functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)
    return (fine * 255).round() / 255


def as_arrays(images):
    return images.permute(0, 2, 3, 1).double().numpy()


@pytest.mark.parametrize("severity", [1, 5])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_is_corrupted_alike_in_any_batch(name, severity):
    images = pictures()
    whole = corrupt(images, SEEDS[:24], name=name, severity=severity)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(2))
    parts = [corrupt(images[part], SEEDS[part], name=name, severity=severity) for part in order.split(5)]
    assert torch.allclose(torch.cat(parts), whole[order], atol=2e-6)
    assert whole.shape == images.shape and whole.dtype == torch.float32
    assert float(whole.min()) >= 0 and float(whole.max()) <= 1


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 40, 56), (3, 72, 64)])
def test_grey_and_oblong_images_are_corrupted_too(name, shape):
    images = torch.rand(3, *shape, generator=torch.Generator().manual_seed(1))
    found = corrupt(images, SEEDS[:3], name=name, severity=4)
    assert found.shape == images.shape and torch.isfinite(found).all()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_original_is_left_as_it_was(name):
    images = pictures(4)
    before = images.clone()
    corrupt(images, SEEDS[:4], name=name, severity=3)
    assert torch.equal(images, before)


@pytest.mark.parametrize("table", ["imagenet", "cifar"])
@pytest.mark.parametrize("name", [name for name in JUDGED if name not in ("glass_blur", "frost", "elastic_transform")])
def test_each_severity_changes_more_than_the_last(name, table):
    images = pictures(64)
    changes = [float((corrupt(images, SEEDS, name=name, severity=severity, table=table) - images).abs().mean())
               for severity in range(1, 6)]  # fmt: skip
    assert all(later > 0.95 * earlier for earlier, later in pairwise(changes))
    assert changes[-1] > changes[0] > 0


def test_small_images_get_the_small_table():
    small, large = pictures(2, 63), pictures(2, 64)
    for images, table in ((small, "cifar"), (large, "imagenet")):
        auto = corrupt(images, SEEDS[:2], name="gaussian_blur", severity=5)
        assert torch.equal(auto, corrupt(images, SEEDS[:2], name="gaussian_blur", severity=5, table=table))


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_brightness_and_saturation_are_those_of_hsv(severity):
    images = pictures(2, 8)
    lighter = corrupt(images, SEEDS[:2], name="brightness", severity=severity, table="imagenet")
    redder = corrupt(images, SEEDS[:2], name="saturate", severity=severity, table="imagenet")
    amount, (gain, offset) = (TABLES["imagenet"][name][severity - 1] for name in ("brightness", "saturate"))
    for number, row, column in np.ndindex(2, 8, 8):
        hue, saturation, value = colorsys.rgb_to_hsv(*images[number, :, row, column].tolist())
        expected = colorsys.hsv_to_rgb(hue, saturation, min(value + amount, 1))
        assert lighter[number, :, row, column].tolist() == pytest.approx(expected, abs=1e-5)
        expected = colorsys.hsv_to_rgb(hue, min(max(saturation * gain + offset, 0), 1), value)
        assert redder[number, :, row, column].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("sigma", [0.4, 1, 3])
def test_gaussian_blur_is_scipys(sigma):
    images = pictures(3, 20)
    found = as_arrays(corrupt_with("gaussian_blur", images, sigma))
    expected = ndimage.gaussian_filter(as_arrays(images), (0, sigma, sigma, 0), mode="nearest", truncate=4)
    assert np.abs(found - expected).max() < 1e-5


def corrupt_with(name, images, *parameters):
    from auditsvc.evaluation.perturbations import corruptions

    return corruptions._WORKS[name](images, SEEDS[: len(images)], *parameters)


def test_zoom_blur_is_scipys_zoom():
    images = pictures(2, 40)
    found = as_arrays(corrupt_with("zoom_blur", images, 1.21, 0.02))
    expected = as_arrays(images)
    factors = np.arange(1, 1.21, 0.02)
    total = expected.copy()
    for factor in factors:
        side = int(np.ceil(40 / factor))
        top = (40 - side) // 2
        part = expected[:, top : top + side, top : top + side]
        total += ndimage.zoom(part, (1, factor, factor, 1), order=1)[:, :40, :40]
    assert np.abs(found - total / (len(factors) + 1)).max() < 1e-5


@pytest.mark.parametrize("degrees", [-40.0, 0.0, 25.0])
def test_motion_blur_sums_shifted_copies(degrees):
    images = pictures(2, 36)
    found = as_arrays(moved(images, torch.tensor([degrees, degrees]), 10, 3))
    steps = np.arange(21)
    weights = np.exp(-(steps**2) / 18)
    expected = np.zeros_like(found)
    padded = np.pad(as_arrays(images), ((0, 0), (25, 25), (25, 25), (0, 0)), mode="edge")
    for step, weight in zip(steps, weights / weights.sum(), strict=True):
        down = int(np.ceil(step * np.sin(np.deg2rad(degrees)) - 0.5))
        across = int(np.ceil(step * np.cos(np.deg2rad(degrees)) - 0.5))
        expected += weight * padded[:, 25 + down : 61 + down, 25 + across : 61 + across]
    assert np.abs(found - expected).max() < 1e-3


@pytest.mark.parametrize("share", [0.6, 0.3])
def test_pixelation_is_pillows(share):
    images = pictures(3, 50)
    found = (as_arrays(corrupt_with("pixelate", images, share, False)) * 255).round().astype(np.uint8)
    for number, image in enumerate((as_arrays(images) * 255).round().astype(np.uint8)):
        small = Image.fromarray(image).resize((int(50 * share), int(50 * share)), Image.Resampling.BOX)
        assert np.array_equal(found[number], np.asarray(small.resize((50, 50), Image.Resampling.NEAREST)))


def test_jpeg_is_the_codecs():
    images = pictures(2)
    found = (as_arrays(corrupt_with("jpeg_compression", images, 15)) * 255).round().astype(np.uint8)
    for number, image in enumerate((as_arrays(images) * 255).round().astype(np.uint8)):
        buffer = BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=15)
        assert np.array_equal(found[number], np.asarray(Image.open(buffer)))


@pytest.mark.parametrize("level", [0.1, 0.5])
def test_noise_has_the_moments_of_its_law(level):
    images = torch.full((64, 3, 32, 32), round(level * 255) / 255)
    value = float(images[0, 0, 0, 0])
    expected = {
        ("gaussian_noise", 0.02): (value, 0.02**2),
        ("speckle_noise", 0.1): (value, (0.1 * value) ** 2),
        ("shot_noise", 60): (value, value / 60),
        ("shot_noise", 500): (value, value / 500),
        ("impulse_noise", 0.06): (value * 0.94 + 0.03, 0.94 * value**2 + 0.03 - (value * 0.94 + 0.03) ** 2),
    }
    for (name, parameter), (mean, variance) in expected.items():
        found = corrupt_with(name, images, parameter).double()
        assert float(found.mean()) == pytest.approx(mean, rel=0.02), name
        assert float(found.var()) == pytest.approx(variance, rel=0.03), name


def test_images_do_not_share_their_noise():
    images = torch.full((64, 3, 32, 32), 0.5)
    noise = (corrupt_with("gaussian_noise", images, 0.1) - images).flatten(1)
    assert float((torch.corrcoef(noise) - torch.eye(64)).abs().max()) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize(("count", "size", "severities"), [(200, 32, (1, 3, 5)), (8, 224, (3,))])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_authors_code_gives_the_same_within_the_stated_tolerance(name, count, size, severities):
    reference = pytest.importorskip("imagecorruptions.corruptions")
    count = 100 if name == "frost" else count  # one of six photographs for each image
    images = pictures(count, size)
    before = as_arrays(images) * 255
    seeds = image_seeds(4, "reference", torch.arange(count))
    np.random.seed(0)
    for severity in severities:
        ours = as_arrays(corrupt(images, seeds, name=name, severity=severity, table="imagenet")) * 255
        pillow = [Image.fromarray(image.round().astype(np.uint8)) for image in before]
        theirs = np.stack([np.asarray(getattr(reference, name)(image, severity=severity)) for image in pillow])
        if name in EXACT:
            assert np.abs(ours - theirs).mean() <= EXACT[name]
        else:
            for measure in (lambda found: np.abs(found - before).mean(), lambda found: (found - before).std()):
                assert measure(ours) == pytest.approx(measure(theirs), rel=ALIKE[name])


@pytest.mark.parametrize(("height", "width", "delta", "rounds"), [(20, 17, 1, 2), (24, 24, 4, 2), (9, 30, 2, 3)])
def test_panes_of_glass_are_those_that_a_visit_of_each_pixel_in_turn_makes(height, width, delta, rounds):
    made = _glasses(height, width, delta, rounds)
    seeds, each = layer_seeds(f"glass {delta} {rounds}", len(made)), np.arange(len(made))
    panes = np.tile(np.arange(height * width), (len(made), 1)).reshape(-1, height, width)
    visited = [(row, column) for row in range(height - delta, delta, -1) for column in range(width - delta, delta, -1)]
    for turn in range(rounds):
        offsets = (uniform(seeds, (height * width, 2), 30 + turn).numpy() * 2 * delta).astype(np.int64) - delta
        for number, (row, column) in enumerate(visited):
            panes[:, row, column] = panes[each, row + offsets[:, number, 1], column + offsets[:, number, 0]]
    assert np.array_equal(made.numpy(), panes.reshape(len(made), -1))


@pytest.mark.parametrize("channels", [1, 3])
def test_zoom_is_the_mean_of_magnified_images(channels):
    images = pictures(4, 65, channels)
    magnified = [zoomed(images, factor) for factor in np.arange(1, 1.11, 0.02).tolist()]
    found = zoom_blur(images, SEEDS[:4], 1.11, 0.02)
    assert found.is_contiguous() and len(magnified) == 6
    assert torch.allclose(found, ((images + sum(magnified)) / 7).clamp(0, 1), atol=1e-6)
