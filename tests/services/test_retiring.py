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
    ports, line, _ = house
    decision = judged((ports, *line[1:]), policy())
    for person in ("ann", "bob"):
        approve(decision, person, ports)
    release(line[2], decision, ports)
    (submission,) = ports.ledger.find(Submission, line[2].digest)
    return release_folder(ports, submission)


def verdict(folder, trust, ports):
    found = verify(folder / "release", folder / "attest", trust=trust, at=ports.clock.now())
    return found.verdict, {step.code for step in found.reasons}


def test_what_a_retired_key_signed_still_holds_and_the_new_key_signs_on(house):
    ports, _, keys = house
    folder, old = sealed(house), keys.signer("release").public_pem
    retire("release", "a year is over", "ann", ports, keys, confirmed_by="cho")
    assert keys.signer("release").public_pem != old == (keys.folder / "release.retired-1.pub").read_bytes()
    assert FileKeys(keys.folder).signer("release").public_pem == keys.signer("release").public_pem
    assert verdict(folder, trust_of(ports), ports) == ("VALID", set())
    trust = TrustRoot.from_policy(trust_of(ports).to_json())
    assert verdict(folder, trust, ports) == ("VALID", set())
    current = next(key for key in trust.keys if key.role == "release" and key.not_after_log_index is None)
    assert current.from_log_index > 0


def test_a_retired_key_that_is_still_used_makes_nothing_valid(house, tmp_path):
    ports, _, keys = house
    kept = FileKeys(keys.folder)
    kept.signer("release")
    retire("release", "a year is over", "ann", ports, keys, confirmed_by="cho")
    with pytest.raises(Conflict, match="KEY_WINDOW"):
        sealed((replace(ports, keys=kept), house[1], kept))


def test_a_key_in_foreign_hands_takes_what_was_logged_since_with_it(house):
    ports, _, keys = house
    before = ports.log.size()
    folder = sealed(house)
    assert verdict(folder, trust_of(ports), ports)[0] == "VALID"
    retire("release", "a laptop was lost", "ann", ports, keys, confirmed_by="cho", compromised_since=before)
    assert verdict(folder, trust_of(ports), ports) == ("INVALID", {"KEY_COMPROMISED"})


def test_that_a_key_was_in_foreign_hands_may_become_known_later(house):
    ports, _, keys = house
    before, pem = ports.log.size(), keys.signer("audit").public_pem.decode()
    folder = sealed(house)
    retire("audit", "a year is over", "ann", ports, keys, confirmed_by="cho")
    assert verdict(folder, trust_of(ports), ports)[0] == "VALID"
    compromise(pem, before, "found in a paste", "bob", ports, confirmed_by="cho")
    assert verdict(folder, trust_of(ports), ports) == ("INVALID", {"KEY_COMPROMISED"})
    with pytest.raises(InvalidInput, match="no retired key"):
        compromise(keys.signer("audit").public_pem.decode(), 0, "x", "bob", ports, confirmed_by="cho")


def test_readers_who_pinned_the_old_release_key_follow_to_the_new_one(house):
    ports, _, keys = house
    folder, pinned = sealed(house), keys.signer("release").public_pem
    publish(ports)
    retire("release", "a year is over", "ann", ports, keys, confirmed_by="cho")
    retire("build", "a year is over", "ann", ports, keys, confirmed_by="cho")
    trust = TrustRoot.from_repository(trust_folder(ports), pinned, ports.clock.now())
    assert (trust.trouble, verdict(folder, trust, ports)) == ((), ("VALID", set()))
    assert trust.key(trust_of(ports).of_role("build")[0].hint) is not None


def test_a_retirement_that_was_killed_is_finished_by_the_same_call(house, monkeypatch):
    ports, _, keys = house
    folder, pinned = sealed(house), keys.signer("release").public_pem
    publish(ports)

    def killed(role, successor):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(keys, "succeed", killed)
        with pytest.raises(KeyboardInterrupt):
            retire("release", "a year is over", "ann", ports, keys, confirmed_by="cho")
    retire("release", "a year is over", "ann", ports, keys, confirmed_by="cho")
    assert len(ports.ledger.find(Retirement, "release")) == 1
    trust = TrustRoot.from_repository(trust_folder(ports), pinned, ports.clock.now())
    assert (trust.trouble, verdict(folder, trust, ports)) == ((), ("VALID", set()))
    assert not list(keys.folder.glob("*.next.key"))


def test_nonsense_is_refused(house):
    ports, _, keys = house
    with pytest.raises(InvalidInput, match="entries"):
        retire("build", "x", "ann", ports, keys, confirmed_by="cho", compromised_since=10**6)
    with pytest.raises(InvalidInput, match="the key that is to be retired"):
        retire("build", "x", "ann", ports, keys, confirmed_by="cho", successor=keys.signer("build"))
    assert ports.ledger.find(Retirement, "build") == ()


def test_a_key_changes_by_two_people(house):
    ports, _, keys = house
    before = keys.signer("release").public_pem
    for same in ("ann", "Ann"):
        with pytest.raises(Conflict, match="can't confirm"):
            retire("release", "a year is over", "ann", ports, keys, confirmed_by=same)
    assert keys.signer("release").public_pem == before
