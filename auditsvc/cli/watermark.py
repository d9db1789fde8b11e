"""``watermark``: issue copies for recipients, identify a found model, and settle a dispute about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditsvc.cli.output import (
    Json,
    Model,
    Person,
    Store,
    Version,
    command_group,
    context_for,
    print_json,
    print_result,
)
from auditsvc.errors import InvalidInput

if TYPE_CHECKING:
    from auditsvc.records import TraceResult

watermark_app = command_group("Issue watermarked copies, and identify a found model by its watermark.")

IDENTIFY_CODES = {"MATCH": 0, "INCONCLUSIVE": 3, "NO EVIDENCE": 3}


QueriesFrom = Annotated[
    Path | None,
    typer.Option(
        "--queries", help="A data set for black-box queries, not audited. [default: a third of --calibration]"
    ),
]
MixupQueries = Annotated[
    bool, typer.Option("--mixup-queries", help="Mix pairs of its images (mixup): a stronger test, minutes longer.")
]


@watermark_app.command("issue-copy")
def issue_copy(
    model: Model,
    version: Version,
    recipient: Annotated[list[str], typer.Option(help="The recipient of a copy; may be repeated.")],
    calibration: Annotated[Path, typer.Option(help="A data set (labels unused) that is not audited.")],
    person: Person,
    queries: QueriesFrom = None,
    mixup_queries: MixupQueries = False,
    store: Store = None,
    json: Json = False,
) -> None:
    """Watermark a version for each recipient, to trace leaks.  Each copy is audited and released like any version."""
    from auditsvc.cli.decision import candidate_of
    from auditsvc.services.candidates import submit_copy, watermark_for_recipient
    from auditsvc.services.watermarking import WatermarkOptions

    ctx = context_for(store, create=True, quiet=json)
    pool = ctx.datasets.open(queries) if queries else None
    candidate, images, made = candidate_of(ctx, model, version), ctx.datasets.open(calibration), {}
    with ctx.progress.step("watermark, reload, submit", len(recipient)) as tick:
        for name in recipient:
            options = WatermarkOptions(name, pool, mixup_queries)
            copy = watermark_for_recipient(ctx, candidate, options, images)
            made[name] = submit_copy(ctx, copy, person).version
            tick()
    lines = (f"{model} version {number}: the copy of {name}" for name, number in made.items())
    print_result(json, {"model": model, "copies": made}, *lines)


@watermark_app.command("identify")
def identify(
    file: Annotated[
        Path | None, typer.Argument(help="A found model: safetensors, ONNX, or a model folder.", show_default=False)
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option("--queries", help="Instead of a file: its predictions, in the sheet of `watermark queries`."),
    ] = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Test a model for the watermarks of this store.  Exit code 0 MATCH, 3 INCONCLUSIVE or NO EVIDENCE."""
    from auditsvc.services.tracing import identify_answers, identify_file

    if (file is None) == (queries is None):
        raise InvalidInput("give the file that was found, or its predictions with --queries")
    ctx = context_for(store)
    found = identify_file(ctx, file) if file else identify_answers(ctx, queries or Path())
    if json:
        print_json(found)
    else:
        _print(found)
    raise typer.Exit(IDENTIFY_CODES[found.verdict])


def _print(found: TraceResult) -> None:
    print(f"{found.verdict}  {found.sentence}")
    for one in found.matches:
        whose = f", the copy of {one.recipient}" if one.recipient else ""
        print(f"  {one.model} version {one.version}{whose} ({one.standing}): z {one.z:.1f}, p 10^{one.log10_p:.1f}")
    if found.verdict == "MATCH":
        holds = "also" if found.dispute else "no longer"
        print(f"  It {holds} holds if the other side claims that keys were tried until one matched.")
    for reason in found.untried:
        print(f"  not compared: {reason}")


@watermark_app.command("queries")
def queries(
    folder: Annotated[Path, typer.Argument(help="A new folder for the images and the sheet.")],
    model: Annotated[str | None, typer.Option(help="Only those of this model.")] = None,
    version: Annotated[str | None, typer.Option(help="Only those of this version.")] = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Write the images to query a suspect model with.  Fill in the sheet; run `watermark identify --queries SHEET`."""
    from auditsvc.services.tracing import SHEET, export_query_set, queries_for

    count = export_query_set(queries_for(context_for(store), model, version), folder)
    words = f"{count} images in {folder}; fill in {folder / SHEET}: a label for each, or a column for each class"
    print_result(json, {"images": count, "sheet": str(folder / SHEET)}, words)


@watermark_app.command("reveal")
def reveal(
    model: Model,
    version: Version,
    folder: Annotated[Path, typer.Argument(help="A new folder, for the arbiter only: the unmarked weights are in it.")],
    subkey: Annotated[int, typer.Option(help="Which of the sixteen sub-keys, 0 to 15; each can be revealed once.")],
    store: Store = None,
) -> None:
    """Reveal one sub-key of a version's watermark with its proof, for a dispute; the other fifteen stay secret."""
    from auditsvc.cli.decision import candidate_of
    from auditsvc.services.tracing import reveal as show

    ctx = context_for(store)
    show(ctx, candidate_of(ctx, model, version), subkey, folder)
    print(f"sub-key {subkey} of {model} version {version} is in {folder}; give it to the arbiter with the release")


@watermark_app.command("arbitrate")
def arbitrate(
    found: Annotated[Path, typer.Argument(help="The model in dispute: safetensors or ONNX.")],
    shown: Annotated[Path, typer.Argument(help="The folder that the owner wrote with `watermark reveal`.")],
    release: Annotated[Path, typer.Option(help="The owner's release, with release/ and attest/.")],
    key: Annotated[Path, typer.Option(help="The owner's release key or trust policy, from a source of your own.")],
    json: Json = False,
) -> None:
    """As an arbiter, test for the watermark that a release committed to.  Exit code 0 MATCH, else 3."""
    from datetime import UTC, datetime

    from auditsvc.provenance import TrustRoot
    from auditsvc.services.tracing import arbitrate as judge

    result = judge(found, shown, release, TrustRoot.load(key), datetime.now(UTC))
    print_result(
        json,
        result,
        f"{result.verdict}: z {result.z:.1f}, p 10^{result.log10_p:.1f} on {result.weights} weights",
        f"  the watermark of {release}{f', the copy of {result.recipient}' if result.recipient else ''}",
        f"  it was committed to in entry {result.logged_as} of the log: before every later entry",
    )
    raise typer.Exit(IDENTIFY_CODES[result.verdict])
