"""A decision against a release is attested too, and only what was verified is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auditsvc.errors import InvalidInput, NotVerified
from auditsvc.provenance import load_verified, sign_rejection, verify
from auditsvc.provenance.formats.dsse import Bundle
from auditsvc.provenance.trust.trust_root import TrustRoot
from tests.provenance.forge import Forge
from tests.provenance.sample import AT, FILES, house, sealing, write


def test_a_refusal_is_signed_and_logged_and_never_valid(tmp_path: Path) -> None:
    write(tmp_path / "release", FILES)
    keys, log = house(tmp_path)
    made = sealing(value=0.3)
    files = sign_rejection(tmp_path, made, keys=keys, log=log, at=AT)
    names = {file.name for file in files if file.name.endswith(".sigstore.json")}
    assert names == {
        f"{name}.sigstore.json" for name in ("audit-accuracy", "audit-lighting", "bom", "provenance", "vsa")
    }
    summary = json.loads(Bundle.parse((tmp_path / "refusal" / "vsa.sigstore.json").read_bytes()).payload)["predicate"]
    assert (summary["verificationResult"], summary["verifiedLevels"]) == ("FAILED", ["FAILED"])
    found = verify(tmp_path / "release", tmp_path / "refusal", trust=TrustRoot.of_keys(keys), at=AT)
    assert found.verdict == "INVALID"
    assert "NOT_PASSED" in {step.code for step in found.reasons}
    assert log.size() == 8
    assert sign_rejection(tmp_path, made, keys=keys, log=log, at=AT) == files
    assert not list(tmp_path.glob("attest*"))


def test_a_refusal_needs_a_decision_against_the_release(tmp_path: Path) -> None:
    keys, log = house(tmp_path)
    with pytest.raises(InvalidInput, match="release it instead"):
        sign_rejection(tmp_path, sealing(), keys=keys, log=log, at=AT)


def test_verified_files_are_loaded_from_memory(tmp_path: Path) -> None:
    forge = Forge(tmp_path)
    loaded = load_verified(tmp_path, trust=tmp_path / "keys" / "release.pub", resource="pkg:mlflow/faces@3", at=AT)
    (forge.release / "weights.safetensors").write_bytes(b"swapped after verifying")
    assert loaded.files == FILES
    assert loaded.weights == FILES["weights.safetensors"]
    assert loaded.verification.verdict == "VALID"
    with pytest.raises(NotVerified, match="DIGEST_MISMATCH"):
        load_verified(tmp_path, trust=forge.trust, at=AT)


def test_another_model_than_was_asked_for_is_not_loaded(tmp_path: Path) -> None:
    forge = Forge(tmp_path)
    with pytest.raises(NotVerified, match="RESOURCE"):
        load_verified(tmp_path, trust=forge.trust, resource="pkg:mlflow/other@1", at=AT)


def test_one_weights_file_is_found_and_several_are_not_guessed(tmp_path: Path) -> None:
    files = {**FILES, "more.safetensors": b"m"}
    forge = Forge(tmp_path, files)
    with pytest.raises(InvalidInput, match="2 safetensors files"):
        _ = load_verified(tmp_path, trust=forge.trust, at=AT).weights
