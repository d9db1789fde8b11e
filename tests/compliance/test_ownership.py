"""Cost of ownership: declared prices times measured quantities, and nothing counted that was not measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditsvc.compliance.ownership import (
    Annex,
    Prices,
    Profile,
    amounts,
    annex,
    fits,
    page,
    read_declared,
    sensitivity,
    side_of,
    total,
)
from auditsvc.errors import InvalidInput
from auditsvc.records import Measured, Unmeasured
from auditsvc.resources import resource_dir
from tests.gate.sample import an_evidence


def measured(value: float, low: float, high: float) -> Measured:
    return Measured(value=value, low=low, high=high, images=400)


ACCURACY = an_evidence({
    ("score.clean", "overall"): measured(0.9, 0.88, 0.92), ("parent.clean", "overall"): measured(0.95, 0.94, 0.96),
    ("score.dark", "overall"): measured(0.8, 0.75, 0.85),
})  # fmt: skip
COST = an_evidence(
    {("latency_p50", "overall"): measured(10, 9, 11), ("latency_p95", "overall"): measured(20, 18, 22),
     ("file_bytes", "overall"): measured(2e6, 2e6, 2e6), ("peak_memory", "overall"): measured(3e7, 3e7, 3e7)},
    check="cost", parameters={"run": "onnxruntime/float32"},
)  # fmt: skip
PRICES = Prices(currency="EUR", years=2, images_per_year=1_800_000, compute_per_hour=0.1, error=0.01,
                electricity_per_kwh=0.3, audits_per_year=4, audit_price=500, devices=3, device_price=100)  # fmt: skip


def test_amounts_are_prices_times_quantities():
    side = side_of("candidate", [ACCURACY, COST], PRICES)
    parts = amounts(PRICES, side)
    assert parts["compute"] == pytest.approx(3_600_000 * 0.010 / 3600 * 0.1)
    assert parts["errors"] == pytest.approx(3_600_000 * 0.1 * 0.01)
    assert (parts["devices"], parts["audits"]) == (300, 4000)
    assert isinstance(parts["energy"], Unmeasured) and "energy/joules_per_image" in parts["energy"].reason
    assert total(parts) == pytest.approx(1 + 3600 + 300 + 4000)
    parent = side_of("parent", [ACCURACY, COST], PRICES, parent=True)
    assert amounts(PRICES, parent)["errors"] == pytest.approx(1800)
    assert isinstance(amounts(PRICES, parent)["compute"], Unmeasured)


def test_rates_are_weighted_by_the_declared_use():
    mixed = PRICES.model_copy(update={"conditions": {"clean": 0.75, "dark": 0.25}})
    rate = side_of("candidate", [ACCURACY], mixed).rates["error"]
    assert (rate.value, rate.low, rate.high) == pytest.approx((0.125, 1 - 0.9025, 1 - 0.8475))
    other = PRICES.model_copy(update={"conditions": {"clean": 0.5, "fog": 0.5}})
    assert "score.fog" in side_of("candidate", [ACCURACY], other).rates["error"].reason


def test_the_tornado_moves_one_input_at_a_time():
    bars = {bar.name: (bar.low, bar.high) for bar in sensitivity(PRICES, side_of("c", [ACCURACY, COST], PRICES))}
    base = 1 + 3600 + 300 + 4000
    assert bars["error.rate"] == pytest.approx((base - 720, base + 720))
    assert bars["audit_price"] == pytest.approx((base - 800, base + 800))
    assert bars["latency_ms"] == pytest.approx((base - 0.1, base + 0.1))
    assert next(iter(bars)) == "audit_price" and "label_price" not in bars


def test_a_profile_counts_only_what_was_measured_on_the_device():
    profile = read_declared(resource_dir("policies") / "devices" / "camera.yaml", Profile)
    here = {what: verdict for what, verdict, _ in fits(profile, [COST])}
    assert here == {"runtime": "does not fit", "storage": "fits", "memory": "unknown", "latency": "unknown",
                    "power": "unknown"}  # fmt: skip
    key = COST.key.model_copy(update={"parameters": {"run": "litert/int8@camera-7"}})
    there = {what: verdict for what, verdict, _ in fits(profile, [COST.model_copy(update={"key": key})])}
    assert (there["runtime"], there["memory"], there["latency"]) == ("fits", "fits", "fits")
    assert {verdict for _, verdict, _ in fits(profile, [])} == {"unknown"}


def test_the_page_and_the_annex_print_inputs_and_gaps():
    sides = [side_of("candidate", [ACCURACY, COST], PRICES), side_of("parent", [ACCURACY, COST], PRICES, parent=True)]
    text = page("a <b> model", PRICES, sides, (), "")
    assert "a &lt;b&gt; model" in text and "images per year" in text and "candidate, energy: no evidence" in text
    assert text.count("<svg") == 1
    clauses = read_declared(resource_dir("policies") / "procurement" / "mcc-ai-2025-03-05.yaml", Annex)
    made = annex(clauses, "m", [ACCURACY])
    assert f"- perf.accuracy: accuracy on {ACCURACY.dataset.name}" in made and "- env.energy: not measured" in made
    assert made.count("To fill in: ") == len(clauses.clauses)


@pytest.mark.parametrize(
    ("text", "words"),
    [("currency: EUR\nyears: 1\nimages_per_year: -1\n", "images_per_year"), ("[", "is no YAML"),
     ("years: 1\n", "currency"),
     ("currency: EUR\nyears: 1\nimages_per_year: 1\nconditions: {clean: 0.5}\n", "must add up to 1"),
     ("currency: EUR\nyears: 1\nimages_per_year: 1\nprice: 3\n", "price")],
)  # fmt: skip
def test_prices_with_faults_are_refused(tmp_path: Path, text: str, words: str):
    (tmp_path / "prices.yaml").write_text(text)
    with pytest.raises(InvalidInput, match=words):
        read_declared(tmp_path / "prices.yaml", Prices)
