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
from pathlib import Path

from torch import Tensor

from auditsvc.datasets import Dataset
from auditsvc.datasets.scaling import one_size
from auditsvc.errors import Forbidden, InvalidInput, NotFound, Refused
from auditsvc.importing import (
    FOR_RUNTIMES,
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
    Model,
    assemble,
    model_files,
    read_card,
    read_weights,
)
from auditsvc.models.answer_table import OUTPUTS, predicted
from auditsvc.ports import Context
from auditsvc.records import FileEntry, Parent
from auditsvc.records.architecture import ModelDescription, Preprocessing
from auditsvc.runtimes import RUNTIMES, Runtime, run_named
from auditsvc.runtimes.onnxruntime import OnnxRuntime

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

    Each file for a runtime, in a batch and one image at a time; one image at a time for a graph that came as data,
    because only the answers of built-in layers are known not to depend on the rest of the batch.

    Raises:
        Unavailable: the runtime of one of the files is not installed here.
    """
    as_data = isinstance(model.module, OnnxFile) or model.card.architecture == "onnx_graph"
    known = tuple(files)
    others = [one for one in runtimes_of(known) if not (one is OnnxRuntime and isinstance(model.module, OnnxFile))]
    held = runtime_files(ctx, known) if others else {}
    return (*((one_by_one(model),) if as_data else ()), *(run for one in others for run in runs_of(model, held, one)))


def runtimes_of(files: Iterable[FileEntry]) -> tuple[type[Runtime], ...]:
    """The runtimes for which these files hold one of their own; torch runs the weights themselves."""
    names = {file.name for file in files} - {WEIGHTS}
    return tuple(one for one in RUNTIMES.by_id.values() if one.files[0] in names)


def runtime_files(ctx: Context, files: Iterable[FileEntry]) -> dict[str, bytes]:
    """The content of the files that a runtime reads, by name."""
    return {file.name: ctx.blobs.read(file.digest) for file in files if file.name in (WEIGHTS, CARD, *FOR_RUNTIMES)}


def open_run(ctx: Context, files: Iterable[FileEntry], model: Model, run: str) -> tuple[Outputs, Outputs]:
    """What these files answer in a run such as ``openvino/int8``, in a batch and one image at a time.

    Raises:
        InvalidInput: no file for this runtime, or one that it can't run or that has another precision.
        Unavailable: the runtime is not installed, or this machine lacks the precision.
    """
    runtime, precision = run_named(run)
    return runs_of(model, runtime_files(ctx, files), runtime, precision)


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


def said_by(dataset: Dataset) -> ModelDescription:
    """What images say about a model that takes them: the task, the classes in their order, the size that all have."""
    size = one_size(dataset)
    return ModelDescription(task=dataset.ref.task, classes=dataset.classes, **({"input": size} if size else {}))


def stored_card(ctx: Context, files: Iterable[FileEntry]) -> ArchitectureCard:
    """The card of a record's files."""
    return read_card(ctx.blobs.read(next(file.digest for file in files if file.name == CARD)))


def said_by_parent(ctx: Context, parent: Parent) -> tuple[ModelDescription, ModelDescription]:
    """What is said of a model file of a candidate (the classes and the image of its parent), and what it is taken to be
    where it says nothing itself: what its parent is."""
    by_name = {file.name: file.digest for file in parent.files}
    card = stored_card(ctx, parent.files)
    names = ["task", "classes", "input", "output", "decoding", "preprocessing"]
    if WEIGHTS in by_name and card.architecture != "onnx_graph":
        names += ["architecture", "arguments"]
    fields = {name: value for name in names if (value := getattr(card, name)) is not None}
    fields |= {"probabilities": True} if card.output_activation else {}
    return ModelDescription(classes=card.output_classes or card.classes, input=card.input), ModelDescription(**fields)


NOTHING = ModelDescription()


@contextmanager
def resolve_model(
    ctx: Context,
    source: str,
    said: ModelDescription = NOTHING,
    like: ModelDescription = NOTHING,
    *,
    layers: bool = True,
) -> Iterator[Path]:
    """A model folder with the model that ``source`` names; a converted or fetched one is gone afterwards.

    ``said`` wins over what the files say of themselves, and ``like``, what the images say, comes last; the card has the
    classes in its order.  Of a model folder the card says everything.  With ``layers`` an ONNX file is converted to
    layers, which can be pruned; without, ONNX Runtime runs it as it is.

    Raises:
        InvalidInput: a file that does not say all that is needed, or an unknown URI scheme.
        NotFound: no such version or alias.
        Forbidden: an address in object storage that the operator did not allow.
        Refused: files that are no model, with the reason and what would work for each.
    """
    with located(ctx, source) as path, tempfile.TemporaryDirectory(prefix="auditsvc-") as name:
        if path.suffix == ".onnx":
            yield _written(_of_graph(path, said, like, layers=layers), path, Path(name))
        elif path.is_dir() and is_model_folder(path):
            card = read_card((path / CARD).read_bytes())
            if said.preprocessing not in (None, card.preprocessing or Preprocessing()):
                raise InvalidInput(f"of a model folder {CARD} says the preprocessing, and {path} says another one")
            yield path
        else:
            yield _written(_of_weights(ctx, path, said, like), path, Path(name))


@contextmanager
def located(ctx: Context, source: str) -> Iterator[Path]:
    """The model file or folder that ``source`` names; a fetched one is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="auditsvc-") as name:
        found = _fetched(ctx, source, Path(name)) if _is_elsewhere(source) else Path(source)
        yield found if found.is_dir() and is_model_folder(found) else find_model(found)


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


def _of_weights(ctx: Context, path: Path, said: ModelDescription, like: ModelDescription) -> dict[str, bytes]:
    """The files of a model folder from a state dict or a folder of Hugging Face's, which names its own network."""
    if path.is_dir():
        own = said.model_fields_set - {"architecture", "arguments"}
        said = ModelDescription(**{name: getattr(said, name) for name in own})
    found = recognise_model(path, said)
    weights, card, notes = imported(found, found.known.over(like), like.classes)
    for note in notes:
        ctx.progress.say(f"{path.name}: {note}")
    return model_files(weights, card)


def _of_graph(path: Path, said: ModelDescription, like: ModelDescription, *, layers: bool) -> dict[str, bytes]:
    """The files of a model folder; that the output fits the task and its classes is known before."""
    model = open_onnx(path, said, like)
    if layers or not isinstance(model.module, OnnxFile):
        return model_files(model.layers.weights(), model.layers.card)
    return {ONNX: model.module.data, CARD: model.card.canonical()}


def _written(files: Mapping[str, bytes], path: Path, folder: Path) -> Path:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    for name in BESIDE:
        if (path.parent / name).is_file():
            shutil.copyfile(path.parent / name, folder / name)
    return folder


BESIDE = ("LICENSE", "NOTE.md")
"""Files of the parent that go with every candidate: a licence stays with what it covers."""
