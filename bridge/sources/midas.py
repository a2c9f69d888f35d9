"""Rates of California's utilities, greenhouse gas and Flex Alerts from MIDAS, by their RINs."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, date, timedelta
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, HttpUrl, field_validator

from bridge.errors import SourceError, WireError
from bridge.interfaces import Batch, Surroundings
from bridge.model import Price, Publication, Tariff
from bridge.notation import Frozen, SomeTime, Zone
from bridge.sources.asking import Asking, BaseUrl
from bridge.sources.pricing import (
    Day,
    PricingSource,
    Round,
    Step,
    rounds,
    steps,
    turned,
)
from bridge.wire import midas

LONGEST_STEP = 180  # days; MIDAS answers at most six months of history at once
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

    @field_validator("rins")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("names a RIN twice; it would be added to itself")
        return value

    @property
    def context(self) -> str:
        """Return what tells it from other rates."""
        return "+".join(self.rins)

    @property
    def name(self) -> str:
        """Return the name of its program."""
        return self.program or self.context


class Midas(PricingSource):
    """MIDAS, and which rates are collected."""

    apart = timedelta(seconds=1)

    kind: Literal["midas"]
    base_url: BaseUrl = HttpUrl("https://midasapi.energy.ca.gov/api")
    rates: tuple[Rate, ...] = Field(min_length=1)
    backfill_from: Day | None = None
    every: SomeTime = timedelta(hours=1)
    timezone: Zone = "America/Los_Angeles"
    basis: Literal["marginal", "retail"] | None = "retail"
    timeout: SomeTime = timedelta(seconds=120)  # 5 to 20 seconds are normal

    @property
    def address(self) -> HttpUrl:
        """Who is asked."""
        return self.base_url

    async def batches(self, around: Surroundings) -> AsyncGenerator[Batch, None]:
        """Yield the values of the coming days again and again, and what history is missing."""
        whole: dict[Rate, date] = {}  # when all 90 days of a rate were asked for last

        async def poll(now_on: Round) -> AsyncGenerator[Batch, None]:
            today = around.clock.now().astimezone(ZoneInfo(self.timezone)).date()
            for rate in turned(self.rates):
                span: Span = "realtime" if whole.get(rate) == today else "alldata"
                try:
                    found = await self._values(ask, rate, span, now_on.asks(rate.name))
                except SourceError as error:
                    if now_on.fails(rate.name, error):
                        return
                    continue
                now_on.answers()
                whole[rate] = today
                yield Batch(publications=found)

        async with (
            self.asking(around.clock) as ask,
            aclosing(rounds(self, ask, around, poll, lambda now: now + self.every)) as batches,
        ):
            async for batch in batches:
                yield batch

    async def backlog(self, around: Surroundings) -> list[Step]:
        """Return which history was not asked for yet, the oldest first."""
        if self.backfill_from is None:
            return []
        marks = await around.memory.marks(self.name)
        yesterday = around.clock.now().astimezone(UTC).date() - DAY
        found: list[Step] = []
        for rate in self.rates:
            since, _, until = marks.get(rate.context, "/").partition("/")
            first = self.backfill_from
            if since and since <= first.isoformat() <= until:
                first = date.fromisoformat(until) + DAY
            found += steps(rate, first, yesterday, LONGEST_STEP, self.backfill_from)
        return sorted(found, key=lambda s: s.first)

    async def fill(
        self, ask: Asking, around: Surroundings, piece: Step, doubts: list[str]
    ) -> AsyncGenerator[Batch, None]:
        """Yield the history of a step."""
        found = await self._values(ask, piece.of, (piece.first, piece.last), doubts)
        mark = {piece.of.context: f"{piece.since}/{piece.last}"}
        yield Batch(publications=found, marks=mark, history=True)

    async def _values(
        self, ask: Asking, rate: Rate, span: Span | tuple[date, date], doubts: list[str]
    ) -> list[Publication]:
        """Return what a rate's RINs say, added up kind by kind."""
        by_kind: dict[midas.Said, dict[str, list[Price]]] = {}
        for rin in rate.rins:
            for said, prices in (await self._ask(ask, rin, span, doubts)).items():
                by_kind.setdefault(said, {})[rin] = prices
        for said, parts in by_kind.items():
            missing = [rin for rin in rate.rins if rin not in parts]
            if missing:
                doubts.append(f"{rate.name}: {missing[0]} says nothing of {said[0]} {said[1]}")
        return [
            Publication(self._tariff(rate, said), midas.add_up(parts))
            for said, parts in by_kind.items()
            if len(parts) == len(rate.rins)
        ]

    async def _ask(
        self, ask: Asking, rin: str, span: Span | tuple[date, date], doubts: list[str]
    ) -> dict[midas.Said, list[Price]]:
        base = str(self.base_url).rstrip("/")
        if isinstance(span, str):
            text = await ask.get(f"{base}/valuedata", {"ID": rin, "QueryType": span})
        else:
            days = {"startdate": span[0].isoformat(), "enddate": span[1].isoformat()}
            text = await ask.get(f"{base}/historicaldata/{rin}", days)
        if text is None:
            doubts.append(f"{rin}: nothing is published")
            return {}
        try:
            found, problems = await asyncio.to_thread(midas.read_values, text)
        except WireError as error:
            raise SourceError(f"{rin}: {error}") from error
        doubts += [f"{rin}: {problem}" for problem in problems[:3]]
        return found

    def _tariff(self, rate: Rate, said: midas.Said) -> Tariff:
        payload_type, unit, currency = said
        return Tariff(
            program=rate.name,
            context=rate.context,
            payload_type=payload_type,
            unit=unit,
            currency=currency,
            zone=self.timezone,
            basis=self.basis,
            utility=rate.utility,
            rate=rate.rate,
            circuit=rate.circuit,
            cca=rate.cca,
        )
