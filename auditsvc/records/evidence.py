"""Evidence: what one run of one check measured, what its metrics mean, and all that is needed to repeat the run.

Also exploratory records, which no rule judges: exemplars (images that several seeds of one recipe change alike) and
discovered slices (groups of images on which the candidate seems to lose); what registered devices measured, signed with
their own keys; and statistics of stored numbers (Holm's correction, the difference of two).

Reference: S. Holm (1979), "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of
Statistics 6, 65-70.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from auditsvc.records.base import Digest, Moment, Name, Record, Text, Value
from auditsvc.records.metric import Condition, Declarations, Metric, MetricId, condition_of, metric_of
from auditsvc.records.model import DatasetRef

OVERALL = "overall"
"""The slice of all images; no metadata column can take this name."""


class Measured(Value):
    """A number with its interval.  Each end is a one-sided bound at the evidence's ``alpha``.

    A loss against the parent may also say how many images were ``lost`` (right, then wrong) and ``won``, and
    the one-sided ``p`` of seeing it where nothing is lost: what naming harmed slices needs.
    """

    state: Literal["measured"] = "measured"
    value: float
    low: float
    high: float
    images: Annotated[int, Field(ge=1)]
    lost: Annotated[int, Field(ge=0)] | None = None
    won: Annotated[int, Field(ge=0)] | None = None
    p: Annotated[float, Field(ge=0, le=1)] | None = None
    which: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Whose number it is, where it is the worst of several."""
    clusters: Annotated[int, Field(ge=1)] | None = None
    """How many clusters the images are of, where they are clustered."""
    design_effect: Annotated[float, Field(ge=1)] | None = None
    """By what clustering multiplies the variance of the value: ``images`` over it is the effective sample size."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"an interval must hold its value: {self.low} <= {self.value} <= {self.high}")
        return self


class Unmeasured(Value):
    """No number, and why.  A rule that needs it is ``unknown``; it is never a pass."""

    state: Literal["unmeasured"] = "unmeasured"
    reason: Text
    images: Annotated[int, Field(ge=0)] = 0


class Reading(Value):
    """One metric on one slice: ``score.dark@-2EV`` on ``gender=F``."""

    metric: MetricId
    slice: Annotated[str, Field(min_length=1, max_length=200)]
    outcome: Annotated[Measured | Unmeasured, Field(discriminator="state")]


Change = Literal["right to wrong", "worse", "wrong to other wrong", "otherwise", "wrong to right", "better"]
"""What happened to an answer, worst first; the short words are for graded scores."""


class Flip(Value):
    """One image whose answer changed between parent and candidate under one condition.

    ``scores`` are the parent's and the candidate's, in 0..1, for tasks that are not plainly right or wrong.
    ``picture`` is the image as the models saw it (PNG, base64), where only the run itself could make it.
    """

    image: str
    condition: str
    parent: str
    candidate: str
    target: str
    slices: tuple[str, ...]
    scores: tuple[float, float] | None = None
    picture: Annotated[str, Field(max_length=400_000)] | None = None

    @property
    def change(self) -> Change:
        """What happened to the answer."""
        if self.scores is not None:
            before, after = self.scores
            return "worse" if after < before else "better" if after > before else "otherwise"
        if self.parent == self.target:
            return "right to wrong"
        return "wrong to right" if self.candidate == self.target else "wrong to other wrong"


class EvidenceKey(Value):
    """What a run depends on.  The same key gives the same evidence, so it is never run twice.

    Bound to content, never to paths: overwritten weights have another digest and find nothing here.
    """

    candidate: Digest
    parent: Digest
    dataset: Digest
    check: Name
    version: Annotated[int, Field(ge=1)]
    parameters: dict[str, Any]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    alpha: Annotated[float, Field(gt=0, lt=0.5)]
    code: Text
    slicing: dict[str, Any] | None = None
    stage: Annotated[int, Field(ge=1)] | None = None
    """How many of the images were measured, where a policy's ``stages`` let an audit stop early."""

    machine: Annotated[str, Field(max_length=1000)] | None = None
    """The CPU flags and the versions of the runtimes, for a check whose readings depend on them."""

    def text(self) -> str:
        """The key as one digest, for look-ups."""
        return _KeyRecord(key=self).digest


class _KeyRecord(Record):
    kind: ClassVar[str] = "evidence-key"
    key: EvidenceKey


class Evidence(Record):
    """One run of one check on one candidate and its parent, on the same images."""

    kind: ClassVar[str] = "evidence"
    event: ClassVar[str] = "evidence.recorded"

    key: EvidenceKey
    dataset: DatasetRef
    readings: tuple[Reading, ...]
    flips: tuple[Flip, ...] = ()
    environment: dict[str, str]
    whole: dict[str, int] | None = None
    """For a stage: how many images each slice has in the whole data set."""
    declared: Declarations | None = None
    """What the check declares about its metrics; None in evidence from before checks declared anything."""
    started: Moment
    finished: Moment

    def metric(self, name: str) -> Metric:
        """The declaration of a metric; what its name says by itself, where there is none."""
        return (self.declared and self.declared.metric_by_id.get(name)) or metric_of(name)

    def condition(self, name: str) -> Condition:
        """The declaration of a condition; what its name says by itself, where there is none."""
        return (self.declared and self.declared.condition_by_name.get(name)) or condition_of(name)

    def subjects(self) -> tuple[str, ...]:
        """Found by its key and by the candidate."""
        return (self.key.text(), self.key.candidate)

    def reading(self, metric: str, slice_name: str) -> Measured | Unmeasured:
        """The outcome of one metric on one slice; an ``Unmeasured`` where the check gave none."""
        for reading in self.readings:
            if reading.metric == metric and reading.slice == slice_name:
                return reading.outcome
        return Unmeasured(reason=f"the check {self.key.check} gave no {metric} for {slice_name}")


class CheckFailed(Record):
    """A check that crashed.  A record, not an error: the rules that needed it become ``unknown``."""

    kind: ClassVar[str] = "check-failed"
    event: ClassVar[str] = "check.failed"

    key: EvidenceKey
    error: Text
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by the candidate (not by the key: the next run tries again)."""
        return (self.key.candidate,)


class NullDraws(Record):
    """What one search found in pseudo-candidates of a parent, in the order in which they are made; ``search`` is the
    digest of the parent, the images, the parameters and the code.  Only as many were made as a test needed."""

    kind: ClassVar[str] = "null-draws"
    event: ClassVar[str] = "null-draws.recorded"

    search: Digest
    draws: Annotated[tuple[float, ...], Field(min_length=1)]

    def subjects(self) -> tuple[str, ...]:
        """Found by the search."""
        return (self.search,)


class Exemplar(Value):
    """One image on which most seeds agree with each other and not with the parent."""

    image: str
    target: str
    parent: str
    candidates: str
    agreed: Annotated[int, Field(ge=1)]
    slices: tuple[str, ...]


class Exemplars(Record):
    """What several seeds of one recipe change alike on one data set.

    ``changed`` images are answered otherwise by most seeds than by the parent; ``parent_right`` and
    ``candidates_right`` say how many of these either side has right.  ``noise`` is the share of images on which two
    seeds disagree, on average: what a changed answer is to be held against.
    """

    kind: ClassVar[str] = "exemplars"
    event: ClassVar[str] = "exemplars.found"

    parent: Digest
    dataset: Digest
    candidates: Annotated[tuple[Digest, ...], Field(min_length=2)]
    images: Annotated[int, Field(ge=1)]
    changed: Annotated[int, Field(ge=0)]
    parent_right: Annotated[int, Field(ge=0)]
    candidates_right: Annotated[int, Field(ge=0)]
    churn: Annotated[float, Field(ge=0, le=1)]
    noise: Annotated[float, Field(ge=0, le=1)]
    shown: tuple[Exemplar, ...]
    code: Text
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by each of the candidates."""
        return self.candidates


class DiscoveredSlice(Value):
    """One group: what it lost on the images that found it, and on those that did not.

    ``expression`` is in the grammar of a policy's slicing, so that a policy can name the group.  ``found`` flatters the
    finder; ``held`` is what counts, with its p-value corrected for the number of suggestions (Holm).
    """

    expression: Text
    found: Measured
    held: Measured
    adjusted: Annotated[float, Field(ge=0, le=1)]


class DiscoveredSlices(Record):
    """What a search over metadata and image properties suggests to look at, for one candidate on one data set."""

    kind: ClassVar[str] = "suggestions"
    event: ClassVar[str] = "slices.discovered"

    candidate: Digest
    parent: Digest
    dataset: Digest
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    alpha: Annotated[float, Field(gt=0, lt=0.5)]
    tried: Annotated[int, Field(ge=0)]
    images_found: Annotated[int, Field(ge=0)]
    images_held: Annotated[int, Field(ge=0)]
    groups: tuple[DiscoveredSlice, ...]
    code: Text
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by the candidate."""
        return (self.candidate,)


def difference(one: Measured, other: Measured) -> Measured:
    """``one`` less ``other``, with an interval from both of theirs; each end keeps its level if they are independent.

    Two candidates that were measured on the same images err alike, so that the interval is then too wide if anything.

    Reference: G. Y. Zou and A. Donner (2008), "Construction of confidence limits about effect measures",
    doi:10.1002/sim.3095 (the method of variance estimates recovery; R. G. Newcombe 1998 for proportions).
    """
    value = one.value - other.value
    below = math.hypot(one.value - one.low, other.high - other.value)
    above = math.hypot(one.high - one.value, other.value - other.low)
    return Measured(value=value, low=value - below, high=value + above, images=min(one.images, other.images))


def holm(tests: Iterable[tuple[Hashable, float | None]]) -> list[float | None]:
    """The adjusted p-value of each test, given as its family and its p-value; None where there is none."""
    families: dict[Hashable, list[tuple[float, int]]] = {}
    adjusted: list[float | None] = []
    for number, (family, p) in enumerate(tests):
        adjusted.append(None)
        if p is not None:
            families.setdefault(family, []).append((p, number))
    for found in families.values():
        largest = 0.0
        for rank, (p, number) in enumerate(sorted(found)):
            largest = adjusted[number] = max(largest, min(1.0, p * (len(found) - rank)))
    return adjusted


class Device(Record):
    """A device that may send measurements: its name, its hardware profile, its Ed25519 key (PEM)."""

    kind: ClassVar[str] = "device"
    event: ClassVar[str] = "device.registered"

    device: Name
    profile: Name
    public_key: Annotated[str, Field(max_length=2000)]
    registered_by: Name
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by its name; the newest one counts."""
        return (self.device,)


class DeviceMeasurement(Record):
    """What one device answered to one kit, as it signed it.

    ``challenge`` is the digest of the kit's description, ``signed`` that of the bytes that the device signed and
    ``answers`` that of the array of raw outputs; all three are blobs.  ``run`` is named as in policies, without the
    device.
    """

    kind: ClassVar[str] = "device-measurement"
    event: ClassVar[str] = "device.measured"

    device: Name
    registration: Digest
    candidate: Digest
    dataset: Digest
    run: Annotated[str, Field(max_length=100)]
    challenge: Digest
    signed: Digest
    signature: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{86}==$")]
    answers: Digest
    described: dict[str, Annotated[str, Field(max_length=300)]]
    """What the device says of itself: machine, system, versions; as stated by the holder of its key."""
    latency_ms: Annotated[tuple[float, ...], Field(min_length=1, max_length=1_000_000)]
    cold_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    memory_bytes: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """None where the device does not say it."""
    meter: Digest | None = None
    """The log of a power meter, which the device does not sign."""
    admitted_by: Text
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by the device, the candidate, and the challenge, which counts once."""
        return (self.device, self.candidate, self.challenge)
