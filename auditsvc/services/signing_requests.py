"""What the signer process does on request, and nothing else: no caller gives it bytes to sign.

A request names a decision of the ledger.  The signer finds the records itself, decides again, and runs the use case
with all its conditions: binding terms, two people's approval, a ledger that follows from its log, a log that continues
what it has published.
"""

from __future__ import annotations

import json
from typing import get_args

from auditsvc.errors import InvalidInput, NotApproved
from auditsvc.ports import Context, KeyRole, SigningRequest
from auditsvc.records import Candidate, Decision
from auditsvc.services.decisions import decided_again
from auditsvc.services.key_rotation import publish
from auditsvc.services.release import attest_rejection, seal
from auditsvc.services.signing_context import checkpoint_store_of


def answer_request(ctx: Context, request: str, subject: str) -> str:
    """The answer to one request: a digest, a checkpoint, public keys.

    Raises:
        InvalidInput: a request that does not exist.
        AuditError: what the use case raises; nothing was signed.
    """
    if request not in get_args(SigningRequest):
        raise InvalidInput(f"the signer answers {', '.join(get_args(SigningRequest))}, not {request[:40]!r}")
    match request:
        case "keys":
            return json.dumps({role: ctx.keys.signer(role).public_pem.decode() for role in get_args(KeyRole)})
        case "watermark-secret":
            return ctx.keys.watermark_secret().hex()
        case "checkpoint":
            return checkpoint_store_of(ctx).current()
        case "trust":
            return publish(ctx).to_json().decode()
    decision = ctx.ledger.get(Decision, subject)
    candidate = ctx.ledger.get(Candidate, decision.candidate)
    if request == "rejection":
        attest_rejection(ctx, candidate, decision)
        return decision.digest
    again = decided_again(ctx.ledger, decision)
    if (again.outcome, again.terms) != (decision.outcome, decision.terms):
        trial = "" if again.terms == decision.terms else ", as a trial"
        message = f"the decision says {decision.outcome}; its records give {again.outcome}{trial}: audit it again"
        raise NotApproved(message)
    return seal(ctx, candidate, decision).digest
