"""Audit in stages: measure some of the images, judge, and go on only while nothing is decided."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from auditsvc.checks import check_named
from auditsvc.gate import decide
from auditsvc.measuring import Case, Check, Dataset
from auditsvc.measuring.stages import Kept, Staged, StagedCase, order_of, stage_sizes
from auditsvc.pipeline.comparing import incumbent_of, looks_at
from auditsvc.pipeline.planning import slice_sizes
from auditsvc.ports import Ports
from auditsvc.records import Candidate, CheckFailed, Evidence, EvidenceKey, Policy, Waiver


@dataclass(frozen=True)
class Measuring:
    """How an audit measures: what its cases have in common (asked for only if needed), a check's key, one run."""

    fields: Callable[[], dict[str, Any]]
    key_of: Callable[[Check], EvidenceKey]
    run: Callable[[Check, EvidenceKey, Case, Ports], Evidence | CheckFailed]


def fresh_evidence(key: EvidenceKey, policy: Policy, ports: Ports) -> Evidence | None:
    """The first evidence with this key in the ledger that is not too old for the policy."""
    oldest = ports.clock.now() - datetime.timedelta(days=policy.max_age_days)
    return next((found for found in ports.ledger.find(Evidence, key.text()) if found.finished >= oldest), None)


def audit_in_stages(
    candidate: Candidate, policy: Policy, dataset: Dataset, ports: Ports, how: Measuring, kept: Kept
) -> tuple[Evidence | CheckFailed, ...]:
    """The evidence of the first stage after which the policy approves or rejects; of the last one if none does."""
    order = order_of(dataset.slices, policy.seed)
    sizes = stage_sizes(dataset.slices, policy.seed, policy.stages or (1.0,))
    fields: dict[str, Any] = {}
    results: tuple[Evidence | CheckFailed, ...] = ()
    for size in sizes:
        checks = [check_named(name, spec) for name, spec in policy.checks.items()]
        keys = {check.id: how.key_of(check).model_copy(update={"stage": size}) for check in checks}
        known = {name: fresh_evidence(key, policy, ports) for name, key in keys.items()}
        if None in known.values():
            fields = fields or how.fields()
            case = StagedCase(**(fields | {"dataset": Staged(dataset, order, size)}), kept=kept)
        results = tuple(
            known[check.id] or _appended(how.run(check, keys[check.id], case, ports), dataset, ports)
            for check in checks
        )
        outcome = _outcome(candidate, policy, results, ports)
        ports.progress.say(f"after {size} of {dataset.ref.images} images: {outcome}")
        if outcome != "inconclusive":
            break
    return results


def _appended(found: Evidence | CheckFailed, dataset: Dataset, ports: Ports) -> Evidence | CheckFailed:
    """Written down; evidence of a stage names the whole data set, and how many images each slice has in it."""
    if isinstance(found, Evidence):
        found = found.model_copy(update={"dataset": dataset.ref, "whole": slice_sizes(dataset)})
    ports.ledger.append(found, actor="auditsvc")
    return found


def _outcome(candidate: Candidate, policy: Policy, results: tuple[Evidence | CheckFailed, ...], ports: Ports) -> str:
    evidence = [item for item in results if isinstance(item, Evidence)]
    looks = {item.key.dataset: looks_at(item.key.dataset, candidate.model, ports.ledger) for item in evidence}
    waivers, incumbent = ports.ledger.find(Waiver, candidate.digest), incumbent_of(candidate, ports.ledger)
    now = ports.clock.now()
    return decide(policy, candidate, evidence, waivers=waivers, incumbent=incumbent, looks=looks, at=now).outcome
