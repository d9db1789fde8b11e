"""Keys come and go; what was signed while they counted still holds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from auditsvc.adapters.file_keys import FileKeys
from auditsvc.errors import Conflict, InvalidInput
from auditsvc.provenance import TrustRoot, verify
from auditsvc.records import Retirement, Submission
from auditsvc.services.decisions import approve
from auditsvc.services.key_rotation import compromise, publish, retire, trust_folder
from auditsvc.services.release import release, release_folder
from auditsvc.services.signing_context import trust_of
from tests.services.line import policy
from tests.services.test_sealed import judged


@pytest.fixture
def house(line, tmp_path):
    """The line with keys in files."""
    keys = FileKeys(tmp_path / "keys")
    return replace(line[0], keys=keys), line, keys


def sealed(house):
    ctx, line, _ = house
    decision = judged((ctx, *line[1:]), policy())
    for person in ("ann", "bob"):
        approve(ctx, decision, person)
    release(ctx, line[2], decision)
    (submission,) = ctx.ledger.find(Submission, line[2].digest)
    return release_folder(ctx, submission)


def verdict(ctx, folder, trust):
    found = verify(folder / "release", folder / "attest", trust=trust, at=ctx.clock.now())
    return found.verdict, {step.code for step in found.reasons}


def test_what_a_retired_key_signed_still_holds_and_the_new_key_signs_on(house):
    ctx, _, keys = house
    folder, old = sealed(house), keys.signer("release").public_pem
    retire(ctx, "release", "a year is over", "ann", keys, confirmed_by="cho")
    assert keys.signer("release").public_pem != old == (keys.folder / "release.retired-1.pub").read_bytes()
    assert FileKeys(keys.folder).signer("release").public_pem == keys.signer("release").public_pem
    assert verdict(ctx, folder, trust_of(ctx)) == ("VALID", set())
    trust = TrustRoot.from_policy(trust_of(ctx).to_json())
    assert verdict(ctx, folder, trust) == ("VALID", set())
    current = next(key for key in trust.keys if key.role == "release" and key.not_after_log_index is None)
    assert current.from_log_index > 0


def test_a_retired_key_that_is_still_used_makes_nothing_valid(house, tmp_path):
    ctx, _, keys = house
    kept = FileKeys(keys.folder)
    kept.signer("release")
    retire(ctx, "release", "a year is over", "ann", keys, confirmed_by="cho")
    with pytest.raises(Conflict, match="KEY_WINDOW"):
        sealed((replace(ctx, keys=kept), house[1], kept))


def test_a_key_in_foreign_hands_takes_what_was_logged_since_with_it(house):
    ctx, _, keys = house
    before = ctx.log.size()
    folder = sealed(house)
    assert verdict(ctx, folder, trust_of(ctx))[0] == "VALID"
    retire(ctx, "release", "a laptop was lost", "ann", keys, confirmed_by="cho", compromised_since=before)
    assert verdict(ctx, folder, trust_of(ctx)) == ("INVALID", {"KEY_COMPROMISED"})


def test_that_a_key_was_in_foreign_hands_may_become_known_later(house):
    ctx, _, keys = house
    before, pem = ctx.log.size(), keys.signer("audit").public_pem.decode()
    folder = sealed(house)
    retire(ctx, "audit", "a year is over", "ann", keys, confirmed_by="cho")
    assert verdict(ctx, folder, trust_of(ctx))[0] == "VALID"
    compromise(ctx, pem, before, "found in a paste", "bob", confirmed_by="cho")
    assert verdict(ctx, folder, trust_of(ctx)) == ("INVALID", {"KEY_COMPROMISED"})
    with pytest.raises(InvalidInput, match="no retired key"):
        compromise(ctx, keys.signer("audit").public_pem.decode(), 0, "x", "bob", confirmed_by="cho")


def test_readers_who_pinned_the_old_release_key_follow_to_the_new_one(house):
    ctx, _, keys = house
    folder, pinned = sealed(house), keys.signer("release").public_pem
    publish(ctx)
    retire(ctx, "release", "a year is over", "ann", keys, confirmed_by="cho")
    retire(ctx, "build", "a year is over", "ann", keys, confirmed_by="cho")
    trust = TrustRoot.from_repository(trust_folder(ctx), pinned, ctx.clock.now())
    assert (trust.problems, verdict(ctx, folder, trust)) == ((), ("VALID", set()))
    assert trust.key(next(key.hint for key in trust_of(ctx).keys if key.role == "build")) is not None


def test_a_retirement_that_was_killed_is_finished_by_the_same_call(house, monkeypatch):
    ctx, _, keys = house
    folder, pinned = sealed(house), keys.signer("release").public_pem
    publish(ctx)

    def killed(role, successor):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(keys, "succeed", killed)
        with pytest.raises(KeyboardInterrupt):
            retire(ctx, "release", "a year is over", "ann", keys, confirmed_by="cho")
    retire(ctx, "release", "a year is over", "ann", keys, confirmed_by="cho")
    assert len(ctx.ledger.find(Retirement, "release")) == 1
    trust = TrustRoot.from_repository(trust_folder(ctx), pinned, ctx.clock.now())
    assert (trust.problems, verdict(ctx, folder, trust)) == ((), ("VALID", set()))
    assert not list(keys.folder.glob("*.next.key"))


def test_nonsense_is_refused(house):
    ctx, _, keys = house
    with pytest.raises(InvalidInput, match="entries"):
        retire(ctx, "build", "x", "ann", keys, confirmed_by="cho", compromised_since=10**6)
    with pytest.raises(InvalidInput, match="the key that is to be retired"):
        retire(ctx, "build", "x", "ann", keys, confirmed_by="cho", successor=keys.signer("build"))
    assert ctx.ledger.find(Retirement, "build") == ()


def test_a_key_changes_by_two_people(house):
    ctx, _, keys = house
    before = keys.signer("release").public_pem
    for same in ("ann", "Ann"):
        with pytest.raises(Conflict, match="can't confirm"):
            retire(ctx, "release", "a year is over", "ann", keys, confirmed_by=same)
    assert keys.signer("release").public_pem == before
