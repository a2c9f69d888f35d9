"""`/api/v1/usage`: what was measured, what it amounts to, and what it cost."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Literal, NamedTuple

from aiohttp import web
from pydantic import Field

from bridge.clock import Clock
from bridge.interfaces import PriceHistory
from bridge.model import Document
from bridge.notation import read_time, write_time
from bridge.parties import Caller
from bridge.resolutions import Resolution, edges
from bridge.usage import ContractStore, Known, StreamInfo, UsageQuestion, UsageStore
from bridge.vtn.settling import Settling
from bridge.vtn.tables import write_rows
from bridge.vtn.times import Time
from bridge.web import CALLER, Problem, Query, Route, read_query, reply_list, reply_tagged

LONGEST_PAGE = 10_000
AT_ONCE = 2_000  # buckets that are worked out together
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
COLUMNS = (
    "meter", "direction", "kind", "start", "end", "value", "unit", "complete", "covered_seconds",
    "readings", "quality", "origin", "said", "since", "cost", "currency", "unpriced",
    "subscription", "deviation", "deviation_cost",
)  # fmt: skip


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


class CoverageQuery(Query):
    """What `GET /api/v1/usage/coverage` can be asked."""

    meter: str | None = None
    contract: str | None = None
    start: Time | None = None
    end: Time | None = None


class _Item(NamedTuple):
    """A row, and the stream and instant from which a page may begin with it."""

    stream: StreamInfo
    start: datetime
    row: Document


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
        ]  # fmt: skip

    async def meters(self, request: web.Request) -> web.Response:
        """GET /api/v1/meters."""
        caller = request[CALLER]
        names = await self._visible(caller)
        found = await self._store.meters(names)
        if caller.client is not None:  # how a source stands is the operator's
            shown = ("id", "meter", "timezone", "last_heard", "streams")
            found = [{name: row[name] for name in shown} for row in found]
        return reply_list(found, None)

    async def coverage(self, request: web.Request) -> web.Response:
        """GET /api/v1/usage/coverage: stretches of time, and the gaps between them."""
        query: CoverageQuery = read_query(request, CoverageQuery)
        _check_span(query.start, query.end)
        streams, _ = await self._streams(request[CALLER], query.meter, query.contract)
        return reply_list([await self._covered(s, query.start, query.end) for s in streams], None)

    async def _covered(
        self, stream: StreamInfo, start: datetime | None, end: datetime | None
    ) -> Document:
        found = await self._store.coverage(stream, start, end)
        seams = [start, *(edge for s in found for edge in s), end]
        gaps = zip(seams[::2], seams[1::2], strict=True)
        return {
            "id": f"{stream.meter}/{stream.direction}/{stream.kind}",
            "meter": stream.meter,
            "direction": stream.direction,
            "kind": stream.kind,
            "unit": stream.unit or None,
            "covered": [{"start": s.start, "end": s.end} for s in found],
            "gaps": [{"start": a, "end": b} for a, b in gaps if a and b and a < b],
        }

    async def usage(self, request: web.Request) -> web.Response:
        """GET /api/v1/usage: the last days, where no start is given."""
        query: UsageQuery = read_query(request, UsageQuery)
        raw = RAW in request[CALLER].scopes
        _check(query, request[CALLER])
        streams, programs = await self._streams(
            request[CALLER], query.meter, query.contract, query.direction, query.kind
        )
        begin = _read_cursor(query.cursor, streams)
        items = [item async for item in self._items(query, streams, begin, query.limit + 1)]
        page, more = items[: query.limit], items[query.limit :]
        after = f"{write_time(more[0].start)}~{more[0].stream.id}" if more else None
        if query.cost:
            await self._settle(page, programs)
        omitted = [] if raw else list(RAW_FIELDS)
        rows = [{k: v for k, v in item.row.items() if k not in omitted} for item in page]
        columns = [c for c in COLUMNS if c not in omitted]
        envelope: Document = {"next": after, **({"omitted_fields": omitted} if omitted else {})}
        written = await asyncio.to_thread(write_rows, query.format, rows, columns, envelope)
        reply = await reply_tagged(request, written, CONTENT_TYPES[query.format])
        if omitted:
            reply.headers["X-Omitted-Fields"] = ", ".join(omitted)
        if after and query.format != "json":
            reply.headers["Link"] = f'<{request.url.update_query(cursor=after)}>; rel="next"'
        return reply

    async def _visible(self, caller: Caller) -> frozenset[str] | None:
        """Return the meters that a caller may see; None is all."""
        return None if caller.client is None else await self._store.visible(caller.client)

    async def _streams(
        self,
        caller: Caller,
        meter: str | None,
        contract: str | None,
        direction: str | None = None,
        kind: str | None = None,
    ) -> tuple[list[StreamInfo], Mapping[str, str]]:
        """Return the streams that are asked for and seen, and the program of each meter.

        What is hidden and what there is not are the same, by the same path.
        """
        visible = await self._visible(caller)
        contracts = await self._contracts.granted(caller.client)
        names: Collection[str] | None = visible
        if contract is not None:
            contracts = [c for c in contracts if c.id == contract]
            names = {m for c in contracts for m in c.meters}
        if meter is not None:
            names = {meter} if names is None or meter in names else set()
        streams = await self._store.streams(
            UsageQuestion(names, direction and [direction], kind and [kind])
        )
        if (contract is not None and not contracts) or (
            meter is not None and not await self._store.meters(names)
        ):
            raise Problem(404, HIDDEN)
        programs = {m: c.program for c in contracts if c.program for m in c.meters}
        return streams, programs

    async def _items(
        self,
        query: UsageQuery,
        streams: Sequence[StreamInfo],
        begin: tuple[int, datetime] | None,
        limit: int,
    ) -> AsyncIterator[_Item]:
        """Yield rows by stream and time, as many as are asked for."""
        count, skipping = 0, begin is not None
        since = query.start or self._clock.now() - timedelta(days=BACK[query.resolution])
        for stream in streams:
            start = since
            if skipping and begin is not None:
                if stream.id != begin[0]:
                    continue
                start, skipping = max(since, begin[1]), False
            async for item in self._of_stream(query, stream, start, limit - count):
                count += 1
                yield item
            if count >= limit:
                return

    async def _of_stream(
        self, query: UsageQuery, stream: StreamInfo, start: datetime, limit: int
    ) -> AsyncIterator[_Item]:
        if stream.first is None or stream.last is None:
            return
        last = stream.last + timedelta(milliseconds=1)  # one of no length may stand at its end
        end = min(query.end or last, last)
        if query.resolution == "native":
            found = await self._store.readings(stream, start, end, limit)
            if query.revisions:
                found += await self._store.trace(stream, start, end)
                found = sorted(found, key=lambda r: (r.start, r.since))[:limit]
            for reading in found:
                yield _Item(stream, reading.start, _native(stream, reading))
            return
        all_edges = edges(query.resolution, stream.zone, max(start, stream.first), end)
        begin = next(all_edges)
        while limit > 0 and (chunk := list(islice(all_edges, AT_ONCE))):
            for bucket in await self._store.buckets(stream, [begin, *chunk]):
                if bucket.value is not None and limit > 0:
                    limit -= 1
                    row = _row(stream, bucket.start, bucket.end) | {
                        "value": bucket.value,
                        "unit": stream.unit or None,
                        "complete": bucket.whole,
                        "covered_seconds": bucket.covered // timedelta(seconds=1),
                        "readings": bucket.readings,
                    }
                    yield _Item(stream, bucket.start, row)
            begin = chunk[-1]

    async def _settle(self, page: Sequence[_Item], programs: Mapping[str, str]) -> None:
        """Add to rows what they cost, and how usage deviates from the subscription."""
        by_stream: dict[int, list[_Item]] = {}
        for item in page:
            by_stream.setdefault(item.stream.id, []).append(item)
        for items in by_stream.values():
            program = programs.get(items[0].stream.meter)
            await self._settling.settle(items[0].stream, program, [item.row for item in items])


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


def _row(stream: StreamInfo, start: datetime, end: datetime) -> Document:
    return {
        "id": f"{stream.meter}/{stream.direction}/{stream.kind}/{write_time(start)}",
        "meter": stream.meter,
        "direction": stream.direction,
        "kind": stream.kind,
        "start": start,
        "end": end,
    }


def _native(stream: StreamInfo, reading: Known) -> Document:
    row = _row(stream, reading.start, reading.end) | {
        "value": reading.value,
        "unit": stream.unit or None,
        "quality": reading.quality,
        "origin": reading.origin,
        "said": reading.said,
        "since": reading.since,
    }
    if reading.cost is not None:
        row["billed"] = {"cost": reading.cost, "currency": stream.currency or None}
    if reading.replaced is not None:
        row |= {"replaced": reading.replaced, "id": f"{row['id']}/{write_time(reading.since)}"}
    return row


def _read_cursor(text: str | None, streams: Sequence[StreamInfo]) -> tuple[int, datetime] | None:
    if text is None:
        return None
    try:
        start, stream = text.split("~", 1)
        place = int(stream), read_time(start).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Problem(400, "cursor: is not one that was given by this API") from error
    if place[0] not in {stream.id for stream in streams}:
        raise Problem(400, "cursor: is not of this question")
    return place
