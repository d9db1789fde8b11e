"""A decision that a newer one supersedes can be neither approved nor released."""

from __future__ import annotations

import datetime

import pytest

from auditsvc.errors import Conflict
from auditsvc.records import Approval, Decision, Release
from auditsvc.services.audit import audit_candidate
from auditsvc.services.decisions import approve
from auditsvc.services.registry import ALIAS
from auditsvc.services.release import release
from tests.services.line import FACTS, bind, policy


def superseded(line, outcome):
    """An approved decision, and a later one on the same candidate under the same policy."""
    ctx, _, candidate, dataset = line
    bind(ctx, policy(), dataset)
    first = audit_candidate(ctx, candidate, policy(), dataset, formats=()).decision
    later = first.model_copy(update={"outcome": outcome, "at": first.at + datetime.timedelta(hours=1)})
    return ctx, candidate, first, later


@pytest.mark.parametrize("outcome", ["approved", "inconclusive", "rejected"])
def test_a_superseded_decision_can_not_be_approved(line, outcome):
    ctx, _, first, later = superseded(line, outcome)
    ctx.ledger.append(later, actor="test")
    with pytest.raises(Conflict, match="superseded by a newer one"):
        approve(ctx, first, "bob")
    assert not list(ctx.ledger.all(Approval))


@pytest.mark.parametrize("outcome", ["approved", "inconclusive", "rejected"])
def test_a_decision_that_was_superseded_after_its_approval_can_not_be_released(line, outcome):
    ctx, candidate, first, later = superseded(line, outcome)
    for person in ("bob", "cyd"):
        approve(ctx, first, person)
    ctx.ledger.append(later, actor="test")
    with pytest.raises(Conflict, match="superseded by a newer one"):
        release(ctx, candidate, first)
    assert (list(ctx.ledger.all(Release)), ctx.registry.aliased(FACTS["model"], ALIAS)) == ([], None)


def test_the_newest_decision_can_be_approved_and_released(line):
    ctx, candidate, _, later = superseded(line, "approved")
    ctx.ledger.append(later, actor="test")
    for person in ("bob", "cyd"):
        assert approve(ctx, later, person).decision == later.digest
    assert release(ctx, candidate, later).decision == ctx.ledger.find(Decision, candidate.digest)[-1].digest


def test_a_decision_under_another_policy_supersedes_nothing(line):
    ctx, _, first, _ = superseded(line, "approved")
    _, _, candidate, dataset = line
    audit_candidate(ctx, candidate, policy(version=2), dataset, formats=())
    assert approve(ctx, first, "bob").decision == first.digest
