"""Measure a candidate beside its parent by every check of a policy.

Evidence is looked up by content first: the same candidate, data, check, parameters, seed and code are never
measured twice.  A check that crashes becomes a record, and the rules that needed it become unknown; this is the
one place in the code that catches everything.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, MutableMapping
from functools import partial
from typing import Any

import torch

from auditsvc.checks import check_named
from auditsvc.errors import Cancelled, InvalidInput, Unavailable
from auditsvc.measuring import Answers, Case, Check, Dataset, code_version
from auditsvc.measuring.parts import Found, Part, PartCase, WholeCase
from auditsvc.models.devices import device_words
from auditsvc.pipeline.marking import read_mark
from auditsvc.pipeline.planning import sliced_for, undecidable
from auditsvc.pipeline.staging import Measuring, audit_in_stages, fresh_evidence
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
    answers: Found | None = None,
) -> tuple[Evidence | CheckFailed, ...]:
    """Evidence for every check of the policy, measured now or found in the ledger.

    ``remembered`` carries what was measured of the parent from one candidate to the next; ``answers`` is what was
    measured in parts already (``measure_part``).

    Raises:
        InvalidInput: a data set of another task or other classes than the model's.
    """
    ports.ledger.append(policy, actor="auditsvc")
    parent = ports.ledger.get(Parent, candidate.parent)
    dataset = sliced_for(policy, dataset)
    for line in undecidable(policy, dataset):
        ports.progress.say(f"can't be approved on this data set: {line}")
    if policy.stages:
        how = Measuring(
            fields=lambda: _fields(candidate, parent, policy, dataset, ports),
            key_of=lambda check: _key(check, candidate, policy, dataset),
            run=_run,
        )
        return audit_in_stages(candidate, policy, dataset, ports, how, {} if remembered is None else remembered)
    known = known_evidence(candidate, policy, dataset, ports)
    results: dict[str, Evidence | CheckFailed] = {name: item for name, item in known.items() if item}
    if results:
        ports.progress.say(f"found again, not measured twice: {', '.join(sorted(results))}")
    missing = {name: check_named(name, spec) for name, spec in policy.checks.items() if name not in results}
    if missing:
        fields = _fields(candidate, parent, policy, dataset, ports)
        case = WholeCase(**fields, remembered={} if remembered is None else remembered, found=answers or {})
        for name, check in missing.items():
            results[name] = _run(check, _key(check, candidate, policy, dataset), case, ports)
            ports.ledger.append(results[name], actor="auditsvc")
    return tuple(results[name] for name in policy.checks)


def known_evidence(candidate: Candidate, policy: Policy, dataset: Dataset, ports: Ports) -> dict[str, Evidence | None]:
    """For each check of the policy the first evidence in the ledger that is not too old for it."""
    checks = {name: check_named(name, spec) for name, spec in policy.checks.items()}
    keys = {name: _key(check, candidate, policy, dataset) for name, check in checks.items()}
    return {name: fresh_evidence(key, policy, ports) for name, key in keys.items()}


def measure_part(
    candidate: Candidate, policy: Policy, dataset: Dataset, ports: Ports, names: Iterable[str], part: Part
) -> Found:
    """What both models answer in one part of every pass that these checks make.

    A check that crashes here is heard of where the parts are put together, and becomes a record there.
    """
    dataset = sliced_for(policy, dataset)
    fields = _fields(candidate, ports.ledger.get(Parent, candidate.parent), policy, dataset, ports)
    case = PartCase(**fields, part=part)
    for name in names:
        check = check_named(name, policy.checks[name])
        _run(check, _key(check, candidate, policy, dataset), case, ports)
    return case.found


def _key(check: Check, candidate: Candidate, policy: Policy, dataset: Dataset) -> EvidenceKey:
    return EvidenceKey(
        candidate=candidate.digest,
        parent=candidate.parent,
        dataset=dataset.ref.digest,
        check=check.id,
        version=check.version,
        parameters=check.parameters(),
        seed=policy.seed,
        alpha=policy.level,
        code=code_version(),
        slicing=slicing_of(policy),
    )


def _fields(candidate: Candidate, parent: Parent, policy: Policy, dataset: Dataset, ports: Ports) -> dict[str, Any]:
    """What every case of this audit has in common."""
    model, dense = (load_stored(files, ports).on(ports.device) for files in (candidate.files, parent.files))
    _require_same_world(candidate, policy, dataset, model.card.classes)
    return {
        "candidate": model,
        "candidate_digest": candidate.digest,
        "parent": dense,
        "parent_digest": parent.digest,
        "task": task_named(candidate.task, dataset.classes),
        "dataset": dataset,
        "seed": policy.seed,
        "alpha": policy.level,
        "device": ports.device,
        "read_mark": partial(read_mark, candidate, dataset, ports) if candidate.mark else None,
    }


def _require_same_world(candidate: Candidate, policy: Policy, dataset: Dataset, classes: tuple[str, ...]) -> None:
    if policy.task not in ("any", candidate.task):
        raise InvalidInput(f"the model is for {candidate.task}, the policy {policy.policy} for {policy.task}")
    unfit = [fault for name, spec in policy.checks.items() for fault in check_named(name, spec).faults(candidate.task)]
    if unfit:
        raise InvalidInput(f"the policy {policy.policy} asks what this model can't answer", unfit)
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
        environment=_environment(case.device),
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


def _environment(device: str) -> dict[str, str]:
    """On another device the last digits of an answer differ, so it is told; one audit runs on one kind only."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "system": platform.system(),
        "threads": str(torch.get_num_threads()),
        "device": device_words(device),
    }
