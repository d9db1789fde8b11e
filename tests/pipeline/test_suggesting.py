"""Suggestions are kept, found again, and never judged."""

from __future__ import annotations

from auditsvc.measuring import Answers
from auditsvc.pipeline.auditing import audit
from auditsvc.pipeline.planning import sliced_by, sliced_for
from auditsvc.pipeline.suggesting import EVERYTHING, suggest
from auditsvc.records import Slicing
from auditsvc.records.suggesting import Suggestions
from tests.pipeline.line import policy


def test_suggestions_are_made_once_and_name_slices_that_a_policy_can_name(line):
    ports, _, candidate, dataset = line
    remembered: dict[str, Answers] = {}
    audit(candidate, policy(), dataset, ports, remembered)
    passes = len(remembered)
    found = suggest(candidate, policy(), dataset, ports, remembered)
    assert len(remembered) == passes
    assert suggest(candidate, policy(), dataset, ports) == found
    assert ports.ledger.find(Suggestions, candidate.digest) == (found,)
    assert found.images_found + found.images_held == dataset.ref.images
    named = {f"group-{number}": one.expression for number, one in enumerate(found.groups)}
    sliced_for(policy(slicing=EVERYTHING.model_copy(update={"named": named})), dataset)


def test_each_class_can_be_a_slice(line):
    *_, dataset = line
    slices = sliced_by(Slicing(classes=True), dataset).slices
    assert slices.names == ("overall", "camera=a", "camera=b", "class=dark", "class=bright")
    assert slices.of(1)[-1] == "class=bright"
