"""The composition root: settings in, ports out.  The only place that knows which adapter serves which port.

Heavy libraries are imported by the function that needs them, so that the gate question and verification start
without torch and MLflow.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from auditsvc.errors import Unavailable
from auditsvc.settings import Settings

if TYPE_CHECKING:
    from auditsvc.adapters.filekeys import FileKeys
    from auditsvc.adapters.jobs.asking import DbosJobs
    from auditsvc.adapters.jobs.worker import Worker
    from auditsvc.adapters.ledger import SqlLedger
    from auditsvc.ports import Ports, Progress
    from auditsvc.records import Policy


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
    from auditsvc.adapters.filekeys import FileKeys

    return FileKeys(settings.store / "keys", settings.key_passphrase.encode() or None)


def open_ports(settings: Settings, progress: Progress) -> Ports:
    """All ports of the embedded default, or of what the settings name; makes the store on first use."""
    import torch

    from auditsvc.adapters.blobs import FileBlobs
    from auditsvc.adapters.folder_datasets import FolderDatasets
    from auditsvc.adapters.mlflow_registry import MlflowRegistry
    from auditsvc.ports import Ports

    torch.set_num_threads(settings.threads or os.cpu_count() or 1)
    try:
        settings.store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"the store {settings.store} can't be made: {error.strerror}") from error
    ledger = open_ledger(settings, create=True)
    return Ports(
        ledger=ledger,
        log=ledger,
        blobs=FileBlobs(settings.store / "blobs"),
        registry=MlflowRegistry(settings.mlflow, settings.store / "mlflow-artifacts"),
        datasets=FolderDatasets(),
        keys=open_keys(settings),
        clock=SystemClock(),
        progress=progress,
        folder=settings.store,
    )


def open_jobs(settings: Settings) -> DbosJobs:
    """Background work, for those who ask for it: no torch, and no worker."""
    from auditsvc.adapters.jobs.asking import DbosJobs
    from auditsvc.adapters.jobs.store import Store

    return DbosJobs(Store(settings.jobs))


def open_worker(settings: Settings, device: str = "cpu") -> Worker:
    """A worker process on these stores, for this kind of device."""
    from auditsvc.adapters.console import NoProgress
    from auditsvc.adapters.jobs.store import Store
    from auditsvc.adapters.jobs.worker import Worker
    from auditsvc.pipeline.working import Workroom

    room = Workroom(open_ports(settings, NoProgress()), settings.data_folder, _policy_for(settings))
    slots = settings.store / "workers"
    return Worker(Store(settings.jobs), room, slots, device=device, most_deaths=settings.job_deaths)


def _policy_for(settings: Settings) -> Callable[[str, Sequence[str]], Policy]:
    """Policies of the ledger by digest, and shipped ones by name, refused where they name slices that are not there."""
    from auditsvc.adapters.policy_files import faults_of_slices, read_policy
    from auditsvc.errors import InvalidInput
    from auditsvc.records import Policy

    ledger = open_ledger(settings, create=True)

    def policy_for(name: str, slices: Sequence[str]) -> Policy:
        found = ledger.get(Policy, name) if name.startswith("sha256:") else read_policy(name)
        faults = faults_of_slices(found, tuple(slices))
        if faults:
            raise InvalidInput(f"the policy {name} does not fit the data set", faults)
        return found

    return policy_for
