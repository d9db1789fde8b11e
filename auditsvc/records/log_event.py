"""Events in the transparency log: who did what to which object, when.

Each record in the ledger has one event, whose type is the record's ``event`` (``candidate.submitted``); other events
(a login, a new webhook) are in the log only.  Types are ``noun.verb``, the verb in the past tense, as in the webhooks
of GitHub and Stripe.  The log holds other leaves too: signatures are logged as Rekor entries.
"""

from __future__ import annotations

import json
from typing import Any

from auditsvc.records.base import Moment, canonical_json

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
