"""The candidate's card in a report: what was counted, what was timed beside the parent, and what zeros do not bring."""

from __future__ import annotations

from dataclasses import replace

from auditsvc.compliance.report.build import lineage
from auditsvc.records import Timing
from tests.compliance import sample


def facts(inputs) -> dict[str, str]:
    return {fact.label: fact.value for fact in lineage(inputs).candidate}


def test_zeros_are_said_to_bring_no_speed_and_none_is_said_of_what_has_none() -> None:
    inputs = sample.rejected()
    assert "are not faster" in facts(inputs)["Zeros"]
    dense = inputs.candidate.model_copy(update={"card": {"parameters": 10.0, "nonzero": 10.0}})
    assert "Zeros" not in facts(replace(inputs, candidate=dense))


def test_latency_stands_beside_the_parents_of_the_same_run() -> None:
    inputs = sample.rejected()
    assert "Latency" not in facts(inputs)
    timing = Timing(
        candidate=inputs.candidate.digest, parent=inputs.parent.digest, median_ms=0.5, iqr_ms=0.02,
        parent_median_ms=1.25, parent_iqr_ms=0.03, runs=100, how="ONNX Runtime, one thread", at=inputs.decision.at,
    )  # fmt: skip

    def words(**ratio: float) -> str:
        return facts(replace(inputs, timing=timing.model_copy(update=ratio)))["Latency"]

    assert words().startswith("0.5 ms (interquartile range 0.02) against 1.25 ms (0.03) of the parent")
    assert "no gain or loss of speed is claimed" in words() and "times as fast" not in words()
    known = words(ratio=2.5, ratio_low=2.4, ratio_high=2.61)
    assert "2.5 times as fast (95 % interval 2.4 to 2.61)" in known
    for low, high in ((0.9, 1.2), (1.0, 1.2), (0.9, 1.0)):
        open_ = words(ratio=1.05, ratio_low=low, ratio_high=high)
        assert "no difference in speed was shown" in open_ and "times as fast" not in open_
    assert "0.8 times as fast" in words(ratio=0.8, ratio_low=0.7, ratio_high=0.9)
    assert b"ratio" not in timing.canonical()
