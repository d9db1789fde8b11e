"""Observations of releases in use, in SQL: ``observations.db`` in the store, or the ledger's PostgreSQL database.

An observation is kept once, by its id; positions grow and are never used again.  They are not records of the ledger:
there are millions, and they are deleted after the retention time.  What a run found in them is in the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    delete,
    select,
)

from auditsvc.adapters.sql import Database, Schema
from auditsvc.records import Digest, Moment

metadata = MetaData()

_Digest = String(71)


def _position() -> Column[int]:
    return Column("position", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)


observation = Table(
    "observation",
    metadata,
    _position(),
    Column("release", _Digest, nullable=False),
    Column("id", String(128), nullable=False),
    Column("at", String(40), nullable=False),
    Column("cluster", String(300), nullable=False),
    Column("body", Text, nullable=False),
    UniqueConstraint("release", "id", name="observation_once"),
    Index("observation_of_cluster", "release", "cluster", "position"),
    sqlite_autoincrement=True,
)

label = Table(
    "observation_label",
    metadata,
    _position(),
    Column("release", _Digest, nullable=False),
    Column("id", String(128), nullable=False),
    Column("label", String(200), nullable=False),
    UniqueConstraint("release", "id", name="observation_label_once"),
    sqlite_autoincrement=True,
)

watch_state = Table(
    "watch_state",
    metadata,
    Column("settings", _Digest, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("labels", BigInteger, nullable=False),
    Column("state", LargeBinary, nullable=False),
)


def _tables() -> None:
    """The first tables; a later change gets a revision of its own and describes its tables itself."""
    from alembic import op

    metadata.create_all(op.get_bind())


REVISIONS: dict[str, Callable[[], None]] = {"0001": _tables}

SCHEMA = Schema(
    tables=metadata,
    head="0001",
    version_table="auditsvc_observations_revision",
    migrations="auditsvc.adapters.observations",
)

_PART = 200
"""Ids in one query."""


class SqlObservations:
    """``ports.Observations`` over SQL."""

    def __init__(self, url: str) -> None:
        """Open the database; it is made on first use, and upgraded.

        Raises:
            Unavailable: it can't be opened.
        """
        self._database = Database(url, SCHEMA, private=True)

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def add(self, release: Digest, rows: Sequence[tuple[str, Moment, str, str]]) -> int:
        """Keep observations that are new, all of them or none."""
        made = [
            {"release": release, "id": name, "at": _text(at), "cluster": cluster, "body": body}
            for name, at, cluster, body in rows
        ]
        return self._added(observation, made)

    def _added(self, table: Table, rows: Sequence[Mapping[str, object]]) -> int:
        """Insert what is new; how many rows that were.  PostgreSQL's driver counts none, so they are returned."""
        if not rows:
            return 0
        adding = self._database.insert(table).on_conflict_do_nothing().returning(table.c.position)
        with self._database.write_tx() as connection:
            return len(connection.execute(adding, rows).all())

    def known(self, release: Digest, ids: Sequence[str]) -> frozenset[str]:
        """Those of these ids that are kept."""
        found: set[str] = set()
        with self._database.read_tx() as connection:
            for start in range(0, len(ids), _PART):
                of_part = observation.c.id.in_(ids[start : start + _PART])
                rows = connection.execute(select(observation.c.id).where(observation.c.release == release, of_part))
                found.update(rows.scalars())
        return frozenset(found)

    def add_labels(self, release: Digest, labels: Mapping[str, str]) -> int:
        """Keep labels of known observations."""
        known = self.known(release, list(labels))
        return self._added(label, [{"release": release, "id": name, "label": labels[name]} for name in known])

    def after(self, release: Digest, position: int, limit: int) -> tuple[tuple[int, str, bool], ...]:
        """Observations after a position, in the order of arrival."""
        earlier = observation.alias()
        first = ~select(earlier.c.position).where(
            earlier.c.release == release,
            earlier.c.cluster == observation.c.cluster,
            earlier.c.position < observation.c.position,
        ).exists()  # fmt: skip
        query = (
            select(observation.c.position, observation.c.body, (observation.c.cluster == "") | first)
            .where(observation.c.release == release, observation.c.position > position)
            .order_by(observation.c.position)
            .limit(limit)
        )
        with self._database.read_tx() as connection:
            return tuple((int(at), str(body), bool(new)) for at, body, new in connection.execute(query))

    def labels_after(self, release: Digest, position: int, limit: int) -> tuple[tuple[int, str, str], ...]:
        """Labels after a position, in the order of arrival."""
        query = (
            select(label.c.position, label.c.label, observation.c.body)
            .join(observation, (observation.c.release == label.c.release) & (observation.c.id == label.c.id))
            .where(label.c.release == release, label.c.position > position)
            .order_by(label.c.position)
            .limit(limit)
        )
        with self._database.read_tx() as connection:
            return tuple((int(at), str(word), str(body)) for at, word, body in connection.execute(query))

    def state(self, settings: Digest) -> tuple[int, int, bytes] | None:
        """The state that was kept last."""
        query = select(watch_state).where(watch_state.c.settings == settings)
        with self._database.read_tx() as connection:
            found = connection.execute(query).first()
        return None if found is None else (int(found.position), int(found.labels), bytes(found.state))

    def keep_state(self, settings: Digest, position: int, labels: int, state: bytes) -> None:
        """Replace the state."""
        row = {"position": position, "labels": labels, "state": state}
        adding = self._database.insert(watch_state).values(settings=settings, **row)
        with self._database.write_tx() as connection:
            connection.execute(adding.on_conflict_do_update(index_elements=["settings"], set_=row))

    def delete_before(self, release: Digest, before: Moment) -> int:
        """Delete old observations and their labels."""
        old = (observation.c.release == release) & (observation.c.at < _text(before))
        with self._database.write_tx() as connection:
            named = select(observation.c.id).where(old)
            connection.execute(delete(label).where(label.c.release == release, label.c.id.in_(named)))
            return int(connection.execute(delete(observation).where(old)).rowcount)


def _text(at: Moment) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
