"""Measure a candidate beside its parent by every check of a policy.

Evidence is looked up by content first: the same candidate, data, check, parameters, seed and code are never
measured twice.  A check that crashes becomes a record, and the rules that needed it become unknown; this is the
one place in the code that catches everything.
"""

from __future__ import annotations

import platform
from collections.abc import MutableMapping
from functools import partial

import torch

from auditsvc.checks import check_named
from auditsvc.errors import Cancelled, InvalidInput, Unavailable
from auditsvc.measuring import Answers, Case, Check, Dataset, code_version
from auditsvc.pipeline.marking import read_mark
from auditsvc.pipeline.planning import sliced_for, undecidable
from auditsvc.pipeline.stored import load_stored
from auditsvc.ports import Ports
from auditsvc.records import OVERALL, Candidate, CheckFailed, Evidence, EvidenceKey, Parent, Policy, Reading
from auditsvc.records.standing import slicing_of
from auditsvc.tasks import task_named


def audit(
    candidate: Candidate,
    policy: Policy,
    dataset: Dataset,
    ports: Ports,
    remembered: MutableMapping[str, Answers] | None = None,
) -> tuple[Evidence | CheckFailed, ...]:
    """Evidence for every check of the policy, measured now or found in the ledger.

    ``remembered`` carries what was measured of the parent from one candidate to the next.

    Raises:
        InvalidInput: a data set of another task or other classes than the model's.
    """
    ports.ledger.append(policy, actor="auditsvc")
    parent = ports.ledger.get(Parent, candidate.parent)
    dataset = sliced_for(policy, dataset)
    for line in undecidable(policy, dataset):
        ports.progress.say(f"can't be approved on this data set: {line}")
    checks = {name: check_named(name, spec) for name, spec in policy.checks.items()}
    keys = {name: _key(check, candidate, policy, dataset) for name, check in checks.items()}
    found = {name: ports.ledger.find(Evidence, key.text()) for name, key in keys.items()}
    missing = [name for name in checks if not found[name]]
    results: dict[str, Evidence | CheckFailed] = {name: items[0] for name, items in found.items() if items}
    if results:
        ports.progress.say(f"found again, not measured twice: {', '.join(sorted(results))}")
    if missing:
        case = _case(candidate, parent, policy, dataset, ports, {} if remembered is None else remembered)
        for name in missing:
            results[name] = _run(checks[name], keys[name], case, ports)
            ports.ledger.append(results[name], actor="auditsvc")
    return tuple(results[name] for name in checks)


def _key(check: Check, candidate: Candidate, policy: Policy, dataset: Dataset) -> EvidenceKey:
    return EvidenceKey(
        candidate=candidate.digest,
        parent=candidate.parent,
        dataset=dataset.ref.digest,
        check=check.id,
        version=check.version,
        parameters=check.parameters(),
        seed=policy.seed,
        alpha=policy.alpha,
        code=code_version(),
        slicing=slicing_of(policy),
    )


def _case(
    candidate: Candidate,
    parent: Parent,
    policy: Policy,
    dataset: Dataset,
    ports: Ports,
    remembered: MutableMapping[str, Answers],
) -> Case:
    model, dense = load_stored(candidate.files, ports), load_stored(parent.files, ports)
    _require_same_world(candidate, dataset, model.card.classes)
    return Case(
        candidate=model,
        candidate_digest=candidate.digest,
        parent=dense,
        parent_digest=parent.digest,
        task=task_named(candidate.task, dataset.classes),
        dataset=dataset,
        seed=policy.seed,
        alpha=policy.alpha,
        remembered=remembered,
        read_mark=partial(read_mark, candidate, dataset, ports) if candidate.mark else None,
    )


def _require_same_world(candidate: Candidate, dataset: Dataset, classes: tuple[str, ...]) -> None:
    if candidate.task != dataset.ref.task:
        raise InvalidInput(f"the model is for {candidate.task}, the data set {dataset.ref.name} for {dataset.ref.task}")
    if classes != dataset.classes:
        raise InvalidInput(
            f"the model's classes are {', '.join(classes)}, those of the data set {dataset.ref.name} are "
            f"{', '.join(dataset.classes)}; give both the same names in the same order"
        )


def _run(check: Check, key: EvidenceKey, case: Case, ports: Ports) -> Evidence | CheckFailed:
    """One check; whatever it raises is a record, unless the machine failed or somebody stopped it."""
    started = ports.clock.now()
    case.flips.clear()
    passes = max(1, round(check.cost()))
    with ports.progress.step(check.id, passes * case.dataset.ref.images) as tick:
        case.tick = tick
        try:
            readings = tuple(check.measure(case))
            _require_complete(check, readings, case.dataset)
        except (Unavailable, Cancelled):
            raise
        except Exception as error:  # noqa: BLE001 - a crashed check is a record
            text = f"{type(error).__name__}: {error}"[:4000]
            return CheckFailed(key=key, error=text, at=ports.clock.now())
    return Evidence(
        key=key,
        dataset=case.dataset.ref,
        readings=readings,
        flips=tuple(case.flips),
        environment=_environment(),
        started=started,
        finished=ports.clock.now(),
    )


def _require_complete(check: Check, readings: tuple[Reading, ...], dataset: Dataset) -> None:
    """A check gives every metric that it declares, on overall at least, and no other; else it is broken."""
    given = {reading.metric for reading in readings if reading.slice == OVERALL}
    declared = set(check.metrics())
    if given != declared or {reading.metric for reading in readings} - declared:
        raise InvalidInput(f"the check {check.id} declares {sorted(declared)} and gave {sorted(given)}")
    known = set(dataset.slices.names)
    strange = {reading.slice for reading in readings} - known
    if strange:
        raise InvalidInput(f"the check {check.id} gave readings for slices that do not exist: {sorted(strange)}")


def _environment() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "system": platform.system(),
        "threads": str(torch.get_num_threads()),
        "device": "cpu",
    }
