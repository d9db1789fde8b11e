"""Fetching the trust repository from a folder or a URL, with rollback protection.

Fetched files are untrusted until ``TrustRepository`` has read them from the pinned key.
"""

from __future__ import annotations

import json
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.provenance.formats.release_layout import read_or_none, write_whole
from auditsvc.provenance.formats.strict_json import MAX_BYTES, Fault
from auditsvc.provenance.trust.trust_root import TrustRoot
from auditsvc.provenance.trust.tuf_repository import Metadata, TrustRepository, Versions
from auditsvc.records import Moment

TIMEOUT_S = 20
_MOST_ROOTS = 256


def fetch_trust(place: str, pinned: bytes, at: Moment, state_dir: Path) -> TrustRoot:
    """Trust and revocations as published at ``place``, a folder or a URL, authenticated by the pinned key.

    ``state_dir`` keeps the metadata versions that were seen, so that older ones are refused later.

    Raises:
        InvalidInput: a signed target that is not a trust policy or a revocation list.
        Unavailable: it can't be fetched, or the memory can't be read or written.
    """
    state_file = state_dir / f"{sha256(pinned).hexdigest()[:32]}.json"
    with _as_folder(place) as folder:
        seen = _seen(state_file)
        trust = TrustRoot.from_repository(folder, pinned, at, seen)
        now = TrustRepository.read(folder, pinned, at, seen)
    if not now.faults and now.versions != seen:
        write_whole(state_file, json.dumps(asdict(now.versions), sort_keys=True).encode())
    return trust


def default_state_dir() -> Path:
    """The default ``state_dir``: under ``XDG_STATE_HOME``."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "auditsvc" / "trust"


def _seen(state_file: Path) -> Versions:
    data = read_or_none(state_file)
    if data is None:
        return Versions()
    try:
        return Versions(**json.loads(data))
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{state_file} is not a list of metadata versions; restore or remove it") from error


@contextmanager
def _as_folder(place: str) -> Iterator[Path]:
    if not place.startswith(("http://", "https://")):
        if not Path(place).is_dir():
            raise InvalidInput(f"{place} is not a folder with published trust (metadata/ and targets/)")
        yield Path(place)
        return
    with tempfile.TemporaryDirectory(prefix="auditsvc-") as scratch:
        _fetch_all(place.rstrip("/"), Path(scratch))
        yield Path(scratch)


def _fetch_all(address: str, folder: Path) -> None:
    """Copy the newest state; whatever is missing or malformed is found out when the copy is read."""
    for version in range(1, _MOST_ROOTS):
        if _fetch(address, f"metadata/{version}.root.json", folder) is None:
            break
    timestamp = _fetch(address, "metadata/timestamp.json", folder)
    try:
        known = Metadata.parse(timestamp or b"", "timestamp").signed["meta"]["snapshot.json"]["version"]
        snapshot = _fetch(address, f"metadata/{int(known)}.snapshot.json", folder)
        known = Metadata.parse(snapshot or b"", "snapshot").signed["meta"]["targets.json"]["version"]
        targets = _fetch(address, f"metadata/{int(known)}.targets.json", folder)
        for name, info in Metadata.parse(targets or b"", "targets").signed["targets"].items():
            digest = str(info["hashes"]["sha256"])
            if digest.isalnum() and "/" not in name and not name.startswith("."):
                _fetch(address, f"targets/{digest}.{name}", folder)
    except (Fault, KeyError, TypeError, ValueError, AttributeError):
        return


def _fetch(address: str, name: str, folder: Path) -> bytes | None:
    """One file, stored; None where there is none."""
    token = os.environ.get("AUDITSVC_TOKEN")
    headers = {"authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"{address}/{name}", headers=headers)  # noqa: S310 - http only, see ``_as_folder``
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            data: bytes = answer.read(MAX_BYTES + 1)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise Unavailable(f"{address}/{name} answers HTTP {error.code}; a service may want AUDITSVC_TOKEN") from error
    except (urllib.error.URLError, OSError) as error:
        raise Unavailable(f"{address} can't be reached: {error}") from error
    write_whole(folder / name, data)
    return data
