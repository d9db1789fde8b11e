"""Which evidence counts for a decision, and why the rest does not.

Evidence counts if it is this candidate's beside this parent, of one data set that the policy names (or of one
and the same, where it names none), of the check, version, parameters, seed and alpha that the policy pins, and
recent.  Of several runs with one key the first counts, so that measuring again until it passes changes nothing.  Of
several stages the last one counts, and all checks must have reached it.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from auditsvc.records.base import Moment, canonical_json
from auditsvc.records.evidence import Evidence
from auditsvc.records.model import Candidate
from auditsvc.records.policy import Policy


@dataclass(frozen=True)
class Incumbent:
    """The candidate that is released now, and all evidence about it."""

    candidate: Candidate
    evidence: tuple[Evidence, ...]


def slicing_of(policy: Policy) -> dict[str, Any] | None:
    """The policy's slices as evidence is bound to them."""
    return policy.slicing.model_dump(mode="json") if policy.slicing else None


def eligible_evidence(
    policy: Policy, candidate: Candidate, evidence: Iterable[Evidence], at: Moment
) -> dict[str, Evidence | str]:
    """For each check of the policy the evidence that counts, or why there is none; in any order given the same."""
    given = [item for item in evidence if item.key.check in policy.checks]
    misses: dict[str, list[tuple[int, str]]] = {check: [] for check in policy.checks}
    first: dict[str, Evidence] = {}
    for item in sorted(given, key=lambda one: (one.finished, one.digest)):
        objection = _objection(policy, candidate, item, at)
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


def _objection(policy: Policy, candidate: Candidate, evidence: Evidence, at: Moment) -> tuple[int, str] | None:
    """Why this evidence does not count; the number says how near it came, so that the nearest miss is told."""
    key, spec = evidence.key, policy.checks[evidence.key.check]
    pinned = {
        "version": spec.version,
        "parameters": spec.parameters,
        "seed": policy.seed,
        "alpha": policy.level,
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
