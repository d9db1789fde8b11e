"""Charts show the numbers that they were given, as SVG that parses and as text."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from auditsvc.compliance.render.charts import (
    Axis,
    Chart,
    SweepPoint,
    curve_chart,
    frontier_chart,
    interval_row,
    loss_axis,
    loss_row,
    reliability_chart,
    standalone,
    sweep_chart,
)
from auditsvc.compliance.report.wording import Gap, Number
from auditsvc.records import digest_of
from tests.compliance import sample

POINTS = [
    SweepPoint("magnitude-global", 4e6, 0.95, "passed", best=False),
    SweepPoint("magnitude-global", 2e6, 0.94, "passed", best=True),
    SweepPoint("magnitude-global", 1e6, 0.7, "failed", best=False),
    SweepPoint("structured-l1", 3e6, 0.6, "failed the cheap check", best=False),
]


def number(value: float, low: float, high: float, images: int) -> Number:
    return Number(
        value=value, low=low, high=high, images=images, level=0.9, unit="points", evidence=digest_of(b"evidence")
    )


def parsed(chart: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(standalone(chart))


def test_every_chart_of_a_report_is_an_image_with_a_text_alternative_and_parses_as_a_file() -> None:
    report = sample.report("rejected")
    assert report.reliability
    charts = [*map(curve_chart, report.curves), reliability_chart(report.reliability), frontier_chart(report.frontier)]
    for chart in charts:
        drawn = parsed(chart)
        assert (drawn.get("role"), drawn.get("aria-label")) == ("img", chart.text)
        assert drawn.find("{*}title").text == chart.text  # type: ignore[union-attr]


def test_a_sweep_has_one_panel_for_each_reading_a_line_for_each_method_and_a_ring_around_the_best() -> None:
    one = parsed(sweep_chart("bytes compressed", {"accuracy": POINTS}))
    two = parsed(sweep_chart("bytes compressed", {"accuracy": POINTS, "latency ms": POINTS}))
    assert [len(drawn.findall("{*}svg")) for drawn in (one, two)] == [1, 2]
    assert len(one.findall(".//{*}polyline")) == 2
    assert len(one.findall(".//{*}circle[@class='ring']")) == 1
    assert {"passed", "failed", "failed the cheap check", "magnitude-global", "2M"} <= set(one.itertext())


def test_the_text_of_a_sweep_holds_every_point() -> None:
    text = sweep_chart("bytes compressed", {"accuracy": POINTS}).text
    assert "structured-l1 at 3\u202f000\u202f000: 0.6, failed the cheap check" in text


def test_a_sweep_of_one_point_is_drawn() -> None:
    assert parsed(sweep_chart("macs", {"accuracy": POINTS[:1]})).find(".//{*}circle") is not None


def test_few_images_do_not_stretch_the_axis_of_losses_and_their_interval_is_drawn_as_cut() -> None:
    many, few = number(0.02, 0.01, 0.03, 700), number(0.0, -0.35, 0.35, 5)
    axis = loss_axis([many, few])
    assert axis.at(many.high) - axis.at(many.low) > 50
    assert (axis.at(few.low), axis.at(few.high)) == (0.0, 100.0)
    assert 'class="range cut"' in loss_row(few, axis, "few").svg
    assert (
        'class="range"' in loss_row(many, axis, "many").svg
        and 'class="interval worse"' in loss_row(many, axis, "m").svg
    )


def test_what_was_not_measured_is_not_drawn_and_the_text_says_why() -> None:
    chart = interval_row(number(0.9, 0.8, 0.95, 100), Gap(reason="8 images"), Axis(0.5, 1.0), "region=A")
    assert "mark candidate" not in chart.svg and "mark parent" in chart.svg
    assert "candidate not measured (8 images)" in chart.text


def test_text_in_a_chart_is_escaped() -> None:
    point = SweepPoint("<script>", 1.0, 1.0, "passed", best=False)
    assert "<script" not in sweep_chart("size", {"<b>": [point]}).svg


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.3, 1.0), (0.9, 1.0), (0.0, 0.02), (1e5, 4e6)])
def test_an_axis_has_two_to_six_ticks_inside(low: float, high: float) -> None:
    ticks = Axis(low, high).ticks()
    assert 2 <= len(ticks) <= 6 and low - 1e-9 <= ticks[0] < ticks[-1] <= high + 1e-9
