"""Load models: a parent from its source, and the files of a record from the blob store, checked against their digests.

A source is a model folder, an ONNX file, a version of the MLflow registry (``models:/name/version``,
``models:/name@alias``) or an address in object storage.  ONNX is converted in a sandboxed process of ``importing``.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from auditsvc.errors import Forbidden, InvalidInput, NotFound, Refused
from auditsvc.importing import from_onnx
from auditsvc.models import (
    CARD,
    WEIGHTS,
    ArchitectureCard,
    InputSpec,
    Model,
    assemble,
    model_files,
    read_card,
    read_weights,
)
from auditsvc.models.model_files import HEAD_BYTES, foreign
from auditsvc.ports import Context
from auditsvc.records import FileEntry, TaskName


def load_stored(ctx: Context, files: Iterable[FileEntry]) -> Model:
    """The model of a record's files.

    Raises:
        Refused: a record that lists no model, or files that are none.
    """
    tensors, card = stored_tensors(ctx, files)
    return assemble(tensors, card)


def stored_tensors(ctx: Context, files: Iterable[FileEntry]) -> tuple[dict[str, Tensor], ArchitectureCard]:
    """The tensors as they are saved, which may be halves or integers, and their card.

    Raises:
        Refused: a record that lists no model, or files that are none.
    """
    by_name = {file.name: file.digest for file in files}
    missing = {WEIGHTS, CARD} - set(by_name)
    if missing:
        raise Refused(f"the record lists no {' and no '.join(sorted(missing))}")
    return read_weights(ctx.blobs.read(by_name[WEIGHTS])), read_card(ctx.blobs.read(by_name[CARD]))


_URI = re.compile(r"models:/([^/@]+)(?:/([1-9][0-9]*)|@([^/@]+))")


@dataclass(frozen=True)
class Question:
    """What an ONNX file does not say about itself: the classes, what one image is, which output is audited."""

    classes: tuple[str, ...]
    image: InputSpec
    output: str | None = None
    task: TaskName = "classification"


@contextmanager
def resolve_parent(ctx: Context, source: str, question: Question | None) -> Iterator[Path]:
    """A model folder with the parent that ``source`` names; a converted or fetched one is gone afterwards.

    Raises:
        InvalidInput: an ONNX file without a ``question``, or an unknown URI scheme.
        NotFound: no such version or alias.
        Forbidden: an address in object storage that the operator did not allow.
        Refused: files that are no model, with the reason and what would work for each.
    """
    with tempfile.TemporaryDirectory(prefix="auditsvc-") as name:
        scratch = Path(name)
        (scratch / "fetched").mkdir()
        found = _fetched(ctx, source, scratch / "fetched") if _is_elsewhere(source) else Path(source)
        if found.is_dir() and _is_model_folder(found):
            yield found
        else:
            (scratch / "model").mkdir()
            yield _converted(_onnx_file(found, source), question, scratch / "model")


def _is_elsewhere(source: str) -> bool:
    return source.startswith("models:") or "://" in source


def _fetched(ctx: Context, source: str, folder: Path) -> Path:
    if not source.startswith("models:"):
        if ctx.references is None:
            raise Forbidden(f"{source} may not be fetched: no place is allowed (AUDITSVC_ALLOWED_MODEL_URIS)")
        ctx.references.fetch(source, folder)
        return folder
    parts = _URI.fullmatch(source)
    if parts is None:
        raise InvalidInput(f"{source!r} names no model version; write models:/NAME/VERSION or models:/NAME@ALIAS")
    model, version, alias = parts.groups()
    if alias is not None:
        version = ctx.registry.aliased(model, alias)
        if version is None:
            raise NotFound(f"no version of {model} carries the alias {alias}")
    return ctx.registry.checkout(model, version, folder)


def _is_model_folder(folder: Path) -> bool:
    return (folder / WEIGHTS).is_file() and (folder / CARD).is_file()


def _onnx_file(found: Path, source: str) -> Path:
    """The one ONNX file that is meant.

    Raises:
        Refused: there is none, or several; with what each other file is and what would convert it.
    """
    if found.is_file():
        files = [found]
    else:
        files = sorted(path for path in found.rglob("*") if path.is_file() and not path.is_symlink())
    graphs = [path for path in files if path.suffix == ".onnx"]
    if len(graphs) == 1:
        return graphs[0]
    reasons = [reason for path in files if (reason := _foreign(path))]
    raise Refused(
        f"{source} holds no model that can be read: {WEIGHTS} with {CARD}, or one ONNX file, is needed", reasons
    )


def _foreign(path: Path) -> str | None:
    with path.open("rb") as stream:
        return foreign(stream.read(HEAD_BYTES), path.name, path)


def _converted(path: Path, question: Question | None, folder: Path) -> Path:
    if question is None:
        raise InvalidInput(f"{path.name} does not name its classes: pass the classes and the image size")
    model = from_onnx(path, task=question.task, classes=question.classes, image=question.image, output=question.output)
    for name, data in model_files(model.weights(), model.card).items():
        (folder / name).write_bytes(data)
    for name in BESIDE:
        if (path.parent / name).is_file():
            shutil.copyfile(path.parent / name, folder / name)
    return folder


BESIDE = ("LICENSE", "NOTE.md")
"""Files of the parent that go with every candidate: a licence stays with what it covers."""
