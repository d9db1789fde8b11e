"""The settings of an installation, read from environment variables ``AUDITSVC_<NAME>`` and checked as a whole.

The command line's ``--store``, ``--host`` and ``--port`` win over the environment.  Every fault is reported in one
error, including variables of a name that is not a setting: a misspelt variable never falls back to a default silently.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from auditsvc.errors import InvalidInput

_PREFIX = "AUDITSVC_"
_CLIENT_VARIABLES = ("AUDITSVC_URL", "AUDITSVC_TOKEN")
"""Variables of the client and of CI recipes; no settings, but no mistakes either."""

_KUBERNETES = re.compile(r"AUDITSVC_(SERVICE|PORT)_")
"""Variables that Kubernetes sets in every pod next to a Service called ``auditsvc``."""

_PER_PROJECT = ("ledger_url", "mlflow_uri", "jobs_url", "blobs_url", "checkpoint_file", "data_dir", "terms_file")


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(item.strip() for item in value.split(",") if item.strip())
    return value


_ProjectName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
_Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """The settings; ``bootstrap`` and ``web.app`` turn them into ports and a service.

    Constructing it reads the environment; arguments win.

    Raises:
        InvalidInput: lists every setting that can't be used and every unknown ``AUDITSVC_*`` variable.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")

    # Storage
    store: Annotated[Path, AfterValidator(Path.absolute)] = Field(
        Path("auditsvc-store"), validate_default=True, description="The folder of the store: everything not set below."
    )
    ledger_url: str = Field("", description="SQLAlchemy URL of the ledger. Default: SQLite in the store.")
    mlflow_uri: str = Field("", description="MLflow tracking and registry URI. Default: SQLite in the store.")
    blobs_url: str = Field("", description="Object storage for files: s3://bucket/prefix. Default: a folder.")
    jobs_url: str = Field("", description="SQLAlchemy URL of the job queue. Default: the ledger's, or SQLite.")
    data_dir: Path | None = Field(None, description="The folder of the data sets, each in a folder of its own.")
    checkpoint_file: Path | None = Field(
        None, description="The log's last signed checkpoint; best on another disk than the ledger."
    )
    terms_file: Path | None = Field(
        None, description="The operator's terms, a YAML file of models; they bind without two people."
    )
    projects: Annotated[tuple[_ProjectName, ...], NoDecode, BeforeValidator(_split)] = Field(
        (), description="Further projects, comma-separated; each has a store of its own and sees no other."
    )
    project: str = Field("", description="The project that commands work on; empty means the main one.")

    # Signing
    key_passphrase: str = Field("", repr=False, description="Encrypts private key files; empty: file permissions only.")
    build_key: str = Field("", repr=False, description="URI of the key that signs how models were built.")
    audit_key: str = Field("", repr=False, description="URI of the key that signs what was measured.")
    release_key: str = Field("", repr=False, description="URI of the key that signs what may be released.")
    log_key: str = Field("", repr=False, description="URI of the key that signs checkpoints: file: and Ed25519 only.")
    signer: str = Field(
        "", description="The socket of `auditsvc signer`, which alone holds the keys; empty: each worker starts one."
    )
    tsa_url: str = Field("", description="An RFC 3161 time-stamping authority for every signature.")
    tsa_certificates: Path | None = Field(None, description="Its certificates in PEM: its own first, the root last.")
    witnesses_file: Path | None = Field(None, description="The log's witnesses (key and URL on a line) and the quorum.")

    # Jobs and measuring
    workers: int = Field(1, ge=0, description="Workers that `serve` starts; 0 where `auditsvc worker` runs elsewhere.")
    job_max_crashes: int = Field(10, ge=1, description="Worker crashes after which a job is not retried.")
    job_retention_days: int = Field(90, ge=0, description="Days until ended jobs are deleted; 0 keeps them.")
    ray_address: str = Field("", description="A Ray cluster that measures shards: host:port of its head, or auto.")
    threads: int = Field(0, ge=0, description="Torch threads; 0 means OMP_NUM_THREADS, or one for each core.")
    device: str = Field(
        "cpu", pattern=r"^(cpu|auto|cuda(:\d+)?)$", description="Where a worker runs models: cpu, cuda, cuda:N, auto."
    )
    architectures: _Names = Field(
        (), description="Own network factories that may be called: package.module:factory, comma-separated."
    )
    architectures_dir: Path | None = Field(None, description="A folder that their modules are imported from.")
    allowed_model_uris: _Names = Field(
        (), description="Object storage prefixes that models may be fetched from, comma-separated: s3://bucket/prefix."
    )

    # Service
    host: str = Field("127.0.0.1", description="The address that `serve` binds to.")
    port: int = Field(8600, ge=0, le=65535, description="The port that `serve` binds to.")
    allowed_hosts: _Names = Field((), description="Further host names that `serve` answers for, comma-separated.")
    public_url: str = Field("", description="The service's URL in browsers: https://audit.example.org; OIDC needs it.")
    webhook_hosts: _Names = Field(
        (), description="Hosts that webhooks may be sent to though they are not public; also over plain http."
    )
    rate_limit: int = Field(200, ge=0, description="Requests a second of one token or address; 0 means unlimited.")
    upload_gb_per_day: float = Field(100, ge=0, description="Uploads of one caller in a day, in GB; 0 means unlimited.")
    blobs_gb: float = Field(0, ge=0, description="A project's files, in GB, above which uploads are refused; 0: none.")
    unused_days: int = Field(30, ge=0, description="Days until files that no record names are removed; 0 keeps them.")
    log_format: Literal["text", "json"] = Field("text", description="Format of the service's log: text or JSON lines.")
    traces: bool = Field(
        default_factory=lambda: bool(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")),
        description="Send OpenTelemetry traces. Default: whether OTEL_EXPORTER_OTLP_ENDPOINT is set.",
    )

    # MLflow
    registry_poll_s: int = Field(60, ge=0, description="Seconds between two checks of the registry; 0 means never.")
    restore_alias: bool = Field(True, description="Move the alias `approved` back when others changed it.")
    mlflow_webhook_secret: str = Field("", repr=False, description="The secret of MLflow's webhooks; empty: refused.")
    auto_audit_policy: str = Field("", description="Audit versions that are registered in MLflow under this policy.")
    auto_audit_dataset: str = Field("", description="The data set for that: its folder's name in data_dir.")

    # Access
    approver_tokens: bool = Field(True, description="Whether tokens may approve; else OIDC logins alone.")

    # OpenID Connect
    oidc_issuer: str = Field("", description="An OpenID Connect issuer whose tokens are accepted.")
    oidc_audience: str = Field("", description="The service's client id at the issuer.")
    oidc_client_secret: str = Field("", repr=False, description="The client secret, for logins in a browser.")
    oidc_name_claim: str = Field("preferred_username", description="The claim with a person's unique, permanent name.")
    oidc_groups_claim: str = Field("groups", description="The claim with a person's groups.")
    oidc_roles: str = Field("", description="Roles of groups: ml-leads=approver, plates-qa=auditor@plates.")

    @model_validator(mode="wrap")
    @classmethod
    def _all_faults(cls, values: dict[str, Any], handler: ModelWrapValidatorHandler[Settings]) -> Settings:
        faults = [_unknown(name) for name in sorted(os.environ) if not _is_known(name)]
        try:
            made = handler(values)
            faults += made._undivided()
        except ValidationError as error:
            faults += [_words(dict(fault)) for fault in error.errors()]
        if faults:
            raise InvalidInput("the settings can't be used", faults)
        return made

    def _undivided(self) -> Iterator[str]:
        for name in _PER_PROJECT:
            value = str(getattr(self, name) or "")
            if self.projects and value and "{project}" not in value:
                yield f"{_variable(name)}: needs {{project}} in it, as each of AUDITSVC_PROJECTS has a store of its own"

    def for_project(self, name: str) -> Settings:
        """The same settings with the stores of one project; empty means the main one.

        Raises:
            InvalidInput: there is no such project.
        """
        if name and name not in self.projects:
            known = ", ".join(self.projects) or "none"
            raise InvalidInput(f"there is no project {name!r}; AUDITSVC_PROJECTS lists: {known}")
        given = {field: getattr(self, field) for field in _PER_PROJECT if getattr(self, field)}
        own = {field: type(value)(str(value).replace("{project}", name or "main")) for field, value in given.items()}
        store = self.store / "projects" / name if name else self.store
        return self.model_copy(update={**own, "store": store})

    @property
    def ledger_db(self) -> str:
        """SQLAlchemy URL of the ledger."""
        return self.ledger_url or f"sqlite:///{self.store / 'ledger.db'}"

    @property
    def ledger_file(self) -> Path | None:
        """The ledger's SQLite file; None for another database."""
        return sqlite_file(self.ledger_db)

    @property
    def jobs_db(self) -> str:
        """SQLAlchemy URL of the job queue."""
        return self.jobs_url or self._shared_db("jobs.db")

    @property
    def observations_db(self) -> str:
        """SQLAlchemy URL of the observations of releases in use."""
        return self._shared_db("observations.db")

    @property
    def service_db(self) -> str:
        """SQLAlchemy URL of the service's own tables: tokens, webhooks, idempotency keys."""
        return self._shared_db("access.db")

    def _shared_db(self, file: str) -> str:
        return self.ledger_url if self.ledger_url.startswith("postgresql") else f"sqlite:///{self.store / file}"

    @property
    def mlflow_store(self) -> str:
        """MLflow's tracking and registry URI."""
        return self.mlflow_uri or f"sqlite:///{self.store / 'mlflow.db'}"

    @property
    def datasets_dir(self) -> Path:
        """The folder of the data sets."""
        return self.data_dir.absolute() if self.data_dir else self.store / "data"

    @property
    def key_uris(self) -> dict[Literal["build", "audit", "release", "log"], str]:
        """The keys that are not files in the store, by role."""
        uris = {"build": self.build_key, "audit": self.audit_key, "release": self.release_key, "log": self.log_key}
        return {cast(Literal["build", "audit", "release", "log"], role): uri for role, uri in uris.items() if uri}

    @property
    def secret_variables(self) -> tuple[str, ...]:
        """The environment variables that workers don't need: keys, passphrase, client secrets."""
        return tuple(_variable(name) for name, field in Settings.model_fields.items() if not field.repr)


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLAlchemy URL for SQLite; None for another database."""
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None


def _variable(field: str) -> str:
    return f"{_PREFIX}{field.upper()}"


def _is_known(variable: str) -> bool:
    if not variable.startswith(_PREFIX) or variable in _CLIENT_VARIABLES or _KUBERNETES.match(variable):
        return True
    return variable.removeprefix(_PREFIX).lower() in Settings.model_fields


def _unknown(variable: str) -> str:
    close = get_close_matches(variable, map(_variable, Settings.model_fields), n=1)
    return f"{variable}: no such setting" + (f"; did you mean {close[0]}?" if close else "")


def _words(fault: dict[str, Any]) -> str:
    field = str(fault["loc"][0]) if fault["loc"] else ""
    where = "[" + "][".join(map(str, fault["loc"][1:])) + "]" if fault["loc"][1:] else ""
    return f"{_variable(field)}{where}: {fault['msg']}, not {fault['input']!r}"
