"""An audit in stages stops when it is decided, and goes to the end when it is not."""

from __future__ import annotations

from auditsvc.records import CheckSpec, Evidence, Rule
from auditsvc.services.decisions import judge
from auditsvc.services.measurement import measure_candidate
from tests.services.line import policy

STAGES = (0.5, 1.0)


def floor(limit: float, **more: object):
    rule = Rule(rule="floor", reading="accuracy/score.clean", at_least=limit, why="a floor")
    return policy(rules=(rule,), stages=STAGES, **more)


def test_a_candidate_that_is_decided_early_is_measured_no_further(line):
    ctx, _, candidate, dataset = line
    (evidence,) = measure_candidate(ctx, candidate, floor(0.5), dataset)
    assert (evidence.key.stage, evidence.dataset) == (30, dataset.ref)
    assert evidence.whole == {"overall": 60, "camera=a": 40, "camera=b": 20}
    decision = judge(ctx, candidate, floor(0.5), [evidence])
    assert decision.outcome == "approved"
    assert decision.judgements[0].outcome.images == 30
    assert measure_candidate(ctx, candidate, floor(0.5), dataset) == (evidence,)


def test_what_is_not_decided_goes_on_to_all_images_and_both_stages_are_kept(line):
    ctx, _, candidate, dataset = line
    rules = floor(0.999, checks={"accuracy": CheckSpec(version=1)})
    (evidence,) = measure_candidate(ctx, candidate, rules, dataset)
    assert evidence.key.stage == 60
    stages = [one.key.stage for one in ctx.ledger.find(Evidence, candidate.digest)]
    assert sorted(stages) == [30, 60]
    assert judge(ctx, candidate, rules, ctx.ledger.find(Evidence, candidate.digest)).evidence == (evidence.digest,)
