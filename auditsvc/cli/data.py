"""``data``: what a data set is, whether it can be used, what was made with it, and the same in the native format."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditsvc.cli.output import (
    Json,
    ModelName,
    Person,
    Store,
    command_group,
    context_for,
    print_json,
    print_result,
)
from auditsvc.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from auditsvc.datasets.image_dataset import Content

data_app = command_group("Check a data set, and convert it to the native format.")
Data = Annotated[Path, typer.Argument(help="A folder or file of any format that is read, or its s3:// address.")]


@data_app.command()
def check(
    data: Data,
    against: Annotated[
        list[Path] | None,
        typer.Option(help="Another data set, for instance of training images: what is in both."),
    ] = None,
    target: Annotated[
        Path | None, typer.Option(help="A CSV table of the shares that groups should have: attributes and `share`.")
    ] = None,
    review: Annotated[Path | None, typer.Option(help="Write the images to review to this CSV file.")] = None,
    json: Json = False,
) -> None:
    """Describe a data set: format, classes, slices, everything that reading changed, assumed or left out, and quality.

    Quality is copies, images that show nothing, odd sizes, doubtful labels.

    Exit code 2 with every fault, by name and count, if the data set can't be used.
    """
    from auditsvc.adapters.object_references import local_path
    from auditsvc.datasets import recognise
    from auditsvc.datasets.representation import read_target
    from auditsvc.services.data_examination import examine

    reader, why = recognise(local_path(data))
    found = reader.read(local_path(data))
    others = {str(one): recognise(local_path(one))[0].read(local_path(one)) for one in against or ()}
    quality, distance = examine(found, others, read_target(target) if target else None)
    if review:
        review.write_text(quality.table(), "utf-8")
    slices = {name: int(count) for name, count in zip(found.slices.names, _counts(found.slices), strict=True)}
    shape = list(next(found.batches(1)).images.shape[1:])
    if json:
        print_json({
            "format": reader.format, "recognised_by": why.evidence, "data": found.ref.model_dump(mode="json"),
            "classes": list(found.classes), "slices": slices, "shape": shape,
            "quality": quality.model_dump(mode="json"), "representation": distance and asdict(distance),
        })  # fmt: skip
        return
    print(f"{found.ref.name}: {reader.format} (recognised by {why.evidence}), {found.ref.task}")
    print(f"  {found.ref.images} images, channels x height x width {' x '.join(map(str, shape))}")
    print(f"  {len(found.classes)} classes: {', '.join(found.classes[:20])}{', …' if len(found.classes) > 20 else ''}")
    for name, count in slices.items():
        print(f"  {name}: {count} images")
    for note in found.ref.notes or ():
        print(f"  note: {note}")
    for line in quality.lines():
        print(f"  {line}")
    if distance:
        share = f"{100 * distance.distance:.1f} % ({100 * distance.low:.1f} to {100 * distance.high:.1f})"
        print(f"  target: {share} of the images would have to be of other groups; {distance.missing} are missing")
        for cell, (count, missing) in distance.cells.items():
            print(f"    {cell}: {count} images" + (f", {missing} are missing" if missing else ""))


def _counts(slices: Any) -> Any:
    import numpy as np

    return slices.sums(np.ones(slices.images))


@data_app.command()
def convert(
    data: Data,
    folder: Annotated[Path, typer.Argument(help="The folder to write; it must not exist.")],
    size: Annotated[tuple[int, int] | None, typer.Option(help="Scale all images to this height and width.")] = None,
    channels: Annotated[int | None, typer.Option(help="Read all images as grey (1) or RGB (3).")] = None,
    skip_unmatched: Annotated[
        bool, typer.Option("--skip-unmatched", help="Leave out images without a row and rows without an image.")
    ] = False,
    source: Annotated[str | None, typer.Option(help="Where the images come from.")] = None,
    licence: Annotated[str | None, typer.Option(help="What permits their use.")] = None,
    json: Json = False,
) -> None:
    """Write a data set of any format in the native one: dataset.yaml, metadata.csv and copies of the images."""
    from auditsvc.datasets.folder import write_folder

    given = {"size": size, "channels": channels, "source": source, "licence": licence,
             "unmatched": "skip" if skip_unmatched else None}  # fmt: skip
    changes = {name: value for name, value in given.items() if value is not None}
    try:
        content = _content(data).described(**changes)
    except ValueError as error:
        raise InvalidInput(f"the options do not fit: {error}") from error
    written = write_folder(content, folder)
    print_result(
        json, {"written": str(written)}, f"wrote {written}; check source, licence and the order of its classes"
    )


@data_app.command()
def used(
    data: Data,
    model: ModelName,
    person: Person,
    version: Annotated[str | None, typer.Option(help="A candidate's version. [default: the model's parents]")] = None,
    purpose: Annotated[str, typer.Option("--for", help="training, recovery or calibration.")] = "training",
    store: Store = None,
    json: Json = False,
) -> None:
    """Record that images made a model: an audit of it refuses them, and nearly equal ones, from then on."""
    from auditsvc.cli.decision import candidate_of
    from auditsvc.records import Parent
    from auditsvc.services.holdout import purpose_named, record_images_seen

    chosen, ctx = purpose_named(purpose), context_for(store, create=True, quiet=json)
    made = [candidate_of(ctx, model, version)] if version else ctx.ledger.find(Parent, model)
    if not made:
        raise NotFound(f"the model {model} is not registered; register its parent first")
    dataset = ctx.datasets.open(data)
    for one in made:
        record_images_seen(ctx, one.digest, dataset, chosen, person)
    digests = [one.digest for one in made]
    words = f"{dataset.ref.images} images of {dataset.ref.name} were used for {purpose} of {', '.join(digests)}"
    print_result(json, {"data": dataset.ref.digest, "purpose": purpose, "models": digests}, words)


def _content(data: Path) -> Content:
    from auditsvc.adapters.object_references import local_path
    from auditsvc.datasets import recognise
    from auditsvc.datasets.image_dataset import ContentReader

    data = local_path(data)
    reader, _ = recognise(data)
    if not isinstance(reader, ContentReader):
        raise InvalidInput(f"the reader {reader.format} of a plug-in does not say what it found; it can't be converted")
    return reader.content(data)


@data_app.command()
def card(
    data: Data,
    written: Annotated[
        Path | None, typer.Option("--from", help="Record this card: a YAML file, or Croissant in JSON.")
    ] = None,
    person: Annotated[str | None, typer.Option("--as", help="Your name; a card names who wrote it.")] = None,
    store: Store = None,
) -> None:
    """Print the card of a data set as Croissant 1.1, or record one with --from.

    Collection, annotation, gaps, uses and retention; source and licence are those of dataset.yaml.
    """
    from auditsvc.services.data_cards import card_from, card_of, croissant_text, write_card

    ctx = context_for(store, create=written is not None, quiet=True)
    dataset = ctx.datasets.open(data)
    if written and not person:
        raise InvalidInput("a card names who wrote it: give your name with --as")
    made = write_card(ctx, dataset, card_from(written), person or "") if written else card_of(ctx, dataset.ref.digest)
    print(croissant_text(made), end="")


@data_app.command()
def consent(
    data: Data,
    person: Person,
    basis: Annotated[str, typer.Option(help="Why the images may be used, or why no more.")],
    image: Annotated[list[str] | None, typer.Option(help="The name of an image. Repeatable.")] = None,
    subject: Annotated[
        list[str] | None, typer.Option(help="COLUMN=VALUE of the declared cluster: patient=p12. Repeatable.")
    ] = None,
    purpose: Annotated[str | None, typer.Option(help="What the images may be used for.")] = None,
    until: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The last day.")] = None,
    withdrawn: Annotated[bool, typer.Option("--withdrawn", help="The consent was withdrawn.")] = False,
    store: Store = None,
    json: Json = False,
) -> None:
    """Record the consent for images or subjects, or its withdrawal, and list what rests on withdrawn ones.

    Audits refuse images whose consent ended, and decisions that rest on them are blocked by an objection.
    """
    from auditsvc.services.data_cards import consents_for, record_consents

    ctx = context_for(store, create=True, quiet=json)
    of = consents_for(ctx.datasets.open(data), ctx, image or (), subject or ())
    day = until.date() if until else None
    found = record_consents(ctx, of, person, basis=basis, purpose=purpose, until=day, withdrawn=withdrawn)
    lines = [f"{'withdrew' if withdrawn else 'recorded'} the consent of {', '.join(of)}"]
    lines += [f"{count} images of {name}" for name, count in found.datasets.items()]
    lines += [f"release {one} rests on them: revoke it or roll back, and audit again" for one in found.releases]
    lines += [f"blocked the decision {one}" for one in found.objected]
    lines += [f"{one} was made with them" for one in found.models]
    print_result(json, {"consents": list(of), **found.model_dump(mode="json")}, *lines)
