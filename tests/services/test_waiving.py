"""A rule that the policy excludes from waivers can't be waived, nor one of a candidate by its submitter."""

from __future__ import annotations

import datetime

import pytest

from auditsvc.errors import Conflict, InvalidInput
from auditsvc.records import Rule
from auditsvc.services.decisions import judge, waive
from auditsvc.services.measurement import measure_candidate
from tests.fakes import NOON
from tests.services.line import policy

UNTIL = NOON.date() + datetime.timedelta(days=5)


def a_decision(line, **fields):
    ctx, _, candidate, dataset = line
    rule = Rule(rule="floor", reading="accuracy/score.clean", at_least=0.9999, why="nothing on 60 images can", **fields)
    under = policy(rules=(rule,))
    return judge(ctx, candidate, under, measure_candidate(ctx, candidate, under, dataset))


def test_a_rule_that_nobody_may_waive_is_not_waived(line):
    with pytest.raises(InvalidInput, match="does not allow waiving the rule floor"):
        waive(line[0], a_decision(line, waivers="never"), "floor", "bob", "a reason", UNTIL)


@pytest.mark.parametrize("person", ["sue", "Sue", "SUE"])
def test_who_submitted_does_not_waive_under_any_spelling(line, person):
    with pytest.raises(Conflict, match="submitted this candidate"):
        waive(line[0], a_decision(line), "floor", person, "a reason", UNTIL)


def test_a_waiver_in_force_approves_and_is_listed(line):
    decision = a_decision(line)
    waiver = waive(line[0], decision, "floor", "bob", "a reason", UNTIL)
    again = a_decision(line)
    assert (decision.outcome, again.outcome, again.waivers) == ("inconclusive", "approved", (waiver.digest,))
