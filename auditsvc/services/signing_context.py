"""The inputs of a signature, gathered from the ledger, and the services that sign, log and cosign it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from auditsvc.ports import Context
from auditsvc.provenance.signer.checkpoints import CheckpointStore
from auditsvc.provenance.trust.trust_root import TrustRoot, with_retired
from auditsvc.records import (
    Retirement,
)

if TYPE_CHECKING:
    from auditsvc.provenance import SigningServices


def signing_services_of(ctx: Context) -> SigningServices:
    """The witnesses and time stamps of a signature, where there are any; each checkpoint is stored.

    The log is checked before anything is signed.

    Raises:
        Conflict: the log does not continue what it has published.
    """
    from auditsvc.provenance import SigningServices  # here: the gate question, which checks the log, signs nothing

    log = checkpoint_store_of(ctx)
    log.guard()

    def cosign(envelope: str) -> str:
        return log.record(ctx.witnesses.cosign(envelope) if ctx.witnesses else envelope)

    return SigningServices(cosign, ctx.timestamps.stamp if ctx.timestamps else None, trust_of(ctx), ctx.public_url)


def trust_of(ctx: Context) -> TrustRoot:
    """The trust root for verifiers: the keys with their validity, the log, witnesses, time stamp authorities."""
    trust = with_retired(TrustRoot.of_keys(ctx.keys), ctx.ledger.all(Retirement))
    if not ctx.witnesses and not ctx.timestamps:
        return trust
    return trust.with_witnesses(
        witnesses=ctx.witnesses.vkeys if ctx.witnesses else (),
        quorum=ctx.witnesses.quorum if ctx.witnesses else 0,
        authorities=(ctx.timestamps.authority,) if ctx.timestamps else (),
    )


def checkpoint_store_of(ctx: Context) -> CheckpointStore:
    """The last checkpoint of this installation's log, and the guard over it."""
    path = ctx.checkpoint or ctx.folder / "checkpoint"
    return CheckpointStore(path, ctx.keys, ctx.log, ctx.witnesses, ctx.signing)
