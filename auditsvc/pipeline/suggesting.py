"""Suggest groups to look at, beside those that the policy names.  Nothing is judged by them."""

from __future__ import annotations

from collections.abc import MutableMapping

from auditsvc.measuring import CLEAN, Answers, Case, Dataset, code_version
from auditsvc.measuring.discovering import Group, halves, suggested
from auditsvc.measuring.properties import PROPERTIES
from auditsvc.pipeline.planning import sliced_by
from auditsvc.pipeline.stored import load_stored
from auditsvc.ports import Ports
from auditsvc.records import Candidate, Parent, Policy, Slicing
from auditsvc.records.suggesting import Suggested, Suggestions
from auditsvc.tasks import task_named

EVERYTHING = Slicing(image=dict.fromkeys(sorted(PROPERTIES), 4), classes=True)
"""The columns that are searched beside those of the data set: the classes, and quarters of every image property."""


def suggest(
    candidate: Candidate,
    policy: Policy,
    dataset: Dataset,
    ports: Ports,
    remembered: MutableMapping[str, Answers] | None = None,
) -> Suggestions:
    """Groups that seem to lose more than the rest on untouched images, found on one half and told on the other.

    Found again, not searched twice.  After an audit, whose ``remembered`` answers it takes, no model runs for it.
    """
    for known in ports.ledger.find(Suggestions, candidate.digest):
        pins = (known.dataset, known.seed, known.alpha, known.code)
        if pins == (dataset.ref.digest, policy.seed, policy.level, code_version()):
            return known
    classes = True if dataset.ref.task == "classification" else None
    every = sliced_by(EVERYTHING.model_copy(update={"classes": classes}), dataset)
    parent = ports.ledger.get(Parent, candidate.parent)
    case = Case(
        candidate=load_stored(candidate.files, ports),
        candidate_digest=candidate.digest,
        parent=load_stored(parent.files, ports),
        parent_digest=parent.digest,
        task=task_named(candidate.task, dataset.classes),
        dataset=every,
        seed=policy.seed,
        alpha=policy.level,
        remembered={} if remembered is None else remembered,
    )
    pair = case.pair(CLEAN)
    change = pair.change
    groups, tried = suggested(change, every.slices, policy.seed, policy.level, step=pair.step)
    search, judge = halves(every.slices.images, every.slices.clusters, policy.seed)
    found = Suggestions(
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
        at=ports.clock.now(),
    )
    ports.ledger.append(found, actor="auditsvc")
    return found


def _record(group: Group) -> Suggested:
    plain = {"lost": None, "won": None, "p": None}
    return Suggested(
        expression=group.expression,
        found=group.found.model_copy(update=plain),
        held=group.held,
        adjusted=group.adjusted,
    )
