"""What usage cost at the prices that held, and what leaving the subscription cost."""

import asyncio
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from bridge.costs import Pricelist, Span, deviations, total
from bridge.interfaces import PriceHistory
from bridge.model import Document, PriceQuestion
from bridge.usage import (
    EXPORT,
    GENERATION,
    SUBSCRIPTION_POST,
    SUBSCRIPTION_PRE,
    USAGE,
    Bucket,
    Known,
    StreamInfo,
    UsageQuestion,
    UsageStore,
)
from bridge.web import Problem

MOST = 100_000  # readings, or prices, that are looked at together
TOO_MANY = f"cost: there are more than {MOST} readings in a row; ask for less"
PIECE = timedelta(days=32)


class Settling:
    """Works out costs, of the readings that amounts are made of; for one who asks at a time."""

    def __init__(self, store: UsageStore, prices: PriceHistory) -> None:
        self._store, self._prices = store, prices
        self._turn = asyncio.Semaphore(1)

    async def settle(
        self, stream: StreamInfo, program: str | None, rows: Sequence[Document]
    ) -> None:
        """Add to rows of a stream, in order, what is known of their cost and deviation."""
        if stream.kind != USAGE or stream.unit != "KWH":
            return
        question = UsageQuestion(frozenset({stream.meter}), direction=stream.direction)
        others = [s for s in await self._store.streams(question) if s.unit == "KWH"]
        async with self._turn:
            for piece in _pieces(rows):
                await self._settle(stream, others, program, piece)

    async def _settle(
        self,
        stream: StreamInfo,
        others: Sequence[StreamInfo],
        program: str | None,
        rows: Sequence[Document],
    ) -> None:
        start, end = rows[0]["start"], max(row["end"] for row in rows)
        wanted = [(row["start"], row["end"]) for row in rows]
        used = await self._store.parts(stream, wanted, MOST)
        if len(used) < len(rows):
            raise Problem(400, TOO_MANY)
        left = await self._deviations(stream, others, start, end)
        prices = None
        if program is not None and stream.direction not in {EXPORT, GENERATION}:
            question = PriceQuestion(program, start, end, limit=MOST)
            prices = await asyncio.to_thread(Pricelist, await self._prices.prices(question))
        await asyncio.to_thread(_add, rows, used, left, prices)

    async def _spans(self, stream: StreamInfo, start: datetime, end: datetime) -> list[Span]:
        found = await self._store.readings(stream, start, end, MOST)
        if len(found) >= MOST:
            raise Problem(400, TOO_MANY)
        return await asyncio.to_thread(_to_spans, found)

    async def _deviations(
        self, stream: StreamInfo, others: Sequence[StreamInfo], start: datetime, end: datetime
    ) -> tuple[list[Span], list[Span]]:
        """Return what was subscribed to, and by how much usage left it, interval by interval."""
        said = [
            span
            for kind in (SUBSCRIPTION_POST, SUBSCRIPTION_PRE)
            for other in others
            if other.kind == kind
            for span in await self._spans(other, start, end)
        ]
        if not said:
            return [], []
        wanted = await asyncio.to_thread(_laid_over, said)
        buckets = await self._store.buckets(stream, _edges(wanted))
        return wanted, await asyncio.to_thread(_deviations, buckets, wanted)


def _pieces(rows: Sequence[Document]) -> Iterator[Sequence[Document]]:
    """Yield rows in pieces of about a month, so that no more readings are held at once."""
    first = 0
    for n, row in enumerate(rows):
        if row["end"] - rows[first]["start"] > PIECE and n > first:
            yield rows[first:n]
            first = n
    if rows:
        yield rows[first:]


def _to_spans(found: Sequence[Known]) -> list[Span]:
    return [Span(r.start, r.end, r.value) for r in found if r.end > r.start]


def _laid_over(said: Sequence[Span]) -> list[Span]:
    """Return spans in order of which none overlaps: what was billed by goes over the rest."""
    held: list[Span] = []
    for span in said:
        at = bisect_left(held, span.start, key=lambda other: other.start)
        free = (at == 0 or held[at - 1].end <= span.start) and (
            at == len(held) or span.end <= held[at].start
        )
        if free:
            held.insert(at, span)
    return held


def _deviations(buckets: Sequence[Bucket], wanted: Sequence[Span]) -> list[Span]:
    used = [
        Span(bucket.start, bucket.end, bucket.value)
        for bucket in buckets
        if bucket.whole and bucket.value is not None
    ]
    return deviations(used, wanted)


def _edges(spans: Sequence[Span]) -> list[datetime]:
    return sorted({edge for span in spans for edge in span[:2]})


def _add(
    rows: Sequence[Document],
    used: Sequence[Sequence[Known]],
    subscription: tuple[Sequence[Span], Sequence[Span]],
    prices: Pricelist | None,
) -> None:
    wanted, left = subscription
    for row, parts in zip(rows, used, strict=True):
        lo, hi = row["start"], row["end"]
        if prices is not None:
            found = prices.cost(_to_spans(parts))
            row |= {"cost": found.cost, "currency": prices.currency, "unpriced": found.unpriced}
        if wanted:
            inside = _inside(left, lo, hi)
            row["subscription"] = total(_inside(wanted, lo, hi))
            row["deviation"] = total(inside)
            if prices is not None:
                row["deviation_cost"] = prices.cost(inside).cost


def _inside(spans: Sequence[Span], lo: datetime, hi: datetime) -> list[Span]:
    """Return those of spans, which are in order, that lie in [lo, hi)."""
    first = bisect_left(spans, lo, key=lambda span: span.start)
    last = bisect_left(spans, hi, key=lambda span: span.start)
    return [span for span in spans[first:last] if span.end <= hi]
