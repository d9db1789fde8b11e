"""What a candidate costs beside its parent, counted and measured, in words that claim nothing more.

Time is a record of its own and never part of a candidate: the same bytes take another time on another machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version

from torch import Tensor

from auditsvc.models.counting import facts
from auditsvc.models.latency import latencies
from auditsvc.pipeline.stored import load_stored
from auditsvc.ports import Ports
from auditsvc.records import Candidate, Parent, Timing

RUNS = 100
_FEW_ZEROS = 0.01


def timed(candidate: Candidate, parent: Parent, images: Tensor, ports: Ports, *, runs: int = RUNS) -> Timing:
    """The latency of one image, candidate and parent in turns, in ONNX Runtime on one thread; kept in the ledger.

    ``images`` are some of the model's own, on which ONNX Runtime is compared with torch first.

    Raises:
        Refused: one of the two can't be written as ONNX, or answers otherwise there.
        Unavailable: ``onnxruntime`` is not installed.
    """
    models = [load_stored(item.files, ports) for item in (candidate, parent)]
    mine, dense = latencies(models, images, runs=runs)
    timing = Timing(
        candidate=candidate.digest,
        parent=parent.digest,
        median_ms=mine.median_ms,
        iqr_ms=mine.iqr_ms,
        parent_median_ms=dense.median_ms,
        parent_iqr_ms=dense.iqr_ms,
        runs=mine.runs,
        how=f"ONNX Runtime {version('onnxruntime')}, one thread, one image, in turns",
        at=ports.clock.now(),
    )
    ports.ledger.append(timing, actor="auditsvc")
    return timing


def cost_lines(candidate: Candidate, parent: Parent, timing: Timing | None, ports: Ports) -> tuple[str, ...]:
    """A candidate's card for people: what was counted beside the parent, then what was measured."""
    mine, dense = candidate.card, facts(load_stored(parent.files, ports))
    lines = [
        f"{mine['parameters']:,.0f} parameters, {_zeros(mine):.0%} of them zero ({_of(mine, dense, 'parameters')})",
        f"{mine['macs']:,.0f} multiply-accumulates ({_of(mine, dense, 'macs')})",
        f"{mine['bytes_dense']:,.0f} bytes ({_of(mine, dense, 'bytes_dense')}), "
        f"{mine['bytes_compressed']:,.0f} compressed ({_of(mine, dense, 'bytes_compressed')})",
    ]
    if timing is not None:
        lines.append(
            f"{timing.median_ms:.3g} ms (IQR {timing.iqr_ms:.2g}) beside the parent's {timing.parent_median_ms:.3g} ms "
            f"(IQR {timing.parent_iqr_ms:.2g}) in the same {timing.runs} turns: {timing.times_faster:.2f} times as "
            f"fast; {timing.how}"
        )
    if _zeros(mine) > _FEW_ZEROS:
        lines.append("zeros make the file smaller when it is compressed; dense kernels gain no speed from them")
    return tuple(lines)


def _zeros(card: Mapping[str, float]) -> float:
    return 1 - card["nonzero"] / card["parameters"]


def _of(mine: Mapping[str, float], dense: Mapping[str, float], name: str) -> str:
    return f"the parent has {dense[name] / mine[name]:.2f} times as many"
