"""Where a candidate comes from: parent, recipe, counted facts, watermark."""

from __future__ import annotations

from typing import Any

from auditsvc.compliance.inputs import ReportInputs, figure_of
from auditsvc.compliance.parts import Lineage, MarkPart, MarkReading
from auditsvc.compliance.words import labelled, metric_words
from auditsvc.records import Parent


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
        parent=labelled(_parent_facts(parent)),
        recipe=labelled(made),
        candidate=labelled(
            {
                "Digest": inputs.candidate.digest,
                **{
                    name.replace("_", " ").capitalize(): float(value)
                    for name, value in sorted(inputs.candidate.card.items())
                },
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
        for digest, run in inputs.runs.items()
        if run.key.check == "watermark"
        for reading in run.readings
    )
    if mark is None and not readings:
        return None
    facts = (
        labelled({"Scheme": mark.scheme, "Commitment": mark.commitment, "Unmarked weights": mark.unmarked})
        if mark
        else ()
    )
    return MarkPart(facts=facts, readings=readings, note=MARK_NOTE)
