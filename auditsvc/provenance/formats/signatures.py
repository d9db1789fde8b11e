"""Public keys and signatures: ECDSA P-256 with SHA-256 for statements, Ed25519 for the log; and RFC 3161 timestamps.

A key is found by its *hint* in the reader's own trust and nowhere else; a key or an algorithm that
travels with a bundle is never used.  P-384 and Ed25519 are left out for statements because peers
(sigstore-js, cosign) can't check bundles that are signed with them.

Timestamps need the package ``rfc3161-client`` (the extra ``timestamp``); it reads strict DER only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from auditsvc.provenance.formats.strict_json import Fault
from auditsvc.records import Moment

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
