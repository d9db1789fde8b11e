"""A Hugging Face model card: YAML that their site reads, and the report's findings in Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from auditsvc.compliance.render.annexes import cell, fence, table
from auditsvc.compliance.report.figures import Number
from auditsvc.compliance.report.report_model import Report
from auditsvc.compliance.report.report_parts import SliceTable
from auditsvc.compliance.report.wording import MEASURE_WORDS, day, full_text, slice_words

PIPELINES = {
    "classification": "image-classification",
    "detection": "object-detection",
    "segmentation": "image-segmentation",
    "ocr": "image-to-text",
    "tracking": "object-detection",
}


def render_card(report: Report) -> str:
    """The model card, front matter first."""
    front = yaml.safe_dump(_front(report), sort_keys=False, allow_unicode=True, width=110)
    return f"---\n{front}---\n\n" + "\n".join(_body(report)).rstrip() + "\n"


def _front(report: Report) -> dict[str, Any]:
    facts = {fact.label: fact.value for fact in report.lineage.parent}
    sets = {row.dataset_digest: row for row in report.evidence}
    return {
        "license": "other",
        "license_name": facts.get("Licence", "not stated"),
        "pipeline_tag": PIPELINES[report.subject.task],
        "tags": ["pruned", report.subject.architecture],
        "model-index": [
            {
                "name": f"{report.subject.model}-{report.subject.version}",
                "results": [_result(report, table) for table in report.slices if _overall(table)] if sets else [],
            }
        ],
    }


def _overall(table: SliceTable) -> Number | None:
    figure = next((row.candidate for row in table.rows if row.slice == "overall"), None)
    return figure if isinstance(figure, Number) else None


def _result(report: Report, table: SliceTable) -> dict[str, Any]:
    figure = _overall(table)
    run = next((row for row in report.evidence if figure and row.record == figure.evidence), report.evidence[0])
    return {
        "task": {"type": PIPELINES[report.subject.task]},
        "dataset": {"name": f"{run.dataset} ({table.title})", "type": run.dataset, "revision": run.dataset_digest},
        "metrics": [
            {
                "type": MEASURE_WORDS[report.subject.task],
                "value": round(figure.value, 6) if figure else None,
                "name": full_text(figure) if figure else "not measured",
            }
        ],
    }


def _body(report: Report) -> Iterator[str]:
    subject, decision = report.subject, report.decision
    yield f"# {cell(subject.model)}, version {cell(subject.version)}\n"
    yield f"A pruned {subject.task} model ({cell(subject.architecture)}).\n"
    yield f"**{decision.headline}.** {cell(decision.explanation)}\n"
    yield f"Candidate `{subject.candidate}`, pruned from `{subject.parent}`. Report of {day(report.at)}.\n"
    yield "## Uses\n"
    yield f"- For: {cell(subject.intended_use)}\n- Not for: {cell(subject.not_for)}\n"
    yield "## What was found\n"
    yield from (f"{cell(sentence.text)}\n" for sentence in report.summary.sentences)
    yield "## What was not tested\n"
    yield from (f"{cell(line)}\n" for line in report.summary.not_tested)
    for found in report.slices[:1]:
        yield f"## By group, {cell(found.title)}\n"
        rows = [
            (
                slice_words(row.slice),
                str(row.images),
                full_text(row.parent),
                full_text(row.candidate),
                full_text(row.loss),
            )
            for row in found.rows
        ]
        yield table(("Group", "Images", "Parent", "Candidate", "Loss"), rows)
    yield "## How it was made\n"
    yield table(("", ""), [(fact.label, fact.value) for fact in (*report.lineage.parent, *report.lineage.recipe)])
    yield "## Check it yourself\n"
    yield from (f"{cell(fact.label)}:\n\n{fence(fact.value)}\n" for fact in report.where)
    yield "This card is no conformity assessment and no certificate. An interval is given beside each number.\n"
