"""Is the parent what it should be?  Where its own release is at hand, that is verified too, and its parent's too.

The provenance names the parent's files by digest.  A release that holds exactly those is the parent's; what is wrong
with it is wrong with everything that was made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from auditsvc.provenance.formats import release_layout
from auditsvc.provenance.formats.manifest import read_folder
from auditsvc.provenance.formats.strict_json import Fault
from auditsvc.provenance.verifier.examination import VerificationContext
from auditsvc.records import Verification

DEEPEST = 16
_BEFORE = "parent/"

Judge = Callable[[Path, Sequence[Path], int], Verification]
"""Verifies the release in a folder, given the other releases at hand and how deep this is."""


def check_ancestry(found: VerificationContext, at_hand: Sequence[Path], depth: int, judge: Judge) -> None:
    """Verify the parent's release, if it is at hand."""
    wanted = parent_files(found)
    if not wanted:
        return
    if not at_hand:
        found.transcript.note(
            "The parent was taken as it is named; its own release, if there is one, was not verified."
        )
        return
    with found.transcript.step("parent") as seen:
        if depth >= DEEPEST:
            raise Fault("PROVENANCE", f"more than {DEEPEST} generations")
        folder = _parent_among(at_hand, wanted)
        if folder is None:
            if depth:
                seen.detail = "a model that no release at hand was made as: the first of its line"
                return
            raise Fault("PROVENANCE", "none of the releases that were given is the parent's")
        rest = [other for other in at_hand if other != folder]
        _hold(judge(folder, rest, depth + 1), folder)
        seen.detail = f"the parent's release in {folder.name} is VALID"


def parent_files(found: VerificationContext) -> dict[str, str]:
    """The parent's files by name and digest, as the signed provenance names them."""
    attested = found.attested.get("provenance")
    predicate = attested.statement.predicate if attested else None
    build = predicate.get("buildDefinition") if isinstance(predicate, Mapping) else None
    items = build.get("resolvedDependencies") if isinstance(build, Mapping) else None
    return dict(_file(item) for item in items if _is_file(item)) if isinstance(items, list) else {}


def _is_file(item: Any) -> bool:
    if not isinstance(item, Mapping) or not isinstance(item.get("digest"), Mapping):
        return False
    return isinstance(item.get("name"), str) and item["name"].startswith(_BEFORE)


def _file(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["name"].removeprefix(_BEFORE), f"sha256:{item['digest'].get('sha256')}"


def _parent_among(at_hand: Sequence[Path], wanted: Mapping[str, str]) -> Path | None:
    for folder in at_hand:
        there = {file.name: file.digest for file in read_folder(folder / release_layout.RELEASE).files}
        if wanted.items() <= there.items():
            return folder
    return None


def _hold(parent: Verification, folder: Path) -> None:
    """What is wrong with the parent is wrong here, in its own way.  Raises ``Fault``."""
    if parent.verdict == "VALID":
        return
    first = parent.reasons[0]
    told = f"the parent's release in {folder.name} is {parent.verdict}: {first.step}: {first.code} {first.detail}"
    raise Fault({"REVOKED": "REVOKED", "UNKNOWN": "STALE_TRUST"}.get(parent.verdict, "PROVENANCE"), told[:1000])
