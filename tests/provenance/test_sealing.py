"""An approved candidate becomes a release that a stranger can verify, and nothing else does."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from auditsvc.errors import Conflict, InvalidInput, NotApproved, Unavailable
from auditsvc.provenance import TrustRoot, sign_release, verify
from auditsvc.provenance.formats.dsse import Bundle
from auditsvc.records import Release
from tests.fakes.log import MemoryLog
from tests.provenance.sample import AT, FILES, house, sealing, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "release", FILES)
    return tmp_path


def checked(folder: Path, trust: str = "trust-policy.json"):
    root = TrustRoot.load(folder / "keys" / trust)
    return verify(folder / "release", folder / "attest", trust=root, at=AT)


def test_a_sealed_release_is_valid_under_the_trust_policy(folder: Path) -> None:
    keys, log = house(folder)
    release = sign_release(folder, sealing(), keys=keys, log=log, at=AT)
    found = checked(folder)
    assert (found.verdict, found.reasons) == ("VALID", ())
    assert [file.name for file in release.attestations] == [
        "audit-accuracy.sigstore.json",
        "audit-lighting.sigstore.json",
        "bom.sigstore.json",
        "oms.sigstore.json",
        "provenance.sigstore.json",
        "vsa.sigstore.json",
    ]
    assert Release.parse(release.canonical()) == release


def test_a_sealed_release_is_valid_with_the_release_key_alone(folder: Path) -> None:
    keys, log = house(folder)
    sign_release(folder, sealing(), keys=keys, log=log, at=AT)
    found = checked(folder, "release.pub")
    assert (found.verdict, found.reasons) == ("VALID", ())
    assert any("Only the release key was given" in note for note in found.notes)


def test_a_release_of_another_house_is_not_valid(folder: Path, tmp_path: Path) -> None:
    keys, log = house(folder)
    sign_release(folder, sealing(), keys=keys, log=log, at=AT)
    other, _ = house(tmp_path / "other")
    found = verify(folder / "release", folder / "attest", trust=TrustRoot.of_keys(other), at=AT)
    assert found.verdict == "INVALID"
    assert {step.code for step in found.reasons} == {"UNKNOWN_KEY"}


def test_sealing_again_gives_the_same_release_and_logs_nothing(folder: Path) -> None:
    keys, log = house(folder)
    first = sign_release(folder, sealing(), keys=keys, log=log, at=AT)
    size = log.size()
    assert sign_release(folder, sealing(), keys=keys, log=log, at=AT.replace(year=2027)) == first
    assert log.size() == size


class Interrupted(Exception):
    pass


class FailingLog(MemoryLog):
    """Stops after so many appends, like a process that is killed."""

    def __init__(self, left: int) -> None:
        self.left = left + 1
        super().__init__([b"one"])

    def append_leaf(self, data: bytes) -> int:
        if self.left == 0:
            raise Interrupted
        self.left -= 1
        return super().append_leaf(data)


@pytest.mark.parametrize("done", range(6))
def test_an_interrupted_seal_is_finished_with_the_signatures_that_it_has(folder: Path, done: int) -> None:
    keys, _ = house(folder)
    log = FailingLog(done)
    with pytest.raises(Interrupted):
        sign_release(folder, sealing(), keys=keys, log=log, at=AT)
    assert not (folder / "attest").exists()
    stored = {
        p.name: Bundle.parse(p.read_bytes()).signature for p in (folder / "attest.partial").glob("*.sigstore.json")
    }
    log.left = 100
    release = sign_release(folder, sealing(), keys=keys, log=log, at=AT.replace(year=2027))
    now = {p.name: Bundle.parse(p.read_bytes()).signature for p in (folder / "attest").glob("*.sigstore.json")}
    assert (stored, release.at, log.size()) == (now, AT, 7)
    assert checked(folder).verdict == "VALID"


def test_rubbish_left_by_a_crash_is_swept(folder: Path) -> None:
    keys, log = house(folder)
    write(folder / "attest.partial", {".oms.sigstore.json.partial": b"half", "vsa.sigstore.json": b"{", "x/y": b""})
    sign_release(folder, sealing(), keys=keys, log=log, at=AT)
    assert checked(folder).verdict == "VALID"


def not_approved(case: str):
    good = sealing()
    other = sealing({**FILES, "config.json": b"{}"})
    approvals = good.approvals
    return {
        "a rejected decision": sealing(value=0.3),
        "a decision on another candidate": replace(good, decision=other.decision, evidence=other.evidence),
        "too few approvals": replace(good, approvals=approvals[:1]),
        "one person twice": replace(good, approvals=(approvals[0], approvals[0].model_copy(update={"comment": "x"}))),
        "the submitter": replace(good, submitter="ada"),
        "approvals of another decision": replace(good, approvals=other.approvals),
        "another policy": replace(good, policy=good.policy.model_copy(update={"version": 2})),
    }[case]


@pytest.mark.parametrize(
    "case",
    [
        "a rejected decision",
        "a decision on another candidate",
        "too few approvals",
        "one person twice",
        "the submitter",
        "approvals of another decision",
        "another policy",
    ],
)
def test_what_is_not_approved_is_not_sealed(folder: Path, case: str) -> None:
    keys, log = house(folder)
    with pytest.raises((NotApproved, InvalidInput)):
        sign_release(folder, not_approved(case), keys=keys, log=log, at=AT)
    assert not list(folder.glob("attest*")) and log.size() == 3


def test_files_that_are_not_the_candidates_are_not_sealed(folder: Path) -> None:
    keys, log = house(folder)
    (folder / "release" / "config.json").write_bytes(b"{}")
    (folder / "release" / "extra").write_bytes(b"")
    with pytest.raises(InvalidInput) as caught:
        sign_release(folder, sealing(), keys=keys, log=log, at=AT)
    assert sorted(reason.split(":")[0] for reason in caught.value.reasons) == ["DIGEST_MISMATCH", "EXTRA_FILES"]


def test_a_folder_holds_one_release_only(folder: Path) -> None:
    keys, log = house(folder)
    sign_release(folder, sealing(), keys=keys, log=log, at=AT)
    with pytest.raises(Conflict):
        sign_release(folder, replace(sealing(), version="4"), keys=keys, log=log, at=AT)


def test_a_full_disk_is_one_clear_error(folder: Path) -> None:
    keys, log = house(folder)
    (folder / "attest.partial").write_text("a file where a folder is needed")
    with pytest.raises(Unavailable, match=r"attest\.partial"):
        sign_release(folder, sealing(), keys=keys, log=log, at=AT)


def test_the_log_gets_digests_and_signatures_only(folder: Path) -> None:
    keys, log = house(folder)
    sign_release(folder, sealing(), keys=keys, log=log, at=AT)
    for leaf in log.leaves[3:]:
        entry = json.loads(leaf)
        assert entry["kind"] == "hashedrekord"
        assert not re.search(r"\b(ada|ben|sam|faces)\b", leaf.decode())  # whole words: base64 may spell one by chance


def test_the_watermark_commitment_is_signed(folder: Path) -> None:
    keys, log = house(folder)
    made = sealing()
    sign_release(folder, made, keys=keys, log=log, at=AT)
    bundle = Bundle.parse((folder / "attest" / "provenance.sigstore.json").read_bytes())
    byproducts = json.loads(bundle.payload)["predicate"]["runDetails"]["byproducts"]
    assert byproducts[0]["digest"]["sha256"] == made.candidate.mark.commitment.removeprefix("sha256:")


def test_a_submitter_in_other_letters_is_the_same_person(folder: Path) -> None:
    keys, log = house(folder)
    with pytest.raises(NotApproved, match="cannot approve"):
        sign_release(folder, replace(sealing(), submitter="ADA"), keys=keys, log=log, at=AT)
