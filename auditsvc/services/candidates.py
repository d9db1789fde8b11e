"""From a parent to submitted candidates: register, prune, watermark, admit, submit.

The watermark is embedded in the float weights, the number format is applied after it, and the digest is taken last:
what is audited and signed is the watermarked model, byte for byte.

A candidate that was pruned elsewhere is admitted from uploaded files or from a registered version.  A registered
version keeps its number: the candidate's digest is written on it as a tag, and ``submit`` finds the version with that
digest.  A version of another model is copied to a new version under the parent's name.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from auditsvc import pruning
from auditsvc.datasets import Dataset
from auditsvc.datasets.scaling import scaled_for
from auditsvc.errors import Conflict, InvalidInput, NotFound, Refused
from auditsvc.importing import (
    FOR_RUNTIMES,
    ONNX,
    OnnxFile,
    batch_bound,
    batch_faults,
    converted,
    inspect_folder,
    open_folder,
    round_trip,
)
from auditsvc.importing.runtime_session import RuntimeSession, ports_of
from auditsvc.models import CARD, WEIGHTS, Model, assemble, model_files, read_weights
from auditsvc.models.complexity import facts
from auditsvc.ports import Context
from auditsvc.records import (
    AdmitRequest,
    Candidate,
    Mark,
    ModelRequest,
    Parent,
    ParentRequest,
    Recipe,
    Submission,
    recipe_key,
)
from auditsvc.records.architecture import ModelDescription
from auditsvc.runtimes import RUNTIMES, Runtime
from auditsvc.runtimes.onnx_export import onnx_bytes
from auditsvc.runtimes.onnxruntime import OnnxRuntime
from auditsvc.services.holdout import inherit_images_seen, record_images_seen
from auditsvc.services.model_store import (
    BESIDE,
    load_stored,
    resolve_model,
    runtimes_of,
    said_by,
    said_by_parent,
    stored_tensors,
)
from auditsvc.services.watermarking import (
    WatermarkOptions,
    embed_watermark,
    find_watermark_key,
    is_marked_for,
    original_of,
)

PROBES, ROUND_TRIP = 64, 8
"""Images on which ONNX Runtime is compared (INT8 by its share of equal answers), and those of the round trip."""


def register_parent(ctx: Context, folder: Path, facts: Mapping[str, str]) -> tuple[Parent, str]:
    """Admit a dense model folder as a parent; the record and its version in the registry.

    ``facts`` are the record's words: model, source, licence, intended_use, not_for.

    Raises:
        Refused: files that are not a model, with every reason.
    """
    model = open_folder(folder)
    image = model.card.input
    model(torch.full((2, image.channels, image.height, image.width), 0.5))  # an output that does not fit its card
    weights = ONNX if isinstance(model.module, OnnxFile) else WEIGHTS
    names = (weights, CARD, *(name for name in BESIDE if (folder / name).is_file()))
    parent = Parent(
        task=model.card.task,
        architecture=model.card.architecture,
        files=tuple(ctx.blobs.put_file(folder / name) for name in names),
        **facts,
    )
    ctx.ledger.append(parent, actor="auditsvc")
    return parent, ctx.registry.register_parent(parent, folder)


def prune_candidate(
    ctx: Context,
    parent: Parent,
    recipe: Recipe,
    calibration: Dataset,
    data: Sequence[Dataset] = (),
    *,
    onnx: bool = False,
    runtimes: Sequence[str] = (),
    marking: WatermarkOptions | None = None,
) -> Candidate:
    """Prune, mark, and admit one candidate; the same parent, recipe and recipient give the same one, found again.

    ``calibration`` is unlabelled and is not what the candidate will be audited on: the mark is fitted to it.  ``data``
    are the data sets that the recipe names by digest.  With ``onnx`` the candidate's files hold the same model as ONNX
    too, compared with ONNX Runtime; ``runtimes`` get files of their own, made from that.  ``marking`` says for whom
    the copy is marked.

    Raises:
        InvalidInput: a recipe that does not fit the parent, or data that was not given.
        Refused: the saved files, loaded in a clean process, are not the model that was saved; or ONNX Runtime
            answers otherwise.
    """
    wanted = _runtimes((*runtimes, *(("onnxruntime",) if onnx else ())))
    known = ctx.ledger.find(Candidate, recipe_key(parent.digest, recipe))
    for item in known:
        if not is_marked_for(ctx, item, marking):
            continue
        if set(runtimes_of(item.files)) == wanted and all(ctx.blobs.has(file.digest) for file in item.files):
            return _made_with(ctx, item, calibration, data)
    dense = load_stored(ctx, parent.files)
    used = tuple(scaled_for(one, dense.card) for one in data)
    floats = pruning.in_float_weights(dense, recipe, used, progress=ctx.progress)
    weights, mark = embed_watermark(ctx, parent, assemble(floats, dense.card), calibration, marking)
    saved = pruning.formatted(assemble(weights, dense.card), recipe, used)
    made = _written(ctx, assemble(saved, dense.card), saved, parent, calibration, recipe, mark, wanted)
    return _made_with(ctx, made, calibration, data)


def _made_with(ctx: Context, candidate: Candidate, calibration: Dataset, data: Sequence[Dataset] = ()) -> Candidate:
    """The candidate, with a record of the images that it was made with: it is never audited on them."""
    record_images_seen(ctx, candidate.digest, calibration, "calibration")
    for one in data:
        record_images_seen(ctx, candidate.digest, one, "recovery")
    return candidate


def watermark_for_recipient(
    ctx: Context, candidate: Candidate, marking: WatermarkOptions, calibration: Dataset
) -> Candidate:
    """The same candidate, marked for a recipient of its own; made of the kept unmarked weights, without pruning again.

    It is another candidate, to be audited and released like any other: what is signed is what was measured.
    ``calibration`` is as for ``make``.

    Raises:
        InvalidInput: no recipient, or what finds the candidate's mark is not kept here.
        Refused: as ``make``.
    """
    copy = find_watermark_key(ctx, candidate.mark)
    if copy is None or candidate.mark is None:
        raise InvalidInput("this candidate was not marked here, so no copies of it can be made")
    if not marking.recipient.strip():
        raise InvalidInput("say for whom the copy is: it is marked so that a leak leads to its recipient")
    parent = ctx.ledger.get(Parent, candidate.parent)
    for item in ctx.ledger.find(Candidate, parent.digest):
        alike = runtimes_of(item.files) == runtimes_of(candidate.files)
        same = item.mark is not None and item.mark.unmarked == copy.unmarked and alike
        if same and is_marked_for(ctx, item, marking):
            return item
    stored, card = stored_tensors(ctx, candidate.files)
    unmarked = assemble(dict(original_of(ctx, copy).weights), card)
    weights, mark = embed_watermark(ctx, parent, unmarked, calibration, marking)
    saved = pruning.in_format_of(weights, stored)
    wanted = set(runtimes_of(candidate.files))
    made = _written(ctx, assemble(saved, card), saved, parent, calibration, candidate.recipe, mark, wanted)
    inherit_images_seen(ctx, candidate, made)
    return _made_with(ctx, made, calibration)


def _written(
    ctx: Context,
    model: Model,
    saved: dict[str, Tensor],
    parent: Parent,
    calibration: Dataset,
    recipe: Recipe | None,
    mark: Mark,
    runtimes: Iterable[type[Runtime]],
) -> Candidate:
    with tempfile.TemporaryDirectory(prefix="auditsvc-") as scratch:
        folder = Path(scratch)
        for name, content in model_files(saved, model.card).items():
            (folder / name).write_bytes(content)
        for file in parent.files:
            if file.name in BESIDE:
                (folder / file.name).write_bytes(ctx.blobs.read(file.digest))
        _export(folder, model, calibration, runtimes)
        return _admitted(ctx, folder, model, parent, calibration, recipe, mark)


def _runtimes(names: Iterable[str]) -> set[type[Runtime]]:
    """The runtimes of these names.

    Raises:
        InvalidInput: one that is not known.
    """
    known = RUNTIMES.by_id
    if unknown := set(names) - set(known):
        raise InvalidInput(f"no runtime {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    return {known[name] for name in names}


def _export(folder: Path, model: Model, probe: Dataset, runtimes: Iterable[type[Runtime]]) -> None:
    """Write the model for these runtimes, each made from one ONNX file that gives the model's answers.

    Raises:
        Refused: ONNX Runtime or a converter refuses it, or auditsvc can't write the runtime's format.
    """
    wanted = set(runtimes)
    if not wanted:
        return
    data = onnx_bytes(model, next(scaled_for(probe, model.card).batches(PROBES)).images)
    for one in wanted:
        made = {ONNX: data} if one is OnnxRuntime else converted(one, data)
        if not made:
            raise Refused(f"auditsvc can't write {one.files[0]} for {one.id}: bring it in the folder that is admitted")
        for name, content in made.items():
            (folder / name).write_bytes(content)


def admit(
    ctx: Context,
    folder: Path,
    parent: Parent,
    probe: Dataset,
    marking: WatermarkOptions | None = None,
    calibration: Dataset | None = None,
) -> Candidate:
    """Admit a model folder that was pruned elsewhere, without a recipe.

    Weights, or an ONNX file without weights, are admitted as they are.  An ONNX file alongside weights is replaced by
    an export of these weights: two files that may answer differently are never signed on the word of a comparison.
    Files for other runtimes, and an ONNX file that fixes a batch size above 1, are admitted as they are.  Unless they
    take one image at a time they are audited and never released: that their answers do not depend on the batch is not
    proven.
    With ``marking`` our watermark is embedded first, fitted to ``calibration``, which is not what will be audited; an
    ONNX file is then converted and exported again.

    Raises:
        Refused: files that are not a model of the parent's kind, that do not load alike twice, or whose answers depend
            on the rest of the batch.
    """
    model, dense = open_folder(folder), load_stored(ctx, parent.files)
    if (model.card.task, model.card.classes) != (dense.card.task, dense.card.classes):
        raise Refused(f"{folder} answers another question than its parent: other task or other classes")
    if reasons := inspect_folder(folder):
        raise Refused("these files are not admitted", reasons)
    exported = (folder / ONNX).is_file() and (marking is not None or not isinstance(model.module, OnnxFile))
    brought = [name for name in FOR_RUNTIMES if name != ONNX and (folder / name).is_file()]
    if marking is not None and brought:
        raise Refused(f"{', '.join(brought)} would not carry the mark: leave it out, and convert the marked weights")
    if marking is not None:
        images = calibration or probe
        layers = model.layers
        saved = dict(layers.weights()) if layers is not model else read_weights((folder / WEIGHTS).read_bytes())
        floats = assemble(pruning.in_float(saved), layers.card)
        weights, mark = embed_watermark(ctx, parent, floats, images, marking)
        saved = pruning.in_format_of(weights, saved)
        model, wanted = assemble(saved, layers.card), {OnnxRuntime} if exported else set()
        made = _written(ctx, model, saved, parent, images, None, mark, wanted)
        return _made_with(ctx, made, images)
    with tempfile.TemporaryDirectory(prefix="auditsvc-") as scratch:
        copy, unproven = Path(shutil.copytree(folder, Path(scratch) / folder.name)), _of_any_batch(folder, brought)
        if exported:
            _export(copy, model, probe, {OnnxRuntime})
            ctx.progress.say(
                f"{ONNX} was exported again from the admitted weights; to have a file of your own audited and signed, "
                f"send it without {WEIGHTS}"
            )
        if isinstance(model.module, OnnxFile):
            unproven += [ONNX] * ((model.module.info.image.shape[0] or 1) > 1)
            model = _bound(ctx, copy, model, model.module, next(probe.batches(PROBES)).images)
        return _admitted(ctx, copy, model, parent, probe, None, None, tuple(unproven))


def _of_any_batch(folder: Path, names: Sequence[str]) -> list[str]:
    """Those of the brought files whose batch size is not fixed at 1, in the words of their runtimes."""
    files, found = {name: (folder / name).read_bytes() for name in names}, []
    for runtime in RUNTIMES.by_id.values():
        if runtime.files[0] in files:
            (image, *_) = ports_of(RuntimeSession(runtime, files).graph(), "inputs")
            found += [runtime.files[0]] * (image.shape[0] != 1)
    return found


def _bound(ctx: Context, folder: Path, model: Model, module: OnnxFile, images: Tensor) -> Model:
    """The model of an ONNX file, with its batch size fixed at 1 unless every size is proven to give the same answers.

    Raises:
        Refused: answers depend on the rest of the batch.
    """
    _refuse_mixing(batch_faults(model, images))
    data, objection = batch_bound(module.data, model.card, module.output.name)
    (folder / ONNX).write_bytes(data)
    if not objection:
        return model
    ctx.progress.say(
        f"the batch size of {ONNX} was fixed at 1: it is not proven that an answer does not depend on the rest of the "
        f"batch ({objection})"
    )
    return open_folder(folder)


def _refuse_mixing(reasons: Sequence[str]) -> None:
    if reasons:
        raise Refused("the answer to an image depends on what else is in the batch, or may", reasons)


def _admitted(
    ctx: Context,
    folder: Path,
    model: Model,
    parent: Parent,
    probe: Dataset,
    recipe: Recipe | None,
    mark: Mark | None,
    unproven: tuple[str, ...] = (),
) -> Candidate:
    """The round trip in a clean process, then files into the blobs and the record into the ledger."""
    images, module = next(scaled_for(probe, model.card).batches(PROBES)).images, model.module
    if not isinstance(module, OnnxFile):
        round_trip(folder, model, images[:ROUND_TRIP])
    if model.card.architecture == "onnx_graph":
        _refuse_mixing(batch_faults(model, images))
    if model.card.architecture == "onnx_graph" and recipe is None:
        _, objection = batch_bound(onnx_bytes(model, images), model.card, "outputs")
        _refuse_mixing([f"{objection}; send it as ONNX with a batch size of 1, without {WEIGHTS}"] * bool(objection))
    paths = [folder / name for name in (WEIGHTS, CARD, *FOR_RUNTIMES, *BESIDE) if (folder / name).is_file()]
    candidate = Candidate(
        model=parent.model,
        task=parent.task,
        architecture=model.card.architecture,
        files=tuple(ctx.blobs.put_file(path) for path in sorted(paths)),
        parent=parent.digest,
        recipe=recipe,
        mark=mark,
        card=module.facts() if isinstance(module, OnnxFile) else facts(model, (folder / WEIGHTS).read_bytes()),
        unproven=unproven or None,
    )
    ctx.ledger.append(*((recipe,) if recipe else ()), candidate, actor="auditsvc")
    return candidate


def submit(ctx: Context, candidate: Candidate, parent_version: str, submitter: str) -> Submission:
    """Register the candidate as a model version and ask for its release; asking twice changes nothing."""
    known = ctx.ledger.find(Submission, candidate.digest)
    if known:
        return known[0]
    with tempfile.TemporaryDirectory(prefix="auditsvc-") as scratch:
        folder = Path(scratch) / "candidate"
        ctx.blobs.checkout(candidate.files, folder)
        version = ctx.registry.register_candidate(candidate, folder, parent_version)
    submission = Submission(
        candidate=candidate.digest,
        model=candidate.model,
        version=version,
        submitter=submitter,
        at=ctx.clock.now(),
    )
    ctx.ledger.append(submission, actor=submitter)
    return submission


def submit_copy(ctx: Context, copy: Candidate, submitter: str) -> Submission:
    """``submit`` for a candidate whose parent is registered already, as that of a copy is."""
    parent = ctx.ledger.get(Parent, copy.parent)
    with tempfile.TemporaryDirectory(prefix="auditsvc-") as scratch:
        folder = Path(scratch) / "parent"
        ctx.blobs.checkout(parent.files, folder)
        version = ctx.registry.register_parent(parent, folder)
    return submit(ctx, copy, version, submitter)


_VERSION = re.compile(r"models:/([^/@]+)/([1-9][0-9]*)")


def admit_request(ctx: Context, order: AdmitRequest, probe: Dataset) -> Candidate:
    """The candidate of this order, loaded again in a clean process on images of ``probe``.

    Raises:
        NotFound: no such parent, file or version.
        Refused: files that are no model of the parent's kind, or that do not load alike twice.
        Conflict: what is asked for is the parent itself.
    """
    parent = ctx.ledger.get(Parent, order.parent)
    with ctx.progress.step("fetch, look, load again"), _folder_of(ctx, order, *said_by_parent(ctx, parent)) as folder:
        candidate = admit(ctx, folder, parent, probe)
    if {file.digest for file in candidate.files} <= {file.digest for file in parent.files}:
        raise Conflict("these are the parent's own files; nothing was pruned")
    version = _VERSION.fullmatch(order.reference or "")
    if version is not None and version[1] == parent.model:
        ctx.registry.tag(version[1], version[2], {"auditsvc.digest": candidate.digest})
    return candidate


def register_request(ctx: Context, order: ParentRequest, probe: Dataset) -> tuple[Parent, str]:
    """The parent of this order and its version, whose output fits the task and classes of ``probe``.

    Raises:
        NotFound: no such file or version.
        InvalidInput: files that do not say all that is needed.
        Refused: files that are no model.
    """
    facts = {name: str(getattr(order, name)) for name in ("model", "source", "licence", "intended_use", "not_for")}
    with _folder_of(ctx, order, ModelDescription(), said_by(probe), layers=order.layers) as folder:
        return register_parent(ctx, folder, facts)


@contextmanager
def _folder_of(
    ctx: Context, order: ModelRequest, said: ModelDescription, like: ModelDescription, *, layers: bool = False
) -> Iterator[Path]:
    """The model folder that an order names; what the order says wins over ``said``.  See ``resolve_model``."""
    said = order.describe.over(said)
    if order.reference is not None:
        with resolve_model(ctx, order.reference, said, like, layers=layers) as folder:
            yield folder
        return
    missing = [file.name for file in order.files if not ctx.blobs.has(file.digest)]
    if missing:
        raise NotFound(f"not sent here: {', '.join(missing)}; send them to /v1/uploads first")
    with tempfile.TemporaryDirectory(prefix="auditsvc-") as scratch:
        folder = Path(scratch) / "model"
        ctx.blobs.checkout(order.files, folder)
        with resolve_model(ctx, str(folder), said, like, layers=layers) as found:
            yield found
