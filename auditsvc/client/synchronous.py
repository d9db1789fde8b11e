"""The client that waits."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from auditsvc.client.shapes import Asked, Recall, Verified, read
from auditsvc.client.transport import Transport
from auditsvc.client.working import Working
from auditsvc.compliance.human import Answers, ChangePlan, ChangeVerdict, Document
from auditsvc.errors import InvalidInput, NotApproved, Unavailable
from auditsvc.pipeline.answering import GateAnswer
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
    digest_of,
)

R = TypeVar("R", bound=Record)

PLACES: dict[type[Record], str] = {
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
    AliasMove: "alias-moves",
    Rollback: "rollbacks",
    Monitoring: "monitors",
    Document: "documents",
    Answers: "answers",
    ChangePlan: "change-plans",
    ChangeVerdict: "change-verdicts",
}
"""Where each kind of record is read, under ``/v1``."""


class Client(Working):
    """Asks one service; may be used from several threads."""

    def __init__(self, url: str = "", token: str = "", timeout: float = 30.0) -> None:
        """``url`` and ``token`` are taken from ``AUDITSVC_URL`` and ``AUDITSVC_TOKEN`` where not given."""
        self._transport = Transport(
            url or os.environ.get("AUDITSVC_URL", "http://127.0.0.1:8600"),
            token or os.environ.get("AUDITSVC_TOKEN", ""),
            timeout,
        )

    def gate(self, model: str, version: str, policy: str | None = None) -> GateAnswer:
        """May this version be used?  Any answer but ``approved`` is a no.

        Raises:
            NotFound: nobody submitted this version.
            Unavailable: the service can't be asked; that is a no, too.
        """
        asked = {"model": model, "version": version} | ({"policy": policy} if policy else {})
        return read(GateAnswer, self._transport.send("GET", f"/v1/gate?{urlencode(asked)}"))

    def require(self, model: str, version: str, policy: str | None = None) -> GateAnswer:
        """The answer, if it is ``approved``.

        Raises:
            NotApproved: it is not, with every reason.
        """
        answer = self.gate(model, version, policy)
        if answer.answer != "approved":
            told = "; ".join(answer.reasons) or "no reason was given"
            raise NotApproved(f"{model} version {version} is {answer.answer}: {told}")
        return answer

    def get(self, kind: type[R], digest: Digest) -> R:
        """One record, checked against its digest.

        Raises:
            NotFound: there is none.
            Unavailable: what came is not what was asked for.
        """
        body = self._transport.send("GET", f"/v1/{PLACES[kind]}/{quote(digest)}")
        if digest_of(body) != digest:
            raise Unavailable(f"the service gave other bytes than those of {digest}; do not use them")
        return kind.parse(body)

    def find(self, kind: type[R], of: str | None = None) -> Iterator[R]:
        """All records of a kind, newest first, page after page; ``of`` is what they are about."""
        cursor: str | None = None
        while True:
            asked = {name: value for name, value in (("of", of), ("cursor", cursor)) if value}
            page = json.loads(self._transport.send("GET", f"/v1/{PLACES[kind]}?{urlencode(asked)}"))
            for item in page["items"]:
                yield kind.parse(json.dumps(item["record"]).encode())
            cursor = page["next"]
            if cursor is None:
                return

    def approve(self, decision: Digest, comment: str = "") -> Approval:
        """Consent to a decision under the name of the token.  Raises ``NotApproved``, ``Conflict``, ``Forbidden``."""
        return Approval.parse(self._write(f"/v1/decisions/{decision}/approvals", {"comment": comment}))

    def waive(self, decision: Digest, rule: str, reason: str, until: datetime.date) -> Waiver:
        """Take one open rule upon oneself until a day.  Raises ``InvalidInput``, ``Conflict``, ``Forbidden``."""
        given = {"rule": rule, "reason": reason, "until": until.isoformat()}
        return Waiver.parse(self._write(f"/v1/decisions/{decision}/waivers", given))

    def release(self, decision: Digest) -> Release:
        """Seal what the decision approves.  Raises ``NotApproved``, ``Conflict``, ``Forbidden``."""
        return Release.parse(self._write(f"/v1/decisions/{decision}/release", {}))

    def recall(self, release: Digest, reason: str | None = None) -> Recall:
        """Ask for a recall, or confirm the one that somebody else asked for.  Raises ``Conflict``, ``Forbidden``."""
        body = self._write(f"/v1/releases/{release}/recall", {"reason": reason} if reason else {})
        if json.loads(body).get("kind") == Revocation.kind:
            return Recall(revocations=(Revocation.parse(body),))
        return read(Recall, body)

    def go_back(self, release: Digest, reason: str | None = None) -> Asked | Rollback:
        """Ask to go back to this release, or confirm what somebody else asked for.

        Raises:
            Conflict: it carries the alias already, or you asked for it yourself.
            NotApproved: it may not be used any more, or does not verify.
        """
        body = self._write(f"/v1/releases/{release}/return", {"reason": reason} if reason else {})
        if json.loads(body).get("kind") == Rollback.kind:
            return Rollback.parse(body)
        asked = read(Recall, body).asked
        if asked is None:
            raise Unavailable("the service answered neither what was asked for nor what was done")
        return asked

    def bundle(self, release: Digest, file: Path) -> Path:
        """Download a release as one tar: the model's files and what is signed about them."""
        return self._transport.save(f"/v1/releases/{release}/bundle", file)

    def verify(self, file: Path) -> Verified:
        """Send a model file, or a release's ``.tar``, and hear what it is."""
        if not file.is_file():
            raise InvalidInput(f"{file} is not a file; send a model file, or the tar of a release")
        kind = "application/x-tar" if file.suffix == ".tar" else "application/octet-stream"
        return read(Verified, self._transport.send("POST", "/v1/verify", file, kind))

    def _write(self, path: str, given: dict[str, Any]) -> bytes:
        return self._transport.send("POST", path, json.dumps(given).encode())
