"""token, event, device: what a person settles while the bridge runs."""

from datetime import UTC, datetime
from pathlib import Path

import click

from bridge.cli.common import command, say, table
from bridge.config import read_settings
from bridge.errors import BridgeError
from bridge.model import Document
from bridge.notation import from_millis, write_time
from bridge.store import access, devices, event_rows
from bridge.store.files import beside
from bridge.store.sqlite import rows

RECENT = 100


@click.group()
def token() -> None:
    """Bearer tokens for the admin endpoint."""


@click.group()
def event() -> None:
    """Events as they are kept."""


@click.group()
def device() -> None:
    """Devices and what they are owed."""


def _store(config: Path) -> Path:
    return read_settings(config, files=False).store.path


def _time(stamp: int | None) -> str | None:
    return write_time(from_millis(stamp)) if stamp is not None else None


@command(token, "create", example="openadr-bridge token create laptop --scope read")
@click.argument("name")
@click.option("--scope", type=click.Choice(access.SCOPES), default="read", show_default=True)
def create(name: str, scope: str, config: Path, as_json: bool) -> None:
    """Make a token. It is shown this once; only its hash is kept."""
    with beside(_store(config)) as db:
        made = access.new_token(db, name, scope, datetime.now(UTC))
    say({"token": made}, made, as_json=as_json)


@command(token, "list", example="openadr-bridge token list")
def list_tokens(config: Path, as_json: bool) -> None:
    """List tokens by name; nothing secret is shown."""
    with beside(_store(config)) as db:
        found = access.list_tokens(db)
    shown = [{**r, "created": _time(r["created"]), "revoked": _time(r["revoked"])} for r in found]
    say(shown, table(shown, ("name", "scope", "created", "revoked")), as_json=as_json)


@command(token, "revoke", example="openadr-bridge token revoke laptop")
@click.argument("name")
def revoke(name: str, config: Path, as_json: bool) -> None:
    """Revoke a token; it is refused from then on."""
    with beside(_store(config)) as db:
        if not access.revoke_token(db, name, datetime.now(UTC)):
            raise BridgeError(f"there is no token named {name!r}; `token list` shows them")
    say({"revoked": name}, f"{name}: revoked", as_json=as_json)


@command(event, "list", example="openadr-bridge event list")
def list_events(config: Path, as_json: bool) -> None:
    """List events that are not over, and how they are answered."""
    now = datetime.now(UTC)
    with beside(_store(config)) as db:
        found = event_rows.event_rows(
            db,
            "e.active_to > ? ORDER BY e.active_from LIMIT ?",
            (int(now.timestamp() * 1000), RECENT),
        )
    shown: list[Document] = [
        {
            "id": e.id, "program": e.program, "source": e.source, "event": e.name,
            "start": write_time(e.start), "end": write_time(e.end),
            "opt": e.opt or "undecided", "cancelled": e.cancelled,
        }
        for e in found
    ]  # fmt: skip
    columns = ("id", "program", "source", "event", "start", "end", "opt", "cancelled")
    say(shown, table(shown, columns), as_json=as_json)


@command(event, "opt", example="openadr-bridge event opt 6a5e… optOut")
@click.argument("event_id")
@click.argument("opt", type=click.Choice(["optIn", "optOut"]))
def opt(event_id: str, opt: str, config: Path, as_json: bool) -> None:
    """Answer an event: take part in it or not. The utility is told by the running bridge."""
    with beside(_store(config)) as db:
        found = event_rows.set_opt(
            db, event_id, "optIn" if opt == "optIn" else "optOut", datetime.now(UTC), by="person"
        )
    if found is None:
        raise BridgeError(f"there is no event {event_id!r}; `event list` shows their ids")
    say({"id": event_id, "opt": opt}, f"{found.name}: {opt}", as_json=as_json)


@command(device, "list", example="openadr-bridge device list")
def list_devices(config: Path, as_json: bool) -> None:
    """List devices with what each is owed and how it did last."""
    with beside(_store(config)) as db:
        found = rows(db, devices.LIST)
    shown = [
        {**{k: r[k] for k in ("name", "kind", "owed", "disabled", "last_problem")},
         "last_success": _time(r["last_success"])}
        for r in found
    ]  # fmt: skip
    columns = ("name", "kind", "owed", "last_success", "last_problem", "disabled")
    say(shown, table(shown, columns), as_json=as_json)


@command(device, "enable", example="openadr-bridge device enable heatpump")
@click.argument("name")
def enable(name: str, config: Path, as_json: bool) -> None:
    """Send again to a device that was disabled because it answered 410."""
    with beside(_store(config)) as db:
        if not devices.enable(db, name, datetime.now(UTC)):
            raise BridgeError(f"there is no device {name!r}; `device list` shows them")
    say({"enabled": name}, f"{name}: enabled", as_json=as_json)
