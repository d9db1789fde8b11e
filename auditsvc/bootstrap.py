"""The composition root: settings in, ports out.  The only place that knows which adapter serves which port.

Heavy libraries are imported by the function that needs them, so that the gate question and verification start
without torch and MLflow.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from auditsvc.errors import Unavailable
from auditsvc.settings import Settings

if TYPE_CHECKING:
    from auditsvc.adapters.file_keys import FileKeys
    from auditsvc.adapters.jobs.job_client import DbosJobs
    from auditsvc.adapters.jobs.worker import Worker
    from auditsvc.adapters.ledger import SqlLedger
    from auditsvc.ports import Blobs, Context, KeyRole, Log, Progress, References, Result, Signer, Timestamps, Witnesses
    from auditsvc.records import Policy
    from auditsvc.services.job_handlers import JobContext


class SigningServiceFields(TypedDict, total=False):
    """The ports of ``Ports`` that stand behind a seal; those that nobody named are left out."""

    checkpoint: Path | None
    timestamps: Timestamps
    witnesses: Witnesses


class SystemClock:
    """The machine's own clock, in UTC."""

    def now(self) -> datetime.datetime:
        """Now, to the second."""
        return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def open_ledger(settings: Settings, *, create: bool = False) -> SqlLedger:
    """The ledger alone: what the gate question needs.

    Raises:
        Unavailable: there is no store yet, and nobody asked to make one; or it can't be opened.
    """
    from auditsvc.adapters.ledger import SqlLedger

    if not create and settings.ledger.startswith("sqlite:///") and not (settings.store / "ledger.db").exists():
        raise Unavailable(
            f"there is no store at {settings.store}; run `auditsvc demo` here, or name one by --store or AUDITSVC_STORE"
        )
    return SqlLedger(settings.ledger, SystemClock())


def open_keys(settings: Settings) -> FileKeys:
    """The signing keys of this installation; made on first use."""
    from auditsvc.adapters.file_keys import FileKeys

    elsewhere = {role: signer_at(uri, role, settings) for role, uri in settings.key_places.items()}
    return FileKeys(settings.store / "keys", settings.key_passphrase.encode() or None, elsewhere)


def signer_at(uri: str, role: KeyRole, settings: Settings) -> Signer:
    """The signer behind a URI: a file, a key in an HSM, a key in a cloud.

    Raises:
        InvalidInput: a place that this role's key can't be in.
        Unavailable: a file that can't be read.
    """
    from auditsvc.errors import InvalidInput

    if uri.startswith("pkcs11:") and role != "log":
        from auditsvc.adapters.pkcs11 import Pkcs11Signer, Place

        return Pkcs11Signer(role, Place.parse(uri))
    if uri.startswith(("awskms:", "gcpkms:", "azurekms:")) and role != "log":
        from auditsvc.adapters.kms import KmsSigner

        return KmsSigner(role, uri)
    if uri.startswith("file:"):
        from auditsvc.adapters.file_keys import read_signer

        return read_signer(Path(uri.removeprefix("file:")), role, settings.key_passphrase.encode() or None)
    kinds = "file: (Ed25519)" if role == "log" else "file:, pkcs11:, awskms:, gcpkms: or azurekms:"
    raise InvalidInput(f"AUDITSVC_{role.upper()}_KEY must start with {kinds}, not {uri.partition(':')[0]!r}")


def open_signing_services(settings: Settings, log: Log) -> SigningServiceFields:
    """Who stands behind what is signed, besides the keys, as the settings name them.

    Raises:
        InvalidInput: a file that they name can't be used.
    """
    found: SigningServiceFields = {"checkpoint": Path(settings.checkpoint).absolute() if settings.checkpoint else None}
    if settings.tsa_url:
        from auditsvc.adapters.timestamp_authority import HttpTimestamps

        found["timestamps"] = HttpTimestamps.at(settings.tsa_url, Path(settings.tsa_certificates))
    if settings.witnesses:
        from auditsvc.adapters.witness_client import HttpWitnesses

        found["witnesses"] = HttpWitnesses.in_file(Path(settings.witnesses), log)
    return found


def open_ports(settings: Settings, progress: Progress) -> Context:
    """All ports of the embedded default, or of what the settings name; makes the store on first use.

    Raises:
        Conflict: the ledger came back from an old backup: its log does not continue what it has published.
        InvalidInput: settings that can't be used.
        Unavailable: the store can't be made or opened.
    """
    import torch

    from auditsvc.adapters.mlflow_registry import MlflowRegistry
    from auditsvc.datasets.folder import FolderDatasets
    from auditsvc.models.devices import device_named
    from auditsvc.ports import Context
    from auditsvc.services.signing_context import checkpoint_store_of

    torch.set_num_threads(settings.threads or os.cpu_count() or 1)
    try:
        settings.store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"the store {settings.store} can't be made: {error.strerror}") from error
    ledger = open_ledger(settings, create=True)
    ctx = Context(
        ledger=ledger,
        log=ledger,
        blobs=open_blobs(settings),
        registry=MlflowRegistry(settings.mlflow, settings.store / "mlflow-artifacts"),
        datasets=FolderDatasets(),
        keys=open_keys(settings),
        clock=SystemClock(),
        progress=progress,
        folder=settings.store,
        references=_references(settings.references),
        device=device_named(settings.device),
        **open_signing_services(settings, ledger),
    )
    checkpoint_store_of(ctx).guard()
    return ctx


def _references(allowed: str) -> References | None:
    places = tuple(place.strip() for place in allowed.split(",") if place.strip())
    if not places:
        return None
    from auditsvc.adapters.object_references import ObjectReferences

    return ObjectReferences(places)


def open_blobs(settings: Settings) -> Blobs:
    """The files of all models and audits: in the store, or in the object storage that the settings name."""
    if settings.blobs_url:
        from auditsvc.adapters.blobs import ObjectBlobs

        return ObjectBlobs(settings.blobs_url)
    from auditsvc.adapters.blobs import FileBlobs

    return FileBlobs(settings.store / "blobs")


def open_jobs(settings: Settings) -> DbosJobs:
    """Background work, for those who ask for it: no torch, and no worker."""
    from auditsvc.adapters.jobs.job_client import DbosJobs
    from auditsvc.adapters.jobs.job_store import JobDatabase

    return DbosJobs(JobDatabase(settings.jobs))


def open_worker(settings: Settings) -> Worker:
    """A worker process on these stores."""
    from auditsvc.adapters.jobs.job_store import JobDatabase
    from auditsvc.adapters.jobs.runners import RayCluster
    from auditsvc.adapters.jobs.worker import Worker

    room = open_job_context(settings)
    cluster = RayCluster(settings.ray, measured_on_ray, gpu=room.ctx.device != "cpu") if settings.ray else None
    slots, days = settings.store / "workers", settings.job_days
    return Worker(JobDatabase(settings.jobs), room, slots, settings.job_deaths, cluster=cluster, keep_days=days)


def open_job_context(settings: Settings) -> JobContext:
    """Where jobs and shards are done, without anybody who takes them."""
    from auditsvc.adapters.progress_bar import NoProgress
    from auditsvc.services.job_handlers import JobContext

    return JobContext(open_ports(settings, NoProgress()), settings.data_folder, policies_for(settings))


@cache
def _room_of_this_node() -> JobContext:
    settings = Settings()
    return open_job_context(replace(settings, threads=settings.threads or 1))  # Ray has a task for each core


def measured_on_ray(shard: str) -> str:
    """One shard on a node of a Ray cluster, with the settings of that node's environment."""
    from auditsvc.adapters.jobs.runners import serialize_result
    from auditsvc.adapters.progress_bar import NoProgress
    from auditsvc.records import Shard
    from auditsvc.services.job_handlers import measure_shard

    def work() -> Result:
        return measure_shard(Shard.model_validate_json(shard), _room_of_this_node().for_job(NoProgress()))

    return serialize_result(work)


def policies_for(settings: Settings) -> Callable[[str, Sequence[str]], Policy]:
    """Policies of the ledger by digest, and shipped ones by name, refused where they name slices that are not there."""
    from auditsvc.errors import InvalidInput
    from auditsvc.records import Policy
    from auditsvc.services.policies import read_policy, slice_faults

    ledger = open_ledger(settings, create=True)

    def policy_for(name: str, slices: Sequence[str]) -> Policy:
        found = ledger.get(Policy, name) if name.startswith("sha256:") else read_policy(name)
        faults = slice_faults(found, tuple(slices))
        if faults:
            raise InvalidInput(f"the policy {name} does not fit the data set", faults)
        return found

    return policy_for
