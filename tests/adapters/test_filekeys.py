"""Keys in files: made once, private, and one clear error when they can't be used."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from auditsvc.adapters.file_keys import FileKeys
from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.provenance import TrustRoot
from auditsvc.provenance.formats.dsse import check_ed25519, check_p256, ed25519_raw


def test_keys_are_made_on_first_use_and_found_again(tmp_path: Path) -> None:
    first, second = FileKeys(tmp_path / "keys"), FileKeys(tmp_path / "keys")
    for role in ("build", "audit", "release", "log"):
        assert first.signer(role).public_pem == second.signer(role).public_pem
        assert first.signer(role).role == role
    assert first.watermark_secret() == second.watermark_secret() != FileKeys(tmp_path / "b").watermark_secret()
    assert len({first.signer(role).public_pem for role in ("build", "audit", "release", "log")}) == 4


def test_statements_are_signed_with_p256_and_checkpoints_with_ed25519(tmp_path: Path) -> None:
    keys = FileKeys(tmp_path)
    check_p256(keys.signer("release").public_pem, keys.signer("release").sign(b"x"), b"x")
    log = keys.signer("log")
    assert check_ed25519(ed25519_raw(log.public_pem), log.sign(b"x"), b"x")


def test_only_the_owner_can_read_private_keys(tmp_path: Path) -> None:
    FileKeys(tmp_path / "keys").signer("release")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "keys").iterdir()}
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert {name: modes[name] for name in modes if name.endswith((".key", ".secret"))} == dict.fromkeys(
        ["audit.key", "build.key", "log.key", "release.key", "watermark.secret"], 0o600
    )
    assert not [name for name in modes if "partial" in name]


def test_the_trust_policy_beside_the_keys_names_them(tmp_path: Path) -> None:
    keys = FileKeys(tmp_path)
    keys.signer("build")
    assert TrustRoot.load(tmp_path / "trust-policy.json") == TrustRoot.of_keys(keys)
    known = TrustRoot.of_keys(keys).keys
    assert TrustRoot.load(tmp_path / "release.pub").keys == tuple(key for key in known if key.role == "release")


def test_a_private_key_is_never_printed(tmp_path: Path) -> None:
    assert "key" not in repr(FileKeys(tmp_path).signer("release")).replace("FileSigner(role='release'", "")


def test_many_starters_end_up_with_the_same_keys(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        pems = list(pool.map(lambda _: FileKeys(tmp_path).signer("release").public_pem, range(8)))
    assert len(set(pems)) == 1
    assert (tmp_path / "release.pub").read_bytes() == pems[0]


def test_a_passphrase_encrypts_keys_and_is_needed_again(tmp_path: Path) -> None:
    pem = FileKeys(tmp_path, b"secret").signer("release").public_pem
    assert b"ENCRYPTED" in (tmp_path / "release.key").read_bytes()
    assert FileKeys(tmp_path, b"secret").signer("release").public_pem == pem
    with pytest.raises(Unavailable, match="give the passphrase"):
        FileKeys(tmp_path).signer("release")
    with pytest.raises(Unavailable, match="passphrase is wrong"):
        FileKeys(tmp_path, b"wrong").signer("release")


def test_another_kind_of_key_is_refused(tmp_path: Path) -> None:
    FileKeys(tmp_path).signer("release")
    key = ec.generate_private_key(ec.SECP384R1())
    (tmp_path / "release.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(InvalidInput, match="ECDSA P-256"):
        FileKeys(tmp_path).signer("release")
    (tmp_path / "release.key").write_bytes(b"rubbish")
    with pytest.raises(InvalidInput, match="no private key"):
        FileKeys(tmp_path).signer("release")


def test_a_short_watermark_secret_is_refused(tmp_path: Path) -> None:
    FileKeys(tmp_path).signer("release")
    (tmp_path / "watermark.secret").chmod(0o600)
    (tmp_path / "watermark.secret").write_bytes(b"short")
    with pytest.raises(InvalidInput, match="32 bytes"):
        FileKeys(tmp_path).watermark_secret()


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(Unavailable, match="cannot write keys into"):
        FileKeys(tmp_path / "file" / "keys").signer("release")
