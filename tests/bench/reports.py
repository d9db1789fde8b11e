"""Time, memory and validity of reports: ``python -m tests.bench.reports`` prints one JSON line.

``demo_s`` is all forms of the sample report, ``large_s`` all forms for 200 slices under 40 conditions, each judged
on every slice, in wall seconds; ``large_cpu_s`` is the same in CPU seconds.  ``peak_mb`` is the peak memory of the
process over both.  A key is left out where its tool is not here: the validators of the extra ``test``, Chromium, axe.
"""

from __future__ import annotations

import dataclasses
import html
import importlib.util
import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from auditsvc.compliance.assessment.assessment_context import AssessmentContext, ReportInputs
from auditsvc.compliance.assessment.framework import load_frameworks
from auditsvc.compliance.render import FORMATS, render
from auditsvc.compliance.report.build import build_report
from auditsvc.compliance.report.report_model import Report
from auditsvc.records import CheckSpec, Evidence, Judgement, Measured, Policy, Reading, Rule
from auditsvc.resources import resource_dir
from tests.compliance import sample
from tests.compliance.lint import lint_report
from tests.reports.test_renderings import oscal_faults

SLICES, CONDITIONS = 200, 40
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --virtual-time-budget=200000 --timeout=200000 --dump-dom"
)


def large() -> ReportInputs:
    """200 slices, 40 conditions, a run and a rule for each condition, a line for each slice."""
    base = sample.rejected()
    names = ["overall", *(f"writer={n:03d}" for n in range(SLICES - 1))]
    evidence, judgements, rules = [], [], []
    for number in range(CONDITIONS):
        condition = "clean" if number == 0 else f"exposure@{number / 10:g}EV"
        run = _run(base.evidence[0], condition, names, number)
        rule = f"loss-{number:02d}"
        metric = f"drop.{condition}"
        rules.append(Rule(rule=rule, reading=f"{run.key.check}/{metric}", slices="each", at_most=0.1, why="A bench."))
        evidence.append(run)
        digest = run.digest
        judgements += [
            Judgement(
                rule=rule,
                metric=metric,
                slice=reading.slice,
                verdict="met" if reading.outcome.high <= 0.1 else "violated",
                severity="block",
                bound="at_most",
                limit=0.1,
                outcome=reading.outcome,
                evidence=digest,
                words=f"{reading.slice} may lose {reading.outcome.high:.3f}",
            )
            for reading in run.readings
            if reading.metric == metric and isinstance(reading.outcome, Measured)
        ]
    checks = {run.key.check: CheckSpec(version=1) for run in evidence}
    policy = Policy.model_validate({**base.policy.model_dump(), "checks": checks, "rules": tuple(rules)})
    decision = base.decision.model_copy(
        update={
            "policy": policy.digest,
            "judgements": tuple(judgements),
            "evidence": tuple(run.digest for run in evidence),
        }
    )
    return dataclasses.replace(base, policy=policy, decision=decision, evidence=tuple(evidence))


def _run(pattern: Evidence, condition: str, names: list[str], number: int) -> Evidence:
    readings = []
    for index, name in enumerate(names):
        images, loss = 400 + index, 0.01 + 0.0004 * (index % 50) + 0.0005 * number
        found = {
            "score": sample.wilson(0.95 - loss, images),
            "parent": sample.wilson(0.95, images),
            "drop": sample.drop(loss, images),
        }
        readings += [Reading(metric=f"{head}.{condition}", slice=name, outcome=one) for head, one in found.items()]
    key = pattern.key.model_copy(update={"check": f"lighting-{number:02d}"})
    return pattern.model_copy(update={"key": key, "readings": tuple(readings), "flips": ()})


def everything(inputs: ReportInputs) -> tuple[Report, dict[str, bytes], float]:
    """The report, all its forms, and the wall seconds from records to the last byte."""
    started = time.perf_counter()
    context: AssessmentContext = sample.paperwork(inputs)
    report = build_report(inputs, at=context.at, context=context, frameworks=load_frameworks(resource_dir("policies")))
    files = {name: render(report, name) for name in FORMATS}
    return report, files, round(time.perf_counter() - started, 2)


def findings(report: Report, files: dict[str, bytes]) -> int:
    """Faults that the report's own lint finds in every text form."""
    texts = {name: data.decode() for name, data in files.items() if name not in {"pdf", "oscal"}}
    return len(lint_report(report, texts))


def oscal_valid(report: Report) -> bool:
    """Whether the bundle fits NIST's schemas."""
    from auditsvc.compliance.render.tables import render_oscal

    return not any(oscal_faults(name, data) for name, data in render_oscal(report).items())


def bom_valid(data: bytes) -> bool:
    """Whether the bill of materials fits the schemas of CycloneDX 1.6 and 1.7."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    texts = {version: data.decode().replace("1.6", version) for version in ("1.6", "1.7")}
    checkers = {version: JsonStrictValidator(SchemaVersion.from_version(version)) for version in texts}
    return all(checkers[version].validate_str(text) is None for version, text in texts.items())


def axe_violations(page: str, axe: Path, chromium: str) -> int:
    """Nodes that axe finds fault with in Chromium, every fold of the page opened."""
    run = (
        "document.querySelectorAll('details').forEach(d => d.open = true);"
        "axe.run(document, {resultTypes: ['violations']}).then(found => {"
        "const out = document.createElement('pre'); out.id = 'axe';"
        "out.textContent = JSON.stringify(found.violations.map(v => [v.id, v.nodes.length]));"
        "document.body.replaceChildren(out)})"
    )
    script = axe.read_text(encoding="utf-8").replace("</script", "<\\/script")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "page.html"
        file.write_text(
            page.replace("</body>", f"<script>{script}</script><script>{run}</script></body>"), encoding="utf-8"
        )
        flags = (
            "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
        )
        more = "--disable-component-update --disable-sync --virtual-time-budget=200000 --timeout=200000 --dump-dom"
        command = [chromium, *flags.split(), *more.split(), f"--user-data-dir={folder}/user", file.as_uri()]
        dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    found = re.search(r'<pre id="axe">(.*?)</pre>', dom, re.DOTALL)
    if found is None:
        raise RuntimeError("axe gave no answer")
    return sum(nodes for _, nodes in json.loads(html.unescape(found[1])))


def axe_script() -> Path | None:
    """The script of axe-core inside the package axe-playwright-python, where it is installed."""
    spec = importlib.util.find_spec("axe_playwright_python")
    return Path(spec.origin).with_name("axe.min.js") if spec and spec.origin else None


def main() -> None:
    """Print the figures."""
    report, files, demo_s = everything(sample.released())
    wide, before = large(), time.process_time()
    _, big, large_s = everything(wide)
    large_cpu_s = round(time.process_time() - before, 2)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures: dict[str, object] = {
        "demo_s": demo_s,
        "large_s": large_s,
        "large_cpu_s": large_cpu_s,
        "peak_mb": round(peak),
    }
    figures["large_html_mb"] = round(len(big["html"]) / 2**20, 1)
    figures["lint_findings"] = findings(report, files)
    if all(importlib.util.find_spec(name) for name in ("jsonschema", "regex")):
        figures["oscal_valid"] = oscal_valid(report)
    if importlib.util.find_spec("cyclonedx"):
        figures["bom_valid"] = bom_valid(files["bom"])
    axe, chromium = axe_script(), shutil.which("chromium") or shutil.which("google-chrome")
    if axe and chromium:
        light = files["html"].decode()
        dark = light.replace("(prefers-color-scheme: dark)", "all")
        figures["axe_violations"] = axe_violations(light, axe, chromium) + axe_violations(dark, axe, chromium)
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
