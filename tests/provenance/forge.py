"""A sealed release, and the tools of somebody who wants to pass off another one for it.

The forger holds every private key of the house unless a case says otherwise: what a signature alone
would stop is the lesser part.  ``restate`` changes what a statement says, signs it again, logs it, and
makes the summary rest on it, so that only the fault that a case is about is left to be found.
"""

from __future__ import annotations

import atexit
import base64
import json
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from auditsvc.adapters.file_keys import FileKeys
from auditsvc.provenance import TrustRoot, sign_release, verify
from auditsvc.provenance.formats.dsse import Bundle, LogEntry, der_of, entry_body, hint_of
from auditsvc.provenance.formats.signed_note import Checkpoint, NoteKey, sign_checkpoint
from auditsvc.provenance.trust.trust_root import TrustedKey, log_origin
from auditsvc.records import Release, Verification, canonical_json
from tests.fakes.log import MemoryLog
from tests.provenance.sample import AT, FILES, sealing, write

Change = Callable[[dict[str, Any]], None]
ROLES = {"oms": "release", "vsa": "release", "provenance": "build"}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _seal(folder: Path, files: dict[str, bytes], keys: FileKeys) -> tuple[MemoryLog, Release]:
    write(folder / "release", files)
    log = MemoryLog([b"one", b"two", b"three"])
    return log, sign_release(folder, sealing(files), keys=keys, log=log, at=AT)


@cache
def _template() -> tuple[Path, MemoryLog, Release]:
    folder = Path(tempfile.mkdtemp(prefix="auditsvc-forge-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder, *_seal(folder, FILES, FileKeys(folder / "keys"))


class Forge:
    """``files`` and ``keys`` other than the usual ones cost a seal; the usual release is sealed once and copied."""

    def __init__(self, folder: Path, files: dict[str, bytes] = FILES, keys: FileKeys | None = None) -> None:
        self.folder = folder
        self.release, self.attest = folder / "release", folder / "attest"
        self.keys = keys or FileKeys(folder / "keys")
        self.sealing = sealing(files)
        if files is FILES and keys is None:
            template, self.log, self.sealed = _template()
            shutil.copytree(template, folder, dirs_exist_ok=True)
            self.log = MemoryLog(self.log.leaves)
        else:
            self.log, self.sealed = _seal(folder, files, self.keys)
        self.trust = TrustRoot.of_keys(self.keys)

    def role(self, name: str) -> str:
        return ROLES.get(name, "audit")

    def path(self, name: str) -> Path:
        return self.attest / f"{name}.sigstore.json"

    def raw(self, name: str) -> dict[str, Any]:
        return json.loads(self.path(name).read_bytes())

    def edit(self, name: str, change: Change) -> None:
        """Change the bundle as it lies there."""
        value = self.raw(name)
        change(value)
        self.path(name).write_bytes(canonical_json(value))

    def bundle(self, name: str) -> Bundle:
        return Bundle.parse(self.path(name).read_bytes())

    def statement(self, name: str) -> dict[str, Any]:
        return json.loads(self.bundle(name).payload)

    def store(self, name: str, payload: bytes, *, by: str | None = None, signature: bytes | None = None) -> None:
        """Sign a payload (or take this signature), log it, store it."""
        signer = self.keys.signer(by or self.role(name))
        unsigned = Bundle(hint_of(signer.public_pem), payload, b"")
        made = signer.sign(unsigned.signed_bytes) if signature is None else signature
        self.path(name).write_bytes(self.logged(Bundle(unsigned.hint, payload, made), signer.public_pem).to_json())

    def logged(self, bundle: Bundle, pem: bytes, log: MemoryLog | None = None) -> Bundle:
        log = log or self.log
        body = entry_body(bundle, der_of(pem))
        index = log.append_leaf(body)
        size, origin, signer = log.size(), log_origin(self.keys), self.keys.signer("log")
        note = sign_checkpoint(Checkpoint(origin, size, log.root(size)), signer)
        key = NoteKey.of_pem(origin, signer.public_pem)
        return bundle.logged(LogEntry(index, key.full_id, log.root(size), size, log.inclusion(index, size), note, body))

    def restate(self, name: str, change: Change, *, by: str | None = None) -> None:
        """Say something else, with everything signed, logged and linked again."""
        value = self.statement(name)
        change(value)
        self.store(name, canonical_json(value), by=by)
        if name != "vsa":
            self.link(name)

    def predicate(self, name: str, change: Change, *, by: str | None = None) -> None:
        self.restate(name, lambda value: change(value["predicate"]), by=by)

    def link(self, name: str) -> None:
        """Let the summary rest on the bundle as it is now."""
        digest = {"sha256": self.bundle(name).payload_digest.removeprefix("sha256:")}

        def relink(predicate: dict[str, Any]) -> None:
            others = [item for item in predicate["inputAttestations"] if item["name"] != name]
            predicate["inputAttestations"] = [*others, {"name": name, "digest": digest}]

        self.predicate("vsa", relink)

    def swap_key(self, role: str, **changes: Any) -> TrustRoot:
        """The trust of a reader who knows something else about the key of a role."""
        keys = tuple(key.model_copy(update=changes) if key.role == role else key for key in self.trust.keys)
        return self.trust.model_copy(update={"keys": keys})

    def require(self, **changes: Any) -> TrustRoot:
        return self.trust.model_copy(update={"require": self.trust.require.model_copy(update=changes)})

    def trusting(self, role: str, pem: bytes) -> TrustRoot:
        """The trust of a reader whose policy has another key for a role, named by the bundles."""
        hint = hint_of(self.keys.signer(role).public_pem)
        others = tuple(key for key in self.trust.keys if key.role != role)
        new = TrustedKey.of(role, pem).model_copy(update={"hint": hint})
        return self.trust.model_copy(update={"keys": (*others, new)})

    def verify(self, trust: TrustRoot | None = None, resource: str | None = None) -> Verification:
        return verify(self.release, self.attest, trust=trust or self.trust, at=AT, resource=resource)
