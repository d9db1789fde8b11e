"""Where a candidate comes from: parent, recipe, counted facts, watermark."""

from __future__ import annotations

from typing import Any

from auditsvc.compliance.figures import Fact
from auditsvc.compliance.inputs import ReportInputs, figure_of
from auditsvc.compliance.model import Lineage, MarkPart, MarkReading
from auditsvc.compliance.words import metric_words
from auditsvc.records import Parent


def _facts(pairs: dict[str, Any]) -> tuple[Fact, ...]:
    return tuple(Fact(label=label, value=_plain(value)) for label, value in pairs.items())


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}".replace(",", "\u202f") if value.is_integer() else f"{value:g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items()) or "none"
    return str(value)


def lineage(inputs: ReportInputs) -> Lineage:
    """Parent, recipe and candidate as labelled facts."""
    parent, recipe = inputs.parent, inputs.candidate.recipe
    made: dict[str, Any] = {"Recipe": "none: this candidate was not pruned here"}
    if recipe:
        made = {
            "Method": recipe.method,
            "Targets": recipe.targets,
            "Seed": recipe.seed,
            "Recovery": recipe.recovery,
            "Data seen": recipe.data or "none",
            "Recipe record": recipe.digest,
        }
    return Lineage(
        parent=_facts(_parent_facts(parent)),
        recipe=_facts(made),
        candidate=_facts(
            {
                "Digest": inputs.candidate.digest,
                **{name.replace("_", " ").capitalize(): float(value) for name, value in inputs.candidate.card.items()},
                **{f"File {file.name}": f"{file.digest} ({file.size:,} bytes)" for file in inputs.candidate.files},
            }
        ),
    )


def _parent_facts(parent: Parent) -> dict[str, Any]:
    return {
        "Name": parent.model,
        "Architecture": parent.architecture,
        "Source": parent.source,
        "Licence": parent.licence,
        "Digest": parent.digest,
        **{f"File {file.name}": f"{file.digest} ({file.size:,} bytes)" for file in parent.files},
    }


MARK_NOTE = (
    "This mark lets the owner recognise the model. It is not the marking of synthetic content that Art. 50(2) of the "
    "EU AI Act asks for, and it raises no line of any framework."
)


def watermark(inputs: ReportInputs) -> MarkPart | None:
    """What is public about the mark and what its check found; None for a candidate without either."""
    mark = inputs.candidate.mark
    readings = tuple(
        MarkReading(
            metric=reading.metric,
            title=metric_words(reading.metric).capitalize(),
            measured=figure_of(reading.metric, reading.outcome, digest, run.key.alpha),
        )
        for run in inputs.evidence
        if run.key.check == "watermark"
        for digest in (run.digest,)
        for reading in run.readings
    )
    if mark is None and not readings:
        return None
    facts = (
        _facts({"Scheme": mark.scheme, "Commitment": mark.commitment, "Unmarked weights": mark.unmarked})
        if mark
        else ()
    )
    return MarkPart(facts=facts, readings=readings, note=MARK_NOTE)
