"""Every call of the client, written once and without input or output.

A call is a generator: it yields a ``Request`` and receives the body of the response, or the error that the service
answered; it yields a ``Pause`` to wait; it returns the result.  ``Client`` and ``AsyncClient`` run the same calls, one
with blocking I/O and one with ``await``, and a test can run them with no network at all::

    call = gate("face-gender", "2")
    request = next(call)        # Request(method="GET", path="/v1/gate?model=face-gender&version=2")
    call.send(response_body)    # StopIteration(value=GateAnswer(...))

Reference: C. Benfield et al. (2016), "Building protocol libraries the right way", https://sans-io.readthedocs.io.
"""

from __future__ import annotations

import datetime
import json
import time
import uuid
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

from auditsvc.client.response_models import (
    RECORD_PATHS,
    BacktestResult,
    CurrentUser,
    Delivery,
    FileVerification,
    GateAnswer,
    NewToken,
    NewWebhook,
    PendingRequest,
    Provenance,
    RevocationStatus,
    Token,
    TraceResult,
    Webhook,
    read,
    read_many,
)
from auditsvc.errors import AuditError, InvalidInput, NotApproved, NotVerified, Unavailable, errors_by_code

if TYPE_CHECKING:
    from auditsvc.records import (
        Approval,
        FileEntry,
        Job,
        JobRequest,
        Record,
        Release,
        ReleaseTerms,
        Rollback,
        TermsProposal,
        Waiver,
    )

RETRY_PAUSES_S = (0.2, 1.0)
"""Waits before a request is sent again, in seconds."""


@dataclass(frozen=True)
class Request:
    """One HTTP request; ``body`` may be a file, and ``save_as`` streams the response to a file."""

    method: str
    path: str
    body: bytes | Path | None = None
    content_type: str = "application/json"
    save_as: Path | None = None
    idempotency_key: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def headers(self) -> dict[str, str]:
        """Headers without the token.  A retried write keeps its ``Idempotency-Key``, so that it is done once."""
        headers = {} if self.body is None else {"content-type": self.content_type}
        if self.method != "GET" and not isinstance(self.body, Path):
            headers["idempotency-key"] = self.idempotency_key
        return headers


@dataclass(frozen=True)
class Pause:
    """A wait before the next request."""

    seconds: float


T = TypeVar("T")
R = TypeVar("R", bound="Record")
Call = Generator[Request | Pause, bytes, T]
"""Yields requests and pauses, is sent response bodies, returns a ``T``."""


def send(request: Request) -> Call[bytes]:
    """Send a request, again where the service is unavailable.

    Raises:
        AuditError: the error that the service answered, by its code.
        Unavailable: no answer after the last retry.
    """
    for pause in RETRY_PAUSES_S:
        try:
            return (yield request)
        except Unavailable:
            yield Pause(pause)
    return (yield request)


def error_of(status: int, body: bytes) -> AuditError:
    """The error in a Problem Details response, by its code."""
    try:
        problem = json.loads(body)
        code, detail = str(problem["code"]), str(problem["detail"])
        reasons = tuple(map(str, problem.get("reasons", ())))
    except (ValueError, KeyError, TypeError):
        return Unavailable(f"the response is not one of auditsvc: HTTP status {status}")
    kind = errors_by_code().get(code, InvalidInput if status < 500 else Unavailable)
    if issubclass(kind, (InvalidInput, NotVerified)):
        return kind(detail, reasons)
    return kind(detail)


def call(method: str, path: str, fields: Mapping[str, Any] | None = None) -> Call[bytes]:
    """Request any route by its path, for routes without a method of their own; gives the response body.

    Raises:
        AuditError: the error that the service answered.
    """
    return (yield from send(Request(method, path, None if fields is None else json.dumps(fields).encode())))


def _download(path: str, file: Path) -> Call[Path]:
    yield from send(Request("GET", path, save_as=file))
    return file


def _record_path(kind: type[Record]) -> str:
    return f"/v1/{RECORD_PATHS[kind.kind]}"


# The gate, records, and the steps of a release


def gate(model: str, version: str, policy: str | None = None) -> Call[GateAnswer]:
    """May this version be used?  Any answer other than ``approved`` means no.

    Raises:
        NotFound: this version was never submitted.
        Unavailable: the service did not answer; treat it as a no.
    """
    query = {"model": model, "version": version} | ({"policy": policy} if policy else {})
    return read(GateAnswer, (yield from call("GET", f"/v1/gate?{urlencode(query)}")))


def require(model: str, version: str, policy: str | None = None) -> Call[GateAnswer]:
    """The gate's answer, if it is ``approved``.

    Raises:
        NotApproved: it is not, with every reason.
        NotFound: this version was never submitted.
        Unavailable: the service did not answer.
    """
    answer = yield from gate(model, version, policy)
    if answer.answer != "approved":
        reasons = "; ".join(answer.reasons) or "the service gave no reason"
        raise NotApproved(f"{model} version {version} is {answer.answer}: {reasons}")
    return answer


def get_record(kind: type[R], digest: str) -> Call[R]:
    """One record, checked against its digest.

    Raises:
        NotFound: no such record.
        Unavailable: the response has another digest.
    """
    from auditsvc.records import digest_of

    body = yield from call("GET", f"{_record_path(kind)}/{quote(digest)}")
    if digest_of(body) != digest:
        raise Unavailable(f"the response does not have the digest {digest}; do not use it")
    return kind.parse(body)


def record_page(kind: type[R], about: str | None, cursor: str | None) -> Call[tuple[tuple[R, ...], str | None]]:
    """One page of records, newest first, and the cursor of the next page."""
    query = {name: value for name, value in (("subject", about), ("cursor", cursor)) if value}
    page = json.loads((yield from call("GET", f"{_record_path(kind)}?{urlencode(query)}")))
    return tuple(kind.parse(json.dumps(item["record"]).encode()) for item in page["items"]), page["next"]


def propose_terms(model: str, policy: str, datasets: Sequence[str], reason: str, **more: Any) -> Call[TermsProposal]:
    """Propose the terms of a model as the owner of the token; another approver confirms them.

    ``policy`` is a shipped one by name or one of the ledger by digest, ``datasets`` are digests; ``more`` are further
    fields of the request: ``slices``, ``approvals``, ``roles``, ``parents``, ``unmarked``.

    Raises:
        NotFound: the model, the policy or a parent isn't registered.
        InvalidInput: terms that can't be kept, with every reason.
        Forbidden: the token's role is not ``approver``.
    """
    from auditsvc.records import TermsProposal

    fields = {"policy": policy, "datasets": list(datasets), "reason": reason, **more}
    return TermsProposal.parse((yield from call("POST", f"/v1/models/{quote(model)}/terms", fields)))


def confirm_terms(proposal: str) -> Call[ReleaseTerms]:
    """Confirm terms that another person proposed: from then on they bind the model.

    Raises:
        Conflict: you proposed them, or a newer proposal replaced them.
        Forbidden: the token's role is not ``approver``.
    """
    from auditsvc.records import ReleaseTerms

    return ReleaseTerms.parse((yield from call("POST", f"/v1/terms-proposals/{quote(proposal)}/confirmations", {})))


def approve(decision: str, comment: str = "") -> Call[Approval]:
    """Approve a decision as the owner of the token.

    Raises:
        NotApproved: the decision is not ``approved``.
        Conflict: the submitter, or the same person twice.
        Forbidden: the token's role is not ``approver``.
    """
    from auditsvc.records import Approval

    return Approval.parse((yield from call("POST", f"/v1/decisions/{quote(decision)}/approvals", {"comment": comment})))


def waive(decision: str, rule: str, reason: str, until: datetime.date) -> Call[Waiver]:
    """Take responsibility for one rule that is not met, until a day.

    Raises:
        InvalidInput: a rule that can't be waived, or a day too far away.
        Conflict: the decision was superseded.
        Forbidden: the token's role is not ``approver``.
    """
    from auditsvc.records import Waiver

    fields = {"rule": rule, "reason": reason, "until": until.isoformat()}
    return Waiver.parse((yield from call("POST", f"/v1/decisions/{quote(decision)}/waivers", fields)))


def release(decision: str) -> Call[Release]:
    """Sign and release what an approved decision is about.

    Raises:
        NotApproved: not approved, or too few approvals.
        Conflict: released already, or superseded.
        Forbidden: the token's role is not ``auditor``.
    """
    from auditsvc.records import Release

    return Release.parse((yield from call("POST", f"/v1/decisions/{quote(decision)}/release", {})))


def revoke(release: str, reason: str | None = None) -> Call[RevocationStatus]:
    """Request the revocation of a release (with a reason), or confirm another person's request (without).

    Raises:
        Conflict: the same person requested it, or it is revoked already.
        Forbidden: the token's role is not ``approver``.
    """
    from auditsvc.records import Revocation

    body = yield from call("POST", f"/v1/releases/{quote(release)}/revocations", {"reason": reason} if reason else {})
    if json.loads(body).get("kind") == Revocation.kind:
        return RevocationStatus(revocations=(Revocation.parse(body),))
    return RevocationStatus(pending=read(PendingRequest, body))


def rollback(release: str, reason: str | None = None) -> Call[PendingRequest | Rollback]:
    """Request a rollback to this release (with a reason), or confirm another person's request (without).

    Raises:
        Conflict: the alias is on this release already, or the same person requested the rollback.
        NotApproved: the release may no longer be used, or does not verify.
    """
    from auditsvc.records import Rollback

    body = yield from call("POST", f"/v1/releases/{quote(release)}/rollbacks", {"reason": reason} if reason else {})
    if json.loads(body).get("kind") == Rollback.kind:
        return Rollback.parse(body)
    return read(PendingRequest, body)


def download_release(release: str, file: Path) -> Call[Path]:
    """Download a release as one tar: the model's files and its attestations.  Raises ``NotFound``."""
    return (yield from _download(f"/v1/releases/{quote(release)}/bundle", file))


def download_report(release: str, file: Path) -> Call[Path]:
    """Download the report of a release.  Raises ``NotFound``."""
    return (yield from _download(f"/v1/releases/{quote(release)}/report", file))


def verify(file: Path) -> Call[FileVerification]:
    """Upload a model file, or the tar of a release, and verify it on the service.

    The service's word is only as good as the service; ``auditsvc-verify`` checks offline, against your own trust root.

    Raises:
        InvalidInput: not a file.
    """
    from auditsvc.records import Verification

    body = yield from send(_upload("/v1/verify", file, "a model file, or the tar of a release"))
    answer = json.loads(body)
    found = answer.get("verification")
    return FileVerification(
        verdict=answer["verdict"],
        message=answer["message"],
        digest=answer["digest"],
        model=answer.get("model"),
        version=answer.get("version"),
        release=answer.get("release"),
        verification=found and Verification.model_validate(found),
    )


def provenance(digest: str) -> Call[Provenance]:
    """Every record that has this digest or refers to it.  Raises ``NotFound``."""
    return read(Provenance, (yield from call("GET", f"/v1/provenance/{quote(digest)}")))


def identify(file: Path) -> Call[TraceResult]:
    """The model that a file was derived from, by its watermark; role ``auditor``."""
    return read(TraceResult, (yield from send(_upload("/v1/identify", file, "a model file"))))


def log_checkpoint() -> Call[str]:
    """The log's signed checkpoint; keep it to check later that the log only grew."""
    return (yield from call("GET", "/v1/log/checkpoint")).decode()


def backtest_policy(policy: str, model: str | None = None) -> Call[BacktestResult]:
    """The decisions that this policy (YAML text) would have made on everything that was decided so far.

    Raises:
        InvalidPolicy: with every fault.
    """
    fields = {"policy": policy} | ({"model": model} if model else {})
    return read(BacktestResult, (yield from call("POST", "/v1/policies/backtests", fields)))


# Uploads, jobs and statements


def _upload(path: str, file: Path, expected: str) -> Request:
    if not file.is_file():
        raise InvalidInput(f"{file} is not a file; give {expected}")
    return Request("POST", path, file, "application/x-tar" if file.suffix == ".tar" else "application/octet-stream")


def upload(file: Path) -> Call[tuple[FileEntry, ...]]:
    """Upload a file, or a model folder as ``.tar``; gives the entries that job requests and documents refer to.

    Raises:
        InvalidInput: not a file, or a tar that is refused.
    """
    from auditsvc.records import FileEntry

    query = "" if file.suffix == ".tar" else f"?{urlencode({'name': file.name})}"
    body = yield from send(_upload(f"/v1/uploads{query}", file, "a file, or a model folder as a tar"))
    return tuple(FileEntry.model_validate(item) for item in json.loads(body)["files"])


def _job(body: bytes) -> Job:
    from auditsvc.records import Job

    return Job.model_validate_json(body)


def submit_job(request: JobRequest) -> Call[Job]:
    """Queue a job: prune, admit, audit, release, report or monitor."""
    return _job((yield from call("POST", f"/v1/jobs/{request.kind}", request.model_dump(mode="json"))))


def get_job(job: str) -> Call[Job]:
    """The state of a job.  Raises ``NotFound``."""
    return _job((yield from call("GET", f"/v1/jobs/{quote(job)}")))


def list_jobs(limit: int = 20) -> Call[tuple[Job, ...]]:
    """The newest jobs."""
    from auditsvc.records import Job

    page = json.loads((yield from call("GET", f"/v1/jobs?limit={limit}")))
    return tuple(Job.model_validate(item) for item in page["items"])


def wait_for_job(job: str, timeout_s: float = 3600.0, interval_s: float = 1.0) -> Call[Job]:
    """The job once it succeeded, failed or was cancelled.

    Raises:
        Unavailable: it did not end within ``timeout_s``; the job goes on.
    """
    from auditsvc.records import ENDS

    deadline = time.monotonic() + timeout_s
    while (found := (yield from get_job(job))).state not in ENDS:
        if time.monotonic() > deadline:
            raise Unavailable(f"the job {job} is still {found.state} after {timeout_s:g} s; it goes on")
        yield Pause(interval_s)
    return found


def cancel_job(job: str) -> Call[Job]:
    """Cancel a job.  Raises ``Conflict`` where it ended already."""
    return _job((yield from call("POST", f"/v1/jobs/{quote(job)}/cancel", {})))


def retry_job(job: str) -> Call[Job]:
    """Queue a failed or cancelled job again."""
    return _job((yield from call("POST", f"/v1/jobs/{quote(job)}/retry", {})))


def create_statement(kind: type[R], fields: Mapping[str, Any]) -> Call[R]:
    """Add a document, answers, a change plan, a change verdict, an incident or an incident watch.

    The author is the owner of the token.

    Raises:
        InvalidInput: with every fault.
    """
    return kind.parse((yield from call("POST", _record_path(kind), fields)))


def review_statement(kind: type[R], digest: str) -> Call[R]:
    """Review a document, answers, a change plan or a change verdict.  Raises ``Conflict`` for one's own."""
    return kind.parse((yield from call("POST", f"{_record_path(kind)}/{quote(digest)}/reviews", {})))


def report_incident(kind: type[R], incident: str, fields: Mapping[str, Any]) -> Call[R]:
    """Record that an incident was reported to an authority: ``authority``, ``reference``, ``reported``."""
    return kind.parse((yield from call("POST", f"{_record_path(kind)}/{quote(incident)}/reports", fields)))


def download_document(document: str, file: Path) -> Call[Path]:
    """Download the file of a document, to read it before a review.  Raises ``NotFound`` where it has none."""
    return (yield from _download(f"/v1/documents/{quote(document)}/file", file))


# Administration: tokens and webhooks


def whoami() -> Call[CurrentUser]:
    """The name, role and project of the token."""
    return read(CurrentUser, (yield from call("GET", "/v1/whoami")))


def list_tokens() -> Call[tuple[Token, ...]]:
    """All tokens, without their secrets; role ``admin``."""
    return read_many(Token, (yield from call("GET", "/v1/tokens")))


def issue_token(name: str, role: str, days: int = 90, project: str | None = None) -> Call[NewToken]:
    """Issue a token to a person or a program; the response holds the secret, which can't be read again."""
    fields = {"name": name, "role": role, "days": days} | ({} if project is None else {"project": project})
    return read(NewToken, (yield from call("POST", "/v1/tokens", fields)))


def revoke_token(token: str) -> Call[Token]:
    """Revoke a token by its id.  Raises ``NotFound``."""
    return read(Token, (yield from call("DELETE", f"/v1/tokens/{quote(token)}")))


def list_webhooks() -> Call[tuple[Webhook, ...]]:
    """All webhooks, without their secrets."""
    return read_many(Webhook, (yield from call("GET", "/v1/webhooks")))


def create_webhook(url: str, events: Sequence[str] = ()) -> Call[NewWebhook]:
    """Send these events (none: all) to a URL, signed with the secret in the response."""
    return read(NewWebhook, (yield from call("POST", "/v1/webhooks", {"url": url, "events": list(events)})))


def delete_webhook(webhook: str) -> Call[Webhook]:
    """Stop sending to a webhook.  Raises ``NotFound``."""
    return read(Webhook, (yield from call("DELETE", f"/v1/webhooks/{quote(webhook)}")))


def list_deliveries(state: str | None = None) -> Call[tuple[Delivery, ...]]:
    """The newest deliveries; the state ``failed`` lists those that failed for good."""
    query = f"?{urlencode({'state': state})}" if state else ""
    return read_many(Delivery, (yield from call("GET", f"/v1/webhooks/deliveries{query}")))


def redeliver(delivery: str) -> Call[Delivery]:
    """Send a delivery again.  Raises ``NotFound``."""
    return read(Delivery, (yield from call("POST", f"/v1/webhooks/deliveries/{quote(delivery)}/attempts", {})))
