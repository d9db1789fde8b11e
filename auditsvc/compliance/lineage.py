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
        } | ({"Number format": recipe.number_format} if recipe.number_format else {})
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
                **_costs(inputs),
                **{f"File {file.name}": f"{file.digest} ({file.size:,} bytes)" for file in inputs.candidate.files},
            }
        ),
    )


def _costs(inputs: ReportInputs) -> dict[str, Any]:
    """What was timed beside the parent, and what zeros bring."""
    timing, card = inputs.timing, inputs.candidate.card
    said: dict[str, Any] = {}
    if timing is not None:
        said["Latency"] = (
            f"{timing.median_ms:.3g} ms (interquartile range {timing.iqr_ms:.2g}) beside the parent's "
            f"{timing.parent_median_ms:.3g} ms ({timing.parent_iqr_ms:.2g}) in the same run of {timing.runs} turns: "
            f"{timing.times_faster:.2f} times as fast; {timing.how}"
        )
    zeros = card.get("parameters", 0.0) - card.get("nonzero", card.get("parameters", 0.0))
    if zeros > 0:
        said["Zeros"] = (
            f"{zeros:,.0f} parameters are zero: the file is smaller when compressed, and dense kernels gain no speed "
            "from it; none is claimed"
        )
    return said


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
