"""What a candidate's deployable file costs where it runs: latency compared with the parent, memory, throughput, size.

Both files are opened in clean processes of their own and answer in turns, in alternating order, so that whatever else
the machine does slows both.  The parent's file is made from its weights where the runtime needs another format.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping

import numpy as np
from torch import Tensor

from auditsvc.datasets import Dataset
from auditsvc.errors import InvalidInput, Refused
from auditsvc.evaluation.energy import Power, Rapl, counted
from auditsvc.evaluation.latency import RunCost, Turns, in_turns
from auditsvc.importing import ONNX, OnnxFile, converted
from auditsvc.importing.runtime_session import RuntimeSession, file_of
from auditsvc.models import CARD, WEIGHTS, Model
from auditsvc.models.complexity import COMPRESSION
from auditsvc.models.preprocessing import fitted, normalised
from auditsvc.ports import Context
from auditsvc.records import Candidate, Parent
from auditsvc.runtimes import Runtime, run_named
from auditsvc.runtimes.onnx_export import onnx_bytes
from auditsvc.services.model_store import runtime_files

PROBES, PROCESSES, BATCH, BATCHES = 32, 3, 32, 10
EACH = 3
"""Answers in each turn: the first ones find the caches as the other process left them, and the median counts."""


def time_run(
    ctx: Context,
    candidate: Candidate,
    parent: Parent,
    models: tuple[Model, Model],
    dataset: Dataset,
    run: str,
    turns: int,
) -> RunCost:
    """The cost of a run such as ``openvino/int8``; ``models`` are the candidate and its parent.

    Raises:
        InvalidInput: no file for this runtime, or one that it can't run or that has another precision.
        Unavailable: the runtime is not installed, or this machine lacks the precision.
    """
    runtime, precision = run_named(run)
    images, files = next(dataset.batches(PROBES)).images, runtime_files(ctx, candidate.files)
    sessions = [RuntimeSession(runtime, files, precision)]
    given = [image_as_given(models[0], images)]
    cold = [_cold(sessions[0], given[0]), *(_cold(RuntimeSession(runtime, files, precision), given[0])
            for _ in range(PROCESSES - 1))]  # fmt: skip
    missing = ""
    try:
        theirs = _parent_files(runtime, runtime_files(ctx, parent.files), models[1], images)
        sessions.append(RuntimeSession(runtime, theirs, None))
        given.append(image_as_given(models[1], images))
        sessions[1].times(given[1], 1)
    except (InvalidInput, Refused) as error:
        missing, sessions = str(error), sessions[:1]
    single = _single(sessions, given, turns)
    batch, _ = sessions[0].times(given[0][:BATCH], BATCHES + 1, alone=False)
    counts = size_counts(candidate, runtime, files)
    cold_ms, memory = np.array(cold).T
    return RunCost(single, np.array(batch[1:]), min(BATCH, len(images)), cold_ms, memory, counts, missing)


def size_counts(candidate: Candidate, runtime: type[Runtime], files: Mapping[str, bytes]) -> dict[str, float]:
    """What was counted: the candidate's card, and the bytes of what has to be on the device."""
    name = file_of(runtime, files)
    companions = {"model.xml": ("model.bin",), WEIGHTS: (CARD,)}.get(name, ())
    shipped = [files[one] for one in (name, *companions)]
    return candidate.card | {
        "file_bytes": float(sum(map(len, shipped))),
        "compressed_bytes": float(sum(len(zlib.compress(one, COMPRESSION)) for one in shipped)),
    }


def power_of(ctx: Context, candidate: Candidate, model: Model, dataset: Dataset, run: str) -> Power:
    """The power that a run takes on this machine, by the counters of its CPU.

    Raises:
        Unavailable: there is no counter, or the runtime is not installed.
        InvalidInput: as ``time_run``.
    """
    counter, (runtime, precision) = Rapl(), run_named(run)
    session = RuntimeSession(runtime, runtime_files(ctx, candidate.files), precision)
    given = image_as_given(model, next(dataset.batches(PROBES)).images)

    def work() -> int:
        session.times(given, 200)
        return 200

    return counted(counter, work, time.monotonic, time.sleep)


def image_as_given(model: Model, images: Tensor) -> Tensor:
    """The images as the model's file takes them."""
    made = fitted(images, model.card)
    return normalised(made, model.card) if isinstance(model.module, OnnxFile) else made


def _cold(session: RuntimeSession, images: Tensor) -> tuple[float, float]:
    """The ms of opening and the first answer, and the memory that both took."""
    opening = session.graph()["open_ms"]
    (first,), memory = session.times(images, 1)
    return opening + first, memory


def _single(sessions: list[RuntimeSession], given: list[Tensor], turns: int) -> Turns:
    def work(session: RuntimeSession, images: Tensor) -> Callable[[int], float]:
        return lambda turn: float(np.median(session.times(images[turn % len(images)][None], EACH)[0]))

    return in_turns([work(session, images) for session, images in zip(sessions, given, strict=True)], turns)


def _parent_files(
    runtime: type[Runtime], files: Mapping[str, bytes], model: Model, images: Tensor
) -> Mapping[str, bytes]:
    """The parent's files with one for this runtime, made from its weights where there is none."""
    if any(name in files for name in runtime.files):
        return files
    data = onnx_bytes(model, images)
    made = {ONNX: data} if ONNX in runtime.files else converted(runtime, data)
    if not made:
        raise Refused(f"there is no {runtime.files[0]} of the parent, and auditsvc can't write one")
    return made
