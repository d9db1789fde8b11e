"""The OMS v1.0 statement: which files a model consists of.  Written by us, or read from a peer's bundle.

Reference: OpenSSF (2026), "Model Signing Specification" v1.0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from auditsvc.provenance.formats.manifest import name_fault, root_digest, shown
from auditsvc.provenance.formats.strict_json import Fault, fields_of, list_of, text_of
from auditsvc.records import FileEntry

OMS_TYPE = "https://model_signing/signature/v1.0"

_GIT_NAMES = (".git", ".gitignore", ".gitattributes", ".github")
_HEX = re.compile(r"[0-9a-f]{64}\Z")


def strip_prefix(digest: str) -> str:
    """The hexadecimal part of ``sha256:...``."""
    return digest.removeprefix("sha256:")


def oms_predicate(files: Sequence[FileEntry]) -> dict[str, Any]:
    """The predicate over these files, in code point order."""
    ordered = sorted(files, key=lambda file: file.name)
    return {
        "resources": [
            {"name": file.name, "algorithm": "sha256", "digest": strip_prefix(file.digest)} for file in ordered
        ],
        "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": []},
    }


def oms_root(files: Sequence[FileEntry]) -> str:
    """The subject digest over these files."""
    return root_digest([strip_prefix(file.digest) for file in sorted(files, key=lambda file: file.name)])


def resources_of(subject: Sequence[tuple[str, str]], predicate: Any, own: Sequence[str] = ()) -> dict[str, str]:
    """The files that an OMS statement signs: name to digest (``sha256:...``).

    Both orders are read: by code point, as the specification says, and by path part, as
    ``model-signing`` 1.1.1 writes; the root is recomputed in the order listed.  ``own`` names what the
    signature may leave out: its own file, where that is in the folder.

    Raises:
        Fault: ``SUBJECT``, ``SERIALIZATION``, ``IGNORE_PATHS``, ``EMPTY_MANIFEST``, ``DIGEST_FORM``, ``NAME_BAD``,
            ``DUP_NAME``, ``NOT_SORTED``, ``ROOT_DIGEST``.
    """
    if len(subject) != 1:
        raise Fault("SUBJECT", f"an OMS statement has one subject, not {len(subject)}")
    fields_of(predicate, "the OMS predicate", "SERIALIZATION", {"resources", "serialization"})
    _check_serialization(predicate["serialization"], own)
    resources = list_of(predicate["resources"], "resources", "SERIALIZATION")
    if not resources:
        raise Fault("EMPTY_MANIFEST", "no file is signed")
    pairs = [_resource(resource) for resource in resources]
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise Fault("DUP_NAME", "a file is listed twice")
    if names != sorted(names) and names != sorted(names, key=lambda name: name.split("/")):
        raise Fault("NOT_SORTED", "the files are not in order")
    if root_digest([digest for _, digest in pairs]) != subject[0][1]:
        raise Fault("ROOT_DIGEST", "the subject's digest does not follow from the files listed")
    return {name: f"sha256:{digest}" for name, digest in pairs}


def _check_serialization(value: Any, own: Sequence[str]) -> None:
    optional = frozenset({"allow_symlinks", "ignore_paths"})
    fields_of(value, "serialization", "SERIALIZATION", {"method", "hash_type"}, optional)
    if value["method"] != "files" or value["hash_type"] != "sha256" or value.get("allow_symlinks", False) is not False:
        raise Fault("SERIALIZATION", "only whole files, SHA-256 and no symbolic links are accepted")
    hidden = list_of(value.get("ignore_paths", []), "ignore_paths", "IGNORE_PATHS")
    wrong = sorted(str(path)[:80] for path in hidden if path not in (*_GIT_NAMES, *own))
    if wrong:
        raise Fault("IGNORE_PATHS", f"the signature leaves out {', '.join(wrong)}")


def _resource(value: Any) -> tuple[str, str]:
    fields_of(value, "a resource", "SERIALIZATION", {"name", "algorithm", "digest"})
    name = text_of(value["name"], "a resource's name", "NAME_BAD")
    digest = text_of(value["digest"], "a digest", "DIGEST_FORM")
    if value["algorithm"] != "sha256" or not _HEX.match(digest):
        raise Fault("DIGEST_FORM", f"{shown(name)}: not 64 lower-case hexadecimal digits of SHA-256")
    if fault := name_fault(name):
        raise fault
    return name, digest
