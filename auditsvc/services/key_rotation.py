"""Retire a signing key, and publish the trust: what the key signed before its retirement stays valid, later uses don't.

A run that is killed at any point can be run again: the successor is made, the retirement recorded and logged, the root
of the published trust (TUF) rotated by the old key, and only then the successor becomes the current key.

The trust is published again regularly, because clients require metadata that is less than a day old.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol

from auditsvc.errors import InvalidInput
from auditsvc.ports import Context, KeyRole, Signer
from auditsvc.provenance import publish_trust
from auditsvc.provenance.formats.release_layout import REVOCATIONS, TRUST_POLICY
from auditsvc.provenance.trust.trust_root import RevocationList, revoked_digests
from auditsvc.provenance.trust.tuf_repository import LIFETIMES, ROLES, TrustRepository, TufRoles, rotate
from auditsvc.records import Release, Retirement, Revocation
from auditsvc.services.signing_context import checkpoint_store_of, trust_of


def trust_folder(ctx: Context) -> Path:
    """The folder of the published trust (TUF) in the store."""
    return ctx.folder / "trust"


def revoked(ctx: Context) -> Iterator[tuple[Revocation, Release]]:
    """Every revocation with its release, oldest first."""
    for revocation in ctx.ledger.all(Revocation):
        yield revocation, ctx.ledger.get(Release, revocation.release)


def publish(ctx: Context, folder: Path | None = None) -> RevocationList:
    """Publish the next version of the trusted keys and revocations.

    Raises:
        InvalidInput: another folder than the store's, where the signer process has the keys.
        Unavailable: the disk or the keys failed; readers see the version before.
    """
    if ctx.signing:
        if folder not in (None, trust_folder(ctx)):
            raise InvalidInput(f"the signer process publishes in {trust_folder(ctx)}; copy that folder")
        return RevocationList.parse(ctx.signing.ask("trust").encode())
    trust, at = trust_of(ctx), ctx.clock.now()
    return publish_trust(folder or trust_folder(ctx), revoked(ctx), keys=ctx.keys, at=at, trust=trust)


def keep_fresh(ctx: Context) -> Path:
    """The folder of the published trust, published again if it is half way to its end or not what is known now.

    Raises:
        Unavailable: the disk or the keys failed.
    """
    folder, now = trust_folder(ctx), ctx.clock.now()
    half = min(LIFETIMES[role] for role in ROLES) / 2
    found = TrustRepository.read(folder, ctx.keys.signer("release").public_pem, now + half)
    known = {recall for pair in revoked(ctx) for recall in revoked_digests(*pair)}
    published = RevocationList.parse(found.targets[REVOCATIONS]).revocations if REVOCATIONS in found.targets else ()
    same = found.targets.get(TRUST_POLICY) == trust_of(ctx).to_json() and set(published) == known
    if found.faults or not same:
        publish(ctx, folder)
    return folder


class Succession(Protocol):
    """The key store's part: the key that follows, and the change of places."""

    def successor(self, role: KeyRole) -> Signer:
        """The key that will follow this role's."""

    def succeed(self, role: KeyRole, successor: Signer) -> object:
        """Put the successor in the role's place."""


def retire(
    ctx: Context,
    role: Literal["build", "audit", "release"],
    reason: str,
    person: str,
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
    checkpoint_store_of(ctx).guard()
    old, heir = ctx.keys.signer(role), successor or keys.successor(role)
    size = ctx.log.size()
    if compromised_since is not None and compromised_since > size:
        raise InvalidInput(f"the log has {size} entries; the key can't be compromised only since a later one")
    if heir.public_pem == old.public_pem:
        raise InvalidInput("the successor is the key that is to be retired")
    pem = old.public_pem.decode()
    known = [one for one in ctx.ledger.find(Retirement, role) if one.pem == pem]
    record = known[-1] if known else Retirement(
        role=role,
        pem=pem,
        log_size=size,
        compromised_since=compromised_since,
        reason=reason,
        by=person,
        confirmed_by=confirmed_by,
        at=ctx.clock.now(),
    )  # fmt: skip
    ctx.ledger.append(record, actor=person)
    is_published = (trust_folder(ctx) / "metadata" / "timestamp.json").exists()
    if role == "release" and is_published:
        rotate(trust_folder(ctx), TufRoles.all_by(old), TufRoles.all_by(heir), ctx.clock.now())
    keys.succeed(role, heir)
    if is_published:
        publish(ctx)
    return record


def compromise(ctx: Context, pem: str, since: int, reason: str, person: str, *, confirmed_by: str) -> Retirement:
    """Mark a retired key as compromised from this index of the log on.

    Raises:
        InvalidInput: no such key was retired, or an index that the log does not have yet.
    """
    known = [one for one in ctx.ledger.all(Retirement) if one.pem == pem]
    if not known or since > ctx.log.size():
        raise InvalidInput("no retired key has that public key, or the log is not that long yet")
    update = {"compromised_since": since, "reason": reason, "by": person, "at": ctx.clock.now()}
    update["confirmed_by"] = confirmed_by
    record = known[0].model_copy(update=update)
    ctx.ledger.append(record, actor=person)
    if (trust_folder(ctx) / "metadata" / "timestamp.json").exists():
        publish(ctx)
    return record
