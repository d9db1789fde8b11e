"""Watching a release in use: its settings, what was observed, what a run found, alarms and mutes.

The settings are the monitoring plan (Regulation (EU) 2024/1689, Art. 72): what is watched, where from, how often, with
which chance of a false alarm, for how long pictures are kept, and who is informed.  One person proposes them, another
confirms them.  The newest ones count; new ones start all tests again.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from auditsvc.records.base import Digest, Moment, Name, Record, Text, Value
from auditsvc.records.decision import Judgement
from auditsvc.records.evidence import Measured, Unmeasured
from auditsvc.records.model import DatasetRef
from auditsvc.records.release import VerificationVerdict

Channel = Literal[
    "confidence", "classes", "brightness", "contrast", "sharpness", "colourfulness", "distance", "disagreement"
]
"""What is watched of every image: the largest probability, the answered class, four image properties, how far the
image's features are from those of audited ones, and whether the parent answers otherwise."""

CHANNELS: tuple[Channel, ...] = (
    "confidence", "classes", "brightness", "contrast", "sharpness", "colourfulness", "distance", "disagreement",
)  # fmt: skip

DEVICE = "device"
"""The slice column with the device that made an observation."""

_Share = Annotated[float, Field(ge=0, le=1)]
_Numbers = Annotated[tuple[Annotated[float, Field(allow_inf_nan=False)], ...], Field(max_length=10_000)]
_Label = Annotated[str, Field(max_length=200)]


class WatchFields(Value):
    """What a proposal and the settings that follow from it have in common."""

    release: Digest
    model: Name
    version: str
    data: Text
    """Where the audited images are found: their answers are what new ones are compared with."""
    dataset: Digest
    """What these images must be by content; the release was judged on them."""
    source: Annotated[str, Field(max_length=500)] | None = None
    """A folder of images or a log, read at every run; None: observations are only sent to the service."""
    every_minutes: Annotated[int, Field(ge=1, le=60 * 24 * 366)] = 60
    alpha: Annotated[float, Field(gt=0, le=0.2)] = 0.05
    """The chance of any false alarm, over all looks and streams, for as long as these settings count."""
    channels: Annotated[tuple[Channel, ...], Field(min_length=1)] = CHANNELS
    slices: Annotated[tuple[Name, ...], Field(max_length=10)] = ()
    """Columns whose values are watched apart; ``device`` is always known."""
    block_minutes: Annotated[float, Field(gt=0)] | None = None
    """Of all observations of a device in so many minutes the first counts: the others depend on it."""
    period_minutes: Annotated[float, Field(gt=0)] | None = None
    """A season, 1440 for a day: an observation is compared with those of the same block of other seasons alone."""
    parent_share: _Share = 0.1
    """The share of images that the parent answers too, where runs answer them."""
    retention_days: Annotated[int, Field(ge=1, le=3660)] = 90
    """After these, observations are deleted."""
    contacts: Annotated[tuple[Text, ...], Field(max_length=20)] = ()
    """Who is informed; webhooks send the events."""
    reason: Text
    proposed_by: Name
    at: Moment

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.period_minutes and (not self.block_minutes or self.period_minutes < 2 * self.block_minutes):
            raise ValueError("period_minutes needs block_minutes, at most half as long: each block of it is compared")
        return self

    @property
    def lines(self) -> tuple[str, ...]:
        """The settings in words, one line for each."""
        season = f", compared within each block of {self.period_minutes:g} minutes" if self.period_minutes else ""
        found = (
            ("watched", ", ".join(self.channels)),
            ("by slice", ", ".join(self.slices)),
            ("source", self.source or "POST /v1/observations"),
            ("every", f"{self.every_minutes} minutes"),
            ("false alarms", f"a chance of at most {self.alpha:g} in all, however often one looks"),
            ("one observation", f"of a device in {self.block_minutes:g} minutes{season}" if self.block_minutes else ""),
            ("the parent answers", f"{self.parent_share:.0%} of the images"),
            ("kept for", f"{self.retention_days} days"),
            ("informed", ", ".join(self.contacts)),
        )
        return tuple(f"  {name}: {words}" for name, words in found if words)

    def subjects(self) -> tuple[str, ...]:
        """Found by the release and by the model's name."""
        return (self.release, self.model)


class WatchProposal(WatchFields, Record):
    """A person's proposal of how a release is watched; pending until another person confirms it."""

    kind: ClassVar[str] = "watch-proposal"
    event: ClassVar[str] = "watch.proposed"


class WatchSettings(WatchFields, Record):
    """How a release is watched: its monitoring plan.  Proposed by one person, confirmed by another."""

    kind: ClassVar[str] = "watch"
    event: ClassVar[str] = "watch.confirmed"

    proposal: Digest
    confirmed_by: Name

    @model_validator(mode="after")
    def _two_people(self) -> Self:
        if self.proposed_by.casefold() == self.confirmed_by.casefold():
            raise ValueError(f"{self.proposed_by} proposed these settings and can't confirm them too")
        return self


class WatchReference(Record):
    """What the audited images are like as the release and its parent see them: the file that runs compare with."""

    kind: ClassVar[str] = "watch-reference"
    event: ClassVar[str] = "watch.reference-measured"

    release: Digest
    dataset: Digest
    images: int
    file: Digest
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by the release."""
        return (self.release,)


class Observation(Value):
    """One answer of a release in use, as a device or a log reports it.

    ``scores`` are the probabilities of the classes in their order; ``parent`` those of the dense model on the same
    image; ``properties`` are image properties by name; ``image`` names the pixels, so that a repeated image is seen;
    ``model`` is the digest of what answered; observations of one ``cluster`` (a video, a visit) count once.
    """

    id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """Named by the sender; the content names an observation without one."""
    at: Moment
    device: _Label = ""
    model: Digest | None = None
    scores: _Numbers = ()
    parent: _Numbers = ()
    features: _Numbers = ()
    properties: Annotated[dict[Name, Annotated[float, Field(allow_inf_nan=False)]], Field(max_length=20)] = {}
    slices: Annotated[dict[Name, _Label], Field(max_length=20)] = {}
    cluster: _Label = ""
    image: _Label = ""
    label: _Label | None = None


Watched = Literal["steady", "changed", "worse", "unknown"]
"""``steady``: every blocking rule holds on newer images too, nothing regressed, no alarm is open; ``changed``: what is
observed is not like the audit; ``worse``: something is broken; ``unknown``: a blocking rule can't be decided on so few
images, or there are none."""


class Change(Value):
    """One reading on the newer images compared with the same reading of the release."""

    metric: str
    slice: str
    then: Measured
    now: Measured
    difference: Measured
    """``now`` less ``then``."""
    adjusted_p: Annotated[float, Field(ge=0, le=1)]
    """The chance of such a turn for the worse where there is none, after Holm's correction over all changes."""
    worse: bool


class Distance(Value):
    """How far newer images are from those of the audit, as the parent sees them, in records before version 0.2."""

    baseline: Digest
    outcome: Annotated[Measured | Unmeasured, Field(discriminator="state")]
    p: Annotated[float, Field(ge=0, le=1)] | None = None


class StreamReading(Value):
    """What one watched quantity is like since the settings count, next to the audit, and the evidence of a change.

    ``log10_e`` is the largest evidence against *no change* so far, ``limit`` where an alarm is raised.
    """

    stream: Text
    images: int
    mean: float
    audited: float | None = None
    log10_e: float
    limit: float

    @property
    def alarmed(self) -> bool:
        """Whether the evidence reached the limit."""
        return self.log10_e >= self.limit


class Estimate(Value):
    """An estimate of the accuracy without labels, and the largest error of such estimates on disturbed audit images,
    by which its interval is widened.  It is never judged."""

    accuracy: Measured
    largest_error: _Share
    conditions: int


class Observed(Value):
    """What a run counted, and since when.  ``churn``: how often parent and candidate answer otherwise; ``accuracy`` and
    ``loss`` are of the images whose labels came; their intervals hold at all looks together."""

    settings: Digest
    reference: Digest
    position: int
    labels: int
    images: int
    """Observations that counted, under these settings."""
    left_out: int
    """Of a cluster or a block that counted already, or answered by another model."""
    since: Moment | None = None
    until: Moment | None = None
    streams: tuple[StreamReading, ...] = ()
    churn: Measured | None = None
    accuracy: Measured | None = None
    loss: Measured | None = None
    estimate: Estimate | None = None


class Monitoring(Record):
    """One run of the monitor.  It moves nothing and judges no candidate: people decide what follows."""

    kind: ClassVar[str] = "monitoring"
    event: ClassVar[str] = "release.monitored"

    model: Name
    version: str
    release: Digest
    candidate: Digest
    policy: Digest | None = None
    """The part of the release's policy that was evaluated again, as a policy of its own, on labelled images."""
    dataset: DatasetRef | None = None
    evidence: tuple[Digest, ...] = ()
    files: VerificationVerdict
    gate: Text
    judgements: tuple[Judgement, ...] = ()
    changes: tuple[Change, ...] = ()
    observed: Observed | None = None
    """Without labels: what was observed under the settings."""
    distance: Distance | None = None
    outcome: Watched
    reasons: tuple[Text, ...] = ()
    person: Name
    at: Moment

    @property
    def looked_at(self) -> str:
        """What was measured, in words."""
        labelled = f"{self.dataset.images} images of {self.dataset.name}" if self.dataset else ""
        since = f" since {self.observed.since:%Y-%m-%d}" if self.observed and self.observed.since else ""
        seen = f"{self.observed.images} observations{since}" if self.observed else ""
        return " and ".join(filter(None, (labelled, seen))) or "no images"

    def subjects(self) -> tuple[str, ...]:
        """Found by the model's name, the release and the candidate."""
        return (self.model, self.release, self.candidate)


class DriftAlarm(Record):
    """What is observed of a release in use is not like its audit.  The release stays the gate's answer and needs a
    review: people revoke it, roll it back, mute the alarm, or confirm new settings."""

    kind: ClassVar[str] = "drift-alarm"
    event: ClassVar[str] = "release.drift-detected"

    release: Digest
    model: Name
    version: str
    candidate: Digest
    settings: Digest
    stream: Text
    words: Text
    images: int
    """Observations that counted when it was raised."""
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by the release, the candidate and the model's name."""
        return (self.release, self.candidate, self.model)


class AlarmMute(Record):
    """A person takes responsibility for an alarm until a time: until then the release needs no review because of it."""

    kind: ClassVar[str] = "alarm-mute"
    event: ClassVar[str] = "release.alarm-muted"

    alarm: Digest
    release: Digest
    reason: Text
    until: Moment
    person: Name
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by the alarm and the release."""
        return (self.alarm, self.release)
