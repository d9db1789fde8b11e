"""A release whose parent is a release too: what is wrong with the parent is wrong with the child."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from auditsvc.provenance import TrustRoot, sign_release, verify
from auditsvc.provenance.trust.trust_root import RevocationList, RevokedDigest
from auditsvc.records import Parent, Verification, digest_of
from tests.provenance.sample import AT, FILES, entries, house, sealing, write


class Line:
    """Three generations: each release was made of the one before it."""

    def __init__(self, folder: Path) -> None:
        self.folders = [folder / name for name in ("first", "second", "third")]
        self.keys, self.log = house(folder)
        parent = sealing().parent
        for number, place in enumerate(self.folders):
            files = {**FILES, "weights.safetensors": FILES["weights.safetensors"] + bytes([number])}
            write(place / "release", files)
            made = self.made(files, parent)
            sign_release(place, made, keys=self.keys, log=self.log, at=AT)
            parent = Parent(**{**made.parent.model_dump(), "files": entries(files)})
        self.trust = TrustRoot.of_keys(self.keys)

    def made(self, files: dict[str, bytes], parent: Parent):
        made = sealing()
        candidate = made.candidate.model_copy(update={"files": entries(files), "parent": parent.digest})
        evidence = tuple(
            item.model_copy(update={"key": item.key.model_copy(update={"candidate": candidate.digest})})
            for item in made.evidence
        )
        known = dict(zip((old.digest for old in made.evidence), (new.digest for new in evidence), strict=True))
        judged = tuple(one.model_copy(update={"evidence": known[one.evidence]}) for one in made.decision.judgements)
        changes = {"candidate": candidate.digest, "evidence": tuple(known.values()), "judgements": judged}
        decision = made.decision.model_copy(update=changes)
        consents = {"decision": decision.digest, "candidate": candidate.digest}
        approvals = tuple(item.model_copy(update=consents) for item in made.approvals)
        parts = {"candidate": candidate, "parent": parent, "evidence": evidence, "decision": decision}
        return replace(made, **parts, approvals=approvals)

    def verify(self, *parents: Path, trust: TrustRoot | None = None) -> Verification:
        last = self.folders[-1]
        return verify(last / "release", last / "attest", trust=trust or self.trust, at=AT, parents=parents)


@pytest.fixture(scope="module")
def line(house_path: Path) -> Line:
    return Line(house_path)


def step(found: Verification) -> str:
    return next(one.detail for one in found.steps if one.step == "parent")


def test_the_parents_release_is_verified_and_its_parents(line: Line) -> None:
    found = line.verify(*line.folders[:2])
    assert (found.verdict, found.reasons) == ("VALID", ())
    assert step(found) == "the parent's release in second is VALID"


def test_without_the_parents_release_that_is_a_note(line: Line) -> None:
    found = line.verify()
    assert found.verdict == "VALID"
    assert any("was not verified" in note for note in found.notes)


def test_another_release_is_not_the_parents(line: Line) -> None:
    found = line.verify(line.folders[0])
    assert found.verdict == "INVALID"
    assert [(one.step, one.code) for one in found.reasons] == [("parent", "PROVENANCE")]


def test_what_is_wrong_with_a_grandparent_is_wrong_with_the_child(line: Line) -> None:
    path = line.folders[0] / "attest" / "decision.json"
    good = path.read_bytes()
    try:
        path.write_bytes(good.replace(b"approved", b"approvec", 1))
        found = line.verify(*line.folders[:2])
    finally:
        path.write_bytes(good)
    assert found.verdict == "INVALID"
    assert "first is INVALID" in found.reasons[0].detail


def test_a_recalled_grandparent_recalls_the_child(line: Line) -> None:
    files = entries({**FILES, "weights.safetensors": FILES["weights.safetensors"] + b"\0"})
    weights = next(file.digest for file in files if file.name == "weights.safetensors")
    revocations = RevocationList(issued=AT, revocations=(RevokedDigest(subject=weights, reason="biased", at=AT),))
    assert line.verify(trust=line.trust.with_revocations(revocations)).verdict == "VALID"
    assert line.verify(*line.folders[:2], trust=line.trust.with_revocations(revocations)).verdict == "REVOKED"
    other = RevocationList(issued=AT, revocations=(RevokedDigest(subject=digest_of(b"x"), reason="other", at=AT),))
    assert line.verify(*line.folders[:2], trust=line.trust.with_revocations(other)).verdict == "VALID"
