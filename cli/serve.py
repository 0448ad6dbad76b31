"""`semblance serve`: the HTTP API and the search page."""

from typing import Annotated

import typer

from cli import options
from cli.output import note


def serve(
    host: Annotated[
        str | None, typer.Option("--host", metavar="ADDRESS", help="Address to bind to.  (default: SEMBLANCE_HOST or 127.0.0.1)")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", "-p", metavar="N", help="Port to bind to, 0 for a free one.  (default: SEMBLANCE_PORT or 8000)"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", help="Processes that serve.  (default: SEMBLANCE_WORKERS or 1)")
    ] = None,
    data: options.Data = None,
) -> None:
    """Serve the HTTP API and the search page until Ctrl-C."""
    from api.logs import configure
    from api.server import serve as run_server

    settings = options.settings_for(data, host=host, port=port, workers=workers)
    configure(settings.log_level, settings.log_format)
    run_server(settings, ready=lambda address: note(f"Semblance is at {address} (Ctrl-C stops it)"))
