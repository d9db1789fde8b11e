"""The model registry in MLflow: versions, lineage, tags, aliases and stages, through MLflow's own client.

A model version points to a run with the model's files as artifacts.  It is never logged as an MLflow *model*, which
would pickle or trace the network and infer requirements; only the files are released.  A digest tag identifies the
content of a version, and every operation looks it up first, so that an interrupted registration is completed by the
next one, under the same version.

A new SQLite store is built in memory and moved into place whole, because MLflow's first start runs some seventy
migrations, each with its own commit, and does not survive being killed between them.  MLflow takes over a second to
import, so it is imported on first use only.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditsvc.adapters.mlflow_sqlite import StoredVersion, copied, stored_version
from auditsvc.adapters.sql import SQLITE_ERRORS
from auditsvc.errors import Conflict, InvalidInput, NotFound, Unavailable
from auditsvc.ports import Placed, Registered
from auditsvc.records import Candidate, Digest, Parent, Recipe, canonical_json

if TYPE_CHECKING:
    from mlflow import MlflowClient


_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
}
"""Defaults for MLflow's environment variables; values that are already set take precedence.

With MLflow's own defaults, requests to an unreachable server are retried for four minutes; with these, 15 seconds.
"""

_KINDS: dict[str, type[NotFound] | type[Conflict] | type[InvalidInput]] = {
    "RESOURCE_DOES_NOT_EXIST": NotFound,
    "RESOURCE_ALREADY_EXISTS": Conflict,
    "RESOURCE_CONFLICT": Conflict,
    "INVALID_PARAMETER_VALUE": InvalidInput,
}
"""MLflow's error codes that are no failure of MLflow."""


def open_client(uri: str, artifacts: Path) -> MlflowClient:
    """MLflow's client for this store, silent and without telemetry; a new SQLite store is made first.

    Raises:
        Unavailable: MLflow can't be imported, or the store can't be opened.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise Unavailable(f"MLflow can't be imported: {error}; install auditsvc again") from error
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # tracebacks of what it raises as well
    store = _sqlite_file(uri)
    if store is not None:
        _prepare(store)
    with translated(uri, artifacts):
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def is_remote(uri: str) -> bool:
    """Whether a server keeps the models, and decides where their files are."""
    return uri.startswith(("http://", "https://"))


def _sqlite_file(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _prepare(store: Path) -> None:
    """Look at the store before MLflow does, which would try fifteen times over many minutes.

    Raises:
        Unavailable: the file can't be opened, or is not a database; or a new one can't be made.
    """
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        if not store.exists():
            _build(store)
        with closing(sqlite3.connect(store, timeout=30)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except OSError as error:
        raise Unavailable(disk_fault(store, error)) from error
    except sqlite3.Error as error:
        raise Unavailable(f"the MLflow store {store} {_fault(error)}") from error


def _build(store: Path) -> None:
    """Make a new store in memory, or in the folder for temporary files, and link it into its place whole."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    memory = Path("/dev/shm")  # noqa: S108 - only a folder with a random name of our own inside it is used
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as place:
        built = Path(place) / "mlflow.db"
        with translated(f"sqlite:///{built}", built):
            SqlAlchemyStore(f"sqlite:///{built}", str(store.parent)).engine.dispose()
        with tempfile.NamedTemporaryFile(prefix=".unfinished-", dir=store.parent) as partial:
            with built.open("rb") as source:
                shutil.copyfileobj(source, partial)
            partial.flush()
            os.fsync(partial.fileno())
            Path(partial.name).chmod(0o644)
            try:
                store.hardlink_to(partial.name)
            except FileExistsError:
                return  # another process was faster, and its store is as good


@contextmanager
def translated(uri: str, artifacts: Path) -> Iterator[None]:
    """Turn what MLflow, its database and the disk raise into ours.  Needs MLflow to be imported already."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except MlflowException as error:
        kind = _KINDS.get(error.error_code)
        if kind is not None:
            raise kind(f"MLflow: {_first_line(error)}") from error
        raise Unavailable(f"the MLflow store {_shown(uri)} {_fault(error)}") from error
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise Unavailable(f"the MLflow store {_shown(uri)} {_fault(error)}") from error
    except OSError as error:
        raise Unavailable(disk_fault(artifacts, error)) from error


def _fault(error: BaseException) -> str:
    """What the database said at the bottom of it all, and what to do."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    code = getattr(error, "sqlite_errorcode", None)
    known = None if code is None else SQLITE_ERRORS.get(code & 0xFF)
    if re.search(r"error code 40[13]\b", _first_line(error)):
        return "refuses access: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or the token it wants"
    if isinstance(error, ConnectionError):
        return f"can't be reached: {_first_line(error)}; check that the server runs and that the address is right"
    return known or f"failed: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "no reason given")


def _shown(uri: str) -> str:
    """The address without a password."""
    return re.sub(r"//[^/@]*@", "//", uri)


def disk_fault(path: Path, error: OSError) -> str:
    """One line about a write that failed, and what to do."""
    about = f" (at {error.filename})" if error.filename and Path(error.filename) != path else ""
    why = f"{error.strerror or error}{about}"
    return f"can't write {path}: {why}; free some space or choose another folder, and run this again"


_PAGE = 100


def placed(client: MlflowClient) -> dict[str, Placed]:
    """The aliases and stages of every model that has any; MLflow names the newest version of each stage."""
    found: dict[str, Placed] = {}
    token: str | None = None
    while True:
        page = client.search_registered_models(max_results=_PAGE, page_token=token)
        for model in page:
            aliases = {str(name): str(version) for name, version in model.aliases.items()}
            stages = {one.current_stage: str(one.version) for one in model.latest_versions}
            stages.pop("None", None)
            if aliases or stages:
                found[str(model.name)] = Placed(aliases, stages)
        token = page.token
        if not token:
            return found


_EXPERIMENT = "auditsvc"
_FOLDER = "candidate"
"""The folder of a run's artifacts that holds the model's files."""

_DIGEST = "auditsvc.digest"
_ODD = re.compile(r"[^A-Za-z0-9_./ -]")
"""What MLflow takes in no name of a parameter or metric."""


@dataclass(frozen=True)
class _Version:
    """All that is registered of one model."""

    model: str
    digest: Digest
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]


class MlflowRegistry:
    """``ports.Registry`` on an MLflow store: ``sqlite:///...`` in this process, or ``http://...`` a server's."""

    def __init__(self, uri: str, artifacts: Path) -> None:
        """``artifacts`` is where a local store keeps files; a server decides that itself.  Opens nothing yet."""
        self._uri = uri
        self._artifacts = artifacts.resolve()
        self._opening = threading.Lock()

    def register_parent(self, parent: Parent, folder: Path) -> str:
        """Register the parent; see ``ports.Registry.register_parent``."""
        tags = {
            "auditsvc.role": "parent",
            "auditsvc.task": parent.task,
            "auditsvc.architecture": parent.architecture,
            "auditsvc.intended_use": parent.intended_use,
            "auditsvc.not_for": parent.not_for,
            "source": parent.source,
            "licence": parent.licence,
        }
        params = {"task": parent.task, "architecture": parent.architecture}
        metrics = {"bytes": float(sum(file.size for file in parent.files))}
        return self._register(_Version(parent.model, parent.digest, tags, params, metrics), folder)

    def register_candidate(self, candidate: Candidate, folder: Path, parent_version: str) -> str:
        """Register a candidate; see ``ports.Registry.register_candidate``.

        Raises:
            NotFound: the parent's version is not there.
            Conflict: that version is another model than the candidate's parent.
        """
        with self._translated():
            above = self._client.get_model_version(candidate.model, parent_version).tags
        if above.get(_DIGEST) != candidate.parent:
            raise Conflict(f"{candidate.model}/{parent_version} is not the candidate's parent {candidate.parent}")
        tags = {
            "auditsvc.role": "candidate",
            "auditsvc.task": candidate.task,
            "auditsvc.architecture": candidate.architecture,
            "auditsvc.parent_digest": candidate.parent,
            "auditsvc.parent_version": parent_version,
            "source": f"pruned from {candidate.model}/{parent_version}; {above.get('source', '')}".rstrip("; "),
            "licence": above.get("licence", "not stated"),
        }
        if candidate.recipe:
            tags["auditsvc.recipe"] = candidate.recipe.canonical().decode()
        params = {"task": candidate.task, "architecture": candidate.architecture, **_params(candidate.recipe)}
        found = _Version(candidate.model, candidate.digest, tags, params, candidate.card)
        return self._register(found, folder)

    def registered(self, model: str, version: str) -> Registered:
        """The version's digest tag, and when and from where it was made.  Raises ``NotFound``."""
        stored = self._stored(model, version)
        if stored is not None:
            return Registered(stored.tag, f"{stored.created} {stored.source}")
        with self._translated():
            found = self._client.get_model_version(model, version)
        return Registered(found.tags.get(_DIGEST), f"{found.creation_timestamp} {found.source}")

    def tag(self, model: str, version: str, tags: dict[str, str]) -> None:
        """Set tags on a version.  Raises ``NotFound``."""
        with self._translated():
            for key, value in tags.items():
                self._client.set_model_version_tag(model, version, key, value)

    def checkout(self, model: str, version: str, folder: Path) -> Path:
        """Copy a version's files; see ``ports.Registry.checkout``."""
        stored = self._stored(model, version)
        try:
            plain = copied(stored.location, folder) if stored else None
        except OSError as error:
            raise Unavailable(disk_fault(folder, error)) from error
        if plain is not None:
            return plain
        with self._translated():
            import mlflow.artifacts

            source = self._client.get_model_version_download_uri(model, version)
            found = mlflow.artifacts.download_artifacts(
                artifact_uri=source, dst_path=str(folder), tracking_uri=self._uri
            )
        return Path(found)

    def move_alias(self, model: str, alias: str, version: str) -> None:
        """Point the alias at this version.  Raises ``NotFound``."""
        if self.aliased(model, alias) == version:
            return
        with self._translated():
            self._client.set_registered_model_alias(model, alias, version)

    def drop_alias(self, model: str, alias: str) -> None:
        """Remove the alias, if it is there."""
        if self.aliased(model, alias) is not None:
            with self._translated():
                self._client.delete_registered_model_alias(model, alias)

    def aliased(self, model: str, alias: str) -> str | None:
        """The version that carries the alias, or None; a model that is not there carries none."""
        try:
            with self._translated():
                found = self._client.get_registered_model(model).aliases.get(alias)
        except NotFound:
            return None
        return None if found is None else str(found)

    def placed(self) -> dict[str, Placed]:
        """Where all aliases and stages are; see ``ports.Registry.placed``."""
        with self._translated():
            return placed(self._client)

    def set_stage(self, model: str, version: str, stage: str | None) -> None:
        """Put a version into a stage, or out of all; MLflow calls the latter the stage ``None``."""
        with self._translated():
            self._client.transition_model_version_stage(model, version, stage or "None")

    def _stored(self, model: str, version: str) -> StoredVersion | None:
        store = _sqlite_file(self._uri)
        return stored_version(store, model, version, _DIGEST) if store else None

    def _register(self, new: _Version, folder: Path) -> str:
        with self._alone(), self._translated():
            found = self._version_of(new)
            if found is None:
                run, location = self._filled_run(new, folder)
                self._make_model(new.model)
                made = self._client.create_model_version(
                    new.model, source=location, run_id=run, tags={**new.tags, _DIGEST: new.digest}
                )
                found = str(made.version)
        return found

    def _version_of(self, new: _Version) -> str | None:
        found = self._client.search_model_versions(f"name='{new.model}' and tags.`{_DIGEST}`='{new.digest}'")
        return str(min(int(one.version) for one in found)) if found else None

    def _filled_run(self, new: _Version, folder: Path) -> tuple[str, str]:
        """The id of the finished run that holds the files, and where they are; goes on with one that was left."""
        from mlflow.entities import Metric, Param

        experiment = self._experiment
        left = self._client.search_runs([experiment], f"tags.`{_DIGEST}`='{new.digest}'", max_results=1)
        run = left[0] if left else self._client.create_run(experiment, tags=self._run_tags(new))
        name = str(run.info.run_id)
        if run.info.status != "FINISHED":
            when = int(run.info.start_time)
            params = [Param(_plain(key), value) for key, value in new.params.items()]
            metrics = [Metric(_plain(key), value, when, 0) for key, value in new.metrics.items()]
            self._client.log_batch(name, params=params, metrics=metrics)
            self._client.log_artifacts(name, str(folder), _FOLDER)
            self._client.set_terminated(name)
        return name, f"{run.info.artifact_uri}/{_FOLDER}"

    def _run_tags(self, new: _Version) -> dict[str, str]:
        role = new.tags["auditsvc.role"]
        return {_DIGEST: new.digest, "auditsvc.role": role, "mlflow.runName": f"{new.model} {role} {new.digest[7:15]}"}

    def _make_model(self, model: str) -> None:
        try:
            with self._translated():
                self._client.create_registered_model(model)
        except Conflict:
            return  # it is there already, which is all that is wanted

    @cached_property
    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(_EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        location = None if is_remote(self._uri) else self._artifacts.as_uri()
        return str(self._client.create_experiment(_EXPERIMENT, artifact_location=location))

    @property
    def _client(self) -> MlflowClient:
        with self._opening:
            return self._opened

    @cached_property
    def _opened(self) -> MlflowClient:
        return open_client(self._uri, self._artifacts)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        _ = self._client  # opens the store with its own messages, before MLflow's errors can be named
        with translated(self._uri, self._artifacts):
            yield

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One registration at a time on this machine, so that a digest never gets two versions."""
        try:
            self._artifacts.mkdir(parents=True, exist_ok=True)
            lock = (self._artifacts / ".registering").open("ab")
        except OSError as error:
            raise Unavailable(disk_fault(self._artifacts, error)) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _params(recipe: Recipe | None) -> dict[str, str]:
    if recipe is None:
        return {}
    targets = {f"recipe.{key}": f"{value:g}" for key, value in recipe.targets.items()}
    recovery = {f"recovery.{key}": _short(value) for key, value in recipe.recovery.items()}
    return {"recipe.method": recipe.method, "recipe.seed": str(recipe.seed), **targets, **recovery}


def _short(value: Any) -> str:
    """A parameter for readers; the whole recipe is in its tag."""
    words = value if isinstance(value, str) else canonical_json(value).decode()
    return words[:500]


def _plain(name: str) -> str:
    return _ODD.sub("_", name)
