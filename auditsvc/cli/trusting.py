"""``trust`` and ``log``: what is told to those who verify elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from auditsvc.cli.options import Json, Store, settings_for
from auditsvc.cli.output import print_json

if TYPE_CHECKING:
    from auditsvc.ports import Ports

trust_app = typer.Typer(
    help="Whom readers are to trust, and what was recalled.", no_args_is_help=True, rich_markup_mode=None
)
log_app = typer.Typer(help="The transparency log.", no_args_is_help=True, rich_markup_mode=None)


def _ports(store: Path | None) -> Ports:
    """The ports without registry and data sets: neither torch nor MLflow is needed here."""
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


@trust_app.command("publish")
def publish(
    out: Annotated[Path | None, typer.Option(help="The folder. [default: trust in the store]")] = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Publish whom to trust and all recalls (TUF), at least once a day; copy the folder to where readers find it."""
    from auditsvc.pipeline.trusting import publish as tell
    from auditsvc.pipeline.trusting import trust_folder

    ports = _ports(store)
    folder = out or trust_folder(ports)
    recalls = tell(ports, folder)
    if json:
        print_json({"folder": str(folder), "recalls": len(recalls.recalls)})
    else:
        print(f"published {folder} with {len(recalls.recalls)} recalls; it counts for a day")


@trust_app.command("show")
def show(store: Store = None) -> None:
    """Print the trust policy: every public key, what it may sign, the log, witnesses and time stamps."""
    from auditsvc.pipeline.sealed import trust_of

    print(trust_of(_ports(store)).to_json().decode())


@log_app.command("checkpoint")
def checkpoint(store: Store = None) -> None:
    """Print the log's signed checkpoint: keep it somewhere else, and the log can't be rewritten unseen."""
    from auditsvc.pipeline.sealed import published

    print(published(_ports(store)).current(), end="")


@log_app.command("key")
def key(store: Store = None) -> None:
    """Print the key (`vkey`) under which witnesses and readers follow this log."""
    from auditsvc.pipeline.sealed import trust_of

    log = trust_of(_ports(store)).log
    print(log.vkey if log else "")
