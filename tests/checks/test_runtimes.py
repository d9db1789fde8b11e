"""The check of runtimes: six faulty conversions are caught, and what was not run is unmeasured."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from pydantic import ValidationError

from auditsvc.checks.runtimes import Runtimes
from auditsvc.errors import Unavailable
from auditsvc.gate import decide
from auditsvc.records import OVERALL, CheckSpec, Evidence, Policy, Rule, Unmeasured
from tests.contracts.sample import a_candidate
from tests.fakes import NOON
from tests.fakes.models import case_of
from tests.gate.sample import a_key
from tests.runtimes.faulty import FAULTS, Exact, images

CHECK = Runtimes(runs=("onnxruntime/float32", "openvino/bfloat16"))


def alone(module):
    return lambda batch: torch.cat([module(image) for image in batch.split(1)])


def readings(opened, check=CHECK):
    case = dataclasses.replace(case_of(Exact(), Exact(), images()), open_run=opened)
    return {(one.metric, one.slice): one.outcome for one in check.measure(case)}


def test_a_faithful_file_changes_nothing():
    found = readings(lambda _run: (Exact(), alone(Exact())))
    names = {OVERALL, "camera=a", "camera=b"}
    assert set(found) == {(metric.id, name) for metric in CHECK.metrics() for name in names}
    assert all(abs(one.value) < 1e-6 for one in found.values())


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_conversion_is_caught(fault):
    module = FAULTS[fault]()
    found = readings(lambda _run: (module, alone(module)))
    assert found["flips.openvino-bfloat16", OVERALL].value >= 0.1
    loss = found["drop.openvino-bfloat16", OVERALL]
    assert loss.low > 0.01 and loss.lost == round(loss.value * loss.images)


def test_what_was_not_run_is_unknown_and_blocks():
    def opened(run):
        if run.startswith("openvino"):
            raise Unavailable('openvino is not installed: pip install "auditsvc[openvino]"')
        return Exact(), alone(Exact())

    case = dataclasses.replace(case_of(Exact(), Exact(), images()), open_run=opened)
    found = tuple(CHECK.measure(case))
    assert {one.metric for one in found if isinstance(one.outcome, Unmeasured)} == {
        f"{kind}.openvino-bfloat16" for kind in ("drop", "flips", "margin")
    }
    rule = Rule(rule="as-deployed", reading="runtimes/flips.*", at_most=0.1, why="a test")
    policy = Policy(policy="p", version=1, why="a test", seed=7, rules=(rule,),
                    checks={"runtimes": CheckSpec(version=1, parameters=CHECK.parameters())})  # fmt: skip
    key = a_key(check="runtimes", parameters=CHECK.parameters(), dataset=case.dataset.ref.digest)
    evidence = Evidence(key=key, dataset=case.dataset.ref, readings=found, environment={}, started=NOON, finished=NOON,
                        declared=CHECK.declarations())  # fmt: skip
    decision = decide(policy, a_candidate(), [evidence], at=NOON)
    verdicts = {one.metric: one.verdict for one in decision.judgements}
    assert verdicts == {"runtimes/flips.onnxruntime-float32": "met", "runtimes/flips.openvino-bfloat16": "unknown"}


@pytest.mark.parametrize("run", ["openvino", "openvino/int4", "tensorrt/int8", "", "torch/float32/x"])
def test_a_run_that_is_not_known_is_refused_with_those_that_are(run):
    with pytest.raises(ValidationError, match="openvino/float32"):
        Runtimes(runs=(run,))


def test_evidence_is_bound_to_the_machine():
    assert "onnxruntime 1." in CHECK.machine() and "1 thread" in CHECK.machine()
