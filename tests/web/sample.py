"""A small world: one parent, three candidates, of which one is released, one waits for consent, one was refused."""

from __future__ import annotations

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
    Flip,
    Judgement,
    Measured,
    Monitoring,
    Outcome,
    Parent,
    Policy,
    Reading,
    Recipe,
    Release,
    ReleaseTerms,
    Rule,
    Submission,
    TermsProposal,
    digest_of,
)
from tests.fakes import NOON, MemoryLedger, MemoryRegistry

PARENT = Parent(
    model="net",
    task="classification",
    architecture="tiny",
    files=(FileEntry(name="model.safetensors", size=9, digest=digest_of(b"parent")),),
    source="https://example.org/net",
    licence="MIT",
)
POLICY = Policy(
    policy="standard",
    version=1,
    why="an example",
    seed=1,
    approvals=2,
    checks={"accuracy": CheckSpec(version=1)},
    rules=(Rule(rule="little-is-lost", reading="accuracy/drop.clean", at_most=0.02, why="users would notice"),),
)
DATASET = DatasetRef(
    name="faces",
    digest=digest_of(b"faces"),
    task="classification",
    images=879,
    slices=("gender=F",),
    source="official portraits",
    licence="CC0-1.0",
)


PROPOSAL = TermsProposal(
    model="net",
    policy=POLICY.digest,
    policy_name="standard-1",
    datasets=(DATASET.digest,),
    approvals=2,
    reason="an example",
    proposed_by="bob",
    at=NOON,
)
TERMS = ReleaseTerms.model_validate(
    PROPOSAL.model_dump() | {"proposal": PROPOSAL.digest, "confirmed_by": "cyd"},
)


def candidate(number: int) -> Candidate:
    return Candidate(
        model="net",
        task="classification",
        architecture="tiny",
        files=(FileEntry(name="model.safetensors", size=7, digest=digest_of(f"weights {number}".encode())),),
        parent=PARENT.digest,
        recipe=Recipe(method="magnitude-global", targets={"sparsity": number / 10}, seed=number),
        card={"parameters": 420.0, "nonzeros": 294.0},
    )


def submission(number: int) -> Submission:
    return Submission(candidate=candidate(number).digest, model="net", version=str(number), submitter="ann", at=NOON)


def evidence(number: int) -> Evidence:
    key = EvidenceKey(
        candidate=candidate(number).digest,
        parent=PARENT.digest,
        dataset=DATASET.digest,
        check="accuracy",
        version=1,
        parameters={},
        seed=1,
        alpha=0.05,
        code="test",
    )
    readings = tuple(
        Reading(metric=metric, slice=name, outcome=Measured(value=value, low=value - 0.01, high=value + 0.01, images=n))
        for metric, value in (
            ("parent.clean", 0.96),
            ("score.clean", 0.96 - number / 100),
            ("drop.clean", number / 100),
        )
        for name, n in (("overall", 879), ("gender=F", 157))
    )
    flip = Flip(image="a.jpg", condition="clean", parent="F", candidate="M", target="F", slices=("gender=F",))
    return Evidence(
        key=key, dataset=DATASET, readings=readings, flips=(flip,), environment={}, started=NOON, finished=NOON
    )


def decision(number: int, outcome: Outcome = "approved") -> Decision:
    found = evidence(number)
    judgement = Judgement(
        rule="little-is-lost",
        metric="drop.clean",
        slice="overall",
        verdict="met" if outcome == "approved" else "violated",
        severity="block",
        bound="at_most",
        limit=0.02,
        outcome=found.reading("drop.clean", "overall"),
        evidence=found.digest,
        words=f"loses {number} points, 2 are allowed",
    )
    return Decision(
        candidate=candidate(number).digest,
        policy=POLICY.digest,
        policy_name="standard-1",
        outcome=outcome,
        judgements=(judgement,),
        evidence=(found.digest,),
        terms=TERMS.digest,
        data=(AuditedData(name="faces", digest=DATASET.digest, images=879),),
        at=NOON,
    )


def approval(number: int, approver: str) -> Approval:
    return Approval(decision=decision(number).digest, candidate=candidate(number).digest, approver=approver, at=NOON)


def released(number: int = 1) -> Release:
    return Release(
        model="net",
        version=str(number),
        candidate=candidate(number).digest,
        decision=decision(number).digest,
        approvals=tuple(approval(number, name).digest for name in ("bob", "cyd")),
        files=candidate(number).files,
        attestations=(FileEntry(name="vsa.sigstore.json", size=2, digest=digest_of(b"{}")),),
        at=NOON,
    )


def fill(ledger: MemoryLedger) -> None:
    """Version 1 is released, 2 is approved and waits for people, 3 is rejected, 4 was only submitted."""
    ledger.append(PARENT, POLICY, PROPOSAL, TERMS, actor="auditsvc")
    for number in (1, 2, 3, 4):
        ledger.append(candidate(number), submission(number), actor="ann")
    for number in (1, 2, 3):
        verdict = "rejected" if number == 3 else "approved"
        ledger.append(evidence(number), decision(number, verdict), actor="auditsvc")  # type: ignore[arg-type]
    ledger.append(approval(1, "bob"), approval(1, "cyd"), actor="auditsvc")
    ledger.append(released(1), actor="auditsvc")


def register(registry: MemoryRegistry) -> None:
    """The registry as it is after these submissions."""
    for number in (1, 2, 3, 4):
        registry.hold(candidate(number), str(number), {"model.safetensors": f"weights {number}".encode()})


def look(release: Release) -> Monitoring:
    """A release that does worse on newer images."""
    return Monitoring(
        model=release.model,
        version=release.version,
        release=release.digest,
        candidate=release.candidate,
        policy=POLICY.digest,
        dataset=DATASET.model_copy(update={"name": "november", "digest": digest_of(b"november")}),
        evidence=(evidence(1).digest,),
        files="VALID",
        gate="approved",
        judgements=(),
        changes=(),
        outcome="worse",
        reasons=("accuracy/score.clean on overall went from 0.960 to 0.900 (by -0.060, -0.080 to -0.040)",),
        person="mia",
        at=NOON,
    )
