"""Retire a signing key: what it signed so far still holds, what anybody signs with it from now on does not.

The order is such that a run that is killed anywhere can be run again: the successor is made, the retirement recorded
and logged, the root of the published trust handed over by the old key, and only then the keys change places.
"""

from __future__ import annotations

from typing import Literal, Protocol

from auditsvc.errors import InvalidInput
from auditsvc.pipeline.sealed import published
from auditsvc.pipeline.trusting import publish, trust_folder
from auditsvc.ports import KeyRole, Ports, Signer
from auditsvc.provenance.repository import Offices, rotate
from auditsvc.records import Retirement


class Succession(Protocol):
    """The key store's part: the key that follows, and the change of places."""

    def successor(self, role: KeyRole) -> Signer:
        """The key that will follow this role's."""
        ...

    def succeed(self, role: KeyRole, successor: Signer) -> object:
        """Put the successor in the role's place."""
        ...


def retire(
    role: Literal["build", "audit", "release"],
    reason: str,
    person: str,
    ports: Ports,
    keys: Succession,
    *,
    confirmed_by: str,
    successor: Signer | None = None,
    compromised_since: int | None = None,
) -> Retirement:
    """Retire the role's key and put a new one, or ``successor``, in its place.

    With ``compromised_since`` nothing counts that this key signed from that index of the log on, and what it signed
    without logging it never counts.

    Raises:
        InvalidInput: an index that the log does not have yet, or a successor that is the key itself.
        Conflict: the log does not continue what it has published, or who asks also confirms.
        Unavailable: keys, disk or ledger failed; run it again.
    """
    published(ports).guard()
    old, heir = ports.keys.signer(role), successor or keys.successor(role)
    size = ports.log.size()
    if compromised_since is not None and compromised_since > size:
        raise InvalidInput(f"the log has {size} entries; the key can't have been in foreign hands only since later")
    if heir.public_pem == old.public_pem:
        raise InvalidInput("the successor is the key that is to be retired")
    pem = old.public_pem.decode()
    known = [one for one in ports.ledger.find(Retirement, role) if one.pem == pem]
    record = known[-1] if known else Retirement(
        role=role,
        pem=pem,
        log_size=size,
        compromised_since=compromised_since,
        reason=reason,
        by=person,
        confirmed_by=confirmed_by,
        at=ports.clock.now(),
    )  # fmt: skip
    ports.ledger.append(record, actor=person)
    told = (trust_folder(ports) / "metadata" / "timestamp.json").exists()
    if role == "release" and told:
        rotate(trust_folder(ports), Offices.all_by(old), Offices.all_by(heir), ports.clock.now())
    keys.succeed(role, heir)
    if told:
        publish(ports)
    return record


def compromise(pem: str, since: int, reason: str, person: str, ports: Ports, *, confirmed_by: str) -> Retirement:
    """Say of a key that was retired before that it was in foreign hands from this index of the log on.

    Raises:
        InvalidInput: no such key was retired, or an index that the log does not have yet.
    """
    known = [one for one in ports.ledger.all(Retirement) if one.pem == pem]
    if not known or since > ports.log.size():
        raise InvalidInput("no retired key has that public key, or the log is not that long yet")
    told = {"compromised_since": since, "reason": reason, "by": person, "at": ports.clock.now()}
    told["confirmed_by"] = confirmed_by
    record = known[0].model_copy(update=told)
    ports.ledger.append(record, actor=person)
    if (trust_folder(ports) / "metadata" / "timestamp.json").exists():
        publish(ports)
    return record
