"""Recalls: releases that must no longer be used, as a list that is published under TUF.

A recall names a digest.  It may be that of a release, of the decision behind it, of a statement, a file,
or a parent: everything made from it is recalled too.  No person is named in what is published.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from pydantic import ValidationError

from auditsvc.errors import InvalidInput
from auditsvc.provenance.formats.strict_json import Fault, parse_json
from auditsvc.records import Digest, Moment, Release, Revocation, Text, canonical_json, faults_of
from auditsvc.records.base import Value


class Recall(Value):
    """One digest that must no longer be used, since when, and why."""

    subject: Digest
    reason: Text
    at: Moment


class Recalls(Value):
    """All recalls that were known at a moment."""

    issued: Moment
    recalls: tuple[Recall, ...] = ()

    def about(self, subjects: Iterable[str]) -> tuple[Recall, ...]:
        """The recalls of any of these digests."""
        wanted = set(subjects)
        return tuple(recall for recall in self.recalls if recall.subject in wanted)

    def to_json(self) -> bytes:
        """The file ``revocations.json``, in canonical JSON."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read ``revocations.json``.

        Raises:
            InvalidInput: it is not one.
        """
        try:
            return cls.model_validate(parse_json(data))
        except Fault as fault:
            raise InvalidInput(f"not a list of revocations: {fault}") from fault
        except ValidationError as error:
            raise InvalidInput("not a list of revocations", faults_of(error)) from error


def recalls_of(revocation: Revocation, release: Release) -> tuple[Recall, ...]:
    """What is published when a release is revoked: the release and the decision it rests on.

    The decision is named too because it is signed: a release whose log proofs were renewed has another
    digest, but still the same decision.
    """
    return tuple(
        Recall(subject=subject, reason=revocation.reason, at=revocation.at)
        for subject in (release.digest, release.decision)
    )
