"""`semblance mcp`: search as tools for language models, over standard input and output."""

from typing import Annotated

import typer

from cli import options
from cli.failures import usage_error


def mcp(
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="Use this running server. Its key comes from SEMBLANCE_CLIENT_KEY."),
    ] = None,
    data: options.Data = None,
) -> None:
    """Offer search by words and by pictures to programs that speak the Model Context Protocol.

    Such a program starts this command itself and talks to it over standard input and output: either with `--url` or with `--data`.
    """
    if url is not None and data is not None:
        raise usage_error("give either --url (a running server) or --data (a folder to serve from), not both")
    settings = options.settings_for(data)
    try:
        from api.mcp import client_over, mcp_server
    except ModuleNotFoundError as error:
        from engine.errors import MissingExtra

        raise MissingExtra("the Model Context Protocol", "mcp") from error
    if url is None:
        mcp_server(lambda: client_over(settings)).run()
        return
    from api.client import AsyncSemblance

    key = settings.client_key.get_secret_value() if settings.client_key else None
    mcp_server(lambda: AsyncSemblance(url, key=key), url).run()
