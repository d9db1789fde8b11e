"""Maps of planes, whose weights are the maps; of networks without weights nothing is stated."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from auditsvc.checks.attribution import Attribution
from auditsvc.records import OVERALL, Measured, Unmeasured
from tests.fakes.models import Linear, NeverWrong, SeesMeanBrightness, array_dataset, case_of

SIDE = 12


def plane(rows: slice, seed: int = 1) -> Linear:
    """A plane over some rows of the image."""
    weights = torch.zeros(1, SIDE, SIDE)
    weights[:, rows] = torch.randn(weights[:, rows].shape, generator=torch.Generator().manual_seed(seed))
    return Linear(weights, 0.0)


def outcomes(candidate, parent):
    images = torch.rand((30, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(2))
    case = case_of(candidate, parent, array_dataset(images, np.arange(30) % 2))
    found = {one.metric: one.outcome for one in Attribution(images=20, steps=4).measure(case) if one.slice == OVERALL}
    assert set(found) == {one.id for one in Attribution().metrics()}
    return found, case


def test_equal_models_have_equal_maps_and_shuffled_weights_others():
    found, case = outcomes(plane(slice(0, SIDE)), plane(slice(0, SIDE)))
    assert found["similarity"].value == pytest.approx(1) and found["similarity"].images == 20
    assert abs(found["sanity"].value) < 0.4 and case.flips == []


def test_a_candidate_that_sees_the_other_half_has_other_maps_which_are_shown():
    found, case = outcomes(plane(slice(0, SIDE // 2)), plane(slice(SIDE // 2, SIDE), seed=5))
    assert found["similarity"].high < 0.2
    assert len(case.flips) == 3 and all(flip.parent != flip.candidate for flip in case.flips)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(case.flips[0].picture)))) / 255
    image, theirs, ours = np.split(shown, 3, axis=1)
    assert np.allclose(image, case.dataset.images[int(case.flips[0].image[1:])][0], atol=0.01)
    assert theirs[: SIDE // 2].max() == 0 < ours[: SIDE // 2].max() and ours[SIDE // 2 :].max() == 0


@pytest.mark.parametrize(("model", "words"), [(SeesMeanBrightness(), "do not depend"), (NeverWrong(), "do not depend")])
def test_maps_that_no_weight_changes_state_nothing(model, words):
    found, _ = outcomes(model, model)
    assert isinstance(found["similarity"], Unmeasured) and words in found["similarity"].reason
    assert isinstance(found["sanity"], Measured) == isinstance(model, SeesMeanBrightness)
