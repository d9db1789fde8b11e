"""Background jobs: requests, states and progress events.

Jobs are not records of the ledger: their results are, and how a result was reached does not matter to a verifier.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from auditsvc.records.architecture import ModelDescription
from auditsvc.records.base import Digest, Moment, Name, Text, Value
from auditsvc.records.model import FileEntry, Recipe

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
"""The last three are final; a failed or cancelled job can be retried."""

ENDS: frozenset[JobState] = frozenset({"done", "failed", "cancelled"})

JobId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}-[0-9a-f]{16}$")]
"""The time of the request in ms, then random digits: later jobs have larger ids."""


def _within(path: str) -> str:
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError("a data set is named by its path below the service's data folder, without . and ..")
    return path


DataName = Annotated[
    str,
    StringConstraints(pattern=r"^(sha256:[0-9a-f]{64}|[A-Za-z0-9][A-Za-z0-9._/-]{0,199})$"),
    AfterValidator(_within),
]
"""A data set's folder or description below the service's data folder, or an uploaded Parquet file by its digest."""


_REFERENCE = r"^(models:/[^/@\s]+(/[1-9][0-9]*|@[^/@\s]+)|(s3|gs|gcs|az|abfs|abfss|oss)://[A-Za-z0-9._=+@-]+(/[A-Za-z0-9._=+@-]+)*)$"


class PruneRequest(Value):
    """Prune a registered parent, watermark the result, and submit it in the requester's name."""

    kind: Literal["prune"] = "prune"
    parent: Digest
    recipe: Recipe
    calibration: DataName
    training: tuple[DataName, ...] = ()
    """The data sets that the recipe names by digest, for its recovery."""
    recipient: Annotated[str, Field(max_length=128)] = ""
    """For whom this copy is marked."""
    onnx: bool = False
    runtimes: tuple[Name, ...] = ()
    """Whether the candidate's files hold the model for other runtimes too."""


class ModelRequest(Value):
    """A model: its files or where it is, and what they do not say about it."""

    files: Annotated[tuple[FileEntry, ...], Field(max_length=100)] = ()
    """Files that were sent to ``POST /v1/uploads``; or else a reference."""
    reference: Annotated[str, Field(pattern=_REFERENCE, max_length=300)] | None = None
    """A version of the registry, ``models:/NAME/VERSION``, or a folder in object storage that the operator allows,
    ``s3://bucket/place``."""
    describe: ModelDescription = ModelDescription()
    """Architecture, classes, input, preprocessing, output layout: as ``describe`` in ``audit.yaml``."""
    probe: DataName
    """A data set of which a few images are put through the model twice."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.files) == (self.reference is not None):
            raise ValueError("give either the files that were sent, or a reference to a version")
        return self


class ParentRequest(ModelRequest):
    """Register a dense model as a parent."""

    kind: Literal["parent"] = "parent"
    model: Name
    source: Text
    licence: Text
    intended_use: Text = "not stated"
    not_for: Text = "not stated"
    layers: Annotated[bool, Field(description="Convert an ONNX file to layers, which can be pruned here.")] = False


class AdmitRequest(ModelRequest):
    """Admit a candidate that was pruned elsewhere, submit it in the requester's name, and audit it if requested."""

    kind: Literal["admit"] = "admit"
    parent: Digest
    policy: Name | Digest | None = None
    data: DataName | None = None
    """With a policy: what the candidate is audited on at once."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.policy is None) != (self.data is None):
            raise ValueError("an audit needs both a policy and data")
        return self


class AuditRequest(Value):
    """Measure a candidate and its parent, decide, write the report."""

    kind: Literal["audit"] = "audit"
    candidate: Digest
    policy: Annotated[Name | Digest, Field(description="A policy of the ledger by digest, or a shipped one by name.")]
    data: DataName
    device: Annotated[
        Literal["cpu", "gpu"], Field(description="On which kind of worker; one audit never mixes the two.")
    ] = "cpu"
    expect_accuracy: Annotated[
        float | None, Field(ge=0, le=1, description="The parent's accuracy as its owner states it; stops if it is not.")
    ] = None


class ReleaseRequest(Value):
    """Sign the candidate of an approved decision and move the alias to it."""

    kind: Literal["release"] = "release"
    decision: Digest


class ReportRequest(Value):
    """Write the report of a decision again, in these formats."""

    kind: Literal["report"] = "report"
    decision: Digest
    data: DataName
    formats: Annotated[tuple[Name, ...], Field(min_length=1)] = ("html",)


class MonitorRequest(Value):
    """Count what was observed of a release in use, and measure it on newer labelled images; see
    ``services.monitoring``."""

    kind: Literal["monitor"] = "monitor"
    release: Digest
    data: Annotated[DataName | None, Field(description="Newer labelled images; without it observations alone.")] = None


JobRequest = Annotated[
    ParentRequest | PruneRequest | AdmitRequest | AuditRequest | ReleaseRequest | ReportRequest | MonitorRequest,
    Field(discriminator="kind"),
]
"""The request of a job."""

JOB_KINDS: tuple[str, ...] = tuple(
    request.model_fields["kind"].default for request in get_args(get_args(JobRequest)[0])
)
"""The kinds of job, as they are named in addresses and queues."""


class JobError(Value):
    """Why a job failed: the stable code of ``auditsvc.errors`` and the message."""

    code: str
    message: Text


class Job(Value):
    """One background job in its current state."""

    id: JobId
    request: JobRequest
    submitted_by: str
    state: JobState
    submitted_at: Moment
    updated_at: Moment
    result: dict[str, Any] = {}
    """What was created, by name: digests, a version, the outcome of a decision."""
    error: JobError | None = None


class JobEvent(Value):
    """One progress event of a job; ``number`` counts from 1 for each job."""

    number: int
    at: Moment
    step: str
    done: int | None = None
    total: int | None = None
    message: str = ""


class Shard(Value):
    """A part of an audit that can be measured alone: some checks on one part of every pass over the images."""

    job: JobId
    candidate: Digest
    policy: Digest
    data: DataName
    dataset: Digest
    """What the data set must be by content; another one is refused."""
    checks: tuple[Name, ...]
    part: Annotated[int, Field(ge=0)]
    parts: Annotated[int, Field(ge=1)]
