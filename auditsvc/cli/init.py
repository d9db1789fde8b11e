"""``init``: from a model and its data to ``audit.yaml``; ``model check``: what a model file is."""

from __future__ import annotations

import getpass
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditsvc.cli.output import (
    Architecture,
    Classes,
    Confidence,
    ExpectAccuracy,
    Image,
    Json,
    Layout,
    Output,
    Prepared,
    Store,
    context_for,
    described_by,
    print_json,
    print_lines,
)
from auditsvc.errors import Conflict, InvalidInput

if TYPE_CHECKING:
    from auditsvc.datasets import Dataset
    from auditsvc.services.inspection import Preview

LABEL = 15


def _schema(wanted: bool) -> None:
    """Print what audit.yaml may hold."""
    if wanted:
        from auditsvc.services.audit_file import AuditFile

        print_json(AuditFile.model_json_schema())
        raise typer.Exit


def init(
    model: Annotated[str, typer.Option("--model", help="The model to audit: a file, a folder, models:/NAME/VERSION.")],
    data: Annotated[str, typer.Option(help="Labelled images, in any supported format.")],
    parent: Annotated[str | None, typer.Option(help="The dense model that it was pruned from.")] = None,
    calibration: Annotated[
        str | None, typer.Option(help="Without --parent: prune --model here; other images, which are not audited.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The model's name in the registry. [default: the data's]")] = None,
    policy: Annotated[str | None, typer.Option(help="A policy. [default: the shipped one for the task]")] = None,
    person: Annotated[str | None, typer.Option("--as", help="Who submits. [default: your account's name]")] = None,
    intended: Annotated[str | None, typer.Option("--for", help="For whom and for what the model is.")] = None,
    not_for: Annotated[str | None, typer.Option("--not-for", help="What it must not be used for.")] = None,
    architecture: Architecture = None,
    preprocessing: Prepared = None,
    accuracy: ExpectAccuracy = None,
    classes: Classes = None,
    image: Image = None,
    output: Output = None,
    decoding: Layout = None,
    confidence: Confidence = None,
    _: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of audit.yaml.", is_eager=True, callback=_schema)
    ] = False,
    store: Store = None,
    json: Json = False,
) -> None:
    """Inspect a model and its data, write audit.yaml, and show ten predictions.  Nothing is registered."""
    from auditsvc.services.audit_file import NAME, NOT_STATED, PRUNED, default_policy, drafted, rendered
    from auditsvc.services.policies import resolve_policy, slice_dataset

    target = Path(NAME)
    if target.exists():
        raise Conflict(f"there is an {NAME} here; rename or remove it, or run: auditsvc audit")
    if parent is None and calibration is None:
        raise InvalidInput(
            "say what to compare with: --parent MODEL, the dense model; or prune --model here with --calibration DATA, "
            "images that are not audited"
        )
    ctx = context_for(store, create=True, quiet=json)
    dataset = ctx.datasets.open(Path(data))
    described = described_by(
        dataset.ref.task, classes, image, output, decoding, confidence, architecture, preprocessing
    )
    fields: dict[str, Any] = {
        "model": name or _name(dataset.ref.name),
        "parent": parent or model,
        **({"candidate": model} if parent else {"prune": PRUNED, "calibration": calibration}),
        "data": data,
        "policy": policy or default_policy(dataset.ref.task),
        "submitter": person or getpass.getuser(),
        "intended_use": intended or _asked("For whom and for what is the model?", quiet=json),
        "not_for": not_for or _asked("What must it not be used for?", quiet=json),
        "source": NOT_STATED,
        "licence": NOT_STATED,
        **({"expect_accuracy": accuracy} if accuracy is not None else {}),
        **({"describe": described} if described.model_fields_set else {}),
    }
    slice_dataset(resolve_policy(fields["policy"], ctx.ledger), dataset)  # before a model is opened
    audit, notes, shown = drafted(ctx, fields, dataset)
    target.write_text(rendered(audit, notes), "utf-8")
    if json:
        print_json({"file": NAME, "audit": audit.model_dump(mode="json", exclude_unset=True), "notes": notes,
                    "right": [one.model_dump(mode="json") for one in shown.scores]})  # fmt: skip
        return
    _print(notes, shown, dataset)


model_app = typer.Typer(help="Check a model before an audit.", no_args_is_help=True, rich_markup_mode=None)


@model_app.command()
def check(
    model: Annotated[str, typer.Argument(help="A file, a folder, models:/NAME/VERSION.")],
    data: Annotated[Path | None, typer.Option(help="Labelled images: ten predictions are shown.")] = None,
    architecture: Architecture = None,
    preprocessing: Prepared = None,
    classes: Classes = None,
    image: Image = None,
    output: Output = None,
    decoding: Layout = None,
    confidence: Confidence = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Describe a model: format, input, output, classes, preprocessing, ten predictions, and what can't be measured.

    Nothing is registered.  Exit code 2 with every reason, if the model can't be used.
    """
    from auditsvc.services.inspection import inspect_model

    ctx = context_for(store, create=True, quiet=json)
    dataset = ctx.datasets.open(data) if data else None
    task = dataset.ref.task if dataset else None
    said = described_by(task, classes, image, output, decoding, confidence, architecture, preprocessing)
    seen = inspect_model(ctx, model, said, dataset)
    card, shown = seen.model.card if seen.model else None, seen.shown
    if json:
        print_json({
            "format": seen.found.format, "known": seen.found.known.model_dump(mode="json", exclude_unset=True),
            "notes": seen.found.notes, "needed": () if card else seen.found.questions, "output": seen.shape,
            "card": card.model_dump(mode="json", exclude_none=True) if card else None,
            "preprocessing": seen.preprocessing, "unmeasured": seen.unmeasured,
            "right": [one.model_dump(mode="json") for one in shown.scores] if shown else [],
        })  # fmt: skip
        return
    rows = [("model", f"{model}, {seen.found.format}"), *(("", note) for note in seen.found.notes)]
    if card is None:
        rows += [("needed", question) for question in seen.found.questions]
    else:
        size = card.input
        rows += [("input", f"{size.channels} x {size.height} x {size.width}, {seen.preprocessing}"),
                 ("output", f"{' x '.join(map(str, seen.shape))}, {card.task}, {len(card.classes)} classes: "
                            f"{', '.join((card.output_classes or card.classes)[:10])}")]  # fmt: skip
        rows += [("unmeasured", why) for why in seen.unmeasured]
    print_lines((f"{name:<{LABEL}}{text}" for name, text in rows), LABEL)
    if shown and dataset:
        _print_answers(shown, dataset, ("model",))


def _name(text: str) -> str:
    """A name for the registry."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._") or "model"


def _asked(question: str, *, quiet: bool) -> str:
    """The answer of a person at a terminal; nothing waits where there is none."""
    from auditsvc.services.audit_file import NOT_STATED

    if quiet or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return NOT_STATED
    answer: str = typer.prompt(question, default=NOT_STATED)
    return answer


def _print(notes: dict[str, str], shown: Preview, dataset: Dataset) -> None:
    from auditsvc.services.audit_file import CHECK, NAME

    shown_notes = {name.removeprefix("describe."): note.removeprefix(f"{CHECK}: ") for name, note in notes.items()}
    names = ("data", "parent", "candidate", "preprocessing")
    lines = [f"{name:<{LABEL}}{shown_notes[name]}" for name in names if name in shown_notes]
    print_lines(lines, LABEL)
    _print_answers(shown, dataset, ("parent", "candidate")[: len(shown.scores)])
    marked = [name for name, note in notes.items() if note.startswith(CHECK)]
    print_lines([f"wrote {NAME}; read it over" + (f", above all {', '.join(marked)}" if marked else "")])
    print("next: auditsvc audit")


def _print_answers(shown: Preview, dataset: Dataset, who: tuple[str, ...]) -> None:
    """Ten answers next to their targets, and the score of each model."""
    print()
    rows = [("image", "truth", *who)]
    for one in shown.examples:
        wrong = [f"{answer}{'' if score >= 1 else f'  ({score:.2f})' if score > 0 else '  (wrong)'}"
                 for answer, score in zip(one.answers, one.scores, strict=True)]  # fmt: skip
        rows.append((one.image, one.truth, *wrong))
    rows = [tuple(text if len(text) <= _CELL else f"{text[: _CELL - 1]}…" for text in row) for row in rows]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for row in rows:
        print("  " + "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip())
    right = "right" if dataset.ref.task == "classification" else "mean score"
    scores = ", ".join(f"{name} {one.text()}" for name, one in zip(who, shown.scores, strict=True))
    print(f"\n{right} on {shown.scores[0].images} images: {scores}")


_CELL = 40
