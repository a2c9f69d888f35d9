"""Rates of California's utilities, greenhouse gas and Flex Alerts from MIDAS, by their RINs."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, date, timedelta
from typing import Annotated, Literal, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import Field, HttpUrl

from bridge.errors import SourceError, WireError
from bridge.interfaces import Batch, Surroundings
from bridge.model import Frozen, Price, Publication, Tariff
from bridge.notation import Duration, Zone
from bridge.sources.pricing import Asking, PricingSource
from bridge.wire import midas

STEP = timedelta(days=180)  # MIDAS answers at most six months of history at once
DAY = timedelta(days=1)

# 72 hours from the local midnight, or 90 days that end with the day after tomorrow
Span = Literal["realtime", "alldata"]
Rin = Annotated[str, Field(pattern=midas.RIN)]


class Rate(Frozen):
    """A rate: one RIN, or those of delivery and generation that are added."""

    rins: tuple[Rin, ...] = Field(min_length=1, max_length=4)
    program: str | None = Field(None, min_length=1, max_length=128)
    utility: str | None = None
    rate: str | None = None
    circuit: str | None = None
    cca: str | None = None

    @property
    def name(self) -> str:
        """Return the name of its program."""
        return self.program or "+".join(self.rins)


class Step(NamedTuple):
    """Days of a rate to be asked for in one request."""

    rate: Rate
    first: date
    last: date


class Midas(PricingSource):
    """MIDAS, and which rates are collected."""

    apart = timedelta(seconds=1)

    kind: Literal["midas"]
    base_url: HttpUrl = HttpUrl("https://midasapi.energy.ca.gov/api")
    rates: tuple[Rate, ...] = Field(min_length=1)
    backfill_from: date | None = None
    every: Duration = timedelta(hours=1)
    timezone: Zone = "America/Los_Angeles"
    basis: Literal["marginal", "retail"] | None = "retail"
    timeout: Duration = timedelta(seconds=120)  # 5 to 20 seconds are normal

    @property
    def address(self) -> HttpUrl:
        """Who is asked."""
        return self.base_url

    async def batches(self, around: Surroundings) -> AsyncGenerator[Batch, None]:
        """Yield the values of the coming days again and again, and what history is missing."""
        async with self.asking(around.clock) as ask:
            day: date | None = None
            while True:
                today = around.clock.now().astimezone(ZoneInfo(self.timezone)).date()
                span: Span = "alldata" if today != day else "realtime"
                async for batch in self._poll(ask, span, around):
                    yield batch
                day = today
                for step in await self.backlog(around):
                    async for batch in self.fill(ask, around, step):
                        yield batch
                await around.clock.sleep(self.every.total_seconds())

    async def _poll(
        self, ask: Asking, span: Span, around: Surroundings
    ) -> AsyncGenerator[Batch, None]:
        """Yield the values of each rate; raise what failed at the end."""
        doubts: list[str] = []
        failed: list[SourceError] = []
        for rate in self.rates:
            try:
                yield Batch(publications=await self._values(ask, rate, span, doubts))
            except SourceError as error:
                failed.append(error)
                if error.retry_after:
                    break
        if failed:
            raise failed[0]
        around.warn("; ".join(dict.fromkeys(doubts))[:2000] or None)
        now = around.clock.now()
        around.succeeded(now)
        await around.memory.heard_from(self.name, now)

    async def backlog(self, around: Surroundings) -> list[Step]:
        """Return which history was not asked for yet, the oldest first."""
        if self.backfill_from is None:
            return []
        marks = await around.memory.marks(self.name)
        yesterday = around.clock.now().astimezone(UTC).date() - DAY
        steps = []
        for rate in self.rates:
            since, _, until = marks.get(rate.name, "/").partition("/")
            first = self.backfill_from
            if since == first.isoformat():
                first = date.fromisoformat(until) + DAY
            while first <= yesterday:
                last = min(first + STEP - DAY, yesterday)
                steps.append(Step(rate, first, last))
                first = last + DAY
        return sorted(steps, key=lambda s: s.first)

    async def fill(
        self, ask: Asking, around: Surroundings, piece: Step
    ) -> AsyncGenerator[Batch, None]:
        """Yield the history of a step."""
        doubts: list[str] = []
        found = await self._values(ask, piece.rate, (piece.first, piece.last), doubts)
        mark = {piece.rate.name: f"{self.backfill_from}/{piece.last}"}
        yield Batch(publications=found, marks=mark, history=True)

    async def _values(
        self,
        ask: Asking,
        rate: Rate,
        span: Span | tuple[date, date],
        doubts: list[str],
    ) -> list[Publication]:
        """Return what a rate's RINs say, added up unit by unit."""
        by_unit: dict[str, dict[str, list[Price]]] = {}
        for rin in rate.rins:
            base = str(self.base_url).rstrip("/")
            if isinstance(span, str):
                text = await ask.get(f"{base}/valuedata", {"ID": rin, "QueryType": span})
            else:
                days = {"startdate": span[0].isoformat(), "enddate": span[1].isoformat()}
                text = await ask.get(f"{base}/historicaldata/{rin}", days)
            if text is None:
                doubts.append(f"{rin}: nothing is published")
                continue
            try:
                found, problems = await asyncio.to_thread(midas.read_values, text)
            except WireError as error:
                raise SourceError(f"{rin}: {error}") from error
            doubts += [f"{rin}: {problem}" for problem in problems[:3]]
            for unit, prices in found.items():
                by_unit.setdefault(unit, {})[rin] = prices
        return [
            Publication(self._tariff(rate, unit), midas.add_up(parts))
            for unit, parts in by_unit.items()
            if len(parts) == len(rate.rins)
        ]

    def _tariff(self, rate: Rate, unit: str) -> Tariff:
        payload_type, named, currency = midas.meaning(unit)
        return Tariff(
            program=rate.name,
            context="+".join(rate.rins),
            payload_type=payload_type,
            unit=named,
            currency=currency,
            zone=self.timezone,
            basis=self.basis,
            utility=rate.utility,
            rate=rate.rate,
            circuit=rate.circuit,
            cca=rate.cca,
        )
