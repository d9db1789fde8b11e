"""Small records, each with its own digest."""

from __future__ import annotations

from auditsvc.records import (
    Approval,
    Candidate,
    Decision,
    Digest,
    FileEntry,
    Parent,
    Recipe,
    Record,
    ReleaseTerms,
    Retirement,
    Revocation,
    Rollback,
    Submission,
    Waiver,
    WatchSettings,
    digest_of,
)
from tests.fakes import NOON

WEIGHTS = b"weights" * 1000


def a_digest(number: int) -> Digest:
    return digest_of(f"thing {number}".encode())


def a_file(data: bytes = WEIGHTS, name: str = "model.safetensors") -> FileEntry:
    return FileEntry(name=name, size=len(data), digest=digest_of(data))


def a_parent(model: str = "net") -> Parent:
    return Parent(
        model=model,
        task="classification",
        architecture="tiny",
        files=(a_file(),),
        source="https://example.org/net",
        licence="MIT",
    )


def a_candidate(number: int = 0, model: str = "net") -> Candidate:
    return Candidate(
        model=model,
        task="classification",
        architecture="tiny",
        files=(a_file(),),
        parent=a_parent(model).digest,
        recipe=Recipe(method="magnitude", targets={"sparsity": 0.3}, seed=number, recovery={"epochs": 2}),
        card={"parameters": 420.0, "nonzeros": 294.0},
    )


def a_submission(number: int = 0, submitter: str = "ann", version: str = "1") -> Submission:
    return Submission(candidate=a_digest(number), model="net", version=version, submitter=submitter, at=NOON)


def a_decision(number: int = 0) -> Decision:
    return Decision(
        candidate=a_digest(number),
        policy=a_digest(-1),
        policy_name="standard",
        outcome="approved",
        judgements=(),
        evidence=(),
        at=NOON,
    )


def an_approval(number: int = 0, approver: str = "bob", decision: Decision | None = None) -> Approval:
    about = (decision or a_decision(number)).digest
    return Approval(decision=about, candidate=a_digest(number), approver=approver, at=NOON)


def a_revocation(asks: str = "ann", confirms: str = "bob") -> Revocation:
    return Revocation(release=a_digest(7), reason="a flaw", requested_by=asks, confirmed_by=confirms, at=NOON)


def a_waiver(number: int = 0, person: str = "bob") -> Waiver:
    return Waiver(
        candidate=a_digest(number),
        policy=a_digest(-1),
        rule="little-is-lost",
        person=person,
        reason="a trial",
        until=NOON.date(),
        at=NOON,
    )


def a_retirement(asks: str = "ann", confirms: str | None = "bob") -> Retirement:
    return Retirement(
        role="release", pem="a key", log_size=3, reason="a year is over", by=asks, confirmed_by=confirms, at=NOON
    )


def some_terms(asks: str = "ann", confirms: str = "bob") -> ReleaseTerms:
    """Not validated, as a program that writes to the ledger past the record's own rule would do."""
    return ReleaseTerms.model_construct(
        model="net", policy=a_digest(-1), policy_name="standard-1", datasets=(a_digest(3),), approvals=2,
        reason="a test", proposal=a_digest(4), proposed_by=asks, confirmed_by=confirms, at=NOON,
    )  # fmt: skip


def some_settings(asks: str = "ann", confirms: str = "bob") -> WatchSettings:
    """As ``some_terms``."""
    return WatchSettings.model_construct(
        release=a_digest(7), model="net", version="1", data="audited", dataset=a_digest(3), reason="a test",
        proposal=a_digest(4), proposed_by=asks, confirmed_by=confirms, at=NOON,
    )  # fmt: skip


def a_rollback(asks: str = "ann", confirms: str = "bob") -> Rollback:
    return Rollback(
        model="net", version="1", release=a_digest(7), reason="a flaw", requested_by=asks, confirmed_by=confirms,
        rehearsal=False, took_ms=1, at=NOON,
    )  # fmt: skip


def one_of_each() -> tuple[Record, ...]:
    """A record for every table of the ledger that has rules of its own."""
    return (
        a_submission(),
        a_decision(),
        an_approval(),
        a_waiver(),
        a_revocation(),
        a_retirement(),
        some_terms(),
        some_settings(),
        a_rollback(),
        a_candidate(),
    )
