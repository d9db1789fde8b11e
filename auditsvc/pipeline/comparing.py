"""What a decision needs to know beside the candidate's own evidence: the incumbent, and the looks at the images."""

from __future__ import annotations

from collections.abc import Iterable

from auditsvc.errors import NotFound
from auditsvc.ports import Ledger, Ports
from auditsvc.records import Candidate, Digest, Evidence, Release, Revocation
from auditsvc.records.looking import Look, look_key
from auditsvc.records.standing import Incumbent


def incumbent_of(candidate: Candidate, ledger: Ledger) -> Incumbent | None:
    """The newest candidate of this model that was released and not revoked, other than this one."""
    for release in reversed(ledger.find(Release, candidate.model)):
        if release.candidate != candidate.digest and not ledger.find(Revocation, release.digest):
            return incumbent_named(release.candidate, ledger)
    return None


def incumbent_named(digest: Digest | None, ledger: Ledger) -> Incumbent | None:
    """The incumbent that a decision named; None where it named none, or its record is not here."""
    try:
        return None if digest is None else Incumbent(ledger.get(Candidate, digest), ledger.find(Evidence, digest))
    except NotFound:
        return None


def look(candidate: Candidate, evidence: Iterable[Evidence], ports: Ports) -> dict[Digest, tuple[Digest, ...]]:
    """Write down that this candidate is judged on these images; the looks at each data set, this one among them."""
    datasets = sorted({item.key.dataset for item in evidence})
    for dataset in datasets:
        if candidate.digest not in looks_at(dataset, candidate.model, ports.ledger):
            made = Look(dataset=dataset, model=candidate.model, candidate=candidate.digest, at=ports.clock.now())
            ports.ledger.append(made, actor="auditsvc")
    return {dataset: looks_at(dataset, candidate.model, ports.ledger) for dataset in datasets}


def looks_at(dataset: Digest, model: str, ledger: Ledger) -> tuple[Digest, ...]:
    """The candidates of a model that were judged on a data set, in order, each once."""
    return tuple(dict.fromkeys(found.candidate for found in ledger.find(Look, look_key(dataset, model))))
