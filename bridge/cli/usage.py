"""import greenbutton, export greenbutton, meter, contract: what was measured, and whose it is."""

import asyncio
import sys
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from bridge.cli.common import FAILED, command, say, table
from bridge.cli.prices import importing
from bridge.clock import WallClock
from bridge.config import Settings, read_settings
from bridge.errors import BridgeError
from bridge.intake import Taken, take_in
from bridge.model import Document
from bridge.notation import read_time, write_time
from bridge.store import contracts, open_store
from bridge.store.files import beside
from bridge.usage import Contract, UsageQuestion
from bridge.vtn.export import green_button


@click.group(name="export")
def exporting() -> None:
    """Write what is known into files."""


@click.group()
def meter() -> None:
    """Meters: which there are, and what they measure."""


@click.group()
def contract() -> None:
    """Keep customers' contracts: which meters count, and which clients may see them."""


def _store(config: Path) -> Path:
    return read_settings(config, files=False).store.path


def _named(_: click.Context, __: click.Parameter, meter: str | None) -> str | None:
    if meter is not None and not (meter.strip() and meter.isprintable() and len(meter) <= 256):
        raise click.BadParameter("write a name of at most 256 letters, in one line")
    return meter


@command(importing, "greenbutton", example="openadr-bridge import greenbutton download.xml")
@click.argument("files", nargs=-1, required=True,
                type=click.Path(path_type=Path, exists=True, dir_okay=False))  # fmt: skip
@click.option("--meter", callback=_named,
              help="The meter's name; else what the file calls the usage point.")  # fmt: skip
def import_greenbutton(
    files: tuple[Path, ...], meter: str | None, config: Path, as_json: bool
) -> None:
    """Take in Green Button files (ESPI XML); the parts of one download are read together.

    What is known already changes nothing. A bridge may be running meanwhile. Exits 1 where a
    file could not be read to its end.
    """
    taken = asyncio.run(_import(read_settings(config, files=False), files, meter))
    say(taken.document, _in_words(taken), as_json=as_json)
    if taken.problems:
        if as_json:
            click.echo("\n".join(taken.problems), err=True)
        sys.exit(FAILED if taken.cut_off else 0)


async def _import(settings: Settings, files: tuple[Path, ...], meter: str | None) -> Taken:
    async with open_store(settings.store.path, beside=True) as store:
        with click.progressbar(
            length=0, label="readings", file=sys.stderr, hidden=not sys.stderr.isatty(),
            show_pos=True, show_percent=False, show_eta=False,
        ) as bar:  # fmt: skip
            return await take_in(
                [(path.name, path) for path in files], store.meters, WallClock(),
                meter=meter, zone=settings.site.timezone,
                passed=lambda count: bar.update(count - bar.pos),
            )  # fmt: skip


def _in_words(taken: Taken) -> str:
    kept, plural = taken.kept, "reading" if taken.readings == 1 else "readings"
    lines = [
        f"{taken.readings} {plural}: {kept.new} new, {kept.updated} corrected,"
        f" {kept.duplicates} known before, {kept.outdated} older than what is known"
    ]
    lines += [f"dropped: {count} ({reason})" for reason, count in taken.dropped.items()]
    lines += [f"meter: {name}" for name in taken.meters]
    return "\n".join([*lines, *taken.problems])


@command(exporting, "greenbutton", example="openadr-bridge export greenbutton house -o house.xml")
@click.argument("meter")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True,
              help="The file to write.")  # fmt: skip
@click.option("--start", help="Readings that begin from here on, RFC 3339.")
@click.option("--end", help="… and before this.")
def export_greenbutton(
    meter: str, output: Path, start: str | None, end: str | None, config: Path, as_json: bool
) -> None:
    """Write a meter's readings as a Green Button file (ESPI XML), which reads back the same."""
    span = [None if said is None else _read_time(said) for said in (start, end)]
    if span[0] and span[1] and span[1] <= span[0]:
        raise BridgeError("--end: must be after --start")
    left_out = asyncio.run(_export(_store(config), meter, output, *span))
    lines = [f"{what}: left out" for what in left_out]
    result = {"file": str(output), "left_out": dict(left_out)}
    say(result, "\n".join([f"{output} is written", *lines]), as_json=as_json)


async def _export(
    path: Path, meter: str, output: Path, start: datetime | None, end: datetime | None
) -> Counter[str]:
    left_out = Counter[str]()
    async with open_store(path, beside=True) as store:
        streams = await store.meters.streams(UsageQuestion(frozenset({meter})))
        if not streams:
            raise BridgeError(f"there is no meter {meter!r}; `meter list` shows those there are")
        partial = output.with_name(output.name + ".partial")
        pieces = green_button(store.meters, streams, start, end, datetime.now(UTC), left_out)
        try:
            with partial.open("wb") as file:
                async for piece in pieces:
                    file.write(piece)
            partial.replace(output)
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            raise BridgeError(f"{output}: cannot be written ({error.strerror})") from error
    return left_out


def _read_time(said: str) -> datetime:
    try:
        return read_time(said)
    except ValueError as error:
        raise BridgeError(f"{said!r}: write a time such as 2027-03-14T00:00:00-08:00") from error


@command(meter, "list", example="openadr-bridge meter list")
def list_meters(config: Path, as_json: bool) -> None:
    """List meters, what each measures, and how far its readings reach."""

    async def found() -> list[Document]:
        async with open_store(_store(config), beside=True) as store:
            return await store.meters.meters()

    meters = asyncio.run(found())
    rows = [
        {
            "meter": m["meter"], "state": m["state"], "direction": s["direction"],
            "kind": s["kind"], "unit": s["unit"], "first": _time(s["first"]),
            "last": _time(s["last"]),
        }
        for m in meters
        for s in m["streams"] or [dict.fromkeys(("direction", "kind", "unit", "first", "last"))]
    ]  # fmt: skip
    columns = ("meter", "state", "direction", "kind", "unit", "first", "last")
    notes = [f"{m['meter']}: {m['says']} {m['next_step'] or ''}" for m in meters if m["says"]]
    say(meters, "\n".join([table(rows, columns), *notes]), as_json=as_json)


def _time(value: Any) -> str | None:
    return None if value is None else write_time(value)


@command(
    contract, "add", example="openadr-bridge contract add 0012345678 --customer 5f1c --meter m1"
)
@click.argument("contract_id")
@click.option("--customer", required=True, help="The customer's id, a UUID at most utilities.")
@click.option("--meter", "meters", multiple=True, help="A meter that counts.")
@click.option("--program", help="The program whose prices hold.")
@click.option("--client", "clients", multiple=True, help="A client that may see it.")
def add(
    contract_id: str, customer: str, meters: tuple[str, ...], program: str | None,
    clients: tuple[str, ...], config: Path, as_json: bool,
) -> None:  # fmt: skip
    """Add a contract."""
    with beside(_store(config)) as db:
        contracts.add(db, Contract(contract_id, customer, meters, program))
        for client in clients:
            contracts.grant(db, contract_id, client)
    say({"id": contract_id}, "added", as_json=as_json)


@command(contract, "list", example="openadr-bridge contract list")
def list_contracts(config: Path, as_json: bool) -> None:
    """List contracts, and to whom each is granted."""
    with beside(_store(config)) as db:
        found = contracts.listing(db)
    several = ("meters", "clients")
    rows = [{**c, **{name: " ".join(c[name]) for name in several}} for c in found]
    columns = ("id", "customer", "meters", "program", "clients", "source")
    say(found, table(rows, columns), as_json=as_json)


@command(contract, "grant", example="openadr-bridge contract grant 0012345678 battery")
@click.argument("contract_id")
@click.argument("client_id")
def grant(contract_id: str, client_id: str, config: Path, as_json: bool) -> None:
    """Let a client see a contract, from now on."""
    with beside(_store(config)) as db:
        contracts.grant(db, contract_id, client_id)
    say({"contract": contract_id, "client": client_id}, "granted", as_json=as_json)


@command(contract, "withhold", example="openadr-bridge contract withhold 0012345678 battery")
@click.argument("contract_id")
@click.argument("client_id")
def withhold(contract_id: str, client_id: str, config: Path, as_json: bool) -> None:
    """Take back what `grant` gave, from now on."""
    with beside(_store(config)) as db:
        if not contracts.withhold(db, contract_id, client_id):
            raise BridgeError("it is not granted by command; the settings may say that it is")
    say({"contract": contract_id, "client": client_id}, "withheld", as_json=as_json)


@command(contract, "remove", example="openadr-bridge contract remove 0012345678")
@click.argument("contract_id")
def remove(contract_id: str, config: Path, as_json: bool) -> None:
    """Remove a contract that was added by command; readings stay."""
    with beside(_store(config)) as db:
        if not contracts.remove(db, contract_id):
            raise BridgeError("there is no such contract that was added by command")
    say({"removed": contract_id}, "removed", as_json=as_json)
