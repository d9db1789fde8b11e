"""``trust`` and ``log``: what is told to those who verify elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from auditsvc.cli.output import Json, Store, context_for, print_json

trust_app = typer.Typer(
    help="Whom readers are to trust, and what was recalled.", no_args_is_help=True, rich_markup_mode=None
)
log_app = typer.Typer(help="The transparency log.", no_args_is_help=True, rich_markup_mode=None)


@trust_app.command("publish")
def publish(
    out: Annotated[Path | None, typer.Option(help="The folder. [default: trust in the store]")] = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Publish whom to trust and all recalls (TUF).  At least once a day; copy the folder to where readers find it."""
    from auditsvc.services.key_rotation import publish as tell
    from auditsvc.services.key_rotation import trust_folder

    ctx = context_for(store)
    folder = out or trust_folder(ctx)
    revocations = tell(ctx, folder)
    if json:
        print_json({"folder": str(folder), "revocations": len(revocations.revocations)})
    else:
        print(f"published {folder} with {len(revocations.revocations)} revocations; it counts for a day")


@trust_app.command("show")
def show(store: Store = None) -> None:
    """Print the trust policy.  Every public key, what it may sign, the log, witnesses and time stamps."""
    from auditsvc.services.signing_context import trust_of

    print(trust_of(context_for(store)).to_json().decode())


@log_app.command("checkpoint")
def checkpoint(store: Store = None) -> None:
    """Print the log's signed checkpoint.  Keep it somewhere else, and the log can't be rewritten unseen."""
    from auditsvc.services.signing_context import checkpoint_store_of

    print(checkpoint_store_of(context_for(store)).current(), end="")


@log_app.command("key")
def key(store: Store = None) -> None:
    """Print the key (vkey) by which others follow this log."""
    from auditsvc.services.signing_context import trust_of

    log = trust_of(context_for(store)).log
    print(log.vkey if log else "")
