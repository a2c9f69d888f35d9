"""Local dates, as numbers of days since 1970, beside UTC days."""

from datetime import date, timedelta
from functools import lru_cache

from bridge.notation import day_span, millis
from bridge.store.packing import DAY


@lru_cache(maxsize=4096)
def dates_of(day: int, zone: str) -> list[tuple[int, int, int]]:
    """Return the local dates of which a UTC day holds a part: number, start, end."""
    lo, hi = day * DAY, (day + 1) * DAY
    spans = ((n, *date_span(n, zone)) for n in (day - 1, day, day + 1))
    return [(n, start, end) for n, start, end in spans if start < hi and end > lo]


@lru_cache(maxsize=4096)
def date_span(number: int, zone: str) -> tuple[int, int]:
    """Return when a local date begins and ends, in milliseconds."""
    start, end = day_span(date(1970, 1, 1) + timedelta(days=number), zone)
    return millis(start), millis(end)
