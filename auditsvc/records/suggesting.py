"""Groups that nobody named, found where the candidate seems to lose: suggestions, never verdicts."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from auditsvc.records.base import Digest, Moment, Record, Text, Value
from auditsvc.records.evidence import Measured


class Suggested(Value):
    """One group: what it lost on the images that found it, and on those that did not.

    ``expression`` is in the grammar of a policy's slicing, so that a policy can name the group.  ``found`` flatters the
    finder; ``held`` is what counts, with its p-value corrected for the number of suggestions (Holm).
    """

    expression: Text
    found: Measured
    held: Measured
    adjusted: Annotated[float, Field(ge=0, le=1)]


class Suggestions(Record):
    """What a search over metadata and image properties suggests to look at, for one candidate on one data set."""

    kind: ClassVar[str] = "suggestions"

    candidate: Digest
    parent: Digest
    dataset: Digest
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    alpha: Annotated[float, Field(gt=0, lt=0.5)]
    tried: Annotated[int, Field(ge=0)]
    images_found: Annotated[int, Field(ge=0)]
    images_held: Annotated[int, Field(ge=0)]
    groups: tuple[Suggested, ...]
    code: Text
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by the candidate."""
        return (self.candidate,)
