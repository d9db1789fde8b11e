"""Every knob, typed, with its default and meaning.  Read by ``bootstrap`` only.

Each can be set in the environment as ``AUDITSVC_<NAME>``; the command line's ``--store`` wins over it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from auditsvc.errors import InvalidInput


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

    key_passphrase: str = field(default_factory=lambda: _from_environment("KEY_PASSPHRASE", ""), repr=False)
    """Encrypts the private keys at rest; empty means that file permissions alone guard them."""

    host: str = field(default_factory=lambda: _from_environment("HOST", "127.0.0.1"))
    """The address that ``serve`` binds to; loopback unless somebody says otherwise."""

    port: int = field(default_factory=lambda: _number("PORT", 8600))
    """The port that ``serve`` binds to."""

    hosts: str = field(default_factory=lambda: _from_environment("HOSTS", ""))
    """Further names that ``serve`` answers for, with commas between; a proxy's public name belongs here."""

    threads: int = field(default_factory=lambda: _number("THREADS", 0))
    """Torch threads for measuring; 0 means one for each core."""

    @property
    def ledger(self) -> str:
        """The ledger's URL, with the default filled in."""
        return self.ledger_url or f"sqlite:///{self.store / 'ledger.db'}"

    @property
    def mlflow(self) -> str:
        """MLflow's URI, with the default filled in."""
        return self.mlflow_uri or f"sqlite:///{self.store / 'mlflow.db'}"


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
