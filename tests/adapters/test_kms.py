"""A key in a cloud: securesystemslib speaks to it; the cloud itself is played here."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from auditsvc.adapters.external_keys import KmsSigner
from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.provenance.formats.dsse import check_p256

pytest.importorskip("securesystemslib")
boto3 = pytest.importorskip("boto3")
errors = pytest.importorskip("botocore.exceptions")


class PlayedKms:
    """The two questions of AWS's key management service that a signer asks."""

    def __init__(self, curve: ec.EllipticCurve, algorithm: str) -> None:
        self.key, self.algorithm, self.down = ec.derive_private_key(5, curve), algorithm, False

    def get_public_key(self, KeyId: str) -> dict[str, Any]:
        data = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return {"PublicKey": data, "SigningAlgorithms": [self.algorithm]}

    def sign(self, KeyId: str, Message: bytes, MessageType: str, SigningAlgorithm: str) -> dict[str, bytes]:
        if self.down:
            raise errors.EndpointConnectionError(endpoint_url="https://kms.example")
        assert (KeyId, MessageType, SigningAlgorithm, len(Message)) == ("key-1", "DIGEST", self.algorithm, 32)
        return {"Signature": self.key.sign(Message, ec.ECDSA(Prehashed(hashes.SHA256())))}


def played(monkeypatch: pytest.MonkeyPatch, kms: PlayedKms) -> KmsSigner:
    monkeypatch.setattr(boto3, "client", lambda _: kms)
    return KmsSigner("release", "awskms:key-1")


def test_what_the_cloud_signs_verifies_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    signer = played(monkeypatch, PlayedKms(ec.SECP256R1(), "ECDSA_SHA_256"))
    check_p256(signer.public_pem, signer.sign(b"said"), b"said")


def test_a_key_on_another_curve_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="P-256"):
        _ = played(monkeypatch, PlayedKms(ec.SECP384R1(), "ECDSA_SHA_384")).public_pem


def test_a_cloud_that_is_down_is_unavailable_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    kms = PlayedKms(ec.SECP256R1(), "ECDSA_SHA_256")
    signer = played(monkeypatch, kms)
    kms.down = True
    with pytest.raises(Unavailable, match=r"kms\.example"):
        signer.sign(b"x")
