"""Explore what no rule names: slices with larger losses, and images that all seeds of a recipe change alike.

Slice discovery suggests slices for the next version of a policy.  Exemplars are Pruning-Identified Exemplars of one
recipe pruned with several seeds.  Neither is judged.

Reference: S. Hooker et al. (2019), "What Do Compressed Deep Neural Networks Forget?", arXiv:1911.05248.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence

import numpy as np

from auditsvc.datasets import Dataset
from auditsvc.datasets.image_properties import PROPERTIES
from auditsvc.datasets.prediction_table import PredictedDataset
from auditsvc.evaluation import CLEAN, EvalContext, Pair, Predictions, code_version
from auditsvc.evaluation.slice_discovery import Group, disagreement, discovered_slices, halves, modal
from auditsvc.models import Model
from auditsvc.ports import Context, Ledger
from auditsvc.records import Candidate, Parent, Policy, Slicing
from auditsvc.records.evidence import DiscoveredSlice, DiscoveredSlices, Exemplar, Exemplars
from auditsvc.services.model_store import load_stored
from auditsvc.services.power import sliced_by
from auditsvc.tasks import Task, task_named

EVERYTHING = Slicing(image=dict.fromkeys(sorted(PROPERTIES), 4), classes=True)
"""Columns that are searched in addition to the data set's own: the classes, and quartiles of every image property."""


def discover_slices(
    ctx: Context,
    candidate: Candidate,
    policy: Policy,
    dataset: Dataset,
    cache: MutableMapping[str, Predictions] | None = None,
) -> DiscoveredSlices:
    """Slices that seem to lose more than the rest on clean images, found on one half and tested on the other.

    A search that is in the ledger is not repeated.  With the ``cache`` of an audit no model runs.
    """
    for known in ctx.ledger.find(DiscoveredSlices, candidate.digest):
        pins = (known.dataset, known.seed, known.alpha, known.code)
        if pins == (dataset.ref.digest, policy.seed, policy.level, code_version()):
            return known
    classes = True if dataset.ref.task == "classification" else None
    pixels = {} if isinstance(dataset, PredictedDataset) else EVERYTHING.image
    every = sliced_by(EVERYTHING.model_copy(update={"classes": classes, "image": pixels}), dataset)
    parent = _load(ctx, ctx.ledger.get(Parent, candidate.parent))
    pair = _clean_pair(ctx, candidate, parent, policy, every, {} if cache is None else cache)
    change = pair.change
    groups, tried = discovered_slices(change, every.slices, policy.seed, policy.level, step=pair.step)
    search, judge = halves(every.slices.images, every.slices.clusters, policy.seed)
    found = DiscoveredSlices(
        candidate=candidate.digest,
        parent=candidate.parent,
        dataset=dataset.ref.digest,
        seed=policy.seed,
        alpha=policy.level,
        tried=tried,
        images_found=len(search),
        images_held=len(judge),
        groups=tuple(_record(group) for group in groups),
        code=code_version(),
        at=ctx.clock.now(),
    )
    ctx.ledger.append(found, actor="auditsvc")
    return found


def _load(ctx: Context, item: Parent | Candidate) -> Model:
    return load_stored(ctx, item.files).on(ctx.device)


def _clean_pair(
    ctx: Context,
    candidate: Candidate,
    parent: Model,
    policy: Policy,
    dataset: Dataset,
    cache: MutableMapping[str, Predictions],
) -> Pair:
    """Both models' predictions on the untouched images, from the cache where they are in it."""
    context = EvalContext(
        candidate=_load(ctx, candidate),
        candidate_digest=candidate.digest,
        parent=parent,
        parent_digest=candidate.parent,
        task=task_named(candidate.task, dataset.classes),
        dataset=dataset,
        seed=policy.seed,
        alpha=policy.level,
        cache=cache,
        device=ctx.device,
    )
    return context.pair(CLEAN)


def _record(group: Group) -> DiscoveredSlice:
    plain = {"lost": None, "won": None, "p": None}
    return DiscoveredSlice(
        expression=group.expression,
        found=group.found.model_copy(update=plain),
        held=group.held,
        adjusted=group.adjusted,
    )


SHOWN = 50
"""Images that are stored by name; all are counted."""


def seeds_of(candidate: Candidate, ledger: Ledger) -> tuple[Candidate, ...]:
    """This candidate and every other one of its parent whose recipe differs in the seed alone, in order of the seed."""
    if candidate.recipe is None:
        return (candidate,)
    plain = candidate.recipe.model_copy(update={"seed": 0})
    alike = [
        other
        for other in ledger.find(Candidate, candidate.parent)
        if other.recipe and other.recipe.model_copy(update={"seed": 0}) == plain
    ]
    by_seed = {other.recipe.seed: other for other in alike if other.recipe} | {candidate.recipe.seed: candidate}
    return tuple(by_seed[seed] for seed in sorted(by_seed))


def find_exemplars(
    ctx: Context,
    candidate: Candidate,
    policy: Policy,
    dataset: Dataset,
    cache: MutableMapping[str, Predictions] | None = None,
) -> Exemplars | None:
    """Images that all seeds of this candidate's recipe change alike, on clean images; None if there is one seed.

    A search that is in the ledger is not repeated.  It costs one pass per candidate that is not in the ``cache``.
    """
    seeds = seeds_of(candidate, ctx.ledger)
    if len(seeds) < 2:
        return None
    digests = tuple(one.digest for one in seeds)
    for known in ctx.ledger.find(Exemplars, candidate.digest):
        if (known.candidates, known.dataset, known.code) == (digests, dataset.ref.digest, code_version()):
            return known
    cache = {} if cache is None else cache
    parent = _load(ctx, ctx.ledger.get(Parent, candidate.parent))
    pairs = [_clean_pair(ctx, one, parent, policy, dataset, cache) for one in seeds]
    found = _found(pairs, task_named(candidate.task, dataset.classes), dataset)
    record = Exemplars(
        parent=candidate.parent, dataset=dataset.ref.digest, candidates=digests, images=dataset.ref.images,
        code=code_version(), at=ctx.clock.now(), **found,
    )  # fmt: skip
    ctx.ledger.append(record, actor="auditsvc")
    return record


def _found(pairs: Sequence[Pair], task: Task, dataset: Dataset) -> dict[str, object]:
    answers = np.stack([pair.candidate["answer"].astype(np.int64) for pair in pairs])
    parent = pairs[0].parent
    dense = parent["answer"].astype(np.int64)
    most, agreed = modal(answers, dense)
    speaker = (answers == most).argmax(axis=0)
    changed = np.flatnonzero(most != dense)
    order = changed[np.argsort(-agreed[changed], kind="stable")]
    return {
        "changed": len(changed),
        "parent_right": int((parent["score"][changed] == 1).sum()),
        "candidates_right": sum(int(pairs[speaker[place]].candidate["score"][place] == 1) for place in changed),
        "churn": float((answers != dense).mean()),
        "noise": disagreement(answers),
        "shown": tuple(
            Exemplar(
                image=dataset.name_of(int(place)),
                target=task.describe_target(dataset.target_of(int(place))),
                parent=task.describe_answer(parent[place]),
                candidates=task.describe_answer(pairs[speaker[place]].candidate[place]),
                agreed=int(agreed[place]),
                slices=dataset.slices.of(int(place)),
            )
            for place in order[:SHOWN]
        ),
    }
