"""Markdown renderings: Hugging Face model card, and drafts of EU AI Act documents (Annex IV and Annex V).

The model card has the YAML front matter that the Hugging Face Hub reads.  The draft of the technical documentation
(Annex IV) holds what the records show and lists, point by point, what a person has to write.  The declaration of
conformity (Annex V) is a form that is never signed here: its point 8 stays empty.  Text of users is escaped, so it
cannot break out of a table cell, a line or a code block.

Reference: Regulation (EU) 2024/1689, Annexes IV and V; M. Mitchell et al. (2019), "Model Cards for Model Reporting",
doi:10.1145/3287560.3287596.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import yaml

from auditsvc.compliance.assessment.evidence_status import kind_title
from auditsvc.compliance.assessment.rules import Assessment
from auditsvc.compliance.report.report_model import Report, SliceTable
from auditsvc.compliance.report.wording import (
    MEASURE_WORDS,
    Number,
    day,
    full_text,
    interval_text,
    minute,
    slice_words,
    value_text,
)

_SPECIAL = re.compile(r"([\\`*{}\[\]<>#|!]|(?<!\w)_|_(?!\w))")
"""An underscore inside a word has no meaning in Markdown."""


def cell(text: str) -> str:
    """Text on one line, with all characters escaped that have a meaning in Markdown or HTML."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def fence(text: str) -> str:
    """A command or path as a block of code."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}\n{text}\n{marks}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, or a sentence where there are no rows."""
    if not rows:
        return "No records.\n"
    lines = [head, ["---"] * len(head), *([cell(text) or "–" for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


EU = "eu-ai-act-2024-1689"
DRAFT = (
    "This is a draft generated from records. It is incomplete and unsigned, and it does not prove that a law is met."
)


def render_annex_iv(report: Report) -> str:
    """The technical documentation as far as records cover it, and a list of what to complete outside this tool."""
    return "\n".join(_annex_iv(report)).rstrip() + "\n"


def _annex_iv(report: Report) -> Iterator[str]:
    yield f"# Technical documentation, draft: {cell(report.subject.model)} version {cell(report.subject.version)}\n"
    yield f"{DRAFT} As of {minute(report.at)}, by {cell(report.tool)}.\n"
    rows = [row for part in report.frameworks if part.framework == EU for row in part.rows if row.group == "Annex IV"]
    for row in rows:
        yield f"## {cell(row.requirement)}: {cell(row.title)}\n"
        filled = CONTENTS.get(row.key)
        yield from filled(report) if filled else ()
        if row.evidence_status not in {"supported", "attested"}:
            yield f"> **To be completed by the provider:** {cell(_lacking(row))}\n>\n> …\n"
    yield "## To complete outside this tool\n"
    outside = [row for row in rows if row.evidence_status not in {"supported", "attested"}]
    yield from (f"- [ ] {cell(row.requirement)}: {cell(row.title)}. {cell(_lacking(row))}" for row in outside)
    if not rows:
        yield "- [ ] Everything: the report was generated without the framework of the EU AI Act."


def _lacking(row: Assessment) -> str:
    lacking = [kind_title(found.kind) for found in row.kinds if found.status not in {"supported", "attested"}]
    return ", ".join(lacking) or row.message


def _purpose(report: Report) -> Iterator[str]:
    yield f"Intended use: {cell(report.subject.intended_use)}\n\nNot for: {cell(report.subject.not_for)}\n"
    yield f"Version {cell(report.subject.version)}, candidate `{report.subject.candidate}`.\n"


def _parts(report: Report) -> Iterator[str]:
    yield "The parent is a pre-trained model; it was changed by the recipe below.\n"
    yield table(("Parent", ""), [(fact.label, fact.value) for fact in report.lineage.parent])
    yield table(("Recipe", ""), [(fact.label, fact.value) for fact in report.lineage.recipe])


def _architecture(report: Report) -> Iterator[str]:
    yield f"Architecture: {cell(report.subject.architecture)}.\n"
    yield table(("Candidate", ""), [(fact.label, fact.value) for fact in report.lineage.candidate])


def _data(report: Report) -> Iterator[str]:
    sets = {row.dataset_digest: row for row in report.evidence}
    rows = [
        (r.dataset, str(r.dataset_images), r.dataset_source, r.dataset_licence, r.dataset_digest) for r in sets.values()
    ]
    known = report.bom["metadata"]["component"]["modelCard"]["modelParameters"]["datasets"]
    uses = [(one, {item["name"]: item["value"] for item in one["contents"]["properties"]}) for one in known]
    made = [(one["name"], about["use"], one["description"], about["digest"]) for one, about in uses if "use" in about]
    trained = any(row[1].startswith("training") for row in made)
    yield "Test data.\n" if trained else "Test data. The training data of the parent are not recorded.\n"
    yield table(("Data set", "Images", "Source", "Licence", "Digest"), rows)
    if made:
        yield table(("Made the model", "Use", "Card", "Digest"), made)


def _planned(report: Report) -> Iterator[str]:
    rows = [
        (p.title, p.person, p.reviewer or "not reviewed", p.record)
        for p in report.statements
        if p.kind == "change plan"
    ]
    yield table(("Planned change", "By", "Reviewed by", "Record"), rows)


def _tests(report: Report) -> Iterator[str]:
    rows = [
        (
            slice_words(row.slice),
            found.title,
            value_text(row.candidate),
            interval_text(row.candidate),
            str(row.images),
            (row.candidate.evidence or "").removeprefix("sha256:")[:12],
        )
        for found in report.slices
        for row in found.rows
    ]
    yield table(("Group", "Condition", "Candidate", "Interval", "Images", "Evidence"), rows)
    runs = [
        (
            run.check,
            str(run.version),
            str(run.seed),
            minute(run.finished),
            "; ".join(f"{f.label} {f.value}" for f in run.environment),
        )
        for run in report.evidence
    ]
    yield table(("Check", "Version", "Seed", "Finished", "Environment"), runs)
    yield "These reports are signed with a machine key. Add the signature of a responsible person.\n"


def _limits(report: Report) -> Iterator[str]:
    yield from (f"- {cell(sentence.text)}" for sentence in report.summary.sentences)
    yield from (f"- {cell(line)}" for line in report.summary.not_tested)
    yield ""


def _metrics(report: Report) -> Iterator[str]:
    rows = [(rule.rule, rule.sentence, rule.why) for rule in report.rules]
    yield table(("Rule", "Limit, fixed before the tests", "Why"), rows)


def _changes(report: Report) -> Iterator[str]:
    yield table(("What", "Before", "Now"), [(row.label, row.before, row.after) for row in report.changes])
    waived = [(w.rule, w.person, w.reason, day(w.until)) for w in report.waivers]
    yield table(("Waiver", "Person", "Reason", "Until"), waived)


CONTENTS: dict[str, Callable[[Report], Iterator[str]]] = {
    "anx4.1.a": _purpose,
    "anx4.2.a": _parts,
    "anx4.2.c": _architecture,
    "anx4.2.d": _data,
    "anx4.2.f": _planned,
    "anx4.2.g": _tests,
    "anx4.3": _limits,
    "anx4.4": _metrics,
    "anx4.6": _changes,
}
"""The points of Annex IV that records cover; the others are for people to write."""


def render_annex_v(report: Report) -> str:
    """The declaration of conformity as a form: filled in where records allow it, never signed."""
    risk = report.risk
    points = (
        (
            "1. Name, type and traceable reference",
            f"{report.subject.model}, version {report.subject.version}, {report.subject.candidate}",
        ),
        ("2. Provider or representative", ""),
        ("3. Sole responsibility", ""),
        ("4. Statement of conformity", ""),
        ("5. Data protection", ""),
        (
            "6. Harmonised standards",
            "No harmonised standard is cited in the Official Journal according to the sources of the framework data.",
        ),
        ("7. Notified body", ""),
        ("8. Place, date, name, function and signature", ""),
    )
    lines = [
        f"# Declaration of conformity, form: {cell(report.subject.model)} version {cell(report.subject.version)}\n",
        f"{DRAFT} Only the provider can declare conformity, in their own name.\n",
        f"Risk class: {risk.declared}{f', as declared by {cell(risk.person)}' if risk.person else ''}.\n",
    ]
    lines += [f"## {title}\n\n{cell(text) or '_To be completed by the provider._'}\n" for title, text in points]
    weakest = report.summary.sentences[1].text if len(report.summary.sentences) > 1 else ""
    lines.append(f"Before signing, read the report of {day(report.at)}. {cell(weakest)}\n")
    return "\n".join(lines)


PIPELINE_TAGS = {
    "classification": "image-classification",
    "detection": "object-detection",
    "segmentation": "image-segmentation",
    "ocr": "image-to-text",
    "tracking": "object-detection",
}


METRICS = {"classification": "accuracy", "detection": "f1", "segmentation": "mean_iou", "ocr": "character_accuracy"}
"""The metric's name on the Hub, by task; the score of another task has the name ``score``."""

LICENCES = frozenset({
    "afl-3.0", "agpl-3.0", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-sa-4.0",
    "cc0-1.0", "epl-2.0", "gpl-2.0", "gpl-3.0", "isc", "lgpl-3.0", "mit", "mpl-2.0", "unlicense", "zlib",
})  # fmt: skip
"""SPDX identifiers that the Hub knows, in its spelling."""


def render_card(report: Report) -> str:
    """The Hugging Face model card, YAML front matter first."""
    front = yaml.safe_dump(_front(report), sort_keys=False, allow_unicode=True, width=110)
    return f"---\n{front}---\n\n" + "\n".join(_body(report)).rstrip() + "\n"


def _front(report: Report) -> dict[str, Any]:
    facts = {fact.label: fact.value for fact in report.lineage.parent}
    sets = {row.dataset_digest: row for row in report.evidence}
    stated = facts.get("Licence", "not stated")
    licence = re.split(r"[\s;,(]", stated.lower(), maxsplit=1)[0].removesuffix("-only").removesuffix("-or-later")
    return {
        **({"license": licence} if licence in LICENCES else {"license": "other", "license_name": stated}),
        "pipeline_tag": PIPELINE_TAGS.get(report.subject.task, "other"),
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
        "task": {"type": PIPELINE_TAGS.get(report.subject.task, "other")},
        "dataset": {"name": f"{run.dataset} ({table.title})", "type": run.dataset, "revision": run.dataset_digest},
        "metrics": [
            {
                "type": METRICS.get(report.subject.task, "score"),
                "value": round(figure.value, 6) if figure else None,
                "name": f"{MEASURE_WORDS[report.subject.task]}, {interval_text(figure)}" if figure else "not measured",
            }
        ],
    }


def _body(report: Report) -> Iterator[str]:
    subject, decision = report.subject, report.decision
    yield f"# {cell(subject.model)}, version {cell(subject.version)}\n"
    yield f"A pruned {subject.task} model ({cell(subject.architecture)}).\n"
    yield f"**{decision.headline}.** {cell(decision.verdict or decision.explanation)}\n"
    yield f"Candidate `{subject.candidate}`, pruned from `{subject.parent}`. Report of {day(report.at)}.\n"
    yield "## Uses\n"
    yield f"- For: {cell(subject.intended_use)}\n- Not for: {cell(subject.not_for)}\n"
    yield "## Results\n"
    yield from (f"{cell(sentence.text)}\n" for sentence in report.summary.sentences)
    yield "## Not tested\n"
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
    yield "## Recipe and parent\n"
    yield table(("", ""), [(fact.label, fact.value) for fact in (*report.lineage.parent, *report.lineage.recipe)])
    yield "## Verify\n"
    yield from (f"{cell(fact.label)}:\n\n{fence(fact.value)}\n" for fact in report.where)
    yield "This card is not a conformity assessment and not a certificate. Each value is given with its interval.\n"
