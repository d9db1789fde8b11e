"""The client that waits.

The client's part for those who run things: uploads, jobs, statements, policies, tokens, receivers.
"""

from __future__ import annotations

import datetime
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from auditsvc.client.response_models import (
    Asked,
    Delivery,
    Me,
    NewReceiver,
    NewToken,
    Provenance,
    Recall,
    Receiver,
    Token,
    Traced,
    Tried,
    Uploaded,
    Verified,
    read,
    read_many,
)
from auditsvc.client.transport import Transport
from auditsvc.compliance.assessment.attestations import Answers, ChangePlan, ChangeVerdict, Document
from auditsvc.compliance.assessment.incident_status import Incident, Watch
from auditsvc.errors import InvalidInput, NotApproved, Unavailable
from auditsvc.records import (
    ENDS,
    AliasMove,
    Approval,
    Candidate,
    CheckFailed,
    Decision,
    Digest,
    Evidence,
    FileEntry,
    Job,
    JobId,
    JobRequest,
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
from auditsvc.services.gate_query import GateAnswer

Said = TypeVar("Said", Document, Answers, ChangePlan, ChangeVerdict, Incident, Watch)
Reviewable = TypeVar("Reviewable", Document, Answers, ChangePlan, ChangeVerdict)

_SAID: dict[type[object], str] = {
    Document: "documents",
    Answers: "answers",
    ChangePlan: "change-plans",
    ChangeVerdict: "change-verdicts",
    Incident: "incidents",
    Watch: "incident-watches",
}


class Working:
    """What runs the service, over one transport."""

    _transport: Transport

    def call(self, method: str, path: str, given: Mapping[str, Any] | None = None) -> bytes:
        """Any route by its path, for what has no method of its own here; errors are raised as everywhere."""
        return self._transport.send(method, path, None if given is None else json.dumps(given).encode())

    def upload(self, file: Path) -> tuple[FileEntry, ...]:
        """Send a file, or a model folder as ``.tar``; what comes back goes into an order or a document."""
        if not file.is_file():
            raise InvalidInput(f"{file} is not a file; send a file, or a model folder as a tar")
        if file.suffix == ".tar":
            body = self._transport.send("POST", "/v1/uploads", file, "application/x-tar")
        else:
            path = f"/v1/uploads?{urlencode({'name': file.name})}"
            body = self._transport.send("POST", path, file, "application/octet-stream")
        return read(Uploaded, body).files

    def ask(self, order: JobRequest) -> Job:
        """Ask for background work: prune, admit, audit, release or report."""
        return Job.model_validate_json(self.call("POST", f"/v1/jobs/{order.kind}", order.model_dump(mode="json")))

    def job(self, job: JobId) -> Job:
        """How a job stands.  Raises ``NotFound``."""
        return Job.model_validate_json(self.call("GET", f"/v1/jobs/{quote(job)}"))

    def jobs(self, limit: int = 20) -> tuple[Job, ...]:
        """The newest jobs."""
        found = json.loads(self.call("GET", f"/v1/jobs?limit={limit}"))
        return tuple(Job.model_validate(item) for item in found["items"])

    def wait(self, job: JobId, timeout_s: float = 3600.0, every_s: float = 1.0) -> Job:
        """The job when it is over, however it ended.

        Raises:
            Unavailable: it is not over in that time; it goes on.
        """
        until = time.monotonic() + timeout_s
        while (found := self.job(job)).state not in ENDS:
            if time.monotonic() > until:
                raise Unavailable(f"the job {job} is still {found.state} after {timeout_s:g} s; it goes on")
            time.sleep(every_s)
        return found

    def cancel(self, job: JobId) -> Job:
        """Stop a job.  Raises ``Conflict`` where it is over."""
        return Job.model_validate_json(self.call("POST", f"/v1/jobs/{quote(job)}/cancel", {}))

    def retry(self, job: JobId) -> Job:
        """Try a job again that failed or was cancelled."""
        return Job.model_validate_json(self.call("POST", f"/v1/jobs/{quote(job)}/retry", {}))

    def say(self, kind: type[Said], given: Mapping[str, Any]) -> Said:
        """Add a document, answers, a change plan, a word on a change, an incident, or that one watched for any, under
        the name of the token."""
        return kind.parse(self.call("POST", f"/v1/{_SAID[kind]}", given))

    def review(self, kind: type[Reviewable], digest: Digest) -> Reviewable:
        """Stand behind what somebody else said.  Raises ``Conflict`` for one's own."""
        return kind.parse(self.call("POST", f"/v1/{_SAID[kind]}/{quote(digest)}/review", {}))

    def reported(self, incident: Digest, given: Mapping[str, Any]) -> Incident:
        """Register that an authority was told of an incident: ``authority``, ``reference``, ``reported``."""
        return Incident.parse(self.call("POST", f"/v1/incidents/{quote(incident)}/report", given))

    def document_file(self, document: Digest, file: Path) -> Path:
        """Download the file of a document, to read it before the review.  Raises ``NotFound`` where it has none."""
        return self._transport.save(f"/v1/documents/{quote(document)}/file", file)

    def dry_run(self, policy: str, model: str | None = None) -> Tried:
        """What this policy (YAML) would have decided on everything that was judged."""
        given = {"policy": policy} | ({"model": model} if model else {})
        return read(Tried, self.call("POST", "/v1/policies/dry-run", given))

    def provenance(self, digest: Digest) -> Provenance:
        """Every record that has this digest or speaks of it.  Raises ``NotFound``."""
        return read(Provenance, self.call("GET", f"/v1/provenance/{quote(digest)}"))

    def identify(self, file: Path) -> Traced:
        """Whose model a found file is, by its watermark; for auditors."""
        return read(Traced, self._transport.send("POST", "/v1/identify", file, "application/octet-stream"))

    def checkpoint(self) -> str:
        """The log's signed checkpoint; keep one, to check later that the log only grew."""
        return self.call("GET", "/v1/log/checkpoint").decode()

    def report(self, release: Digest, file: Path) -> Path:
        """Download the report behind a release."""
        return self._transport.save(f"/v1/releases/{quote(release)}/report", file)

    def whoami(self) -> Me:
        """The name, roles and project of the token."""
        return read(Me, self.call("GET", "/v1/whoami"))

    def tokens(self) -> tuple[Token, ...]:
        """All tokens, never the secrets; for admins."""
        return read_many(Token, self.call("GET", "/v1/tokens"))

    def issue(self, name: str, role: str, days: int = 90, project: str | None = None) -> NewToken:
        """A token for somebody; its secret is in the answer and never seen again."""
        given = {"name": name, "role": role, "days": days} | ({} if project is None else {"project": project})
        return read(NewToken, self.call("POST", "/v1/tokens", given))

    def withdraw(self, token: str) -> Token:
        """Take a token back, by its id."""
        return read(Token, self.call("DELETE", f"/v1/tokens/{quote(token)}"))

    def receivers(self) -> tuple[Receiver, ...]:
        """Who is told of events."""
        return read_many(Receiver, self.call("GET", "/v1/receivers"))

    def tell(self, url: str, events: Sequence[str] = ()) -> NewReceiver:
        """Tell this address of events from now on, signed with the secret in the answer."""
        return read(NewReceiver, self.call("POST", "/v1/receivers", {"url": url, "events": list(events)}))

    def end(self, receiver: str) -> Receiver:
        """Tell this receiver nothing more."""
        return read(Receiver, self.call("DELETE", f"/v1/receivers/{quote(receiver)}"))

    def deliveries(self, state: str | None = None) -> tuple[Delivery, ...]:
        """The newest deliveries; ``dead`` lists those that were given up."""
        asked = f"?{urlencode({'state': state})}" if state else ""
        return read_many(Delivery, self.call("GET", f"/v1/deliveries{asked}"))

    def send_again(self, delivery: str) -> Delivery:
        """Send a delivery again."""
        return read(Delivery, self.call("POST", f"/v1/deliveries/{quote(delivery)}/send", {}))


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
