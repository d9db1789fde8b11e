"""The report as JSON, CSV and JUnit XML, for other programs, and its flipped images as JSON, for pages."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterable
from xml.etree import ElementTree

from auditsvc.compliance.assessment.assessment_context import GalleryItem
from auditsvc.compliance.report.report_model import Report, RulePart, RuleRow
from auditsvc.compliance.report.wording import Figure, value_text
from auditsvc.records import canonical_json


def render_json(report: Report) -> bytes:
    """The whole report as canonical JSON; ``Report.model_validate_json`` reads it back."""
    return report.as_json


def render_rules_csv(report: Report) -> str:
    """One line for each evaluation of a rule."""
    head = "rule severity metric slice status verdict value low high level images bound limit evidence waiver message"
    return _csv(head.split(), (_rule_cells(rule, row) for rule in report.rules for row in rule.rows))


def _rule_cells(rule: RulePart, row: RuleRow) -> tuple[object, ...]:
    numbers = _numbers(row.measured)
    who = (rule.rule, rule.severity, row.metric, row.slice, row.status, row.verdict)
    return (*who, *numbers, row.bound, row.limit, row.measured.evidence or "", row.waiver or "", row.message)


def _numbers(figure: Figure) -> tuple[object, ...]:
    if figure.state == "unmeasured":
        return ("", "", "", "", figure.images)
    return (figure.value, figure.low, figure.high, figure.level, figure.images)


def render_assessments_csv(report: Report) -> str:
    """One line for each requirement of each framework."""
    head = (
        "framework version data_checked requirement title status evidence_status counted role applies rule why records"
    )
    rows = (
        (
            part.framework,
            part.version,
            part.data_checked.isoformat(),
            row.requirement,
            row.title,
            row.status,
            row.evidence_status,
            "yes" if row.counted else "no",
            row.role,
            row.applies,
            row.rule,
            row.message,
            " ".join(row.records),
        )
        for part in report.frameworks
        for row in part.rows
    )
    return _csv(head.split(), rows)


def _csv(head: list[str], rows: Iterable[tuple[object, ...]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(head)
    writer.writerows([_safe(cell) for cell in row] for row in rows)
    return out.getvalue()


def _safe(cell: object) -> object:
    """Prefix text that a spreadsheet would evaluate as a formula.

    Reference: OWASP, "CSV Injection".
    """
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in {"=", "+", "-", "@", "\t", "\r"} else cell


def render_junit(report: Report) -> str:
    """One suite for each rule and one case for each line, for pipelines.

    Violated is a failure, unknown is an error; waived rules and warnings are skipped with a message and never passed.
    """
    root = ElementTree.Element("testsuites", name=f"{report.subject.model} version {report.subject.version}")
    for rule in report.rules:
        suite = ElementTree.SubElement(
            root, "testsuite", name=rule.rule, timestamp=f"{report.decision.at:%Y-%m-%dT%H:%M:%S}"
        )
        tally = {"tests": len(rule.rows) or 1, "failures": 0, "errors": 0, "skipped": 0}
        if not rule.rows:
            case = ElementTree.SubElement(suite, "testcase", classname=rule.rule, name="no evaluation")
            ElementTree.SubElement(case, "error", message="this rule was not evaluated")
            tally["errors"] += 1
        for row in rule.rows:
            name = f"{row.metric} on {row.slice}"
            case = ElementTree.SubElement(suite, "testcase", classname=rule.rule, name=name)
            kind = _junit_kind(row, rule)
            if kind:
                tally[{"failure": "failures", "error": "errors", "skipped": "skipped"}[kind]] += 1
                ElementTree.SubElement(case, kind, message=f"{row.status}: {row.message}")
            out = ElementTree.SubElement(case, "system-out")
            out.text = f"{value_text(row.measured)}; evidence {row.measured.evidence or 'none'}"
        suite.attrib.update({key: str(number) for key, number in tally.items()})
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _junit_kind(row: RuleRow, rule: RulePart) -> str:
    if row.status == "met":
        return ""
    if row.status == "waived" or row.severity == "warn" or rule.severity == "warn":
        return "skipped"
    return "failure" if row.status == "violated" else "error"


PICTURES = "pictures.json"
"""The file in a report's folder."""


def pictures(gallery: Iterable[GalleryItem]) -> bytes:
    """Each image as a ``data:`` address, with what both models said and what is right."""
    shown = [
        {
            "image": item.image,
            "source": f"data:{_kind(item.data)};base64,{base64.b64encode(item.data).decode()}",
            "parent": item.parent,
            "candidate": item.candidate,
            "target": item.target,
            "condition": item.condition,
            "slices": list(item.slices),
        }
        for item in gallery
    ]
    return canonical_json(shown)


def _kind(data: bytes) -> str:
    return "image/png" if data.startswith(b"\x89PNG") else "image/jpeg"
