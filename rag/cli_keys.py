"""``kvasir keys``: create, list and revoke the keys that a server asks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rag.cli_options import Config, Home, Json

if TYPE_CHECKING:
    from rag.keys import Key, KeyFile

keys = typer.Typer(
    help="API keys: create, list and revoke them. With the first one, servers of this home answer nobody without.",
    rich_markup_mode=None,
)


@keys.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What the key is called in lists.")],
    scope: Annotated[str, typer.Option(help="read, write (and read), or admin (everything).")] = "read",
    collections: Annotated[str, typer.Option(help="Names with commas between, * for all of the tenant.")] = "*",
    tenant: Annotated[str, typer.Option(help="Whose collections it sees; empty: those of the home itself.")] = "",
    rate: Annotated[str, typer.Option(help="The most requests, as in 60/min (s, min, h, day) [no limit].")] = "",
    concurrency: Annotated[int, typer.Option(help="The most requests at once, 0 for no limit.")] = 0,
    expires: Annotated[str, typer.Option(help="90d, 12h, 30m or a date, UTC [never].")] = "",
    home: Home = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make a key and show its secret, this once."""
    from rag.keys import SCOPES, Scope

    wanted: Scope = next((known for known in SCOPES if known == scope), scope)  # type: ignore[arg-type]
    key, secret = _file(home, config).create(
        name,
        wanted,
        collections=[part.strip() for part in collections.split(",") if part.strip()],
        tenant=tenant,
        rate=rate,
        concurrency=concurrency,
        expires=expires,
    )
    if as_json:
        typer.echo(json.dumps(_shown(key) | {"secret": secret}))
        return
    typer.echo(secret)
    typer.echo(f"key {key.name!r} ({key.id}); its secret is shown this once and kept nowhere", err=True)


@keys.command("list")
def list_keys(home: Home = None, config: Config = None, as_json: Json = False) -> None:
    """All keys and what they may do; no secrets."""
    found = _file(home, config).read()
    if as_json:
        typer.echo(json.dumps({"keys": [_shown(key) for key in found]}))
        return
    for key in found:
        typer.echo(_line(key))
    if not found:
        typer.echo("no keys; make one with: kvasir keys create NAME --scope read")


@keys.command("revoke")
def revoke(
    which: Annotated[str, typer.Argument(help="The key's name or id.")], home: Home = None, config: Config = None
) -> None:
    """Take a key away; running servers refuse it within a second."""
    key = _file(home, config).revoke(which)
    typer.echo(f"revoked {key.name!r} ({key.id})")


def _file(home: Path | None, config: Path | None) -> KeyFile:
    from rag.config import load_settings
    from rag.keys import KeyFile

    return KeyFile(load_settings(config, home=home).home)


def _shown(key: Key) -> dict[str, Any]:
    """What a list may show."""
    fields = ("id", "name", "scope", "collections", "tenant", "rate", "concurrency", "created", "expires")
    return {field: getattr(key, field) for field in fields}


def _line(key: Key) -> str:
    limits = [f"tenant {key.tenant}" if key.tenant else "", key.rate, f"{key.concurrency} at once"]
    said = [key.scope, ",".join(key.collections), *limits[: 3 if key.concurrency else 2]]
    until = f"until {key.expires}" if key.expires else ""
    return f"{key.name}  {key.id}  {'  '.join(filter(None, [*said, until]))}"
