"""``python -m tests.bench.truth [PART ...]``: headline numbers against an independent recomputation, one JSON line.

``tests.references.recompute`` computes them again with libraries alone.  Third-party models and data: the face
network of face-api on official portraits (in the package), and, where the packs are there, LPRNet on licence plates,
SINet on photographs of nuclei (a wrong domain: the numbers matter, not the model) and UltraFace on portraits.  The
candidate of an ONNX file is the file with the smaller half of each weight tensor set to zero.

``numbers`` were compared, ``equal`` of them agree to 1e-6; ``transfer_excess`` and ``masked_overreported`` use small
networks trained on the packaged digits; ``mark_flips_upper_max`` is the upper end of the share of answers that the
mark changed where at least ``ENOUGH`` images were judged (fewer can't show 0.1 %); ``recovery_loss_pp_max`` and
``recovery_loss_pp_peer`` are points lost after structured pruning to half of the MACs with this package's recovery and
with Torch-Pruning's own recipe in the same CPU time.  ``BENCH_CIFAR`` may name a folder with ``cifar.npz`` (x_train,
y_train, x_test, y_test) and ONNX files of CIFAR networks, which are marked and recovered then; else the digits'.
Standard error names what is not on this machine, and each part's CPU seconds.
"""

from __future__ import annotations

import copy
import csv
import importlib.util
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

import auditsvc
from auditsvc import pruning
from auditsvc.checks.accuracy import Accuracy
from auditsvc.checks.adversarial import Adversarial
from auditsvc.checks.average_precision import AveragePrecision, average_precision, ranked
from auditsvc.checks.fairness import Fairness
from auditsvc.checks.semantic_segmentation import SemanticSegmentation
from auditsvc.checks.text_recognition import TextRecognition
from auditsvc.datasets import Batch, Dataset, Slices
from auditsvc.datasets.readers import DatasetReaders
from auditsvc.demo.parent_models import trained_digits
from auditsvc.evaluation import Check, EvalContext
from auditsvc.evaluation.intervals import wilson
from auditsvc.evaluation.metrics.hota import association, counted, hota, identity, linked_tracks
from auditsvc.importing import open_folder
from auditsvc.importing.onnx_import import from_onnx
from auditsvc.models import ArchitectureCard, InputSpec, Model, assemble
from auditsvc.pruning.dependency_graph import dependency_graph_of
from auditsvc.pruning.plan import Training
from auditsvc.pruning.recovery import _moved as moved
from auditsvc.records import DatasetRef, Measured, Recipe, digest_of
from auditsvc.tasks import task_named
from auditsvc.watermark import Payload, derive_seed, embed, weights_digest
from tests.bench.coverage import calibration
from tests.evaluation.test_following import world
from tests.evaluation.test_ranking import Table, batches, coco, crowded
from tests.packs import ROOT
from tests.references import recompute

HERE = Path(auditsvc.__file__).parent
ALPHA, SAME = 0.05, 1e-6
PLATES, PHOTOS, PORTRAITS, ATTACKED = 300, 30, 50, 64
EPOCHS, ENOUGH = 6, 2703
"""Epochs of recovery; the images of which none may change for an upper end of 0.1 %."""

LEARNED, JUDGED = 10_000, 3000
ON_CIFAR = {"epochs": 2, "batch": 32, "rate": 0.05, "share": 0.7, "flip": True, "shift": 4}
"""Images that CIFAR networks learn from and are judged by, and the recovery."""

MOVES = {"batch", "flip", "shift"}

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

Line = dict[str, float]


@dataclass
class Memory:
    """A data set in memory."""

    images: Tensor
    targets: Tensor
    classes: tuple[str, ...]
    ref: DatasetRef
    slices: Slices

    @classmethod
    def of(cls, images: NDArray[np.float32], targets: Tensor, classes: tuple[str, ...], task: str) -> Memory:
        ref = DatasetRef(name=task, digest=digest_of(images.tobytes()), task=task, images=len(images), slices=(),
                         source="bench", licence="none")  # fmt: skip
        return cls(torch.from_numpy(images), targets, classes, ref, Slices(len(images), ()))

    def batches(self, size: int, chosen: NDArray[np.int64] | None = None) -> Iterator[Batch]:
        numbers = np.arange(len(self.images)) if chosen is None else chosen
        for start in range(0, len(numbers), size):
            part = torch.from_numpy(np.asarray(numbers[start : start + size]))
            yield Batch(self.images[part], self.targets[part], part)

    def target_of(self, index: int) -> object:
        return self.targets[index]

    def name_of(self, index: int) -> str:
        return str(index)

    def thumbnail(self, index: int) -> bytes:
        return b""


class Session(nn.Module):
    """An ONNX file as the product is given it here: outputs joined along the last axis."""

    def __init__(self, file: bytes, outputs: tuple[str, ...]) -> None:
        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.outputs_wanted = outputs

    def forward(self, images: Tensor) -> Tensor:
        name = self.session.get_inputs()[0].name
        rows = [self.session.run(list(self.outputs_wanted), {name: image[None]}) for image in images.numpy()]
        return torch.cat([torch.from_numpy(np.concatenate(part)) for part in zip(*rows, strict=True)], dim=-1)


def halved(file: bytes) -> bytes:
    """The same graph with the smaller half of each large weight tensor set to zero."""
    model = onnx.load_from_string(file)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.ndim >= 2 and values.dtype == np.float32:
            kept = np.where(np.abs(values) >= np.quantile(np.abs(values), 0.5), values, 0).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(kept, tensor.name))
    return model.SerializeToString()


class Ledger:
    """Pairs of numbers; what differs is printed to standard error."""

    def __init__(self) -> None:
        self.numbers = self.equal = 0
        self.largest = 0.0
        self.skipped: list[str] = []

    def add(self, name: str, ours: float, theirs: float) -> None:
        difference = abs(ours - theirs)
        self.numbers += 1
        self.equal += difference <= SAME
        self.largest = max(self.largest, difference)
        if difference > SAME:
            print(f"{name}: {ours:.9g} here, {theirs:.9g} in the reference", file=sys.stderr)


def context(candidate: nn.Module | Model, parent: nn.Module | Model, data: Dataset, batch: int = 32) -> EvalContext:
    spec = InputSpec(**dict(zip(("channels", "height", "width"), next(data.batches(1)).images.shape[1:], strict=True)))
    card = ArchitectureCard(architecture="bench", task=data.ref.task, classes=data.classes, input=spec)
    own, dense = (model if isinstance(model, Model) else Model(model, card) for model in (candidate, parent))
    return EvalContext(candidate=own, candidate_digest=digest_of(b"c"), parent=dense, parent_digest=digest_of(b"p"),
                       task=task_named(data.ref.task, data.classes), dataset=data, seed=7, alpha=ALPHA,
                       batch_size=batch)  # fmt: skip


def values(check: Check, case: EvalContext, where: str = "overall") -> dict[str, Measured]:
    return {one.metric: one.outcome for one in check.measure(case)
            if one.slice == where and isinstance(one.outcome, Measured)}  # fmt: skip


def logits_of(model: Model, data: Dataset) -> NDArray[np.int64]:
    with torch.inference_mode():
        return np.concatenate([model(batch.images).argmax(1).numpy() for batch in data.batches(32)])


@cache
def face_network() -> tuple[Model, Dataset, Dataset]:
    """The network, the images that it is judged on, and those for calibration."""
    data, held = (DatasetReaders().open(HERE / f"demo/faces/{name}.yaml") for name in ("dataset", "calibration"))
    return open_folder(HERE / "demo/faces/model"), data, held


@cache
def digits() -> tuple[Model, Dataset, Dataset]:
    """A network trained on one half of the digits, the other half, and the half that it knows."""
    with tempfile.TemporaryDirectory() as scratch:
        parent = open_folder(trained_digits(Path(scratch), HERE / "demo/digits/train.yaml"))
    data, known = (DatasetReaders().open(HERE / f"demo/digits/{name}.yaml") for name in ("dataset", "train"))
    return parent, data, known


def sparse(parent: Model, share: float) -> Model:
    """The parent with this share of zeros."""
    return assemble(pruning.prune(parent, Recipe(method="magnitude-global", targets={"sparsity": share})), parent.card)


def faces(ledger: Ledger) -> Line:
    """Accuracy, its interval, and group metrics of the face network and of a marked candidate."""
    parent, data, held = face_network()
    _, candidate = marked(sparse(parent, 0.3), held, data)
    case = context(candidate, parent, data)
    truth = np.array([int(data.target_of(number)) for number in range(data.ref.images)])
    groups = next(column for column in data.slices.columns if column.column == "age_group").codes
    found = values(Accuracy(), case)
    for name, model in (("score.clean", candidate), ("parent.clean", parent)):
        value, low, high = recompute.share(logits_of(model, data) == truth, ALPHA)
        for part, theirs in (("value", value), ("low", low), ("high", high)):
            ledger.add(f"faces {name} {part}", getattr(found[name], part), theirs)
    fair = values(Fairness(columns=("age_group",), min_images=10), case)
    for prefix, model in (("", candidate), ("parent_", parent)):
        for name, value in recompute.group_metrics(truth, logits_of(model, data), groups, 1).items():
            if prefix + name in fair:
                ledger.add(f"faces {prefix}{name}", fair[prefix + name].value, value)
    return {}


def marked(model: Model, held: Dataset, data: Dataset) -> tuple[float, Model]:
    """The upper end of the share of answers that the mark changes, and the marked model."""
    images = torch.cat([batch.images for batch in held.batches(64, np.arange(min(1000, held.ref.images)))])
    unmarked = weights_digest(model.weights())
    weights, mark = embed(model.module, model, images, seed=derive_seed(bytes(range(32)), unmarked, "truth"),
                          unmarked=unmarked, payload=Payload(1, 2))  # fmt: skip
    made = assemble(weights, model.card)
    flips = int((logits_of(model, data) != logits_of(made, data)).sum())
    print(f"mark: strength {mark.parameters['epsilon']:.4f}, {flips} of {data.ref.images} answers changed, "
          f"{ {name: round(z, 1) for name, z in mark.fidelity.items()} }", file=sys.stderr)  # fmt: skip
    return float(wilson(flips, data.ref.images, ALPHA).high), made


def marks(_: Ledger) -> Line:
    """The upper ends of the shares of answers that marks change, on enough images."""
    parent, data, known = digits()
    cases = [(sparse(parent, 0.5), known, data)]
    cases += [(sparse(network, 0.3), *cifar(1000, 10_000)) for network in cifar_networks()]
    return {"mark_flips_upper_max": max(marked(*case)[0] for case in cases if case[2].ref.images >= ENOUGH)}


def place(name: str, ledger: Ledger) -> Path | None:
    found = next(iter(ROOT.parent.glob(f"*/data/{name}")), None)
    if found is None:
        ledger.skipped.append(name)
    return found


def rows(folder: Path, count: int) -> list[dict[str, str]]:
    with (folder / "metadata.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))[:count]


def pixels(path: Path, size: tuple[int, int], middle: float, scale: float, *, bgr: bool) -> NDArray[np.float32]:
    image = np.asarray(Image.open(path).convert("RGB").resize(size, Image.Resampling.BILINEAR), np.float32)
    return np.ascontiguousarray(((image[..., ::-1] if bgr else image) - middle).transpose(2, 0, 1) / scale, np.float32)


class Plates(nn.Module):
    """LPRNet's ``(N, C, T)`` as the task takes it."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.inner = session

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images).transpose(1, 2)


def plates(ledger: Ledger) -> Line:
    """Character error rate and exact texts of LPRNet and of its halved file."""
    folder = place("plates-ocr", ledger)
    if folder is None:
        return {}
    chosen = rows(folder, PLATES)
    characters = (folder / "weights/chars.txt").read_text("utf-8").strip()[:-1]
    images = np.stack([pixels(folder / row["image"], (94, 24), 127.5, 128, bgr=True) for row in chosen])
    longest = max(len(row["text"]) for row in chosen)
    targets = torch.tensor(
        [[characters.find(letter) for letter in row["text"]] + [-1] * (longest - len(row["text"])) for row in chosen]
    )
    data = Memory.of(images, targets, tuple(characters), "ocr")
    file = (folder / "weights/lprnet.onnx").read_bytes()
    files = {"parent_": file, "": halved(file)}
    networks = {name: Plates(Session(one, ("logits",))) for name, one in files.items()}
    found = values(TextRecognition(), context(networks[""], networks["parent_"], data, batch=1))
    for name, one in files.items():
        (logits,) = recompute.run_onnx(one, images, ("logits",))
        texts = recompute.read_ctc(logits.transpose(0, 2, 1), characters)
        error, exact = recompute.character_errors([row["text"] for row in chosen], texts)
        for metric, theirs in (("cer", error), ("exact_match", exact)):
            ledger.add(f"plates {name}{metric}", found[f"{name}{metric}"].value, theirs)
    return {}


def nuclei(ledger: Ledger) -> Line:
    """Mean IoU of SINet and of its halved file, with void pixels."""
    folder, models = place("dsb2018-nuclei", ledger), place("third-party-models", ledger)
    if folder is None or models is None:
        return {}
    chosen = rows(folder, PHOTOS)
    images = np.stack([pixels(folder / row["image"], (320, 320), 110, 64, bgr=True) for row in chosen])
    masks = np.stack(
        [
            np.asarray(Image.open(folder / row["mask"]).resize((320, 320), Image.Resampling.NEAREST)) > 0
            for row in chosen
        ]
    ).astype(np.int64)
    masks[:, :7] = 255
    data = Memory.of(images, torch.from_numpy(masks), ("background", "nucleus"), "segmentation")
    file = (models / "sinet/SINet.onnx").read_bytes()
    files, output = {"parent_": file, "": halved(file)}, onnx.load_from_string(file).graph.output[0].name
    networks = {name: Session(one, (output,)) for name, one in files.items()}
    found = values(SemanticSegmentation(), context(networks[""], networks["parent_"], data, batch=4))
    for name, one in files.items():
        (logits,) = recompute.run_onnx(one, images, (output,))
        ledger.add(
            f"nuclei {name}miou", found[f"{name}miou"].value, recompute.mean_iou(masks, logits.argmax(1), 2, 255)
        )
    return {}


class Portraits(nn.Module):
    """UltraFace's boxes and the confidence of a face."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.inner = session

    def forward(self, images: Tensor) -> Tensor:
        answers = self.inner(images)
        return answers[..., [0, 1, 2, 3, 5]]


def portraits(ledger: Ledger) -> Line:
    """Average precision of UltraFace and of its halved file, one in ten objects a crowd."""
    folder, models = place("congress-faces", ledger), place("third-party-models", ledger)
    if folder is None or models is None:
        return {}
    chosen = rows(folder, PORTRAITS)
    images = np.stack([pixels(folder / row["image"], (320, 240), 127, 128, bgr=False) for row in chosen])
    sides = np.array([[float(row[name]) for name in ("face_x1", "face_y1", "face_x2", "face_y2")] for row in chosen])
    sizes = np.array([[float(row["width"]), float(row["height"])] * 2 for row in chosen])
    crowd = np.arange(len(chosen)) % 10 == 0
    kinds = np.where(crowd, -2, 0)
    targets = torch.from_numpy(np.concatenate((kinds[:, None], sides / sizes), axis=1)[:, None]).float()
    data = Memory.of(images, targets, ("face",), "detection")
    file = (models / "ultraface/version-RFB-320.onnx").read_bytes()
    files = {"parent_": file, "": halved(file)}
    networks = {name: Portraits(Session(one, ("boxes", "scores"))) for name, one in files.items()}
    found = values(AveragePrecision(draws=200), context(networks[""], networks["parent_"], data, batch=8))
    there = [(number, 0, targets[number, 0, 1:].double().numpy(), bool(crowd[number])) for number in range(len(chosen))]
    for name, one in files.items():
        boxes, scores = recompute.run_onnx(one, images, ("boxes", "scores"))
        said = []
        for number in range(len(images)):
            sure = np.flatnonzero(scores[number, :, 1] > 0.001)
            sure = sure[np.argsort(-scores[number, sure, 1], kind="stable")]
            kept = sure[recompute.suppressed(boxes[number, sure].astype(float), scores[number, sure, 1], 0.5, 100)]
            said += [(number, 0, boxes[number, one_].astype(float), float(scores[number, one_, 1])) for one_ in kept]
        for metric, theirs in zip(("ap", "ap50"), recompute.coco_precision(said, there, len(images), 1), strict=True):
            ledger.add(f"portraits {name}{metric}", found[f"{name}{metric}"].value, theirs)
    return {}


def tracks(ledger: Ledger) -> Line:
    """HOTA, association accuracy and IDF1 of tracks that are linked here."""
    if importlib.util.find_spec("trackeval") is None:
        ledger.skipped.append("trackeval")
        return {}
    for seed in range(4):
        objects, answers = world(seed)
        linked = linked_tracks(answers, 0.3, 1)
        sums = counted(objects, linked).sum(axis=0)[None]
        theirs = recompute.tracking([(one.names, one.boxes) for one in objects],
                                    [(one.names, one.boxes) for one in linked])  # fmt: skip
        for name, measure, other in zip(("hota", "assa", "idf1"), (hota, association, identity), theirs, strict=True):
            ledger.add(f"tracks {seed} {name}", float(measure(sums)[0]), other)
    return {}


def crowds(_: Ledger) -> Line:
    """The largest difference of average precision from pycocotools over generated crowds, ties and empty classes."""
    largest = 0.0
    for seed in range(8):
        outputs, targets = crowded(seed)
        card = ArchitectureCard(architecture="bench", task="detection", classes=tuple("abcd"),
                                input=InputSpec(channels=1, height=8, width=8))  # fmt: skip
        own = average_precision(ranked(Model(Table(outputs), card), batches(targets), 4), np.ones((1, len(targets))))[0]
        with io.StringIO() as quiet:
            before, sys.stdout = sys.stdout, quiet
            try:
                theirs = coco(outputs, targets)
            finally:
                sys.stdout = before
        ours = (own.mean(), own[0], own[5])
        largest = max(largest, *(abs(one - other) for one, other in zip(ours, theirs, strict=True)))
    return {"ap_max_diff_with_crowds": largest}


class Around(nn.Module):
    """A network whose gradients mislead: ``tanh`` saturates its logits, ``ripple`` shakes its input."""

    def __init__(self, inner: nn.Module, kind: str) -> None:
        super().__init__()
        self.inner, self.kind = inner, kind

    def forward(self, images: Tensor) -> Tensor:
        if self.kind == "tanh":
            return 5 * torch.tanh(self.inner(images))
        return self.inner(images + 0.02 * torch.sin(3000 * images))


def attacks(_: Ledger) -> Line:
    """Transfer accuracy above the reference's; masked networks, and those whose robustness is reported too high."""
    parent, whole, _ = digits()
    first = next(whole.batches(ATTACKED))
    data = Memory.of(first.images.numpy().copy(), first.targets, whole.classes, "classification")
    pruned, excess, budgets = sparse(parent, 0.6), -1.0, (4.0, 12.0)
    check = Adversarial(budgets=budgets, methods=("fgsm",), transfer=True, images=ATTACKED)
    found = values(check, context(pruned, parent, data))
    for budget in budgets:
        theirs = recompute.transferred(parent, pruned, data.images, data.targets, budget / 255)
        excess = max(excess, found[f"score.transfer@{budget:g}"].value - theirs)
    over, kinds = 0, ("tanh", "ripple")
    for kind in kinds:
        masked = Model(Around(pruned.module, kind), pruned.card)
        found = values(Adversarial(budgets=(12.0,), methods=("ensemble",), steps=10, queries=200, images=ATTACKED),
                       context(masked, parent, data))  # fmt: skip
        theirs = recompute.margin_attack(pruned, masked, data.images, data.targets, 12 / 255, 60, 3)
        ours = found.get("score.ensemble@12")
        print(f"{kind}: {ours and ours.value} here, {theirs} in the reference", file=sys.stderr)
        over += ours is not None and ours.value > theirs + 0.05
    return {"transfer_excess": excess, "masked_models": len(kinds), "masked_overreported": over}


def recovered(parent: Model, train: Dataset, judged: Dataset, spec: dict[str, float]) -> tuple[float, float]:
    """Points lost at half of the MACs, by this package's recovery and by Torch-Pruning's recipe in the same CPU time.

    ``flip`` and ``shift`` of the spec move the peer's images too.
    """
    start = time.process_time()
    recipe = Recipe(method="structured-taylor", targets={"macs": 2, "round_to": 4}, data=train.ref.digest,
                    recovery={"distillation": spec})  # fmt: skip
    own = assemble(pruning.prune(parent, recipe, train), parent.card)
    spent = time.process_time() - start
    moves = Training.model_validate({name: spec[name] for name in MOVES & spec.keys()})
    peer = Model(by_torch_pruning(parent, train, moves, spent), replace_card(parent.card))
    truth = np.array([int(judged.target_of(number)) for number in range(judged.ref.images)])
    right = [logits_of(model, judged) == truth for model in (parent, own, peer)]
    dense, mine, theirs = (100 * float(one.mean()) for one in right)
    print(f"recovery in {spent:.0f} CPU seconds: parent {dense:.2f} %, here {mine:.2f} %, peer {theirs:.2f} %, "
          f"{len(truth)} images, standard error of a loss {100 * paired_error(right[0], right[1]):.2f} points",
          file=sys.stderr, flush=True)  # fmt: skip
    return dense - mine, dense - theirs


def paired_error(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Standard error of the difference of two shares on the same images."""
    return float((one.astype(float) - other).std() / len(one) ** 0.5)


def by_torch_pruning(parent: Model, train: Dataset, moves: Training, budget: float) -> nn.Module:
    """Torch-Pruning's own recipe: group norms, then SGD with its step schedule for ``budget`` CPU seconds.

    It is given the layers whose channels this package proves free: of padded shortcuts it makes an index error.  Where
    its rate of 0.01 diverges it has a tenth of it, and the whole time again.
    """
    import torch_pruning

    module = assemble(parent.weights(), parent.card).module.requires_grad_(True)
    image = next(train.batches(1)).images
    free = {coupled.name for coupled in dependency_graph_of(parent).coupled}
    leaves = {path: layer for path, layer in module.named_modules() if next(layer.children(), None) is None}
    fixed = [layer for path, layer in leaves.items() if path not in free]
    pruner = torch_pruning.pruner.GroupNormPruner(
        module, image, importance=torch_pruning.importance.GroupMagnitudeImportance(p=2), global_pruning=True,
        iterative_steps=100, pruning_ratio=1.0, max_pruning_ratio=1.0, ignored_layers=fixed,
    )  # fmt: skip
    macs, _ = torch_pruning.utils.count_ops_and_params(module, image)
    while torch_pruning.utils.count_ops_and_params(module, image)[0] > macs / 2 and pruner.current_step < 100:
        pruner.step()
    for rate in (0.01, 0.001, 0.0001):
        trained = copy.deepcopy(module)
        if fitted(trained, train, moves, budget, rate):
            break
        print(f"the peer diverges at the rate {rate}", file=sys.stderr)
    return trained.eval()


def fitted(module: nn.Module, train: Dataset, moves: Training, budget: float, rate: float) -> bool:
    """Train for this many CPU seconds; whether the loss stayed a number."""
    optimiser = torch.optim.SGD(module.train().parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)
    generator, start, epoch = torch.Generator().manual_seed(0), time.process_time(), 0
    while True:
        for batch in train.batches(moves.batch, np.random.default_rng(epoch).permutation(train.ref.images)):
            share = (time.process_time() - start) / budget
            for group in optimiser.param_groups:
                group["lr"] = rate * 0.1 ** ((share >= 0.6) + (share >= 0.8))
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(module(moved(batch.images, moves, generator)), batch.targets)
            if share >= 1 or not bool(torch.isfinite(loss)):
                return bool(torch.isfinite(loss))
            loss.backward()
            optimiser.step()
        epoch += 1


def replace_card(card: ArchitectureCard) -> ArchitectureCard:
    """A card without preprocessing, which the module has already."""
    return card.model_copy(update={"preprocessing": None})


def cifar(train: int, test: int) -> tuple[Memory, Memory]:
    """Images to learn from and to judge by."""
    stored = np.load(Path(os.environ["BENCH_CIFAR"]) / "cifar.npz")

    def part(which: str, count: int) -> Memory:
        images = stored[f"x_{which}"][:count].transpose(0, 3, 1, 2).astype(np.float32) / 255
        return Memory.of(np.ascontiguousarray(images), torch.from_numpy(stored[f"y_{which}"][:count].astype(np.int64)),
                         CIFAR, "classification")  # fmt: skip

    return part("train", train), part("test", test)


def cifar_networks() -> Iterator[Model]:
    """The networks in the folder, if one is named."""
    folder = os.environ.get("BENCH_CIFAR")
    card = ArchitectureCard(architecture="onnx_graph", task="classification", classes=CIFAR,
                            input=InputSpec(channels=3, height=32, width=32))  # fmt: skip
    for path in sorted(Path(folder).glob("*.onnx")) if folder else ():
        yield from_onnx(path, card)


def recoveries(_: Ledger) -> Line:
    """Points lost after recovery, of CIFAR networks where they are, else of the digits' network."""
    losses = [recovered(network, *cifar(LEARNED, JUDGED), ON_CIFAR) for network in cifar_networks()]
    if not losses:
        parent, judged, train = digits()
        losses = [recovered(parent, train, judged, {"epochs": EPOCHS, "batch": 32, "rate": 0.02, "share": 0.7})]
    return {"recovery_loss_pp_max": max(own for own, _ in losses),
            "recovery_loss_pp_peer": max(peer for _, peer in losses)}  # fmt: skip


PARTS: dict[str, Callable[[Ledger], Line]] = {
    "faces": faces, "plates": plates, "nuclei": nuclei, "portraits": portraits, "tracks": tracks, "attacks": attacks,
    "marks": marks, "recovery": recoveries, "crowds": crowds,
    "calibration": lambda _: {"calibration_change_miss": max(calibration().values())},
}  # fmt: skip


def main() -> None:
    """The parts that are named, else all; then the line."""
    torch.set_num_threads(1)
    ledger, line = Ledger(), Line()
    for name in sys.argv[1:] or PARTS:
        start = time.process_time()
        line |= PARTS[name](ledger)
        print(f"{name}: {time.process_time() - start:.0f} CPU seconds", file=sys.stderr, flush=True)
    print(f"not on this machine: {sorted(set(ledger.skipped)) or 'nothing'}", file=sys.stderr)
    print(json.dumps({
        "numbers": ledger.numbers, "equal": ledger.equal, "max_abs_diff": ledger.largest,
        **line,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
