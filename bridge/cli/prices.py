"""import prices, programs: history fetched or read in the foreground; which circuit one is on."""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, NoReturn

import click
from pydantic import ValidationError

from bridge.cli.circuits import search as search_circuits
from bridge.cli.common import command, say, table
from bridge.clock import WallClock
from bridge.config import Settings, read_settings
from bridge.errors import BridgeError, SettingsError, WireError
from bridge.ingest import with_derived
from bridge.interfaces import Batch, Surroundings
from bridge.model import Document
from bridge.notation import write_time
from bridge.sources import Feed, PricingSource
from bridge.store import Store, open_store
from bridge.wire import feed
from bridge.wire.feed import Reading


@click.group(name="import")
def importing() -> None:
    """Take in what was said before."""


@click.group()
def programs() -> None:
    """Programs: which there are, and which circuit is yours."""


@command(importing, "prices", example="openadr-bridge import prices prices.csv --program EV2A")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--source", help="A source of the settings: its history, or how FILES are read.")
@click.option("--program", help="The program that FILES are the prices of.")
@click.option("--type", "payload_type", default=None, help="Payload type; else PRICE.")
@click.option("--unit", default=None, help="Else KWH.")
@click.option("--currency", default=None, help="Such as USD.")
@click.option("--timezone", default=None, help="Of times without an offset; else the site's.")
def import_prices(
    files: tuple[Path, ...],
    source: str | None,
    config: Path,
    as_json: bool,
    **about: str | None,
) -> None:
    """Take in prices: FILES of start, end, value (JSON, CSV, zipped too), or a source's history.

    With --source and FILES they are read as that feed is. What is known already changes nothing.
    A bridge may be running meanwhile. Exits 1 where something could not be read.
    """
    settings = read_settings(config, files=False)
    if files:
        work = _import_files(settings, _feed(settings, source, about), files)
    elif source:
        work = _import_history(settings, _pricing_source(settings, source))
    else:
        raise click.UsageError("name FILES, or a source with --source")
    result = asyncio.run(work)
    words = f"{result['prices']} prices read, {result['changed']} of them new or changed"
    say(result, "\n".join([words, *result["problems"]]), as_json=as_json)
    if result["problems"]:
        raise SystemExit(1)


@command(programs, "search", example='openadr-bridge programs search "mountain view"')
@click.argument("words", nargs=-1, required=True)
def search(words: tuple[str, ...], config: Path, as_json: bool) -> None:
    """Find circuits by substation, division, region or number. Needs no settings."""
    found = search_circuits(" ".join(words))
    if not found and not as_json:
        raise BridgeError(
            f"no circuit is known for {' '.join(words)!r}; the bill or the utility names it"
        )
    columns = ("utility", "circuit", "substation", "feeder", "division", "region", "served")
    say(found, table(found, columns), as_json=as_json)


@command(programs, "list", example="openadr-bridge programs list --source pge")
@click.option("--source", help="Only those of this source.")
def list_programs(source: str | None, config: Path, as_json: bool) -> None:
    """List programs, and how far their prices reach."""
    settings = read_settings(config, files=False)
    if source and source not in {s.name for s in settings.sources}:
        _unknown(settings, source)
    found = [p for p in asyncio.run(_programs(settings)) if source in {None, p["source"]}]
    shown = [
        {k: write_time(v) if isinstance(v, datetime) else v for k, v in row.items()}
        for row in found
    ]
    columns = ("programName", "source", "basis", "covers_from", "covers_until", "last_success")
    say(found, table(shown, columns), as_json=as_json)


async def _programs(settings: Settings) -> list[Document]:
    async with open_store(settings.store.path, beside=True) as store:
        return await store.prices.programs(datetime.now(UTC))


def _unknown(settings: Settings, source: str) -> NoReturn:
    names = ", ".join(s.name for s in settings.sources) or "none"
    raise SettingsError(
        f"--source: there is no source {source!r} in the settings; there are: {names}"
    )


def _pricing_source(settings: Settings, name: str) -> PricingSource:
    found = next((s for s in settings.sources if s.name == name), None)
    if found is None:
        _unknown(settings, name)
    if not isinstance(found, PricingSource):
        raise SettingsError(f"--source: {name!r} is no source of prices; only those have history")
    return found


def _feed(settings: Settings, source: str | None, about: dict[str, str | None]) -> Feed:
    """Return how files are read: as a feed of the settings, or as the options say."""
    said = {name: value for name, value in about.items() if value is not None}
    if source:
        found = _pricing_source(settings, source)
        if said:
            raise click.UsageError(
                f"--source {source}: the settings say how it is read, not --{next(iter(said))}"
            )
        if not isinstance(found, Feed):
            raise SettingsError(
                f"--source: {source!r} is no feed; without FILES its history is asked for"
            )
        return found
    if "program" not in said:
        raise click.UsageError(
            "--program: say what the prices are the price of, or name a --source"
        )
    zone = said.pop("timezone", settings.site.timezone)
    try:
        place = {"kind": "feed", "name": "import", "folder": Path()}
        zones = {"fields": {"timezone": zone}, "timezone": zone}
        return Feed.model_validate({**place, **zones, **said})
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingsError(f"--{first['loc'][-1]}: {first['msg']}") from error


class _Import:
    """What an import has done so far."""

    def __init__(self, store: Store, source: PricingSource, settings: Settings) -> None:
        self._store, self._source, self._adders = store, source, settings.adders
        self.read = self.changed = 0
        self.problems: list[str] = []

    async def save(self, batch: Batch) -> None:
        """Keep a piece, beside a bridge that may be running."""
        whole = with_derived(batch, self._adders)
        self.changed += await self._store.events.save(self._source, whole, datetime.now(UTC))
        self.read += sum(len(p.prices) for p in batch.publications)

    def result(self) -> Document:
        """Return what came of it."""
        return {"prices": self.read, "changed": self.changed, "problems": self.problems}


async def _import_files(settings: Settings, source: Feed, files: Sequence[Path]) -> Document:
    async with open_store(settings.store.path, beside=True) as store:
        done = _Import(store, source, settings)
        for path in files:
            try:
                with closing(feed.open_all(path)) as contents:
                    for name, content, size in contents:
                        await _import_file(done, source, name, content, size)
            except WireError as error:
                done.problems.append(f"{path.name}: {error}")
        return done.result()


async def _import_file(
    done: "_Import", source: Feed, name: str, content: IO[bytes], size: int
) -> None:
    before, reading = done.read, Reading(source.fields)
    with _bar(size, name) as bar:
        for piece in source.read(content, reading):
            await done.save(Batch(publications=piece, history=True))
            bar.update(content.tell() - bar.pos)
    if reading.bad:
        done.problems += [f"{name}: {p}" for p in reading.problems]
        left = reading.bad - len(reading.problems)
        done.problems += [f"{name}: and {left} more"] if left else []
    elif done.read == before:
        done.problems.append(f"{name}: holds no prices")


async def _import_history(settings: Settings, source: PricingSource) -> Document:
    async with open_store(settings.store.path, beside=True) as store:
        done = _Import(store, source, settings)
        around = Surroundings(store.sources, WallClock(), lambda _: None, lambda _: None)
        async with source.asking(around.clock) as ask:
            pieces = await source.backlog(around)
            with _bar(len(pieces), source.name) as bar:
                for piece in pieces:
                    async for batch in source.fill(ask, around, piece, done.problems):
                        await done.save(batch)
                    bar.update(1)
        if pieces and not (done.read or done.problems or isinstance(source, Feed)):
            done.problems.append(
                f"{source.name}: nothing is published for what was asked; is the name right?"
            )
        return done.result()


def _bar(length: int, label: str) -> Any:
    # Progress goes to stderr, and only to a terminal.
    return click.progressbar(
        length=length, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()
    )
