"""Suggestions are kept, found again, and never judged."""

from __future__ import annotations

from auditsvc.records import Slicing
from auditsvc.records.evidence import DiscoveredSlices
from auditsvc.services.audit import EVERYTHING, discover_slices
from auditsvc.services.measurement import measure_candidate
from auditsvc.services.power import sliced_by, with_policy_slices
from tests.services.line import policy


def test_suggestions_are_made_once_and_name_slices_that_a_policy_can_name(line):
    ctx, _, candidate, dataset = line
    measure_candidate(ctx, candidate, policy(), dataset)
    passes = sorted((ctx.folder / "answers").iterdir())
    found = discover_slices(ctx, candidate, policy(), dataset)
    assert passes and sorted((ctx.folder / "answers").iterdir()) == passes
    assert discover_slices(ctx, candidate, policy(), dataset) == found
    assert ctx.ledger.find(DiscoveredSlices, candidate.digest) == (found,)
    assert found.images_found + found.images_held == dataset.ref.images
    named = {f"group-{number}": one.expression for number, one in enumerate(found.groups)}
    with_policy_slices(policy(slicing=EVERYTHING.model_copy(update={"named": named})), dataset)


def test_each_class_can_be_a_slice(line):
    *_, dataset = line
    slices = sliced_by(Slicing(classes=True), dataset).slices
    assert slices.names == ("overall", "camera=a", "camera=b", "class=dark", "class=bright")
    assert slices.of(1)[-1] == "class=bright"
