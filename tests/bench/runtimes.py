"""``python -m tests.bench.runtimes``: the runtimes of this machine on the face network of the demo, one JSON line.

Every runtime that can be given the network's file runs it; ``cpu_s_1000`` adds the CPU seconds of all of them (one
thread, starting included) for 1000 images at 112 px.  INT8 by ``prune --format int8`` is compared with ONNX Runtime's
own static quantisation (QDQ, per channel), calibrated on the same images and run in the same runtime.  Known faults are
six faulty conversions of a small network, run in ONNX Runtime.  ``BENCH_IMAGES`` (300) shortens it.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from auditsvc import pruning
from auditsvc.checks.cost import Cost
from auditsvc.checks.runtimes import Runtimes
from auditsvc.datasets import Dataset
from auditsvc.datasets.readers import DatasetReaders
from auditsvc.demo.case_data import case_named
from auditsvc.evaluation.latency import Turns
from auditsvc.importing import ONNX, converted, runs_of
from auditsvc.importing.runtime_session import RuntimeSession
from auditsvc.models import Model, assemble, load_model, model_files
from auditsvc.records import OVERALL, Measured, Recipe
from auditsvc.runtimes import RUNTIMES, run_named
from auditsvc.runtimes.onnx_export import onnx_bytes
from auditsvc.runtimes.onnxruntime import OnnxRuntime
from auditsvc.services.candidates import prune_candidate, register_parent
from auditsvc.services.deployment import _single
from auditsvc.services.device_kit import admit_measurement, register_device, write_kit
from tests.fakes.models import case_of
from tests.runtimes import faulty
from tests.services import line

IMAGES = int(os.environ.get("BENCH_IMAGES", "300"))
LIMIT = 0.01
"""Of a loss in a runtime: the limit that the gate judges a known fault by."""


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def pixels_of(data: Dataset, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(data.batches(64))
    return torch.cat([one.images for one in batches])[:most], torch.cat([one.targets for one in batches])[:most]


def cpu_seconds() -> float:
    gc.collect()  # a session that is collected ends its process, whose time counts from then on
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def answers(model: Model, files: dict[str, bytes], run: str, images: torch.Tensor) -> torch.Tensor:
    batched, _ = runs_of(model, files, *run_named(run))
    return torch.cat([batched(part) for part in images.split(32)])


def all_runtimes(model: Model, exact: bytes, images: torch.Tensor) -> dict[str, float]:
    """CPU seconds for 1000 images by runtime, of those that run; each must answer as torch does."""
    files, found = model_files(model.weights(), model.card) | {ONNX: exact}, dict[str, float]()
    with torch.inference_mode():
        wanted = torch.cat([model(part) for part in images.split(32)])
    for one in RUNTIMES.by_id.values():
        if one.version() is None:
            continue
        made = converted(one, exact) if one.files[0] not in files and ONNX not in one.files else {}
        if not made and not set(one.files) & set(files):
            say(f"{one.id}: no file")
            continue
        start = cpu_seconds()
        given = answers(model, files | made, f"{one.id}/float32", images)
        found[one.id] = round((cpu_seconds() - start) * 1000 / len(images), 2)
        say(f"{one.id}: {found[one.id]} CPU-s, largest difference {float((given - wanted).abs().max()):.2g}")
        if not torch.equal(given.argmax(1), wanted.argmax(1)):
            raise SystemExit(f"{one.id} changes answers")
    return found


class Fed(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, images: torch.Tensor) -> None:
        self._rest: Iterator[dict[str, np.ndarray]] = iter({"images": one.numpy()} for one in images.split(16))

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._rest, None)


def ort_static(data: bytes, calibration: torch.Tensor, *, reduce_range: bool = False) -> bytes:
    with tempfile.TemporaryDirectory() as name:
        source, ready, made = (Path(name) / one for one in ("float.onnx", "ready.onnx", "int8.onnx"))
        source.write_bytes(data)
        quant_pre_process(str(source), str(ready))
        quantize_static(str(ready), str(made), Fed(calibration), quant_format=QuantFormat.QDQ, per_channel=True,
                        weight_type=QuantType.QInt8, reduce_range=reduce_range)  # fmt: skip
        return made.read_bytes()


def int8(parent: Model, exact: bytes, data: tuple[torch.Tensor, torch.Tensor], calibration: Dataset):
    """The losses of both quantisations in ONNX Runtime, in points, and our file."""
    (images, targets), some = data, pixels_of(calibration, 10_000)[0]
    recipe = Recipe(method="none", targets={}, number_format="int8", data=calibration.ref.digest)
    ours = assemble(pruning.prune(parent, recipe, calibration), parent.card)
    wanted = answers(parent, {ONNX: exact}, "onnxruntime/float32", images)
    right, found = (wanted.argmax(1) == targets).float().mean(), dict[str, float]()
    mine = onnx_bytes(ours, some[:32])
    for name, file in {
        "": mine,
        "_ort": ort_static(exact, some),
        "_ort_reduced": ort_static(exact, some, reduce_range=True),
    }.items():
        given = answers(parent, {ONNX: file}, "onnxruntime/int8", images)
        found[f"int8_loss_pp{name}"] = round(100 * float(right - (given.argmax(1) == targets).float().mean()), 3)
        found[f"int8_flips_pp{name}"] = round(100 * float((given.argmax(1) != wanted.argmax(1)).float().mean()), 3)
        found[f"int8_logit_rms{name}"] = round(float((given - wanted).square().mean().sqrt()), 4)
    return found, mine


def faults_caught() -> int:
    """Faulty files, run in ONNX Runtime, whose loss is surely over the limit; the exact file must have none."""
    model, check, caught = faulty.exact(), Runtimes(runs=("onnxruntime/float32",)), 0
    for name, module in {"": faulty.Exact, **faulty.FAULTS}.items():
        opened = partial(runs_of, model, {ONNX: faulty.as_onnx(module())})
        case = case_of(faulty.Exact(), faulty.Exact(), faulty.images())
        case = replace(case, open_run=lambda run, opened=opened: opened(*run_named(run)))
        found = {(one.metric, one.slice): one.outcome for one in check.measure(case)}
        loss = found["drop.onnxruntime-float32", OVERALL]
        over = isinstance(loss, Measured) and loss.low > LIMIT
        say(f"{name or 'no fault'}: {loss.value if isinstance(loss, Measured) else loss}")
        if not name and (over or not isinstance(loss, Measured) or loss.value):
            raise SystemExit("the exact file is said to lose")
        caught += bool(name) and over
    return caught


def kit_round_trip() -> int:
    """1 if another process, which has nothing but the kit, sends back what is then admitted."""
    with tempfile.TemporaryDirectory() as name:
        folder, key = Path(name), Ed25519PrivateKey.generate()
        ctx = line.ports_in(folder / "store")
        parent, _ = register_parent(ctx, line.parent_in(folder / "parent"), line.FACTS)
        data = ctx.datasets.open(line.data_in(folder / "data", seed=2))
        calibration = ctx.datasets.open(line.data_in(folder / "calibration", 40, seed=1))
        candidate = prune_candidate(ctx, parent, line.GOOD, calibration, onnx=True)
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        register_device(ctx, "second-process", "laptop", public, "ann")
        write_kit(ctx, candidate, data, "onnxruntime/float32", folder / "kit")
        (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        command = [sys.executable, "-I", "run.py", "--key", str(folder / "key.pem")]
        subprocess.run(command, cwd=folder / "kit", env={"PATH": ""}, check=True)
        found = admit_measurement(ctx, folder / "kit", "second-process", "bob")
        return int(len(found.latency_ms) == data.ref.images)


def ratio_sd(files: list[bytes], images: torch.Tensor) -> float:
    """The standard deviation of ten measured ratios of the same two files, with as many turns as the check takes."""
    turns = Cost().turns
    sessions = [RuntimeSession(OnnxRuntime, {ONNX: one}) for one in files]
    ratios = [_single(sessions, [images] * 2, turns).ratio(0, 1).value for _ in range(10)]
    say(f"ratios {np.round(ratios, 4).tolist()}")
    return round(float(np.std(ratios, ddof=1)), 4)


def ratio_coverage(runs: int = 1000, turns: int = 60, true: float = 0.8) -> float:
    """The share of simulated 95 % intervals that hold the ratio: load that both share, and outliers of each."""
    chance, held = np.random.default_rng(3), 0
    for _ in range(runs):
        load = np.exp(np.cumsum(chance.normal(0, 0.05, turns)) * 0.3)
        own = np.exp(chance.normal(0, 0.05, (2, turns))) * np.where(chance.random((2, turns)) < 0.05, 1.5, 1.0)
        found = Turns(np.stack((true * load, load)) * own).ratio(0, 1)
        held += found.low <= true <= found.high
    return round(held / runs, 3)


def main() -> None:
    torch.set_num_threads(1)
    case, readers = case_named("faces"), DatasetReaders()
    parent = load_model(case.parent(Path("unused")))
    data, calibration = pixels_of(readers.open(case.audited), IMAGES), readers.open(case.calibration)
    exact = onnx_bytes(parent, data[0][:32])
    used = all_runtimes(parent, exact, data[0])
    losses, mine = int8(parent, exact, data, calibration)
    print(json.dumps({
        "runtimes": len(used), "cpu_s_1000": round(sum(used.values()), 1), "cpu_s_1000_by": used,
        "known_faults": len(faulty.FAULTS), "known_faults_caught": faults_caught(), **losses,
        "kit_round_trip": kit_round_trip(), "latency_ratio_sd": ratio_sd([mine, exact], data[0]),
        "latency_ratio_coverage": ratio_coverage(), "images": len(data[0]),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
