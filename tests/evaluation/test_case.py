"""The case: batches, pairing, memory of the parent, flips."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from auditsvc.evaluation.perturbations.covering import hide_square
from auditsvc.records import OVERALL
from tests.fakes.models import NeverWrong, SeesMeanBrightness, SeesOneCorner, array_dataset, case_of, grey_dataset

LEVELS = [0.1, 0.3, 0.45, 0.55, 0.7, 0.9]


def values(readings):
    return {(r.metric, r.slice): r.outcome.value for r in readings}


def test_scores_are_what_thought_says():
    case = case_of(SeesMeanBrightness(0.6), SeesMeanBrightness(0.5), grey_dataset(LEVELS))
    found = values(case.compare("clean"))
    assert found["parent.clean", OVERALL] == 1.0
    assert found["score.clean", OVERALL] == pytest.approx(5 / 6)
    assert found["drop.clean", "kind=bright"] == pytest.approx(1 / 3)
    assert found["drop.clean", "kind=dark"] == 0.0


@pytest.mark.parametrize("size", [1, 2, 5, 64])
def test_batch_size_never_changes_a_reading(size):
    images = torch.rand(40, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    dataset = array_dataset(images, (images.mean(dim=(1, 2, 3)) > 0.5).long().numpy())
    hide = partial(hide_square, fraction=0.4, grey=0.0)
    one = case_of(SeesOneCorner(8), SeesMeanBrightness(), dataset, batch_size=size)
    other = case_of(SeesOneCorner(8), SeesMeanBrightness(), dataset, batch_size=7)
    assert list(one.compare("hidden", hide)) == list(other.compare("hidden", hide))


def test_the_parent_is_run_once_for_all_candidates():
    memory: dict = {}
    dataset = grey_dataset(LEVELS)
    first = list(case_of(SeesMeanBrightness(0.6), SeesMeanBrightness(), dataset, cache=memory).compare("clean"))
    again = case_of(SeesMeanBrightness(0.6), NeverWrong(), dataset, cache=memory)
    assert list(again.compare("clean")) == first


def test_what_is_remembered_of_the_parent_is_bound_to_what_was_done_to_the_images():
    memory: dict = {}
    dataset = grey_dataset(LEVELS)
    hide = {grey: partial(hide_square, fraction=0.9, grey=grey) for grey in (0.0, 1.0)}
    found = []
    for grey in (0.0, 1.0):
        case = case_of(SeesMeanBrightness(), SeesMeanBrightness(), dataset, cache=memory)
        found.append(values(case.compare("hidden", hide[grey]))["parent.hidden", "kind=dark"])
    assert found == [1.0, 0.0]


def test_an_image_that_was_lost_is_shown_with_both_answers():
    case = case_of(SeesMeanBrightness(0.6), SeesMeanBrightness(), grey_dataset(LEVELS))
    list(case.compare("clean"))
    (flip,) = case.flips
    assert (flip.image, flip.parent, flip.candidate, flip.target) == ("#3", "bright", "dark", "bright")
    assert (flip.condition, flip.slices) == ("clean", ("kind=bright",))


def test_a_sample_is_drawn_once_from_the_seed():
    case = case_of(NeverWrong(), NeverWrong(), grey_dataset(LEVELS * 10))
    assert case.sample(20).tolist() == case.sample(20).tolist()
    assert len(set(case.sample(20).tolist())) == 20
    assert case.sample(60) is None
