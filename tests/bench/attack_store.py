"""The store that attacks on the gate start from, and what an attacker inside the team has: commands and routes."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from starlette.testclient import TestClient
from typer.testing import CliRunner

from auditsvc.bootstrap import SystemClock
from auditsvc.cli.app import app
from auditsvc.errors import AuditError
from auditsvc.settings import Settings
from auditsvc.web import create_app
from auditsvc.web.app import first_token, open_site
from auditsvc.web.state import ProjectState
from tests.services.line import data_in, parent_in

MODEL, GOOD, BAD = "m", "2", "3"
RULES: dict[str, Any] = {
    "policy": "rules", "version": 1, "why": "for the attacks", "task": "classification", "seed": 7, "approvals": 2,
    "checks": {"accuracy": {"version": 1}},
    "rules": [
        {"rule": "floor", "reading": "accuracy/score.clean", "at_least": 0.8, "why": "a floor"},
        {"rule": "loss", "reading": "accuracy/drop.clean", "slices": "each", "at_most": 0.2, "why": "a margin"},
    ],
}  # fmt: skip
FACTS = ("--source", "made by a bench", "--licence", "Apache-2.0")
EASY = [{"rule": "loss", "reading": "accuracy/drop.clean", "at_most": 0.99, "why": "anything goes"}]


@dataclass(frozen=True)
class Done:
    """What a command gave."""

    code: int
    text: str

    @property
    def fields(self) -> dict[str, Any]:
        """The JSON object on standard output."""
        found: dict[str, Any] = json.loads(self.text[self.text.index("{") :])
        return found


@dataclass(frozen=True)
class Inside:
    """What the attacker works with: a copy of the store, and files of their own."""

    folder: Path

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def run(self, *words: object, store: bool = True) -> Done:
        """Run one command of ``auditsvc``; an error becomes its exit code, as in a shell."""
        given = [*map(str, words), *(("--store", str(self.store)) if store else ())]
        with contextlib.redirect_stderr(io.StringIO()):
            done = CliRunner().invoke(app, given)
        if isinstance(done.exception, AuditError):
            return Done(done.exception.exit_code, str(done.exception))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            return Done(4, f"{done.output}{done.exception!r}")
        return Done(done.exit_code, done.output)

    def did(self, *words: object, codes: tuple[int, ...] = (0,)) -> Done:
        """Run a command that an attack needs; anything but these exit codes is a fault of the bench."""
        done = self.run(*words)
        if done.code not in codes:
            raise RuntimeError(f"{' '.join(map(str, words))}: {done.code} {done.text}")
        return done

    def gate(self, version: str, *more: str) -> int:
        """The exit code of the gate."""
        return self.run("gate", MODEL, version, *more).code

    def policy(self, name: str, **changes: Any) -> Path:
        """A policy file."""
        path = self.folder / name
        path.write_text(yaml.safe_dump(RULES | changes))
        return path

    def audit(self, version: str, policy: Path, data: Path | None = None, model: str = MODEL) -> Done:
        """Audit a version under a policy file."""
        words = ("audit", "--data", data or self.data, "--model", model, "--version", version, "--policy", policy)
        return self.run(*words, "--as", "mallory")

    def release(self, version: str, *people: str) -> bool:
        """Whether these people can approve and release the newest decision on a version."""
        for person in people:
            self.run("approve", MODEL, version, "--as", person)
        return self.run("release", MODEL, version).code == 0

    @contextmanager
    def service(self) -> Iterator[tuple[ProjectState, TestClient]]:
        """The service on this store, and a client with the first admin's token."""
        site = open_site(Settings(store=self.store, workers=0, registry_poll_s=0), "127.0.0.1")
        try:
            headers = {"authorization": f"Bearer {first_token(site)}"}
            yield site, TestClient(create_app(site), "http://127.0.0.1", headers=headers, follow_redirects=False)
        finally:
            site.close()

    @contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        """The ledger's file, with no trigger left."""
        with closing(sqlite3.connect(self.store / "ledger.db", isolation_level=None)) as raw:
            for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                raw.execute(f"DROP TRIGGER {name}")
            yield raw


ATTACKS: dict[str, Callable[[Inside], bool]] = {}
"""By name: gives whether the attack was refused."""


def attack(function: Callable[[Inside], bool]) -> Callable[[Inside], bool]:
    """Register an attack under its function's name."""
    ATTACKS[function.__name__.replace("_", "-")] = function
    return function


@contextmanager
def later(days: int) -> Iterator[None]:
    """So many days from now, for every command."""
    at = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(days=days)
    with patch.object(SystemClock, "now", lambda _: at), patch("auditsvc.cli.verify.datetime") as clock:
        clock.now.return_value = at
        yield


def another(inside: Inside, target: str = "sparsity=0.05", parent: Path | None = None, model: str = MODEL) -> str:
    """The version of one more candidate, a good one unless said otherwise."""
    words = ("prune", "--parent", parent or inside.folder / "parent", "--calibration", inside.folder / "calibration")
    more = ("--model", model, "--target", target, "--as", "sue", *FACTS, "--json")
    return str(inside.did(*words, *more).fields["version"])


def waive_all(inside: Inside, person: str) -> None:
    """Every blocking rule of the bad version is waived until tomorrow, and it is audited again."""
    until = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)).date()
    for rule in ("floor", "loss"):
        inside.run("waive", MODEL, BAD, "--rule", rule, "--reason", "x", "--until", until, "--as", person)
    inside.audit(BAD, inside.policy("rules.yaml"))


def build(folder: Path) -> Inside:
    """The store that all attacks start from."""
    inside = Inside(folder)
    parent_in(folder / "parent")
    data_in(inside.data, 200)
    data_in(folder / "calibration", 30, seed=1)
    prune = ("prune", "--parent", folder / "parent", "--calibration", folder / "calibration", "--model", MODEL, *FACTS)
    inside.did(*prune, "--target", "sparsity=0.1", "--as", "sue")
    inside.did(*prune, "--target", "sparsity=0.97", "--as", "sue")
    rules = inside.policy("rules.yaml")
    inside.did("terms", "set", MODEL, "--data", inside.data, "--policy", rules, "--as", "ann")
    inside.did("terms", "confirm", MODEL, "--as", "bob")
    for version, code in ((GOOD, 0), (BAD, 1)):
        done = inside.audit(version, rules)
        if done.code != code:
            raise RuntimeError(f"version {version}: {done.code} {done.text}")
    if not inside.release(GOOD, "ann", "bob") or inside.gate(GOOD) != 0:
        raise RuntimeError("the good version was not released")
    return inside
