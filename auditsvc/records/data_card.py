"""Data set cards, what data sets were used for, and the consents that images rest on.

A card is a named person's description of one data set by content: where its images come from, who labelled them, what
is missing.  The newest card of a data set counts.  A consent is of a subject or an image, by pseudonym or digest, so
that the register names no person; the newest of each counts, and one that was withdrawn or ended covers nothing.

Reference: T. Gebru et al. (2021), "Datasheets for Datasets", doi:10.1145/3458723.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Annotated, ClassVar

from pydantic import Field

from auditsvc.records.base import Digest, Moment, Name, Record, Text, Value


class Collection(Value):
    """Where, when, by whom and with which devices images were taken."""

    where: Text | None = None
    when: Text | None = None
    by: Text | None = None
    devices: tuple[Text, ...] = ()


class Annotation(Value):
    """Who labelled the images, how many people each, how far they agree, and what a label costs."""

    by: Text | None = None
    annotators: Annotated[int, Field(ge=1)] | None = None
    agreement: Annotated[float, Field(ge=-1, le=1)] | None = None
    measure: Text | None = None
    """What ``agreement`` is: Cohen's kappa, the share of equal labels."""
    cost_per_label: Annotated[float, Field(ge=0)] | None = None
    currency: Text | None = None


class CardFields(Value):
    """What a person writes in a card."""

    collection: Collection | None = None
    annotation: Annotation | None = None
    gaps: tuple[Text, ...] = ()
    intended_use: Text | None = None
    forbidden_use: Text | None = None
    retention: Text | None = None
    personal: Text | None = None
    """Which personal or sensitive data the images hold."""


class DataCard(CardFields, Record):
    """The description of one data set by content."""

    kind: ClassVar[str] = "data-card"
    event: ClassVar[str] = "dataset.described"

    dataset: Digest
    name: Name
    images: Annotated[int, Field(ge=1)]
    source: Text
    licence: Text
    person: Name
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by the data set."""
        return (self.dataset,)


class DataUse(Value):
    """A data set that made a candidate or its parent; ``card`` is None where none was written."""

    purpose: str
    """``training of the parent``."""
    name: str
    dataset: Digest
    card: DataCard | None = None


class Consent(Record):
    """Why images of one subject, or one image, may be used, until when, and that it was withdrawn."""

    kind: ClassVar[str] = "consent"
    event: ClassVar[str] = "consent.recorded"

    of: Annotated[str, Field(pattern=r"^(subject:[^=]+=.+|image:[0-9a-f]{16})$", max_length=300)]
    """``subject:patient=p12``, column and value of a declared cluster, or ``image:`` and the digest of its pixels."""
    basis: Text
    purpose: Text | None = None
    until: datetime.date | None = None
    withdrawn: bool = False
    person: Name
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by what it is of."""
        return (self.of,)


def ended(consents: Iterable[Consent], today: datetime.date) -> dict[str, Consent]:
    """The consents that cover nothing any more, by what they are of: the newest of each counts."""
    newest = {one.of: one for one in sorted(consents, key=lambda one: one.at)}
    return {of: one for of, one in newest.items() if one.withdrawn or (one.until and one.until < today)}
