"""What judging, releasing and revoking leave in the ledger, the registry and the folders, and in which order."""

from __future__ import annotations

import datetime
from dataclasses import replace

import pytest

from auditsvc.compliance.assessment.assessment_context import ReportInputs
from auditsvc.errors import Conflict, InvalidInput, NotApproved, NotFound
from auditsvc.ports import Context
from auditsvc.provenance.formats.dsse import Bundle
from auditsvc.records import (
    AliasMove,
    Approval,
    Decision,
    Release,
    Revocation,
    Rule,
    Submission,
    Waiver,
    digest_of,
)
from auditsvc.records.eligibility import HoldoutUse
from auditsvc.services.decisions import (
    approve,
    is_clean,
    judge,
    latest_decision,
    waive,
)
from auditsvc.services.measurement import measure_candidate
from auditsvc.services.registry import ALIAS, set_alias
from auditsvc.services.release import (
    attest_rejection,
    refusal_folder,
    release,
    release_folder,
    revoke,
)
from auditsvc.services.terms import decision_records
from tests.contracts.sample import a_candidate, a_digest, a_parent
from tests.fakes import NOON, FixedClock, MemoryBlobs, MemoryKeys, MemoryLedger, MemoryRegistry, QuietProgress
from tests.fakes.terms import bind_terms
from tests.gate.sample import SHOES, a_loss, a_policy, a_rule, an_evidence, losses
from tests.services.line import bind, policy
from tests.services.test_sealed import Everybody
from tests.web import sample

OWN = a_candidate()
OWN_SUBMISSION = Submission(candidate=OWN.digest, model="net", version="2", submitter="sue", at=NOON)


@pytest.fixture
def ctx(tmp_path) -> Context:
    """One submitted candidate in memory."""
    ledger, clock, registry = MemoryLedger(), FixedClock(), MemoryRegistry()
    registry.tags.update({("net", str(number)): {} for number in range(1, 5)})
    made = Context(
        ledger=ledger, log=ledger, blobs=MemoryBlobs(), registry=registry, datasets=None, keys=MemoryKeys(),
        clock=clock, progress=QuietProgress(), folder=tmp_path,
    )  # fmt: skip
    ledger.append(a_parent(), OWN, OWN_SUBMISSION, actor="test")
    return made


class Witness(MemoryRegistry):
    """Notes what the ledger held whenever the registry was changed."""

    def __init__(self, ctx, kind):
        super().__init__()
        self.tags, self.aliases, self.files = ctx.registry.tags, ctx.registry.aliases, ctx.registry.files
        self.ledger, self.kind, self.seen = ctx.ledger, kind, []

    def _note(self, what):
        self.seen.append((what, len(list(self.ledger.all(self.kind)))))

    def tag(self, model, version, tags):
        self._note("tag")
        super().tag(model, version, tags)

    def move_alias(self, model, alias, version):
        self._note("alias")
        super().move_alias(model, alias, version)

    def drop_alias(self, model, alias):
        self._note("drop")
        super().drop_alias(model, alias)


def good(**key):
    return an_evidence(losses(overall=a_loss(0.0)), **key)


def test_the_same_judgements_give_the_decision_of_last_time_and_one_use(ctx):
    first = judge(ctx, OWN, a_policy(), [good()])
    ctx.clock.forward(days=1)
    assert judge(ctx, OWN, a_policy(), [good()]) == first
    assert (list(ctx.ledger.all(Decision)), len(list(ctx.ledger.all(HoldoutUse)))) == ([first], 1)


def test_judgements_that_changed_and_changed_back_are_newer_decisions(ctx):
    first = judge(ctx, OWN, a_policy(), [good()])
    ctx.clock.forward(days=1)
    second = judge(ctx, OWN, a_policy(), [good(seed=8)])
    ctx.clock.forward(days=1)
    assert judge(ctx, OWN, a_policy(), [good(seed=8)]) == second
    third = judge(ctx, OWN, a_policy(), [good()])
    assert list(ctx.ledger.all(Decision)) == [first, second, third]
    assert [one.outcome for one in (first, second, third)] == ["approved", "inconclusive", "approved"]
    assert latest_decision(ctx, OWN) == third


def test_the_registry_shows_the_decision_after_the_ledger_has_it(ctx):
    watched = replace(ctx, registry=Witness(ctx, Decision))
    ctx.registry.aliases["net", ALIAS] = "2"
    decision = judge(watched, OWN, a_policy(), [good(seed=8)])
    assert watched.registry.seen == [("tag", 1)]
    assert ctx.registry.tags["net", "2"] == {"auditsvc.trial": "inconclusive"}
    bind_terms(ctx, "net", a_policy(), SHOES.digest)
    binding = judge(watched, OWN, a_policy(), [good(seed=8)])
    assert binding.digest != decision.digest
    assert ctx.registry.tags["net", "2"] == {
        "auditsvc.trial": "inconclusive",
        "auditsvc.decision": "inconclusive",
        "auditsvc.decision_digest": binding.digest,
        "auditsvc.policy": "test-1",
    }
    assert ctx.registry.aliases == {("net", ALIAS): "2"}


def test_an_approving_decision_leaves_the_alias_where_it_is(ctx):
    ctx.registry.aliases["net", ALIAS] = "2"
    judge(ctx, OWN, a_policy(), [good()])
    assert ctx.registry.aliases == {("net", ALIAS): "2"}


def test_each_data_set_is_used_once_in_order_and_its_uses_are_counted(ctx):
    others = [SHOES.model_copy(update={"name": f"set-{n}", "digest": digest_of(b"%d" % n)}) for n in range(8)]
    judge(ctx, OWN, a_policy(), [good(dataset=one) for one in others])
    assert [use.dataset for use in ctx.ledger.all(HoldoutUse)] == sorted(one.digest for one in others)
    once = a_policy(max_evaluations=1, version=2)
    other = HoldoutUse(dataset=SHOES.digest, model="net", candidate=a_digest(5), at=NOON)
    ctx.ledger.append(other, actor="test")
    found = judge(ctx, OWN, once, [good(alpha=once.level)])
    assert "this is candidate 2 to be judged on these images" in found.findings[0].words


def test_the_records_of_a_decision_are_those_that_it_names(ctx):
    bad = an_evidence(losses(overall=a_loss(0.2)))
    under = a_policy()
    ctx.ledger.append(bad, under, actor="test")
    waiver = Waiver(candidate=OWN.digest, policy=under.digest, rule="loss", person="bob", reason="a test",
                    until=NOON.date(), at=NOON)  # fmt: skip
    ctx.ledger.append(waiver, actor="bob")
    bind_terms(ctx, "net", under, SHOES.digest)
    decision = judge(ctx, OWN, under, [bad])
    approval = approve(ctx, decision, "cyd", "seen")
    found = decision_records(ReportInputs, ctx.ledger, "net", "2", OWN, decision)
    assert (found.model, found.version, found.candidate, found.parent) == ("net", "2", OWN, a_parent())
    assert (found.policy, found.decision, found.evidence) == (under, decision, (bad,))
    assert (found.approvals, found.waivers) == ((approval,), (waiver,))
    assert (approval.comment, approval.candidate, approval.at) == ("seen", OWN.digest, NOON)


def test_clean_evidence_holds_a_clean_loss_among_others():
    assert is_clean(an_evidence({("score.clean", "overall"): a_loss(0.9), ("drop.clean", "overall"): a_loss(0.0)}))
    assert not is_clean(an_evidence({("drop.dark", "overall"): a_loss(0.0)}))


def test_a_candidate_that_was_never_judged_has_no_latest_decision(ctx):
    with pytest.raises(NotFound, match="never judged"):
        latest_decision(ctx, OWN)
    trial = judge(ctx, OWN, a_policy(version=2), [good()])
    assert latest_decision(ctx, OWN) == trial
    bind_terms(ctx, "net", a_policy(), SHOES.digest)
    binding = judge(ctx, OWN, a_policy(), [good()])
    judge(ctx, OWN, a_policy(version=3), [good()])
    assert latest_decision(ctx, OWN) == binding


def test_one_person_approves_once_and_only_what_approves(ctx):
    bind_terms(ctx, "net", a_policy(), SHOES.digest)
    decision = judge(ctx, OWN, a_policy(), [good()])
    bob, cyd = approve(ctx, decision, "bob"), approve(ctx, decision, "cyd")
    ctx.clock.forward(days=1)
    assert (approve(ctx, decision, "cyd"), approve(ctx, decision, "bob")) == (cyd, bob)
    assert list(ctx.ledger.all(Approval)) == [bob, cyd]
    with pytest.raises(NotApproved, match="the decision is inconclusive"):
        approve(ctx, judge(ctx, OWN, a_policy(), [good(seed=8)]), "bob")


def test_a_waiver_may_end_today_and_names_the_open_rules_otherwise(ctx):
    decision = judge(ctx, OWN, a_policy(a_rule(rule="z"), a_rule(rule="b", slices="kind=a")), [good(seed=8)])
    found = waive(ctx, decision, "z", "bob", "a test", NOON.date())
    assert found == Waiver(candidate=OWN.digest, policy=decision.policy, rule="z", person="bob", reason="a test",
                           until=NOON.date(), at=NOON)  # fmt: skip
    assert list(ctx.ledger.all(Waiver)) == [found]
    with pytest.raises(InvalidInput, match="no open finding under 'loss'; open: b, z"):
        waive(ctx, decision, "loss", "bob", "a test", NOON.date())
    with pytest.raises(InvalidInput, match="would be over already"):
        waive(ctx, decision, "z", "bob", "a test", NOON.date() - datetime.timedelta(days=1))


def test_of_several_rules_only_the_one_that_the_policy_excludes_can_not_be_waived(ctx):
    under = a_policy(a_rule(rule="hard", waivers="never"), a_rule(rule="soft", slices="kind=a"))
    decision = judge(ctx, OWN, under, [good(seed=8)])
    with pytest.raises(InvalidInput, match="does not allow waiving the rule hard"):
        waive(ctx, decision, "hard", "bob", "a test", NOON.date())
    assert waive(ctx, decision, "soft", "bob", "a test", NOON.date()).rule == "soft"


def test_a_rule_of_a_candidate_that_was_never_submitted_is_not_waived(ctx):
    other = a_candidate(2)
    ctx.ledger.append(other, actor="test")
    decision = judge(ctx, other, a_policy(), [])
    with pytest.raises(Conflict, match="never submitted"):
        waive(ctx, decision, "loss", "bob", "a test", NOON.date())


def test_what_was_never_submitted_is_not_released(ctx):
    with pytest.raises(NotFound, match="was never submitted"):
        release(ctx, sample.candidate(2), sample.decision(2))


def test_before_any_release_the_folder_is_that_of_the_version(ctx):
    assert release_folder(ctx, OWN_SUBMISSION) == ctx.folder / "releases" / "net" / "2"


@pytest.fixture
def shown(ctx) -> Context:
    """A store with a released version that carries the alias."""
    ledger = MemoryLedger()
    sample.fill(ledger)
    made = replace(ctx, ledger=ledger, log=ledger)
    sample.register(made.registry)
    set_alias(made, "net", "1", sample.released().digest)
    return made


def test_a_revocation_is_recorded_first_then_the_alias_goes_then_the_version_is_tagged(shown):
    watched = replace(shown, registry=Witness(shown, Revocation))
    found = revoke(watched, sample.released(), "x" * 250, "bob", "cyd")
    assert watched.registry.seen == [("drop", 1), ("tag", 1)]
    assert list(shown.ledger.all(Revocation)) == [found]
    assert (found.release, found.requested_by, found.confirmed_by) == (sample.released().digest, "bob", "cyd")
    assert shown.registry.tags["net", "1"]["auditsvc.revoked"] == "x" * 200
    assert [move.version for move in shown.ledger.find(AliasMove, "net")] == ["1", None]


def test_a_release_is_revoked_once_and_the_first_revocation_counts(shown):
    first = revoke(shown, sample.released(), "a flaw", "bob", "cyd")
    shown.clock.forward(days=1)
    assert revoke(shown, sample.released(), "another flaw", "dan", "eve") == first
    assert list(shown.ledger.all(Revocation)) == [first]


def test_who_requests_a_revocation_can_not_confirm_it_and_nothing_moves(shown):
    with pytest.raises(Conflict, match="can't confirm"):
        revoke(shown, sample.released(), "a flaw", "bob", "Bob")
    assert shown.registry.aliased("net", ALIAS) == "1"
    assert list(shown.ledger.all(Revocation)) == []


def test_the_alias_moves_after_the_release_is_recorded_and_tagged(line):
    ctx, _, candidate, dataset = line
    later = ctx.ledger.find(Submission, candidate.digest)[0].model_copy(update={"version": "7"})
    ctx.ledger.append(later, actor="sue")
    ctx.registry.hold(candidate, "7", ctx.registry.files["brightness", "2"])
    bind(ctx, policy(), dataset)
    decision = judge(ctx, candidate, policy(), measure_candidate(ctx, candidate, policy(), dataset))
    approve(ctx, decision, "ann")
    with pytest.raises(NotApproved, match=r"1 of 2 people approved it; who submitted \(sue\) can't approve"):
        release(ctx, candidate, decision)
    assert not (ctx.folder / "releases").exists()
    approve(ctx, decision, "bob")
    watched = replace(ctx, registry=Witness(ctx, Release))
    sealed = release(watched, candidate, decision)
    assert watched.registry.seen == [("tag", 1), ("alias", 1)]
    assert (sealed.version, ctx.registry.tags["brightness", "2"]["auditsvc.release"]) == ("2", sealed.digest)
    submission = ctx.ledger.find(Submission, candidate.digest)[0]
    first = ctx.folder / "releases" / "brightness" / "2"
    other = digest_of(b"another decision")
    assert release_folder(ctx, submission) == release_folder(ctx, submission, decision.digest) == first
    assert release_folder(ctx, submission, other) == first.with_name(f"2-{other[7:23]}")


def test_a_rejection_gives_the_folder_of_each_version(line):
    witness = Everybody()
    ctx, _, candidate, dataset = replace(line[0], witnesses=witness), *line[1:]
    strict = policy(rules=(Rule(rule="perfect", reading="accuracy/score.clean", at_least=2.0, why="can't hold"),))
    decision = judge(ctx, candidate, strict, measure_candidate(ctx, candidate, strict, dataset))
    assert decision.outcome == "rejected"
    (submission,) = ctx.ledger.find(Submission, candidate.digest)
    folder = ctx.folder / "refusals" / "brightness" / "2" / decision.digest[7:23]
    assert attest_rejection(ctx, candidate, decision) == (refusal_folder(ctx, submission, decision),) == (folder,)
    assert (folder / "refusal" / "vsa.sigstore.json").is_file()
    assert len(witness.seen) == 1
    checkpoint = Bundle.parse((folder / "refusal" / "vsa.sigstore.json").read_bytes()).entries[0].checkpoint
    assert checkpoint.endswith(witness.cosign(""))
    with pytest.raises(NotApproved, match="rejected"):
        release(ctx, candidate, decision)
