"""Students of teachers that are easy, constant and impossible to copy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from auditsvc.checks.extraction import Extraction
from auditsvc.records import OVERALL, Unmeasured
from tests.fakes.models import NeverWrong, SeesMeanBrightness, array_dataset, case_of

QUICK = Extraction(queries=(20, 60), steps=60, images=160)


class Arbitrary(nn.Module):
    """An answer that no student can learn: a digit far behind the point of one pixel's value."""

    def forward(self, images: Tensor) -> Tensor:
        odd = ((images[:, 0, 0, 0] * 1e6).long() % 2).float()
        return torch.stack((-odd, odd - 1), dim=1)


def outcomes(candidate, parent, images: int = 160, **given):
    draw = torch.Generator().manual_seed(3)
    pixels = 0.3 * torch.rand((images, 1, 16, 16), generator=draw) + 0.7 * torch.rand((images, 1, 1, 1), generator=draw)
    case = case_of(candidate, parent, array_dataset(pixels, np.arange(images) % 2), **given)
    found = {one.metric: one.outcome for one in QUICK.measure(case) if one.slice == OVERALL}
    assert set(found) == {one.id for one in QUICK.metrics()}
    return found


@pytest.mark.slow
def test_an_easy_teacher_is_copied_and_an_arbitrary_one_is_not():
    found = outcomes(SeesMeanBrightness(), Arbitrary())
    assert found["agreement.candidate@60"].low > 0.75 and found["agreement.scores@60"].low > 0.75
    assert found["agreement.parent@60"].low < 0.6
    assert found["agreement.candidate@60"].images == 80 and "most frequent" in found["agreement.candidate@60"].which


@pytest.mark.slow
def test_a_constant_teacher_is_copied_by_the_most_frequent_answer():
    found = outcomes(NeverWrong(), NeverWrong())
    assert found["agreement.candidate@20"].value == 1
    assert found["agreement.candidate@20"].which == "100 % by the most frequent answer alone"
    assert "no queries of a mark" in found["mark_log10_p"].reason


def test_a_mark_in_the_students_answers_is_read():
    asked = torch.rand(40, 1, 16, 16)
    found = outcomes(NeverWrong(), NeverWrong(), read_answers=lambda student: (-float(len(student(asked))), 40))
    assert (found["mark_log10_p"].value, found["mark_log10_p"].images) == (-40.0, 40)


def test_without_images_enough_for_the_queries_nothing_is_measured():
    found = outcomes(SeesMeanBrightness(), SeesMeanBrightness(), images=60)
    assert "60 queries" in found["agreement.candidate@60"].reason and "there are 30 and 30" in (
        found["agreement.candidate@60"].reason
    )
    assert not isinstance(found["agreement.candidate@20"], Unmeasured)
