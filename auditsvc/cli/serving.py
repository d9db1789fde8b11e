"""``serve``: the API on the same store."""

from __future__ import annotations

from typing import Annotated

import typer

from auditsvc.cli.options import Store, settings_for


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to bind to. [default: 127.0.0.1]", show_default=False)
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind to. [default: 8600]", show_default=False)] = None,
    store: Store = None,
) -> None:
    """Start the API: GET /v1/gate, /healthz, and the OpenAPI page at /docs."""
    from auditsvc.api.serving import run

    settings = settings_for(store)
    run(settings, host or settings.host, port or settings.port)
