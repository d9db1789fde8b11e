"""The report for other programs: JSON, CSV, JUnit XML and OSCAL 1.1.2; and its flipped images as JSON, for pages.

The OSCAL bundle has catalogs, assessment results and a plan of action.  OSCAL has only the states ``satisfied`` and
``not-satisfied``, so a finding is about the *evidence objective* of a control, never about the control or the law, and
a property holds the actual status.  Attested requirements are observations without a finding.  This tool writes no
assessment plan; ``import-ap`` points to a note.  The same report gives the same bytes: every UUID is version 5, derived
from the keys of the report.
"""

from __future__ import annotations

import base64
import csv
import io
import uuid
from collections.abc import Iterable
from typing import Any
from xml.etree import ElementTree

from auditsvc.compliance.assessment.assessment_context import GalleryItem
from auditsvc.compliance.assessment.rules import Assessment
from auditsvc.compliance.report.report_model import FrameworkPart, OpenItem, Report, RulePart, RuleRow
from auditsvc.compliance.report.wording import Figure, slice_words, value_text
from auditsvc.records import canonical_json, digest_of


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


OSCAL_VERSION = "1.1.2"
NAMESPACE = "urn:auditsvc:oscal"
_ROOT = uuid.UUID("5b0f2f3e-8a40-5d1c-9c55-0a6d4f6a1b7e")

_EXCLUDED = frozenset({"out_of_scope", "not_applicable"})
_NO_FINDING = frozenset({"attested", "not_assessed", "not_yet_due", "partly"})
Json = dict[str, Any]


def render_oscal(report: Report) -> dict[str, bytes]:
    """The bundle by file name: a catalog for each framework, the results, and the open items."""
    key = digest_of(
        report.subject.candidate.encode() + report.decision.record.encode() + report.at.isoformat().encode()
    )
    made: dict[str, Json] = {f"catalog-{part.framework}.json": _catalog(part) for part in report.frameworks}
    if report.frameworks:
        made["assessment-results.json"] = _results(report, key)
    if report.summary.open_items:
        made["plan-of-action-and-milestones.json"] = _actions(report, key)
    return {name: canonical_json(document) for name, document in made.items()}


def _id(*parts: str) -> str:
    return str(uuid.uuid5(_ROOT, "|".join(parts)))


def _line(text: str) -> str:
    """A property's value: one line without blanks at its ends."""
    return " ".join(text.split()) or "none"


def _metadata(title: str, version: str, modified: str) -> Json:
    return {"title": title, "last-modified": modified, "version": version, "oscal-version": OSCAL_VERSION}


def _moment(report: Report) -> str:
    return report.at.isoformat().replace("+00:00", "Z")


def _props(**values: str) -> list[Json]:
    return [{"name": name, "ns": NAMESPACE, "value": _line(value)} for name, value in values.items() if value]


def _catalog(part: FrameworkPart) -> Json:
    modified = f"{part.data_checked.isoformat()}T00:00:00Z"
    groups = []
    for index, group in enumerate(part.groups, start=1):
        controls = [_control(row) for row in part.rows if row.group == group.label]
        if controls:
            heading = group.label if group.label == group.value else f"{group.label}: {group.value}"
            groups.append({"id": f"group-{index}", "title": heading, "controls": controls})
    return {
        "catalog": {
            "uuid": _id("catalog", part.framework, part.version),
            "metadata": {
                **_metadata(f"{part.name} (identifiers of the source, titles of this tool)", part.version, modified),
                "remarks": part.standing,
            },
            "groups": groups,
        }
    }


def _control(row: Assessment) -> Json:
    objective = {
        "id": f"{row.key}_obj",
        "name": "assessment-objective",
        "prose": f"Evidence about exactly these files exists for: {row.title}",
    }
    return {
        "id": row.key,
        "title": row.title,
        "props": _props(label=row.requirement, reference=row.reference),
        "parts": [objective],
    }


def _results(report: Report, key: str) -> Json:
    plan = _id("plan", key)
    return {
        "assessment-results": {
            "uuid": _id("results", key),
            "metadata": _metadata(_title(report), report.subject.version, _moment(report)),
            "import-ap": {"href": f"#{plan}"},
            "results": [_result(report, part, key) for part in report.frameworks],
            "back-matter": {
                "resources": [
                    {
                        "uuid": plan,
                        "title": "No assessment plan",
                        "description": "This tool writes no OSCAL assessment plan; the policy defines checks and "
                        "limits.",
                        "props": _props(policy=f"{report.decision.policy} version {report.decision.policy_version}"),
                        "rlinks": [{"href": f"urn:auditsvc:record:{report.decision.policy_record}"}],
                    }
                ]
            },
        }
    }


def _title(report: Report) -> str:
    return f"Release audit of {report.subject.model} version {report.subject.version}"


def _result(report: Report, part: FrameworkPart, key: str) -> Json:
    included = [row for row in part.rows if row.status not in _EXCLUDED]
    excluded = [row for row in part.rows if row.status in _EXCLUDED]
    selection: Json = {"include-controls": [{"control-id": row.key} for row in included]}
    if excluded:
        selection["exclude-controls"] = [{"control-id": row.key} for row in excluded]
    result: Json = {
        "uuid": _id("result", key, part.framework),
        "title": part.name,
        "description": f"{part.headline}. {part.standing}",
        "start": report.decision.at.isoformat().replace("+00:00", "Z"),
        "end": _moment(report),
        "props": _props(framework=part.framework, version=part.version, data_checked=part.data_checked.isoformat()),
        "reviewed-controls": {"control-selections": [selection]},
        "observations": [_observation(report, row, key) for row in included],
    }
    findings = [_finding(row, key) for row in included if row.status not in _NO_FINDING]
    if findings:
        result["findings"] = findings
    return result


def _observation(report: Report, row: Assessment, key: str) -> Json:
    by_test = any(not found.kind.startswith(("doc.", "screen.")) for found in row.kinds)
    observation: Json = {
        "uuid": _id("observation", key, row.framework, row.key),
        "title": f"{row.requirement}: {row.status}",
        "description": row.message or row.status,
        "props": _props(status=row.status, evidence_status=row.evidence_status, control=row.key, applies=row.applies),
        "methods": ["TEST"] if by_test and row.status != "attested" else ["EXAMINE"],
        "collected": _moment(report),
    }
    if row.records:
        observation["relevant-evidence"] = [
            {"href": f"urn:auditsvc:record:{digest}", "description": "A record of the ledger, identified by its digest"}
            for digest in row.records
        ]
    return observation


def _finding(row: Assessment, key: str) -> Json:
    met = row.status == "supported"
    state: Json = {"state": "satisfied" if met else "not-satisfied"}
    state["reason"] = "pass" if met else "fail" if row.status == "contradicted" else "other"
    return {
        "uuid": _id("finding", key, row.framework, row.key),
        "title": f"{row.requirement}: {row.status}",
        "description": row.message,
        "props": _props(status=row.status),
        "target": {"type": "objective-id", "target-id": f"{row.key}_obj", "status": state},
        "related-observations": [{"observation-uuid": _id("observation", key, row.framework, row.key)}],
    }


def _actions(report: Report, key: str) -> Json:
    return {
        "plan-of-action-and-milestones": {
            "uuid": _id("actions", key),
            "metadata": _metadata(f"Open items: {_title(report)}", report.subject.version, _moment(report)),
            "system-id": {"identifier-type": "urn:auditsvc:candidate", "id": report.subject.candidate},
            "poam-items": [_action(item, key) for item in report.summary.open_items],
        }
    }


def _action(item: OpenItem, key: str) -> Json:
    until = item.until.isoformat() if item.until else "no date"
    return {
        "uuid": _id("action", key, item.rule, item.status, item.severity),
        "title": f"{item.rule}: {item.status}",
        "description": f"{item.message} ({'; '.join(slice_words(place) for place in item.affected)})",
        "props": _props(status=item.status, severity=item.severity, owner=item.owner or "none", until=until),
    }
