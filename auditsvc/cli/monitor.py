"""``monitor``: a look at a release in use, with newer images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from auditsvc.cli.output import Json, Model, Person, Store, context_for, print_json
from auditsvc.errors import NotFound

EXIT_CODES = {"steady": 0, "worse": 1, "unknown": 3}

_WORDS = {
    "steady": "steady",
    "worse": "worse than its audit, or than its policy allows",
    "unknown": "too few images to tell",
}


def monitor(
    model: Model,
    data: Annotated[Path, typer.Option(help="Newer images with their answers: a data set folder.")],
    person: Person,
    version: Annotated[str | None, typer.Option(help="A released version. [default: the one in use]")] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="The data set of the audit, to tell how far the newer images are from it.")
    ] = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Look at a release in use: do its files verify, does its policy hold on newer images, what fell?

    Exit code 0: steady, 1: worse, 3: too few images to tell.  It moves nothing: people roll back or revoke.
    """
    from auditsvc.records import Release
    from auditsvc.services.alias import ALIAS, alias_target
    from auditsvc.services.monitoring import monitor as look

    ctx = context_for(store, create=True, quiet=json)
    meant = version or alias_target(ctx.ledger, model, ctx.registry.aliased(model, ALIAS))
    known = ctx.ledger.find(Release, f"{model}/{meant}")
    if not known:
        raise NotFound(f"{model} version {meant} was never released" if meant else f"no version of {model} is in use")
    dataset = ctx.datasets.open(data)
    made = look(ctx, known[-1], dataset, person, baseline=ctx.datasets.open(baseline) if baseline else None)
    if json:
        print_json(made)
    else:
        print(f"{model} version {meant}, {dataset.ref.images} images of {dataset.ref.name}: {_WORDS[made.outcome]}")
        for reason in made.reasons:
            print(f"  {reason}")
        if made.distance and made.distance.p is not None:
            print(f"  chance that images lie so far from the audit's, as the parent sees them: {made.distance.p:.3g}")
    raise typer.Exit(EXIT_CODES[made.outcome])
