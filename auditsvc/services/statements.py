"""The register of serious incidents: somebody knows of one, somebody told the authority, somebody watched for any.

Nothing in it is ever changed.  A report to the authority is the same incident again with the day of the report, and the
newest record of a case counts.
"""

from __future__ import annotations

import datetime

from auditsvc.compliance import Incident, Watch
from auditsvc.compliance.assessment.attestations import Harm
from auditsvc.errors import Conflict, InvalidInput, NotFound
from auditsvc.ports import Ledger
from auditsvc.records import Candidate, Digest, Moment, Parent


def record_incident(
    model: str, harm: Harm, words: str, aware: Moment, person: str, candidate: Digest | None, ledger: Ledger, at: Moment
) -> Incident:
    """Register an incident with a model that is here; ``aware`` is when somebody of ours knew of it first.

    Raises:
        NotFound: no such model or candidate.
        InvalidInput: somebody knew of it only in the future, or the candidate is another model's.
        Conflict: this case is registered already.
    """
    _must_know(model, candidate, ledger)
    if aware > at:
        raise InvalidInput("nobody can know of an incident in the future; the clock starts when somebody knew of it")
    made = Incident(model=model, candidate=candidate, harm=harm, words=words, aware=aware, person=person, at=at)
    if any(one.case == made.case for one in ledger.find(Incident, model)):
        raise Conflict(f"an incident of {model} ({harm}), known at {aware.isoformat()}, is registered already")
    ledger.append(made, actor=person)
    return made


def reported_incident(
    digest: Digest, authority: str, reference: str, reported: Moment, person: str, ledger: Ledger, at: Moment
) -> Incident:
    """Register that the authority was told of an incident.

    Raises:
        NotFound: no such incident.
        InvalidInput: told before anybody knew, or in the future, or nobody.
        Conflict: a report of this case is registered already.
    """
    found = ledger.get(Incident, digest)
    if any(one.case == found.case and one.reported for one in ledger.find(Incident, found.model)):
        raise Conflict("the report of this incident is registered already")
    if not found.aware <= reported <= at or not authority.strip():
        raise InvalidInput("a report comes after somebody knew, not in the future, and goes to a named authority")
    update = {"reported": reported, "authority": authority, "reference": reference, "person": person, "at": at}
    made = Incident.model_validate(found.model_dump() | update)
    ledger.append(made, actor=person)
    return made


def record_watch(
    model: str, since: datetime.date, until: datetime.date, words: str, person: str, ledger: Ledger, at: Moment
) -> Watch:
    """Somebody watched for incidents in these days, and knows of none beside those that are registered.

    Raises:
        NotFound: no such model.
        InvalidInput: days in the wrong order, or in the future.
    """
    _must_know(model, None, ledger)
    if not since <= until <= at.date():
        raise InvalidInput("a watch begins before it ends, and ends before somebody speaks of it")
    made = Watch(model=model, since=since, until=until, words=words, person=person, at=at)
    ledger.append(made, actor=person)
    return made


def _must_know(model: str, candidate: Digest | None, ledger: Ledger) -> None:
    if not ledger.find(Parent, model):
        raise NotFound(f"no model {model} here; register its parent first")
    if candidate is not None and ledger.get(Candidate, candidate).model != model:
        raise InvalidInput(f"the candidate {candidate} is not one of {model}")
