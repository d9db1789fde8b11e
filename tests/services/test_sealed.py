"""What is signed besides releases, and when nothing is signed at all."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from auditsvc.errors import Conflict
from auditsvc.provenance import TrustRoot, verify
from auditsvc.provenance.formats.dsse import Bundle
from auditsvc.records import Rule, Submission
from auditsvc.services.decisions import approve, judge
from auditsvc.services.measurement import measure_candidate
from auditsvc.services.release import refusal_folder, release, release_folder
from auditsvc.services.signing_context import checkpoint_store_of
from tests.fakes import MemoryLedger
from tests.services.line import bind, policy

STRICT = policy(rules=(Rule(rule="perfect", reading="accuracy/score.clean", at_least=2.0, why="nobody can"),))


def judged(line, rules):
    ctx, _, candidate, dataset = line
    bind(ctx, rules, dataset)
    return judge(ctx, candidate, rules, measure_candidate(ctx, candidate, rules, dataset))


def test_a_rejection_is_signed_logged_and_never_valid(line):
    ctx, _, candidate, _ = line
    before = ctx.log.size()
    decision = judged(line, STRICT)
    assert decision.outcome == "rejected"
    (submission,) = ctx.ledger.find(Submission, candidate.digest)
    folder = refusal_folder(ctx, submission, decision) / "refusal"
    summary = json.loads(Bundle.parse((folder / "vsa.sigstore.json").read_bytes()).payload)["predicate"]
    assert (summary["verificationResult"], summary["policy"]["digest"]["sha256"]) == ("FAILED", STRICT.digest[7:])
    assert not (folder / "oms.sigstore.json").exists()
    found = verify(folder, folder, trust=TrustRoot.of_keys(ctx.keys), at=ctx.clock.now())
    assert found.verdict == "INVALID" and "NOT_PASSED" in {step.code for step in found.reasons}
    size = ctx.log.size()
    assert size >= before + 4
    assert judged(line, STRICT) == decision
    assert ctx.log.size() == size


def test_an_inconclusive_or_approved_decision_is_no_refusal(line):
    ctx = line[0]
    assert judged(line, policy()).outcome == "approved"
    assert not (ctx.folder / "refusals").exists()


def released(ctx, line):
    decision = judged((ctx, *line[1:]), policy())
    for person in ("ann", "bob"):
        approve(ctx, decision, person)
    return release(ctx, line[2], decision)


def test_a_seal_leaves_its_checkpoint_where_the_guard_looks(line, tmp_path):
    ctx = replace(line[0], checkpoint=tmp_path / "elsewhere" / "checkpoint")
    released(ctx, line)
    (submission,) = ctx.ledger.find(Submission, line[2].digest)
    bundle = Bundle.parse((release_folder(ctx, submission) / "attest" / "vsa.sigstore.json").read_bytes())
    assert (tmp_path / "elsewhere" / "checkpoint").read_text() == bundle.entries[0].checkpoint
    checkpoint_store_of(ctx).guard()


def test_a_log_from_an_old_backup_signs_nothing(line):
    ctx = line[0]
    decision = judged(line, policy())
    for person in ("ann", "bob"):
        approve(ctx, decision, person)
    kept = checkpoint_store_of(ctx).current()
    restored = replace(ctx, log=MemoryLedger())
    with pytest.raises(Conflict, match="LOG_FORK_GUARD"):
        release(restored, line[2], decision)
    assert restored.log.size() == 0
    assert (ctx.folder / "checkpoint").read_text() == kept
    release(ctx, line[2], decision)


def test_another_history_of_the_same_length_signs_nothing(line):
    ctx = line[0]
    checkpoint_store_of(ctx).current()
    other = MemoryLedger()
    for number in range(ctx.log.size() + 3):
        other.append_leaf(b"another %d" % number)
    with pytest.raises(Conflict, match="another history"):
        checkpoint_store_of(replace(ctx, log=other)).guard()


def test_a_newer_checkpoint_is_never_replaced_by_an_older_one(line):
    ctx = line[0]
    old = checkpoint_store_of(ctx).current()
    ctx.log.append_leaf(b"more")
    new = checkpoint_store_of(ctx).current()
    assert checkpoint_store_of(ctx).record(old) == old
    assert (ctx.folder / "checkpoint").read_text() == new != old


class Everybody:
    """A witness that signs whatever it sees, and counts."""

    vkeys, quorum = (), 0

    def __init__(self):
        self.seen = []

    def cosign(self, envelope):
        self.seen.append(envelope)
        return envelope + "\N{EM DASH} w.example AAAAAAAA\n"


def test_what_is_shown_was_seen_by_the_witnesses_once_for_each_size(line):
    witness = Everybody()
    ctx = replace(line[0], witnesses=witness)
    shown = checkpoint_store_of(ctx).current()
    assert shown == checkpoint_store_of(ctx).current() == witness.seen[0] + "\N{EM DASH} w.example AAAAAAAA\n"
    assert len(witness.seen) == 1
    released(ctx, line)
    assert len(witness.seen) == 2
