"""``python -m tests.bench.pruning``: our structured pruning beside Torch-Pruning used directly, one JSON line.

A CIFAR-like residual network is trained on one half of a data set (the packaged digits, or the folder named by
``BENCH_DATA``) and pruned to 2, 2.5 and 4 times fewer MACs.  Three ways get the same parent, the same
training images and the same number of epochs:

ours        a recipe of this package: structured pruning, then distillation from the parent;
peer        Torch-Pruning's own script (``reproduce/main.py``): group norm, global, 400 small steps until the speed-up
            is reached, then SGD at 0.01 with steps at 60 % and 80 % of the epochs;
peer+ours   Torch-Pruning's pruned network with our recovery, to tell pruning from recovery.

Accuracy is measured on the other half, whose writers nobody trained on.  A loss is the parent's accuracy minus the
candidate's, in percentage points; losses under 0.1 are noise and count as 0.1 in a ratio.

``roundtrip_total`` counts the three candidates and every cell of the guide's table.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch_pruning
import yaml
from torch import Tensor, nn

import auditsvc
from auditsvc import pruning
from auditsvc.datasets.image_dataset import ImageDataset
from auditsvc.datasets.readers import DatasetReaders
from auditsvc.errors import Refused
from auditsvc.evaluation.latency import latencies
from auditsvc.importing import Trip, round_trip
from auditsvc.models import ArchitectureCard, InputSpec, Model, assemble, build, model_files
from auditsvc.models.complexity import macs
from auditsvc.ports import NoProgress
from auditsvc.records import Recipe
from auditsvc.runtimes.onnx_export import compare_onnx, onnx_bytes
from tests.models.families import FAMILIES
from tests.pruning.test_families import all_come_back, all_recipes, candidate

FACTORS = {"2x": 2.0, "2_5x": 2.5, "4x": 4.0}
PARENT_EPOCHS, EPOCHS, BATCH, SHIFT = 6, 3, 128, 2
WIDTH, BLOCKS = 24, 1
NOISE = 0.1
CRITERION = "l2"


def say(line: str) -> None:
    """To the terminal; standard output has the JSON line alone."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


@contextmanager
def halves(folder: Path) -> Iterator[tuple[ImageDataset, ImageDataset]]:
    """The half to train on and the half to measure on, as the column ``split`` says."""
    with tempfile.TemporaryDirectory() as scratch:
        opened = []
        for half in ("train", "audit"):
            copied = Path(scratch) / half
            shutil.copytree(folder, copied)
            described = yaml.safe_load((copied / "dataset.yaml").read_text("utf-8"))
            (copied / "dataset.yaml").write_text(yaml.safe_dump({**described, "where": {"split": half}}), "utf-8")
            opened.append(DatasetReaders().open(copied))
        yield opened[0], opened[1]


def accuracy(model: Model, data: ImageDataset) -> float:
    """The share of right answers, in percent."""
    right = 0
    with torch.inference_mode():
        for batch in data.batches(256):
            right += int((model(batch.images).argmax(1) == batch.targets).sum())
    return 100 * right / data.ref.images


def dense(train: ImageDataset) -> Model:
    """The parent, trained with a recipe of our own that prunes nothing."""
    images = next(train.batches(1)).images
    _, channels, height, width = images.shape
    card = ArchitectureCard(
        architecture="small_resnet",
        arguments={"width": WIDTH, "blocks": BLOCKS, "channels": channels, "classes": len(train.classes)},
        task="classification",
        classes=train.classes,
        input=InputSpec(channels=channels, height=height, width=width),
    )
    torch.manual_seed(0)
    start = Model(build(card.architecture, card.arguments), card)
    training = {"epochs": PARENT_EPOCHS, "rate": 0.1, "batch": BATCH, "shift": SHIFT}
    recipe = Recipe(method="none", targets={}, data=train.ref.digest, recovery={"fine-tune": training})
    return assemble(pruning.prune(start, recipe, train), card)


def our_recovery() -> dict[str, dict[str, float]]:
    """Statistics, then distillation for the same number of epochs as the peer's fine-tuning."""
    training = {"epochs": EPOCHS, "rate": 0.03, "batch": BATCH, "shift": SHIFT, "share": 0.5}
    return {"batch-norm": {"images": 1000}, "distillation": training}


def ours(parent: Model, factor: float, train: ImageDataset, *, recover: bool) -> Model:
    """Our candidate."""
    recipe = Recipe(
        method=f"structured-{CRITERION}",
        targets={"macs": factor, "round_to": 4},
        data=train.ref.digest,
        recovery=our_recovery() if recover else {},
    )
    return assemble(pruning.prune(parent, recipe, train), parent.card)


def peer_pruned(parent: Model, factor: float) -> Model:
    """Torch-Pruning by its own script: ``--method group_norm --global-pruning``."""
    module = copy.deepcopy(parent.module).requires_grad_(True)
    spec = parent.card.input
    example = torch.rand(1, spec.channels, spec.height, spec.width)
    pruner = torch_pruning.pruner.GroupNormPruner(
        module,
        example,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        global_pruning=True,
        iterative_steps=400,
        pruning_ratio=1.0,
        max_pruning_ratio=1.0,
        ignored_layers=[module.head],
    )
    start, _ = torch_pruning.utils.count_ops_and_params(module, example)
    while pruner.current_step < pruner.iterative_steps:
        pruner.step()
        left, _ = torch_pruning.utils.count_ops_and_params(module, example)
        if start / left >= factor:
            break
    return Model(module, parent.card)


def peer_trained(model: Model, train: ImageDataset) -> Model:
    """Fine-tuning by the peer's own script, with its 100 epochs scaled down to ours; the same shifts as ours."""
    taught = Model(copy.deepcopy(model.module), model.card)
    taught.module.requires_grad_(True)
    torch.manual_seed(0)
    optimiser = torch.optim.SGD(taught.module.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    for epoch in range(EPOCHS):
        done = epoch / EPOCHS
        optimiser.param_groups[0]["lr"] = 0.01 * (0.1 if done >= 0.6 else 1) * (0.1 if done >= 0.8 else 1)
        taught.module.train()
        order = torch.randperm(train.ref.images).numpy()
        for batch in train.batches(BATCH, order[: len(order) // BATCH * BATCH]):
            optimiser.zero_grad()
            nn.functional.cross_entropy(taught(shifted(batch.images)), batch.targets).backward()
            optimiser.step()
    return Model(taught.module, model.card)


def shifted(images: Tensor) -> Tensor:
    """A random crop of the padded image, as the peer's data loader does."""
    padded = nn.functional.pad(images, (SHIFT,) * 4)
    moves = torch.randint(0, 2 * SHIFT + 1, (len(images), 2)).tolist()
    height, width = images.shape[2:]
    return torch.stack([padded[i, :, y : y + height, x : x + width] for i, (y, x) in enumerate(moves)])


def recovered(parent: Model, model: Model, train: ImageDataset) -> Model:
    """Our recovery on a network that somebody else pruned."""
    recovery = pruning.recovery_of(Recipe(method="none", targets={}, recovery=our_recovery()))
    sources = pruning.Sources((train,), train.ref.digest)
    return pruning.AfterStep(parent, recovery, sources, 1, 0, NoProgress())(model, 0, {})


def comes_back(trip: Trip) -> bool:
    """Files reload bit for bit in a clean process, and ONNX Runtime agrees within 1e-4 (INT8: on 98 % of answers)."""
    try:
        round_trip(trip.folder, trip.model, trip.images)
        return compare_onnx(onnx_bytes(trip.model, trip.images), trip.model, trip.images) == ()
    except Refused as error:
        say(str(error))
        return False


def trip_of(model: Model, images: Tensor, folder: Path) -> Trip:
    """The model, saved."""
    folder.mkdir()
    for name, data in model_files(model.weights(), model.card).items():
        (folder / name).write_bytes(data)
    return Trip(folder, model, images)


def table_comes_back(scratch: Path) -> list[bool]:
    """The same for every cell of the guide's table: families by methods by number formats."""
    back: list[bool] = []
    for family in FAMILIES:
        trips = [candidate(family, item, scratch / f"{family}-{n}") for n, item in enumerate(all_recipes())]
        back += [comes_back(trip) for trip in trips] if not all_at_once(trips) else [True] * len(trips)
        say(f"round trip, {family}: {sum(back)} of {len(back)}")
    return back


def all_at_once(trips: list[Trip]) -> bool:
    """Whether all come back, in one clean process; which of them do not is asked one by one."""
    try:
        all_come_back(trips)
    except (Refused, AssertionError) as error:
        say(str(error))
        return False
    return True


def timed(work: object, *arguments: object, **named: object) -> tuple[Model, float]:
    """What the work gives, and how many seconds it took."""
    start = time.perf_counter()
    model = work(*arguments, **named)  # type: ignore[operator]
    return model, time.perf_counter() - start


def main() -> None:
    """Train, prune three ways, measure, print one JSON line."""
    torch.set_num_threads(1)
    packaged = Path(auditsvc.__file__).parent / "demo" / "digits"
    folder = Path(os.environ.get("BENCH_DATA", packaged))
    with halves(folder) as (train, audit), tempfile.TemporaryDirectory() as scratch:
        parent, seconds = timed(dense, train)
        base = accuracy(parent, audit)
        say(f"parent: {base:.2f} % on {audit.ref.images} images of {audit.ref.name}, {seconds:.0f} s")
        row: dict[str, object] = {"bench": "pruning", "data": audit.ref.name, "parent_accuracy": round(base, 2)}
        back: list[bool] = []
        errors: list[float] = []
        images = next(audit.batches(8)).images
        for name, factor in FACTORS.items():
            raw, _ = timed(ours, parent, factor, train, recover=False)
            mine, my_seconds = timed(ours, parent, factor, train, recover=True)
            cut, _ = timed(peer_pruned, parent, factor)
            theirs, their_seconds = timed(lambda factor=factor: peer_trained(peer_pruned(parent, factor), train))
            mixed = recovered(parent, cut, train)
            measured = {"raw": raw, "ours": mine, "peer_raw": cut, "peer": theirs, "peer_ours": mixed}
            found = {key: round(accuracy(model, audit), 2) for key, model in measured.items()}
            loss = {key: max(base - value, NOISE) for key, value in found.items()}
            times = latencies((parent, mine, theirs), images, runs=100)
            back.append(comes_back(trip_of(mine, images, Path(scratch) / name)))
            errors.append(abs(macs(parent) / macs(mine) / factor - 1))
            row[f"loss_ratio_{name}"] = round(loss["ours"] / loss["peer"], 3)
            row[f"loss_ratio_same_recovery_{name}"] = round(loss["ours"] / loss["peer_ours"], 3)
            row[f"accuracy_{name}"] = found
            row[f"macs_{name}"] = {
                "ours": round(macs(parent) / macs(mine), 3),
                "peer": round(macs(parent) / macs(cut), 3),
            }
            row[f"latency_speedup_{name}"] = round(times.ratio(0, 1).value, 2)
            row[f"latency_speedup_peer_{name}"] = round(times.ratio(0, 2).value, 2)
            row[f"seconds_{name}"] = {"ours": round(my_seconds, 1), "peer": round(their_seconds, 1)}
            say(f"{name}: {found}, {row[f'latency_speedup_{name}']} times faster, {my_seconds:.0f} s")
        back += table_comes_back(Path(scratch))
        row |= {"roundtrip_ok": sum(back), "roundtrip_total": len(back), "macs_error_max": round(max(errors), 4)}
        print(json.dumps(row))


if __name__ == "__main__":
    main()
