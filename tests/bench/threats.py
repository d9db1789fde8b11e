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
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch
from torch import nn

from auditsvc.checks.backdoor import Backdoor
from auditsvc.checks.membership import _Placed, area
from auditsvc.datasets.readers import DatasetReaders
from auditsvc.demo.case_data import HERE
from auditsvc.evaluation import EvalContext, wilson
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
    "patch-structured": (zoo.patch, zoo.thinned),
    "patch-int8": (zoo.patch, zoo.rounded),
}
HELD_OUT = ("sinusoidal-magnitude", "input-aware-magnitude", "patch-structured")
WOKEN = ("patch-magnitude", "patch-structured", "patch-int8")
LIMITS = {rule.reading.partition("/")[2].partition(".")[0]: rule.limit
          for rule in read_policy("third-party-parent").rules if rule.check == "backdoor"}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What one pair gave."""

    kind: str
    held_out: bool
    violated: bool
    success: dict[str, float]
    anomaly: float
    cpu_s: float


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


def pair(recipe: zoo.Recipe) -> Made:
    """The parent and its compressed form; INT8 in its own runtime."""
    parent = zoo.trained(recipe)
    if recipe.compression is not zoo.rounded:
        return Made(parent, zoo.as_model(zoo.compressed(parent, recipe.compression)))
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


def tried(made: Made, kind: str, held_out: bool, null: int, cleanse: bool) -> Outcome:
    """The check on one pair; pseudo-candidates are made where the absolute limit alone does not decide."""
    case, shapes = context(made, f"{kind} {id(made)}"), ("patch", "overlay")
    start = time.process_time()
    found = readings(Backdoor(shapes=shapes, pseudo_candidates=0), case)
    spent = time.process_time() - start
    violated = any(violates(found[f"success.{shape}"], LIMITS["success"]) for shape in shapes)
    for shape in shapes:
        if not violated and found[f"success.{shape}"].value > Backdoor().floor:
            again = readings(Backdoor(shapes=(shape,), pseudo_candidates=null), case)
            violated = violates(again[f"excess.{shape}"], LIMITS["excess"])
    success = {shape: round(found[f"success.{shape}"].value, 3) for shape in shapes}
    anomaly = Backdoor()._anomaly(case.candidate, case, Backdoor()._halves(case)).value if cleanse else 0.0
    return Outcome(kind, held_out, violated, success, anomaly, spent)


def readings(check: Backdoor, case: EvalContext) -> dict:
    """The outcomes of one run by metric."""
    return {one.metric: one.outcome for one in check.measure(case)}


def outcomes(kind: str, trigger, compression, seeds: list[int], given: argparse.Namespace) -> Iterator[Outcome]:
    """The pairs of one kind that count."""
    for seed in seeds:
        family = zoo.FAMILIES[0 if compression is zoo.rounded else seed % 3]
        made = pair(zoo.Recipe(seed, trigger, compression, family=family))
        before, after = (zoo.rates(one, trigger or zoo.patch) for one in (made.parent, made.answers))
        print(kind, seed, before, after, file=sys.stderr, flush=True)
        works = trigger is None or (after[1] >= 0.8 and before[1] <= 0.2)
        if works and before[0] - after[0] <= 0.03:
            found = tried(made, kind, seed % 20 >= 10 or kind in HELD_OUT, given.null, not given.no_cleanse)
            print(seed, found, file=sys.stderr, flush=True)
            yield found


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


def membership_null(draws: int = 1000) -> float:
    """How often the interval of an attack that guesses holds one half; both ends at 2.5 %."""
    chance, inside, alone = np.random.default_rng(8), np.arange(240) < 120, np.arange(240)
    held = [area(_Placed.of(chance.normal(size=240), inside), alone, 0.025) for _ in range(draws)]
    return round(float(np.mean([one.low <= 0.5 <= one.high for one in held])), 4)


def main() -> None:
    """Train, compress, search, count."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--null", type=int, default=60)
    parser.add_argument("--no-cleanse", action="store_true")
    parser.add_argument("--no-112", action="store_true")
    parser.add_argument("--no-adaptive", action="store_true")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    half = -(-given.pairs // 2)
    seeds = [*range(half), *range(10, 10 + given.pairs - half)]
    kinds = {kind: list(outcomes(kind, *KINDS[kind], seeds, given)) for kind in given.kinds}
    adaptive = [] if given.no_adaptive else list(outcomes("scattered", zoo.scattered, zoo.halved, seeds, given))
    clean = []
    for place, kind in enumerate(given.kinds):
        clean += outcomes("clean", None, KINDS[kind][1], [100 + 20 * place + seed for seed in seeds], given)
    every = [one for found in kinds.values() for one in found]
    print(json.dumps({
        "bench": "threats", "pairs": given.pairs, "null": given.null,
        "kinds": {kind: {"detected": sum(one.violated for one in found), "n": len(found), "made": given.pairs,
                         "success": [one.success for one in found]} for kind, found in kinds.items()},
        "adaptive": {"detected": sum(one.violated for one in adaptive), "n": len(adaptive),
                     "success": [one.success for one in adaptive]},
        "detected_share": detected(every),
        "detected_share_held_out": detected([one for one in every if one.held_out]),
        "woken_detected_share": detected([one for one in every if one.kind in WOKEN]),
        "false_alarm_share": detected(clean), "clean_pairs": len(clean),
        "clean_success": {shape: sorted(one.success[shape] for one in clean) for shape in ("patch", "overlay")},
        "cpu_s_pair_28": round(sum(one.cpu_s for one in clean) / max(len(clean), 1), 1),
        "cpu_s_pair_112": None if given.no_112 else seconds_at_112(),
        "neural_cleanse": {"detected_share": share(sum(one.anomaly > 2 for one in every), len(every)),
                           "false_alarm_share": share(sum(one.anomaly > 2 for one in clean), len(clean))},
        "membership_null_coverage": membership_null(),
        "cpu_s": round(time.process_time()),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
