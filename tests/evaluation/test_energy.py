"""Energy comes from a counter or a meter over a minute of load and of rest, or it is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from auditsvc.checks.energy import Energy
from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.evaluation.energy import Power, Rapl, counted, metered
from auditsvc.records import Measured, Unmeasured
from tests.fakes.models import SeesMeanBrightness, case_of, grey_dataset


class Machine:
    """A clock and a counter that wraps: 5 W at rest, 15 W under load, ten images a second."""

    def __init__(self, root: Path) -> None:
        self.now, self.file = 0.0, root / "intel-rapl:0" / "energy_uj"
        self.file.parent.mkdir(parents=True)
        self.file.with_name("max_energy_range_uj").write_text(str(self.range))
        self.used = 0
        self.pass_time(0, 0)

    range = 200_000_000

    def pass_time(self, seconds: float, watts: float) -> None:
        self.now += seconds
        self.used += int(seconds * watts * 1e6)
        self.file.write_text(str(self.used % self.range))

    def work(self) -> int:
        self.pass_time(1.0, 15.0)
        return 10


def test_a_counter_gives_joules_above_rest_though_it_wraps(tmp_path: Path):
    machine = Machine(tmp_path)
    power = counted(Rapl(tmp_path), machine.work, lambda: machine.now, lambda seconds: machine.pass_time(seconds, 5.0))
    assert power.joules(0.05) == pytest.approx((1.0, 1.0, 1.0))
    assert power.images == 600 and machine.now == 120


def test_a_machine_without_a_counter_gives_no_number(tmp_path: Path):
    with pytest.raises(Unavailable, match="no energy counter"):
        Rapl(tmp_path)
    case = case_of(SeesMeanBrightness(), SeesMeanBrightness(), grey_dataset([0.1, 0.9]))
    asked = dataclasses.replace(case, measure_power=lambda _run: Rapl(tmp_path / "nothing"))
    (reading,) = Energy().measure(asked)
    assert isinstance(reading.outcome, Unmeasured) and "no energy counter" in reading.outcome.reason
    power = Power(np.array([15.0, 16, 14]), np.array([5.0, 5, 5]), 10.0, 600, "a test")
    (reading,) = Energy().measure(dataclasses.replace(case, measure_power=lambda _run: power))
    assert isinstance(reading.outcome, Measured) and reading.outcome.low < 1.0 < reading.outcome.high


def a_log(idle: int = 70, load: int = 65, step: float = 1.0) -> bytes:
    rows = [(n * step, 5.0 + (n % 2)) for n in range(int(idle / step))]
    rows += [(idle + n * step, 15.0 + (n % 2)) for n in range(int(load / step) + 1)]
    return b"seconds,watts\n" + b"".join(f"{when},{watts}\n".encode() for when, watts in rows)


def test_a_meter_s_log_needs_a_minute_of_load_and_of_rest():
    value, low, high = metered(a_log(), 70.0, 135.0, 650).joules(0.05)
    assert (value, low, high) == pytest.approx((1.0, 1.0, 1.0), abs=1e-9)
    for log, start, end, words in [
        (a_log(load=50), 70.0, 120.0, "less than 60 s of load"), (a_log(idle=30), 30.0, 95.0, "60 s of rest"),
        (a_log(step=13), 70.0, 135.0, "a gap of 10 s"), (b"nothing", 0.0, 1.0, "less than 60 s"),
        (b"seconds,watts\n1,x\n", 0.0, 1.0, "in numbers"), (b"a,b\n1,2\n", 0.0, 1.0, "in numbers"),
        (b"seconds,watts\n2,1\n1,1\n", 0.0, 1.0, "rising times"), (b"\xff", 0.0, 1.0, "in numbers"),
    ]:  # fmt: skip
        with pytest.raises(InvalidInput, match=words):
            metered(log, start, end, 650)
