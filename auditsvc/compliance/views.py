"""The parts of a report that are made to be looked at: harm by certainty, confidence, the frontier, examples."""

from __future__ import annotations

from itertools import zip_longest
from typing import Literal

from auditsvc.compliance.figures import Figure, Number
from auditsvc.records import Digest, Outcome, Value
from auditsvc.records.exemplars import Exemplar


class HarmRow(Value):
    """One group whose loss stands out under at least one condition: the most certain one, and the untouched images.

    ``adjusted`` is the share of chance findings to expect if the list ends here (Benjamini-Hochberg).
    """

    slice: str
    condition: str
    title: str
    loss: Number
    clean: Figure
    conditions: int
    adjusted: float


class Triage(Value):
    """The groups whose losses stand out, most certain first; ``found`` losses out of ``looked_at``."""

    rows: tuple[HarmRow, ...]
    found: int
    looked_at: int
    chance: float


class SuggestedRow(Value):
    """A group that a search suggests: its loss on the images that found it, and on those that did not."""

    expression: str
    found: Number
    held: Number
    adjusted: float


class SuggestedPart(Value):
    """Groups that nobody named; ``evidence`` is the search."""

    rows: tuple[SuggestedRow, ...]
    tried: int
    images_found: int
    images_held: int
    evidence: Digest


class ExemplarsPart(Value):
    """What several seeds of the recipe change alike: words, and the images that most of them change."""

    words: str
    rows: tuple[Exemplar, ...]
    seeds: int
    evidence: Digest


class RateRow(Value):
    """The rates of one group for both models: how often the class is said, found, and said where it is not."""

    slice: str
    candidate: tuple[Figure, Figure, Figure]
    parent: tuple[Figure, Figure, Figure]


class ConfidenceBin(Value):
    """Answers of about one confidence: how sure the model was, and how often it was right."""

    told: Number
    right: Number


class Reliability(Value):
    """Confidence against being right, for both models, least confident first."""

    candidate: tuple[ConfidenceBin, ...]
    parent: tuple[ConfidenceBin, ...]

    def bins(self) -> tuple[tuple[ConfidenceBin | None, ConfidenceBin | None], ...]:
        """The bins of both side by side; None where one has fewer."""
        return tuple(zip_longest(self.candidate, self.parent))


class FrontierPoint(Value):
    """One candidate of this parent: how much of it is left, and how well it works."""

    version: str
    candidate: Digest
    recipe: str
    kept: float
    size: float
    outcome: Outcome
    here: bool
    score: Figure
    loss: Figure


class Example(Value):
    """One test image under one condition; ``data`` is base64 of the file."""

    family: str
    severity: float
    condition: str
    title: str
    media_type: Literal["image/png", "image/jpeg"]
    data: str
    alt: str
