"""The composition root: reads settings and opens the adapters behind the ports.

``open_context`` is the only place that constructs a ``Context``.  The command line, the service, workers, the demo and
the tasks of a Ray cluster all start here, so the same settings give the same ports everywhere.  Every port is opened
when it is first used: the gate question and verification start without torch and MLflow, although the context has
the registry and the data sets.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import sys
import threading
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.plugins import installed
from auditsvc.ports import Compute, Context, NoProgress
from auditsvc.settings import Settings

if TYPE_CHECKING:
    from auditsvc.adapters.jobs.worker import Worker
    from auditsvc.ports import (
        Blobs,
        Datasets,
        Jobs,
        KeyRole,
        Keys,
        Log,
        LoggedLedger,
        Observations,
        Progress,
        References,
        Registry,
        Result,
        Signer,
        SigningProcess,
        Timestamps,
        Witnesses,
    )
    from auditsvc.services.job_handlers import JobContext

T = TypeVar("T")


class SystemClock:
    """Implements ``ports.Clock`` with the machine's clock, in UTC."""

    def now(self) -> datetime.datetime:
        """The current time, to the second."""
        return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


class LazyPort:
    """A proxy that opens its port on the first access to an attribute, once, also under concurrent access."""

    def __init__(self, opener: Callable[[], Any]) -> None:
        self._opener, self._lock = opener, threading.Lock()

    def __getattr__(self, name: str) -> Any:
        # Called for attributes that the proxy lacks, which includes ``_port`` until the port is open.
        with self._lock:
            if "_port" not in self.__dict__:
                self.__dict__["_port"] = self._opener()
        return getattr(self.__dict__["_port"], name)


def _lazy(opener: Callable[..., T], *arguments: Any) -> T:
    """A ``LazyPort`` under the type of the port that it opens."""
    return cast(T, LazyPort(partial(opener, *arguments)))


def open_context(
    settings: Settings, project: str = "", *, progress: Progress | None = None, create: bool = False
) -> Context:
    """The ports of one project, each opened on first use.

    ``create`` is for callers that submit, measure or sign: it makes the store if there is none, and refuses to go on
    with a ledger that was restored from an old backup.

    Args:
        settings: The settings of the installation, before ``Settings.for_project``.
        project: The name of the project; empty means the main one.
        progress: Reports long work; by default nothing does.
        create: Make the store on first use and check the log against its last published checkpoint.

    Raises:
        Conflict: the log does not continue its last published checkpoint.
        InvalidInput: there is no such project, or the settings can't be used.
        Unavailable: there is no store, or it can't be made or opened.
    """
    scoped = settings.for_project(project)
    if create:
        _make_store(scoped)
    elif scoped.ledger_file and not scoped.ledger_file.exists():
        raise Unavailable(
            f"there is no store at {scoped.store}; run `auditsvc init` or `auditsvc demo` to make one, "
            "or set --store or AUDITSVC_STORE"
        )
    ledger = _lazy(_open_ledger, scoped)
    ctx = Context(
        ledger=ledger,
        log=ledger,
        blobs=_lazy(_open_blobs, scoped),
        registry=_lazy(_open_registry, scoped),
        datasets=_lazy(_open_datasets, scoped.threads),
        keys=_lazy(_open_keys, scoped, project),
        clock=SystemClock(),
        progress=progress or NoProgress(),
        folder=scoped.store,
        checkpoint=scoped.checkpoint_file.absolute() if scoped.checkpoint_file else None,
        timestamps=_lazy(_open_timestamps, scoped) if scoped.tsa_url else None,
        witnesses=_lazy(_open_witnesses, scoped.witnesses_file, ledger) if scoped.witnesses_file else None,
        references=_lazy(_open_references, scoped.allowed_model_uris) if scoped.allowed_model_uris else None,
        compute=Compute() if scoped.device == "cpu" else _lazy(_open_compute, scoped.device),
        public_url=scoped.public_url,
        watched=_lazy(_open_observations, scoped.observations_db),
        signing=_signing(settings, project),
    )
    if create:
        _check(ctx)
    return _with_operator_terms(ctx, scoped.terms_file, create=create) if scoped.terms_file else ctx


def _with_operator_terms(ctx: Context, path: Path, *, create: bool) -> Context:
    from auditsvc.services.operator_terms import apply_operator_terms, read_operator_terms

    if create:
        apply_operator_terms(ctx, path)
    return dataclasses.replace(ctx, operator_models=frozenset(read_operator_terms(path)))


def _check(ctx: Context) -> None:
    """Open what signing needs, so that a wrong setting stops the start and not a release hours later."""
    from auditsvc.services.signing_context import checkpoint_store_of

    ctx.ledger.size()
    _ = ctx.keys.signer, ctx.timestamps and ctx.timestamps.authority, ctx.witnesses and ctx.witnesses.quorum
    checkpoint_store_of(ctx).guard()


def _make_store(settings: Settings) -> None:
    try:
        settings.store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"the store {settings.store} can't be made: {error.strerror}") from error


def _open_ledger(settings: Settings) -> LoggedLedger:
    from auditsvc.adapters.ledger import SqlLedger

    return SqlLedger(settings.ledger_db, SystemClock())


def _open_blobs(settings: Settings) -> Blobs:
    from auditsvc.adapters.blobs import FileBlobs, ObjectBlobs

    return ObjectBlobs(settings.blobs_url) if settings.blobs_url else FileBlobs(settings.store / "blobs")


def _open_observations(url: str) -> Observations:
    from auditsvc.adapters.observations import SqlObservations

    return SqlObservations(url)


def _open_registry(settings: Settings) -> Registry:
    from auditsvc.adapters.mlflow_registry import MlflowRegistry

    return MlflowRegistry(settings.mlflow_store, settings.store / "mlflow-artifacts")


def _cores() -> int:
    """The threads that OMP_NUM_THREADS asks for; else the cores that this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) else len(os.sched_getaffinity(0))


def _open_datasets(threads: int) -> Datasets:
    # Every measurement opens a data set first, so this is also where torch gets its threads.
    import torch

    from auditsvc.adapters.object_references import RemoteDatasets

    torch.set_num_threads(threads or _cores())
    return RemoteDatasets()


def _signing(settings: Settings, project: str) -> SigningProcess | None:
    if not settings.signer:
        return None
    from auditsvc.adapters.signer_process import SocketSigning

    return SocketSigning(settings.signer, project)


def _open_keys(settings: Settings, project: str) -> Keys:
    if settings.signer:
        from auditsvc.adapters.signer_process import SignerKeys, SocketSigning

        return SignerKeys(SocketSigning(settings.signer, project))
    from auditsvc.adapters.file_keys import FileKeys

    external = {role: open_signer(uri, role, settings) for role, uri in settings.key_uris.items()}
    return FileKeys(settings.store / "keys", settings.key_passphrase.encode() or None, external)


def run_signer(settings: Settings, address: str) -> None:
    """Answer requests at this address, with the keys of all projects; see ``adapters.signer_process``.

    Raises:
        Unavailable: the socket can't be made.
    """
    from auditsvc.adapters.signer_process import serve_requests

    contexts = cache(partial(open_context, settings.model_copy(update={"signer": ""}), create=True))

    def answer(project: str, request: str, subject: str) -> str:
        from auditsvc.services.signing_requests import answer_request

        return answer_request(contexts(project), request, subject)

    serve_requests(address, answer)


def continue_without_keys(settings: Settings) -> NoReturn:
    """Replace this process, a worker, by itself without keys, with a signer process of its own."""
    from auditsvc.adapters.signer_process import continue_without_keys as replace

    command = [sys.executable, "-m", "auditsvc", "signer", "--store", str(settings.store), "--socket"]
    folders = [settings.for_project(name).store / "keys" for name in ("", *settings.projects)]
    files = [Path(uri.removeprefix("file:")) for uri in settings.key_uris.values() if uri.startswith("file:")]
    replace(command, settings.secret_variables, [*folders, *files])


def open_signer(uri: str, role: KeyRole, settings: Settings) -> Signer:
    """The signer at a URI: a key file, a key in an HSM (PKCS #11), or a key in a cloud KMS.

    Raises:
        InvalidInput: a scheme that is unknown or that this role's key can't have.
        Unavailable: the key file can't be read.
    """
    if uri.startswith("pkcs11:") and role != "log":
        from auditsvc.adapters.external_keys import Pkcs11Signer, Place

        return Pkcs11Signer(role, Place.parse(uri))
    if uri.startswith(("awskms:", "gcpkms:", "azurekms:")) and role != "log":
        from auditsvc.adapters.external_keys import KmsSigner

        return KmsSigner(role, uri)
    if uri.startswith("file:"):
        from auditsvc.adapters.file_keys import read_signer

        return read_signer(Path(uri.removeprefix("file:")), role, settings.key_passphrase.encode() or None)
    schemes = "file: (Ed25519)" if role == "log" else "file:, pkcs11:, awskms:, gcpkms: or azurekms:"
    raise InvalidInput(f"AUDITSVC_{role.upper()}_KEY must start with {schemes}, not {uri.partition(':')[0]!r}")


def _open_timestamps(settings: Settings) -> Timestamps:
    from auditsvc.adapters.signing_services import HttpTimestamps

    return HttpTimestamps.at(settings.tsa_url, settings.tsa_certificates or Path())


def _open_witnesses(path: Path, log: Log) -> Witnesses:
    from auditsvc.adapters.signing_services import HttpWitnesses

    return HttpWitnesses.in_file(path, log)


def _open_references(uris: tuple[str, ...]) -> References:
    from auditsvc.adapters.object_references import ObjectReferences

    return ObjectReferences(uris)


def _open_compute(device: str) -> Compute:
    from auditsvc.models.devices import device_named

    return Compute(device_named(device))


def open_jobs(settings: Settings, project: str = "") -> Jobs:
    """The job queue of a project, for clients that submit and query jobs; opened on first use, without torch."""
    return _lazy(_open_jobs, settings.for_project(project))


def _open_jobs(settings: Settings) -> Jobs:
    from auditsvc.adapters.jobs.job_store import DbosJobs, JobDatabase

    return DbosJobs(JobDatabase(settings.jobs_db))


def load_plugins() -> None:
    """Load every plug-in, so that a broken one stops the service and workers at their start.

    Where no plug-in is installed nothing is imported: the service starts without torch.

    Raises:
        Unavailable: a plug-in that can't be loaded, or two with one id.
    """
    kinds = ("architectures", "checks", "datasets", "runtimes", "tasks")
    if not any(installed(f"auditsvc.{kind}") for kind in kinds):
        return
    from auditsvc.checks import CHECKS
    from auditsvc.datasets.readers import READERS
    from auditsvc.models.architectures import ARCHITECTURES
    from auditsvc.runtimes import RUNTIMES
    from auditsvc.tasks import TASKS

    for loaded in (CHECKS.by_id, READERS.by_id, ARCHITECTURES.by_id, RUNTIMES.by_id, TASKS.by_id):
        len(loaded)


def open_worker(settings: Settings, project: str = "") -> Worker:
    """A worker process for a project's jobs."""
    load_plugins()
    from auditsvc.adapters.jobs.job_store import JobDatabase
    from auditsvc.adapters.jobs.runners import RayCluster
    from auditsvc.adapters.jobs.worker import Worker

    jobs, scoped = open_job_context(settings, project), settings.for_project(project)
    gpu = jobs.ctx.device != "cpu"
    address, days, leases = settings.ray_address, settings.job_retention_days, scoped.store / "workers"
    cluster = RayCluster(address, measure_on_ray, gpu=gpu, project=project) if address else None
    return Worker(JobDatabase(scoped.jobs_db), jobs, leases, settings.job_max_crashes, cluster=cluster, keep_days=days)


def open_job_context(settings: Settings, project: str = "") -> JobContext:
    """What the handlers of a project's jobs need; its store is made on first use.  See ``open_context``."""
    from auditsvc.services.job_handlers import JobContext

    ctx = open_context(settings, project, create=True)
    return JobContext(ctx, settings.for_project(project).datasets_dir)


@cache
def _job_context_of_node(project: str) -> JobContext:
    settings = Settings()  # Ray runs one task on each core, so one thread each
    return open_job_context(settings.model_copy(update={"threads": settings.threads or 1}), project)


def measure_on_ray(project: str, shard: str) -> str:
    """Measure one shard in a task of a Ray cluster, with the settings in the environment of that node.

    Args:
        project: The project that the audit belongs to; empty means the main one.
        shard: A ``records.Shard`` as JSON.
    """
    from auditsvc.adapters.jobs.runners import serialize_result
    from auditsvc.records import Shard
    from auditsvc.services.job_handlers import measure_shard

    def work() -> Result:
        return measure_shard(Shard.model_validate_json(shard), _job_context_of_node(project).for_job(NoProgress()))

    return serialize_result(work)
