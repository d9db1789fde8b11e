"""``python -m tests.bench.broken``: candidates broken on purpose, and good ones, before the gate; one JSON line.

The broken ones are of two kinds.  Models: a pruned digit network that fails on one writer, in the dark, on one
class, that lost its doubt, or that says nothing but noise.  Records: evidence, waivers and files that somebody
bent.  Each must be blocked, and by the finding that names what is wrong with it.

The good ones are one recipe with other seeds: half of the weights pruned, then trained a little on batches drawn
with the seed.  What the gate blocks of them is its false-block rate.  ``--seeds N`` takes another number than 20.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import auditsvc
from auditsvc import pruning
from auditsvc.checks import check_named
from auditsvc.datasets.image_dataset import ImageDataset
from auditsvc.datasets.readers import DatasetReaders
from auditsvc.demo.parent_models import trained_digits
from auditsvc.errors import AuditError, Conflict
from auditsvc.evaluation import EvalContext, Predictions
from auditsvc.gate import decide
from auditsvc.models import Model, assemble, load_model
from auditsvc.provenance import TrustRoot, verify
from auditsvc.records import (
    Candidate,
    Decision,
    Evidence,
    EvidenceKey,
    Policy,
    Reading,
    Recipe,
    Unmeasured,
    Waiver,
    digest_of,
)
from auditsvc.records.eligibility import slicing_of
from auditsvc.services.candidates import prune_candidate, register_parent, submit
from auditsvc.services.decisions import approve, judge
from auditsvc.services.measurement import measure_candidate
from auditsvc.services.policies import parse_policy
from auditsvc.services.power import with_policy_slices
from auditsvc.services.release import release, release_folder
from auditsvc.tasks import task_named
from tests.contracts.sample import a_candidate
from tests.fakes import NOON
from tests.services.line import FACTS, GOOD, bind, data_in, parent_in, ports_in
from tests.services.line import policy as small_policy

POLICY = """
policy: bench
version: 1
why: The shipped standard policy's numbers on what this bench measures, with doubt and class loss beside them.
task: classification
seed: 20261122
slicing: {image: {brightness: 5}}
checks:
  accuracy: {version: 1}
  lighting: {version: 1, parameters: {exposure_stops: [-2, 1]}}
  prediction_churn: {version: 1}
  calibration: {version: 1}
rules:
  - {rule: floor, reading: accuracy/score.clean, at_least: 0.90, why: as standard}
  - {rule: loss, reading: accuracy/drop.clean, at_most: 0.01, why: as standard}
  - {rule: slice-loss, reading: accuracy/drop.clean, slices: each, at_most: 0.05, min_images: 125,
     below_minimum: warn, why: as standard}
  - {rule: light, reading: lighting/drop.*, at_most: 0.03, why: as standard}
  - {rule: light-slices, reading: lighting/drop.*, slices: each, at_most: 0.05, min_images: 125,
     below_minimum: warn, why: as standard}
  - {rule: class-loss, reading: prediction_churn/drop.worst_class, at_most: 0.05, why: as slice-loss for every class}
  - {rule: doubt, reading: calibration/calibration_change, at_most: 0.02, why: confidence must mean what it meant}
"""

Broken = tuple[str, bool, str]
"""What was broken, whether it was blocked by the right finding, and the finding."""


@dataclass
class Lab:
    """A trained parent, the digits of writers whom it never saw, and everything that was measured of the parent."""

    parent: Model
    train: ImageDataset
    data: ImageDataset
    policy: Policy
    remembered: dict[str, Predictions] = field(default_factory=dict)

    def candidate(self, name: str) -> Candidate:
        """A record for a model of this name."""
        return a_candidate().model_copy(update={"card": {"bytes": float(int(digest_of(name.encode())[7:15], 16))}})

    def evidence(self, model: nn.Module, name: str, seed: int | None = None) -> list[Evidence]:
        """Every check of the policy on this model beside the parent."""
        record, policy = self.candidate(name), self.policy
        case = EvalContext(
            candidate=Model(model.eval(), self.parent.card), candidate_digest=record.digest, parent=self.parent,
            parent_digest=record.parent, task=task_named("classification", self.data.classes),
            dataset=with_policy_slices(policy, self.data), alpha=policy.alpha,
            seed=policy.seed if seed is None else seed,
            batch_size=256, cache=self.remembered,
        )  # fmt: skip
        return [self._run(case, check, record) for check in policy.checks]

    def _run(self, case: EvalContext, name: str, record: Candidate) -> Evidence:
        spec = self.policy.checks[name]
        case.flips.clear()
        key = EvidenceKey(
            candidate=record.digest, parent=record.parent, dataset=self.data.ref.digest, check=name,
            version=spec.version, parameters=spec.parameters, seed=case.seed, alpha=self.policy.alpha, code="bench",
            slicing=slicing_of(self.policy),
        )  # fmt: skip
        readings = tuple(check_named(name, spec).measure(case))
        return Evidence(key=key, dataset=self.data.ref, readings=readings, environment={}, started=NOON, finished=NOON)

    def judged(self, name: str, evidence: list[Evidence], waivers: tuple[Waiver, ...] = ()) -> Decision:
        """The gate's decision."""
        return decide(self.policy, self.candidate(name), evidence, waivers=waivers, at=NOON)


def a_lab(folder: Path) -> Lab:
    digits = Path(auditsvc.__file__).parent / "demo" / "digits"
    parent = load_model(trained_digits(folder, digits / "train.yaml"))
    opened = DatasetReaders()
    return Lab(parent, opened.open(digits / "train.yaml"), opened.open(digits), parse_policy(POLICY, "bench"))


def good_network(lab: Lab, seed: int, steps: int = 60) -> nn.Module:
    """Half of the weights pruned, the others trained on batches drawn with the seed."""
    recipe = Recipe(method="magnitude-global", targets={"sparsity": 0.5})
    module = assemble(pruning.prune(lab.parent, recipe), lab.parent.card).module.train().requires_grad_(True)
    weights = [one for one in module.parameters() if one.ndim > 1]
    masks = [(one != 0).float() for one in weights]
    optimiser = torch.optim.SGD(module.parameters(), lr=0.005, momentum=0.9)
    (batch,) = lab.train.batches(lab.train.ref.images)
    chance = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        part = torch.randint(0, len(batch.targets), (64,), generator=chance)
        optimiser.zero_grad()
        functional.cross_entropy(module(batch.images[part]), batch.targets[part]).backward()
        optimiser.step()
        with torch.no_grad():
            for one, mask in zip(weights, masks, strict=True):
                one.mul_(mask)
    return module.eval().requires_grad_(False)


class Spoiled(nn.Module):
    """A good network whose outputs are spoiled where ``where`` says so."""

    def __init__(self, good: nn.Module, where: Callable[[Tensor, Tensor], Tensor], how: Callable[[Tensor], Tensor]):
        super().__init__()
        self.good, self.where, self.how = good, where, how

    def forward(self, images: Tensor) -> Tensor:
        outputs = self.good(images)
        return torch.where(self.where(images, outputs)[:, None], self.how(outputs), outputs)


def rolled(outputs: Tensor) -> Tensor:
    """Every answer is the next class's."""
    return outputs.roll(1, dims=1)


def everywhere(images: Tensor, _outputs: Tensor) -> Tensor:
    return torch.ones(len(images), dtype=torch.bool)


def of_slice(lab: Lab, name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Whether an image, as it is, belongs to this slice; a network may have learned that much by heart."""
    (batch,) = lab.data.batches(lab.data.ref.images)
    inside = [name in lab.data.slices.of(number) for number in range(lab.data.ref.images)]
    known = {image.numpy().tobytes() for image in batch.images[torch.tensor(inside)]}
    return lambda images, _outputs: torch.tensor([image.numpy().tobytes() in known for image in images])


def smallest_writer(lab: Lab) -> str:
    """The writer with the fewest digits: under the policy's minimum for slices."""
    sizes = lab.data.slices.sums(np.ones(lab.data.ref.images))
    return min((size, name) for name, size in zip(lab.data.slices.names, sizes, strict=True) if "writer=" in name)[1]


def spoiled_models(lab: Lab, good: nn.Module) -> Iterator[tuple[str, str, nn.Module, str]]:
    """Name, rule that must find it, model, and a part of the finding's words."""
    writer = smallest_writer(lab)
    one = of_slice(lab, writer)
    chance = torch.Generator().manual_seed(1)
    shuffle = torch.randperm(10, generator=chance)
    source = "source=census_employee"
    part = of_slice(lab, source)

    def some(images: Tensor, outputs: Tensor) -> Tensor:
        return one(images, outputs) & (images.sum(dim=(1, 2, 3)).round().long() % 5 < 2)

    def tenth(images: Tensor, outputs: Tensor) -> Tensor:
        return part(images, outputs) & (images.sum(dim=(1, 2, 3)).round().long() % 10 == 0)

    yield "two in five of one small writer lost, overall intact", "slice-loss", Spoiled(good, some, rolled), writer
    yield "labels shuffled for one writer", "slice-loss", Spoiled(good, one, lambda y: y[:, shuffle]), writer
    yield "one tenth of one source lost", "slice-loss", Spoiled(good, tenth, rolled), source
    yield (
        "collapse in the dark", "light",
        Spoiled(good, lambda x, _y: x.amax(dim=(1, 2, 3)) < 0.7, rolled), "exposure@-2EV",
    )  # fmt: skip
    yield "one class lost", "class-loss", Spoiled(good, lambda _x, y: y.argmax(1) == 8, rolled), "worst_class"
    yield "too sure of itself", "doubt", Spoiled(good, everywhere, lambda y: 6 * y), "calibration_change"
    yield "one answer to everything", "floor", Spoiled(good, everywhere, lambda y: 0 * y + torch.eye(10)[3]), "score"
    yield "no number at all", "floor", Spoiled(good, everywhere, lambda y: y * float("nan")), "score.clean"
    yield "noise on the weights", "loss", noisy(good), "drop.clean"


def noisy(good: nn.Module) -> nn.Module:
    chance = torch.Generator().manual_seed(0)
    weights = {
        name: value + 0.8 * value.std() * torch.randn(value.shape, generator=chance) if value.ndim > 1 else value
        for name, value in good.state_dict().items()
    }
    other = copy.deepcopy(good)
    other.load_state_dict(weights)
    return other


def found(decision: Decision, rule: str, words: str) -> tuple[bool, str]:
    """Whether the decision blocks, with a finding of this rule that says these words."""
    fits = [item for item in decision.findings if item.severity == "block" and item.waiver is None
            and item.rule == rule and words in f"{item.slice} {item.words}"]  # fmt: skip
    return decision.outcome != "approved" and bool(fits), fits[0].words if fits else decision.outcome


def changed(evidence: list[Evidence], check: str, change: Callable[[Evidence], Evidence]) -> list[Evidence]:
    return [change(item) if item.key.check == check else item for item in evidence]


def with_key(evidence: list[Evidence], **fields: object) -> list[Evidence]:
    return [item.model_copy(update={"key": item.key.model_copy(update=fields)}) for item in evidence]


def without(evidence: Evidence, slice_name: str) -> Evidence:
    kept = tuple(item for item in evidence.readings if item.slice != slice_name)
    return evidence.model_copy(update={"readings": kept})


def emptied(evidence: Evidence, slice_name: str) -> Evidence:
    nothing = Unmeasured(reason="no image of this slice was tried")
    readings = tuple(
        Reading(metric=item.metric, slice=item.slice, outcome=nothing) if item.slice == slice_name else item
        for item in evidence.readings
    )
    return evidence.model_copy(update={"readings": readings})


def bent_records(lab: Lab, good: list[Evidence], bad: list[Evidence], name: str) -> Iterator[Broken]:
    """``good`` is another's or a later run's evidence, ``bad`` the candidate's own, which breaks ``slice-loss``."""
    own = {"candidate": lab.candidate(name).digest}
    harmed = next(item.slice for item in lab.judged(name, bad).findings if item.rule == "slice-loss")
    later = [item.model_copy(update={"finished": NOON + datetime.timedelta(days=1)}) for item in with_key(good, **own)]
    aged = [item.model_copy(update={"finished": NOON - datetime.timedelta(days=91)}) for item in with_key(good, **own)]
    again = [item.model_copy(update={"environment": {"run": "2"}}) for item in with_key(good, **own)]
    bad = [item.model_copy(update={"finished": NOON - datetime.timedelta(hours=1)}) for item in bad]
    twice = [
        one.model_copy(update={"readings": (*other.readings, *one.readings)})
        for one, other in zip(bad, with_key(good, **own), strict=True)
    ]
    bent: Mapping[str, tuple[list[Evidence], str]] = {
        "the parent's evidence": (with_key(good, candidate=lab.candidate(name).parent), "another candidate's"),
        "another candidate's evidence": (good, "another candidate's"),
        "another seed until it passes": (with_key(good, **own, seed=lab.policy.seed + 1), "not of the seed"),
        "a looser alpha": (with_key(good, **own, alpha=0.4), "not of the alpha"),
        "evidence from after the decision": (later, "from after this decision"),
        "evidence that is too old": (aged, "older than 90 days"),
        "every reading twice, the good ones first": (twice, "more than once"),
        "the harmed slice left out by one check": (changed(bad, "accuracy", lambda e: without(e, harmed)), "gave no"),
        "the harmed slice empty everywhere": ([emptied(item, harmed) for item in bad], "the slice is empty"),
        "no evidence of the check that finds it": ([e for e in bad if e.key.check != "accuracy"], "no evidence of"),
        "measured again until it passes": ([*again, *bad], harmed),
    }  # fmt: skip
    for title, (evidence, words) in bent.items():
        yield (title, *found(lab.judged(name, evidence), "slice-loss", words))
    for title, changes, note in (
        ("a waiver that has ended", {"until": NOON.date() - datetime.timedelta(days=1)}, "ended on"),
        ("a waiver of another candidate", {"candidate": lab.candidate("other").digest}, ""),
        ("a waiver under another policy", {"policy": lab.candidate("other").digest}, ""),
        ("a waiver of another rule", {"rule": "light"}, ""),
    ):
        fields = {"candidate": own["candidate"], "policy": lab.policy.digest, "rule": "slice-loss", "person": "bob",
                  "reason": "bench", "until": NOON.date(), "at": NOON - datetime.timedelta(days=9)}  # fmt: skip
        decision = lab.judged(name, bad, (Waiver(**(fields | changes)),))
        blocked, words = found(decision, "slice-loss", harmed)
        yield title, blocked and note in "".join(decision.notes or ()), words


def bent_line(folder: Path) -> Iterator[Broken]:
    """Self-approval, a swapped file before and after release, and a byte that changed, on a whole line."""
    ctx = ports_in(folder / "store")
    parent, version = register_parent(ctx, parent_in(folder / "parent"), FACTS)
    candidate = prune_candidate(ctx, parent, GOOD, ctx.datasets.open(data_in(folder / "calibration", 30, seed=1)))
    submission = submit(ctx, candidate, version, "sue")
    dataset = ctx.datasets.open(data_in(folder / "audited"))
    bind(ctx, small_policy(), dataset)
    decision = judge(ctx, candidate, small_policy(), measure_candidate(ctx, candidate, small_policy(), dataset))
    yield "self-approval", *refused(lambda: approve(ctx, decision, "sue"), Conflict)
    approve(ctx, decision, "ann")
    yield "one person twice", *refused(lambda: (approve(ctx, decision, "ANN"), release(ctx, candidate, decision)))
    swapped = candidate.model_copy(update={"files": parent.files})
    yield "swapped file before release", *refused(lambda: release(ctx, swapped, decision))
    approve(ctx, decision, "bob")
    release(ctx, candidate, decision)
    place = release_folder(ctx, submission)
    weights = place / "release" / "model.safetensors"
    key = folder / "release.pub"
    key.write_bytes(ctx.keys.signer("release").public_pem)
    for title, data in (("swapped file", b"other weights"), ("one byte", _flipped(weights.read_bytes()))):
        whole = weights.read_bytes()
        weights.write_bytes(data)
        seen = verify(place / "release", place / "attest", trust=TrustRoot.load(key), at=ctx.clock.now())
        weights.write_bytes(whole)
        yield f"{title} after release", seen.verdict == "INVALID", "; ".join(step.detail for step in seen.reasons)


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def refused(work: Callable[[], object], kind: type[AuditError] = AuditError) -> tuple[bool, str]:
    try:
        work()
    except kind as error:
        return True, str(error).split("\n")[0]
    return False, "it was let through"


def main() -> None:
    """Break, judge, count."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=20)
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    start, rows, false_blocks = time.process_time(), [], 0
    with tempfile.TemporaryDirectory() as scratch:
        lab = a_lab(Path(scratch))
        network = good_network(lab, 0)
        good = lab.evidence(network, "good-0")
        bad: list[Evidence] = []
        for name, rule, model, words in spoiled_models(lab, network):
            evidence = lab.evidence(model, name)
            bad = bad or evidence
            rows.append((name, *found(lab.judged(name, evidence), rule, words)))
            say(rows[-1])
        for row in (*bent_records(lab, good, bad, rows[0][0]), *bent_line(Path(scratch) / "line")):
            rows.append(row)
            say(row)
        for seed in range(seeds):
            decision = lab.judged(f"good-{seed}", good if seed == 0 else
                                  lab.evidence(good_network(lab, seed), f"good-{seed}"))  # fmt: skip
            false_blocks += decision.outcome != "approved"
            against = [item.words for item in decision.findings if item.severity == "block"]
            say((f"good recipe, seed {seed}", decision.outcome == "approved", "; ".join(against)))
    print(json.dumps({
        "blocked": sum(row[1] for row in rows), "broken_total": len(rows), "false_blocks": false_blocks,
        "good_total": seeds, "cpu_s": round(time.process_time() - start, 1),
    }))  # fmt: skip


def say(row: Broken) -> None:
    print(f"{'ok ' if row[1] else 'NOT'} {row[0]}: {row[2]}"[:200], file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
