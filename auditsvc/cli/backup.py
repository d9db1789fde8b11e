"""``backup``: a copy of the store that can be put in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from auditsvc.cli.output import Json, Store, print_json, settings_for


def backup(
    folder: Annotated[Path, typer.Argument(help="A new folder for the copy.")],
    store: Store = None,
    json: Json = False,
) -> None:
    """Copy the store while the service runs.  Databases elsewhere and object storage are copied by their own tools.

    To restore, stop the service, put the copy in the store's place, and start it: it refuses to sign if its log was
    published further than the copy goes.
    """
    from auditsvc.adapters.backup import back_up

    settings = settings_for(store)
    settings = settings.for_project(settings.project)
    copied = back_up(settings.store, folder.absolute())
    elsewhere = [name for name, url in _urls(settings.ledger_url, settings.mlflow_uri, settings.blobs_url) if url]
    if json:
        print_json({"backup": str(folder.absolute()), "copied": list(copied), "elsewhere": elsewhere})
        return
    print(f"copied to {folder}: {', '.join(copied)}")
    if elsewhere:
        print(f"not copied, as they are elsewhere: {', '.join(elsewhere)}; back up the ledger before the files")


def _urls(ledger: str, mlflow: str, blobs: str) -> tuple[tuple[str, str], ...]:
    return ("the ledger", ledger), ("MLflow", mlflow), ("the files", blobs)
