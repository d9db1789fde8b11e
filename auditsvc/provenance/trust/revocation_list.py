"""The revocation list: digests that must no longer be used, published as a TUF target.

An entry names a digest: of a release, of its decision, of a statement, of a file, or of a parent, which revokes
everything made from it.  The list contains no names of people.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import AliasChoices, Field, ValidationError

from auditsvc.errors import InvalidInput
from auditsvc.provenance.formats.strict_json import Fault, parse_json
from auditsvc.records import Digest, Moment, Release, Revocation, Text, canonical_json, faults_of
from auditsvc.records.base import Value


class RevokedDigest(Value):
    """One digest that must no longer be used, since when, and why."""

    subject: Digest
    reason: Text
    at: Moment


class RevocationList(Value):
    """All revocations as of ``issued``."""

    issued: Moment
    revocations: Annotated[
        tuple[RevokedDigest, ...], Field(validation_alias=AliasChoices("revocations", "recalls"))
    ] = ()
    """Version 0.1 wrote the list under the name ``recalls``."""

    def about(self, subjects: Iterable[str]) -> tuple[RevokedDigest, ...]:
        """The entries about any of these digests."""
        wanted = set(subjects)
        return tuple(revoked for revoked in self.revocations if revoked.subject in wanted)

    def to_json(self) -> bytes:
        """The file ``revocations.json``, in canonical JSON."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read ``revocations.json``.

        Raises:
            InvalidInput: it is not a revocation list.
        """
        try:
            return cls.model_validate(parse_json(data))
        except Fault as fault:
            raise InvalidInput(f"not a list of revocations: {fault}") from fault
        except ValidationError as error:
            raise InvalidInput("not a list of revocations", faults_of(error)) from error


def revoked_digests(revocation: Revocation, release: Release) -> tuple[RevokedDigest, ...]:
    """The entries for a revoked release: the release itself and its decision.

    The decision is listed too, because a release whose log proofs were renewed has another digest and the same
    decision.
    """
    return tuple(
        RevokedDigest(subject=subject, reason=revocation.reason, at=revocation.at)
        for subject in (release.digest, release.decision)
    )
