"""Observations of a release in use: rows that are sent or logged, and images that are answered here.

A row is kept once, by its id or its content.  Images of a folder or a log are answered by the release and, of a sample,
by its parent; images that were audited are refused, as they say nothing about use.  What audited images are like is
measured once and kept as a file (``WatchReference``).
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from auditsvc.errors import InvalidInput, NotFound, Unavailable
from auditsvc.ports import Context, Observations
from auditsvc.records import (
    Candidate,
    Digest,
    Observation,
    Release,
    Value,
    WatchSettings,
    canonical_json,
    digest_of,
    faults_of,
)
from auditsvc.records.architecture import CARD, ArchitectureCard
from auditsvc.services.watching import watch_settings

EARLY = datetime.timedelta(hours=1)
"""How far ahead of ours a device's clock may be."""

Locate = Callable[[str], Path]
"""Where a name of the settings is found on this machine."""

_LABELS: TypeAdapter[dict[str, str]] = TypeAdapter(dict[str, str])
_ROWS: TypeAdapter[list[Observation]] = TypeAdapter(list[Observation])


class Intake(Value):
    """What became of observations: new ones, those that were known, labels, and images that were audited."""

    added: int
    repeated: int
    labelled: int = 0
    audited: tuple[str, ...] = ()
    """The first names of images that were refused because they, or near copies of them, were audited."""


def store_of(ctx: Context) -> Observations:
    """Where observations are kept.  Raises ``Unavailable`` where nothing is."""
    if ctx.watched is None:
        raise Unavailable("this store keeps no observations")
    return ctx.watched


def parse_observations(data: bytes) -> list[Observation]:
    """A JSON list of observations.

    Raises:
        InvalidInput: it is none, with the first faults by row and field.
    """
    try:
        return _ROWS.validate_json(data)
    except ValidationError as error:
        raise InvalidInput("these are no observations", faults_of(error)[:20]) from error


def parse_labels(data: bytes) -> dict[str, str]:
    """A JSON object of labels by the ids of observations.  Raises ``InvalidInput``."""
    try:
        return _LABELS.validate_json(data)
    except ValidationError as error:
        raise InvalidInput("these are no labels by id", faults_of(error)[:20]) from error


def add_observations(ctx: Context, release: Release, rows: Sequence[Observation]) -> Intake:
    """Keep observations and the labels in them, all or none; what is known already is left out.

    Raises:
        NotFound: the release is not watched.
        InvalidInput: a row that can't be of this release, is too old, or is from the future; with every fault.
    """
    settings = watch_settings(ctx.ledger, release.digest)
    if settings is None:
        raise NotFound(f"{release.model} version {release.version} is not watched: auditsvc watch set")
    classes = classes_of(ctx, release.digest)
    now = ctx.clock.now()
    oldest, latest = now - datetime.timedelta(days=settings.retention_days), now + EARLY
    faults = [
        f"row {number}: {fault}"
        for number, row in enumerate(rows)
        if (fault := _fault(row, classes, oldest, latest))
    ]  # fmt: skip
    if faults:
        raise InvalidInput(f"{len(faults)} of {len(rows)} observations can't be kept; none was", faults[:20])
    made, labels = [], {}
    for row in rows:
        body = row.model_dump_json(exclude_defaults=True)
        name = row.id or digest_of(body.encode())
        made.append((name, row.at, _cluster(row, settings), body))
        if row.label is not None:
            labels[name] = row.label
    added = store_of(ctx).add(release.digest, made)
    return Intake(added=added, repeated=len(rows) - added, labelled=add_labels(ctx, release, labels))


def add_labels(ctx: Context, release: Release, labels: dict[str, str]) -> int:
    """Keep the labels of observations, by id; the first label of an observation counts.  Returns how many are new.

    Raises:
        InvalidInput: a label that is no class of the release.
    """
    if not labels:
        return 0
    classes = classes_of(ctx, release.digest)
    if odd := sorted(set(labels.values()) - set(classes)):
        raise InvalidInput(f"labels that are no class of {release.model}", [f"{one!r}" for one in odd[:20]])
    return store_of(ctx).add_labels(release.digest, labels)


def classes_of(ctx: Context, release: Digest) -> tuple[str, ...]:
    """The classes of a release in the order of its answers."""
    files = ctx.ledger.get(Candidate, ctx.ledger.get(Release, release).candidate).files
    found = next((file.digest for file in files if file.name == CARD), None)
    return ArchitectureCard.parse(ctx.blobs.read(found)).classes if found else ()


def _fault(row: Observation, classes: tuple[str, ...], oldest: datetime.datetime, latest: datetime.datetime) -> str:
    if not oldest <= row.at <= latest:
        return f"at: {row.at.isoformat()} is before the retention time or in the future"
    for name, scores in (("scores", row.scores), ("parent", row.parent)):
        if scores and len(scores) != len(classes):
            return f"{name}: {len(scores)} numbers for {len(classes)} classes"
        if scores and not (min(scores) >= 0 and 0.98 <= sum(scores) <= 1.02):
            return f"{name}: probabilities are at least 0 and add up to 1, these to {sum(scores):g}"
    if row.label is not None and row.label not in classes:
        return f"label: {row.label!r} is no class of the release"
    return ""


def _cluster(row: Observation, settings: WatchSettings) -> str:
    """What counts once: the sender's cluster, or a block of time of a device; empty where each observation counts."""
    if row.cluster:
        return f"of {row.cluster}"
    if settings.block_minutes:
        return f"{int(row.at.timestamp() // (60 * settings.block_minutes))} {row.device}"
    return ""


@dataclass(frozen=True)
class Logged:
    """One row of a log or one image file: its observation so far, and the image that is to be answered, if any."""

    seen: Observation
    file: Path | None = None


def read_source(path: Path, retention: datetime.timedelta, now: datetime.datetime) -> Iterator[Logged]:
    """The rows of a log (JSONL or Parquet), or the images and logs of a folder; old files are left out.

    A row names its image as ``file``, from the folder of the log.  An image without a log has the time of its file, and
    the first folder as its device.

    Raises:
        NotFound: there is nothing at this path.
        InvalidInput: rows that are no observations, with the first faults by line.
    """
    if not path.exists():
        raise NotFound(f"there is no source {path}")
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    logs = [one for one in files if one.suffix in (".jsonl", ".parquet")]
    for log in logs:
        yield from (one for one in _logged(log) if now - one.seen.at < retention)
    for file in files if not logs else ():
        if file.suffix.lower() not in _suffixes():
            continue
        at = datetime.datetime.fromtimestamp(int(file.stat().st_mtime), datetime.UTC)
        if now - at < retention:
            name = file.relative_to(path) if path.is_dir() else Path(file.name)
            device = name.parts[0] if len(name.parts) > 1 else ""
            label = digest_of(canonical_json([name.as_posix(), digest_of(file.read_bytes())]))
            yield Logged(Observation(id=label, at=min(at, now), device=device), file)


def _suffixes() -> Sequence[str]:
    from auditsvc.datasets.images import SUFFIXES

    return tuple(SUFFIXES)


def _logged(log: Path) -> Iterator[Logged]:
    faults: list[str] = []
    for number, fields in enumerate(_rows(log), 1):
        name = fields.pop("file", None)
        file = None if name is None else (log.parent / str(name)).resolve()
        try:
            if file is not None and not file.is_relative_to(log.parent.resolve()):
                raise InvalidInput(f"file: {name} is outside of the folder of the log")
            seen = Observation.model_validate(fields)
        except ValidationError as error:
            faults += [f"{log.name}, row {number}: {fault}" for fault in faults_of(error)]
        except InvalidInput as error:
            faults.append(f"{log.name}, row {number}: {error}")
        else:
            if file is not None and seen.id is None:
                seen = seen.model_copy(update={"id": digest_of(canonical_json([str(name), seen.at.isoformat()]))})
            yield Logged(seen, file)
        if len(faults) > 20:
            break
    if faults:
        raise InvalidInput(f"{log} has rows that are no observations", faults)


def _rows(log: Path) -> Iterator[dict[str, Any]]:
    """The rows as fields; what is null is left out; of JSONL a last line that is still being written is left out."""
    if log.suffix == ".parquet":
        import pyarrow.parquet as pq  # type: ignore[import-untyped]

        for batch in pq.ParquetFile(log).iter_batches():
            for row in batch.to_pylist():
                yield {
                    name: dict(value) if isinstance(value, list) and value and isinstance(value[0], tuple) else value
                    for name, value in row.items()
                    if value is not None
                }
        return
    for line in log.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n") and line.strip():
            try:
                found = json.loads(line)
            except ValueError:
                found = None
            yield found if isinstance(found, dict) else {"not an object": True}
