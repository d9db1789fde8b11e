"""Cards of data sets, in and out as Croissant, and the register of consents.

A consent that is withdrawn or has ended blocks what rests on its images: an audit refuses them, decisions that rest on
them get an objection in the name of who recorded the withdrawal, and releases and models that rest on them are listed.

Reference: MLCommons (2025), "Croissant Format Specification 1.1" and "Croissant RAI Specification".
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import ValidationError

from auditsvc.datasets import Dataset
from auditsvc.datasets.description import UniqueKeys
from auditsvc.datasets.slicing import subjects_of
from auditsvc.errors import InvalidInput, NotFound
from auditsvc.evaluation import DataFacts
from auditsvc.ports import Context
from auditsvc.records import Candidate, Decision, Digest, Parent, Release, Revocation, Value, faults_of
from auditsvc.records.data_card import Annotation, CardFields, Collection, Consent, DataCard
from auditsvc.records.eligibility import DatasetImages, ImagesSeen
from auditsvc.services.holdout import (
    covered_by,
    digests_in,
    images_not_recorded,
    images_seen_by,
    index_images,
    numbers_in,
)
from auditsvc.services.objections import object_to
from auditsvc.services.terms import audited_data, data_uses

RAI = "http://mlcommons.org/croissant/RAI/"
VERSION = "http://mlcommons.org/croissant/1.1"
_CONTEXT: dict[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "sc": "https://schema.org/", "rai": RAI,
    "cr": "http://mlcommons.org/croissant/", "dct": "http://purl.org/dc/terms/", "conformsTo": "dct:conformsTo",
    **{name: f"cr:{name}" for name in (
        "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileProperty",
        "fileObject", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5",
        "parentField", "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate", "separator",
        "source", "subField", "transform",
    )},
    **{name: {"@id": f"cr:{name}", "@type": "@json"} for name in ("data", "examples")},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"}, "name": {"@container": "@language"},
}  # fmt: skip


def card_from(path: Path) -> CardFields:
    """What a YAML file, or a Croissant file in JSON, says of a data set.

    Raises:
        NotFound: there is no such file.
        InvalidInput: it is neither, or has faults; lists them.
    """
    try:
        fields = yaml.load(path.read_text("utf-8"), Loader=UniqueKeys)  # noqa: S506 - a SafeLoader; JSON is YAML
        if isinstance(fields, dict) and "@context" in fields:
            return _from_croissant(fields)
        return CardFields.model_validate(fields)
    except FileNotFoundError as error:
        raise NotFound(f"there is no card {path}") from error
    except (OSError, yaml.YAMLError, UnicodeDecodeError, AttributeError) as error:
        raise InvalidInput(f"the card {path} can't be read: {error}") from error
    except ValidationError as error:
        raise InvalidInput(f"the card {path} has faults", faults_of(error, CardFields.model_fields)) from error


def write_card(ctx: Context, dataset: Dataset, fields: CardFields, person: str) -> DataCard:
    """Record a card of this data set; source and licence are those of its description."""
    ref = dataset.ref
    made = DataCard(
        **dict(fields), dataset=ref.digest, name=ref.name, images=ref.images, source=ref.source, licence=ref.licence,
        person=person, at=ctx.clock.now(),
    )  # fmt: skip
    ctx.ledger.append(made, actor=person)
    return made


def card_of(ctx: Context, dataset: Digest) -> DataCard:
    """The newest card of a data set.  Raises ``NotFound`` where there is none."""
    found = ctx.ledger.find(DataCard, dataset)
    if not found:
        raise NotFound(
            f"the data set {dataset} has no card; write one with `auditsvc data card DATA --from FILE --as YOU`"
        )
    return max(found, key=lambda one: one.at)


def as_croissant(card: DataCard) -> dict[str, Any]:
    """The card as JSON-LD: Croissant 1.1 with the RAI vocabulary; what it does not say is left out."""
    collection, notes = card.collection or Collection(), card.annotation or Annotation()
    agreement = None if notes.agreement is None else f"{notes.agreement:g} ({notes.measure or 'agreement'})"
    cost = None if notes.cost_per_label is None else f"{notes.cost_per_label:g} {notes.currency or ''}".strip()
    found = {
        "rai:dataCollection": _lines({"where": collection.where, "when": collection.when, "by": collection.by,
                                      "devices": ", ".join(collection.devices)}),
        "rai:dataAnnotationProtocol": _lines({"by": notes.by, "cost per label": cost}),
        "rai:annotationsPerItem": None if notes.annotators is None else str(notes.annotators),
        "rai:dataAnnotationAnalysis": [agreement] if agreement else None,
        "rai:dataLimitations": list(card.gaps) + ([f"Not for: {card.forbidden_use}"] if card.forbidden_use else []),
        "rai:dataUseCases": [card.intended_use] if card.intended_use else None,
        "rai:dataReleaseMaintenancePlan": card.retention,
        "rai:personalSensitiveInformation": [card.personal] if card.personal else None,
    }  # fmt: skip
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": card.name,
        "description": f"{card.images} images, from {card.source}",
        "conformsTo": VERSION,
        "license": card.licence,
        "url": f"urn:{card.dataset}",
        "version": card.dataset.removeprefix("sha256:")[:12],
        "datePublished": card.at.date().isoformat(),
        **{name: value for name, value in found.items() if value},
    }


def _lines(parts: Mapping[str, str | None]) -> str | None:
    return "\n".join(f"{name}: {value}" for name, value in parts.items() if value) or None


def _said(fields: Mapping[str, Any], name: str) -> list[str]:
    value = fields.get(f"rai:{name}", fields.get(f"{RAI}{name}"))
    return [str(one) for one in (value if isinstance(value, list) else [value]) if one]


def _from_croissant(fields: Mapping[str, Any]) -> CardFields:
    def parts(name: str, other: str) -> dict[str, str]:
        """Named lines, as ``as_croissant`` writes them; all other words are ``other``."""
        found: dict[str, str] = {}
        for line in "\n".join(_said(fields, name)).splitlines():
            key, colon, value = line.partition(": ")
            if not colon or key not in ("where", "when", "by", "devices", "cost per label"):
                key, value = other, line
            found[key] = f"{found[key]}\n{value}" if key in found else value
        return found

    taken, labelled = parts("dataCollection", "where"), parts("dataAnnotationProtocol", "by")
    number, _, currency = labelled.pop("cost per label", "").partition(" ")
    agreed = next(iter(_said(fields, "dataAnnotationAnalysis")), "")
    value, _, measure = agreed.partition(" (")
    limits = _said(fields, "dataLimitations") + _said(fields, "dataBiases")
    forbidden = [one.removeprefix("Not for: ") for one in limits if one.startswith("Not for: ")]
    annotation = {
        **labelled,
        "annotators": next(iter(_said(fields, "annotationsPerItem")), None),
        "agreement": value if measure else None,
        "measure": measure.removesuffix(")") or agreed or None,
        "cost_per_label": number or None,
        "currency": currency or None,
    }
    devices = [one.strip() for one in taken.pop("devices", "").split(",") if one.strip()]
    return CardFields.model_validate({
        "collection": taken | {"devices": devices} if taken or devices else None,
        "annotation": annotation if any(annotation.values()) else None,
        "gaps": [one for one in limits if not one.startswith("Not for: ")],
        "intended_use": "\n".join(_said(fields, "dataUseCases")) or None,
        "forbidden_use": "\n".join(forbidden) or None,
        "retention": "\n".join(_said(fields, "dataReleaseMaintenancePlan")) or None,
        "personal": "\n".join(_said(fields, "personalSensitiveInformation")) or None,
    })  # fmt: skip


def data_facts(ctx: Context, candidate: Candidate, dataset: Dataset) -> DataFacts:
    """What the index of the data set says, what of it made the candidate or its parent, and the licences of all of it.

    Images that made them are refused before anything is measured (``require_unseen``): where it is recorded which did,
    none is left.

    Raises:
        InvalidDataset: an image that can't be read.
    """
    mine, uses = index_images(ctx, dataset), data_uses(ctx.ledger, candidate, ctx.clock.now())
    others = [one for use in images_seen_by(ctx, candidate) for one in ctx.ledger.find(DatasetImages, use.dataset)[-1:]]
    _, place, counts = np.unique(numbers_in(ctx, mine.groups or ""), return_inverse=True, return_counts=True)
    unknown = "; ".join(images_not_recorded(ctx.ledger, candidate))
    subjects: int | str = unknown
    if not unknown and (mine.clusters is None or any(one.clusters is None for one in others)):
        subjects = "not every data set declares a `cluster`: which subject, sequence or place each image is of"
    elif not unknown and mine.clusters:
        theirs = [numbers_in(ctx, one.clusters or "") for one in others]
        own = np.unique(numbers_in(ctx, mine.clusters))
        subjects = int(np.isin(own, np.concatenate(theirs or [own[:0]])).sum())
    parent = ctx.ledger.get(Parent, candidate.parent)
    licences = {f"parent {parent.model}": parent.licence, dataset.ref.name: dataset.ref.licence}
    licences |= {f"{use.name} ({use.purpose})": use.card.licence for use in uses if use.card}
    bare = [use for use in uses if use.card is None]
    return DataFacts(
        images=mine.images, copies=int((counts[place] > 1).sum()), unusable=mine.unusable or 0, leaked=unknown or 0,
        subjects=subjects, undocumented=unknown or len(bare), licences=licences,
    )  # fmt: skip


class Affected(Value):
    """What rests on images whose consent ended: images by data set, and decisions, releases and models by digest."""

    datasets: dict[str, int]
    objected: tuple[Digest, ...]
    """Decisions that are blocked by an objection now."""
    releases: tuple[str, ...]
    """``net 2``: to be revoked or rolled back, and audited again without the images."""
    models: tuple[Digest, ...]
    """Candidates and parents that were made with them."""


def consents_for(dataset: Dataset, ctx: Context, images: Sequence[str], subjects: Sequence[str]) -> tuple[str, ...]:
    """What consents are of, by names of images and by subjects (``patient=p12``) of this data set.

    Raises:
        InvalidInput: none is named, or a subject that the data set does not declare.
        NotFound: an image that it does not have.
    """
    known = set(subjects_of(dataset) or ())
    unknown = [one for one in subjects if one not in known]
    if unknown or not (images or subjects):
        raise InvalidInput("name images, or subjects as COLUMN=VALUE of the declared `cluster`", unknown)
    digests, found = digests_in(ctx, index_images(ctx, dataset)), [f"subject:{one}" for one in subjects]
    for name in images:
        try:
            found.append(f"image:{int(digests[dataset.index_of(name)]):016x}")
        except ValueError as error:
            raise NotFound(f"the data set {dataset.ref.name} has no image {name!r}") from error
    return tuple(found)


def record_consents(
    ctx: Context, of: Iterable[str], person: str, *, basis: str, purpose: str | None = None,
    until: datetime.date | None = None, withdrawn: bool = False,
) -> Affected:  # fmt: skip
    """Record the consent of each, or its withdrawal; what rests on the images of withdrawn ones.

    Raises:
        InvalidInput: a basis or name that can't be used.
    """
    try:
        made = [
            Consent(of=one, basis=basis, purpose=purpose, until=until, withdrawn=withdrawn, person=person,
                    at=ctx.clock.now())
            for one in of
        ]  # fmt: skip
    except ValidationError as error:
        raise InvalidInput("the consent can't be recorded", faults_of(error)) from error
    ctx.ledger.append(*made, actor=person)
    return _affected(ctx, made, person) if withdrawn else Affected(datasets={}, objected=(), releases=(), models=())


def _affected(ctx: Context, consents: Sequence[Consent], person: str) -> Affected:
    named = {index.dataset: index for index in ctx.ledger.all(DatasetImages)}
    counts = {dataset: len(covered_by(ctx, index, [one.of for one in consents])) for dataset, index in named.items()}
    touched = {dataset: count for dataset, count in counts.items() if count}
    revoked = {one.release for one in ctx.ledger.all(Revocation)}
    objected, releases = [], []
    for decision in ctx.ledger.all(Decision):
        if touched.keys().isdisjoint(one.digest for one in audited_data(ctx.ledger, decision)):
            continue
        found = ctx.ledger.find(Release, decision.digest)
        releases += [f"{one.model} {one.version}" for one in found if one.digest not in revoked]
        if not found and decision.outcome == "approved":
            reason = f"consent was withdrawn for images that it rests on ({', '.join(one.of for one in consents[:3])})"
            object_to(ctx, decision, person, "changes requested", f"{reason}: audit again without them")
            objected.append(decision.digest)
    seen = [one.model for one in ctx.ledger.all(ImagesSeen) if one.dataset in touched]
    made = {one.digest for one in ctx.ledger.all(Candidate) if one.parent in seen} | set(seen)
    return Affected(
        datasets={named[dataset].name: count for dataset, count in touched.items()},
        objected=tuple(objected),
        releases=tuple(dict.fromkeys(releases)),
        models=tuple(sorted(made)),
    )


def croissant_text(card: DataCard) -> str:
    """``as_croissant`` as a file."""
    return json.dumps(as_croissant(card), indent=2, ensure_ascii=False) + "\n"
