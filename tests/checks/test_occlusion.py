"""Occlusion against models that look at one place only, and the search against trying every place."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from auditsvc.checks.occlusion import Occlusion
from auditsvc.evaluation import image_seeds
from auditsvc.evaluation.attacks import WorstCover
from auditsvc.evaluation.perturbations import covering
from auditsvc.records import OVERALL
from auditsvc.tasks.classification import Classification
from tests.fakes.models import Linear, NeverWrong, SeesMeanBrightness, SeesOneCorner, array_dataset, case_of

SEEDS = image_seeds(1, "cover", torch.arange(400))
COVERS = {
    "square": (covering.hide_square, {"grey": 0.0}),
    "grid": (covering.hide_cells, {"grey": 0.0}),
    "texture": (covering.hide_texture, {}),
    "object": (covering.hide_object, {"grey": 0.0}),
    "edge": (covering.hide_edge, {"grey": 0.0}),
}
EVERYTHING = Occlusion(covers=tuple(COVERS), worst=(0.1,), tries=5, curve=True, errors_apart=True)


def outcomes(check, case):
    return {(reading.metric, reading.slice): reading.outcome for reading in check.measure(case)}


def white(count, size=32):
    return torch.ones(count, 3, size, size)


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.4])
@pytest.mark.parametrize("cover", ["square", "grid", "object", "edge"])
def test_as_much_is_hidden_as_is_said(cover, fraction):
    disturb, more = COVERS[cover]
    hidden = (disturb(white(400), SEEDS, fraction=fraction, **more) == 0).float().mean(dim=(1, 2, 3))
    assert float(hidden.mean()) == pytest.approx(fraction, rel=0.1, abs=0.5 / 32)


@pytest.mark.parametrize("cover", COVERS)
def test_a_cover_is_the_same_in_any_batch(cover):
    disturb, more = COVERS[cover]
    images = torch.rand(50, 3, 20, 28, generator=torch.Generator().manual_seed(1))
    whole = disturb(images, SEEDS[:50], fraction=0.2, **more)
    parts = [disturb(images[part], SEEDS[part], fraction=0.2, **more) for part in torch.arange(49, -1, -1).split(9)]
    assert torch.equal(torch.cat(parts).flip(0), whole)
    assert not torch.equal(whole, images)


def test_the_place_of_a_square_is_spread_evenly():
    hidden = (covering.hide_square(white(400, 8), SEEDS, fraction=1 / 64, grey=0.0) == 0).float().mean(dim=(0, 1))
    assert float(hidden.max()) < 3 / 64 and float(hidden.min()) > 0


def test_hiding_the_corner_blinds_a_model_that_sees_nothing_else():
    """A black square of four ninths of the side hides the corner of some images, and only those are lost."""
    dataset = array_dataset(white(400, 9), np.ones(400, np.int64))
    check = Occlusion(fractions=(16 / 81,), grey=0.0)
    found = outcomes(check, case_of(SeesOneCorner(1), NeverWrong(), dataset))
    assert found["score.occlusion.square@0.197531", OVERALL].value == pytest.approx(1 - 1 / 36, abs=0.02)
    assert found["drop.occlusion.square@0.197531", OVERALL].value == pytest.approx(
        1 - found["score.occlusion.square@0.197531", OVERALL].value
    )


def test_the_search_finds_what_chance_does_not():
    dataset = array_dataset(white(60, 16), np.ones(60, np.int64))
    check = Occlusion(fractions=(0.0625,), worst=(0.0625,), tries=1, grey=0.0)
    found = outcomes(check, case_of(SeesOneCorner(4), SeesOneCorner(4), dataset))
    assert found["score.occlusion.square@0.0625", OVERALL].value > 0.8
    assert found["score.occlusion.worst@0.0625", OVERALL].value == 0


def test_with_enough_tries_the_search_is_exhaustive():
    chance = torch.Generator().manual_seed(2)
    images = torch.rand(50, 3, 8, 8, generator=chance)
    weights = torch.randn(3, 8, 8, generator=chance)
    model = Linear(weights, -float((images * weights).sum(dim=(1, 2, 3)).median()))
    targets = model(images).argmax(1)
    task = Classification(("dark", "bright"))
    found = WorstCover(task, 4 / 64, 0.5, 10_000)(model, images, targets, SEEDS[:50])
    falls = torch.zeros(50, dtype=torch.bool)
    for top in range(7):
        for left in range(7):
            covered = images.clone()
            covered[:, :, top : top + 2, left : left + 2] = 0.5
            falls |= model(covered).argmax(1) != targets
    assert torch.equal(model(found).argmax(1) != targets, falls)
    assert 0 < int(falls.sum()) < 50


def test_every_declared_metric_comes_for_every_slice():
    images = torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    dataset = array_dataset(images, np.array([0, 1] * 6), {"half": ["a", "b"] * 6})
    found = outcomes(EVERYTHING, case_of(SeesOneCorner(), SeesMeanBrightness(), dataset))
    assert set(found) == {(metric.id, name) for metric in EVERYTHING.metrics() for name in dataset.slices.names}
