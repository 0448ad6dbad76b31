"""`semblance serve`: the HTTP API and the search page."""

import logging
import sys
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
    data: options.Data = None,
) -> None:
    """Serve the HTTP API and the search page until Ctrl-C."""
    from api.server import serve as run_server

    settings = options.settings_for(data, host=host, port=port)
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    if settings.log_level != "debug":
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # it tells of every kernel it tries
    run_server(settings, ready=lambda address: note(f"Semblance is at {address} (Ctrl-C stops it)"))
