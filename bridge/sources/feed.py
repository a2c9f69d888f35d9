"""Prices from any JSON or CSV of start, end and value: by URL, from a file or a watched folder.

A file is read when it is new or was changed, and lay still for a moment; what it says again
changes nothing.
"""

import asyncio
import hashlib
import io
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import IO, Literal, Self

from pydantic import Field, HttpUrl, model_validator

from bridge.errors import SettingsError, SourceError, WireError
from bridge.interfaces import Batch, Surroundings
from bridge.model import PRICE, Price, Publication, Tariff
from bridge.notation import SomeTime, Zone
from bridge.sources import watched
from bridge.sources.asking import Asking
from bridge.sources.pricing import PricingSource
from bridge.wire import feed
from bridge.wire.feed import Fields, Reading

AT_ONCE = 5_000  # prices in one transaction
SUFFIXES = {*feed.SUFFIXES, ".zip"}
OFTEN_URL, OFTEN_FILE = timedelta(hours=1), timedelta(seconds=10)


class Feed(PricingSource):
    """A feed, what its prices are the price of, and what its fields are called."""

    kind: Literal["feed"]
    url: HttpUrl | None = None
    path: Path | None = None
    folder: Path | None = None
    every: SomeTime | None = None
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
        if self.path and self.path.is_dir():
            raise ValueError(f"path: {self.path} is a folder; write folder = …")
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
            while True:
                for place in await self.backlog(around):
                    async with aclosing(self.fill(ask, around, place, [])) as batches:
                        async for batch in batches:
                            yield batch
                around.warn(await self._problems(around))
                now = around.clock.now()
                around.succeeded(now)
                await around.memory.heard_from(self.name, now)
                await around.clock.sleep(every.total_seconds())

    async def backlog(self, around: Surroundings) -> list[str]:
        """Return the places to be read: the URL, or files that are new or were changed."""
        if self.url:
            return [str(self.url)]
        marks = await around.memory.marks(self.name)
        files = await asyncio.to_thread(self._files)
        ready = [p for p in files if watched.lies_still(p, around.clock.now())]
        return [str(p) for p in ready if watched.stamp_in(marks, str(p)) != self._stamp(p)]

    async def fill(
        self, ask: Asking, around: Surroundings, piece: str, doubts: list[str]
    ) -> AsyncGenerator[Batch, None]:
        """Yield what a place says; what it said, and what was wrong with it, is its mark."""
        found: list[str] = []
        if self.url:
            text = await ask.get(piece) or b""
            mark = f"{hashlib.sha256(text).hexdigest()}:{self._wording}"
            if watched.stamp_in(await around.memory.marks(self.name), piece) == mark:
                return
            contents: Iterator[tuple[str, IO[bytes], int]] = iter(
                [(piece, io.BytesIO(text), len(text))] if text else []
            )
        else:
            mark = self._stamp(Path(piece))
            contents = feed.open_all(Path(piece))
        try:
            for name, content, _ in contents:
                reading = Reading(self.fields)
                pieces = self.read(content, reading)
                # Off the event loop: a piece of a large file would hold it up.
                while publications := await asyncio.to_thread(next, pieces, None):
                    yield Batch(publications=publications, history=True)
                if reading.summary:
                    found.append(f"{name}: {reading.summary}")
        except WireError as error:
            if self.url:
                raise SourceError(str(error)) from error
            found.append(f"{Path(piece).name}: {error}")
        doubts += found
        yield Batch(marks={piece: watched.mark(mark, found)}, history=True)

    async def _problems(self, around: Surroundings) -> str | None:
        """Return what is wrong with the places that are there, as it was when they were read."""
        marks = await around.memory.marks(self.name)
        places = [str(self.url)] if self.url else map(str, await asyncio.to_thread(self._files))
        return watched.problems_in(marks, list(places))

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

    def _files(self) -> list[Path]:
        """Return the files that are there; in a folder those that may be a feed."""
        if self.path:
            if not self.path.is_file():
                raise SourceError(f"{self.path}: is not there")
            return [self.path]
        return watched.files(self.folder or Path(), SUFFIXES)

    @property
    def _wording(self) -> str:
        """Return a digest of how it is read, and as what: read otherwise it says other things."""
        place = {"name", "url", "path", "folder", "every", "timeout"}
        return hashlib.sha256(self.model_dump_json(exclude=place).encode()).hexdigest()[:16]

    def _stamp(self, path: Path) -> str:
        return f"{watched.stamp(path)}:{self._wording}"
