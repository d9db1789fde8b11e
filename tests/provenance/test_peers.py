"""Peers' own tools accept what we make and refuse what is bent; we accept what they make."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from auditsvc.adapters.file_keys import FileKeys
from auditsvc.provenance import TrustRoot, sign_folder, verify_folder
from auditsvc.provenance.formats.signed_note import Checkpoint, NoteKey, sign_checkpoint
from auditsvc.provenance.trust.trust_root import log_origin, trusted_root
from tests.fakes.log import MemoryLog
from tests.provenance import peers
from tests.provenance.authority import Authority
from tests.provenance.forge import Forge, b64
from tests.provenance.sample import AT, write

pytestmark = pytest.mark.slow

NESTED = {"a/b": b"1", "a.txt": b"2", "a-b": b"3", "weights.safetensors": b"4" * 1000}
NAMES = ("audit-accuracy", "audit-lighting", "bom", "oms", "provenance", "vsa")


@pytest.fixture(scope="module")
def model_signing() -> Path:
    return peers.or_skip(peers.model_signing)


def theirs(python: Path, *words: str | Path) -> bool:
    made = peers.run(python, "-m", "model_signing", *words)
    return made.returncode == 0 and b"succeeded" in made.stdout + made.stderr


def trust_of(keys: FileKeys) -> TrustRoot:
    return TrustRoot.from_pem(keys.signer("release").public_pem)


def test_model_signing_verifies_a_release(tmp_path: Path, model_signing: Path) -> None:
    forge = Forge(tmp_path)
    words = ("verify", "key", "--signature", forge.path("oms"), "--public_key", tmp_path / "keys" / "release.pub")
    assert theirs(model_signing, *words, forge.release)
    (forge.release / "config.json").write_bytes(b"{ }")
    assert not theirs(model_signing, *words, forge.release)


@pytest.mark.parametrize("files", [{"one": b""}, NESTED])
def test_each_verifies_what_the_other_signed(tmp_path: Path, model_signing: Path, files: dict[str, bytes]) -> None:
    folder, keys = write(tmp_path / "model", files), FileKeys(tmp_path / "keys")
    key, signer = tmp_path / "keys" / "release.pub", keys.signer("release")
    (tmp_path / "ours.sig").write_bytes(sign_folder(folder, signer, "model"))
    assert theirs(model_signing, "verify", "key", "--signature", tmp_path / "ours.sig", "--public_key", key, folder)
    signature = folder / "theirs.sig"
    private = tmp_path / "keys" / "release.key"
    assert theirs(model_signing, "sign", "key", "--private_key", private, "--signature", signature, folder)
    found = verify_folder(folder, signature, trust=trust_of(keys), at=AT)
    assert (found.verdict, found.reasons) == ("VALID", ())
    (folder / ".gitattributes").write_bytes(b"evil")
    assert verify_folder(folder, signature, trust=trust_of(keys), at=AT).verdict == "INVALID"


@pytest.fixture(scope="module")
def sigstore_js() -> Path:
    return peers.or_skip(peers.sigstore_js)


def in_js(modules: Path, forge: Forge, stamps: int = 0) -> bool:
    root = forge.folder / "trusted_root.json"
    pairs = [part for name in NAMES for part in (forge.folder / "keys" / f"{forge.role(name)}.pub", forge.path(name))]
    script = Path(__file__).parent / "verify_bundles.mjs"
    made = peers.run("node", script, modules, root, str(stamps), *pairs)
    return made.returncode == 0 and made.stdout.count(b"OK") == len(NAMES)


def test_sigstore_js_verifies_every_attestation_and_its_place_in_the_log(tmp_path: Path, sigstore_js: Path) -> None:
    forge = Forge(tmp_path)
    (tmp_path / "trusted_root.json").write_bytes(trusted_root(forge.trust))
    assert in_js(sigstore_js, forge)
    bundle = forge.bundle("vsa")
    bent = dataclasses.replace(bundle.entries[0], hashes=(b"\0" * 32,) * len(bundle.entries[0].hashes))
    forge.path("vsa").write_bytes(bundle.logged(bent).to_json())
    assert not in_js(sigstore_js, forge)


def test_sigstore_js_verifies_timestamps(tmp_path: Path, sigstore_js: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("needs the command openssl")
    forge, authority = Forge(tmp_path), Authority(tmp_path / "tsa")
    for name in NAMES:
        bundle = forge.bundle(name)
        stamp = authority.stamp(bundle.signature)
        forge.path(name).write_bytes(dataclasses.replace(bundle, timestamps=(stamp,)).to_json())
    trust = forge.require(timestamp=True).model_copy(update={"timestamp_authorities": (authority.chain,)})
    assert forge.verify(trust).verdict == "VALID"
    (tmp_path / "trusted_root.json").write_bytes(trusted_root(trust))
    assert in_js(sigstore_js, forge, stamps=1)


@pytest.mark.parametrize(("old", "index", "size"), [(1, 0, 1), (3, 5, 8), (100, 42, 1000), (999, 999, 1000)])
def test_go_verifies_checkpoints_and_proofs(tmp_path: Path, old: int, index: int, size: int) -> None:
    binary = peers.or_skip(peers.go_log)
    keys, log = FileKeys(tmp_path), MemoryLog([b"leaf %d" % at for at in range(size)])
    origin, signer = log_origin(keys), keys.signer("log")
    given = {
        "Vkey": NoteKey.of_pem(origin, signer.public_pem).vkey,
        "Note": sign_checkpoint(Checkpoint(origin, size, log.root(size)), signer),
        "OldNote": sign_checkpoint(Checkpoint(origin, old, log.root(old)), signer),
        "Index": index,
        "Leaf": b64(log.leaves[index]),
        "Inclusion": [b64(node) for node in log.inclusion(index, size)],
        "Consistency": [b64(node) for node in log.consistency(old, size)],
    }
    made = peers.run(binary, data=json.dumps(given).encode())
    assert (made.returncode, made.stdout) == (0, b"OK %d\n" % size)
    bent = {**given, "Leaf": b64(b"another leaf")}
    assert peers.run(binary, data=json.dumps(bent).encode()).returncode == 1


def test_a_bundle_that_carries_its_key_is_read_on_demand_only(tmp_path: Path) -> None:
    folder, keys = write(tmp_path / "model", NESTED), FileKeys(tmp_path / "keys")
    raw = json.loads(sign_folder(folder, keys.signer("release"), "model"))
    raw["verificationMaterial"]["publicKey"] = {"rawBytes": b64(keys.signer("release").public_pem)}
    (tmp_path / "old.sig").write_text(json.dumps(raw))
    trust = trust_of(keys)
    assert verify_folder(folder, tmp_path / "old.sig", trust=trust, at=AT).verdict == "INVALID"
    assert verify_folder(folder, tmp_path / "old.sig", trust=trust, at=AT, old_keys=True).verdict == "VALID"
    stranger = trust_of(FileKeys(tmp_path / "stranger"))
    assert verify_folder(folder, tmp_path / "old.sig", trust=stranger, at=AT, old_keys=True).verdict == "INVALID"
