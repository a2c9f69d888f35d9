"""client: who may connect as an OpenADR 3 client."""

from datetime import UTC, datetime
from pathlib import Path

import click

from bridge.cli.common import command, say, table
from bridge.config import read_settings
from bridge.errors import BridgeError
from bridge.model import Document
from bridge.notation import from_millis, write_time
from bridge.store import clients
from bridge.store.files import beside


@click.group()
def client() -> None:
    """OpenADR clients: devices (VENs) and business logic."""


def _store(config: Path) -> Path:
    return read_settings(config, files=False).store.path


@command(client, "add", example="openadr-bridge client add battery --role ven")
@click.argument("client_id")
@click.option("--role", type=click.Choice(list(clients.ROLES)), required=True,
              help="bl writes programs and events; ven reads them and reports.")  # fmt: skip
@click.option("--scope", "scopes", multiple=True, help="What it may do beside its role.")
@click.option("--secret-file", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="A file with a secret of your own; else one is made.")  # fmt: skip
def add(
    client_id: str, role: str, scopes: tuple[str, ...], secret_file: Path | None,
    config: Path, as_json: bool,
) -> None:  # fmt: skip
    """Add a client. Its secret is shown this once; only a hash of it is kept."""
    if not 1 <= len(client_id) <= 128 or not client_id.isprintable() or ":" in client_id:
        raise BridgeError(f"{client_id!r} cannot be an id: 1 to 128 characters without a colon")
    granted = clients.scopes_of(role, scopes)
    if unknown := set(granted) - set(clients.SCOPES):
        raise BridgeError(
            f"there is no scope {min(unknown)!r}; there are: {', '.join(clients.SCOPES)}"
        )
    secret = secret_file.read_text().strip() if secret_file else None
    if secret_file and not secret:
        raise BridgeError(f"{secret_file}: is empty; it should hold a secret")
    with beside(_store(config)) as db:
        made = clients.add(db, client_id, granted, secret, datetime.now(UTC))
    say({"client_id": client_id, "client_secret": made}, f"{client_id}\n{made}", as_json=as_json)


@command(client, "list", example="openadr-bridge client list")
def list_clients(config: Path, as_json: bool) -> None:
    """List clients by id; nothing secret is shown."""
    with beside(_store(config)) as db:
        found = clients.listing(db)
    shown = [
        {
            "id": r["id"],
            "scopes": " ".join(r["scopes"]),
            "in_settings": r["settled"],
            "created": write_time(from_millis(r["created"])),
            "revoked": write_time(from_millis(r["revoked"])) if r["revoked"] else None,
        }
        for r in found
    ]
    columns = ("id", "scopes", "in_settings", "created", "revoked")
    say(shown, table(shown, columns), as_json=as_json)


@command(client, "renew", example="openadr-bridge client renew battery")
@click.argument("client_id")
def renew(client_id: str, config: Path, as_json: bool) -> None:
    """Give a client another secret: the former one, and tokens it was traded for, are void."""
    with beside(_store(config)) as db:
        _not_settled(clients.find(db, client_id))
        made = clients.renew(db, client_id, None, datetime.now(UTC))
    if made is None:
        raise BridgeError(f"there is no client {client_id!r}; `client list` shows them")
    say({"client_id": client_id, "client_secret": made}, f"{client_id}\n{made}", as_json=as_json)


def _not_settled(kept: Document | None) -> None:
    if kept and kept["settled"]:
        raise BridgeError(f"{kept['id']!r} stands in the settings; change it there")


@command(client, "revoke", example="openadr-bridge client revoke battery")
@click.argument("client_id")
def revoke(client_id: str, config: Path, as_json: bool) -> None:
    """Revoke a client: its tokens are refused, and its subscriptions told nothing, from now on."""
    with beside(_store(config)) as db:
        _not_settled(clients.find(db, client_id))
        if not clients.revoke(db, client_id, datetime.now(UTC)):
            raise BridgeError(f"there is no client {client_id!r}; `client list` shows them")
    say({"revoked": client_id}, f"{client_id}: revoked", as_json=as_json)
