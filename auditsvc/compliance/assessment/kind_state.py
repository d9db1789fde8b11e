"""The state of one kind of evidence, and the status of one requirement."""

from __future__ import annotations

from collections.abc import Iterable

from auditsvc.compliance.assessment.framework import Status
from auditsvc.records import Digest, Value


class KindState(Value):
    """One kind of evidence: its status, why, and the records that it rests on."""

    kind: str
    status: Status
    words: str
    records: tuple[Digest, ...] = ()


class Assessment(Value):
    """How one requirement stands.  ``evidence_status`` is shown beside a row that applies only later."""

    framework: str
    requirement: str
    key: str
    title: str
    reference: str
    group: str
    role: str
    rule: str
    assessability: str
    status: Status
    evidence_status: Status
    counted: bool
    words: str
    applies: str
    kinds: tuple[KindState, ...]
    records: tuple[Digest, ...]
    note: str


def state(kind: str, status: Status, words: str, records: Iterable[Digest] = ()) -> KindState:
    """One state in one line."""
    return KindState(kind=kind, status=status, words=words, records=tuple(records))
