"""Every knob, typed, with its default and meaning.  Read by ``bootstrap`` only.

Each can be set in the environment as ``AUDITSVC_<NAME>``; the command line's ``--store`` wins over it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from auditsvc.errors import InvalidInput

KeyRole = Literal["build", "audit", "release", "log"]
"""The roles of keys; ``ports`` has the same, which settings can't know."""


def _from_environment(name: str, default: str) -> str:
    return os.environ.get(f"AUDITSVC_{name}", default)


def _number(name: str, default: int) -> int:
    text = _from_environment(name, str(default))
    if not text.isdigit():
        raise InvalidInput(f"AUDITSVC_{name} must be a whole number, not {text!r}")
    return int(text)


@dataclass(frozen=True)
class Settings:
    """Where things are kept and who may talk to the service."""

    store: Path = field(default_factory=lambda: Path(_from_environment("STORE", "auditsvc-store")).absolute())
    """The folder of the embedded default: ledger, blobs, MLflow store, keys, releases."""

    ledger_url: str = field(default_factory=lambda: _from_environment("LEDGER_URL", ""))
    """SQLAlchemy URL of the ledger; empty means SQLite inside the store."""

    mlflow_uri: str = field(default_factory=lambda: _from_environment("MLFLOW_URI", ""))
    """MLflow tracking and registry URI; empty means SQLite inside the store."""

    data: str = field(default_factory=lambda: _from_environment("DATA", ""))
    """The folder below which jobs find their data sets by name; empty means ``data`` inside the store."""

    blobs_url: str = field(default_factory=lambda: _from_environment("BLOBS_URL", ""))
    """Object storage for the files, as ``s3://bucket/place``; empty means a folder inside the store."""

    jobs_url: str = field(default_factory=lambda: _from_environment("JOBS_URL", ""))
    """SQLAlchemy URL of the jobs' database; empty means the ledger's if it is PostgreSQL, else SQLite in the store."""

    job_deaths: int = field(default_factory=lambda: _number("JOB_DEATHS", 10))
    """Workers that may die over one job before it is given up."""

    job_days: int = field(default_factory=lambda: _number("JOB_DAYS", 90))
    """Days after which workers forget a job that ended; what it made stays in the ledger.  0 means never."""

    workers: int = field(default_factory=lambda: _number("WORKERS", 1))
    """Workers that ``serve`` starts by itself while there are jobs; 0 where ``auditsvc worker`` runs elsewhere."""

    ray: str = field(default_factory=lambda: _from_environment("RAY", ""))
    """A Ray cluster's head, as ``10.0.0.1:6379``, or ``auto``: workers have it measure the shards of audits.  Empty
    means that workers measure themselves.  Let running audits end before it is changed."""

    key_passphrase: str = field(default_factory=lambda: _from_environment("KEY_PASSPHRASE", ""), repr=False)
    """Encrypts the private keys at rest; empty means that file permissions alone guard them."""

    build_key: str = field(default_factory=lambda: _from_environment("BUILD_KEY", ""), repr=False)
    """Where the key is that signs how models were made: ``file:PATH``, ``pkcs11:...``, ``awskms:...``, ``gcpkms:...``,
    ``azurekms:...``; empty means a file in the store.  The next three are the same for the other roles."""

    audit_key: str = field(default_factory=lambda: _from_environment("AUDIT_KEY", ""), repr=False)
    """What was measured."""

    release_key: str = field(default_factory=lambda: _from_environment("RELEASE_KEY", ""), repr=False)
    """What may be released."""

    log_key: str = field(default_factory=lambda: _from_environment("LOG_KEY", ""), repr=False)
    """The log's checkpoints; Ed25519, so a file."""

    checkpoint: str = field(default_factory=lambda: _from_environment("CHECKPOINT", ""))
    """The file with the log's last signed checkpoint, best on another disk than the ledger; empty: in the store."""

    tsa_url: str = field(default_factory=lambda: _from_environment("TSA_URL", ""))
    """A time stamping authority (RFC 3161) that stamps every signature; empty means none."""

    tsa_certificates: str = field(default_factory=lambda: _from_environment("TSA_CERTIFICATES", ""))
    """The file with its certificates in PEM, its own first and its root last."""

    witnesses: str = field(default_factory=lambda: _from_environment("WITNESSES", ""))
    """The file that names the log's witnesses, a key and an address on each line, and a quorum; empty means none."""

    host: str = field(default_factory=lambda: _from_environment("HOST", "127.0.0.1"))
    """The address that ``serve`` binds to; loopback unless somebody says otherwise."""

    port: int = field(default_factory=lambda: _number("PORT", 8600))
    """The port that ``serve`` binds to."""

    hosts: str = field(default_factory=lambda: _from_environment("HOSTS", ""))
    """Further names that ``serve`` answers for, with commas between; a proxy's public name belongs here."""

    threads: int = field(default_factory=lambda: _number("THREADS", 0))
    """Torch threads for measuring; 0 means one for each core."""

    references: str = field(default_factory=lambda: _from_environment("REFERENCES", ""))
    """Places of object storage, with commas between, below which models may be fetched by their address, as
    ``s3://models/pruned``; empty means nowhere."""

    device: str = field(default_factory=lambda: _from_environment("DEVICE", "cpu"))
    """Where models run while they are measured: ``cpu``, ``cuda``, ``cuda:1``, or ``auto``.  A worker on an accelerator
    takes the audits that ask for one, and no others."""

    public_url: str = field(default_factory=lambda: _from_environment("PUBLIC_URL", ""))
    """Where browsers find the service, as ``https://audit.example.org``; needed to come in through an OIDC issuer."""

    projects: str = field(default_factory=lambda: _from_environment("PROJECTS", ""))
    """Names of projects, with commas between; each has a store of its own and sees nothing of the others."""

    project: str = field(default_factory=lambda: _from_environment("PROJECT", ""))
    """The project that commands work on; empty means the main one.  The service serves all of them."""

    rate: int = field(default_factory=lambda: _number("RATE", 200))
    """Requests a second that one token, or one address without a token, may send; 0 means any number."""

    log_format: str = field(default_factory=lambda: _from_environment("LOG_FORMAT", "text"))
    """What ``serve`` writes on standard error: ``text`` for people, ``json`` for machines, one object a line."""

    traces: bool = field(default_factory=lambda: bool(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")))
    """Whether ``serve`` sends traces; the collector and all else are set by OpenTelemetry's own variables."""

    watch_s: int = field(default_factory=lambda: _number("WATCH_S", 60))
    """Seconds between two looks at the registry's aliases and stages; 0 means never."""

    put_back: bool = field(default_factory=lambda: _number("PUT_BACK", 1) != 0)
    """Whether the alias ``approved`` is put back where it belongs when somebody else moved it; 0 means only told."""

    mlflow_secret: str = field(default_factory=lambda: _from_environment("MLFLOW_WEBHOOK_SECRET", ""), repr=False)
    """The secret of MLflow's webhooks to this service; empty means that none are taken."""

    audit_policy: str = field(default_factory=lambda: _from_environment("AUDIT_POLICY", ""))
    """The policy under which a version is audited that somebody registers in MLflow; empty means none is."""

    audit_data: str = field(default_factory=lambda: _from_environment("AUDIT_DATA", ""))
    """The data set for that, by its name in the data folder."""

    oidc_issuer: str = field(default_factory=lambda: _from_environment("OIDC_ISSUER", ""))
    """An OpenID Connect issuer whose tokens are taken beside our own; empty means none."""

    oidc_audience: str = field(default_factory=lambda: _from_environment("OIDC_AUDIENCE", ""))
    """Our client id at the issuer; a token for anybody else is refused."""

    oidc_secret: str = field(default_factory=lambda: _from_environment("OIDC_CLIENT_SECRET", ""), repr=False)
    """Our client secret at the issuer, if it gave one; only the login in a browser needs it."""

    oidc_name: str = field(default_factory=lambda: _from_environment("OIDC_NAME_CLAIM", "preferred_username"))
    """The claim that names a person in the ledger; it must never pass from one person to another."""

    oidc_groups: str = field(default_factory=lambda: _from_environment("OIDC_GROUPS_CLAIM", "groups"))
    """The claim with a person's groups."""

    oidc_roles: str = field(default_factory=lambda: _from_environment("OIDC_ROLES", ""))
    """What groups may do, as ``ml-leads=approver, plates-qa=auditor@plates``: group, role, and project."""

    @property
    def ledger(self) -> str:
        """The ledger's URL, with the default filled in."""
        return self.ledger_url or f"sqlite:///{self.store / 'ledger.db'}"

    @property
    def ledger_file(self) -> Path | None:
        """The ledger's SQLite file; None for another database."""
        return sqlite_file(self.ledger)

    @property
    def jobs(self) -> str:
        """The URL of the jobs' database, with the default filled in."""
        if self.jobs_url:
            return self.jobs_url
        return self.ledger_url if self.ledger_url.startswith("postgresql") else f"sqlite:///{self.store / 'jobs.db'}"

    @property
    def access(self) -> str:
        """The URL of what the service itself remembers: beside the ledger on PostgreSQL, else SQLite in the store."""
        return self.ledger_url if self.ledger_url.startswith("postgresql") else f"sqlite:///{self.store / 'access.db'}"

    @property
    def data_folder(self) -> Path:
        """The folder of the data sets, with the default filled in."""
        return Path(self.data).absolute() if self.data else self.store / "data"

    @property
    def key_places(self) -> dict[KeyRole, str]:
        """The keys that are not files in the store, by role."""
        named: dict[KeyRole, str] = {
            "build": self.build_key,
            "audit": self.audit_key,
            "release": self.release_key,
            "log": self.log_key,
        }
        return {role: uri for role, uri in named.items() if uri}

    @property
    def mlflow(self) -> str:
        """MLflow's URI, with the default filled in."""
        return self.mlflow_uri or f"sqlite:///{self.store / 'mlflow.db'}"

    @property
    def project_names(self) -> tuple[str, ...]:
        """The projects beside the first one.

        Raises:
            InvalidInput: a name that is no name of a folder.
        """
        named = tuple(name.strip() for name in self.projects.split(",") if name.strip())
        for name in named:
            if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", name):
                raise InvalidInput(f"a project's name has small letters, digits and hyphens, not {name!r}")
        return named

    def for_project(self, name: str) -> Settings:
        """The same settings with the stores of one project.

        Raises:
            InvalidInput: a ledger or registry elsewhere whose address has no place for the project's name.
        """
        if name and name not in self.project_names:
            raise InvalidInput(f"there is no project {name!r}; AUDITSVC_PROJECTS lists: {self.projects or 'none'}")
        return replace(
            self,
            store=self.store / "projects" / name if name else self.store,
            ledger_url=_of_project("LEDGER_URL", self.ledger_url, name),
            mlflow_uri=_of_project("MLFLOW_URI", self.mlflow_uri, name),
            checkpoint=_of_project("CHECKPOINT", self.checkpoint, name),
            jobs_url=_of_project("JOBS_URL", self.jobs_url, name),
            blobs_url=_of_project("BLOBS_URL", self.blobs_url, name),
            data=_of_project("DATA", self.data, name),
        )


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLAlchemy URL for SQLite; None for another database."""
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None


def _of_project(setting: str, address: str, name: str) -> str:
    if name and address and "{project}" not in address:
        raise InvalidInput(f"with projects, AUDITSVC_{setting} needs {{project}} in it: each has a store of its own")
    return address.replace("{project}", name or "main")


def shipped(name: str) -> Path:
    """A folder that ships with the product: ``policies`` or ``templates``.

    Installed, it lies inside the package; in a checkout, where the owner's layout puts it.

    Raises:
        InvalidInput: there is no such folder: a broken installation.
    """
    package = Path(__file__).parent
    checkout = {"policies": package.parent / "policies", "templates": package.parent / "reports" / "templates"}
    for folder in (package / "shipped" / name, checkout.get(name, package)):
        if folder.is_dir() and folder != package:
            return folder
    raise InvalidInput(f"the folder {name!r} is missing from this installation; install auditsvc again")
