"""Size and place of what stands out, on images that one can draw."""

from __future__ import annotations

import pytest
import torch

from auditsvc.datasets.image_properties import PROPERTIES, border, properties_of, size
from auditsvc.errors import InvalidInput
from tests.fakes.models import grey_dataset


def square(side: int, top: int, left: int) -> torch.Tensor:
    image = torch.zeros(1, 3, 32, 32)
    image[..., top : top + side, left : left + side] = 1
    return image


def test_a_larger_square_is_larger_wherever_it_is():
    assert size(square(4, 14, 14)) < size(square(8, 12, 12)) < size(square(16, 8, 8))
    assert size(square(8, 2, 20)).item() == pytest.approx(size(square(8, 12, 12)).item(), abs=1e-5)


def test_what_lies_at_an_edge_is_far_from_the_centre():
    assert border(square(8, 12, 12)).item() == pytest.approx(0, abs=1e-5)
    assert border(square(8, 12, 12)) < border(square(8, 12, 20)) < border(square(8, 1, 23))
    assert border(square(8, 12, 1)).item() == pytest.approx(border(square(8, 12, 23)).item(), abs=1e-5)


def test_every_property_is_a_number_for_every_image_also_an_empty_one():
    for measure in PROPERTIES.values():
        assert torch.isfinite(measure(torch.zeros(2, 3, 16, 16))).all()
        assert torch.isfinite(measure(torch.rand(2, 1, 16, 16))).all()


def test_an_unknown_property_is_refused_with_those_that_are_known():
    with pytest.raises(InvalidInput, match="brightness"):
        properties_of(grey_dataset([0.1, 0.9]), ("beauty",))
