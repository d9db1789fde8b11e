"""The rows that let the database compare people: who submitted, who approved, who asked, who confirmed.

What can be told apart in words is looked up first; that two people are two is left to the constraint alone.
"""

from __future__ import annotations

from sqlalchemy import Connection, insert, select

from auditsvc.adapters.ledger.schema import approval, decision, retirement, revocation, submission, waiver
from auditsvc.errors import Conflict
from auditsvc.records import Approval, Decision, Digest, Record, Retirement, Revocation, Submission, Waiver


def guard(connection: Connection, digest: Digest, one: Record) -> None:
    """Add the row that the constraints look at; most kinds of record name nobody and have none.

    Raises:
        Conflict: submitted by somebody else already; an approval or waiver of what was never submitted or decided.
    """
    match one:
        case Submission():
            _submit(connection, one)
        case Decision():
            connection.execute(insert(decision), {"digest": digest, "candidate": one.candidate})
        case Approval():
            _approve(connection, digest, one)
        case Waiver():
            submitter = _required_submitter(connection, one.candidate)
            row = {"digest": digest, "candidate": one.candidate, "submitter": submitter, "person": one.person}
            connection.execute(insert(waiver), row)
        case Revocation():
            people = {"requested_by": one.requested_by, "confirmed_by": one.confirmed_by}
            connection.execute(insert(revocation), {"digest": digest, "release": one.release, **people})
        case Retirement():
            if one.confirmed_by is None:
                raise Conflict("a key changes by two people: one asks, another confirms")
            people = {"requested_by": one.by, "confirmed_by": one.confirmed_by}
            connection.execute(insert(retirement), {"digest": digest, **people})
        case _:
            pass


def _submit(connection: Connection, one: Submission) -> None:
    found = _submitter(connection, one.candidate)
    if found is None:
        connection.execute(insert(submission), {"candidate": one.candidate, "submitter": one.submitter})
    elif found.lower() != one.submitter.lower():
        raise Conflict(f"the candidate {one.candidate} was submitted by {found} already, not by {one.submitter}")


def _approve(connection: Connection, digest: Digest, one: Approval) -> None:
    submitter = _required_submitter(connection, one.candidate)
    about = connection.execute(select(decision.c.candidate).where(decision.c.digest == one.decision)).scalar()
    if about != one.candidate:
        raise Conflict(f"there is no decision {one.decision} about the candidate {one.candidate}: nothing to approve")
    row = {"digest": digest, "decision": one.decision, "candidate": one.candidate}
    connection.execute(insert(approval), {**row, "submitter": submitter, "approver": one.approver})


def _required_submitter(connection: Connection, candidate: Digest) -> str:
    found = _submitter(connection, candidate)
    if found is None:
        raise Conflict(f"the candidate {candidate} was never submitted: submit it before anybody decides about it")
    return found


def _submitter(connection: Connection, candidate: Digest) -> str | None:
    found = connection.execute(select(submission.c.submitter).where(submission.c.candidate == candidate)).scalar()
    return None if found is None else str(found)
