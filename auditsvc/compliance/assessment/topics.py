"""The topics that tests can be about, so that a report can state what was *not* tested.

A topic is a kind of evidence of ``policies/frameworks``.  Evidence covers the topics that its check declared, and no
others: the name of a check or of a metric never claims coverage.
"""

from __future__ import annotations

from dataclasses import dataclass

from auditsvc.records import OVERALL, Evidence, Measured


@dataclass(frozen=True)
class Topic:
    """One kind of evidence, with its title in a report."""

    kind: str
    title: str


TOPICS: tuple[Topic, ...] = (
    Topic("ip.watermark", "ownership watermark"),
    Topic("robust.adversarial", "deliberate attacks"),
    Topic("robust.lighting", "lighting"),
    Topic("robust.occlusion", "occlusion"),
    Topic("robust.corruption", "noise and blur"),
    Topic("robust.shift", "other cameras"),
    Topic("robust.ood", "images outside its use"),
    Topic("perf.calibration", "confidence"),
    Topic("perf.latency", "speed"),
    Topic("env.energy", "energy"),
    Topic("explain.attribution", "explanations"),
    Topic("privacy.membership", "privacy"),
    Topic("sec.poisoning", "back doors"),
    Topic("sec.extraction", "model extraction"),
    Topic("perf.accuracy", "accuracy"),
    Topic("fairness.slices", "differences between groups"),
)
"""In the order in which a report lists them."""

_ACCURACY = ("perf.accuracy", "perf.delta_vs_parent", "fairness.slices")
_BEFORE_DECLARATIONS: dict[str, tuple[str, ...]] = {
    "accuracy": _ACCURACY,
    "adversarial": ("robust.adversarial",),
    "average_precision": ("perf.accuracy",),
    "calibration": ("perf.calibration",),
    "corruption": ("robust.corruption",),
    "damage": ("perf.delta_vs_parent", "fairness.slices"),
    "domain_shift": ("robust.shift",),
    "fairness": ("fairness.slices",),
    "lighting": ("robust.lighting",),
    "objects": ("perf.accuracy",),
    "occlusion": ("robust.occlusion",),
    "regions": ("perf.accuracy",),
    "tracks": ("perf.accuracy",),
    "transcription": ("perf.accuracy",),
    "watermark": ("ip.watermark",),
}
"""The topics of the checks of version 0.1.0, whose evidence carries no declarations, by their exact ids."""

NEVER_TESTED = (
    "the system around the model and the people who use it",
    "images unlike those of the test set",
)
"""What no check of a model can test; printed in every report."""


def topics_of(evidence: Evidence) -> tuple[str, ...]:
    """The kinds of evidence that the run's check declared; empty for a check that declared none."""
    if evidence.declared is None:
        return _BEFORE_DECLARATIONS.get(evidence.key.check, ())
    return evidence.declared.topics


def topic_title(evidence: Evidence) -> str:
    """The title under which a report lists the run: that of its first topic, else the check's id."""
    kinds = topics_of(evidence)
    return next((topic.title for topic in TOPICS if topic.kind in kinds), evidence.key.check)


def covered(evidence: tuple[Evidence, ...]) -> frozenset[str]:
    """The declared kinds of evidence for which at least one number was measured; of groups, on a group."""
    kinds: set[str] = set()
    for run in evidence:
        slices = {reading.slice for reading in run.readings if isinstance(reading.outcome, Measured)}
        kinds |= {kind for kind in topics_of(run) if slices - ({OVERALL} if kind == "fairness.slices" else set())}
    return frozenset(kinds)


def untested(evidence: tuple[Evidence, ...]) -> tuple[str, ...]:
    """The titles of the topics for which nothing was measured, in order."""
    known = covered(evidence)
    return tuple(topic.title for topic in TOPICS if topic.kind not in known)
