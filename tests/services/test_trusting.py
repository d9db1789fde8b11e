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
    ctx = line[0]
    sealed = released(ctx, line)
    (submission,) = ctx.ledger.find(Submission, line[2].digest)
    folder, pinned = release_folder(ctx, submission), ctx.keys.signer("release").public_pem

    def verdict():
        trust = TrustRoot.from_repository(keep_fresh(ctx), pinned, ctx.clock.now())
        return verify(folder / "release", folder / "attest", trust=trust, at=ctx.clock.now()).verdict

    assert verdict() == "VALID"
    revoke(ctx, sealed, "fails at night", "ann", "bob")
    assert verdict() == "REVOKED"


def test_it_is_published_again_before_it_ends_and_not_more_often(line):
    ctx = line[0]
    pinned = ctx.keys.signer("release").public_pem

    def version():
        return TrustRepository.read(keep_fresh(ctx), pinned, ctx.clock.now()).versions.timestamp

    assert [version(), version()] == [1, 1]
    ctx.clock.forward(days=1)
    assert version() == 2
    publish(ctx)
    assert version() == 3
    assert TrustRepository.read(keep_fresh(ctx), pinned, ctx.clock.now() + datetime.timedelta(hours=11)).faults == ()
