"""What commands print: people read lines, programs read one JSON object.

Options that many commands share.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from pydantic import BaseModel

from auditsvc.errors import AuditError, InvalidInput
from auditsvc.settings import Settings

if TYPE_CHECKING:
    from auditsvc.ports import Context


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


def ports_for(store: Path | None, *, quiet: bool) -> Context:
    """All ports, with progress on the terminal unless the answer is wanted as JSON."""
    from auditsvc.adapters.progress_bar import ConsoleProgress, NoProgress
    from auditsvc.bootstrap import open_ports

    return open_ports(settings_for(store), NoProgress() if quiet else ConsoleProgress())


def checking_ports(store: Path | None) -> Context:
    """The ports without registry and data sets, for what only reads and signs: MLflow is not imported.

    Raises:
        Unavailable: there is no store yet.
    """
    from auditsvc.adapters.blobs import FileBlobs
    from auditsvc.adapters.progress_bar import NoProgress
    from auditsvc.bootstrap import SystemClock, open_keys, open_ledger, open_signing_services
    from auditsvc.ports import Context, Datasets, Registry

    settings = settings_for(store)
    ledger = open_ledger(settings)
    return Context(
        ledger=ledger,
        log=ledger,
        blobs=FileBlobs(settings.store / "blobs"),
        registry=cast(Registry, None),
        datasets=cast(Datasets, None),
        keys=open_keys(settings),
        clock=SystemClock(),
        progress=NoProgress(),
        folder=settings.store,
        **open_signing_services(settings, ledger),
    )


def wants_json() -> bool:
    """Whether this call asked for JSON; taken from the arguments, as an error may come before they are parsed."""
    return "--json" in sys.argv


def print_json(value: BaseModel | dict[str, Any]) -> None:
    """One JSON object on standard output."""
    plain = value.model_dump(mode="json", exclude_none=True) if isinstance(value, BaseModel) else value
    print(json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False))


def fail(error: AuditError) -> int:
    """Say what went wrong, for people on standard error, for programs on standard output; the exit code."""
    if wants_json():
        reasons = list(error.reasons) if isinstance(error, InvalidInput) else []
        print_json({"error": {"code": error.code, "message": str(error).split("\n")[0], "reasons": reasons}})
    else:
        print(f"auditsvc: {error}", file=sys.stderr)
    return error.exit_code
