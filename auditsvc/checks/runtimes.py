"""Does the file that ships answer as the model does, in the runtime and precision that will run it?

A conversion can swap channels or layouts, resize with another kernel, or depend on the size of the batch; integer
kernels saturate, half precision overflows.  None of it shows in torch.  Each run that the policy names
(``openvino/int8``) answers all images twice, in batches and one at a time, in a clean process; the worse answer of the
two counts.  A run whose runtime is not installed, whose file is missing or whose precision this machine lacks is
unmeasured.

Reference: B. Jacob et al. (2018), "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", arXiv:1712.05877.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.evaluation import CLEAN, Check, EvalContext, Outputs, Run
from auditsvc.evaluation.paired import Sample, levels, measured, measured_losses
from auditsvc.records import Metric, Reading, Unmeasured


class Runtimes(Check):
    """Compare the candidate's file in each of ``runs`` with the parent, and with the candidate itself in torch.

    For a run R, on every slice: ``drop.R``, the loss against the parent; ``flips.R``, the share of answers that torch
    does not give; ``margin.R``, the mean change of the margin between the two most likely classes.  An answer that is
    not finite counts as wrong.
    """

    id = "runtimes"
    version = 1
    topics = frozenset({"perf.delta_vs_parent"})

    runs: Annotated[tuple[Run, ...], Field(min_length=1)] = ("onnxruntime/float32",)

    def metrics(self) -> tuple[Metric, ...]:
        """Three for each run."""
        return tuple(metric for run in self.runs for metric in _metrics(run))

    def cost(self) -> float:
        """Each run answers all images twice."""
        return 1.0 + 2.0 * len(self.runs)

    @property
    def runs_named(self) -> tuple[str, ...]:
        """All of ``runs``."""
        return self.runs

    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """One pass in torch, and one for each run."""
        parent = case.pair(CLEAN).parent["score"].astype(np.float64)
        model = _answers(case, (case.candidate,))
        for run in self.runs:
            try:
                if case.open_run is None:
                    raise InvalidInput("no files were given to run")
                found = _answers(case, case.open_run(run))
            except (InvalidInput, Unavailable) as error:
                none = Unmeasured(reason=str(error))
                yield from (Reading(metric=metric.id, slice=name, outcome=none)
                            for metric in _metrics(run) for name in case.dataset.slices.names)  # fmt: skip
                continue
            yield from _readings(case, run, parent, model, found)


_Answers = dict[str, NDArray[np.float64]]


def _answers(case: EvalContext, ways: tuple[Outputs, ...]) -> _Answers:
    """``score``, ``answer`` and ``margin`` ``(ways, N)`` of every image."""
    parts: list[list[NDArray[np.float64]]] = []
    with torch.inference_mode():
        for batch in case.batches(None):
            parts.append([_judged(case, way(batch.images), batch.targets) for way in ways])
    joined = np.concatenate([np.stack(part) for part in parts], axis=2)
    return dict(zip(("score", "answer", "margin"), joined.transpose(1, 0, 2), strict=True))


def _judged(case: EvalContext, outputs: Tensor, targets: Tensor) -> NDArray[np.float64]:
    """``(3, N)``: scores, answers, margins; of outputs that are not finite 0, no class, and none."""
    finite = torch.isfinite(outputs).flatten(1).all(dim=1)
    judged = case.task.score_batch(torch.nan_to_num(outputs, nan=0.0, posinf=0.0, neginf=0.0), targets)
    margin = torch.zeros(len(targets))
    if outputs.dim() == 2 and outputs.shape[1] > 1:
        best = outputs.float().softmax(1).topk(2, dim=1).values
        margin = torch.nan_to_num(best[:, 0] - best[:, 1])
    rows = (judged.score * finite, torch.where(finite, judged.answer, -1), margin * finite)
    return np.stack([row.cpu().numpy().astype(np.float64) for row in rows])


def _readings(
    case: EvalContext, run: str, parent: NDArray[np.float64], model: _Answers, found: _Answers
) -> Iterator[Reading]:
    slices = case.dataset.slices
    drop, flips, margin = _metrics(run)
    loss = Sample(parent - found["score"].min(axis=0), slices, None)
    changed = Sample((found["answer"] != model["answer"]).any(axis=0).astype(np.int8), slices, None)
    moved = Sample(np.abs(found["margin"] - model["margin"]).max(axis=0), slices, None)
    outcomes = {
        drop.id: measured_losses(loss, case.alpha, case.task.step),
        flips.id: measured(levels(changed, case.alpha), changed),
        margin.id: measured(levels(moved, case.alpha), moved),
    }
    if case.task.name != "classification":
        none = Unmeasured(reason=f"in {case.task.name} an image has no two most likely classes")
        outcomes[margin.id] = [none] * len(slices.names)
    for metric, values in outcomes.items():
        yield from (Reading(metric=metric, slice=name, outcome=outcome)
                    for name, outcome in zip(slices.names, values, strict=True))  # fmt: skip


def _metrics(run: str) -> tuple[Metric, Metric, Metric]:
    name = run.replace("/", "-").replace("@", "-")
    return (
        Metric(id=f"drop.{name}", kind="difference", unit="points", better="lower", role="loss", plannable=True,
               title=f"loss against the parent, in {run}"),
        Metric(id=f"flips.{name}", kind="proportion", unit="%", better="lower", plannable=True,
               title=f"the share of answers that the model does not give in torch, in {run}"),
        Metric(id=f"margin.{name}", kind="ratio", unit="%", better="lower",
               title=f"the mean change of the margin between the two most likely classes, in {run}"),
    )  # fmt: skip
