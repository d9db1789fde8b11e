"""The model registry and the ledger: which version has the alias ``approved``, and whether its content is unchanged.

The alias ``approved`` belongs to auditsvc.  Each use case that moves it first records its target (``AliasMove``) and
then moves it, so ``reconcile`` finishes a move that was interrupted, and finds external changes by comparing the
registry with the ledger.  Other aliases and stages are not managed: changes are reported, and only a version that the
gate refuses is moved out of the stage that MLflow users read as "in production".

A version number can get other content: deleting a model and creating it again gives version 2 other weights.  So the
digest tag and the files are compared with the candidate before an alias moves, before the command line prints
*approved*, and periodically by the service, which records every change (``RegistryFinding``) for the gate.
"""

from __future__ import annotations

import datetime
import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from auditsvc.errors import AuditError, Conflict, NotFound
from auditsvc.ports import Context, Ledger, Placed, View
from auditsvc.records import AliasMove, Candidate, Digest, RegistryFinding, Value
from auditsvc.services.gate_query import GateAnswer, query_gate, submitted_as

ALIAS = "approved"
"""The registry alias that belongs to auditsvc: only a release moves it."""

SETTLES = datetime.timedelta(minutes=1)
"""How long after its record a move by auditsvc may still be in progress."""

IN_PRODUCTION = "Production"
"""The stage that says the same in registries that still use stages."""


class AliasDrift(Value):
    """A change that was not made by auditsvc: what moved, from which version, to which."""

    model: str
    what: Literal["alias", "stage"]
    name: str
    before: str | None
    found: str | None
    put_back: bool = False

    @property
    def words(self) -> str:
        """The move as a sentence."""
        moved = f"{self.what} {self.name} of {self.model} was moved from {self.before or 'nothing'}"
        return f"{moved} to {self.found or 'nothing'} outside auditsvc{', and restored' if self.put_back else ''}"


def set_alias(ctx: Context, model: str, version: str, because: Digest) -> None:
    """Record that the alias belongs to this version, then move it there.

    Raises:
        Conflict: the registry holds other content under this version.
    """
    require_content(ctx, model, version)
    _record(ctx, model, version, because)
    ctx.registry.move_alias(model, ALIAS, version)


def clear_alias(ctx: Context, model: str, version: str, because: Digest) -> None:
    """Remove the alias from this version, if it has it."""
    known = ctx.ledger.find(AliasMove, model)
    if known and known[-1].version == version:
        _record(ctx, model, None, because)
    if ctx.registry.aliased(model, ALIAS) == version:
        ctx.registry.drop_alias(model, ALIAS)


def _record(ctx: Context, model: str, version: str | None, because: Digest) -> None:
    known = ctx.ledger.find(AliasMove, model)
    if known and (known[-1].version, known[-1].because) == (version, because):
        return
    move = AliasMove(model=model, alias=ALIAS, version=version, because=because, at=ctx.clock.now())
    ctx.ledger.append(move, actor="auditsvc")


def alias_target(ledger: Ledger, model: str, found: str | None) -> str | None:
    """The version that should carry the alias; None where no version should, or its content was replaced.

    An older store has no recorded moves: there the alias may stay on a version that the gate approves.
    """
    known = ledger.find(AliasMove, model)
    if known:
        rightful = known[-1].version
        return None if rightful is None or recorded_fault(ledger, model, rightful) else rightful
    return found if found is not None and _is_approved(ledger, model, found) else None


def _is_approved(ledger: Ledger, model: str, version: str) -> bool:
    try:
        return query_gate(ledger, model, version).answer == "approved"
    except NotFound:
        return False


Placement = dict[str, Placed]
"""Every model's aliases and stages."""


class Reconciliation(NamedTuple):
    """The current state of the registry, what others moved, and by model why it could not be reconciled."""

    placement: Placement
    moves: tuple[AliasDrift, ...]
    faults: Mapping[str, str]


def reconcile(ctx: Context, seen: Mapping[str, Placed], *, put_back: bool) -> Reconciliation:
    """The current state of the registry, and everything that others moved since the state ``seen``.

    With ``put_back`` the alias goes where it belongs, and a version that the gate refuses leaves production.  What
    is seen for the first time counts as moved only where it is not as the ledger says.  An alias never goes to a
    version whose content was found to be other than submitted.  What fails for one model stops no other.

    Raises:
        Unavailable: the registry can't be read.
    """
    now = ctx.registry.placed()
    moves: list[AliasDrift] = []
    faults: dict[str, str] = {}
    for model in sorted({*now, *seen, *(item.model for item in ctx.ledger.all(AliasMove))}):
        try:
            moves += _moves(ctx, model, seen.get(model), now.get(model, Placed()), put_back=put_back)
        except AuditError as error:
            faults[model] = str(error)
    placement = ctx.registry.placed() if any(move.put_back for move in moves) else now
    return Reconciliation(placement, tuple(moves), faults)


def _moves(ctx: Context, model: str, was: Placed | None, found: Placed, *, put_back: bool) -> Iterator[AliasDrift]:
    carrier = found.aliases.get(ALIAS)
    rightful = alias_target(ctx.ledger, model, carrier)
    moved = carrier != rightful and not _settling(ctx, model)
    if moved and (put_back or was is None or was.aliases.get(ALIAS) != carrier):
        if put_back:
            _put_alias(ctx, model, rightful)
        yield AliasDrift(model=model, what="alias", name=ALIAS, before=rightful, found=carrier, put_back=put_back)
    if was is None:
        return
    for name in sorted(({*was.aliases, *found.aliases}) - {ALIAS}):
        before, after = was.aliases.get(name), found.aliases.get(name)
        if before != after:
            yield AliasDrift(model=model, what="alias", name=name, before=before, found=after)
    for name in sorted({*was.stages, *found.stages}):
        before, after = was.stages.get(name), found.stages.get(name)
        if before != after:
            back = (
                put_back and name == IN_PRODUCTION and after is not None and not _is_approved(ctx.ledger, model, after)
            )
            if back and after is not None:
                ctx.registry.set_stage(model, after, None)
            yield AliasDrift(model=model, what="stage", name=name, before=before, found=after, put_back=back)


def _settling(ctx: Context, model: str) -> bool:
    """Whether a move by auditsvc may be between its record and the registry."""
    known = ctx.ledger.find(AliasMove, model)
    return bool(known) and ctx.clock.now() - known[-1].at < SETTLES


def _put_alias(ctx: Context, model: str, version: str | None) -> None:
    if version is None:
        ctx.registry.drop_alias(model, ALIAS)
    else:
        ctx.registry.move_alias(model, ALIAS, version)


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
    return view.get(Candidate, submitted_as(view, model, version).candidate)


def _files(folder: Path) -> dict[str, Digest]:
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            found[path.relative_to(folder).as_posix()] = f"sha256:{digest}"
    return found
