"""``audit.yaml``: one audit of one's own model, written by ``auditsvc init`` and read by ``auditsvc audit``.

The file names the two models, the data set, the policy and the people, and describes what model files do not say about
themselves.  Places are relative to the file.  ``init`` marks with CHECK what it guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from auditsvc.datasets import Dataset
from auditsvc.errors import InvalidInput, NotFound, Unavailable
from auditsvc.importing import OnnxFile, is_model_folder, open_folder
from auditsvc.models import Model
from auditsvc.models.architectures import allow_architecture
from auditsvc.ports import Context
from auditsvc.records import Candidate, Name, Recipe, TaskName, Text, faults_of
from auditsvc.records.architecture import Decoding, InputSpec, ModelDescription, Preprocessing, Resize
from auditsvc.resources import resource_dir
from auditsvc.services.candidates import admit, prune_candidate, register_parent, submit
from auditsvc.services.inspection import Preview, preview, propose_preprocessing, sized
from auditsvc.services.model_store import resolve_model, said_by
from auditsvc.services.watermarking import WatermarkOptions

NAME = "audit.yaml"
CHECK = "CHECK"
"""Marks a line that a person has to read before the audit."""

NOT_STATED = "not stated"


class ModelPlace(ModelDescription):
    """Where a model is, and what differs for it from what ``describe`` says of both."""

    path: Annotated[str, Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


class AuditFile(BaseModel):
    """The fields of ``audit.yaml``.

    ``model`` is the name in the registry; ``parent`` the dense model and ``candidate`` the one that was pruned from
    it: a path, ``models:/NAME/VERSION``, or a mapping with ``path`` and what this file alone does not say about
    itself.  In place of a candidate, ``prune`` is the recipe of one, whose watermark is fitted to the images of
    ``calibration``.  ``data`` is the data set that both are measured on, ``describe`` what neither model file says.
    """

    model_config = ConfigDict(extra="forbid")

    model: Name
    parent: ModelPlace
    candidate: ModelPlace | None = None
    prune: Recipe | None = None
    calibration: str | None = None
    data: Annotated[str, Field(min_length=1)]
    policy: str = "standard"
    submitter: Name
    intended_use: Text = NOT_STATED
    not_for: Text = NOT_STATED
    source: Text = NOT_STATED
    licence: Text = NOT_STATED
    expect_accuracy: Annotated[float, Field(gt=0, le=1)] | None = None
    describe: ModelDescription = ModelDescription()

    @model_validator(mode="after")
    def _one_candidate(self) -> Self:
        if (self.candidate is None) == (self.prune is None):
            raise ValueError("name one of candidate (a pruned model) and prune (how to make one)")
        if (self.prune is None) != (self.calibration is None):
            raise ValueError("prune needs calibration, a data set that is not audited; nothing else does")
        return self

    def said(self, place: ModelPlace) -> ModelDescription:
        """What is said about the model of ``place``: its own words, then those for both."""
        own = ModelDescription.model_validate(place.model_dump(exclude_unset=True, exclude={"path"}))
        return own.over(self.describe)

    def described(self, **fields: Any) -> AuditFile:
        """The same audit with more said of both models."""
        return self.model_copy(update={"describe": ModelDescription(**fields).over(self.describe)})

    @property
    def facts(self) -> dict[str, str]:
        """The words of the parent's record."""
        return {name: getattr(self, name) for name in ("model", "source", "licence", "intended_use", "not_for")}


FIELDS = tuple(
    name
    for kind in (AuditFile, ModelPlace, Preprocessing, Resize, InputSpec, Decoding, Recipe)
    for name in kind.model_fields
)
"""Every field that the file may have, for the one that was probably meant."""


def read_audit_file(path: Path) -> AuditFile:
    """The audit of this file.

    Raises:
        NotFound: there is no such file.
        InvalidInput: with every fault; an unknown field with the one that was probably meant.
        Unavailable: it can't be read.
    """
    try:
        fields = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no {path}: auditsvc init writes it, or say --model, --data and --candidate"
        ) from error
    except OSError as error:
        raise Unavailable(f"{path} can't be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    try:
        return AuditFile.model_validate(fields)
    except ValidationError as error:
        raise InvalidInput(f"{path} can't be used", faults_of(error, FIELDS)) from error


def audit_of(fields: Mapping[str, Any], described: ModelDescription) -> AuditFile:
    """The audit that options say, over those of a file; ``described`` wins over the file's ``describe``.

    Raises:
        InvalidInput: something is missing or can't be used; with every fault.
    """
    if not fields.get("parent") or not (fields.get("candidate") or fields.get("prune")):
        raise InvalidInput("say what to audit: --version N, or --candidate MODEL with --parent MODEL")
    if not fields.get("submitter"):
        raise InvalidInput("say who submits the candidate with --as NAME; who submits can't approve")
    try:
        found = AuditFile.model_validate(dict(fields))
    except ValidationError as error:
        raise InvalidInput("this can't be audited", faults_of(error, FIELDS)) from error
    return found.model_copy(update={"describe": described.over(found.describe)})


def _resolved(ctx: Context, audit: AuditFile, place: ModelPlace, dataset: Dataset) -> AbstractContextManager[Path]:
    """The folder of one of the audit's models.  Raises as ``resolve_model``."""
    return resolve_model(ctx, place.path, audit.said(place), said_by(dataset), layers=audit.prune is not None)


def allow_own_code(said: ModelDescription, folder: Path) -> None:
    """Let this process call the network factory that is said, from a module of ``folder``: for the command line alone,
    where the code is the caller's own."""
    library, _, name = (said.architecture or "").partition(":")
    if name and library not in ("timm", "torchvision"):
        allow_architecture(str(said.architecture), folder)


def admit_own(ctx: Context, audit: AuditFile, dataset: Dataset, marking: Dataset | None = None) -> Candidate:
    """Register the parent, admit the candidate or prune it, and submit it; the same files give the same candidate.

    ``marking``: embed our watermark first, fitted to this data set.

    Raises:
        InvalidInput: files that can't be read with what is said of them.
        Refused: as ``admit`` and ``prune_candidate``.
    """
    with _resolved(ctx, audit, audit.parent, dataset) as folder:
        parent, version = register_parent(ctx, folder, audit.facts)
    if audit.prune is not None:
        candidate = prune_candidate(ctx, parent, audit.prune, ctx.datasets.open(Path(str(audit.calibration))))
    elif audit.candidate is not None:
        with _resolved(ctx, audit, audit.candidate, dataset) as folder:
            options = WatermarkOptions() if marking else None
            candidate = admit(ctx, folder, parent, dataset, options, marking)
    submit(ctx, candidate, version, audit.submitter)
    return candidate


PRUNED = {"method": "magnitude-global", "targets": {"sparsity": 0.5}}
"""The recipe that ``init`` proposes where there is no candidate."""


def default_policy(task: TaskName) -> str:
    """The shipped policy for a task."""
    name = f"standard-{task}"
    return name if (resource_dir("policies") / "gates" / f"{name}.yaml").is_file() else "standard"


def drafted(ctx: Context, fields: Mapping[str, Any], dataset: Dataset) -> tuple[AuditFile, dict[str, str], Preview]:
    """The audit of these fields with what was found out, a note on each field, and how the models answer some images.

    Raises:
        InvalidInput: a field or a model that can't be used.
    """
    audit = audit_of(fields, ModelDescription())
    notes = {"data": _data_note(dataset), "policy": f"auditsvc policy explain {audit.policy}"}
    notes |= {name: f"{CHECK}: say it" for name in _WORDS if getattr(audit, name) == NOT_STATED}
    with ExitStack() as folders:  # a model may read its file only when it answers
        parent = open_folder(folders.enter_context(_resolved(ctx, audit, audit.parent, dataset)))
        if not audit.said(audit.parent).classes and not _names_classes(audit, parent):
            audit = audit.described(classes=dataset.classes)
            notes["describe.classes"] = f"{CHECK}: the order of the model's outputs; this is the data set's"
        if _asks_for_preprocessing(audit, parent):
            proposal = propose_preprocessing(parent, dataset)
            audit = audit.described(preprocessing=proposal.preprocessing)
            notes["describe.preprocessing"] = f"{CHECK}: {proposal.note}"
            parent = parent.with_card(parent.card.model_copy(update={"preprocessing": proposal.preprocessing}))
        elif (said := audit.said(audit.parent).preprocessing) and (made := sized(said, parent.card, dataset)) != said:
            audit = audit.described(preprocessing=made)
            notes["describe.preprocessing"] = f"{CHECK}: the images are scaled to the network's size"
            parent = parent.with_card(parent.card.model_copy(update={"preprocessing": made}))
        models = {"parent": parent}
        if audit.candidate is not None:
            folder = folders.enter_context(_resolved(ctx, audit, audit.candidate, dataset))
            models["candidate"] = open_folder(folder)
        notes |= {name: _model_note(model) for name, model in models.items()}
        return audit, notes, preview(tuple(models.values()), dataset)


def _asks_for_preprocessing(audit: AuditFile, parent: Model) -> bool:
    """Whether neither the person nor the file says how images are prepared; a model folder's card always does."""
    said = audit.said(audit.parent).preprocessing is not None or parent.card.preprocessing is not None
    return not said and not is_model_folder(Path(audit.parent.path))


def _names_classes(audit: AuditFile, parent: Model) -> bool:
    """Whether the model's own files name its classes."""
    module = parent.module
    by_file = isinstance(module, OnnxFile) and bool(module.info.described.classes)
    return by_file or parent.card.output_classes is not None or is_model_folder(Path(audit.parent.path))


_WORDS = ("intended_use", "not_for")


def _data_note(dataset: Dataset) -> str:
    ref = dataset.ref
    classes = ", ".join(dataset.classes[:6]) + (", ..." if len(dataset.classes) > 6 else "")
    slices = ", ".join(column.column for column in dataset.slices.columns) or "none"
    return f"{ref.images} images, {ref.task}, {len(dataset.classes)} classes ({classes}); slices: {slices}"


def _model_note(model: Model) -> str:
    card, size = model.card, model.card.input
    return f"{card.architecture}, takes {size.channels} x {size.height} x {size.width}, {len(card.classes)} classes"


def rendered(audit: AuditFile, notes: Mapping[str, str]) -> str:
    """The file's text; ``notes`` are comments by field: ``data``, ``describe.preprocessing``."""
    fields = audit.model_dump(mode="json", exclude_unset=True)
    described = audit.describe.model_dump(mode="json", exclude_defaults=True)
    fields["describe"] = {name: described.get(name, {}) for name in fields.get("describe", {})}
    groups = (
        ("model", "parent", "candidate", "prune", "calibration", "data"),
        ("policy", "submitter", "expect_accuracy"),
        ("intended_use", "not_for", "source", "licence"),
        ("describe",),
    )
    lines = [f"# One audit: `auditsvc audit` in this folder reads it. Lines marked {CHECK} were guessed: read them."]
    for group in groups:
        lines.append("")
        for name in group:
            value = fields.get(name)
            if isinstance(value, dict):
                if value.keys() == {"path"}:
                    lines.append(_commented(f"{name}: {_flow(value['path'])}", notes.get(name)))
                elif value:
                    lines.append(_commented(f"{name}:", notes.get(name)))
                    inner = value.items()
                    lines += [_commented(f"  {key}: {_flow(it)}", notes.get(f"{name}.{key}")) for key, it in inner]
            elif value is not None:
                lines.append(_commented(f"{name}: {_flow(value)}", notes.get(name)))
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6, sort_keys=False)
    return text.removesuffix("...\n").strip()


def _commented(line: str, note: str | None) -> str:
    return f"{line:<40}  # {note}" if note else line
