"""Stages hold the images of earlier ones, run none twice, and answer as if there were no stages."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from auditsvc.checks.adversarial import Adversarial
from auditsvc.checks.lighting import Lighting
from auditsvc.datasets.dataset import Slices
from auditsvc.evaluation.perturbations.covering import hide_square
from auditsvc.evaluation.sequential import StageContext, Staged, order_of, stage_sizes
from tests.fakes.models import SeesMeanBrightness, array_dataset, case_of

IMAGES = torch.rand(60, 3, 8, 8, generator=torch.Generator().manual_seed(0))
TARGETS = (IMAGES.mean(dim=(1, 2, 3)) > 0.5).long().numpy()
WHOLE = array_dataset(IMAGES, TARGETS, {"kind": ["a", "b", "c"] * 20})


def staged(size, kept, model=None):
    plain = case_of(model or SeesMeanBrightness(0.51), SeesMeanBrightness(), WHOLE)
    names = ("candidate", "candidate_digest", "parent", "parent_digest", "task", "seed", "alpha")
    fields = {name: getattr(plain, name) for name in names}
    return StageContext(**fields, dataset=Staged(WHOLE, order_of(WHOLE.slices, 7), size), kept=kept)


def test_a_stage_holds_the_images_of_the_stages_before_it_and_the_last_one_all():
    order = order_of(WHOLE.slices, 7)
    sizes = stage_sizes(WHOLE.slices, 7, (0.1, 0.5, 1.0))
    stages = [set(Staged(WHOLE, order, size).chosen) for size in sizes]
    assert sizes == (6, 30, 60)
    assert stages[0] < stages[1] < stages[2] == set(range(60))


def test_a_cluster_belongs_to_one_stage_whole():
    clusters = np.repeat(np.arange(12), 5)
    slices = Slices(60, (), clusters)
    sizes = stage_sizes(slices, 3, (0.12, 0.5, 1.0))
    assert sizes == (10, 30, 60)
    order = order_of(slices, 3)
    for size in sizes:
        assert set(np.bincount(clusters[order[:size]], minlength=12)) <= {0, 5}


def test_a_stage_answers_like_the_same_images_alone_and_later_stages_run_new_images_only():
    kept: dict = {}
    hide = partial(hide_square, fraction=0.3, grey=0.0)
    for size in (20, 60):
        case, seen = staged(size, kept), []
        case.tick = seen.append
        pair = case.pair("hidden", hide)
        assert sum(seen) == (20 if size == 20 else 40)
        whole = case_of(SeesMeanBrightness(0.51), SeesMeanBrightness(), WHOLE).pair("hidden", hide)
        assert np.array_equal(pair.candidate["score"], whole.candidate["score"][case.dataset.chosen])
        assert np.array_equal(pair.parent["answer"], whole.parent["answer"][case.dataset.chosen])


@pytest.mark.parametrize("check", [Lighting(exposure_stops=(-1.0,)), Adversarial(budgets=(8.0,), steps=2, images=12)])
def test_the_last_stage_gives_the_readings_of_an_audit_without_stages(check):
    kept: dict = {}
    for size in (20, 60):
        found = list(check.measure(staged(size, kept)))
    plain = list(check.measure(case_of(SeesMeanBrightness(0.51), SeesMeanBrightness(), WHOLE)))
    if isinstance(check, Lighting):
        assert found == plain
    assert [(one.metric, one.slice) for one in found] == [(one.metric, one.slice) for one in plain]


def test_images_that_an_attack_samples_stay_in_the_sample():
    first, second = (staged(size, {}) for size in (30, 60))
    chosen = [case.dataset.chosen[case.sample(10)] for case in (first, second)]
    assert np.array_equal(*chosen)
    assert first.sample(30) is None


def test_a_slice_of_which_nothing_is_there_yet_is_unmeasured():
    kinds = ["rare"] + ["b"] * 59
    dataset = array_dataset(IMAGES, TARGETS, {"kind": kinds})
    order = np.arange(60)[::-1].copy()
    stage = Staged(dataset, order, 30)
    assert stage.slices.names == dataset.slices.names
    assert stage.slices.sums(np.ones(30)).tolist() == [30, 30, 0]
    assert stage.name_of(0) == dataset.name_of(30)
    assert stage.ref.digest != dataset.ref.digest
