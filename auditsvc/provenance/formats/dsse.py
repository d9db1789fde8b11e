"""Signed envelopes: DSSE inside a Sigstore bundle v0.3, with log entries; their keys, signatures and timestamps.

The writer makes bundles that ``model-signing``, sigstore-js and cosign read: an empty ``keyid``, one
signature, a public key by hint.  The reader accepts that and nothing else: no second signature, no key
or certificate in the bundle, no older media type, no field that it doesn't know.

Signatures are ECDSA P-256 with SHA-256 for statements, and Ed25519 for the log.  A key is found by its *hint* in the
reader's own trust and nowhere else; a key or an algorithm that travels with a bundle is never used.  P-384 and Ed25519
are left out for statements because peers (sigstore-js, cosign) can't check bundles that are signed with them.
Timestamps (RFC 3161) need the package ``rfc3161-client`` (the extra ``timestamp``), which reads strict DER only.

Reference: secure-systems-lab (2024), "DSSE: Dead Simple Signing Envelope" v1.0.2; sigstore (2024),
protobuf-specs, "sigstore_bundle.proto".
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from auditsvc.provenance.formats.strict_json import (
    Fault,
    base64_of,
    count_of,
    fields_of,
    list_of,
    parse_json,
    text_of,
    unbase64,
)
from auditsvc.records import Digest, Moment, canonical_json, digest_of

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
ENTRY_KIND = {"kind": "hashedrekord", "version": "0.0.2"}

_SHAPE = "BUNDLE_SHAPE"
_MATERIALS = {"publicKey", "certificate", "x509CertificateChain"}


def pae(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """DSSE's pre-authentication encoding: the bytes that are signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


@dataclass(frozen=True)
class LogEntry:
    """Where a log keeps an attestation, and the proof of it."""

    index: int
    log_id: bytes
    root: bytes
    size: int
    hashes: tuple[bytes, ...]
    checkpoint: str
    body: bytes

    def to_dict(self) -> dict[str, Any]:
        """As a ``TransparencyLogEntry`` in protobuf JSON."""
        return {
            "logIndex": str(self.index),
            "logId": {"keyId": base64_of(self.log_id)},
            "kindVersion": ENTRY_KIND,
            "integratedTime": "0",
            "inclusionProof": {
                "logIndex": str(self.index),
                "rootHash": base64_of(self.root),
                "treeSize": str(self.size),
                "hashes": [base64_of(node) for node in self.hashes],
                "checkpoint": {"envelope": self.checkpoint},
            },
            "canonicalizedBody": base64_of(self.body),
        }


@dataclass(frozen=True)
class Bundle:
    """One signed statement: the payload, its signature, the hint of the key, log entries, timestamps."""

    hint: str
    payload: bytes
    signature: bytes
    entries: tuple[LogEntry, ...] = ()
    timestamps: tuple[bytes, ...] = ()

    @property
    def payload_digest(self) -> Digest:
        """How other attestations name this one; log entries and timestamps don't change it."""
        return digest_of(self.payload)

    @property
    def signed_bytes(self) -> bytes:
        """The bytes under the signature."""
        return pae(self.payload)

    def logged(self, *entries: LogEntry) -> Bundle:
        """The same bundle with these log entries."""
        return replace(self, entries=entries)

    def to_json(self) -> bytes:
        """The bundle file, in canonical JSON."""
        material: dict[str, Any] = {"publicKey": {"hint": self.hint}}
        if self.entries:
            material["tlogEntries"] = [entry.to_dict() for entry in self.entries]
        if self.timestamps:
            stamps = [{"signedTimestamp": base64_of(stamp)} for stamp in self.timestamps]
            material["timestampVerificationData"] = {"rfc3161Timestamps": stamps}
        envelope = {
            "payload": base64_of(self.payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64_of(self.signature), "keyid": ""}],
        }
        return canonical_json({"mediaType": MEDIA_TYPE, "verificationMaterial": material, "dsseEnvelope": envelope})

    @classmethod
    def parse(cls, data: bytes, old_keys: bool = False) -> Bundle:
        """Read a bundle file; says nothing yet about who signed.

        With ``old_keys``, a key inside the bundle is read as its hint; it still has to be trusted.

        Raises:
            Fault: ``MEDIA_TYPE``, ``BUNDLE_SHAPE``, ``METHOD_NOT_ALLOWED``, ``UNKNOWN_KEY``, ``PAYLOAD_TYPE``,
                ``SIG_COUNT``, ``B64_BAD`` and those of ``parse_json``.
        """
        value = parse_json(data)
        if not isinstance(value, dict) or value.get("mediaType") != MEDIA_TYPE:
            raise Fault("MEDIA_TYPE", f"the media type must be {MEDIA_TYPE}")
        fields_of(value, "the bundle", _SHAPE, {"mediaType", "verificationMaterial", "dsseEnvelope"})
        material = value["verificationMaterial"]
        hint = _hint(material, old_keys)
        payload, signature = _envelope(value["dsseEnvelope"])
        entries = list_of(material.get("tlogEntries", []), "tlogEntries", _SHAPE)
        if len(entries) > 16:
            raise Fault(_SHAPE, "more than 16 log entries")
        stamps = _timestamps(material.get("timestampVerificationData", {}))
        return cls(hint, payload, signature, tuple(_entry(entry) for entry in entries), stamps)


def _hint(material: Any, old_keys: bool) -> str:
    if isinstance(material, dict) and material.keys() & (_MATERIALS - {"publicKey"}):
        raise Fault("METHOD_NOT_ALLOWED", "only a public key that the reader already trusts is accepted")
    fields_of(
        material,
        "verificationMaterial",
        _SHAPE,
        {"publicKey"},
        frozenset({"tlogEntries", "timestampVerificationData"}),
    )
    key = material["publicKey"]
    if old_keys and isinstance(key, dict) and "rawBytes" in key and "hint" not in key:
        return hint_of(unbase64(key["rawBytes"], "rawBytes"))
    hint = key.get("hint") if isinstance(key, dict) else None
    if not isinstance(hint, str) or not hint or key.keys() != {"hint"}:
        raise Fault("UNKNOWN_KEY", "the bundle must name its key by a hint, and carry no key of its own")
    return hint


def _envelope(value: Any) -> tuple[bytes, bytes]:
    envelope = fields_of(value, "dsseEnvelope", _SHAPE, {"payload", "payloadType", "signatures"})
    if envelope["payloadType"] != PAYLOAD_TYPE:
        raise Fault("PAYLOAD_TYPE", f"the payload type must be {PAYLOAD_TYPE}")
    signatures = list_of(envelope["signatures"], "signatures", _SHAPE)
    if len(signatures) != 1:
        raise Fault("SIG_COUNT", f"exactly one signature is accepted, not {len(signatures)}")
    signature = fields_of(signatures[0], "the signature", _SHAPE, {"sig"}, frozenset({"keyid"}))
    if signature.get("keyid", "") != "":
        raise Fault(_SHAPE, "keyid must be empty")
    return unbase64(envelope["payload"], "payload"), unbase64(signature["sig"], "sig")


def _timestamps(value: Any) -> tuple[bytes, ...]:
    data = fields_of(value, "timestampVerificationData", _SHAPE, set(), frozenset({"rfc3161Timestamps"}))
    stamps = list_of(data.get("rfc3161Timestamps", []), "rfc3161Timestamps", _SHAPE)
    tokens = [fields_of(stamp, "a timestamp", _SHAPE, {"signedTimestamp"})["signedTimestamp"] for stamp in stamps]
    return tuple(unbase64(token, "signedTimestamp") for token in tokens)


def _entry(value: Any) -> LogEntry:
    names = {"logIndex", "logId", "kindVersion", "integratedTime", "inclusionProof", "canonicalizedBody"}
    entry = fields_of(value, "a log entry", _SHAPE, names)
    if entry["kindVersion"] != ENTRY_KIND or entry["integratedTime"] != "0":
        raise Fault(_SHAPE, "a log entry must be a hashedrekord 0.0.2 without integrated time")
    names = {"logIndex", "rootHash", "treeSize", "hashes", "checkpoint"}
    proof = fields_of(entry["inclusionProof"], "the inclusion proof", _SHAPE, names)
    index = count_of(entry["logIndex"], "logIndex", _SHAPE)
    if count_of(proof["logIndex"], "logIndex", _SHAPE) != index:
        raise Fault("LOG_PROOF", "the entry and its proof name different indices")
    hashes = list_of(proof["hashes"], "hashes", _SHAPE)
    if len(hashes) > 64:
        raise Fault("LOG_PROOF", "no tree needs more than 64 hashes")
    checkpoint = fields_of(proof["checkpoint"], "the checkpoint", _SHAPE, {"envelope"})["envelope"]
    return LogEntry(
        index=index,
        log_id=unbase64(fields_of(entry["logId"], "logId", _SHAPE, {"keyId"})["keyId"], "keyId"),
        root=unbase64(proof["rootHash"], "rootHash"),
        size=count_of(proof["treeSize"], "treeSize", _SHAPE),
        hashes=tuple(unbase64(node, "a hash of the proof") for node in hashes),
        checkpoint=text_of(checkpoint, "the checkpoint", _SHAPE),
        body=unbase64(entry["canonicalizedBody"], "canonicalizedBody"),
    )


def entry_body(bundle: Bundle, key_der: bytes) -> bytes:
    """The log's leaf for a bundle: a Rekor ``hashedrekord`` 0.0.2 over the signed bytes.

    Only digests, the signature and the public key: nothing of the statement itself goes into the log.
    """
    record = {
        "data": {"algorithm": "SHA2_256", "digest": base64_of(hashlib.sha256(bundle.signed_bytes).digest())},
        "signature": {
            "content": base64_of(bundle.signature),
            "verifier": {"keyDetails": "PKIX_ECDSA_P256_SHA_256", "publicKey": {"rawBytes": base64_of(key_der)}},
        },
    }
    return canonical_json({"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": {"hashedRekordV002": record}})


_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def hint_of(pem: bytes) -> str:
    """The name of a public key: hexadecimal SHA-256 of its PEM text, as ``model-signing`` writes it."""
    return hashlib.sha256(pem).hexdigest()


def der_of(pem: bytes) -> bytes:
    """The DER SubjectPublicKeyInfo of a PEM public key.

    Raises:
        Fault: ``KEY_TYPE`` where it is no public key.
    """
    return _load(pem).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def plain_pem(pem: bytes) -> bytes:
    """The public key in normalized PEM, without surrounding text: the input of ``hint_of``.

    Raises:
        Fault: ``KEY_TYPE`` where it is no public key.
    """
    return _load(pem).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def ed25519_raw(pem: bytes) -> bytes:
    """The 32 bytes of an Ed25519 public key.

    Raises:
        Fault: ``KEY_TYPE`` where it is another kind of key.
    """
    key = _load(pem)
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise Fault("KEY_TYPE", "the log's key must be Ed25519")
    return key.public_bytes_raw()


def ed25519_der(raw: bytes) -> bytes:
    """The DER SubjectPublicKeyInfo of 32 bytes of an Ed25519 key."""
    return ed25519.Ed25519PublicKey.from_public_bytes(raw).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def check_p256(pem: bytes, signature: bytes, data: bytes) -> None:
    """Verify an ECDSA P-256, SHA-256 signature (DER) over the data.

    Raises:
        Fault: ``KEY_TYPE`` for another kind of key, ``BAD_SIGNATURE`` otherwise; DER that could be written
            in a second way is a bad signature too.
    """
    key = _load(pem)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Fault("KEY_TYPE", "statements are signed with ECDSA P-256 keys only")
    try:
        r, s = utils.decode_dss_signature(signature)
        if not (0 < r < _ORDER and 0 < s < _ORDER) or utils.encode_dss_signature(r, s) != signature:
            raise Fault("BAD_SIGNATURE", "the signature's integers are out of range or not canonical DER")
        key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError) as error:
        raise Fault("BAD_SIGNATURE", "the signature does not belong to these bytes and this key") from error


def check_ed25519(raw_key: bytes, signature: bytes, data: bytes) -> bool:
    """Whether this Ed25519 signature belongs to the data."""
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(raw_key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def _load(pem: bytes) -> ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey:
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Fault("KEY_TYPE", f"not a public key in PEM: {str(error)[:100]}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise Fault("KEY_TYPE", "neither an ECDSA P-256 nor an Ed25519 key")
    return key


def time_of(stamps: Sequence[bytes], data: bytes, authorities: Sequence[str]) -> Moment:
    """The time at which one of these authorities saw these bytes, by the first timestamp that verifies.

    Raises:
        Fault: ``TIMESTAMP``.
    """
    try:
        from cryptography.x509 import ExtendedKeyUsage, ExtensionNotFound, load_pem_x509_certificates
        from cryptography.x509.oid import ExtendedKeyUsageOID
        from rfc3161_client import VerifierBuilder, decode_timestamp_response
        from rfc3161_client.errors import VerificationError
    except ImportError as error:
        raise Fault("TIMESTAMP", "timestamps can't be checked; pip install rfc3161-client") from error
    why = "no authority is trusted"
    for stamp in stamps:
        for pem in authorities:
            try:
                leaf, *others = load_pem_x509_certificates(pem.encode())
                usage = leaf.extensions.get_extension_for_class(ExtendedKeyUsage).value
                if list(usage) != [ExtendedKeyUsageOID.TIME_STAMPING]:
                    raise ValueError("the authority's certificate is not for time stamping alone")
                builder = VerifierBuilder().tsa_certificate(leaf)
                for certificate in others[:-1]:
                    builder = builder.add_intermediate_certificate(certificate)
                response = decode_timestamp_response(stamp)
                root = others[-1] if others else leaf
                builder.add_root_certificate(root).build().verify_message(response, data)
                time: Moment = response.tst_info.gen_time
            except (VerificationError, ExtensionNotFound, ValueError) as error:
                why = str(error)
                continue
            if leaf.not_valid_before_utc <= time <= leaf.not_valid_after_utc:
                return time
            why = "the timestamp was made outside the validity of the authority's certificate"
    raise Fault("TIMESTAMP", f"no timestamp by a trusted authority: {why[:200]}")
