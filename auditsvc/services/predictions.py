"""Candidates of which only predictions are known: registered, audited and judged like others, never released."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from auditsvc.datasets import Dataset
from auditsvc.datasets.image_dataset import ContentReader, ImageDataset
from auditsvc.datasets.prediction_table import PredictionTable, read_predictions, read_results
from auditsvc.datasets.readers import recognise
from auditsvc.errors import InvalidInput
from auditsvc.models.answer_table import prediction_files
from auditsvc.models.model import PREDICTIONS
from auditsvc.ports import Context
from auditsvc.records import Candidate, FileEntry, Parent
from auditsvc.services.candidates import submit


def submit_predictions(
    ctx: Context,
    file: Path,
    facts: Mapping[str, str],
    person: str,
    parent: Path | None = None,
    data: Path | None = None,
) -> tuple[Candidate, Dataset]:
    """Register the predictions of a parent and a candidate, and submit the candidate; the images that they are of.

    ``file`` is a table with the predictions of both, or COCO results of the candidate, with those of the ``parent`` and
    a COCO data set ``data``.  ``facts`` are the words of the parent's record: model, source, licence.  The candidate's
    files are its outputs and the given file itself.

    Raises:
        InvalidInput: files that do not go together.
        InvalidDataset: with every fault of the predictions.
    """
    table = _read(ctx, file, parent, data)
    task, classes, names = table.dataset.ref.task, table.dataset.classes, table.names
    made = {whose: prediction_files(outputs, task, classes, names, table.kind)
            for whose, outputs in table.outputs.items()}  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="auditsvc-") as scratch:
        folder = Path(scratch)
        dense = Parent(
            task=task, architecture=PREDICTIONS, files=_stored(ctx, folder / "parent", made["parent"]), **facts
        )
        ctx.ledger.append(dense, actor="auditsvc")
        version = ctx.registry.register_parent(dense, folder / "parent")
        given = {f"predictions{file.suffix}": file.read_bytes()}
        candidate = Candidate(
            model=dense.model, task=task, architecture=PREDICTIONS, parent=dense.digest,
            files=_stored(ctx, folder / "candidate", made["candidate"] | given),
        )  # fmt: skip
    ctx.ledger.append(candidate, actor="auditsvc")
    submit(ctx, candidate, version, person)
    return candidate, table.dataset


def _read(ctx: Context, file: Path, parent: Path | None, data: Path | None) -> PredictionTable:
    if file.suffix != ".json":
        if parent is not None:
            raise InvalidInput("a table holds the predictions of both; a file of the parent's is for COCO results")
        return read_predictions(file, ctx.datasets.open(data) if data else None)
    if parent is None or data is None:
        raise InvalidInput("COCO results need the parent's results as well, and the data set with the COCO file")
    reader, _ = recognise(data)
    opened = reader.read(data)
    if not isinstance(reader, ContentReader) or not isinstance(opened, ImageDataset):
        raise InvalidInput(f"{data} has no COCO file; results name images and categories by its ids")
    return read_results(parent, file, opened, reader.content(data))


def _stored(ctx: Context, folder: Path, files: Mapping[str, bytes]) -> tuple[FileEntry, ...]:
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return tuple(ctx.blobs.put_file(folder / name) for name in sorted(files))
