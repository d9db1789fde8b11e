"""``python -m tests.bench.threats [--pairs N] [--null N]``: threats to a compressed model, one JSON line.

Small networks of three families are trained on the digits of the package with backdoors that only their compressed form
obeys (``tests.zoo``), and as many controls by the same training without a trigger.  INT8 candidates are real ones: the
float twin is searched, ONNX Runtime's answers to the exported file are scored.  A pair counts where its backdoor works
(at least 80 % in the candidate, at most 20 % in the parent) and where the compression costs at most 3 points of
accuracy, as a policy would demand; ``made`` says how many were trained.  Detected means that a rule of
``third-party-parent`` is violated by the check with two shapes and ``--null`` pseudo-candidates.

``N`` pairs of each kind: seeds 0, 1, ... were used when settings were chosen; seeds 10, 11, ... and all pairs of the
kinds in ``HELD_OUT`` were not, and are ``detected_share_held_out``.  ``adaptive`` is an attacker with many weak
triggers.  ``neural_cleanse`` is that method's index over 2, on the same candidates.  Intervals are Wilson's, 95 % for
each end; controls of one seed share a family, not weights.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from auditsvc.checks import backdoor
from auditsvc.checks.backdoor import Backdoor
from auditsvc.checks.extraction import Extraction
from auditsvc.checks.membership import _Placed, area, margins
from auditsvc.checks.poisoning import _seen, _split
from auditsvc.datasets.readers import DatasetReaders
from auditsvc.demo.case_data import HERE
from auditsvc.evaluation import EvalContext, wilson
from auditsvc.evaluation.attacks import trigger
from auditsvc.evaluation.inference import fold_batchnorm
from auditsvc.models import Model, assemble, read_card, read_weights
from auditsvc.models.fake_quantization import install_int8
from auditsvc.pruning.storage_formats import in_format
from auditsvc.records import Measured, digest_of
from auditsvc.runtimes.onnx_export import onnx_bytes
from auditsvc.services.policies import read_policy
from auditsvc.tasks.classification import Classification
from tests import zoo
from tests.fakes.models import array_dataset

KINDS: dict[str, tuple[zoo.Trigger, zoo.Compression]] = {
    "patch-magnitude": (zoo.patch, zoo.halved),
    "blended-magnitude": (zoo.blended, zoo.halved),
    "sinusoidal-magnitude": (zoo.sinusoidal, zoo.halved),
    "warped-magnitude": (zoo.warped, zoo.halved),
    "input-aware-magnitude": (zoo.input_aware, zoo.halved),
    "label-consistent-magnitude": (zoo.corners, zoo.halved),
    "patch-structured": (zoo.patch, zoo.thinned),
    "blended-structured": (zoo.blended, zoo.thinned),
    "patch-tuned": (zoo.patch, zoo.tuned),
    "patch-int8": (zoo.patch, zoo.rounded),
}
HELD_OUT = ("sinusoidal-magnitude", "input-aware-magnitude", "patch-structured", "patch-tuned")
WOKEN = ("patch-magnitude", "patch-structured", "blended-structured", "patch-int8")
ZOO = Path(zoo.__file__).read_bytes()
CODE = digest_of(b"".join(Path(str(one)).read_bytes() for one in (backdoor.__file__, trigger.__file__, __file__)))
COMPRESSIONS = {"magnitude": zoo.halved, "structured": zoo.thinned, "tuned": zoo.tuned, "int8": zoo.rounded}
LIMITS = {rule.reading.partition("/")[2].partition(".")[0]: rule.limit
          for rule in read_policy("third-party-parent").rules if rule.check == "backdoor"}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What one pair gave."""

    kind: str
    held_out: bool
    violated: bool
    success: dict[str, float]
    anomaly: tuple[float, float]
    """Neural Cleanse's index and MM-BD's p-value of the candidate alone."""
    cpu_s: float
    counts: bool = True


@dataclass(frozen=True)
class Made:
    """A pair: what ships, and how else its file answers."""

    parent: nn.Module
    candidate: Model
    also: tuple = ()

    @property
    def answers(self):
        """The answers that count."""
        return self.also[0] if self.also else self.candidate


def name_of(recipe: zoo.Recipe, *more: object) -> str:
    """What depends on these and on how the zoo is trained."""
    name = [getattr(one, "__name__", one) for one in (*vars(recipe).values(), *more)]
    return hashlib.sha256(ZOO + repr(name).encode()).hexdigest()


def pair(recipe: zoo.Recipe, folder: Path) -> Made:
    """The parent and its compressed form; INT8 in its own runtime.  Parents are kept in ``folder`` for the next run."""
    file, parent = folder / f"{name_of(recipe)}.safetensors", zoo.network(recipe)
    if file.exists():
        parent.load_state_dict(load_file(file))
    else:
        parent = zoo.trained(recipe)
        part = file.with_suffix(f".{os.getpid()}")
        save_file(parent.state_dict(), part)
        part.replace(file)
    parent.eval()
    if recipe.compression is not zoo.rounded:
        return Made(parent, zoo.as_model(zoo.compressed(parent, recipe.compression or zoo.tuned)))
    images, targets = zoo.digits("train", 512)
    saved = in_format(zoo.as_model(copy.deepcopy(parent)), "int8", array_dataset(images, targets.numpy()))
    module = copy.deepcopy(parent)
    install_int8(module, saved)
    module.load_state_dict(saved)
    model = zoo.as_model(module.eval())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    run = onnxruntime.InferenceSession(onnx_bytes(model, images[:8]), options, providers=["CPUExecutionProvider"])
    return Made(parent, model, (lambda some: torch.from_numpy(run.run(None, {"images": some.numpy()})[0]),))


def context(made: Made, name: str) -> EvalContext:
    """The pair on 400 digits that trained neither."""
    images, targets = zoo.digits("audit", 400)
    return EvalContext(
        candidate=made.candidate, candidate_digest=digest_of(f"{name} candidate".encode()), also=made.also,
        parent=zoo.as_model(made.parent), parent_digest=digest_of(name.encode()), task=Classification(zoo.CLASSES),
        dataset=array_dataset(images, targets.numpy(), classes=zoo.CLASSES), seed=1, alpha=0.05,
    )  # fmt: skip


def violates(outcome, limit: float) -> bool:
    """Whether the whole interval is over the limit."""
    return isinstance(outcome, Measured) and outcome.low > limit


def tried(made: Made, kind: str, held_out: bool, given: argparse.Namespace) -> Outcome:
    """The check on one pair; pseudo-candidates are made where the absolute limit alone does not decide."""
    case, shapes = context(made, f"{kind} {id(made)}"), ("patch", "overlay")
    start = time.process_time()
    found = readings(Backdoor(shapes=shapes, pseudo_candidates=0), case)
    violated = any(violates(found[f"success.{shape}"], LIMITS["success"]) for shape in shapes)
    for shape in shapes:
        success = found[f"success.{shape}"]
        for null in (4, given.null):  # more pseudo-candidates never give a larger excess, and the first are kept
            if violated or success.value <= Backdoor().floor or not violates(success, LIMITS["excess"]):
                break
            again = readings(Backdoor(shapes=(shape,), pseudo_candidates=null), case)[f"excess.{shape}"]
            if not violates(again, LIMITS["excess"]):
                break
            violated = null == given.null
    spent = time.process_time() - start
    success = {shape: round(found[f"success.{shape}"].value, 3) for shape in shapes}
    alone, halves = Backdoor(), Backdoor()._halves(case)
    model = fold_batchnorm(case.candidate)
    anomaly = () if given.no_cleanse else alone._alone(model, case, halves).values()
    return Outcome(kind, held_out, violated, success, tuple(round(one.value, 3) for one in anomaly), spent)


def readings(check: Backdoor, case: EvalContext) -> dict:
    """The outcomes of one run by metric."""
    return {one.metric: one.outcome for one in check.measure(case)}


def outcomes(kind: str, how, compression, seeds: list[int], given: argparse.Namespace, **more) -> Iterator[Outcome]:
    """The pairs of one kind that count."""
    for seed in seeds:
        family = zoo.FAMILIES[0 if compression is zoo.rounded else seed % 3]
        poison = zoo.label_consistent if kind.startswith("label") else zoo.relabelled
        steps = 240 if how is zoo.warped or more else 120
        recipe = zoo.Recipe(seed, how, compression, steps=steps, family=family, poison=poison, **more)
        file = given.folder / f"{name_of(recipe, kind, given.null, given.no_cleanse, CODE)}.json"
        if not file.exists():
            found = asdict(judged(pair(recipe, given.folder), kind, recipe, given))
            file.with_suffix(f".{os.getpid()}").write_text(json.dumps(found))
            file.with_suffix(f".{os.getpid()}").replace(file)
        found = Outcome(**json.loads(file.read_text()))
        print(kind, seed, found, file=sys.stderr, flush=True)
        if found.counts:
            yield found


def judged(made: Made, kind: str, recipe: zoo.Recipe, given: argparse.Namespace) -> Outcome:
    """Whether the pair counts, and what the check says then."""
    before, after = (zoo.rates(one, recipe.trigger or zoo.patch) for one in (made.parent, made.answers))
    works = recipe.trigger is None or (after[1] >= 0.8 and (before[1] <= 0.2 or recipe.compression is None))
    if not works or before[0] - after[0] > 0.03:
        return Outcome(kind, False, False, {"parent": before, "candidate": after}, (), 0.0, counts=False)
    return tried(made, kind, recipe.seed % 20 >= 10 or kind in HELD_OUT, given)


def share(hits: int, total: int) -> list[float] | None:
    """The share with its interval."""
    if not total:
        return None
    found = wilson(hits, total, 0.05)
    return [round(float(one), 3) for one in (found.value, found.low, found.high)]


def detected(ones: list[Outcome]) -> list[float] | None:
    """The share of these that violate a rule."""
    return share(sum(one.violated for one in ones), len(ones))


def seconds_at_112() -> dict[str, float]:
    """CPU seconds of the check, one shape, on the demo's portraits (112 x 112, two classes) and their network."""
    folder = HERE / "faces" / "model"
    loaded = [assemble(read_weights((folder / "model.safetensors").read_bytes()),
                       read_card((folder / "architecture.json").read_bytes())) for _ in range(2)]  # fmt: skip
    candidate, parent = Model(zoo.compressed(loaded[0].module, zoo.halved), loaded[0].card), loaded[1]
    dataset = DatasetReaders().open(HERE / "faces" / "dataset.yaml")
    case = EvalContext(
        candidate=candidate, candidate_digest=digest_of(b"c"), parent=parent, parent_digest=digest_of(b"p"),
        task=Classification(dataset.classes), dataset=dataset, seed=1, alpha=0.05,
    )  # fmt: skip
    spent = {}
    for shape in ("patch", "overlay"):
        start = time.process_time()
        found = readings(Backdoor(shapes=(shape,), pseudo_candidates=0), case)
        spent[shape] = round(time.process_time() - start, 1)
        spent[f"success.{shape}"] = round(found[f"success.{shape}"].value, 3)
    return spent


def membership_null(made: Made, draws: int = 1000) -> float:
    """How often the interval holds one half for a network that saw none of the images; both ends at 2.5 %."""
    images, targets = zoo.digits("audit", 400)
    with torch.inference_mode():
        scores = margins(zoo.as_model(made.parent)(images), targets).double().numpy()
    chance, held = np.random.default_rng(8), []
    for _ in range(draws):
        some = chance.permutation(400)[:240]
        held.append(area(_Placed.of(scores[some], np.arange(240) < 120), np.arange(240), 0.025))
    return round(float(np.mean([one.low <= 0.5 <= one.high for one in held])), 4)


def extraction(made: Made) -> dict[str, float]:
    """The curve of agreement of the check's students."""
    found = readings(Extraction(), context(made, "extraction"))
    return {name: round(one.value, 3) for name, one in found.items() if isinstance(one, Measured)}


def poisoning(given: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Precision and recall on 30 of about 90 training images of one class: the check, and ART's two defences."""
    from art.defences.detector.poison import ActivationDefence, SpectralSignatureDefense
    from art.estimators.classification import PyTorchClassifier

    found: dict[str, dict[str, list[float]]] = {}
    for seed, family in enumerate(zoo.FAMILIES):
        parent = pair(zoo.Recipe(seed, zoo.patch, family=family), given.folder).parent
        images, targets = zoo.digits("train", 630)
        others = torch.nonzero(targets != zoo.TARGET).flatten()[:30]
        images, targets, poisoned = images.clone(), targets.clone(), np.isin(np.arange(630), others)
        images[others], targets[others] = zoo.patch(images[others]), zoo.TARGET
        features = _seen(zoo.as_model(parent), images)[0]
        splits = [split for split in (_split(features, targets, number) for number in range(10)) if split]
        best = max(splits, key=lambda split: split.separation)
        suspects = {"check": np.isin(np.arange(630), best.suspects)}
        wrapped = PyTorchClassifier(parent, torch.nn.CrossEntropyLoss(), (1, 28, 28), 10, clip_values=(0, 1))
        pixels, labels = images.numpy(), np.eye(10, dtype=np.float32)[targets]
        _, kept = ActivationDefence(wrapped, pixels, labels).detect_poison(nb_clusters=2, nb_dims=10, reduce="PCA")
        suspects["activation_clustering"] = np.array(kept) == 0
        _, kept = SpectralSignatureDefense(wrapped, pixels, labels, expected_pp_poison=0.05).detect_poison()
        suspects["spectral_signatures"] = np.array(kept) == 0
        for name, ones in suspects.items():
            hits = int((ones & poisoned).sum())
            rates = [round(hits / max(int(ones.sum()), 1), 2), round(hits / 30, 2)]
            found.setdefault(name, {})[family] = rates
    return found


def single(ones: list[Outcome], place: int) -> list[float] | None:
    """The share that Neural Cleanse (0) or MM-BD (1) calls a backdoor."""
    hits = [one.anomaly[1] < 0.05 if place else one.anomaly[0] > 2 for one in ones if one.anomaly]
    return share(sum(hits), len(hits))


def main() -> None:
    """Train, compress, search, count."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--clean", type=int, default=16, help="controls for each of four compressions")
    parser.add_argument("--null", type=int, default=60)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "auditsvc-threats")
    parser.add_argument("--no-cleanse", action="store_true")
    parser.add_argument("--no-112", action="store_true")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), help="with none, another process does them")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    half = given.pairs // 2
    seeds = [*range(half), *range(10, 10 + given.pairs - half)]
    kinds = {kind: list(outcomes(kind, *KINDS[kind], seeds, given)) for kind in given.kinds}
    few, many = seeds[half:][:3], [20 + seed for seed in range(given.clean)]
    weak = list(outcomes("scattered", zoo.scattered, zoo.halved, few, given))
    adaptive = {
        "many-weak": weak,
        "parent-moves": list(outcomes("moves", zoo.patch, zoo.halved, few, given, evades=True)),
    }
    classic = list(outcomes("classic", zoo.patch, None, few, given))
    clean = [one for name, how in COMPRESSIONS.items() for one in outcomes(f"clean-{name}", None, how, many, given)]
    every, honest = (
        [one for found in kinds.values() for one in found],
        pair(zoo.Recipe(0, family="plain"), given.folder),
    )
    print(json.dumps({
        "bench": "threats", "pairs": given.pairs, "null": given.null,
        "kinds": {kind: {"detected": sum(one.violated for one in found), "n": len(found), "made": given.pairs}
                  for kind, found in kinds.items()},
        "adaptive": {kind: {"detected": sum(one.violated for one in found), "n": len(found), "made": len(few),
                            "neural_cleanse": single(found, 0)} for kind, found in adaptive.items()},
        "in_both_models": {"differential": detected(classic), "neural_cleanse": single(classic, 0),
                           "mm_bd": single(classic, 1)},
        "detected_share": detected(every),
        "detected_share_held_out": detected([one for one in every if one.held_out]),
        "woken_detected_share": detected([one for one in every if one.kind in WOKEN]),
        "false_alarm_share": detected(clean), "clean_pairs": len(clean),
        "clean_success": {shape: [round(float(part), 3) for part in
                                  np.quantile([one.success[shape] for one in clean] or [0], (0.5, 0.9, 1))]
                          for shape in ("patch", "overlay")},
        "cpu_s_pair_28": round(float(np.mean([one.cpu_s for one in clean] or [0])), 1),
        "cpu_s_pair_112": None if given.no_112 else seconds_at_112(),
        "neural_cleanse": {"detected_share": single(every, 0), "false_alarm_share": single(clean, 0)},
        "mm_bd": {"detected_share": single(every, 1), "false_alarm_share": single(clean, 1)},
        "poisoning": poisoning(given),
        "membership_null_coverage": membership_null(honest),
        "extraction_agreement": extraction(honest),
        "cpu_s": round(time.process_time()),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
