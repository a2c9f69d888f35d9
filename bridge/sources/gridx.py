"""A utility's dynamic prices from GridX's Pricing API: the subscribed series, past and coming.

Nothing says when or how far ahead prices are published, so all that may be is asked for: by
the publication schedule, and every hour beside it. What is answered with 204 is either not
published yet or a mistake in the settings; a day that must be there tells which.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import structlog
from pydantic import Field, HttpUrl

from bridge.errors import SourceError, WireError
from bridge.interfaces import Batch, Surroundings
from bridge.model import Frozen, Publication
from bridge.notation import Zone
from bridge.sources.pricing import Asking, PricingSource
from bridge.wire import gridx
from bridge.wire.gridx import Asked, Curve

log = structlog.get_logger()

DAY = timedelta(days=1)
STEP = 14  # days; "do not request more than two weeks of prices at once"
AHEAD, BEHIND = 7, 6  # days from today for which prices may come, or come late
OFTEN = timedelta(hours=1)
# When prices are published, and corrected: local times of the utility.
SCHEDULE = (time(16, 35), time(17, 35), time(18, 20), time(18, 45))
LATE = time(19, 30)  # by when tomorrow's are awaited
SPREAD = 30.0  # seconds in which bridges that wake at the same time ask


class Series(Frozen):
    """A rate at a circuit, bundled or with the generation of a CCA."""

    rate: str = Field(min_length=1, max_length=64)
    circuit: str = Field(min_length=1, max_length=64)
    cca: str | None = Field(None, min_length=1, max_length=64)


@dataclass(frozen=True, slots=True)
class Step:
    """Days of a series to be asked for in one request."""

    series: Series
    first: date
    last: date
    since: date  # from when on everything was asked for


class GridX(PricingSource):
    """A utility at GridX, and which of its series are collected."""

    apart = timedelta(seconds=0.5)

    kind: Literal["gridx"]
    base_url: HttpUrl
    utility: str = Field(min_length=1, max_length=64)
    series: tuple[Series, ...] = Field(min_length=1)
    backfill_from: date | None = None
    timezone: Zone = "America/Los_Angeles"
    basis: Literal["marginal", "retail"] | None = None

    @property
    def address(self) -> HttpUrl:
        """Who is asked."""
        return self.base_url

    @property
    def url(self) -> str:
        """Where prices are asked for."""
        return f"{str(self.base_url).rstrip('/')}/getPricing"

    def asked(self, series: Series, first: date, last: date) -> Asked:
        """Return what is asked of the utility."""
        return Asked(self.utility, series.rate, series.circuit, series.cca, first, last)

    def today(self, now: datetime) -> date:
        """Return the utility's day."""
        return now.astimezone(ZoneInfo(self.timezone)).date()

    async def batches(self, around: Surroundings) -> AsyncGenerator[Batch, None]:
        """Yield prices as they are published, and what history is missing."""
        self._doubt_rates()
        async with self.asking(around.clock) as ask:
            collecting = _Collecting(self, ask, around)
            async with aclosing(collecting.batches()) as batches:
                async for batch in batches:
                    yield batch

    async def backlog(self, around: Surroundings) -> list[Step]:
        """Return which history was not asked for yet, in steps, the oldest first."""
        if self.backfill_from is None:
            return []
        marks = await around.memory.marks(self.name)
        yesterday = self.today(around.clock.now()) - DAY
        begin = max(self.backfill_from, gridx.FIRST_DAY.get(self.utility, date.min))
        steps: list[Step] = []
        for series in self.series:
            since, first = begin, begin
            known = _read_mark(marks.get(self.context(series)))
            if known and known[0] <= begin <= known[1] + DAY:
                since, first = known[0], known[1] + DAY
            while first <= yesterday:
                last = min(first + timedelta(days=STEP - 1), yesterday)
                steps.append(Step(series, first, last, since))
                first = last + DAY
        return sorted(steps, key=lambda s: s.first)

    async def fill(
        self, ask: Asking, around: Surroundings, piece: Step
    ) -> AsyncGenerator[Batch, None]:
        """Yield the history of a step; one that is answered with nothing was asked for too."""
        curves = await _Collecting(self, ask, around).days(piece)
        yield Batch(
            publications=[self.publication(piece.series, curves)],
            marks={self.context(piece.series): f"{piece.since}/{piece.last}"},
            history=True,
        )

    def publication(self, series: Series, curves: Sequence[Curve]) -> Publication:
        """Return what days of a series say."""
        newest = curves[-1] if curves else Curve(None, None, None, None, (), whole=False)
        asked = self.asked(series, date.min, date.min)
        return Publication(
            gridx.tariff(asked, newest, self.timezone, self.basis),
            [price for curve in curves for price in curve.prices],
            [curve.span(self.timezone) for curve in curves if curve.whole],
        )

    def context(self, series: Series) -> str:
        """Return what tells a series from the source's others."""
        return self.publication(series, ()).tariff.context

    def _doubt_rates(self) -> None:
        known = gridx.RATES.get(self.utility, "").split()
        for rate in sorted({s.rate for s in self.series if known and s.rate not in known}):
            log.warning("rate is not one that is known", source=self.name, rate=rate, known=known)


class _Collecting:
    """Collects one source's series for as long as all goes well."""

    def __init__(self, source: GridX, ask: Asking, around: Surroundings) -> None:
        self._source, self._ask, self._around = source, ask, around
        self._seen: dict[Series, set[date]] = {}  # days that came whole, since the day began
        self._day: date | None = None
        self._doubts: list[str] = []

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """Poll by the schedule for ever; fill the history in between."""
        steps: list[Step] | None = None
        while True:
            due = self._next(self._now())
            async for batch in self._poll():
                yield batch
            if steps is None:
                steps = await self._source.backlog(self._around)
            while steps and self._now() < due:
                async for batch in self._source.fill(self._ask, self._around, steps[0]):
                    yield batch
                del steps[0]
            while self._now() < due:
                await self._around.clock.sleep((due - self._now()).total_seconds())

    async def _poll(self) -> AsyncIterator[Batch]:
        """Ask for what is or may be published of each series; raise what failed at the end."""
        today, self._doubts = self._source.today(self._now()), []
        if today != self._day:
            self._day, self._seen = today, {}
        failed: list[SourceError] = []
        for series in self._source.series:
            try:
                curves = await self._recent(series, today)
            except SourceError as error:
                failed.append(error)
                if error.retry_after or len(failed) > 1:
                    break
                continue
            if curves:
                yield Batch(publications=[self._source.publication(series, curves)])
            self._seen[series] = {c.day(self._source.timezone) for c in curves if c.whole}
            await self._judge(series, curves, today)
        if failed:
            raise failed[0]
        self._around.warn("; ".join(dict.fromkeys(self._doubts))[:2000] or None)
        now = self._now()
        self._around.succeeded(now)
        await self._around.memory.heard_from(self._source.name, now)

    async def _recent(self, series: Series, today: date) -> list[Curve]:
        """Return what there is of the days around today, late ones and coming ones."""
        behind = [today - n * DAY for n in range(BEHIND, 0, -1)]
        seen = self._seen.get(series, set())
        first = next((d for d in behind if d not in seen), today - DAY)
        curves = await self._get(series, first, today + AHEAD * DAY)
        if curves:
            return curves
        # Perhaps the whole is refused because a part of it is not published yet.
        curves = await self.days(Step(series, first, today, first))
        ahead = today + DAY
        while curves and ahead <= today + AHEAD * DAY:
            more = await self._get(series, ahead, ahead)
            if not more:
                break
            curves, ahead = [*curves, *more], ahead + DAY
        return curves

    async def days(self, step: Step) -> list[Curve]:
        """Return the days of a step; where all were refused, perhaps not each of them is."""
        curves = await self._get(step.series, step.first, step.last)
        if curves or step.first == step.last:
            return curves
        ends = [await self._get(step.series, day, day) for day in (step.first, step.last)]
        if not any(ends):
            return []
        between = range(1, (step.last - step.first).days)
        middle = [
            await self._get(step.series, day, day)
            for day in (step.first + n * DAY for n in between)
        ]
        return [curve for part in (ends[0], *middle, ends[1]) for curve in part]

    async def _get(self, series: Series, first: date, last: date) -> list[Curve]:
        """Return what is answered for these days; nothing for 204."""
        asked = self._source.asked(series, first, last)
        text = await self._ask.get(self._source.url, asked.query())
        if text is None:
            return []
        try:
            curves, doubts = await asyncio.to_thread(
                gridx.read_pricing, text, self._source.timezone
            )
        except WireError as error:
            raise SourceError(f"{_name(series)}: {error}") from error
        self._doubts += [f"{_name(series)}: {doubt}" for doubt in doubts]
        return curves

    async def _judge(self, series: Series, curves: Sequence[Curve], today: date) -> None:
        """Say what is missing: not published yet, or asked for by a wrong name."""
        name, now = _name(series), self._now().astimezone(ZoneInfo(self._source.timezone))
        days = {c.day(self._source.timezone) for c in curves}
        if curves:
            late = [today] if now.time() < LATE else [today, today + DAY]
            missing = ", ".join(d.isoformat() for d in late if d not in days)
            if missing:
                self._doubts.append(f"{name}: no prices are published yet for {missing}")
            return
        long_ago = today - 30 * DAY
        known = await self._around.memory.contexts(self._source.name)
        if self._source.context(series) in known or await self._get(series, long_ago, long_ago):
            self._doubts.append(f"{name}: no prices are published yet for {today.isoformat()}")
        else:
            self._doubts.append(
                f"{name}: nothing is published, not even for {long_ago.isoformat()}: the rate, the "
                "circuit or the CCA seems wrong; `openadr-bridge programs search` finds circuits"
            )

    def _next(self, now: datetime) -> datetime:
        """Return when to ask next: in an hour, or when something is published before."""
        local = now.astimezone(ZoneInfo(self._source.timezone))
        times = [local.replace(hour=t.hour, minute=t.minute, second=0) for t in SCHEDULE]
        due = min([now + OFTEN, *(t for t in times if t > local)])
        spread = random.uniform(0, SPREAD)  # noqa: S311 -- spreads load, keeps no secret
        return due + timedelta(seconds=spread)

    def _now(self) -> datetime:
        return self._around.clock.now()


def _read_mark(mark: str | None) -> tuple[date, date] | None:
    since, _, until = (mark or "").partition("/")
    return (date.fromisoformat(since), date.fromisoformat(until)) if until else None


def _name(series: Series) -> str:
    return gridx.program_name(series.rate, series.circuit, series.cca)
