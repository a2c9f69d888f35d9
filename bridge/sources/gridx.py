"""A utility's dynamic prices from GridX's Pricing API: the subscribed series, past and coming.

Nothing says when or how far ahead prices are published, so all that may be is asked for: by
the publication schedule, and every hour beside it. What is answered with 204 is either not
published yet or a mistake in the settings; a day that must be there tells which.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Literal
from zoneinfo import ZoneInfo

import structlog
from pydantic import Field, HttpUrl, field_validator

from bridge.errors import SourceError, Unreachable, WireError
from bridge.interfaces import Batch, Surroundings
from bridge.model import Publication
from bridge.notation import Frozen, Zone
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
from bridge.wire import gridx
from bridge.wire.gridx import Asked, Curve

log = structlog.get_logger()

DAY = timedelta(days=1)
LONGEST_STEP = 14  # days; "do not request more than two weeks of prices at once"
AHEAD, BEHIND = 7, 6  # days from today for which prices may come, or come late
LATE_DAYS = 30  # for how long a missing day of the past is asked for again, once a day
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

    @property
    def name(self) -> str:
        """Return the name of its program."""
        return gridx.program_name(self.rate, self.circuit, self.cca)


class GridX(PricingSource):
    """A utility at GridX, and which of its series are collected."""

    apart = timedelta(seconds=0.5)

    kind: Literal["gridx"]
    base_url: BaseUrl
    utility: str = Field(min_length=1, max_length=64)
    series: tuple[Series, ...] = Field(min_length=1)
    backfill_from: Day | None = None
    timezone: Zone = "America/Los_Angeles"
    basis: Literal["marginal", "retail"] | None = None

    @field_validator("series")
    @classmethod
    def _each_once(cls, value: tuple[Series, ...]) -> tuple[Series, ...]:
        twice = [s.name for s in value if value.count(s) > 1]
        if twice:
            raise ValueError(f"names {twice[0]} twice")
        return value

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
        for series in self.series:
            _doubt_rate(self.utility, series.rate)
        async with self.asking(around.clock) as ask:
            collecting = _Collecting(self, ask, around)
            async with aclosing(
                rounds(self, ask, around, collecting.poll, self._next_round)
            ) as batches:
                async for batch in batches:
                    yield batch

    async def backlog(self, around: Surroundings) -> list[Step]:
        """Return which history was not asked for yet, and days that were missing in it."""
        if self.backfill_from is None:
            return []
        marks = await around.memory.marks(self.name)
        yesterday = self.today(around.clock.now()) - DAY
        begin = max(self.backfill_from, gridx.FIRST_DAY.get(self.utility, self.backfill_from))
        found: list[Step] = []
        for series in self.series:
            known = Mark.read(marks.get(self.context(series)))
            first = begin
            if known and known.since <= begin <= known.until + DAY:
                first = known.until + DAY
                found += [Step(series, day, day, begin) for day in sorted(known.holes)]
            found += steps(series, first, yesterday, LONGEST_STEP, begin)
        return sorted(found, key=lambda s: s.first)

    async def fill(
        self, ask: Asking, around: Surroundings, piece: Step, doubts: list[str]
    ) -> AsyncGenerator[Batch, None]:
        """Yield the history of a step, and how far it is known then.

        A day that was refused, or may still be published, stays a hole to be asked for.
        """
        collecting = _Collecting(self, ask, around)
        curves = await collecting.past(piece.of, piece.first, piece.last)
        doubts += collecting.doubts
        context = self.context(piece.of)
        marks: dict[str, str] = {}
        if curves or context in await around.memory.contexts(self.name):
            had = Mark.read((await around.memory.marks(self.name)).get(context))
            came = {c.day(self.timezone) for c in curves}
            count = (piece.last - piece.first).days + 1
            asked = {piece.first + n * DAY for n in range(count)}
            recent = self.today(around.clock.now()) - timedelta(days=LATE_DAYS)
            holes = {d for d in asked - came if collecting.refused or d >= recent}
            marks[context] = Mark.after(had, piece, asked, holes).write()
        yield Batch(publications=[self.publication(piece.of, curves)], marks=marks, history=True)

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

    def _next_round(self, now: datetime) -> datetime:
        """Return when to ask next: in an hour, or when something is published before."""
        local = now.astimezone(ZoneInfo(self.timezone))
        times = [local.replace(hour=t.hour, minute=t.minute, second=0) for t in SCHEDULE]
        due = min([now + OFTEN, *(t for t in times if t > local)])
        spread = random.uniform(0, SPREAD)  # noqa: S311 -- spreads load, keeps no secret
        return due.astimezone(UTC) + timedelta(seconds=spread)


@dataclass(frozen=True, slots=True)
class Mark:
    """Between which days a series was asked for, and which of them are still missing."""

    since: date
    until: date
    holes: frozenset[date] = frozenset()

    @classmethod
    def read(cls, text: str | None) -> "Mark | None":
        """Return what `write` wrote."""
        if not text:
            return None
        since, until, holes = text.split("/")
        found = frozenset(date.fromisoformat(day) for day in holes.split(",") if day)
        return cls(date.fromisoformat(since), date.fromisoformat(until), found)

    def write(self) -> str:
        """Return it as the text that is kept."""
        holes = ",".join(day.isoformat() for day in sorted(self.holes))
        return f"{self.since.isoformat()}/{self.until.isoformat()}/{holes}"

    @classmethod
    def after(cls, had: "Mark | None", piece: Step, asked: set[date], holes: set[date]) -> "Mark":
        """Return what holds after a step was asked for."""
        if had is None or not had.since <= piece.since <= had.until + DAY:
            return cls(piece.since, piece.last, frozenset(holes))
        return cls(had.since, max(had.until, piece.last), frozenset((had.holes - asked) | holes))


@cache
def _doubt_rate(utility: str, rate: str) -> None:
    """Warn, once, of a rate that is not known; it may well be served all the same."""
    known = gridx.RATES.get(utility, "").split()
    if known and rate not in known:
        log.warning("rate is not one that is known", utility=utility, rate=rate, known=known)


class _Collecting:
    """Collects one source's series."""

    def __init__(self, source: GridX, ask: Asking, around: Surroundings) -> None:
        self._source, self._ask, self._around = source, ask, around
        self._whole: dict[Series, set[date]] = {}  # days that came whole, since the day began
        self._day: date | None = None
        self.doubts: list[str] = []
        self.refused = False  # whether a day of what was asked for could not be read

    async def poll(self, now_on: Round) -> AsyncGenerator[Batch, None]:
        """Ask for what is or may be published of each series."""
        today = self._source.today(self._around.clock.now())
        if today != self._day:
            self._day, self._whole = today, {}
        for series in turned(self._source.series):
            self.doubts = now_on.asks(series.name)
            try:
                curves = await self._recent(series, today)
                await self._judge(series, curves, today)
            except SourceError as error:
                if now_on.fails(series.name, error):
                    return
                continue
            now_on.answers()
            whole = {c.day(self._source.timezone) for c in curves if c.whole}
            self._whole.setdefault(series, set()).update(whole)
            if curves:
                yield Batch(publications=[self._source.publication(series, curves)])

    async def _recent(self, series: Series, today: date) -> list[Curve]:
        """Return what there is of the days around today, late ones and coming ones."""
        behind = [today - n * DAY for n in range(BEHIND, 0, -1)]
        whole = self._whole.get(series, set())
        first = next((d for d in behind if d not in whole), today - DAY)
        curves = await self._get(series, first, today + AHEAD * DAY)
        if curves:
            return curves
        # Perhaps the whole is refused because a part of it is not published yet.
        curves = await self._get(series, first, today) or await self._each(series, first, today)
        ahead = today + DAY
        while curves and ahead <= today + AHEAD * DAY:
            more = await self._get(series, ahead, ahead)
            if not more:
                break
            curves, ahead = [*curves, *more], ahead + DAY
        return curves

    async def past(self, series: Series, first: date, last: date) -> list[Curve]:
        """Return some days; where all were refused or failed, perhaps not each of them does.

        Raises SourceError where nothing else is answered either.
        """
        failed: SourceError | None = None
        try:
            curves = await self._get(series, first, last)
        except SourceError as error:
            if first == last or error.retry_after or isinstance(error, Unreachable):
                raise
            failed, curves = error, []
        if curves or first == last:
            return curves
        if await self._try(series, first) or await self._try(series, last):
            days = [first + n * DAY for n in range((last - first).days + 1)]
            return [curve for day in days for curve in await self._try(series, day)]
        if failed:
            raise failed
        return []

    async def _try(self, series: Series, day: date) -> list[Curve]:
        """Return a day; one that fails for itself is told, and is missing."""
        try:
            return await self._get(series, day, day)
        except SourceError as error:
            if error.retry_after or isinstance(error, Unreachable):
                raise
            self.doubts.append(f"{series.name}, {day}: {error}")
            self.refused = True
            return []

    async def _each(self, series: Series, first: date, last: date) -> list[Curve]:
        days = [first + n * DAY for n in range((last - first).days + 1)]
        return [curve for day in days for curve in await self._get(series, day, day)]

    async def _get(self, series: Series, first: date, last: date) -> list[Curve]:
        """Return what is answered for these days; nothing for 204."""
        asked = self._source.asked(series, first, last)
        text = await self._ask.get(self._source.url, asked.query())
        if text is None:
            return []
        try:
            answer = await asyncio.to_thread(gridx.read_pricing, text, self._source.timezone)
        except WireError as error:
            raise SourceError(str(error)) from error
        self.doubts += [f"{series.name}: {doubt}" for doubt in answer.doubts]
        self.refused = self.refused or answer.refused
        return list(answer.curves)

    async def _judge(self, series: Series, curves: Sequence[Curve], today: date) -> None:
        """Say what is missing: not published yet, or asked for by a wrong name."""
        now = self._around.clock.now().astimezone(ZoneInfo(self._source.timezone))
        name, days = series.name, {c.day(self._source.timezone) for c in curves}
        if curves:
            due = [today] if now.time() < LATE else [today, today + DAY]
            missing = ", ".join(d.isoformat() for d in due if d not in days)
            if missing:
                self.doubts.append(f"{name}: no prices are published yet for {missing}")
            return
        long_ago = today - 30 * DAY
        known = await self._around.memory.contexts(self._source.name)
        if self._source.context(series) in known or await self._get(series, long_ago, long_ago):
            self.doubts.append(f"{name}: no prices are published yet for {today.isoformat()}")
        else:
            self.doubts.append(
                f"{name}: nothing is published, not even for {long_ago.isoformat()}: the rate, the "
                "circuit or the CCA seems wrong; `openadr-bridge programs search` finds circuits"
            )
