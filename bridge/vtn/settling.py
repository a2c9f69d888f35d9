"""What usage cost at the prices that held, and what leaving the subscription cost."""

import asyncio
from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime
from itertools import product

from bridge.costs import Pricelist, Span, deviations, total
from bridge.interfaces import PriceHistory
from bridge.model import Document, PriceQuestion
from bridge.usage import (
    EXPORT,
    GENERATION,
    SUBSCRIPTION_POST,
    SUBSCRIPTION_PRE,
    USAGE,
    StreamInfo,
    UsageQuestion,
    UsageStore,
)

MOST = 1_000_000  # readings, or prices, that are looked at for one page


class Settling:
    """Works out costs, from the finest readings there are."""

    def __init__(self, store: UsageStore, prices: PriceHistory) -> None:
        self._store, self._prices = store, prices

    async def settle(
        self, stream: StreamInfo, program: str | None, rows: Sequence[Document]
    ) -> None:
        """Add to rows of a stream, in order, what is known of their cost and deviation."""
        if stream.kind != USAGE or stream.unit != "KWH" or not rows:
            return
        start, end = rows[0]["start"], max(row["end"] for row in rows)
        used = await self._spans(stream, start, end)
        left = await self._deviations(stream, start, end)
        prices = None
        if program is not None and stream.direction not in {EXPORT, GENERATION}:
            question = PriceQuestion(program, start, end, limit=MOST)
            prices = Pricelist(await self._prices.prices(question))
        await asyncio.to_thread(_add, rows, used, left, prices)

    async def _spans(self, stream: StreamInfo, start: datetime, end: datetime) -> list[Span]:
        found = await self._store.readings(stream, start, end, MOST)
        return [Span(r.start, r.end, r.value) for r in found if r.end > r.start]

    async def _deviations(
        self, stream: StreamInfo, start: datetime, end: datetime
    ) -> tuple[list[Span], list[Span]]:
        """Return what was subscribed to, and by how much usage left it, interval by interval."""
        question = UsageQuestion(frozenset({stream.meter}), direction=stream.direction)
        found = await self._store.streams(question)
        subscribed: dict[tuple[datetime, datetime], Span] = {}
        # What was billed by goes over what was said before.
        for kind, other in product((SUBSCRIPTION_PRE, SUBSCRIPTION_POST), found):
            if other.kind != kind:
                continue
            spans = await self._spans(other, start, end)
            subscribed |= {(s.start, s.end): s for s in spans} if other.unit == "KWH" else {}
        wanted = sorted(subscribed.values())
        if not wanted:
            return [], []
        used = [
            Span(span.start, span.end, span.value)
            for span in await self._store.buckets(stream, _edges(wanted))
            if span.whole and span.value is not None
        ]
        return wanted, deviations(used, wanted)


def _edges(spans: Sequence[Span]) -> list[datetime]:
    return sorted({edge for span in spans for edge in span[:2]})


def _add(
    rows: Sequence[Document],
    used: Sequence[Span],
    subscription: tuple[Sequence[Span], Sequence[Span]],
    prices: Pricelist | None,
) -> None:
    wanted, left = subscription
    for row in rows:
        lo, hi = row["start"], row["end"]
        if prices is not None:
            found = prices.cost(_inside(used, lo, hi))
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
