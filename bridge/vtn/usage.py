"""`/api/v1/usage`: what was measured, what it amounts to, and what it cost."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Literal, NamedTuple

from aiohttp import web
from pydantic import Field

from bridge.clock import Clock
from bridge.interfaces import PriceHistory
from bridge.model import Document
from bridge.notation import read_time, to_json, write_time
from bridge.parties import Caller
from bridge.resolutions import Resolution, edges
from bridge.usage import (
    Contract,
    ContractStore,
    StreamInfo,
    UsageQuestion,
    UsageStore,
    owned,
)
from bridge.vtn.export import green_button
from bridge.vtn.settling import Settling
from bridge.vtn.tables import write_rows
from bridge.vtn.times import FIRST_YEAR, LAST_YEAR, Time
from bridge.vtn.usage_shown import COLUMNS, bucket_rows, covered, native_rows
from bridge.web import CALLER, Problem, Query, Route, read_query, reply_tagged

LONGEST_PAGE = 10_000
EARLIEST = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC)
AT_ONCE = 500  # buckets that are worked out together
MOST_PIECES = 100  # of so many buckets, in a page
MILLISECOND = timedelta(milliseconds=1)
RAW = "usage:raw"
# What only usage:raw sees of a row
RAW_FIELDS = ("cost", "currency", "deviation_cost", "quality", "origin", "said", "since")
BACK = {"native": 1, "hourly": 7, "daily": 31, "monthly": 366}  # days, where no start is given
HIDDEN = "there is no such meter or contract, or it is not yours to see; /api/v1/meters lists them"
CONTENT_TYPES = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
}


class UsageQuery(Query):
    """What `GET /api/v1/usage` can be asked."""

    meter: str | None = None
    contract: str | None = None
    start: Time | None = None
    end: Time | None = None
    resolution: Resolution = "hourly"
    direction: str | None = None
    kind: str | None = None
    cost: bool = False
    revisions: bool = False
    format: Literal["json", "csv", "ndjson"] = "json"
    limit: int = Field(1000, ge=1, le=LONGEST_PAGE)
    cursor: str | None = None


class FileQuery(Query):
    """What `GET /api/v1/usage/greenbutton` can be asked."""

    meter: str
    start: Time | None = None
    end: Time | None = None
    contract: None = None


class CoverageQuery(Query):
    """What `GET /api/v1/usage/coverage` can be asked."""

    meter: str | None = None
    contract: str | None = None
    start: Time | None = None
    end: Time | None = None
    limit: int = Field(1000, ge=1, le=LONGEST_PAGE)
    cursor: str | None = None


_Rows = tuple[StreamInfo, list[Document]]


class Usage:
    """Answers from the readings, to each caller what it may see."""

    def __init__(
        self, store: UsageStore, contracts: ContractStore, prices: PriceHistory, clock: Clock
    ) -> None:
        self._store, self._contracts, self._clock = store, contracts, clock
        self._settling = Settling(store, prices)

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("GET", "/api/v1/meters", self.meters, "usage:read",
                  "Meters that the caller may see, and what they measure"),
            Route("GET", "/api/v1/usage", self.usage, "usage:read",
                  "What was measured, native or by hour, day or month", UsageQuery,
                  answers=(200, 403, 404)),
            Route("GET", "/api/v1/usage/coverage", self.coverage, "usage:read",
                  "Of which times there are readings", CoverageQuery, answers=(200, 404)),
            Route("GET", "/api/v1/usage/greenbutton", self.green_button, RAW,
                  "A meter's readings as a Green Button file (ESPI XML)", FileQuery,
                  answers=(200, 404)),
        ]  # fmt: skip

    async def meters(self, request: web.Request) -> web.Response:
        """GET /api/v1/meters."""
        caller = request[CALLER]
        _, question = await self._seen(caller, None)
        found = await self._store.meters(question)
        if caller.client is not None:  # how a source stands is the operator's
            shown = ("id", "meter", "timezone", "last_heard", "streams")
            found = [{name: row[name] for name in shown} for row in found]
        return await _list_reply(found)

    async def coverage(self, request: web.Request) -> web.Response:
        """GET /api/v1/usage/coverage: stretches of time, and the gaps between them."""
        query: CoverageQuery = read_query(request, CoverageQuery)
        _check_span(query.start, query.end)
        streams, _ = await self._streams(request[CALLER], query)
        begin, items, left = _begin_at(query.cursor, streams), list[Document](), query.limit
        on = begin.start is not None and begin.start > (query.start or EARLIEST)
        start = begin.start if on else query.start
        for stream in begin.streams:
            if left <= 0:
                return await _list_reply(items, f"{write_time(EARLIEST)}~{stream.id}~0")
            found = await self._store.coverage(stream, start, query.end, left + 1)
            rest = found[left].start if len(found) > left else None
            items.append(covered(stream, start, found[:left], rest or query.end))
            if rest:
                return await _list_reply(items, f"{write_time(rest)}~{stream.id}~0")
            left, start = left - max(1, len(found)), query.start
        return await _list_reply(items)

    async def usage(self, request: web.Request) -> web.Response:
        """GET /api/v1/usage: the last days, where no start is given."""
        query: UsageQuery = read_query(request, UsageQuery)
        raw = RAW in request[CALLER].scopes
        _check(query, request[CALLER])
        streams, programs = await self._streams(request[CALLER], query)
        page, after = await self._page(query, _begin_at(query.cursor, streams))
        if query.cost:
            for stream, rows in page:
                await self._settling.settle(stream, programs.get(stream.meter), rows)
        omitted = [] if raw else list(RAW_FIELDS)
        envelope: Document = {"next": after, **({"omitted_fields": omitted} if omitted else {})}
        shown = [row for _, rows in page for row in rows]
        written = await asyncio.to_thread(
            write_rows, query.format, shown, COLUMNS, omitted, envelope
        )
        reply = await reply_tagged(request, written, CONTENT_TYPES[query.format])
        if omitted:
            reply.headers["X-Omitted-Fields"] = ", ".join(omitted)
        if after and query.format != "json":
            reply.headers["Link"] = f'<{request.url.update_query(cursor=after)}>; rel="next"'
        return reply

    async def green_button(self, request: web.Request) -> web.StreamResponse:
        """GET /api/v1/usage/greenbutton: as it is kept; what ESPI cannot say is left out."""
        query: FileQuery = read_query(request, FileQuery)
        _check_span(query.start, query.end)
        streams, _ = await self._streams(request[CALLER], query)
        if not streams:
            raise Problem(404, "there are no readings of this meter")
        reply = web.StreamResponse(headers={
            "Content-Type": "application/atom+xml; charset=utf-8",
            "Content-Disposition": 'attachment; filename="usage.xml"',
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        })  # fmt: skip
        pieces = green_button(
            self._store, streams, query.start, query.end, self._clock.now(), Counter()
        )
        await reply.prepare(request)
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    await reply.write(piece)
        except Exception:
            if request.transport:  # what has begun cannot become a problem: it ends
                request.transport.abort()
            raise
        return reply

    async def _streams(
        self, caller: Caller, about: "UsageQuery | CoverageQuery | FileQuery"
    ) -> tuple[list[StreamInfo], Mapping[str, str]]:
        """Return the streams that are asked for and seen, and the program of each meter.

        What is hidden and what there is not are the same, by the same path.
        """
        contracts, question = await self._seen(caller, about.contract)
        if about.meter is not None:
            question = question.of(about.meter)
        if isinstance(about, UsageQuery):
            question = replace(question, direction=about.direction, kind=about.kind)
        streams = await self._store.streams(question)
        unknown = about.contract is not None and not contracts
        if about.meter is not None and not streams:
            unknown = not await self._store.exists(question)
        if unknown:
            raise Problem(404, HIDDEN)
        return streams, {m: c.program for c in contracts if c.program for m in c.meters}

    async def _seen(
        self, caller: Caller, contract: str | None
    ) -> tuple[list[Contract], UsageQuestion]:
        """Return the contracts that count, and a question for all that a caller may see."""
        contracts = await self._contracts.granted(caller.client)
        if contract is not None:
            contracts = [c for c in contracts if c.id == contract]
        elif caller.client is None:
            return contracts, UsageQuestion()
        meters = frozenset(m for c in contracts for m in c.meters)
        own = owned("openadr3", caller.client) if contract is None and caller.client else None
        return contracts, UsageQuestion(meters, own)

    async def _page(self, query: UsageQuery, begin: "_Begin") -> tuple[list[_Rows], str | None]:
        """Return rows by stream and time, and from where the next page goes on."""
        until = min(query.end or self._clock.now(), self._clock.now())
        since = query.start or until - timedelta(days=BACK[query.resolution])
        page: list[_Rows] = []
        left, start, skip = query.limit, max(since, begin.start or since), begin.skip
        pieces = iter(range(MOST_PIECES))
        for stream in begin.streams:
            found, on = await self._rows(query, stream, start, left + skip + 1, pieces)
            rows = found[skip:]
            if len(rows) > left:
                again = rows[left]["start"]
                skip = sum(row["start"] == again for row in rows[:left]) + skip * (again == start)
                after = f"{write_time(again)}~{stream.id}~{skip}"
                return [*page, (stream, rows[:left])], after
            page.append((stream, rows))
            if on:
                return page, f"{write_time(on)}~{stream.id}~0"
            left, start, skip = left - len(rows), since, 0
        return page, None

    async def _rows(
        self,
        query: UsageQuery,
        stream: StreamInfo,
        start: datetime,
        limit: int,
        pieces: Iterator[int],
    ) -> tuple[list[Document], datetime | None]:
        """Return a stream's first rows, and where it goes on if it was too much to look for.

        They are made off the event loop, there may be many.
        """
        if stream.first is None or stream.last is None:
            return [], None
        last = stream.last + MILLISECOND  # one of no length may stand at its end
        end = min(query.end or last, last)
        if query.resolution == "native":
            found = await self._store.readings(stream, start, end, limit)
            if query.revisions:
                # What was replaced after the last that is shown is of a later page.
                until = found[-1].start + MILLISECOND if len(found) == limit else end
                found += await self._store.trace(stream, start, until, limit)
                found = sorted(found, key=lambda r: (r.start, r.since))[:limit]
            return await asyncio.to_thread(native_rows, stream, found), None
        rows, begin = list[Document](), max(start, stream.first)
        shorts = query.resolution == "hourly"  # no hour is made of anything longer
        while len(rows) < limit and begin < end:
            # Nothing is worked out in between
            again = await self._store.begins(stream, begin, shorts=shorts)
            if again is None or again >= end:
                break
            if next(pieces, None) is None:
                return rows, begin
            all_edges = edges(query.resolution, stream.zone, max(begin, again), end)
            chunk = list(islice(all_edges, AT_ONCE))
            buckets = await self._store.buckets(stream, chunk)
            rows += await asyncio.to_thread(bucket_rows, stream, buckets)
            begin = chunk[-1]
        return rows[:limit], None


async def _list_reply(items: Sequence[Document], after: str | None = None) -> web.Response:
    """Answer with a list that may be long, written off the event loop."""
    text = await asyncio.to_thread(to_json, {"items": items, "next": after})
    return web.Response(text=text, content_type="application/json")


def _check(query: UsageQuery, caller: Caller) -> None:
    _check_span(query.start, query.end)
    if query.resolution == "native" and RAW not in caller.scopes:
        had = ", ".join(sorted(caller.scopes)) or "none"
        raise Problem(403, f"native readings need scope {RAW}; yours has {had}")
    if query.revisions and (query.resolution != "native" or query.cost):
        raise Problem(400, "revisions: are of native readings, and without cost")


def _check_span(start: datetime | None, end: datetime | None) -> None:
    if start and end and end <= start:
        raise Problem(400, "end: must be after start")


class _Begin(NamedTuple):
    """From where a page goes on: which streams are left, and where in the first of them."""

    streams: Sequence[StreamInfo]
    start: datetime | None = None
    skip: int = 0  # rows that begin at the start, and were shown


def _begin_at(cursor: str | None, streams: Sequence[StreamInfo]) -> _Begin:
    if cursor is None:
        return _Begin(streams)
    try:
        start, stream, skip = cursor.split("~")
        number, place = int(stream), (read_time(start), int(skip))
    except (ValueError, OverflowError) as error:
        raise Problem(400, "cursor: is not one that was given by this API") from error
    if not (0 <= place[1] < LONGEST_PAGE and FIRST_YEAR <= place[0].year < LAST_YEAR):
        raise Problem(400, "cursor: is not one that was given by this API")
    for n, known in enumerate(streams):
        if known.id == number:
            return _Begin(streams[n:], *place)
    raise Problem(400, "cursor: is not of this question")
