"""A small release and everything that it is made of."""

from __future__ import annotations

import datetime
from pathlib import Path

from auditsvc.adapters.file_keys import FileKeys
from auditsvc.provenance import ReleaseInputs
from auditsvc.records import (
    Approval,
    AuditedData,
    Candidate,
    CheckSpec,
    DatasetRef,
    Decision,
    Evidence,
    EvidenceKey,
    FileEntry,
    Judgement,
    Mark,
    Measured,
    Parent,
    Policy,
    Reading,
    Recipe,
    ReleaseTerms,
    Rule,
    TermsProposal,
    digest_of,
)
from tests.fakes.log import MemoryLog

AT = datetime.datetime(2026, 11, 22, 13, 0, 0, tzinfo=datetime.UTC)
FILES = {"weights.safetensors": b"\x10\0\0\0\0\0\0\0" + bytes(range(200)), "config.json": b'{"architecture":"tiny"}'}
DATASET = DatasetRef(
    name="faces",
    digest=digest_of(b"faces"),
    task="classification",
    images=200,
    slices=("overall", "gender=F"),
    source="public domain",
    licence="CC0",
)


def entries(files: dict[str, bytes]) -> tuple[FileEntry, ...]:
    return tuple(FileEntry(name=name, size=len(data), digest=digest_of(data)) for name, data in sorted(files.items()))


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def policy(checks: tuple[str, ...] = ("accuracy", "lighting"), approvals: int = 2) -> Policy:
    return Policy(
        policy="shown",
        version=1,
        why="to show",
        seed=1,
        approvals=approvals,
        checks={check: CheckSpec(version=1) for check in checks},
        rules=tuple(
            Rule(rule=f"{check}-kept", reading=f"{check}/score", slices="each", at_least=0.5, why="must see")
            for check in checks
        ),
    )


def evidence(candidate: Candidate, check: str, value: float = 0.9) -> Evidence:
    outcome = Measured(value=value, low=value - 0.05, high=value + 0.05, images=200)
    return Evidence(
        key=EvidenceKey(
            candidate=candidate.digest,
            parent=candidate.parent,
            dataset=DATASET.digest,
            check=check,
            version=1,
            parameters={},
            seed=1,
            alpha=0.05,
            code="1.0",
        ),
        dataset=DATASET,
        readings=tuple(Reading(metric="score", slice=name, outcome=outcome) for name in DATASET.slices),
        environment={"torch": "2.13.0"},
        started=AT,
        finished=AT,
    )


def judged(rule: Rule, found: Evidence) -> list[Judgement]:
    made = []
    for reading in found.readings:
        low = reading.outcome.low
        made.append(
            Judgement(
                rule=rule.rule,
                metric=reading.metric,
                slice=reading.slice,
                verdict="met" if low >= rule.limit else "violated",
                severity=rule.severity,
                bound="at_least",
                limit=rule.limit,
                outcome=reading.outcome,
                evidence=found.digest,
                words="as measured",
            )
        )
    return made


def terms_of(rules: Policy) -> tuple[TermsProposal, ReleaseTerms]:
    proposal = TermsProposal(
        model="faces",
        policy=rules.digest,
        policy_name=f"{rules.policy}-{rules.version}",
        datasets=(DATASET.digest,),
        approvals=rules.approvals,
        reason="to show",
        proposed_by="tess",
        at=AT,
    )
    return proposal, ReleaseTerms.model_validate(
        proposal.model_dump() | {"proposal": proposal.digest, "confirmed_by": "tom"}
    )


def sealing(
    files: dict[str, bytes] = FILES, *, value: float = 0.9, approvals: int = 2, marked: bool = True
) -> ReleaseInputs:
    """An approved candidate with these files; with a low ``value``, a rejected one."""
    parent = Parent(
        model="faces",
        task="classification",
        architecture="tiny",
        files=entries({"weights.safetensors": b"dense"}),
        source="https://example.org/faces",
        licence="MIT",
    )
    mark = Mark(scheme="nullspace", commitment=digest_of(b"c"), unmarked=digest_of(b"u"), parameters={"epsilon": 0.01})
    candidate = Candidate(
        model="faces",
        task="classification",
        architecture="tiny",
        files=entries(files),
        parent=parent.digest,
        recipe=Recipe(method="magnitude", targets={"sparsity": 0.3}, seed=7, recovery={"epochs": 1}),
        mark=mark if marked else None,
        card={"parameters": 420000.0},
    )
    rules = policy()
    found = tuple(evidence(candidate, check, value) for check in rules.checks)
    judgements = [j for rule, item in zip(rules.rules, found, strict=True) for j in judged(rule, item)]
    terms = terms_of(rules)[1]
    decision = Decision(
        candidate=candidate.digest,
        policy=rules.digest,
        policy_name=rules.policy,
        outcome="approved" if all(j.verdict == "met" for j in judgements) else "rejected",
        judgements=tuple(judgements),
        evidence=tuple(item.digest for item in found),
        terms=terms.digest,
        data=(AuditedData(name=DATASET.name, digest=DATASET.digest, images=DATASET.images),),
        at=AT,
    )
    people = ["ada", "ben", "eva"][:approvals]
    consents = tuple(
        Approval(decision=decision.digest, candidate=candidate.digest, approver=person, at=AT) for person in people
    )
    return ReleaseInputs(
        model="faces",
        version="3",
        candidate=candidate,
        parent=parent,
        policy=rules,
        decision=decision,
        evidence=found,
        approvals=consents,
        waivers=(),
        submitter="sam",
        terms=terms,
    )


def house(folder: Path) -> tuple[FileKeys, MemoryLog]:
    """Keys and a log that holds a few other things already."""
    return FileKeys(folder / "keys"), MemoryLog([b"one", b"two", b"three"])
