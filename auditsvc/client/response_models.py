"""What the service answers that is not a record.

These models are a reader's view: a field that a newer service adds is ignored, and digests are plain strings, so that
the gate question needs neither the records nor their validators.  ``FileVerification``, ``RevocationStatus`` and
``Upload`` hold records; ``auditsvc.client.calls`` builds them.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from auditsvc.errors import Unavailable

if TYPE_CHECKING:
    from auditsvc.records import Revocation, Verification

M = TypeVar("M", bound=BaseModel)

_EXIT_CODES = {"approved": 0, "rejected": 1, "inconclusive": 3, "revoked": 5}


class GateAnswer(BaseModel):
    """The answer to the gate question, the records behind it, and every reason against it."""

    answer: Literal["approved", "rejected", "inconclusive", "revoked"]
    model: str
    version: str
    candidate: str
    policy: str | None = None
    policy_digest: str | None = None
    data: tuple[dict[str, Any], ...] = ()
    """The data sets of the decision: ``name``, ``digest`` and ``images``."""
    terms: str | None = None
    decision: str | None = None
    decided_at: datetime.datetime | None = None
    release: str | None = None
    reasons: tuple[str, ...] = ()
    review: str | None = None
    """Why people must look at a release that is still the answer."""

    @property
    def exit_code(self) -> int:
        """The exit code of ``auditsvc gate`` for this answer."""
        return _EXIT_CODES[self.answer]


@dataclass(frozen=True)
class FileVerification:
    """The result of verifying an uploaded file or the tar of a release; unknown facts are None."""

    verdict: str
    message: str
    digest: str
    model: str | None = None
    version: str | None = None
    release: str | None = None
    verification: Verification | None = None


class PendingRequest(BaseModel):
    """A revocation or rollback that one person requested and a second person has not confirmed."""

    release: str
    reason: str
    requested_by: str
    at: datetime.datetime


@dataclass(frozen=True)
class RevocationStatus:
    """The state of a revocation: requested by one person, or confirmed by a second one."""

    pending: PendingRequest | None = None
    revocations: tuple[Revocation, ...] = ()


class TraceResult(BaseModel):
    """The model that a file was derived from, by its watermark: ``MATCH``, ``INCONCLUSIVE`` or ``NO EVIDENCE``."""

    verdict: str
    sentence: str
    tried: int


class BacktestChange(BaseModel):
    """One candidate under another policy: the decision that was made, and the one this policy would make."""

    model: str
    version: str
    before: str
    now: str
    reasons: tuple[str, ...]


class BacktestResult(BaseModel):
    """The decisions that a policy would have made on everything that was decided so far."""

    policy: str
    changed: int
    decisions: tuple[BacktestChange, ...]


class RecordReference(BaseModel):
    """A record that has a digest or refers to it."""

    kind: str
    digest: str
    relation: str
    href: str


class Provenance(BaseModel):
    """Every record that has a digest or refers to it."""

    digest: str
    origins: tuple[RecordReference, ...]


class CurrentUser(BaseModel):
    """The name, role and project of the token in use."""

    name: str
    role: str
    project: str = ""


class Token(BaseModel):
    """A token without its secret."""

    id: str
    name: str
    role: str
    expires: datetime.datetime
    revoked: datetime.datetime | None = None
    project: str = ""


class NewToken(BaseModel):
    """A token that was just issued; ``token`` is the secret, shown once."""

    token: str
    about: Token


class Webhook(BaseModel):
    """A webhook endpoint and the events it subscribes to (none: all of them)."""

    id: str
    url: str
    events: tuple[str, ...] = ()
    disabled_at: datetime.datetime | None = None


class NewWebhook(BaseModel):
    """A webhook that was just created; ``secret`` signs its deliveries and is shown once."""

    secret: str
    about: Webhook


class Delivery(BaseModel):
    """One event sent, or to be sent, to one webhook."""

    id: str
    webhook: str
    type: str
    state: str
    attempts: int
    last_error: str = ""


def read(kind: type[M], body: bytes) -> M:
    """The response body as this model.

    Raises:
        Unavailable: the body has another shape.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise Unavailable(f"the response is not one of auditsvc: {error}") from error


def read_many(kind: type[M], body: bytes) -> tuple[M, ...]:
    """The response body as a list of this model.

    Raises:
        Unavailable: the body has another shape.
    """
    try:
        return tuple(TypeAdapter(list[kind]).validate_json(body))  # type: ignore[valid-type]
    except ValidationError as error:
        raise Unavailable(f"the response is not one of auditsvc: {error}") from error


RECORD_PATHS = {
    "parent": "parents",
    "candidate": "candidates",
    "submission": "submissions",
    "evidence": "evidence",
    "check-failed": "failed-checks",
    "policy": "policies",
    "terms": "terms",
    "terms-proposal": "terms-proposals",
    "decision": "decisions",
    "waiver": "waivers",
    "approval": "approvals",
    "objection": "objections",
    "release": "releases",
    "revocation": "revocations",
    "alias-move": "alias-moves",
    "rollback": "rollbacks",
    "monitoring": "monitoring-runs",
    "watch": "watch-settings",
    "watch-proposal": "watch-proposals",
    "watch-reference": "watch-references",
    "drift-alarm": "drift-alarms",
    "alarm-mute": "alarm-mutes",
    "document": "documents",
    "answers": "answers",
    "change-plan": "change-plans",
    "change-verdict": "change-verdicts",
    "incident": "incidents",
    "incident-watch": "incident-watches",
}
"""The collection under ``/v1`` of each kind of record."""
