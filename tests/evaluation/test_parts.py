"""An audit in parts is the audit in one piece, to the last bit, whatever the number of parts."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from auditsvc.checks.accuracy import Accuracy
from auditsvc.checks.adversarial import COMPARED, Adversarial
from auditsvc.checks.corruption import Corruptions
from auditsvc.checks.lighting import Lighting
from auditsvc.checks.occlusion import Occlusion
from auditsvc.checks.prediction_churn import PredictionChurn
from auditsvc.errors import InvalidInput
from auditsvc.evaluation import Check, EvalContext
from auditsvc.evaluation.sharding import (
    GatheredContext,
    ImageRange,
    ShardContext,
    as_bytes,
    from_bytes,
    merge_partial_results,
)
from tests.fakes.models import SeesMeanBrightness, SeesOneCorner, array_dataset, case_of

IMAGES = 150
CHECKS: tuple[Check, ...] = (
    Accuracy(),
    PredictionChurn(),
    Occlusion(fractions=(0.2,)),
    Lighting(exposure_stops=(-1.0, 1.0), curve=True),
    Corruptions(corruptions=("gaussian_noise", "fog"), severities=(1, 3)),
    Adversarial(budgets=(2.0, 8.0), steps=3, images=70, transfer=True, turns=(10.0,)),
)


def a_case() -> EvalContext:
    images = torch.rand(IMAGES, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    targets = (images.mean(dim=(1, 2, 3)) > 0.5).long().numpy()
    dataset = array_dataset(images, targets, {"third": [str(number % 3) for number in range(IMAGES)]})
    return case_of(SeesOneCorner(6), SeesMeanBrightness(), dataset)


def as_part(case: EvalContext, number: int, of: int) -> ShardContext:
    return ShardContext(**_fields(case), part=ImageRange(number, of))


def _fields(case: EvalContext) -> dict[str, object]:
    fields = {field.name: getattr(case, field.name) for field in dataclasses.fields(case)}
    return fields | {"cache": {}, "flips": [], "compiled": {}}


def measured(check: Check, case: EvalContext) -> tuple[list[object], list[object]]:
    return list(check.measure(case)), list(case.flips)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
@pytest.mark.parametrize("parts", [1, 2, 5])
def test_readings_and_flips_do_not_depend_on_the_number_of_parts(check: Check, parts: int) -> None:
    pieces = []
    for number in range(parts):
        piece = as_part(a_case(), number, parts)
        list(check.measure(piece))
        pieces.append(from_bytes(as_bytes(piece.found)))
    whole = GatheredContext(**_fields(a_case()), found=merge_partial_results(pieces))
    asked: list[int] = []
    whole.tick = asked.append
    assert measured(check, whole) == measured(check, a_case())
    assert sum(asked) <= 2 * COMPARED, "the models were asked again, beyond the test of the attack's strength"


@given(images=st.integers(1, 5000), of=st.integers(1, 60), size=st.integers(1, 64))
def test_parts_are_whole_batches_and_cover_every_image_once(images: int, of: int, size: int) -> None:
    rows = [ImageRange(number, of).rows(images, size) for number in range(of)]
    assert [place for part in rows for place in range(part.start, part.stop)] == list(range(images))
    assert all(part.start % size == 0 or part.start == images for part in rows)


def test_what_is_not_in_every_part_is_measured_when_they_are_put_together() -> None:
    piece = as_part(a_case(), 0, 2)
    list(Accuracy().measure(piece))
    assert merge_partial_results([piece.found, {}]) == {}
    assert measured(Accuracy(), GatheredContext(**_fields(a_case()), found={})) == measured(Accuracy(), a_case())


def test_the_same_part_is_the_same_bytes_and_others_are_refused() -> None:
    pieces = [as_part(a_case(), 1, 3) for _ in range(2)]
    for piece in pieces:
        list(Occlusion(fractions=(0.2,)).measure(piece))
    assert as_bytes(pieces[0].found) == as_bytes(pieces[1].found)
    with pytest.raises(InvalidInput, match="not a part"):
        from_bytes(b"something else")
