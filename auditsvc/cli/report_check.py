"""The step of ``verify --report``: is every number of a report in the evidence of the release?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from auditsvc.compliance import Report, check_report_numbers
from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.provenance.formats.release_layout import DECISION, EVIDENCE
from auditsvc.records import Decision, Evidence, Step, Verification

if TYPE_CHECKING:
    from auditsvc.records import Verification


def with_report(found: Verification, attest: Path, report: Path) -> Verification:
    """The verification with one more step; a number that is not in the evidence makes it INVALID.

    The records beside the release are those that the verification has just checked.

    Raises:
        InvalidInput: a file that is no report.
        Unavailable: a file that can't be read.
    """
    try:
        read = Report.model_validate_json(report.read_bytes())
        decision = Decision.parse((attest / DECISION).read_bytes())
        evidence = [Evidence.parse(path.read_bytes()) for path in sorted((attest / EVIDENCE).glob("*.json"))]
    except OSError as error:
        raise Unavailable(f"{error.filename or report} can't be read: {error.strerror}") from error
    except ValidationError as error:
        raise InvalidInput(f"{report} is no report.json; the PDF has it attached") from error
    links = check_report_numbers(read, decision, evidence)
    detail = f"{links.correct} numbers equal their evidence"
    if links.unavailable:
        detail += f"; {links.unavailable} are based on records that this release does not contain"
    if links.faults:
        detail = "; ".join(links.faults[:5]) + (f"; and {len(links.faults) - 5} more" if len(links.faults) > 5 else "")
    step = Step(step="report", code="OK" if not links.faults else "REPORT_NUMBER", ok=not links.faults, detail=detail)
    verdict = "INVALID" if links.faults and found.verdict != "REVOKED" else found.verdict
    return found.model_copy(update={"steps": (*found.steps, step), "verdict": verdict})
