"""Hours, days and months of a place, as instants: days of 23 and 25 hours are what they are."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from bridge.notation import day_span

Resolution = Literal["native", "hourly", "daily", "monthly"]
HOUR = timedelta(hours=1)


def edges(resolution: str, zone: str, start: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the edges of all hours, days or months of a zone that hold something of [start, end).

    The first may be before the start, the last after the end.
    """
    make = {"hourly": _hours, "daily": _days, "monthly": _months}[resolution]
    for edge in make(zone, start):
        yield edge
        if edge >= end:
            return


def _hours(zone: str, start: datetime) -> Iterator[datetime]:
    edge = _hour_of(start, zone)
    while True:
        yield edge
        following = _hour_of(edge + HOUR, zone)  # a clock may move by half an hour
        edge = following if following > edge else edge + HOUR


def _hour_of(moment: datetime, zone: str) -> datetime:
    local = moment.astimezone(ZoneInfo(zone))
    return moment - timedelta(
        minutes=local.minute, seconds=local.second, microseconds=local.microsecond
    )


def _days(zone: str, start: datetime) -> Iterator[datetime]:
    day = start.astimezone(ZoneInfo(zone)).date()
    while True:
        yield day_span(day, zone)[0]
        day += timedelta(days=1)


def _months(zone: str, start: datetime) -> Iterator[datetime]:
    local = start.astimezone(ZoneInfo(zone))
    month = local.year * 12 + local.month - 1
    while True:
        yield day_span(date(month // 12, month % 12 + 1, 1), zone)[0].astimezone(UTC)
        month += 1
