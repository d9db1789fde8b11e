"""Base classes of records: frozen, in canonical JSON, identified by the SHA-256 digest of their bytes; and log events.

Canonical JSON is RFC 8785 (JCS), so equal records have equal bytes on every machine.  Sets of files, readings and
rules are tuples in a fixed order.  NaN and infinity cannot be stored.

The reference implementation ``rfc8785`` is pure Python and dominates the time of a report with hundreds of slices.
The standard library's encoder is five times faster and differs only in numbers with an exponent or ``.0``, which are
formatted beforehand, and in non-ASCII keys and integers out of range, which the reference handles, including its
error messages.  A test compares both byte for byte.

Each record in the ledger has one event in the transparency log, whose type is the record's ``event``
(``candidate.submitted``); other events (a login, a new webhook) are in the log only.  Types are ``noun.verb``, the verb
in the past tense, as in the webhooks of GitHub and Stripe.  The log holds other leaves too: signatures are logged as
Rekor entries.

Reference: A. Rundgren, B. Jordan and S. Erdtman (2020), "JSON Canonicalization Scheme (JCS)", RFC 8785.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar, Self

import rfc8785
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
)

from auditsvc.errors import InvalidInput

_WRITTEN = "\ue000"
"""Delimits a number formatted beforehand: a private-use character that occurs in no record."""

_NUMBER = re.compile(f'"{_WRITTEN}([^"]*){_WRITTEN}"')
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
_LARGEST = 2**53
_PLAIN = frozenset({str, bool, type(None)})


class _Unusual(Exception):
    """What the fast way does not know; never leaves this file."""


def canonical_json(value: Any) -> bytes:
    """RFC 8785 bytes of plain JSON data.

    Raises:
        InvalidInput: a value that JSON can't hold (NaN, infinity, an integer over 2**53).
    """
    try:
        try:
            written: list[str] = []
            text = _ENCODER.encode(_eased(value, written))
            if text.count(_WRITTEN) != 2 * len(written):
                raise _Unusual
            return (_NUMBER.sub(r"\1", text) if written else text).encode()
        except (_Unusual, TypeError):
            return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise InvalidInput(f"cannot be written as canonical JSON: {error}") from error


def _eased(value: Any, written: list[str]) -> Any:
    """The value with every number as the encoder writes it right; ``written`` gets those formatted beforehand."""
    kind = type(value)
    if kind is dict:
        if not "".join(value).isascii():  # a TypeError where a key is no string
            raise _Unusual
        return {key: item if type(item) in _PLAIN else _eased(item, written) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [item if type(item) in _PLAIN else _eased(item, written) for item in value]
    if kind is float:
        size = abs(value)
        if size < _LARGEST and value.is_integer():
            return int(value)
        if 1e-4 <= size < _LARGEST:
            return value
        written.append(f"{_WRITTEN}{rfc8785.dumps(value).decode()}{_WRITTEN}")
        return written[-1]
    if kind in _PLAIN or (kind is int and -_LARGEST < value < _LARGEST):
        return value
    raise _Unusual


Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
"""``sha256:`` and 64 lower-case hexadecimal digits."""

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
"""A short name that is safe in a path, a URL and a registry."""

_CONFUSABLE = str.maketrans({"0": "o", "1": "l", "i": "l"})
"""Characters that read like another one in many fonts."""


def person_key(name: str) -> str:
    """What the names of people are compared by: ``Sue``, ``sue.`` and ``su-e`` are one person, ``b0b`` and ``bob`` too.

    Reference: Unicode Technical Standard 39 (2024), "Unicode Security Mechanisms", section 4, of which this is a part.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(character for character in folded if character.isalnum()).translate(_CONFUSABLE) or folded


TaskName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,63}$"),
    WithJsonSchema({
        "type": "string", "pattern": "^[a-z][a-z0-9-]{0,63}$",
        "examples": ["classification", "detection", "segmentation", "ocr", "tracking"],
    }),
]  # fmt: skip
"""The id of a task: built in, or of a plug-in (``auditsvc.tasks``)."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=4000)]
"""Words for a reader; never empty."""


def _utc_seconds(moment: AwareDatetime) -> AwareDatetime:
    """Times are kept to the second, so that a record reads back as it was written."""
    return moment.replace(microsecond=0)


Moment = Annotated[AwareDatetime, AfterValidator(_utc_seconds)]


def digest_of(data: bytes) -> Digest:
    """The digest of these bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Value(BaseModel):
    """A frozen part of a record; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    @classmethod
    def from_source(cls, source: object, /, **given: Any) -> Self:
        """One with the ``given`` fields; each other field is the attribute of ``source`` of that name, if it has it."""
        shared = {name: getattr(source, name) for name in cls.model_fields.keys() - given if hasattr(source, name)}
        return cls(**shared, **given)


class Record(Value):
    """A fact that never changes.

    ``kind`` names its type in the ledger and is part of its bytes; ``event`` is the type of its event in the log.
    """

    kind: ClassVar[str]
    event: ClassVar[str]

    def canonical(self) -> bytes:
        """The bytes that the digest is taken of."""
        return canonical_json({"kind": self.kind, **self.model_dump(mode="json", exclude_none=True)})

    @cached_property
    def digest(self) -> Digest:
        """The name of this record: SHA-256 over its canonical bytes; taken once, as they never change."""
        return digest_of(self.canonical())

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other fields is another record, with a name of its own."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("digest", None)
        return copied

    def subjects(self) -> tuple[str, ...]:
        """What this record is about: the keys under which the ledger finds it."""
        return ()

    @classmethod
    def stored(cls, data: bytes, digest: Digest) -> Self:
        """Read a record back from bytes that were found to have this digest: it keeps that name.

        Raises:
            InvalidInput: as ``parse`` says.
        """
        found = cls.parse(data)
        found.__dict__["digest"] = digest
        return found

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a record back from its canonical bytes.

        Raises:
            InvalidInput: not JSON, another kind of record, or fields that do not fit.
        """
        try:
            fields = json.loads(data, object_pairs_hook=_unique)
            found = fields.pop("kind", None)
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            raise InvalidInput(f"not a {cls.kind} record: {error}") from error
        if found != cls.kind:
            raise InvalidInput(f"expected a {cls.kind} record, found {found!r}")
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise InvalidInput(f"not a valid {cls.kind} record", faults_of(error)) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are unique (RFC 8259 leaves open which of two counts)."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a name twice")
    return found


def faults_of(error: ValidationError, known: Iterable[str] = ()) -> tuple[str, ...]:
    """One line for each fault that pydantic found: where, and what is wrong; for an unknown field the nearest of the
    ``known`` ones."""
    return tuple(
        f"{'.'.join(str(part) for part in fault['loc']) or '(whole)'}: {fault['msg']}{_meant(fault, known)}"
        for fault in error.errors()
    )


def _meant(fault: Mapping[str, Any], known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(fault["loc"][-1]), known, 1) if fault["type"] == "extra_forbidden" else []
    return f"; did you mean {near[0]!r}?" if near else ""


_KIND = "auditsvc.event"

EVENT_TYPES_0_1_0 = {
    "alias-move": "alias.moved",
    "answers": "questionnaire.answered",
    "approval": "decision.approved",
    "came-in": "user.logged-in",
    "candidate": "candidate.registered",
    "change-plan": "change-plan.submitted",
    "change-verdict": "change.assessed",
    "check-failed": "check.failed",
    "decision": "decision.made",
    "delivery-sent-again": "webhook.redelivered",
    "document": "document.submitted",
    "evidence": "evidence.recorded",
    "exemplars": "exemplars.found",
    "incident": "incident.registered",
    "incident-watch": "incidents.monitored",
    "look": "holdout.used",
    "marked-copy": "watermark-key.recorded",
    "monitoring": "release.monitored",
    "moved-past-auditsvc": "alias.changed-externally",
    "parent": "parent.registered",
    "policy": "policy.recorded",
    "recall-asked": "revocation.requested",
    "receiver-added": "webhook.created",
    "receiver-ended": "webhook.disabled",
    "recipe": "recipe.recorded",
    "release": "release.created",
    "retirement": "key.retired",
    "return-asked": "rollback.requested",
    "revocation": "release.revoked",
    "rollback": "release.rolled-back",
    "submission": "candidate.submitted",
    "suggestions": "slices.discovered",
    "timing": "latency.measured",
    "token-issued": "token.issued",
    "token-revoked": "token.revoked",
    "uploaded": "file.uploaded",
    "version-registered": "model-version.registered",
    "waiver": "waiver.granted",
    "went-out": "user.logged-out",
}
"""The event types that auditsvc 0.1.0 wrote (``apiVersion`` 1), with their present names.  A log never changes, so
old entries keep the old type; ``decode_event`` translates it."""


def encode_event(event: str, actor: str, at: Moment, **fields: str) -> bytes:
    """The leaf for one event: canonical JSON.  ``object`` among the fields is the digest that the event is about."""
    moment = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return canonical_json({"kind": _KIND, "apiVersion": "2", "type": event, "actor": actor, "at": moment, **fields})


def decode_event(leaf: bytes) -> dict[str, Any] | None:
    """The fields of an event, its type in the present form; None for a leaf that is no event."""
    try:
        event = json.loads(leaf)
    except ValueError:
        return None
    if not isinstance(event, dict) or event.get("kind") != _KIND or "type" not in event:
        return None
    return event | {"type": EVENT_TYPES_0_1_0.get(event["type"], event["type"])}
