"""Where something comes from: every record that a digest names, or that speaks of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pydantic import BaseModel

from auditsvc.compliance.assessment.attestations import Answers, ChangePlan, ChangeVerdict, Document
from auditsvc.errors import NotFound
from auditsvc.ports import Ledger
from auditsvc.records import (
    AliasMove,
    Approval,
    Candidate,
    CheckFailed,
    Decision,
    Digest,
    Evidence,
    Monitoring,
    Parent,
    Policy,
    Record,
    Release,
    Revocation,
    Rollback,
    Submission,
    Waiver,
)

KINDS: dict[type[Record], str] = {
    Parent: "parents",
    Candidate: "candidates",
    Submission: "submissions",
    Evidence: "audits",
    CheckFailed: "failed-checks",
    Policy: "policies",
    Decision: "decisions",
    Waiver: "waivers",
    Approval: "approvals",
    Release: "releases",
    Revocation: "revocations",
    Rollback: "rollbacks",
    Monitoring: "monitors",
    AliasMove: "alias-moves",
    Document: "documents",
    Answers: "answers",
    ChangePlan: "change-plans",
    ChangeVerdict: "change-verdicts",
}
"""Kinds of record in the order of the line, with the place under ``/v1`` where each is read."""


class Origin(BaseModel):
    """One record, and what the digest is to it: the record itself, or something that it is about."""

    kind: str
    digest: Digest
    relation: str
    href: str


def origins_of(ledger: Ledger, digest: Digest) -> Iterator[Origin]:
    """Every record with this digest or about it, in the order of the line."""
    for kind, place in KINDS.items():
        for record, relation in _related(ledger, kind, digest):
            href = f"/v1/{place}/{record.digest}"
            yield Origin(kind=kind.kind, digest=record.digest, relation=relation, href=href)


def _related(ledger: Ledger, kind: type[Record], digest: Digest) -> Iterator[tuple[Record, str]]:
    with contextlib.suppress(NotFound):  # an ordinary answer here: the digest is of another kind, or of a file
        yield ledger.get(kind, digest), "is"
    for record in ledger.find(kind, digest):
        yield record, _relation(record, digest)


def _relation(record: Record, digest: Digest) -> str:
    files = getattr(record, "files", ())
    if any(file.digest == digest for file in files):
        return "holds this file"
    return "was made from it" if isinstance(record, Candidate) and record.parent == digest else "is about it"
