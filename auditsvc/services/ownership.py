"""Write the buyer's page and the annex to a contract for one version, from the evidence of its newest decision."""

from __future__ import annotations

from pathlib import Path

from auditsvc.compliance.ownership import (
    Annex,
    Prices,
    Profile,
    annex,
    fits,
    page,
    read_declared,
    side_of,
)
from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.ports import Context
from auditsvc.records import Candidate, Evidence, Release
from auditsvc.resources import resource_dir
from auditsvc.services.decisions import latest_decision
from auditsvc.services.gate_query import submitted_as


def write_ownership(
    ctx: Context, model: str, version: str, prices: Path, folder: Path, profile: str = ""
) -> tuple[Path, Path]:
    """``ownership.html`` and ``mcc-ai-annex.md``; the candidate, its parent and what is released now, side by side.

    Raises:
        NotFound: no such version, or it was never judged.
        InvalidInput: prices with faults, or an unknown profile.
        Unavailable: the folder can't be written.
    """
    candidate = submitted_as(ctx.ledger, model, version).candidate
    declared = read_declared(prices, Prices)
    evidence = _evidence(ctx, candidate)
    sides = [side_of("candidate", evidence, declared), side_of("parent", evidence, declared, parent=True)]
    released = [one for one in ctx.ledger.find(Release, model) if one.candidate != candidate]
    if released:
        sides.append(side_of("released now", _evidence(ctx, released[-1].candidate), declared))
    chosen = _profile(profile) if profile else None
    clauses = read_declared(resource_dir("policies") / "procurement" / "mcc-ai-2025-03-05.yaml", Annex)
    made = {
        "ownership.html": page(f"{model} version {version}", declared, sides,
                               tuple(fits(chosen, evidence)) if chosen else (), chosen.title if chosen else ""),
        "mcc-ai-annex.md": annex(clauses, f"{model} version {version}", evidence),
    }  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in made.items():
            (folder / name).write_text(text, "utf-8")
    except OSError as error:
        raise Unavailable(f"{folder} can't be written: {error.strerror}") from error
    return folder / "ownership.html", folder / "mcc-ai-annex.md"


def _evidence(ctx: Context, candidate: str) -> tuple[Evidence, ...]:
    """The evidence of the decision, and the newest of every other check on the same data sets."""
    decision = latest_decision(ctx, ctx.ledger.get(Candidate, candidate))
    judged = [ctx.ledger.get(Evidence, digest) for digest in decision.evidence]
    datasets = {one.key.dataset for one in judged}
    known = [one for one in ctx.ledger.find(Evidence, candidate) if one.key.dataset in datasets]
    return tuple({one.key.check: one for one in (*known, *judged)}.values())


def _profile(name: str) -> Profile:
    folder = resource_dir("policies") / "devices"
    known = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    path = Path(name) if name.endswith(".yaml") else known.get(name)
    if path is None:
        raise InvalidInput(f"no hardware profile {name!r}; there are {', '.join(known)}, or a path that ends in .yaml")
    return read_declared(path, Profile)
