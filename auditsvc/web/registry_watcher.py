"""Detects aliases and stages that were changed in the model registry directly: logs the change and restores them.

The last state of the registry is stored, so changes made while the service was down are detected too.  A registry in a
SQLite file is read only when the file has changed or MLflow's webhook reports a change.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from auditsvc.ports import Placed
from auditsvc.services.alias import AliasDrift, reconcile
from auditsvc.web.service_schema import registry_snapshot

if TYPE_CHECKING:
    from auditsvc.web.state import ProjectState

_log = logging.getLogger("auditsvc.watching")


class RegistryWatcher:
    """One project's eye on its registry."""

    def __init__(self, site: ProjectState, store: Path | None = None) -> None:
        """``store`` is the registry's file, where it is one."""
        self._site, self._store = site, store
        self._looked: tuple[float, ...] = ()

    def round(self) -> tuple[AliasDrift, ...]:
        """Everything that others moved since the last round.

        Raises:
            Unavailable: the registry can't be asked.
        """
        changed = self._changed()
        if self._store is not None and (not changed or changed == self._looked):
            return ()
        now, moves = reconcile(self._site.ctx, self._seen(), put_back=self._site.put_back)
        for move in moves:
            self._tell(move)
        self._keep(now)
        self._looked = self._changed() if any(move.put_back for move in moves) else changed
        self._site.metrics.registry_moves.inc(len(moves))
        return moves

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
