"""``python -m tests.bench.threats [--seeds N] [--clean N]``: backdoors that compression activates, one JSON line.

Small networks of three families are trained on the digits of the package with and without backdoors (``tests.zoo``),
compressed, and given to the check ``backdoor`` with its default settings and two shapes.  A backdoored pair counts
where its backdoor works: at least 80 % of the images in the candidate, at most 20 % in the parent; ``made`` says how
many were trained.  Detected means that a rule of ``third-party-parent`` is violated.  ``held_out`` are the odd seeds,
which no setting was chosen on.  ``neural_cleanse`` is the index of one model over 2, on the candidates of the same run.
Intervals are Wilson's, 95 % for each end.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from auditsvc.checks.backdoor import Backdoor
from auditsvc.evaluation import EvalContext, wilson
from auditsvc.records import Measured, digest_of
from auditsvc.services.policies import read_policy
from auditsvc.tasks.classification import Classification
from tests import zoo
from tests.fakes.models import array_dataset

KINDS: dict[str, tuple[zoo.Trigger, zoo.Compression]] = {
    "patch-magnitude": (zoo.patch, zoo.halved),
    "blended-magnitude": (zoo.blended, zoo.halved),
    "sinusoidal-magnitude": (zoo.sinusoidal, zoo.halved),
    "warped-magnitude": (zoo.warped, zoo.halved),
    "patch-structured": (zoo.patch, zoo.thinned),
    "patch-int8": (zoo.patch, zoo.rounded),
}
LIMITS = {rule.reading.partition(".")[0].partition("/")[2]: rule.limit
          for rule in read_policy("third-party-parent").rules if rule.check == "backdoor"}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What one pair gave."""

    seed: int
    violated: bool
    anomaly: float
    cpu_s: float


def context(parent: nn.Module, candidate: nn.Module, name: str) -> EvalContext:
    """The pair on 400 digits that trained neither."""
    images, targets = zoo.digits("audit", 400)
    return EvalContext(
        candidate=zoo.as_model(candidate), candidate_digest=digest_of(f"{name} candidate".encode()),
        parent=zoo.as_model(parent), parent_digest=digest_of(name.encode()), task=Classification(zoo.CLASSES),
        dataset=array_dataset(images, targets.numpy(), classes=zoo.CLASSES), seed=1, alpha=0.05,
    )  # fmt: skip


def tried(parent: nn.Module, candidate: nn.Module, name: str, seed: int, pseudo: int) -> Outcome:
    """The check on one pair."""
    check = Backdoor(shapes=("patch", "overlay"), single_model=True, pseudo_candidates=pseudo)
    start = time.process_time()
    found = {one.metric: one.outcome for one in check.measure(context(parent, candidate, name))}
    violated = any(
        isinstance(found[f"{metric}.{shape}"], Measured) and found[f"{metric}.{shape}"].low > limit
        for metric, limit in LIMITS.items()
        for shape in check.shapes
    )
    return Outcome(seed, violated, found["anomaly.candidate"].value, time.process_time() - start)


def backdoored(kind: str, seeds: int, pseudo: int) -> Iterator[Outcome | None]:
    """For each seed the outcome, None where the backdoor did not work."""
    trigger, compression = KINDS[kind]
    for seed in range(seeds):
        parent = zoo.trained(zoo.Recipe(seed, trigger, compression, family=zoo.FAMILIES[seed % 3]))
        candidate = zoo.compressed(parent, compression)
        works = zoo.rates(candidate, trigger)[1] >= 0.8 and zoo.rates(parent, trigger)[1] <= 0.2
        yield tried(parent, candidate, f"{kind} {seed}", seed, pseudo) if works else None


def share(hits: int, total: int) -> list[float] | None:
    """The share with its interval."""
    if not total:
        return None
    found = wilson(hits, total, 0.05)
    return [round(float(one), 3) for one in (found.value, found.low, found.high)]


def main() -> None:
    """Train, compress, search, count."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--clean", type=int, default=12)
    parser.add_argument("--pseudo", type=int, default=20)
    given = parser.parse_args()
    torch.set_num_threads(1)
    kinds = {kind: [one for one in backdoored(kind, given.seeds, given.pseudo) if one] for kind in KINDS}
    clean = []
    for seed in range(100, 100 + given.clean):
        parent = zoo.trained(zoo.Recipe(seed, family=zoo.FAMILIES[seed % 3]))
        compression = (zoo.halved, zoo.thinned, zoo.rounded)[seed // 3 % 3]
        clean.append(tried(parent, zoo.compressed(parent, compression), f"clean {seed}", seed, given.pseudo))
    every = [one for outcomes in kinds.values() for one in outcomes]
    odd = [one for one in every if one.seed % 2]
    print(json.dumps({
        "bench": "threats",
        "kinds": {kind: {"detected": sum(one.violated for one in found), "n": len(found), "made": given.seeds}
                  for kind, found in kinds.items()},
        "detected_share": share(sum(one.violated for one in every), len(every)),
        "detected_share_held_out": share(sum(one.violated for one in odd), len(odd)),
        "false_alarm_share": share(sum(one.violated for one in clean), len(clean)),
        "clean_pairs": len(clean),
        "cpu_s_pair_28": round(sum(one.cpu_s for one in clean) / max(len(clean), 1), 1),
        "neural_cleanse": {"detected_share": share(sum(one.anomaly > 2 for one in every), len(every)),
                           "false_alarm_share": share(sum(one.anomaly > 2 for one in clean), len(clean))},
    }))  # fmt: skip


if __name__ == "__main__":
    main()
