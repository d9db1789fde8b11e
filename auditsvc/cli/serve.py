"""``serve``: the API on the same store."""

from __future__ import annotations

from typing import Annotated

import typer

from auditsvc.cli.output import Store, settings_for


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to bind to. [default: 127.0.0.1]", show_default=False)
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind to. [default: 8600]", show_default=False)] = None,
    store: Store = None,
    admin_token: Annotated[bool, typer.Option("--admin-token", help="Make and show a new admin token.")] = False,
) -> None:
    """Start the API and its pages: GET /v1/gate, /docs.  The first start shows an admin token, once."""
    from auditsvc.web.app import run

    settings = settings_for(store)
    run(settings, host or settings.host, port or settings.port, new_admin_token=admin_token)
