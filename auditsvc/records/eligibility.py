"""Which evidence counts for a decision, and why the rest does not.

Evidence counts if it compares this candidate with this parent, is recent, and has the data set, check, version,
parameters, seed and alpha that the policy pins (without a data set in the policy, all evidence must share one).  Of
several runs with one key the first counts, so repeating a run until it passes has no effect; of several stages the
last one that all checks reached.

A candidate that breaks a rule passes it with a probability of at most alpha; of twenty such candidates on the same
images, one passes.  So the ledger counts the evaluations of a model's candidates on the same images, by the content of
the images, whatever data set holds them.  With ``spend_alpha`` the first is judged at three quarters of alpha and the
k-th at alpha / (4 k (k - 1)): these add up to alpha, so that the probability of approving *any* bad candidate is at
most alpha, however many are tried and however alike they are.  A candidate that was approved without a waiver, under
the same policy on the same images, returns its share (the online fallback procedure: what a rejected null hypothesis
had goes on to the next).  With ``max_evaluations`` each is judged at alpha divided by that number, and every further
candidate is unknown until there are other images.  Without either every candidate is judged at alpha, and its decision
states the accumulated probability.

The bound holds for candidates that were not fitted to the images themselves.

References: J. Tian and A. Ramdas (2021), "Online control of the familywise error rate",
doi:10.1177/0962280220983381; C. Dwork et al. (2015), "The reusable holdout: Preserving validity in adaptive data
analysis", doi:10.1126/science.aaa9375.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from auditsvc.records.base import Digest, Moment, Name, Record, canonical_json
from auditsvc.records.evidence import Evidence
from auditsvc.records.model import Candidate
from auditsvc.records.policy import Policy

HoldoutUses = Mapping[Digest, int]
"""For each data set the ordinal of this candidate among those of its model that count on the same images, from 1."""


class HoldoutUse(Record):
    """One candidate was judged on the images of one data set."""

    kind: ClassVar[str] = "look"
    event: ClassVar[str] = "holdout.used"

    dataset: Digest
    model: Name
    candidate: Digest
    overlaps: dict[Digest, Annotated[float, Field(gt=0, le=1)]] | None = None
    """The other data sets that hold some of these images: which share of them."""
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by the data set, and by data set and model together."""
        return (self.dataset, holdout_key(self.dataset, self.model))


def holdout_key(dataset: Digest, model: str) -> str:
    """The ledger subject of the evaluations of one model's candidates on one data set."""
    return f"{dataset}|{model}"


def evaluation_of(uses: HoldoutUses) -> int:
    """The ordinal of the candidate; the largest over several data sets."""
    return max(uses.values(), default=1)


def holdout_exhausted(policy: Policy, uses: HoldoutUses) -> str:
    """Why no more candidates may be judged on these images; empty if this one may."""
    number = evaluation_of(uses)
    if policy.max_evaluations is None or number <= policy.max_evaluations:
        return ""
    return (
        f"this is candidate {number} to be judged on these images, and the policy allows max_evaluations: "
        f"{policy.max_evaluations}; judge it on other images"
    )


def holdout_note(policy: Policy, uses: HoldoutUses) -> tuple[str, ...]:
    """The multiple-testing note of a decision: how much of alpha is spent, where the policy spends it."""
    number = evaluation_of(uses)
    if policy.spend_alpha:
        spent = policy.alpha * (1 - 1 / (4 * number))
        return (
            f"evaluation {number} of this model on these images, judged at alpha {policy.level_of(number):.3g}; "
            f"{spent:.3g} of {policy.alpha:g} is spent, and a candidate that is approved returns its share",
        )
    if number < 2 or (policy.max_evaluations is not None and number > policy.max_evaluations):
        return ()
    if policy.max_evaluations is not None:
        return (f"candidate {number} of the {policy.max_evaluations} that share alpha on these images",)
    chance = 100 * min(1.0, number * policy.alpha)
    return (
        f"candidate {number} to be judged on these images: if all {number} were bad, one of them would pass a rule "
        f"with a probability of up to {chance:.3g} %; the policy does not spend alpha over them (spend_alpha)",
    )


class DatasetImages(Record):
    """The images of one data set by the content of their pixels."""

    kind: ClassVar[str] = "dataset-images"
    event: ClassVar[str] = "dataset.indexed"

    dataset: Digest
    name: Name
    images: Annotated[int, Field(ge=1)]
    distinct: Annotated[int, Field(ge=1)]
    digests: Digest
    """A blob of ``images`` little-endian 64-bit numbers, in the order of the data set."""
    thumbnails: Digest | None = None
    """A blob of ``images`` thumbnails, see ``datasets.copies``; None in records of version 0.1, and where the images
    are not here."""
    groups: Digest | None = None
    """A blob of ``images`` little-endian 64-bit numbers: equal for what is the same image."""
    near: Annotated[int, Field(ge=0)] | None = None
    """How many images nearly equal one with other pixels."""
    unusable: Annotated[int, Field(ge=0)] | None = None
    """How many images show nothing, see ``datasets.copies``."""
    clusters: Digest | None = None
    """A blob of ``images`` little-endian 64-bit numbers: equal for images of one declared cluster, in any data set
    whose column and values have the same names; None where no clusters are declared."""
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by the data set."""
        return (self.dataset,)


Purpose = Literal["calibration", "recovery", "training"]


class ImagesSeen(Record):
    """A candidate or parent was made with the images of one data set, so it is never audited on them."""

    kind: ClassVar[str] = "images-seen"
    event: ClassVar[str] = "images.seen"

    model: Digest
    """Of the candidate or parent."""
    dataset: Digest
    purpose: Purpose
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by the candidate or parent."""
        return (self.model,)


@dataclass(frozen=True)
class Incumbent:
    """The candidate that is released now, and all evidence about it."""

    candidate: Candidate
    evidence: tuple[Evidence, ...]
    uses: HoldoutUses = field(default_factory=dict)


def slicing_of(policy: Policy) -> dict[str, Any] | None:
    """The policy's slices as evidence is bound to them."""
    return policy.slicing.model_dump(mode="json") if policy.slicing else None


def eligible_evidence(
    policy: Policy, candidate: Candidate, evidence: Iterable[Evidence], at: Moment, uses: HoldoutUses
) -> dict[str, Evidence | str]:
    """For each check of the policy the evidence that counts, or why there is none; in any order given the same."""
    given = [item for item in evidence if item.key.check in policy.checks]
    misses: dict[str, list[tuple[int, str]]] = {check: [] for check in policy.checks}
    first: dict[str, Evidence] = {}
    for item in sorted(given, key=lambda one: (one.finished, one.digest)):
        objection = _objection(policy, candidate, item, at, uses)
        if objection:
            misses[item.key.check].append(objection)
        else:
            first.setdefault(item.key.text(), item)
    found: dict[str, Evidence | str] = {
        check: max(reasons)[1] if reasons else f"no evidence of {check} for this candidate"
        for check, reasons in misses.items()
    }
    latest = max((stage_of(item) for item in first.values()), default=0.0)
    late = "the evidence of {} is of an earlier stage than that of other checks"
    found |= {item.key.check: late.format(item.key.check) for item in first.values()}
    found |= {item.key.check: item for item in first.values() if stage_of(item) == latest}
    if policy.datasets or len({item.key.dataset for item in first.values()}) < 2:
        return found
    why = "the evidence is of more than one data set, and the policy does not say which one counts"
    return {check: item if isinstance(item, str) else why for check, item in found.items()}


def stage_of(evidence: Evidence) -> float:
    """How many images the evidence is of; all of them is more than any number."""
    return math.inf if evidence.key.stage is None else float(evidence.key.stage)


def _objection(
    policy: Policy, candidate: Candidate, evidence: Evidence, at: Moment, uses: HoldoutUses
) -> tuple[int, str] | None:
    """Why this evidence does not count; the number ranks objections, so that the nearest miss is reported."""
    key, spec = evidence.key, policy.checks[evidence.key.check]
    pinned = {
        "version": spec.version,
        "parameters": spec.parameters,
        "seed": policy.seed,
        "alpha": policy.level_of(uses.get(key.dataset, 1)),
        "slicing": slicing_of(policy),
    }
    found = key.model_dump(mode="json", include=set(pinned))
    other = [name for name in pinned if canonical_json(pinned[name]) != canonical_json(found[name])]
    age = at - evidence.finished
    objections = (
        (key.candidate != candidate.digest, "is another candidate's"),
        (key.parent != candidate.parent, "compares with another parent than the candidate's"),
        (key.dataset != evidence.dataset.digest, "names two different data sets"),
        (
            bool(policy.datasets) and key.dataset not in policy.datasets,
            "is of a data set that the policy does not name",
        ),
        (key.stage is not None and policy.stages is None, "is of a part of the images, and the policy has no stages"),
        (bool(other), f"is not of the {' and '.join(other)} that the policy pins"),
        (age < datetime.timedelta(0), "is from after this decision"),
        (age > datetime.timedelta(days=policy.max_age_days), f"is older than {policy.max_age_days} days"),
    )
    for nearness, (fails, words) in enumerate(objections):
        if fails:
            return nearness, f"the evidence of {key.check} {words}"
    return None
