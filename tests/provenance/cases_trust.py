"""Case 64: recalls, and trust that is old, rolled back or not signed."""

from __future__ import annotations

import datetime
import json
import shutil
from pathlib import Path

from auditsvc.adapters.file_keys import FileKeys
from auditsvc.provenance import TrustRoot
from auditsvc.provenance.trust.trust_root import RevocationList, RevokedDigest, revoked_digests
from auditsvc.provenance.trust.tuf_repository import ROLES, TrustRepository, TufRoles, publish, rotate
from auditsvc.records import Revocation, Verification
from tests.provenance.cases import case
from tests.provenance.forge import Forge
from tests.provenance.sample import AT


def revocation(forge: Forge) -> Revocation:
    return Revocation(
        release=forge.sealed.digest, reason="fails at night", requested_by="ada", confirmed_by="ben", at=AT
    )


def tuf_roles(forge: Forge) -> TufRoles:
    return TufRoles.all_by(forge.keys.signer("release"))


def published(forge: Forge, revocations: RevocationList | None = None, at: datetime.datetime = AT) -> Path:
    """A repository of trust, as the house publishes it."""
    folder = forge.folder / "tuf"
    known = revocations or RevocationList(issued=at)
    targets = {"trust-policy.json": forge.trust.to_json(), "revocations.json": known.to_json()}
    publish(folder, targets, tuf_roles(forge), at)
    return folder


def read(forge: Forge, folder: Path, at: datetime.datetime = AT, **more) -> TrustRoot:
    return TrustRoot.from_repository(folder, forge.keys.signer("release").public_pem, at, **more)


@case(64, "a recalled release, replayed with its old bundles", "REVOKED", verdict="REVOKED")
def _(forge: Forge) -> Verification:
    revocations = RevocationList(issued=AT, revocations=revoked_digests(revocation(forge), forge.sealed))
    return forge.verify(read(forge, published(forge, revocations)))


for _title, _subject in {
    "a file": lambda forge: forge.sealed.files[1].digest,
    "a statement": lambda forge: forge.bundle("audit-accuracy").payload_digest,
    "the decision": lambda forge: forge.sealed.decision,
    "the parent": lambda forge: forge.sealing.parent.digest,
    "a file of the parent": lambda forge: forge.sealing.parent.files[0].digest,
}.items():

    @case(64, f"a recall of {_title}", "REVOKED", verdict="REVOKED")
    def _(forge: Forge, subject=_subject) -> Verification:
        recall = RevokedDigest(subject=subject(forge), reason="withdrawn", at=AT)
        return forge.verify(forge.trust.with_revocations(RevocationList(issued=AT, revocations=(recall,))))


@case(64, "frozen metadata: the timestamp ended", "STALE_TRUST", verdict="UNKNOWN")
def _(forge: Forge) -> Verification:
    return forge.verify(read(forge, published(forge), AT + datetime.timedelta(hours=25)))


@case(64, "metadata that was rolled back", "TRUST_ROLLBACK", verdict="UNKNOWN")
def _(forge: Forge) -> Verification:
    old = published(forge)
    shutil.copytree(old, forge.folder / "old")
    published(forge, RevocationList(issued=AT, revocations=revoked_digests(revocation(forge), forge.sealed)))
    pinned = forge.keys.signer("release").public_pem
    seen = TrustRepository.read(old, pinned, AT).versions
    return forge.verify(read(forge, forge.folder / "old", seen=seen))


@case(64, "a root that one of two keys signed", "STALE_TRUST", verdict="UNKNOWN")
def _(forge: Forge) -> Verification:
    first, second = forge.keys.signer("release"), FileKeys(forge.folder / "second").signer("release")
    thresholds = dict.fromkeys(ROLES, 1) | {"root": 2}
    weak = TufRoles(dict.fromkeys(ROLES, (first,)), thresholds)
    strong = TufRoles({role: (first, second) if role == "root" else (first,) for role in ROLES}, thresholds)
    folder = published(forge)
    rotate(folder, tuf_roles(forge), strong, AT)
    rotate(folder, weak, strong, AT)
    path = folder / "metadata" / "3.root.json"
    value = json.loads(path.read_bytes())
    value["signatures"] = value["signatures"][:1]
    path.write_text(json.dumps(value))
    return forge.verify(read(forge, folder))


@case(64, "a root of another house", "STALE_TRUST", verdict="UNKNOWN")
def _(forge: Forge) -> Verification:
    folder = published(forge)
    pinned = FileKeys(forge.folder / "theirs").signer("release").public_pem
    return forge.verify(TrustRoot.from_repository(folder, pinned, AT))


@case(64, "a list of recalls that was cut short", "STALE_TRUST", verdict="UNKNOWN")
def _(forge: Forge) -> Verification:
    revocations = RevocationList(issued=AT, revocations=revoked_digests(revocation(forge), forge.sealed))
    folder = published(forge, revocations)
    target = next((folder / "targets").glob("*.revocations.json"))
    target.write_bytes(target.read_bytes()[:40])
    return forge.verify(read(forge, folder))


@case(64, "metadata that was taken away", "STALE_TRUST", verdict="UNKNOWN")
def _(forge: Forge) -> Verification:
    folder = published(forge)
    (folder / "metadata" / "timestamp.json").unlink()
    return forge.verify(read(forge, folder))


@case(64, "no list of recalls where one is required", "STALE_TRUST", verdict="UNKNOWN")
def _(forge: Forge) -> Verification:
    return forge.verify(forge.require(max_metadata_age_hours=24))


@case(64, "a list of recalls that is too old", "STALE_TRUST", verdict="UNKNOWN")
def _(forge: Forge) -> Verification:
    old = RevocationList(issued=AT - datetime.timedelta(hours=48))
    return forge.verify(forge.require(max_metadata_age_hours=24).with_revocations(old))
