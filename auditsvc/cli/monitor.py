"""``monitor``: evaluate a release in use on newer images."""

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
    "unknown": "too few images to decide",
}


def monitor(
    model: Model,
    data: Annotated[Path, typer.Option(help="Newer images with their answers: a data set folder.")],
    person: Person,
    version: Annotated[str | None, typer.Option(help="A released version. [default: the one in use]")] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="The data set of the audit, to measure how far the newer images are from it.")
    ] = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Monitor a release in use: do its files verify, does its policy hold on newer images, which metrics fell?

    Exit code 0: steady, 1: worse, 3: too few images to decide.  It moves no alias: people roll back or revoke.
    """
    from auditsvc.records import Release
    from auditsvc.services.alias import ALIAS, alias_target
    from auditsvc.services.monitoring import monitor as monitor_release

    ctx = context_for(store, create=True, quiet=json)
    chosen = version or alias_target(ctx.ledger, model, ctx.registry.aliased(model, ALIAS))
    known = ctx.ledger.find(Release, f"{model}/{chosen}")
    if not known:
        raise NotFound(f"{model} version {chosen} was never released" if chosen else f"no version of {model} is in use")
    dataset = ctx.datasets.open(data)
    made = monitor_release(ctx, known[-1], dataset, person, baseline=ctx.datasets.open(baseline) if baseline else None)
    if json:
        print_json(made)
    else:
        print(f"{model} version {chosen}, {dataset.ref.images} images of {dataset.ref.name}: {_WORDS[made.outcome]}")
        for reason in made.reasons:
            print(f"  {reason}")
        if made.distance and made.distance.p is not None:
            print(f"  p-value of no shift from the audited images (MMD two-sample test): {made.distance.p:.3g}")
    raise typer.Exit(EXIT_CODES[made.outcome])
