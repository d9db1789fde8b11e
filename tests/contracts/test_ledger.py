"""What every ledger keeps: nothing changes, two people are two, all or none, one event for each record."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from auditsvc.errors import Conflict, InvalidInput, NotFound
from auditsvc.records import Approval, AuditedData, Candidate, Decision, Release, Submission, Waiver
from tests.contracts.conftest import Both
from tests.contracts.sample import (
    a_candidate,
    a_decision,
    a_digest,
    a_retirement,
    a_revocation,
    a_rollback,
    a_submission,
    a_waiver,
    an_approval,
    one_of_each,
    some_settings,
    some_terms,
)
from tests.fakes import NOON
from tests.web.sample import POLICY


def test_a_record_reads_back_as_it_was_written(ledger: Both) -> None:
    candidate = a_candidate()
    ledger.append(candidate, actor="ann")
    assert ledger.get(Candidate, candidate.digest) == candidate


def test_what_is_not_there_is_not_found(ledger: Both) -> None:
    ledger.append(a_candidate(), actor="ann")
    with pytest.raises(NotFound):
        ledger.get(Candidate, a_digest(0))
    with pytest.raises(NotFound):
        ledger.get(Submission, a_candidate().digest)
    assert ledger.find(Candidate, "another model") == ()


def test_adding_a_record_again_changes_nothing(ledger: Both) -> None:
    ledger.append(a_candidate(1), a_candidate(1), actor="ann")
    ledger.append(a_candidate(2), a_candidate(1), actor="bob")
    assert tuple(ledger.all(Candidate)) == (a_candidate(1), a_candidate(2))
    assert ledger.size() == 2


def test_adding_nothing_changes_nothing(ledger: Both) -> None:
    ledger.append(actor="ann")
    assert ledger.size() == 0


def test_records_are_found_by_every_subject_oldest_first(ledger: Both) -> None:
    candidates = tuple(a_candidate(number) for number in (3, 1, 2))
    ledger.append(candidates[0], actor="ann")
    ledger.append(*candidates[1:], actor="ann")
    assert ledger.find(Candidate, "net") == candidates
    assert ledger.find(Candidate, candidates[0].parent) == candidates
    assert ledger.find(Candidate, candidates[1].subjects()[2]) == (candidates[1],)
    assert ledger.find(Submission, "net") == ()


def test_all_gives_more_than_a_page_in_order_and_what_is_added_meanwhile(ledger: Both) -> None:
    first = [a_submission(number) for number in range(450)]
    ledger.append(*first, a_candidate(), actor="ann")
    assert list(ledger.all(Submission)) == first
    for _ in ledger.all(Submission):
        ledger.append(a_submission(999), actor="ann")
        break
    assert len(list(ledger.all(Submission))) == 451


def test_a_snapshot_does_not_see_what_is_added_later(ledger: Both) -> None:
    ledger.append(a_candidate(1), actor="ann")
    with ledger.snapshot() as then:
        assert then.find(Candidate, "net") == (a_candidate(1),)
        ledger.append(a_candidate(2), actor="ann")
        assert then.find(Candidate, "net") == (a_candidate(1),)
        assert [one for _, one in then.page(Candidate)] == [a_candidate(1)]
        with pytest.raises(NotFound):
            then.get(Candidate, a_candidate(2).digest)
    assert ledger.find(Candidate, "net") == (a_candidate(1), a_candidate(2))


def test_all_or_none(ledger: Both) -> None:
    ledger.append(a_submission(), a_decision(), actor="ann")
    with pytest.raises(Conflict):
        ledger.append(a_candidate(), an_approval(approver="ann"), actor="ann")
    assert (tuple(ledger.all(Candidate)), tuple(ledger.all(Approval)), ledger.size()) == ((), (), 2)


@pytest.mark.parametrize("approver", ["ann", "Ann", "ANN"])
def test_who_submitted_cannot_approve(ledger: Both, approver: str) -> None:
    ledger.append(a_submission(submitter="ann"), a_decision(), actor="ann")
    with pytest.raises(Conflict, match="can't approve"):
        ledger.append(an_approval(approver=approver), actor=approver)


def test_two_others_can_approve_and_nobody_counts_twice(ledger: Both) -> None:
    ledger.append(a_submission(), a_decision(), an_approval(approver="bob"), actor="ann")
    again = an_approval(approver="Bob").model_copy(update={"comment": "still for it"})
    with pytest.raises(Conflict, match="already approved this decision"):
        ledger.append(again, actor="Bob")
    ledger.append(an_approval(approver="cho"), actor="cho")
    assert [one.approver for one in ledger.find(Approval, a_decision().digest)] == ["bob", "cho"]


def test_what_was_never_submitted_cannot_be_approved(ledger: Both) -> None:
    ledger.append(a_decision(), actor="ann")
    with pytest.raises(Conflict):
        ledger.append(an_approval(), actor="bob")


def test_an_approval_names_the_candidate_that_was_decided(ledger: Both) -> None:
    """Otherwise ann would approve her own candidate 0 by naming bob's candidate 1 beside its decision."""
    ledger.append(a_submission(0, "ann"), a_submission(1, "bob"), a_decision(0), actor="ann")
    borrowed = an_approval(1, "ann", decision=a_decision(0))
    with pytest.raises(Conflict):
        ledger.append(borrowed, actor="ann")
    with pytest.raises(Conflict):
        ledger.append(an_approval(1, "ann"), actor="ann")  # nothing was decided about candidate 1


def test_a_candidate_has_one_submitter(ledger: Both) -> None:
    ledger.append(a_submission(submitter="ann"), actor="ann")
    ledger.append(a_submission(submitter="ann", version="2"), actor="ann")
    with pytest.raises(Conflict, match="submitted by ann"):
        ledger.append(a_submission(submitter="bob", version="3"), actor="bob")
    assert [one.version for one in ledger.all(Submission)] == ["1", "2"]


@pytest.mark.parametrize("person", ["ann", "Ann"])
def test_who_submitted_cannot_waive(ledger: Both, person: str) -> None:
    with pytest.raises(Conflict):
        ledger.append(a_waiver(person=person), actor=person)  # never submitted
    ledger.append(a_submission(submitter="ann"), actor="ann")
    with pytest.raises(Conflict, match="can't waive"):
        ledger.append(a_waiver(person=person), actor=person)
    ledger.append(a_waiver(person="bob"), actor="bob")
    assert tuple(ledger.all(Waiver)) == (a_waiver(person="bob"),)


def test_who_asks_for_a_revocation_cannot_confirm_it(ledger: Both) -> None:
    with pytest.raises(Conflict, match="can't confirm"):
        ledger.append(a_revocation("ann", "Ann"), actor="ann")
    ledger.append(a_revocation("ann", "bob"), actor="ann")
    assert ledger.size() == 1


@pytest.mark.parametrize("confirms", ["Ann", None])
def test_a_key_is_retired_by_two_people(ledger: Both, confirms: str | None) -> None:
    with pytest.raises(Conflict):
        ledger.append(a_retirement("ann", confirms), actor="ann")
    ledger.append(a_retirement("ann", "bob"), actor="ann")
    assert ledger.size() == 1


def test_terms_are_set_by_two_people(ledger: Both) -> None:
    with pytest.raises(Conflict, match="can't confirm"):
        ledger.append(some_terms("ann", "Ann"), actor="ann")
    with pytest.raises(Conflict):
        ledger.append(some_settings("ann", "Ann"), actor="ann")
    ledger.append(some_terms("ann", "bob"), some_settings("ann", "bob"), actor="bob")
    assert ledger.size() == 2


def test_a_decision_that_is_superseded_is_neither_approved_nor_released(ledger: Both) -> None:
    old, new = a_decision(), a_decision().model_copy(update={"outcome": "rejected"})
    ledger.append(a_submission(), old, new, actor="ann")
    sealed = Release(model="net", version="1", candidate=old.candidate, decision=old.digest, approvals=(), files=(),
                     attestations=(), at=NOON)  # fmt: skip
    for one in (an_approval(decision=old), sealed):
        with pytest.raises(Conflict, match="superseded by a newer one"):
            ledger.append(one, actor="bob")
    other_data = old.model_copy(update={"data": (AuditedData(name="other", digest=a_digest(9), images=5),)})
    ledger.append(other_data, an_approval(decision=new), actor="bob")
    assert ledger.size() == 5


def test_one_name_and_version_is_one_policy(ledger: Both) -> None:
    ledger.append(POLICY, POLICY, actor="ann")
    with pytest.raises(Conflict, match="standard version 1"):
        ledger.append(POLICY.model_copy(update={"why": "easier"}), actor="ann")
    ledger.append(POLICY.model_copy(update={"version": 2}), actor="ann")
    assert ledger.size() == 2


def test_every_record_has_one_event_in_the_log(ledger: Both) -> None:
    ledger.append(a_candidate(), a_decision(), actor="ann")
    assert ledger.leaf_index(a_decision().digest) == 1
    assert json.loads(ledger.leaf(1)) == {
        "kind": "auditsvc.event",
        "apiVersion": "2",
        "type": "decision.made",
        "actor": "ann",
        "at": "2026-11-22T12:00:00Z",
        "object": a_decision().digest,
    }


def test_an_entry_without_a_name_is_refused(ledger: Both) -> None:
    with pytest.raises(InvalidInput):
        ledger.append(a_candidate(), actor=" ")
    assert ledger.size() == 0


def test_four_threads_lose_nothing(ledger: Both) -> None:
    def add(worker: int) -> None:
        for number in range(10):
            ledger.append(a_submission(number), a_candidate(100 * worker + number), actor=f"worker {worker}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4)))
    assert len(list(ledger.all(Candidate))) == 40
    assert len(list(ledger.all(Submission))) == 10
    assert len({ledger.leaf(index) for index in range(ledger.size())}) == 50
    assert len({ledger.leaf_index(one.digest) for one in ledger.all(Candidate)}) == 40
    assert list(ledger.all(Decision)) == []


@pytest.mark.parametrize("other", ["bob.", "b-o-b", "BOB_", "b0b", "B0.b"])
def test_a_second_spelling_of_a_person_is_refused(ledger: Both, other: str) -> None:
    ledger.append(a_submission(), a_decision(), an_approval(), actor="ann")
    size = ledger.size()
    with pytest.raises(Conflict, match="reads like bob"):
        ledger.append(an_approval(approver=other), actor=other)
    with pytest.raises(Conflict, match="reads like bob"):
        ledger.append(a_revocation(asks=other, confirms="cyd"), actor="cyd")
    assert ledger.size() == size


def test_one_person_does_not_roll_back(ledger: Both) -> None:
    made = a_rollback()
    one = made.model_construct(**{**dict(made), "confirmed_by": "ann"})
    with pytest.raises(Conflict):
        ledger.append(one, actor="ann")
    ledger.append(made, actor="bob")


def test_bodies_are_those_of_all_records_of_whatever_kind(ledger: Both) -> None:
    ledger.append(*one_of_each(), actor="ann")
    assert sorted(ledger.bodies()) == sorted(record.canonical() for record in one_of_each())
