"""TUF metadata: signed files with a version and an end, made for keys that change and lists that grow.

Written here because it is small (the verifier must start at once and install anywhere); python-tuf reads
what we write, and the tests hold both against each other.

Reference: J. Samuel, N. Mathewson, J. Cappos, R. Dingledine (2010), "Survivable Key Compromise in
Software Update Systems", CCS, DOI 10.1145/1866307.1866315; The Update Framework specification 1.0.34.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from auditsvc.provenance.formats.signatures import check_p256
from auditsvc.provenance.formats.strict_json import Fault, fields_of, parse_json
from auditsvc.records import Moment

SPEC = "1.0.34"
TufRole = Literal["root", "targets", "snapshot", "timestamp"]
ROLES: tuple[TufRole, ...] = ("root", "targets", "snapshot", "timestamp")
_BAD = "STALE_TRUST"


class TufSigner(Protocol):
    """What signs metadata: an ECDSA P-256 signer."""

    @property
    def public_pem(self) -> bytes:
        """The public key, PEM."""
        ...

    def sign(self, data: bytes) -> bytes:
        """The signature in DER."""
        ...


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
    raise Fault(_BAD, f"{type(value).__name__} cannot stand in TUF metadata")


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
            value = fields_of(parse_json(data), "the metadata", _BAD, {"signed", "signatures"})
            signed = value["signed"]
            if signed["_type"] != role or signed["spec_version"].split(".")[0] != "1":
                raise Fault(_BAD, f"not TUF {role} metadata")
            version = signed["version"]
            expires = datetime.datetime.strptime(signed["expires"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.UTC)
            signatures = {item["keyid"]: bytes.fromhex(item["sig"]) for item in value["signatures"]}
        except Fault as fault:
            raise Fault(_BAD, f"the {role} metadata cannot be read: {fault.detail}") from fault
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Fault(_BAD, f"the {role} metadata is malformed: {error!r}"[:300]) from error
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise Fault(_BAD, f"the {role} metadata has no version")
        return cls(role, version, expires, signed, signatures)


@dataclass(frozen=True)
class Threshold:
    """So many of these keys (PEM by id) must have signed."""

    keys: Mapping[str, str]
    least: int

    @classmethod
    def of(cls, root: Metadata, role: TufRole) -> Threshold:
        """What the root metadata says of a role.  Raises ``Fault`` (``STALE_TRUST``)."""
        try:
            wanted, known = root.signed["roles"][role], root.signed["keys"]
            keys = {keyid: known[keyid]["keyval"]["public"] for keyid in wanted["keyids"] if keyid in known}
            least = wanted["threshold"]
        except (KeyError, TypeError) as error:
            raise Fault(_BAD, f"the root metadata does not say who signs {role}") from error
        if not isinstance(least, int) or isinstance(least, bool) or least < 1:
            raise Fault(_BAD, f"the threshold of {role} must be at least 1")
        return cls(keys, least)

    def check(self, metadata: Metadata) -> None:
        """Enough different keys signed.  Raises ``Fault`` (``STALE_TRUST``)."""
        data = tuf_json(metadata.signed)
        good = {pem for keyid, pem in self.keys.items() if _signed(pem, metadata.signatures.get(keyid), data)}
        if len(good) < self.least:
            raise Fault(_BAD, f"{len(good)} of {self.least} keys signed the {metadata.role} metadata")


def _signed(pem: Any, signature: bytes | None, data: bytes) -> bool:
    if signature is None or not isinstance(pem, str):
        return False
    try:
        check_p256(pem.encode(), signature, data)
    except Fault:
        return False
    return True
