"""From a parent to submitted candidates: register, prune, mark, admit, submit.

The mark goes in before the digest is taken, so what is audited and signed is what was marked.  The unmarked
weights are never stored: they follow from parent and recipe, and the seed of the mark from them and the master
secret.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from auditsvc import pruning, watermark
from auditsvc.errors import InvalidInput, Refused
from auditsvc.intake import round_trip
from auditsvc.measuring import Dataset, MarkReading
from auditsvc.models import CARD, WEIGHTS, Model, assemble, load_model, model_files, read_card, read_weights
from auditsvc.ports import Ports
from auditsvc.records import Candidate, FileEntry, Mark, Parent, Recipe, Submission, recipe_key

BESIDE = ("LICENSE", "NOTE.md")
"""Files of the parent that go with every candidate: a licence stays with what it covers."""


def register_parent(folder: Path, facts: Mapping[str, str], ports: Ports) -> tuple[Parent, str]:
    """Admit a dense model folder as a parent; the record and its version in the registry.

    ``facts`` are the record's words: model, source, licence, intended_use, not_for.

    Raises:
        Refused: files that are not a model, with every reason.
    """
    model = load_model(folder)
    names = (WEIGHTS, CARD, *(name for name in BESIDE if (folder / name).is_file()))
    parent = Parent(
        task=model.card.task,
        architecture=model.card.architecture,
        files=tuple(ports.blobs.put_file(folder / name) for name in names),
        **facts,
    )
    ports.ledger.append(parent, actor="auditsvc")
    return parent, ports.registry.register_parent(parent, folder)


def load_stored(files: Iterable[FileEntry], ports: Ports) -> Model:
    """The model of a record's files, read from the blobs and checked against their digests."""
    by_name = {file.name: file.digest for file in files}
    missing = {WEIGHTS, CARD} - set(by_name)
    if missing:
        raise Refused(f"the record lists no {' and no '.join(sorted(missing))}")
    return assemble(read_weights(ports.blobs.read(by_name[WEIGHTS])), read_card(ports.blobs.read(by_name[CARD])))


def make(parent: Parent, recipe: Recipe, calibration: Dataset, ports: Ports) -> Candidate:
    """Prune, mark, and admit one candidate; the same parent and recipe give the same one, found again.

    ``calibration`` is unlabelled and is not what the candidate will be audited on: the mark is fitted to it.

    Raises:
        InvalidInput: a recipe that does not fit the parent.
        Refused: the saved files, loaded in a clean process, are not the model that was saved.
    """
    known = ports.ledger.find(Candidate, recipe_key(parent.digest, recipe))
    stored = [item for item in known if all(ports.blobs.has(file.digest) for file in item.files)]
    if stored:
        return stored[0]
    pruned = _pruned(parent, recipe, ports)
    weights, mark = _marked(parent, pruned, calibration, ports)
    marked = assemble(weights, pruned.card)
    with tempfile.TemporaryDirectory(prefix="auditsvc-") as scratch:
        folder = Path(scratch)
        for name, data in model_files(weights, pruned.card).items():
            (folder / name).write_bytes(data)
        for file in parent.files:
            if file.name in BESIDE:
                (folder / file.name).write_bytes(ports.blobs.read(file.digest))
        return _admitted(folder, marked, parent, calibration, ports, recipe, mark)


def admit(folder: Path, parent: Parent, probe: Dataset, ports: Ports) -> Candidate:
    """Admit a model folder that was pruned elsewhere, as it is: without a recipe and without our mark.

    Raises:
        Refused: files that are not a model of the parent's kind, or that do not load alike twice.
    """
    model = load_model(folder)
    dense = load_stored(parent.files, ports)
    if (model.card.task, model.card.classes) != (dense.card.task, dense.card.classes):
        raise Refused(f"{folder} answers another question than its parent: other task or other classes")
    return _admitted(folder, model, parent, probe, ports, None, None)


def _admitted(
    folder: Path, model: Model, parent: Parent, probe: Dataset, ports: Ports, recipe: Recipe | None, mark: Mark | None
) -> Candidate:
    """The round trip in a clean process, then files into the blobs and the record into the ledger."""
    round_trip(folder, model, next(probe.batches(8)).images)
    paths = [folder / name for name in (WEIGHTS, CARD, *BESIDE) if (folder / name).is_file()]
    files = tuple(ports.blobs.put_file(path) for path in sorted(paths))
    candidate = Candidate(
        model=parent.model,
        task=parent.task,
        architecture=model.card.architecture,
        files=files,
        parent=parent.digest,
        recipe=recipe,
        mark=mark,
        card=model.counts() | {"bytes": float(sum(file.size for file in files if file.name == WEIGHTS))},
    )
    ports.ledger.append(*((recipe,) if recipe else ()), candidate, actor="auditsvc")
    return candidate


def _pruned(parent: Parent, recipe: Recipe, ports: Ports) -> Model:
    model = load_stored(parent.files, ports)
    return assemble(pruning.prune(model, recipe), model.card)


def _payload(unmarked: str) -> watermark.Payload:
    """The release number is taken from the unmarked digest, so that it needs no counter to be unique."""
    return watermark.Payload(release=int(unmarked.removeprefix("sha256:")[:8], 16), recipient=0)


def _marked(parent: Parent, pruned: Model, calibration: Dataset, ports: Ports) -> tuple[dict[str, Tensor], Mark]:
    unmarked = watermark.weights_digest(pruned.weights())
    seed = watermark.derive_seed(ports.keys.watermark_secret(), unmarked, parent.model)
    images = torch.cat([batch.images for batch in calibration.batches(64)])
    return watermark.embed(pruned.module, pruned, images, seed=seed, unmarked=unmarked, payload=_payload(unmarked))


def read_mark(candidate: Candidate, parent: Parent, dataset: Dataset, ports: Ports) -> MarkReading:
    """Detect the candidate's mark and count the answers that it changed.

    Raises:
        InvalidInput: the candidate was not made here, so that its unmarked weights are not known.
    """
    if candidate.recipe is None:
        raise InvalidInput("the mark of a candidate that was not pruned here can't be read")
    pruned, marked = _pruned(parent, candidate.recipe, ports), load_stored(candidate.files, ports)
    unmarked = watermark.weights_digest(pruned.weights())
    seed = watermark.derive_seed(ports.keys.watermark_secret(), unmarked, parent.model)
    found = watermark.detect(
        marked.weights(), pruned.weights(), seed=seed, unmarked=unmarked, payload=_payload(unmarked)
    )
    changed = 0
    with torch.inference_mode():
        for batch in dataset.batches(32):
            changed += int((marked(batch.images).argmax(1) != pruned(batch.images).argmax(1)).sum())
    return MarkReading(
        log10_p=found.log10_p,
        z=found.z,
        bits_matched=found.bits_matched,
        bits_total=found.bits_total,
        flips=changed / dataset.ref.images,
        images=dataset.ref.images,
    )


def submit(candidate: Candidate, parent_version: str, submitter: str, ports: Ports) -> Submission:
    """Register the candidate as a model version and ask for its release; asking twice changes nothing."""
    known = ports.ledger.find(Submission, candidate.digest)
    if known:
        return known[0]
    with tempfile.TemporaryDirectory(prefix="auditsvc-") as scratch:
        folder = Path(scratch) / "candidate"
        ports.blobs.checkout(candidate.files, folder)
        version = ports.registry.register_candidate(candidate, folder, parent_version)
    submission = Submission(
        candidate=candidate.digest,
        model=candidate.model,
        version=version,
        submitter=submitter,
        at=ports.clock.now(),
    )
    ports.ledger.append(submission, actor=submitter)
    return submission
