"""ven: who may connect as an OpenADR 2.0b client."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from bridge import certificates
from bridge.certificates import as_shown, read_certificate
from bridge.cli.common import command, say, table
from bridge.config import read_settings
from bridge.errors import BridgeError
from bridge.model import Document
from bridge.notation import from_millis, write_time
from bridge.store import vens
from bridge.store.files import beside


@click.group()
def ven() -> None:
    """OpenADR 2.0b clients (VENs): devices that connect with a certificate."""


def _store(config: Path) -> Path:
    return read_settings(config, files=False).store.path


def _by_certificate(work: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which certificate."""
    for option in (
        click.option("--days", type=click.IntRange(1, 36500), default=365, show_default=True,
                     help="How long it is valid."),
        click.option("--rsa/--ec", default=False, help="RSA (2048 bits) or EC (P-256) keys."),
        click.option("--ca-key", type=click.Path(path_type=Path),
                     help="The site's CA's key; else that beside the settings' `ca`."),
        click.option("--out", type=click.Path(path_type=Path),
                     help="Where to write; else beside the settings' `ca`."),
        click.option("--issue", is_flag=True, help="Make a key and certificate by the site's CA."),
        click.option("--fingerprint", help="Of the certificate that it has, as its maker says it."),
        click.option("--cert", type=click.Path(path_type=Path), help="Or that certificate itself."),
    ):  # fmt: skip
        work = option(work)
    return work


@command(ven, "add", example="openadr-bridge ven add heater --fingerprint AA:BB:CC:…")
@click.argument("name")
@click.option("--resource", "resources", multiple=True, help="Events may be aimed at it so.")
@click.option("--group", "groups", multiple=True, help="Events may be aimed at it so.")
@click.option("--program", "programs", multiple=True, default=["*"], show_default=True,
              help="Which programs it follows: names or globs.")  # fmt: skip
@click.option("--test-events", is_flag=True, help="It is told of test events, too.")
@click.option("--signed", is_flag=True, help='It signs: with require_signatures = "per-ven".')
@click.option("--ven-id", help="Its venID, where it is not free to be chosen here.")
@_by_certificate
def add(
    name: str, resources: tuple[str, ...], groups: tuple[str, ...], programs: tuple[str, ...],
    test_events: bool, signed: bool, ven_id: str | None, config: Path, as_json: bool, **about: Any,
) -> None:  # fmt: skip
    """Enrol a VEN: it may connect with this certificate, and no other may in its name."""
    with beside(_store(config)) as db:
        vens.check_new(db, name, ven_id, [*resources, *groups, *programs])
        fingerprint, ends, made = _certificate(config, name, about)
        row = vens.add(
            db, name, datetime.now(UTC), fingerprint=fingerprint, ven_id=ven_id,
            resources=resources, groups=groups, programs=programs, test_events=test_events,
            signs=signed, ends=ends,
        )  # fmt: skip
    say({**_shown(row), **made}, _text(row, made), as_json=as_json)


@command(ven, "renew", example="openadr-bridge ven renew heater --issue --out certs/2027")
@click.argument("name")
@_by_certificate
def renew(name: str, config: Path, as_json: bool, **about: Any) -> None:
    """Let a VEN use another certificate: those it has stay valid until they are removed."""
    with beside(_store(config)) as db:
        vens.found(db, name)
        fingerprint, ends, made = _certificate(config, name, about)
        row = vens.renew(db, name, fingerprint, datetime.now(UTC), ends)
    say({**_shown(row), **made}, _text(row, made), as_json=as_json)


@command(ven, "remove", example="openadr-bridge ven remove heater")
@click.argument("name")
@click.option("--fingerprint", help="Take only this certificate of its away.")
def remove(name: str, fingerprint: str | None, config: Path, as_json: bool) -> None:
    """Take a VEN away, or one of its certificates: it can do nothing from now on."""
    with beside(_store(config)) as db:
        vens.remove(db, name, datetime.now(UTC), fingerprint)
    what = f"{name}: certificate removed" if fingerprint else f"{name}: removed"
    say({"removed": name, "fingerprint": fingerprint}, what, as_json=as_json)


@command(ven, "reregister", example="openadr-bridge ven reregister heater")
@click.argument("name")
def reregister(name: str, config: Path, as_json: bool) -> None:
    """Ask a VEN to register again when it polls next: it tells its reports anew then."""
    with beside(_store(config)) as db:
        vens.ask_again(db, name, datetime.now(UTC))
    say({"asked": name}, f"{name}: will be asked when it polls", as_json=as_json)


@command(ven, "deregister", example="openadr-bridge ven deregister heater")
@click.argument("name")
def deregister(name: str, config: Path, as_json: bool) -> None:
    """Tell a VEN when it polls that its registration ends; enrolled still, it may register anew."""
    with beside(_store(config)) as db:
        vens.end_registration(db, name, datetime.now(UTC))
    say({"told": name}, f"{name}: will be told when it polls", as_json=as_json)


@command(ven, "list", example="openadr-bridge ven list")
def list_vens(config: Path, as_json: bool) -> None:
    """List VENs by name."""
    with beside(_store(config)) as db:
        found = [_shown(row) for row in vens.listing(db)]
    rows = [
        {
            **row,
            "registered": "yes" if row["registered"] else "no",
            "certificate": row["certificates"][-1]["fingerprint"] if row["certificates"] else "",
            "ends": (row["certificates"][-1]["not_after"] or "not seen yet")[:10]
            if row["certificates"]
            else "",
        }
        for row in found
    ]
    columns = ("name", "ven_id", "registered", "last_seen", "certificate", "ends")
    say(found, table(rows, columns), as_json=as_json)


@command(ven, "show", example="openadr-bridge ven show heater")
@click.argument("name")
def show(name: str, config: Path, as_json: bool) -> None:
    """Show what is known of a VEN."""
    with beside(_store(config)) as db:
        row = vens.found(db, name)
    say(_shown(row), _text(row, {}), as_json=as_json)


def _certificate(config: Path, name: str, about: Document) -> tuple[str, datetime | None, Document]:
    """Return a certificate's fingerprint, its end where it is known, and what was written."""
    given = [key for key in ("fingerprint", "cert", "issue") if about[key]]
    if len(given) != 1:
        raise BridgeError("write one of --fingerprint F, --cert FILE or --issue")
    if about["fingerprint"]:
        return about["fingerprint"], None, {}
    if about["cert"]:
        found = read_certificate(about["cert"])
        return found.sha256, found.not_after, {}
    section = read_settings(config, files=False).openadr2
    if section is None:
        raise BridgeError(f"{config}: --issue needs [openadr2] with `ca`, the site's CA")
    key = about["ca_key"] or section.ca.with_suffix(".key")
    made = certificates.issue(
        section.ca, key, name, about["out"] or section.ca.parent,
        "rsa" if about["rsa"] else "ec", about["days"],
    )  # fmt: skip
    key_file = made.path.with_name(f"{name}.key")
    return made.sha256, made.not_after, {"cert": str(made.path), "key": str(key_file)}


def _shown(row: Document) -> Document:
    return {
        "name": row["name"],
        "ven_id": row["ven_id"],
        "registered": row["registration_id"] is not None,
        "last_seen": _time(row["heard"]),
        "programs": row["programs"],
        "resources": row["resources"],
        "groups": row["groups"],
        "test_events": row["test_events"],
        "signs": row["signs"],
        "certificates": [as_shown(c) for c in row["certificates"]],
    }


def _text(row: Document, made: Document) -> str:
    shown = _shown(row)
    lines = [f"{shown['name']}: venID {shown['ven_id']}"]
    lines += [f"  {key:13}{', '.join(shown[key])}" for key in ("programs", "resources", "groups")
              if shown[key]]  # fmt: skip
    lines.append(f"  registered   {'yes' if shown['registered'] else 'not yet'}")
    for found in shown["certificates"]:
        ends = f"ends {found['not_after'][:10]}" if found["not_after"] else "not seen yet"
        lines.append(f"  certificate  {found['fingerprint']}  {ends}")
    lines += [f"  {what} written to {path}" for what, path in made.items()]
    return "\n".join(lines)


def _time(stamp: int | None) -> str | None:
    return write_time(from_millis(stamp)) if stamp is not None else None
