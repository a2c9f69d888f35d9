"""What spans of time amount to: from kept sums where they are of local dates, or from readings."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import groupby
from typing import Any

from bridge.notation import EXACT, from_millis
from bridge.store.dates import date_span, dates_of
from bridge.store.metered import Metered
from bridge.store.overlaps import NOTHING, Amount, amount_of
from bridge.store.packing import DAY, from_columns
from bridge.store.usage_rows import day_rows
from bridge.usage import DEMAND, Bucket, StreamInfo

HOUR = 3_600_000
Span = tuple[int, int]


def buckets(db: Any, stream: StreamInfo, spans: Sequence[Span]) -> Iterator[Bucket]:
    """Yield what spans amount to: from kept sums where a span is of whole local dates."""
    for dated, group in groupby(spans, lambda span: _is_dates(stream, span)):
        amounts = (_by_dates if dated else _by_readings)(db, stream, list(group))
        for (start, end), amount in amounts:
            covered = timedelta(milliseconds=amount.covered)
            yield Bucket(
                from_millis(start), from_millis(end), amount.value, covered, amount.readings
            )


def _is_dates(stream: StreamInfo, span: Span) -> bool:
    """Whether a span is of local dates of which all readings are inside one of them."""
    if span[1] - span[0] < 23 * HOUR:
        return False
    one_date = span[1] - span[0] <= 25 * HOUR
    return (one_date or not stream.straddles) and all(_date(edge, stream.zone) for edge in span)


def _date(edge: int, zone: str) -> int | None:
    """Return the local date, as days since 1970, that begins at an instant; None for others."""
    for number, start, _ in dates_of(edge // DAY, zone):
        if start == edge:
            return number
    return None


def _by_dates(db: Any, stream: StreamInfo, spans: Sequence[Span]) -> Iterator[tuple[Span, Amount]]:
    first = _date(spans[0][0], stream.zone)
    last = _date(spans[-1][1], stream.zone)
    kept: dict[int, Amount] = {}
    sql = "SELECT date, value, exponent, covered, readings FROM usage_dates"
    for row in db.execute(
        f"{sql} WHERE stream = ? AND date >= ? AND date < ?", (stream.id, first, last)
    ):
        kept[row[0]] = Amount(from_columns(row[1], row[2]), row[3], row[4])
    stale = {
        row[0]
        for row in db.execute(
            "SELECT date FROM usage_stale WHERE stream = ? AND date >= ? AND date < ?",
            (stream.id, first, last),
        )
    }
    for lo, hi in _together(sorted(stale)):
        pieces = [date_span(n, stream.zone) for n in range(lo, hi)]
        for n, (_, amount) in zip(range(lo, hi), _by_readings(db, stream, pieces), strict=True):
            kept[n] = amount
    for span in spans:
        start, end = (_date(edge, stream.zone) or 0 for edge in span)
        yield span, _sum(stream.kind, [kept[n] for n in range(start, end) if n in kept])


def _together(numbers: Sequence[int]) -> Iterator[Span]:
    """Yield runs of consecutive numbers as first, last + 1."""
    for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        found = [n for _, n in run]
        yield found[0], found[-1] + 1


def _sum(kind: str, amounts: Sequence[Amount]) -> Amount:
    values = [a.value for a in amounts if a.value is not None]
    if not values:
        return NOTHING
    total = values[0]
    for value in values[1:]:
        total = max(total, value) if kind.startswith(DEMAND) else EXACT.add(total, value)
    return Amount(total, sum(a.covered for a in amounts), sum(a.readings for a in amounts))


def _by_readings(
    db: Any, stream: StreamInfo, spans: Sequence[Span]
) -> Iterator[tuple[Span, Amount]]:
    """Yield what the readings inside each span amount to."""
    for span, readings in inside(db, stream, spans):
        yield span, amount_of(stream.kind, readings)


def inside(
    db: Any, stream: StreamInfo, spans: Sequence[Span]
) -> Iterator[tuple[Span, Sequence[Metered]]]:
    """Yield the readings that lie wholly inside each span."""
    pending: list[Metered] = []
    days = day_rows(db, stream.id, spans[0][0] // DAY, spans[-1][1] // DAY)
    reached: int | None = -(10**9)
    for lo, hi in spans:
        while reached is not None and reached * DAY + DAY <= hi - 1:
            day, readings = next(days, (None, []))
            reached = day
            pending += readings
        first, last = _at(pending, lo), _at(pending, hi)
        yield (lo, hi), [r for r in pending[first:last] if r.end <= hi]
        pending = pending[first:] if first > 1000 else pending


def _at(readings: Sequence[Metered], start: int) -> int:
    return bisect_left(readings, start, key=lambda r: r.start)
