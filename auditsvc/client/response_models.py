"""What the service answers that is no record: shapes that leave out what they do not know."""

from __future__ import annotations

import datetime
import json
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from auditsvc.errors import Unavailable
from auditsvc.records import Digest, FileEntry, Name, Revocation, Verification, VerificationVerdict

M = TypeVar("M", bound=BaseModel)


class Verified(BaseModel):
    """What the service found of a file or a release's tar; what it does not know yet is left out."""

    verdict: VerificationVerdict
    words: str
    digest: Digest
    model: str | None = None
    version: str | None = None
    release: Digest | None = None
    verification: Verification | None = None


class Asked(BaseModel):
    """A recall that waits for a second person."""

    release: Digest
    reason: str
    person: Name
    at: datetime.datetime


class Recall(BaseModel):
    """How far a recall is: asked for by one person, or confirmed by another."""

    asked: Asked | None = None
    revocations: tuple[Revocation, ...] = ()


class Uploaded(BaseModel):
    """Files that the service keeps now."""

    files: tuple[FileEntry, ...]


class Traced(BaseModel):
    """Whose model a found file is: ``MATCH``, ``INCONCLUSIVE`` or ``NO EVIDENCE``, and in words."""

    verdict: str
    sentence: str
    tried: int


class Turned(BaseModel):
    """One candidate under another policy: what was decided, and what that one would decide."""

    model: str
    version: str
    before: str
    now: str
    reasons: tuple[str, ...]


class Tried(BaseModel):
    """What a policy would have decided on everything that was judged."""

    policy: Digest
    turned: int
    replayed: tuple[Turned, ...]


class Origin(BaseModel):
    """A record that a digest names, or that speaks of it."""

    kind: str
    digest: Digest
    relation: str
    href: str


class Provenance(BaseModel):
    """Everything that is known of a digest."""

    digest: Digest
    origins: tuple[Origin, ...]


class Me(BaseModel):
    """The name, roles and project of a token."""

    name: str
    role: str
    project: str = ""


class Token(BaseModel):
    """A token as others may see it."""

    id: str
    name: str
    role: str
    expires: datetime.datetime
    revoked: datetime.datetime | None = None
    project: str = ""


class NewToken(BaseModel):
    """A token that was just issued; the secret is shown once."""

    token: str
    about: Token


class Receiver(BaseModel):
    """Who is told of events."""

    id: str
    url: str
    events: tuple[str, ...] = ()
    ended: datetime.datetime | None = None


class NewReceiver(BaseModel):
    """A receiver that was just added; the secret is shown once."""

    secret: str
    about: Receiver


class Delivery(BaseModel):
    """One event on its way to one receiver."""

    id: str
    hook: str
    type: str
    state: str
    tries: int
    trouble: str = ""


def read(kind: type[M], body: bytes) -> M:
    """An answer in this shape; what a newer service adds is left out.

    Raises:
        Unavailable: it is not in this shape.
    """
    try:
        told = json.loads(body)
        known = {name: told[name] for name in kind.model_fields if name in told}
        return kind.model_validate(known)
    except (ValueError, TypeError, ValidationError) as error:
        raise Unavailable(f"this does not look like auditsvc: {error}") from error


def read_many(kind: type[M], body: bytes) -> tuple[M, ...]:
    """A list of answers in this shape."""
    try:
        return tuple(read(kind, json.dumps(item).encode()) for item in TypeAdapter(list[object]).validate_json(body))
    except ValidationError as error:
        raise Unavailable(f"this does not look like auditsvc: {error}") from error
