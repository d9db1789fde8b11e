"""Whether a version in the model registry still holds what was submitted as it: its digest tag and every file.

A version number is a name that the registry gives: deleting a model and creating it again gives version 2 other
weights.  So the tag and the files are compared with the candidate before an alias moves, before the command line says
*approved*, and by the service's watch, which records every change (``RegistryFinding``); the gate reads the record.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from auditsvc.errors import Conflict, NotFound
from auditsvc.ports import Context, View
from auditsvc.records import Candidate, Digest, RegistryFinding, Submission
from auditsvc.services.gate_query import GateAnswer


def content_fault(ctx: Context, model: str, version: str) -> str | None:
    """Why this version is not what was submitted; None if its tag and all its files are the candidate's.

    Raises:
        NotFound: nothing was submitted as this version.
        Unavailable: the registry can't be read.
    """
    candidate = _submitted(ctx.ledger, model, version)
    try:
        found = ctx.registry.registered(model, version)
        if found.digest != candidate.digest:
            return f"the registry's version {version} of {model} is {found.digest or 'without a digest'}"
        with tempfile.TemporaryDirectory(prefix="auditsvc-") as folder:
            files = _files(ctx.registry.checkout(model, version, Path(folder)))
    except NotFound:
        return f"the registry has no version {version} of {model}, or not its files"
    expected = {file.name: file.digest for file in candidate.files}
    wrong = sorted(name for name in expected.keys() | files if expected.get(name) != files.get(name))
    return f"the registry's version {version} of {model} has other files: {', '.join(wrong)}" if wrong else None


def require_content(ctx: Context, model: str, version: str) -> None:
    """Refuse to move an alias to a version that is not what was submitted.

    Raises:
        Conflict: the registry holds other content under this version.
    """
    fault = content_fault(ctx, model, version)
    if fault:
        raise Conflict(f"{fault}; it was submitted as {_submitted(ctx.ledger, model, version).digest}. Nothing moves")


def with_content(ctx: Context, answer: GateAnswer) -> GateAnswer:
    """The gate's answer once the registry was compared: *approved* is kept only for the content that was approved.

    Raises:
        Unavailable: the registry can't be read.
    """
    fault = content_fault(ctx, answer.model, answer.version) if answer.answer == "approved" else None
    return answer.model_copy(update={"answer": "inconclusive", "reasons": (fault,)}) if fault else answer


def record_content(ctx: Context, model: str, version: str) -> RegistryFinding:
    """Compare a version, and record the result where it differs from the last one; a first match is not recorded."""
    fault = content_fault(ctx, model, version)
    known = ctx.ledger.find(RegistryFinding, f"{model}/{version}")
    last = known[-1] if known else None
    if last is not None and last.fault == fault:
        return last
    candidate = _submitted(ctx.ledger, model, version).digest
    made = RegistryFinding(model=model, version=version, candidate=candidate, fault=fault, at=ctx.clock.now())
    if fault or last:
        ctx.ledger.append(made, actor="auditsvc")
    return made


def recorded_fault(view: View, model: str, version: str) -> str | None:
    """What the last recorded comparison found wrong with this version."""
    known = view.find(RegistryFinding, f"{model}/{version}")
    return known[-1].fault if known else None


def _submitted(view: View, model: str, version: str) -> Candidate:
    known = view.find(Submission, f"{model}/{version}")
    if not known:
        raise NotFound(f"no candidate was submitted as {model} version {version}")
    return view.get(Candidate, known[-1].candidate)


def _files(folder: Path) -> dict[str, Digest]:
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            found[path.relative_to(folder).as_posix()] = f"sha256:{digest}"
    return found
