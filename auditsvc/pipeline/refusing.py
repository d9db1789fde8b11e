"""A rejection is said in public too: signed, attested and logged, so that it can't be forgotten quietly.

A refused model gets no OMS signature; its summary says ``FAILED``, and no tool takes it for released.
"""

from __future__ import annotations

from pathlib import Path

from auditsvc.pipeline.sealed import notaries_of, sealing_of
from auditsvc.ports import Ports
from auditsvc.provenance import attest_refusal
from auditsvc.records import Candidate, Decision, Submission


def refuse(candidate: Candidate, decision: Decision, ports: Ports) -> tuple[Path, ...]:
    """Attest this rejection for every version under which the candidate was submitted; where each lies.

    Doing it again finds what is done.

    Raises:
        InvalidInput: the decision approves.
        Conflict: the log does not continue what it has published.
        Unavailable: the disk, the keys or the log failed; run it again.
    """
    written = []
    for submission in ports.ledger.find(Submission, candidate.digest):
        notaries = notaries_of(ports)
        folder = refusal_folder(ports, submission, decision)
        sealing = sealing_of(submission, candidate, decision, ports)
        attest_refusal(folder, sealing, keys=ports.keys, log=ports.log, at=ports.clock.now(), notaries=notaries)
        written.append(folder)
    return tuple(written)


def refusal_folder(ports: Ports, submission: Submission, decision: Decision) -> Path:
    """Where the attestations of one rejection lie: in ``refusal`` under this."""
    name = decision.digest.removeprefix("sha256:")[:16]
    return ports.folder / "refusals" / submission.model / submission.version / name
