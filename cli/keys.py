"""`semblance keys`: who may use the server: make, list and revoke API keys of a data folder."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli import options
from cli.output import note, repaired, say, say_json, say_table

if TYPE_CHECKING:
    from api.keys import ApiKey, KeyRing

app = typer.Typer(help="Make, list and revoke the API keys of a data folder.", no_args_is_help=True)


@app.command("create")
def create(  # noqa: PLR0913, PLR0917  one parameter per option
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who or what uses the key; shown in the list and in the audit log.")],
    scope: Annotated[
        str, typer.Option("--scope", metavar="SCOPE", help="read, write (includes read) or admin (includes both).")
    ] = "read",
    collection: Annotated[
        list[str] | None,
        typer.Option("--collection", "-c", metavar="NAME", help="Only this one; repeatable.  (default: all)"),
    ] = None,
    days: Annotated[float | None, typer.Option("--days", metavar="N", help="Expire after so many days.  (default: never)")] = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", metavar="N", help="Requests a second of this key.  (default: SEMBLANCE_RATE_LIMIT)"),
    ] = None,
    data: options.Data = None,
    json: options.Json = False,
) -> None:
    """Make a key and print it. It is shown this once: only a digest of it is stored."""
    from api.keys import KeyRequest

    request = KeyRequest(repaired(name), scope, tuple(collection or ()), days, rate)
    key, text = _ring(data).create(request)
    if json:
        say_json({"key": text, **_shown(key)})
        return
    say(text)
    note(f"key {key.id} ({key.scope}, {_reach(key)}): keep it now, it is not shown again; `semblance keys revoke {key.id}` ends it")


@app.command("list")
def list_keys(data: options.Data = None, json: options.Json = False) -> None:
    """List the keys, the oldest first; their secrets are not known any more."""
    keys = _ring(data).all()
    if json:
        say_json({"keys": [_shown(key) for key in keys]})
    elif keys:
        rows = [(key.id, key.name, key.scope, _reach(key), key.created, key.expires or "never") for key in keys]
        say_table(("id", "name", "scope", "collections", "created", "expires"), rows)
    else:
        note("no key yet: semblance keys create NAME --scope read")


@app.command("revoke")
def revoke(
    id: Annotated[str, typer.Argument(metavar="ID", help="The id of the key, as `semblance keys list` shows it.")],
    data: options.Data = None,
) -> None:
    """Revoke a key; running servers refuse it from their next request on."""
    key = _ring(data).revoke(id)
    note(f"revoked {key.id} ({key.name})")


def _ring(data: options.Data) -> "KeyRing":
    from api.keys import KeyRing

    return KeyRing(options.settings_for(data).data)


def _reach(key: "ApiKey") -> str:
    return ", ".join(key.collections) if key.collections else "all collections"


def _shown(key: "ApiKey") -> dict[str, object]:
    from dataclasses import asdict

    return asdict(key)
