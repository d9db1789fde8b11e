"""The rows that the separation-of-duties constraints compare: for each record the table and the row that it needs.

The rows follow from the records alone, so ``integrity`` can derive them again.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, Table, insert, select

from auditsvc.adapters.ledger.schema import (
    approval,
    decision,
    person,
    release_rollback,
    retirement,
    revocation,
    submission,
    terms,
    waiver,
)
from auditsvc.adapters.ledger.schema import record as records
from auditsvc.adapters.ledger.schema import subject as subjects
from auditsvc.errors import Conflict
from auditsvc.records import (
    Approval,
    Decision,
    Digest,
    Policy,
    Record,
    Release,
    ReleaseTerms,
    Retirement,
    Revocation,
    Rollback,
    Submission,
    Waiver,
    person_key,
)

Row = dict[str, str]


def duties_row(digest: Digest, one: Record, submitter: str | None) -> tuple[Table, Row] | None:
    """The table and the row of a record; None for a kind that needs none.

    ``submitter`` is who submitted the candidate of an approval or a waiver.

    Raises:
        Conflict: the candidate was never submitted, or a key change names one person only.
    """
    match one:
        case Submission():
            return submission, {"candidate": one.candidate, "submitter": one.submitter}
        case Decision():
            return decision, {"digest": digest, "candidate": one.candidate}
        case Approval():
            row = {"digest": digest, "decision": one.decision, "candidate": one.candidate}
            return approval, {**row, "submitter": _required(submitter, one.candidate), "approver": one.approver}
        case Waiver():
            row = {"digest": digest, "candidate": one.candidate}
            return waiver, {**row, "submitter": _required(submitter, one.candidate), "person": one.person}
        case Revocation():
            people = {"requested_by": one.requested_by, "confirmed_by": one.confirmed_by}
            return revocation, {"digest": digest, "release": one.release, **people}
        case ReleaseTerms():
            return terms, {"digest": digest, "proposed_by": one.proposed_by, "confirmed_by": one.confirmed_by}
        case Rollback():
            people = {"requested_by": one.requested_by, "confirmed_by": one.confirmed_by}
            return release_rollback, {"digest": digest, **people}
        case Retirement(confirmed_by=None):
            raise Conflict("a key change needs two people: one requests it, another confirms it")
        case Retirement():
            return retirement, {"digest": digest, "requested_by": one.by, "confirmed_by": str(one.confirmed_by)}
        case _:
            return None


def _required(submitter: str | None, candidate: Digest) -> str:
    if submitter is None:
        raise Conflict(f"the candidate {candidate} was never submitted: submit it first")
    return submitter


_PERSON_FIELDS = ("submitter", "approver", "person", "proposed_by", "requested_by", "confirmed_by", "by", "reviewer")


def people_of(one: Record) -> Iterator[tuple[str, str]]:
    """The people that a record names: the key that names are compared by, and the name."""
    for name in (getattr(one, field, None) for field in _PERSON_FIELDS):
        if isinstance(name, str) and name:
            yield person_key(name), name


def _bind_names(connection: Connection, one: Record) -> None:
    for key, name in people_of(one):
        known = connection.execute(select(person.c.name).where(person.c.key == key)).scalar()
        if known is None:
            connection.execute(insert(person), {"key": key, "name": name})
        elif known.lower() != name.lower():
            raise Conflict(f"the name {name} reads like {known}, who is in the ledger: a person has one name")


def add_duties_row(connection: Connection, digest: Digest, one: Record) -> None:
    """Add the row that the separation-of-duties constraints check; most kinds of record need none.

    Raises:
        Conflict: another person submitted the candidate already, it was never submitted, an approval is about no
            decision of the ledger, an approval or a release is about a decision that a newer one supersedes, another
            policy has this name and version, or a name reads like another one that is known.
    """
    _bind_names(connection, one)
    if isinstance(one, Approval | Release):
        _require_newest(connection, one.decision)
    if isinstance(one, Policy):
        _require_own_version(connection, digest, one)
    about = one.candidate if isinstance(one, Submission | Approval | Waiver) else None
    submitter = None if about is None else _submitter(connection, about)
    if isinstance(one, Submission) and submitter is not None:
        if submitter.lower() != one.submitter.lower():
            raise Conflict(f"the candidate {about} was already submitted by {submitter}, not {one.submitter}")
        return
    needed = duties_row(digest, one, submitter)
    if isinstance(one, Approval):
        decided = connection.execute(select(decision.c.candidate).where(decision.c.digest == one.decision)).scalar()
        if decided != one.candidate:
            raise Conflict(f"the ledger has no decision {one.decision} about the candidate {one.candidate}")
    if needed is not None:
        connection.execute(insert(needed[0]), needed[1])


def _about(connection: Connection, kind: str, about: str) -> list[tuple[Digest, bytes]]:
    rows = connection.execute(
        select(records.c.digest, records.c.body)
        .join_from(subjects, records, subjects.c.digest == records.c.digest)
        .where(subjects.c.kind == kind, subjects.c.subject == about)
        .order_by(subjects.c.position)
    )
    return [(digest, body.encode() if isinstance(body, str) else bytes(body)) for digest, body in rows]


def _require_newest(connection: Connection, digest: Digest) -> None:
    """Refuse a decision that a newer one supersedes; a decision that is not in the ledger is left to other checks."""
    candidate = connection.execute(select(decision.c.candidate).where(decision.c.digest == digest)).scalar()
    known = [Decision.stored(body, found) for found, body in _about(connection, Decision.kind, str(candidate))]
    about = next((one for one in known if one.digest == digest), None)
    if about is None:
        return
    newest = [one for one in known if one.supersedes(about)][-1]
    if newest.digest != digest:
        raise Conflict(f"this decision is superseded by a newer one ({newest.digest}, {newest.outcome})")


def _require_own_version(connection: Connection, digest: Digest, one: Policy) -> None:
    known = _about(connection, Policy.kind, f"{one.policy}/{one.version}")
    if known and digest not in {found for found, _ in known}:
        raise Conflict(
            f"the ledger holds another policy under the name {one.policy} version {one.version} ({known[0][0]}): "
            "give the changed policy a new version"
        )


def _submitter(connection: Connection, candidate: Digest) -> str | None:
    found = connection.execute(select(submission.c.submitter).where(submission.c.candidate == candidate)).scalar()
    return None if found is None else str(found)
