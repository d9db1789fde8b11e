"""What is published for readers follows what is known here."""

from __future__ import annotations

import datetime

from auditsvc.provenance import TrustRoot, verify
from auditsvc.provenance.trust.tuf_repository import TrustRepository
from auditsvc.records import Submission
from auditsvc.services.key_rotation import keep_fresh, publish
from auditsvc.services.release import release_folder, revoke
from tests.services.test_sealed import released


def test_a_recall_reaches_readers_with_the_next_publication(line):
    ports = line[0]
    sealed = released(line, ports)
    (submission,) = ports.ledger.find(Submission, line[2].digest)
    folder, pinned = release_folder(ports, submission), ports.keys.signer("release").public_pem

    def verdict():
        trust = TrustRoot.from_repository(keep_fresh(ports), pinned, ports.clock.now())
        return verify(folder / "release", folder / "attest", trust=trust, at=ports.clock.now()).verdict

    assert verdict() == "VALID"
    revoke(sealed, "fails at night", "ann", "bob", ports)
    assert verdict() == "REVOKED"


def test_it_is_published_again_before_it_ends_and_not_more_often(line):
    ports = line[0]
    pinned = ports.keys.signer("release").public_pem

    def version():
        return TrustRepository.read(keep_fresh(ports), pinned, ports.clock.now()).versions.timestamp

    assert [version(), version()] == [1, 1]
    ports.clock.forward(days=1)
    assert version() == 2
    publish(ports)
    assert version() == 3
    assert (
        TrustRepository.read(keep_fresh(ports), pinned, ports.clock.now() + datetime.timedelta(hours=11)).faults == ()
    )
