"""Load models: a parent from its source, and the files of a record from the blob store, checked against their digests.

A source is a model folder, an ONNX file, a state dict, a folder of Hugging Face's ``save_pretrained``, a version of the
MLflow registry (``models:/name/version``, ``models:/name@alias``) or an address in object storage.  Pickles and ONNX
are read in a sandboxed process of ``importing``.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from auditsvc.errors import Forbidden, InvalidInput, NotFound, Refused
from auditsvc.importing import (
    ONNX,
    OnnxFile,
    find_model,
    imported,
    is_model_folder,
    one_by_one,
    open_onnx,
    recognise_model,
    runs_of,
)
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
from auditsvc.models.answer_table import OUTPUTS, predicted
from auditsvc.ports import Context
from auditsvc.records import FileEntry, Parent, TaskName
from auditsvc.records.architecture import Decoding, ModelDescription, Preprocessing

Outputs = Callable[[Tensor], Tensor]


def load_stored(ctx: Context, files: Iterable[FileEntry]) -> Model:
    """The model of a record's files.

    Raises:
        Refused: a record that lists no model, or files that are none.
    """
    known = tuple(files)
    by_name = {file.name: file.digest for file in known}
    if OUTPUTS in by_name and CARD in by_name:
        outputs = read_weights(ctx.blobs.read(by_name[OUTPUTS]))["outputs"]
        return predicted(outputs, read_card(ctx.blobs.read(by_name[CARD])))
    if ONNX in by_name and CARD in by_name and WEIGHTS not in by_name:
        card = read_card(ctx.blobs.read(by_name[CARD]))
        return Model(OnnxFile(ctx.blobs.read(by_name[ONNX]), card.output), card)
    return assemble(*stored_tensors(ctx, known))


def other_runs(ctx: Context, files: Iterable[FileEntry], model: Model) -> tuple[Outputs, ...]:
    """In what other ways these files can answer images than ``model`` does in a batch, each of which is audited too.

    The ONNX file of a release, in a batch and one image at a time; one image at a time for a graph that came as data,
    because only the answers of built-in layers are known not to depend on the rest of the batch.
    """
    as_data = isinstance(model.module, OnnxFile) or model.card.architecture == "onnx_graph"
    exported = [file.digest for file in files if file.name == ONNX and not isinstance(model.module, OnnxFile)]
    return (*((one_by_one(model),) if as_data else ()), *(run for digest in exported
            for run in runs_of(ctx.blobs.read(digest), model.card)))  # fmt: skip


def stored_tensors(ctx: Context, files: Iterable[FileEntry]) -> tuple[dict[str, Tensor], ArchitectureCard]:
    """The tensors as they are saved, which may be halves or integers, and their card.

    Raises:
        Refused: a record that lists no model, or files that are none.
    """
    by_name = {file.name: file.digest for file in files}
    missing = {WEIGHTS, CARD} - set(by_name)
    if missing:
        why = "; ONNX Runtime runs this model as it is, so it has no tensors here" if ONNX in by_name else ""
        raise Refused(f"the record lists no {' and no '.join(sorted(missing))}{why}")
    return read_weights(ctx.blobs.read(by_name[WEIGHTS])), read_card(ctx.blobs.read(by_name[CARD]))


_URI = re.compile(r"models:/([^/@]+)(?:/([1-9][0-9]*)|@([^/@]+))")


@dataclass(frozen=True)
class Question:
    """What a model file does not say about itself: the classes, which output is audited and how it is laid out; what
    one image is, where the file leaves sizes open; the architecture of a state dict (``records.ModelDescription``).
    ``seen`` is one image of the data set, for a state dict of which nothing else says it."""

    classes: tuple[str, ...]
    image: InputSpec | None = None
    output: str | None = None
    task: TaskName = "classification"
    decoding: Decoding | None = None
    preprocessing: Preprocessing | None = None
    probabilities: bool | None = None
    architecture: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    seen: InputSpec | None = None

    def described(self, *, own_architecture: bool) -> ModelDescription:
        """What is said, as a description; a model may have its ``own_architecture``, which is not said then."""
        names = ["classes", "output", "task", "decoding", "preprocessing", "probabilities"]
        names += [] if own_architecture else ["architecture", "arguments"]
        fields = {name: value for name in names if (value := getattr(self, name)) not in (None, {})}
        return ModelDescription(**fields, **({"input": self.image} if self.image else {}))


def question_of(ctx: Context, parent: Parent) -> Question:
    """What a model file of a candidate is taken to be: what its parent is, for the same images."""
    by_name = {file.name: file.digest for file in parent.files}
    card = read_card(ctx.blobs.read(by_name[CARD]))
    known = card.output_activation is not None or None
    question = Question(card.classes, card.input, card.output, card.task, card.decoding, card.preprocessing, known)
    if WEIGHTS not in by_name or card.architecture == "onnx_graph":
        return question
    return replace(question, architecture=card.architecture, arguments=card.arguments)


@contextmanager
def resolve_parent(ctx: Context, source: str, question: Question | None, *, layers: bool = True) -> Iterator[Path]:
    """A model folder with the parent that ``source`` names; a converted or fetched one is gone afterwards.

    With ``layers`` an ONNX file is converted to layers, which can be pruned; without, ONNX Runtime runs it as it is.

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
        path = found if found.is_dir() and is_model_folder(found) else find_model(found)
        (scratch / "model").mkdir()
        if path.suffix == ".onnx":
            yield _from_graph(path, question, scratch / "model", layers=layers)
        elif path.is_dir() and is_model_folder(path):
            yield path
        else:
            yield _from_weights(ctx, path, question, scratch / "model")


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


def _from_weights(ctx: Context, path: Path, question: Question | None, folder: Path) -> Path:
    """The files of a model folder from a state dict or a folder of Hugging Face's."""
    said = question.described(own_architecture=path.is_dir()) if question else ModelDescription()
    seen = recognise_model(path, said)
    known = seen.known
    if known.input is None and question is not None and question.seen is not None:
        known = known.model_copy(update={"input": question.seen})
    weights, card, notes = imported(seen, known)
    for note in notes:
        ctx.progress.say(f"{path.name}: {note}")
    return _written(model_files(weights, card), path, folder)


def _written(files: Mapping[str, bytes], path: Path, folder: Path) -> Path:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    for name in BESIDE:
        if (path.parent / name).is_file():
            shutil.copyfile(path.parent / name, folder / name)
    return folder


def _from_graph(path: Path, question: Question | None, folder: Path, *, layers: bool) -> Path:
    """The files of a model folder; that the output fits the task and its classes is known before."""
    if question is None:
        raise InvalidInput(f"{path.name} does not name its classes: pass the classes")
    model = open_onnx(
        path, task=question.task, classes=question.classes, image=question.image, output=question.output,
        decoding=question.decoding, preprocessing=question.preprocessing, probabilities=question.probabilities,
    )  # fmt: skip
    if layers:
        files = model_files(model.layers.weights(), model.layers.card)
    elif isinstance(model.module, OnnxFile):
        files = {ONNX: model.module.data, CARD: model.card.canonical()}
    return _written(files, path, folder)


BESIDE = ("LICENSE", "NOTE.md")
"""Files of the parent that go with every candidate: a licence stays with what it covers."""
