"""Prices from any JSON or CSV of start, end and value: by URL, from a file or a watched folder.

A file is read when it is new or was changed, and lay still for a moment; what it says again
changes nothing.
"""

import asyncio
import hashlib
import io
from collections.abc import AsyncGenerator, Iterator
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import IO, Literal, Self

from pydantic import Field, HttpUrl, model_validator

from bridge.errors import SettingsError, SourceError, WireError
from bridge.interfaces import Batch, Surroundings
from bridge.model import PRICE, Price, Publication, Tariff
from bridge.notation import Duration, Zone
from bridge.sources.pricing import Asking, PricingSource
from bridge.wire import feed
from bridge.wire.feed import Fields, Reading

AT_ONCE = 5_000  # prices in one transaction
STILL = timedelta(seconds=2)  # for how long a file was not written to
OFTEN_URL, OFTEN_FILE = timedelta(hours=1), timedelta(seconds=10)


class Feed(PricingSource):
    """A feed, what its prices are the price of, and what its fields are called."""

    kind: Literal["feed"]
    url: HttpUrl | None = None
    path: Path | None = None
    folder: Path | None = None
    every: Duration | None = Field(None)
    format: Literal["json", "csv"] | None = None
    fields: Fields = Fields()
    program: str | None = Field(None, min_length=1, max_length=128)
    payload_type: str = PRICE
    unit: str | None = "KWH"
    currency: str | None = None
    timezone: Zone = "UTC"
    basis: Literal["marginal", "retail"] | None = None
    utility: str | None = None
    rate: str | None = None
    circuit: str | None = None
    cca: str | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if sum(place is not None for place in (self.url, self.path, self.folder)) != 1:
            raise ValueError("give one of url, path and folder")
        if bool(self.rate) != bool(self.circuit) or bool(self.rate) != bool(self.utility):
            raise ValueError("utility, rate and circuit go together")
        return self

    @property
    def address(self) -> HttpUrl | None:
        """Who is asked, where it is somebody."""
        return self.url

    def check_files(self) -> None:
        """Look whether the folder is there; a file may come later."""
        if self.folder and not self.folder.is_dir():
            raise SettingsError(f"{self.folder}: is not a folder")

    async def batches(self, around: Surroundings) -> AsyncGenerator[Batch, None]:
        """Yield what the feed says, each time that it says something else."""
        every = self.every or (OFTEN_URL if self.url else OFTEN_FILE)
        async with self.asking(around.clock) as ask:
            problems: dict[str, str] = {}  # of each place that was read
            while True:
                for place in await self.backlog(around):
                    problems.pop(place, None)
                    try:
                        async for batch in self.fill(ask, around, place, problems):
                            yield batch
                    except WireError as error:
                        if self.url:
                            raise SourceError(str(error)) from error
                        problems[place] = str(error)
                        yield Batch(marks=_seen(place))
                around.warn("; ".join(problems.values())[:2000] or None)
                now = around.clock.now()
                around.succeeded(now)
                await around.memory.heard_from(self.name, now)
                await around.clock.sleep(every.total_seconds())

    async def backlog(self, around: Surroundings) -> list[str]:
        """Return the places to be read: the URL, or files that are new or were changed."""
        if self.url:
            return [str(self.url)]
        known = await around.memory.marks(self.name)
        files = await asyncio.to_thread(self._files, around.clock.now())
        return [str(p) for p in files if known.get(str(p)) != _mark(p)]

    async def fill(
        self,
        ask: Asking,
        around: Surroundings,
        piece: str,
        problems: dict[str, str] | None = None,
    ) -> AsyncGenerator[Batch, None]:
        """Yield what a place says; what is wrong with parts of it goes into `problems`."""
        doubts = {} if problems is None else problems
        if self.url:
            text = await ask.get(piece) or b""
            mark = {piece: hashlib.sha256(text).hexdigest()}
            if (await around.memory.marks(self.name)).get(piece) == mark[piece]:
                return
            contents: Iterator[tuple[str, IO[bytes], int]] = iter(
                [(piece, io.BytesIO(text), len(text))] if text else []
            )
        else:
            mark, contents = _seen(piece), feed.open_all(Path(piece))
        for name, content, _ in contents:
            reading = Reading(self.fields)
            pieces = self.read(content, reading)
            try:
                # Off the event loop: a piece of a large file would hold it up.
                while found := await asyncio.to_thread(next, pieces, None):
                    yield Batch(publications=found, history=True)
            except WireError as error:
                raise WireError(f"{name}: {error}") from error
            if reading.summary:
                doubts[piece] = f"{name}: {reading.summary}"
        yield Batch(marks=mark, history=True)

    def tariff(self, program: str | None) -> Tariff:
        """Return what prices are the price of; `program` is what a row named."""
        name = program or self.program or self.name
        return Tariff(
            program=name,
            context=name,
            payload_type=self.payload_type,
            unit=self.unit,
            currency=self.currency,
            zone=self.timezone,
            basis=self.basis,
            utility=self.utility,
            rate=self.rate,
            circuit=self.circuit,
            cca=self.cca,
        )

    def read(self, content: IO[bytes], reading: Reading) -> Iterator[list[Publication]]:
        """Yield publications of a document piece by piece; a piece is one transaction."""
        prices = reading.prices(feed.rows(content, self.fields, self.format))
        while piece := list(islice(prices, AT_ONCE)):
            by_program: dict[str | None, list[Price]] = {}
            for program, price in piece:
                by_program.setdefault(program, []).append(price)
            yield [Publication(self.tariff(p), found) for p, found in by_program.items()]

    def _files(self, now: datetime) -> list[Path]:
        """Return the files that are there, those that are being written left out."""
        if self.path:
            found = [self.path] if self.path.is_file() else []
            if not found:
                raise SourceError(f"{self.path}: is not there")
        else:
            found = sorted(p for p in (self.folder or Path()).iterdir() if p.is_file())
        return [p for p in found if not p.name.startswith(".") and _lies_still(p, now)]


def _seen(place: str) -> dict[str, str]:
    """Return the mark that a file was read as it is now; an address is read each time."""
    mark = _mark(Path(place))
    return {place: mark} if mark else {}


def _mark(path: Path) -> str | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return f"{about.st_mtime_ns}:{about.st_size}"


def _lies_still(path: Path, now: datetime) -> bool:
    try:
        return abs(now.timestamp() - path.stat().st_mtime) >= STILL.total_seconds()
    except OSError:
        return False
