"""What every key store keeps: one key for each role, the same one always."""

from __future__ import annotations

from typing import get_args

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from auditsvc.ports import KeyRole, Keys


@pytest.mark.parametrize("role", get_args(KeyRole))
def test_a_signature_holds_for_its_bytes_only(keys: Keys, role: KeyRole) -> None:
    signer = keys.signer(role)
    assert signer.role == role
    _check(signer.public_pem, signer.sign(b"said"), b"said")
    with pytest.raises(InvalidSignature):
        _check(signer.public_pem, signer.sign(b"said"), b"not said")


def test_every_role_has_a_key_of_its_own_and_keeps_it(keys: Keys) -> None:
    public = [keys.signer(role).public_pem for role in get_args(KeyRole)]
    assert len(set(public)) == len(public)
    assert [keys.signer(role).public_pem for role in get_args(KeyRole)] == public


def test_the_watermark_secret_is_32_bytes_and_stays(keys: Keys) -> None:
    assert len(keys.watermark_secret()) == 32
    assert keys.watermark_secret() == keys.watermark_secret()


def _check(public_pem: bytes, signature: bytes, data: bytes) -> None:
    key = load_pem_public_key(public_pem)
    if isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(signature, data)
        return
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
