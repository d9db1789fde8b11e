"""What tests can be about, so that a report can say what was *not* tested.

A check belongs to the first topic that one of its words names; its own id decides, then the families of
conditions that it measured.  ``kind`` is the evidence kind of ``policies/frameworks``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from auditsvc.records import OVERALL, Evidence, Measured


@dataclass(frozen=True)
class Topic:
    """One thing that a test can be about."""

    kind: str
    title: str
    words: re.Pattern[str]


def _topic(kind: str, title: str, words: str) -> Topic:
    return Topic(kind, title, re.compile(words))


TOPICS: tuple[Topic, ...] = (
    _topic("ip.watermark", "ownership watermark", r"watermark|^mark"),
    _topic("robust.adversarial", "deliberate attacks", r"advers|attack|pgd|fgsm|square|deepfool|^patch"),
    _topic("robust.lighting", "lighting", r"light|exposure|gamma|dark|glare|shadow"),
    _topic("robust.occlusion", "occlusion", r"occlu|hidden|cutout"),
    _topic("robust.corruption", "noise and blur", r"corrupt|noise|blur|jpeg"),
    _topic("robust.shift", "other cameras", r"shift|domain"),
    _topic("robust.ood", "images outside its use", r"ood|out[-_]of"),
    _topic("perf.calibration", "confidence", r"calib|confiden|selective"),
    _topic("perf.latency", "speed", r"latency|speed|throughput|memory"),
    _topic("env.energy", "energy", r"energy|carbon"),
    _topic("explain.attribution", "explanations", r"explain|attribut|salien"),
    _topic("privacy.membership", "privacy", r"privacy|member|invers"),
    _topic("sec.poisoning", "back doors", r"poison|backdoor|trojan"),
    _topic("sec.extraction", "theft by questions", r"extract|steal"),
    _topic("fairness.slices", "differences between groups", r"fair|slice|group|damage"),
    _topic(
        "perf.accuracy",
        "accuracy",
        r"accura|clean|score|quality|compress|delta|objects|regions|transcri|tracks|precision",
    ),
)
"""In order of precedence; ``perf.accuracy`` and ``fairness.slices`` are also given by any clean score."""

NEVER_TESTED = (
    "the system around the model and the people who use it",
    "images unlike those of the test set",
)
"""What no check of a model can look at; printed in every report."""


def topic_of(evidence: Evidence) -> Topic | None:
    """The topic of one run; None for a check that no topic names."""
    by_name = next((topic for topic in TOPICS if topic.words.search(evidence.key.check)), None)
    if by_name:
        return by_name
    families = sorted({_family(reading.metric) for reading in evidence.readings})
    return next((topic for topic in TOPICS if any(topic.words.search(family) for family in families)), None)


def _family(metric: str) -> str:
    return metric.partition(".")[2].partition("@")[0]


def covered(evidence: tuple[Evidence, ...]) -> frozenset[str]:
    """The kinds of evidence for which at least one number was measured."""
    kinds: set[str] = set()
    for run in evidence:
        measured = [reading for reading in run.readings if isinstance(reading.outcome, Measured)]
        topic = topic_of(run)
        if topic and measured:
            kinds.add(topic.kind)
        for reading in measured:
            if reading.metric == "score.clean":
                kinds.add("perf.accuracy" if reading.slice == OVERALL else "fairness.slices")
    return frozenset(kinds)


def untested(evidence: tuple[Evidence, ...]) -> tuple[str, ...]:
    """The titles of the topics for which nothing was measured, in order."""
    known = covered(evidence)
    return tuple(topic.title for topic in TOPICS if topic.kind not in known)
