"""Detects what was changed in the model registry directly: aliases and stages, which it restores, and released files.

The last state of the registry is stored, so changes made while the service was down are detected too.  A registry in a
SQLite file is read only when the file has changed or MLflow's webhook reports a change.

The files of every released version are compared with the release when the registry says that the version was made anew,
and once an hour.
"""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from auditsvc.errors import AuditError, NotFound
from auditsvc.ports import Placed, Registered
from auditsvc.records import Release, Revocation
from auditsvc.services.registry import AliasDrift, reconcile, record_content, recorded_fault
from auditsvc.web.service_schema import registry_snapshot

if TYPE_CHECKING:
    from auditsvc.web.state import ProjectState

COMPARE_S = 3600.0
"""Seconds after which the files of a released version are compared again although nothing says that they changed."""

_log = logging.getLogger("auditsvc.watching")


class RegistryWatcher:
    """Watches the registry of one project."""

    def __init__(self, site: ProjectState, store: Path | None = None) -> None:
        """``store`` is the registry's file, where it is one."""
        self._site, self._store = site, store
        self._looked: tuple[float, ...] = ()
        self._compared: dict[str, tuple[Registered | None, float]] = {}
        """For each released version what the registry said of it when its files were compared, and when that was."""

    def round(self) -> tuple[AliasDrift, ...]:
        """Everything that others moved since the last round.

        Raises:
            Unavailable: the registry can't be asked.
        """
        changed = self._changed()
        if self._store is not None and (not changed or changed == self._looked) and not self._due():
            return ()
        try:
            replaced = self._compare()
            now, moves, faults = reconcile(self._site.ctx, self._seen(), put_back=self._site.put_back)
        except AuditError as error:
            self._report({"registry": str(error)})
            raise
        self._report(replaced | dict(faults))
        for move in moves:
            self._tell(move)
        self._keep(now)
        self._looked = self._changed() if any(move.put_back for move in moves) else changed
        self._site.metrics.registry_moves.inc(len(moves))
        return moves

    def _due(self) -> bool:
        """Whether the files of some released version were not compared for an hour."""
        return any(time.monotonic() - when > COMPARE_S for _, when in self._compared.values())

    def _compare(self) -> dict[str, str]:
        """By model, what is wrong with a released version; each new finding is recorded."""
        ctx, faults = self._site.ctx, {}
        for release in {(one.model, one.version): one for one in ctx.ledger.all(Release)}.values():
            name = f"{release.model}/{release.version}"
            if ctx.ledger.find(Revocation, release.digest):
                continue
            try:
                said, last = self._said(release), self._compared.get(name)
                if last is None or last[0] != said or time.monotonic() - last[1] > COMPARE_S:
                    record_content(ctx, release.model, release.version)
                    self._compared[name] = said, time.monotonic()
                fault = recorded_fault(ctx.ledger, release.model, release.version)
            except AuditError as error:
                fault = str(error)
            if fault:
                faults[release.model] = fault
        return faults

    def _said(self, release: Release) -> Registered | None:
        try:
            return self._site.ctx.registry.registered(release.model, release.version)
        except NotFound:
            return None

    def _report(self, faults: dict[str, str]) -> None:
        """Keep what is wrong for readiness and metrics; log what is new."""
        site = self._site
        found = tuple(f"{model}: {fault}" for model, fault in sorted(faults.items()))
        for line in found:
            if line not in site.watch_faults:
                _log.error("registry: %s", line)
        site.watch_faults = found
        site.metrics.registry_faults.labels(site.project or "main").set(len(found))

    def _changed(self) -> tuple[float, ...]:
        """When the file was written last; nothing where there is none yet."""
        if self._store is None:
            return ()
        files = (self._store, self._store.with_name(self._store.name + "-wal"))
        return tuple(file.stat().st_mtime for file in files if file.exists())

    def _tell(self, move: AliasDrift) -> None:
        _log.warning("%s", move.words)
        facts = {"model": move.model, "what": move.what, "name": move.name, "put_back": str(move.put_back).lower()}
        places = {"before": move.before or "nothing", "found": move.found or "nothing"}
        self._site.log_event("alias.changed-externally", "unknown", **facts, **places)

    def _seen(self) -> dict[str, Placed]:
        query = select(registry_snapshot.c.models).where(registry_snapshot.c.project == self._site.project)
        with self._site.access.read_tx() as connection:
            row = connection.execute(query).first()
        kept = json.loads(row[0]) if row else {}
        return {model: Placed(aliases, stages) for model, (aliases, stages) in kept.items()}

    def _keep(self, found: dict[str, Placed]) -> None:
        models = json.dumps({model: (dict(one.aliases), dict(one.stages)) for model, one in found.items()})
        row = self._site.access.insert(registry_snapshot).values(project=self._site.project, models=models)
        with self._site.access.write_tx() as connection:
            connection.execute(row.on_conflict_do_update(index_elements=["project"], set_={"models": models}))
