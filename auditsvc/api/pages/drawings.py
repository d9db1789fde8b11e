"""What a candidate's page draws: how scores fall as conditions get worse, the other candidates, flipped images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from auditsvc.api.site import Site
from auditsvc.compliance.drawn import frontier
from auditsvc.compliance.inputs import Readings, Sibling
from auditsvc.compliance.renderings.charts import frontier_plot
from auditsvc.compliance.renderings.plots import curve_plot
from auditsvc.compliance.sections import curves
from auditsvc.errors import Unavailable
from auditsvc.pipeline.pictures import PICTURES
from auditsvc.pipeline.recorded import is_clean, recorded
from auditsvc.records import Candidate, Decision, Evidence, Submission

MOST_SIBLINGS = 30


@dataclass(frozen=True)
class Drawn:
    """A picture with its title, as SVG."""

    title: str
    svg: Markup


def curves_of(evidence: tuple[Evidence, ...]) -> list[Drawn]:
    """A curve for each family of conditions with a severity: parent and candidate with their intervals."""
    readings = Readings({run.digest: run for run in evidence})
    return [Drawn(curve.title, _svg(curve_plot(curve))) for curve in curves(readings, evidence)]


def frontier_of(site: Site, submission: Submission, decision: Decision) -> Markup | None:
    """Every judged candidate of the same parent under the same policy; nothing where there is only this one."""
    ledger = site.ledger
    candidate = ledger.get(Candidate, submission.candidate)
    others = (item for _, item in ledger.page(Candidate, subject=candidate.parent, limit=MOST_SIBLINGS))
    found = recorded(submission.model, submission.version, candidate, decision, ledger)
    points = frontier(replace(found, siblings=tuple(_siblings(site, others, decision))))
    return _svg(frontier_plot(points)) if points else None


def _siblings(site: Site, others: Iterator[Candidate], decision: Decision) -> Iterator[Sibling]:
    for other in others:
        decisions = site.ledger.find(Decision, f"{other.digest}|{decision.policy}")
        submissions = site.ledger.find(Submission, other.digest)
        if decisions and submissions:
            runs = (site.ledger.get(Evidence, digest) for digest in decisions[-1].evidence)
            clean = next((run for run in runs if is_clean(run)), None)
            yield Sibling(submissions[-1].version, other, decisions[-1].outcome, clean)


def pictures_of(folder: Path, model: str, version: str) -> list[dict[str, Any]]:
    """The flipped images that were kept with the version's report, as ``data:`` addresses with their words.

    Raises:
        Unavailable: they are there and can't be read.
    """
    path = folder / "reports" / model / version / PICTURES
    try:
        found: list[dict[str, Any]] = json.loads(path.read_bytes()) if path.is_file() else []
    except (OSError, ValueError) as error:
        raise Unavailable(f"the pictures at {path} can't be read: {error}") from error
    return found


def _svg(drawn: str) -> Markup:
    """The compliance package escapes every text that it draws."""
    return Markup(drawn)  # noqa: S704 - see above
