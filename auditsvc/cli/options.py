"""Options that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from auditsvc.settings import Settings

if TYPE_CHECKING:
    from auditsvc.ports import Ports

Store = Annotated[
    Path | None,
    typer.Option(help="The store's folder. [default: $AUDITSVC_STORE or ./auditsvc-store]", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output instead of words.")]
Model = Annotated[str, typer.Argument(help="The model's name in the registry.")]
Version = Annotated[str, typer.Argument(help="The version in the registry.")]
PolicyName = Annotated[str, typer.Option("--policy", help="A policy file, or a shipped one by name.")]
ModelName = Annotated[str, typer.Option("--model", help="The model's name in the registry.")]
Source = Annotated[str, typer.Option(help="Where the parent comes from.")]
Licence = Annotated[str, typer.Option(help="The parent's licence.")]
Person = Annotated[str, typer.Option("--as", help="Your name, as it is to stand in the ledger.")]


def settings_for(store: Path | None) -> Settings:
    """The settings, with the store that was named."""
    return Settings(store=store.absolute()) if store else Settings()


def ports_for(store: Path | None, *, quiet: bool) -> Ports:
    """All ports, with progress on the terminal unless the answer is wanted as JSON."""
    from auditsvc.adapters.console import ConsoleProgress, NoProgress
    from auditsvc.bootstrap import open_ports

    return open_ports(settings_for(store), NoProgress() if quiet else ConsoleProgress())


def checking_ports(store: Path | None) -> Ports:
    """The ports without registry and data sets, for what only reads and signs: MLflow is not imported.

    Raises:
        Unavailable: there is no store yet.
    """
    from auditsvc.adapters.blobs import FileBlobs
    from auditsvc.adapters.console import NoProgress
    from auditsvc.bootstrap import SystemClock, open_keys, open_ledger, open_notaries
    from auditsvc.ports import Datasets, Ports, Registry

    settings = settings_for(store)
    ledger = open_ledger(settings)
    return Ports(
        ledger=ledger,
        log=ledger,
        blobs=FileBlobs(settings.store / "blobs"),
        registry=cast(Registry, None),
        datasets=cast(Datasets, None),
        keys=open_keys(settings),
        clock=SystemClock(),
        progress=NoProgress(),
        folder=settings.store,
        **open_notaries(settings, ledger),
    )
