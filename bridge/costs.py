"""What usage cost at the prices that held, and what it cost to leave the subscription.

A customer of a dynamic rate subscribes to an amount for each hour and pays, or is paid, the
hour's price for what is used beyond it, or not used. Only what one price held for all through
is priced: an amount is not spread over prices.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import NamedTuple

from bridge.model import PriceRow
from bridge.notation import EXACT

# A price is of one of these; amounts are in KWH.
_PER_KWH = {"KWH": 0, None: 0, "": 0, "MWH": -3, "WH": 3}
ZERO = Decimal(0)


class Span(NamedTuple):
    """An amount of energy, in KWH, between two instants."""

    start: datetime
    end: datetime
    amount: Decimal


class Cost(NamedTuple):
    """What amounts cost, and how much of them is without a price."""

    cost: Decimal | None
    unpriced: Decimal


class Pricelist:
    """The prices of one program that held, to be looked up."""

    def __init__(self, rows: Sequence[PriceRow]) -> None:
        usable = [row for row in rows if row.unit in _PER_KWH]
        series = next((list(group) for _, group in groupby(usable, lambda r: r.series)), [])
        self._rows = sorted(series, key=lambda r: r.start)
        self._starts = [row.start for row in self._rows]
        self.currency = self._rows[0].currency if self._rows else None

    def price(self, start: datetime, end: datetime) -> Decimal | None:
        """Return the price of a KWH that held all through [start, end), if one did."""
        at = bisect_right(self._starts, start) - 1
        if at < 0 or self._rows[at].end <= start:
            return None
        first = row = self._rows[at]
        while row.end < end:
            at += 1
            following = self._rows[at] if at < len(self._rows) else None
            if following is None or following.start != row.end or following.value != first.value:
                return None
            row = following
        return first.value.scaleb(_PER_KWH[first.unit], EXACT)

    def cost(self, spans: Iterable[Span]) -> Cost:
        """Return what amounts cost together."""
        cost, unpriced, priced = ZERO, ZERO, False
        for span in spans:
            price = self.price(span.start, span.end)
            if price is None:
                unpriced = EXACT.add(unpriced, span.amount)
            else:
                cost, priced = EXACT.fma(span.amount, price, cost), True
        return Cost(cost if priced else None, unpriced)


def deviations(used: Iterable[Span], subscribed: Iterable[Span]) -> list[Span]:
    """Return by how much usage left the subscription, where both are known for the same time."""
    amounts = {(span.start, span.end): span.amount for span in used}
    return [
        Span(s.start, s.end, EXACT.subtract(amounts[s.start, s.end], s.amount))
        for s in subscribed
        if (s.start, s.end) in amounts
    ]


def total(spans: Sequence[Span]) -> Decimal | None:
    """Return the sum of amounts, or None where there are none."""
    amount: Decimal | None = None
    for span in spans:
        amount = span.amount if amount is None else EXACT.add(amount, span.amount)
    return amount
