"""Find what several seeds of one recipe change alike, where several were made."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence

import numpy as np

from auditsvc.measuring import CLEAN, Answers, Case, Dataset, Pair, code_version
from auditsvc.measuring.exemplars import disagreement, modal
from auditsvc.pipeline.stored import load_stored
from auditsvc.ports import Ledger, Ports
from auditsvc.records import Candidate, Parent, Policy
from auditsvc.records.exemplars import Exemplar, Exemplars
from auditsvc.tasks import Task, task_named

SHOWN = 50
"""Images that are kept by name; all of them are counted."""


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


def exemplars(
    candidate: Candidate,
    policy: Policy,
    dataset: Dataset,
    ports: Ports,
    remembered: MutableMapping[str, Answers] | None = None,
) -> Exemplars | None:
    """What the seeds of this candidate's recipe change alike on untouched images; None while there is only one.

    Found again, not run twice.  It costs one pass of every candidate whose answers are not ``remembered``.
    """
    seeds = seeds_of(candidate, ports.ledger)
    if len(seeds) < 2:
        return None
    digests = tuple(one.digest for one in seeds)
    for known in ports.ledger.find(Exemplars, candidate.digest):
        if (known.candidates, known.dataset, known.code) == (digests, dataset.ref.digest, code_version()):
            return known
    kept: MutableMapping[str, Answers] = {} if remembered is None else remembered
    parent, pairs = ports.ledger.get(Parent, candidate.parent), []
    task, dense = task_named(candidate.task, dataset.classes), load_stored(parent.files, ports)
    for one in seeds:
        case = Case(
            candidate=load_stored(one.files, ports),
            candidate_digest=one.digest,
            parent=dense,
            parent_digest=parent.digest,
            task=task,
            dataset=dataset,
            seed=policy.seed,
            alpha=policy.level,
            remembered=kept,
        )
        pairs.append(case.pair(CLEAN))
    found = _found(pairs, task, dataset)
    record = Exemplars(
        parent=parent.digest, dataset=dataset.ref.digest, candidates=digests, images=dataset.ref.images,
        code=code_version(), at=ports.clock.now(), **found,
    )  # fmt: skip
    ports.ledger.append(record, actor="auditsvc")
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
                target=task.target_words(dataset.target_of(int(place))),
                parent=task.words(parent[place]),
                candidates=task.words(pairs[speaker[place]].candidate[place]),
                agreed=int(agreed[place]),
                slices=dataset.slices.of(int(place)),
            )
            for place in order[:SHOWN]
        ),
    }
