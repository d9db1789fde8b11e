"""``python -m tests.bench.runtimes``: the runtimes of this machine on the face network of the demo, one JSON line.

Every runtime that is installed runs the same candidate; ``cpu_s_1000`` adds the CPU seconds of all of them, for 1000
images at 112 px.  INT8 by ``prune --format int8`` stands next to ONNX Runtime's own static quantisation, calibrated on
the same images and run in the same runtime.  ``BENCH_IMAGES`` shortens the data.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from auditsvc import pruning
from auditsvc.datasets import Dataset
from auditsvc.importing import ONNX, runs_of
from auditsvc.models import Model, assemble
from auditsvc.records import Recipe
from auditsvc.runtimes import run_named
from auditsvc.runtimes.onnx_export import onnx_bytes

IMAGES = int(os.environ.get("BENCH_IMAGES", "400"))
THREADS = 1


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def pixels_of(data: Dataset, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(data.batches(64))
    return torch.cat([b.images for b in batches])[:most], torch.cat([b.targets for b in batches])[:most]


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


class Fed(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, images: torch.Tensor) -> None:
        self._rest: Iterator[dict[str, np.ndarray]] = iter({"images": one.numpy()} for one in images.split(16))

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._rest, None)


def ort_static(data: bytes, calibration: torch.Tensor) -> bytes:
    """ONNX Runtime's own static quantisation: QDQ, one scale for each channel, its other defaults."""
    with tempfile.TemporaryDirectory() as name:
        source, ready, made = (Path(name) / one for one in ("float.onnx", "ready.onnx", "int8.onnx"))
        source.write_bytes(data)
        quant_pre_process(str(source), str(ready))
        quantize_static(str(ready), str(made), Fed(calibration), quant_format=QuantFormat.QDQ, per_channel=True,
                        weight_type=QuantType.QInt8)  # fmt: skip
        return made.read_bytes()


def answers(model: Model, files: dict[str, bytes], run: str, images: torch.Tensor) -> torch.Tensor:
    batched, _ = runs_of(model, files, *run_named(run))
    return torch.cat([batched(part) for part in images.split(32)])


def int8_losses(parent: Model, images: torch.Tensor, targets: torch.Tensor, calibration: Dataset) -> dict[str, float]:
    recipe = Recipe(method="none", targets={}, number_format="int8", data=calibration.ref.digest)
    ours = assemble(pruning.prune(parent, recipe, calibration), parent.card)
    some = pixels_of(calibration, 10_000)[0]
    exact = onnx_bytes(parent, some[:32])
    wanted = answers(parent, {ONNX: exact}, "onnxruntime/float32", images)
    right = (wanted.argmax(1) == targets).float().mean()
    made = {"": onnx_bytes(ours, some[:32]), "_ort": ort_static(exact, some)}
    found: dict[str, float] = {}
    for name, data in made.items():
        given = answers(parent, {ONNX: data}, "onnxruntime/int8", images)
        found[f"int8_loss_pp{name}"] = round(100 * float(right - (given.argmax(1) == targets).float().mean()), 3)
        found[f"int8_flips_pp{name}"] = round(100 * float((given.argmax(1) != wanted.argmax(1)).float().mean()), 3)
        found[f"int8_logit_rms{name}"] = round(float((given - wanted).square().mean().sqrt()), 4)
    return found
