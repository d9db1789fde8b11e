"""Tell the world whom to trust and what was recalled, again and again: readers want it less than a day old."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from auditsvc.pipeline.sealed import trust_of
from auditsvc.ports import Ports
from auditsvc.provenance import publish_trust
from auditsvc.provenance.layout import REVOCATIONS, TRUST_POLICY
from auditsvc.provenance.metadata import ROLES
from auditsvc.provenance.recalls import Recalls, recalls_of
from auditsvc.provenance.repository import LIFETIMES, TrustRepository
from auditsvc.records import Release, Revocation


def trust_folder(ports: Ports) -> Path:
    """Where the published trust (TUF) lies in the store."""
    return ports.folder / "trust"


def revoked(ports: Ports) -> Iterator[tuple[Revocation, Release]]:
    """Every revocation with its release, oldest first."""
    for revocation in ports.ledger.all(Revocation):
        yield revocation, ports.ledger.get(Release, revocation.release)


def publish(ports: Ports, folder: Path | None = None) -> Recalls:
    """Publish the next version of trust and recalls.

    Raises:
        Unavailable: the disk or the keys failed; readers see the version before.
    """
    trust, at = trust_of(ports), ports.clock.now()
    return publish_trust(folder or trust_folder(ports), revoked(ports), keys=ports.keys, at=at, trust=trust)


def keep_fresh(ports: Ports) -> Path:
    """The folder of the published trust, published again if it is half way to its end or not what is known now.

    Raises:
        Unavailable: the disk or the keys failed.
    """
    folder, now = trust_folder(ports), ports.clock.now()
    half = min(LIFETIMES[role] for role in ROLES) / 2
    found = TrustRepository.read(folder, ports.keys.signer("release").public_pem, now + half)
    known = {recall for pair in revoked(ports) for recall in recalls_of(*pair)}
    told = Recalls.parse(found.targets[REVOCATIONS]).recalls if REVOCATIONS in found.targets else ()
    same = found.targets.get(TRUST_POLICY) == trust_of(ports).to_json() and set(told) == known
    if found.faults or not same:
        publish(ports, folder)
    return folder
