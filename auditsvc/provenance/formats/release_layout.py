"""The file names of a release folder, and atomic writes into it.

::

    release/                     the model's files, and nothing else: what is signed
    attest/oms.sigstore.json     which files          provenance.sigstore.json  how it was made
          /audit-*.sigstore.json what checks found    bom.sigstore.json         bill of materials
          /vsa.sigstore.json     the decision
          /candidate.json, parent.json, policy.json, terms.json, evidence/*.json, waivers/*.json, decision.json
                                 the records, so that anyone can make the decision again
          /trust-policy.json     the public keys at the time of signing
    refusal/                     the same for a rejection, without oms.sigstore.json
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from auditsvc.errors import Unavailable
from auditsvc.provenance.formats.manifest import OMS_TYPE
from auditsvc.provenance.formats.predicates import BOM_TYPE, PROVENANCE_TYPE, TEST_TYPE, VSA_TYPE
from auditsvc.records import Evidence

RELEASE = "release"
ATTEST = "attest"
REJECTION = "refusal"
SUFFIX = ".sigstore.json"
DECISION = "decision.json"
CANDIDATE = "candidate.json"
PARENT = "parent.json"
POLICY = "policy.json"
TERMS = "terms.json"
TRUST_POLICY = "trust-policy.json"
REVOCATIONS = "revocations.json"
EVIDENCE = "evidence"
WAIVERS = "waivers"
AUDIT = "audit-"

TYPES = {"oms": OMS_TYPE, "provenance": PROVENANCE_TYPE, "bom": BOM_TYPE, "vsa": VSA_TYPE}
"""The attestations by name, except those of the checks."""


def type_of(name: str) -> str | None:
    """The type of statement that an attestation of this name must carry; None for a name that has no meaning."""
    return TEST_TYPE if name.startswith(AUDIT) and len(name) > len(AUDIT) else TYPES.get(name)


def evidence_names(evidence: Sequence[Evidence]) -> Mapping[str, Evidence]:
    """A short name for each evidence: its check, and where a check ran more than once, some of its digest."""
    checks = [item.key.check for item in evidence]
    return {
        item.key.check if checks.count(item.key.check) == 1 else f"{item.key.check}-{item.digest[7:19]}": item
        for item in evidence
    }


def write_whole(path: Path, data: bytes) -> None:
    """Write a file atomically: after a crash it is complete or absent.

    Raises:
        Unavailable: the disk is full or can't be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise Unavailable(f"cannot write {path}: {error.strerror}") from error


def sync(folder: Path) -> None:
    """Flush the entries of a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_or_none(path: Path) -> bytes | None:
    """The bytes of a file, or None where nothing was stored yet.  Raises ``Unavailable``."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}") from error


def sweep(folder: Path, keep: Sequence[str]) -> None:
    """Remove every file of an unpublished folder that is not to be kept (names relative to it).

    Raises:
        Unavailable: the folder can't be changed.
    """
    try:
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path.relative_to(folder).as_posix() not in keep:
                path.unlink()
    except OSError as error:
        raise Unavailable(f"cannot tidy {folder}: {error.strerror}") from error


def publish(partial: Path, final: Path) -> None:
    """Give the finished folder its name, at once.  Raises ``Unavailable``."""
    try:
        partial.rename(final)
        sync(final.parent)
    except OSError as error:
        raise Unavailable(f"cannot rename {partial} to {final.name}: {error.strerror}") from error
