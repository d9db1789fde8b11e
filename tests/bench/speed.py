"""How fast the main paths are, each beside its limit or its peer: one line of JSON.

``python -m tests.bench.speed [PART ...]``; parts: ``cold``, ``forward``, ``audit``, ``corruptions``, ``decode``,
``report``, ``signing``, ``gate``, ``pruning``, ``demo``.  Seconds are CPU seconds on one core, which other work on the
machine changes least; ``demo_s`` and ``gate_2000_ms`` are wall time.

``gate_cold_s``, ``verify_cold_s``  a fresh process, the least of nine; ``import_limit_s``: SQLAlchemy, pydantic
``forward_gain``                    eager torch over the copy in ONNX Runtime, face network, batches of 32
``audit_cpu_s``                     the first candidate audited by ``standard`` on the portraits, a whole process
``audit_limit_ratio``               that over its forward-equivalents at the speed of a matrix product
``second_candidate_ratio``          the next candidate, in another process, over the first
``corruption_ms_224_max``           the slowest corruption, an image of 224 pixels
``decode_share``                    decoding of an audit of ResNet-50 at 224 pixels
``report_500_*``                    all forms of a report of 500 slices under 40 conditions
``sign_1000_ratio``                 model-signing's time to sign 1000 files over ours
``gate_2000_ms``                    an answer on a decision with 2000 judgements that is not remembered
``pruning_ratio_torch_pruning``     ResNet-50 to half of its MACs, ours over Torch-Pruning with the same norm
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import auditsvc
from auditsvc import pruning
from auditsvc.compliance.render import FORMATS
from auditsvc.datasets import recognise
from auditsvc.evaluation import image_seeds
from auditsvc.evaluation.inference import compile_model
from auditsvc.evaluation.perturbations.corruptions import CORRUPTIONS, corrupt
from auditsvc.importing.onnx_import import from_onnx
from auditsvc.models import ArchitectureCard, InputSpec, Model, load_model, model_files
from auditsvc.records import Recipe
from tests.adapters.test_old_store import ARCHIVE
from tests.bench import corruptions, demo, gate_api, provenance, reports

FACES = Path(auditsvc.__file__).parent / "demo" / "faces"
MFLOP = 2 * 97.0
"""Of one portrait through the face network: 97 million multiply-adds."""

Line = dict[str, float]

_COUNTED = """
import atexit, sys
from auditsvc.evaluation import inference
from auditsvc.models.model import Model
import torch
seen = {"passes": 0}
raw, run = Model.raw, inference.CompiledModel.__call__
def counted(self, images):
    seen["passes"] += len(images) * (3 if torch.is_grad_enabled() and images.requires_grad else 1)
    return raw(self, images)
def copied(self, images):
    seen["passes"] += len(images)
    return run(self, images)
Model.raw, inference.CompiledModel.__call__ = counted, copied
atexit.register(lambda: print("passes", seen["passes"], file=sys.stderr))
from auditsvc.cli.app import main
sys.argv[0] = "auditsvc"
main()
"""


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """CPU seconds, the least of some repeats after one that warms up."""
    work()
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


def cold(place: Path) -> Line:
    """Fresh processes: the gate on a store that 0.1 made, and the verifier beside model-signing's."""
    import tarfile

    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(place / "store", filter="data")
    (place / "store" / "checkpoint").unlink()  # of a log whose private key is not in the archive
    ask = [sys.executable, "-m", "auditsvc", "gate", "digits", "3", "--store", place / "store"]
    ours = fresh(ask, 3)
    limit = fresh([sys.executable, "-c", "import sqlalchemy, pydantic"], 0)
    found = provenance.cold_start(place)
    line = {"gate_cold_s": ours, "import_limit_s": limit, "verify_cold_s": found["verify_cold_cpu_s"]}
    if "cold_start_cpu_ratio" in found:
        line["verify_cold_ratio_model_signing"] = found["cold_start_cpu_ratio"]
    return line


def fresh(command: list[object], code: int) -> float:
    """CPU seconds of a process, the least of nine."""
    taken = []
    for _ in range(9):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([str(word) for word in command], capture_output=True, env=environment())
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode != code:
            raise SystemExit(f"{command} ended with {done.returncode}: {done.stderr.decode()[-500:]}")
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(taken)


def environment() -> dict[str, str]:
    """One thread, and byte code kept as an installed package has it."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"OMP_NUM_THREADS": "1"}


def forward(_: Path) -> Line:
    """The face network, eager and as the audit asks it where it needs no gradient."""
    model, images = load_model(FACES / "model"), torch.rand(32, 3, 112, 112)
    quick = compile_model(model, images)
    with torch.inference_mode():
        eager, copied = seconds(lambda: model(images)), seconds(lambda: quick(images))
    return {"forward_gain": eager / copied}


def audit(place: Path) -> Line:
    """Two candidates of one parent, each audited by a command of its own."""
    spent, passes = [], 0
    for number, share in enumerate((0.3, 0.5)):
        parent = load_model(FACES / "model")
        recipe = Recipe(method="magnitude-global", targets={"sparsity": share})
        folder = place / f"candidate-{number}"
        folder.mkdir()
        for name, data in model_files(pruning.prune(parent, recipe), parent.card).items():
            (folder / name).write_bytes(data)
        words = ["audit", "--candidate", folder, "--parent", FACES / "model", "--data", FACES, "--source", "a bench",
                 "--licence", "MIT", "--as", "bench", "--model", "face", "--store", place / "store"]  # fmt: skip
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", _COUNTED, *map(str, words)], capture_output=True, text=True,
                              env=environment())  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode not in (0, 1, 3):
            raise SystemExit(done.stderr[-2000:])
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        passes = passes or int(done.stderr.rpartition("passes ")[2].split()[0])
    limit = passes * MFLOP / product_mflops()
    print(f"audit: {passes} forward-equivalents, {limit:.0f} CPU seconds at the speed of a product", file=sys.stderr)
    return {
        "audit_cpu_s": spent[0],
        "audit_limit_ratio": spent[0] / limit,
        "second_candidate_ratio": spent[1] / spent[0],
    }


def product_mflops() -> float:
    """Millions of operations a second in a product of two square matrices."""
    matrix = torch.rand(1024, 1024)
    return 2 * 1024**3 / 1e6 / seconds(lambda: matrix @ matrix, 10)


def slowest_corruption(_: Path) -> Line:
    """Milliseconds for an image of 224 pixels at severity 3."""
    images = corruptions.pictures(8, 224)
    seeds, taken = image_seeds(1, "bench", torch.arange(len(images))), {}
    for name in CORRUPTIONS:
        with torch.inference_mode():
            work = lambda name=name: corrupt(images, seeds, name=name, severity=3, table="imagenet")  # noqa: E731
            taken[name] = 1000 / corruptions.rate(work, len(images))
    print({name: round(value, 1) for name, value in taken.items() if value > 4}, file=sys.stderr)
    return {"corruption_ms_224_max": max(taken.values()), "corruptions_over_5_ms": sum(v > 5 for v in taken.values())}


class Bottleneck(nn.Module):
    """A block of ResNet-50."""

    def __init__(self, given: int, width: int, stride: int) -> None:
        super().__init__()
        layers = [(given, width, 1, 1), (width, width, 3, stride), (width, 4 * width, 1, 1)]
        self.body = nn.Sequential(*(part for number, (one, other, size, step) in enumerate(layers) for part in (
            nn.Conv2d(one, other, size, step, size // 2, bias=False), nn.BatchNorm2d(other),
            nn.ReLU() if number < 2 else nn.Identity())))  # fmt: skip
        same = stride == 1 and given == 4 * width
        self.skip = nn.Identity() if same else nn.Sequential(
            nn.Conv2d(given, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        """The block's answer."""
        return torch.relu(self.body(images) + self.skip(images))


def resnet50(place: Path) -> Model:
    """ResNet-50 with random weights, read from ONNX as a stranger's model would be."""
    torch.manual_seed(0)
    blocks, given = [], 64
    for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for number in range(count):
            blocks.append(Bottleneck(given, width, stride if number == 0 else 1))
            given = 4 * width
    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    module = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 10)).eval()
    path = place / "resnet50.onnx"
    with contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(module, (torch.rand(2, 3, 224, 224),), path, dynamo=False, input_names=["images"],
                          output_names=["logits"], dynamic_axes={"images": {0: "n"}})  # fmt: skip
    spec = InputSpec(channels=3, height=224, width=224)
    classes = tuple(map(str, range(10)))
    return from_onnx(
        path, ArchitectureCard(architecture="onnx_graph", task="classification", classes=classes, input=spec)
    )


def decode(place: Path) -> Line:
    """JPEG files of 224 pixels as a folder of classes: reading them against one pass of ResNet-50."""
    folder, chance = place / "photos", np.random.default_rng(0)
    for number in range(64):
        small = Image.fromarray(chance.integers(0, 256, (28, 28, 3), dtype=np.uint8))
        path = folder / f"class{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small.resize((224, 224), Image.Resampling.BICUBIC).save(path, quality=90)
    data, model = recognise(folder)[0].read(folder), resnet50(place)
    reading = seconds(lambda: [batch.images.sum() for batch in data.batches(16)], 1)
    images = torch.cat([batch.images for batch in data.batches(16)])
    with torch.inference_mode():
        passing = seconds(lambda: [model(part) for part in images.split(16)], 1)
    return {"decode_share": reading / (reading + passing)}


def report(_: Path) -> Line:
    """All forms of a report of 500 slices under 40 conditions, in this process."""
    reports.SLICES = 500
    wide, start = reports.large(), time.process_time()
    _, files, _ = reports.everything(wide)
    spent, peak = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"report_500_cpu_s": spent, "report_500_html_mb": len(files["html"]) / 2**20, "report_500_peak_mb": peak,
            "report_500_forms": len(FORMATS)}  # fmt: skip


def signing(place: Path) -> Line:
    """1000 files of 256 MiB in all."""
    provenance.LAYOUTS = (1000,)
    with contextlib.redirect_stdout(sys.stderr):
        found = provenance.speed(place, 2**28)
    line = {"sign_1000_gain_of_cores": found["parallel_gain"]}
    if "sign_ratio_model_signing" in found:
        line["sign_1000_ratio"] = found["sign_ratio_model_signing"]
    return line


def gate(place: Path) -> Line:
    """Questions about decisions with 2000 judgements, each asked once."""
    gate_api.JUDGEMENTS = 2000
    gate_api.fill(place, 40)

    async def asked(port: int) -> list[float]:
        connection, taken = await gate_api.Connection.open(port), []
        for number in range(40):
            start = time.perf_counter()
            await connection.ask(gate_api.path_of(number))
            taken.append(1000 * (time.perf_counter() - start))
        return taken

    with gate_api.serving(gate_api.serve_gate, str(place)) as served:
        return {"gate_2000_ms": statistics.median(asyncio.run(asked(served.port)))}


def pruned(place: Path) -> Line:
    """The L2 norm of coupled channels over the whole network, to half of the MACs, without training."""
    import torch_pruning

    model, images = resnet50(place), torch.rand(1, 3, 224, 224)
    recipe = Recipe(method="structured-l2", targets={"macs": 2, "round_to": 8})
    start = time.process_time()
    pruning.prune(model, recipe)
    ours, start = time.process_time() - start, time.process_time()
    module = copy.deepcopy(model.module).requires_grad_(True)
    last = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    pruner = torch_pruning.pruner.MagnitudePruner(
        module, images, importance=torch_pruning.importance.GroupMagnitudeImportance(p=2), global_pruning=True,
        iterative_steps=100, pruning_ratio=1.0, max_pruning_ratio=0.9, ignored_layers=last, round_to=8)  # fmt: skip
    macs = torch_pruning.utils.count_ops_and_params(module, images)[0]
    while torch_pruning.utils.count_ops_and_params(module, images)[0] > macs / 2 and pruner.current_step < 100:
        pruner.step()
    return {"pruning_s": ours, "pruning_ratio_torch_pruning": ours / (time.process_time() - start)}


def whole_demo(place: Path) -> Line:
    """The demo in an empty store, with as many threads as there are cores."""
    return {"demo_s": demo.run_demo(place / "demo", "faces")}


PARTS: dict[str, Callable[[Path], Line]] = {
    "cold": cold, "forward": forward, "audit": audit, "corruptions": slowest_corruption, "decode": decode,
    "report": report, "signing": signing, "gate": gate, "pruning": pruned, "demo": whole_demo,
}  # fmt: skip


def main() -> None:
    """The parts that are named, else all; then the line."""
    torch.set_num_threads(1)
    line: Line = {}
    for name in sys.argv[1:] or PARTS:
        with tempfile.TemporaryDirectory(prefix="auditsvc-bench-") as scratch:
            line |= PARTS[name](Path(scratch))
        print(name, {key: round(value, 3) for key, value in line.items()}, file=sys.stderr, flush=True)
    print(json.dumps({key: round(value, 3) for key, value in line.items()}))


if __name__ == "__main__":
    main()
