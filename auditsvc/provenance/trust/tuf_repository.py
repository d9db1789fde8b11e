"""The trust repository: TUF metadata over the trust policy and the revocation list.

::

    metadata/N.root.json  N.targets.json  N.snapshot.json  timestamp.json
    targets/<sha256>.trust-policy.json  targets/<sha256>.revocations.json

``publish`` writes the files in an order in which a client sees a consistent state at any moment; ``TrustRepository``
reads them, starting from the pinned key or root.  Metadata that is expired, unsigned, truncated or rolled back is never
skipped: it is a fault, and the verification is ``UNKNOWN``.

Written here because the verifier must start fast and install anywhere.  The tests run python-tuf's client on it.

Reference: J. Samuel, N. Mathewson, J. Cappos, R. Dingledine (2010), "Survivable Key Compromise in Software Update
Systems", CCS, DOI 10.1145/1866307.1866315; The Update Framework specification 1.0.34.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from auditsvc.errors import Unavailable
from auditsvc.provenance.formats.dsse import check_p256, plain_pem
from auditsvc.provenance.formats.release_layout import read_or_none, write_whole
from auditsvc.provenance.formats.strict_json import Fault, fields_of, parse_json
from auditsvc.records import Moment

SPEC = "1.0.34"
TufRole = Literal["root", "targets", "snapshot", "timestamp"]
ROLES: tuple[TufRole, ...] = ("root", "targets", "snapshot", "timestamp")
_STALE, _ROLLBACK = "STALE_TRUST", "TRUST_ROLLBACK"
_MAX_ROOTS = 256
LIFETIMES: Mapping[TufRole, datetime.timedelta] = {
    "root": datetime.timedelta(days=365),
    "targets": datetime.timedelta(days=90),
    "snapshot": datetime.timedelta(days=7),
    "timestamp": datetime.timedelta(hours=24),
}
"""The lifetime of each kind of metadata.  A revocation can be hidden from a client for the last one at most."""


RENEWED_BEFORE = datetime.timedelta(days=120)
"""A root is renewed this long before its end, so that a client that reads it once a season finds a valid one."""


class TufSigner(Protocol):
    """What signs metadata: an ECDSA P-256 signer."""

    @property
    def public_pem(self) -> bytes:
        """The public key, PEM."""

    def sign(self, data: bytes) -> bytes:
        """The signature in DER."""


@dataclass(frozen=True)
class TufRoles:
    """Who signs which metadata, and how many of them must."""

    signers: Mapping[TufRole, Sequence[TufSigner]]
    thresholds: Mapping[TufRole, int]

    @classmethod
    def all_by(cls, signer: TufSigner) -> TufRoles:
        """One key for everything: the embedded default, with the release key."""
        return cls(dict.fromkeys(ROLES, (signer,)), dict.fromkeys(ROLES, 1))


def tuf_json(value: Any) -> bytes:
    """OLPC canonical JSON, which TUF signs: sorted keys, no space, only quote and backslash escaped."""
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'.encode()
    if isinstance(value, bool) or value is None:
        return json.dumps(value).encode()
    if isinstance(value, int):
        return str(value).encode()
    if isinstance(value, Mapping):
        pairs = (tuf_json(key) + b":" + tuf_json(value[key]) for key in sorted(value))
        return b"{" + b",".join(pairs) + b"}"
    if isinstance(value, list | tuple):
        return b"[" + b",".join(tuf_json(item) for item in value) + b"]"
    raise Fault(_STALE, f"{type(value).__name__} can't be written in TUF metadata")


def tuf_key(pem: bytes) -> tuple[str, dict[str, Any]]:
    """A public key as TUF writes it, with its id."""
    value = {"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": {"public": pem.decode()}}
    return hashlib.sha256(tuf_json(value)).hexdigest(), value


def signed_file(signed: Mapping[str, Any], signers: Sequence[TufSigner]) -> bytes:
    """A metadata file with one signature for each signer."""
    data = tuf_json(signed)
    made = {tuf_key(signer.public_pem)[0]: signer.sign(data).hex() for signer in signers}
    signatures = [{"keyid": keyid, "sig": made[keyid]} for keyid in sorted(made)]
    return json.dumps({"signatures": signatures, "signed": signed}, sort_keys=True, indent=1).encode() + b"\n"


@dataclass(frozen=True)
class Metadata:
    """One metadata file, read; nothing says yet who signed it."""

    role: TufRole
    version: int
    expires: Moment
    signed: Mapping[str, Any]
    signatures: Mapping[str, bytes]

    @classmethod
    def parse(cls, data: bytes, role: TufRole) -> Metadata:
        """Read a metadata file of this role.

        Raises:
            Fault: ``STALE_TRUST`` where it is none.
        """
        try:
            value = fields_of(parse_json(data), "the metadata", _STALE, {"signed", "signatures"})
            signed = value["signed"]
            if signed["_type"] != role or signed["spec_version"].split(".")[0] != "1":
                raise Fault(_STALE, f"not TUF {role} metadata")
            version = signed["version"]
            expires = datetime.datetime.strptime(signed["expires"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.UTC)
            signatures = {item["keyid"]: bytes.fromhex(item["sig"]) for item in value["signatures"]}
        except Fault as fault:
            raise Fault(_STALE, f"the {role} metadata cannot be read: {fault.detail}") from fault
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Fault(_STALE, f"the {role} metadata is malformed: {error!r}"[:300]) from error
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise Fault(_STALE, f"the {role} metadata has no version")
        return cls(role, version, expires, signed, signatures)


@dataclass(frozen=True)
class Threshold:
    """The keys of a role (PEM by id), and how many of them must sign."""

    keys: Mapping[str, str]
    least: int

    @classmethod
    def of(cls, root: Metadata, role: TufRole) -> Threshold:
        """The threshold of a role, from the root metadata.  Raises ``Fault`` (``STALE_TRUST``)."""
        try:
            wanted, known = root.signed["roles"][role], root.signed["keys"]
            keys = {keyid: known[keyid]["keyval"]["public"] for keyid in wanted["keyids"] if keyid in known}
            least = wanted["threshold"]
        except (KeyError, TypeError) as error:
            raise Fault(_STALE, f"the root metadata does not say who signs {role}") from error
        if not isinstance(least, int) or isinstance(least, bool) or least < 1:
            raise Fault(_STALE, f"the threshold of {role} must be at least 1")
        return cls(keys, least)

    def check(self, metadata: Metadata) -> None:
        """Enough different keys signed.  Raises ``Fault`` (``STALE_TRUST``)."""
        data = tuf_json(metadata.signed)
        good = {pem for keyid, pem in self.keys.items() if _is_signed(pem, metadata.signatures.get(keyid), data)}
        if len(good) < self.least:
            raise Fault(_STALE, f"{len(good)} of {self.least} keys signed the {metadata.role} metadata")


def _is_signed(pem: Any, signature: bytes | None, data: bytes) -> bool:
    if signature is None or not isinstance(pem, str):
        return False
    try:
        check_p256(pem.encode(), signature, data)
    except Fault:
        return False
    return True


def publish(folder: Path, targets: Mapping[str, bytes], tuf_roles: TufRoles, at: Moment) -> None:
    """Publish these targets as the next version; a root that ends within ``RENEWED_BEFORE`` is renewed first.

    Raises:
        Unavailable: the disk can't be written, or what was written can't be used: these keys don't sign this
            repository's root.
    """
    place = folder / "metadata"
    if read_or_none(place / "1.root.json") is None:
        write_whole(place / "1.root.json", signed_file(_root(tuf_roles, 1, at), tuf_roles.signers["root"]))
    _renew_root(place, tuf_roles, at)
    now = _next_version(place)
    files = {}
    for name, data in targets.items():
        digest = hashlib.sha256(data).hexdigest()
        write_whole(folder / "targets" / f"{digest}.{name}", data)
        files[name] = {"length": len(data), "hashes": {"sha256": digest}}
    signed = signed_file(_signed("targets", now, at, targets=files), tuf_roles.signers["targets"])
    write_whole(place / f"{now}.targets.json", signed)
    meta = {"targets.json": {"version": now}}
    signed = signed_file(_signed("snapshot", now, at, meta=meta), tuf_roles.signers["snapshot"])
    write_whole(place / f"{now}.snapshot.json", signed)
    meta = {"snapshot.json": {"version": now}}
    write_whole(
        place / "timestamp.json", signed_file(_signed("timestamp", now, at, meta=meta), tuf_roles.signers["timestamp"])
    )
    found = TrustRepository.read(folder, read_or_none(place / "1.root.json") or b"", at)
    if found.faults:
        raise Unavailable(f"the trust that was published can't be used: {found.faults[0].detail}")


def _renew_root(place: Path, tuf_roles: TufRoles, at: Moment) -> None:
    version = _newest_root(place)
    newest = Metadata.parse(read_or_none(place / f"{version}.root.json") or b"", "root")
    if newest.expires - at > RENEWED_BEFORE:
        return
    data = signed_file(_root(tuf_roles, version + 1, at), tuf_roles.signers["root"])
    try:
        Threshold.of(newest, "root").check(Metadata.parse(data, "root"))
    except Fault as fault:
        raise Unavailable(f"the root of the trust ends at {newest.expires.isoformat()}: {fault.detail}") from fault
    write_whole(place / f"{version + 1}.root.json", data)


def _newest_root(place: Path) -> int:
    return max((int(path.name.split(".")[0]) for path in place.glob("*.root.json")), default=0)


def rotate(folder: Path, old: TufRoles, new: TufRoles, at: Moment) -> None:
    """Hand the root over: the next root metadata, signed by the old keys and the new.

    Raises:
        Unavailable: the disk can't be written.
    """
    place = folder / "metadata"
    version = 1 + _newest_root(place)
    both = (*old.signers["root"], *new.signers["root"])
    write_whole(place / f"{version}.root.json", signed_file(_root(new, version, at), both))


def _next_version(place: Path) -> int:
    data = read_or_none(place / "timestamp.json")
    written = [int(path.name.split(".")[0]) for path in place.glob("*.targets.json")]
    published = Metadata.parse(data, "timestamp").version if data is not None else 0
    return 1 + max([published, *written])


def _signed(role: TufRole, version: int, at: Moment, **fields: Any) -> dict[str, Any]:
    expires = (at + LIFETIMES[role]).astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"_type": role, "spec_version": SPEC, "version": version, "expires": expires, **fields}


def _root(tuf_roles: TufRoles, version: int, at: Moment) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    roles: dict[str, Any] = {}
    for role in ROLES:
        known = dict(tuf_key(signer.public_pem) for signer in tuf_roles.signers[role])
        keys |= known
        roles[role] = {"keyids": sorted(known), "threshold": tuf_roles.thresholds[role]}
    return _signed("root", version, at, consistent_snapshot=True, keys=keys, roles=roles)


@dataclass(frozen=True)
class Versions:
    """The versions that a reader saw last; metadata never goes back behind them."""

    root: int = 1
    timestamp: int = 0
    snapshot: int = 0
    targets: int = 0


@dataclass(frozen=True)
class TrustRepository:
    """A trust repository as read: its targets, its versions, and its faults."""

    targets: Mapping[str, bytes]
    versions: Versions
    faults: tuple[Fault, ...]

    @classmethod
    def read(cls, folder: Path, pinned: bytes, at: Moment, seen: Versions | None = None) -> TrustRepository:
        """Read a repository, authenticated by ``pinned``: a root metadata file, or the public key that signs one.

        Raises:
            Unavailable: the disk can't be read.
        """
        reader = _Reader(folder, at, seen or Versions())
        try:
            return reader.read(pinned)
        except Fault as fault:
            return cls({}, reader.seen, (*reader.faults, fault))


class _Reader:
    """The client's workflow of the TUF specification, section 5."""

    def __init__(self, folder: Path, at: Moment, seen: Versions) -> None:
        self.folder, self.at, self.seen = folder, at, seen
        self.faults: list[Fault] = []

    def read(self, pinned: bytes) -> TrustRepository:
        root = self._root(pinned)
        timestamp = self._next(root, "timestamp", "timestamp.json", None)
        snapshot = self._next(root, "snapshot", "{}.snapshot.json", _meta(timestamp, "snapshot.json"))
        targets = self._next(root, "targets", "{}.targets.json", _meta(snapshot, "targets.json"))
        versions = Versions(root.version, timestamp.version, snapshot.version, targets.version)
        return TrustRepository(self._targets(targets), versions, tuple(self.faults))

    def _root(self, pinned: bytes) -> Metadata:
        if pinned.lstrip().startswith(b"-----BEGIN"):
            keyid, key = tuf_key(_pinned_pem(pinned))
            root = Metadata.parse(self._file("metadata/1.root.json"), "root")
            Threshold({keyid: key["keyval"]["public"]}, 1).check(root)
        else:
            root = Metadata.parse(pinned, "root")
        Threshold.of(root, "root").check(root)
        for version in range(root.version + 1, root.version + _MAX_ROOTS):
            data = read_or_none(self.folder / "metadata" / f"{version}.root.json")
            if data is None:
                break
            successor = Metadata.parse(data, "root")
            Threshold.of(root, "root").check(successor)
            Threshold.of(successor, "root").check(successor)
            if successor.version != version:
                raise Fault(_ROLLBACK, f"{version}.root.json says that it is version {successor.version}")
            root = successor
        if root.version < self.seen.root:
            raise Fault(_ROLLBACK, f"the root is version {root.version}; version {self.seen.root} was seen before")
        self._fresh(root)
        return root

    def _next(self, root: Metadata, role: TufRole, file: str, wanted: int | None) -> Metadata:
        found = Metadata.parse(self._file(f"metadata/{file.format(wanted)}"), role)
        Threshold.of(root, role).check(found)
        if wanted is not None and found.version != wanted:
            raise Fault(_ROLLBACK, f"the {role} metadata is version {found.version}, not {wanted}")
        seen = {"timestamp": self.seen.timestamp, "snapshot": self.seen.snapshot, "targets": self.seen.targets}[role]
        if found.version < seen:
            raise Fault(_ROLLBACK, f"the {role} metadata is version {found.version}; version {seen} was seen before")
        self._fresh(found)
        return found

    def _fresh(self, metadata: Metadata) -> None:
        if metadata.expires <= self.at:
            self.faults.append(Fault(_STALE, f"the {metadata.role} metadata ended at {metadata.expires.isoformat()}"))

    def _targets(self, metadata: Metadata) -> dict[str, bytes]:
        found = {}
        try:
            wanted = {
                str(name): (str(info["hashes"]["sha256"]), info["length"])
                for name, info in metadata.signed["targets"].items()
            }
        except (KeyError, TypeError, AttributeError) as error:
            raise Fault(_STALE, "the targets metadata lists no files") from error
        for name, (digest, length) in wanted.items():
            if "/" in name or "/" in digest:
                raise Fault(_STALE, f"{name[:80]} is not a plain file name")
            data = self._file(f"targets/{digest}.{name}")
            if len(data) != length or hashlib.sha256(data).hexdigest() != digest:
                raise Fault(_STALE, f"{name} is not the file that was published")
            found[name] = data
        return found

    def _file(self, name: str) -> bytes:
        data = read_or_none(self.folder / name)
        if data is None:
            raise Fault(_STALE, f"{name} is not there")
        return data


def _pinned_pem(pinned: bytes) -> bytes:
    try:
        return plain_pem(pinned)
    except Fault as fault:
        raise Fault(_STALE, f"the pinned file is not a public key: {fault.detail}") from fault


def _meta(metadata: Metadata, name: str) -> int:
    try:
        version = metadata.signed["meta"][name]["version"]
    except (KeyError, TypeError) as error:
        raise Fault(_STALE, f"the {metadata.role} metadata does not name {name}") from error
    if not isinstance(version, int) or isinstance(version, bool):
        raise Fault(_STALE, f"the {metadata.role} metadata gives {name} no version")
    return version
