"""OpenADR 3.1 event documents: when their intervals hold, and what they say."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice, pairwise
from typing import NamedTuple

from bridge.model import SIMPLE, Document, Interval, Value, is_price
from bridge.notation import (
    ZERO,
    from_json,
    from_millis,
    millis,
    read_amount,
    read_duration,
    read_time,
    write_duration,
    write_time,
)

MOST_INTERVALS = 20_000  # of one event, be they said or repeated
MOST_PIECES = 2_000  # of one interval
MOST_RANDOM = timedelta(days=1)
_FIRST, _LAST = datetime(2, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
_YEARS = re.compile(r"P(\d+)Y")


def intervals(document: Document, longest: timedelta, begin: datetime) -> tuple[Interval, ...]:
    """Return an event's intervals with their times; an endless one ends after `longest`.

    An interval without a period of its own takes the event's, and follows the one before it;
    "now" is `begin`. The event's duration repeats the intervals or cuts them short. Several
    prices in one payload share their interval evenly (OpenADR 3.1.0 User Guide, section 7.3).
    """
    once = list(islice(_once(document, longest, begin), MOST_INTERVALS))
    return tuple(islice(_looped(once, document.get("duration"), longest), MOST_INTERVALS))


def span(
    document: Document, longest: timedelta, begin: datetime
) -> tuple[datetime, datetime | None]:
    """Return from when until when an event is active; None where it has no end.

    One without intervals takes its period from `duration` or `intervalPeriod`.
    """
    found = intervals(document, longest, begin)
    period = document.get("intervalPeriod") or {}
    start = min((i.start for i in found), default=_start(period) or begin)
    said = [document.get("duration")]
    if said == [None]:
        own = [(i.get("intervalPeriod") or {}).get("duration") for i in _said(document)]
        said = [one or period.get("duration") for one in own or [None]]
    if any(one is None or _is_endless(one) for one in said):
        return start, None
    end = max((i.end for i in found), default=start + _length(said[0], longest))
    return start, max(start, end)


def _said(document: Document) -> list[Document]:
    return document.get("intervals") or []


def _once(document: Document, longest: timedelta, begin: datetime) -> Iterator[Interval]:
    default = document.get("intervalPeriod") or {}
    start = _start(default) or begin
    for interval in _said(document):
        own = interval.get("intervalPeriod") or {}
        start = _start(own) or start
        end = _later(start, _length(own.get("duration") or default.get("duration"), longest))
        yield from _pieces(int(interval["id"]), start, end, interval)
        start = end


def _looped(once: list[Interval], duration: str | None, longest: timedelta) -> Iterator[Interval]:
    """Yield intervals for as long as the event's duration says, over and over."""
    if duration is None or not once:
        yield from once
        return
    first, last = once[0].start, max(i.end for i in once)
    until = _later(first, _length(duration, longest))
    shift = timedelta(0)
    while first + shift < until:
        for i in once:
            if i.start + shift < until:
                yield replace(i, start=i.start + shift, end=min(_later(i.end, shift), until))
        if last <= first:
            return
        shift += last - first


def _start(period: Document) -> datetime | None:
    """Return a period's start; none where it says "now" (0001-01-01, or 0000 in 3.0)."""
    said = period.get("start")
    if not said or said[:4] in {"0000", "0001"}:
        return None
    try:
        return min(max(read_time(said), _FIRST), _LAST)
    except OverflowError:  # at an end of the calendar, in another zone
        return _FIRST if said < "5" else _LAST


def begins_now(document: Document) -> bool:
    """Whether an event has no start of its own: it begins when it is known."""
    first = next(iter(_said(document)), {})
    return not (
        _start(document.get("intervalPeriod") or {}) or _start(first.get("intervalPeriod") or {})
    )


def _is_endless(duration: str) -> bool:
    years = _YEARS.match(duration)
    return bool(years) and int(years[1] if years else 0) > 1000


def _length(duration: str | None, longest: timedelta) -> timedelta:
    if duration is None or _is_endless(duration):
        return longest
    length = max(_readable(duration), ZERO)
    return min(length, longest) if duration.endswith("Y") else length


def _readable(duration: str) -> timedelta:
    """Read a duration; one beyond all calendars is the longest there is."""
    try:
        return read_duration(duration)
    except OverflowError:
        return timedelta(days=366 * 9000)


def _later(moment: datetime, length: timedelta) -> datetime:
    """Return a time that can still be counted with."""
    return min(moment, _LAST) + length if length < _LAST - min(moment, _LAST) else _LAST


def _pieces(number: int, start: datetime, end: datetime, interval: Document) -> Iterator[Interval]:
    """Yield an interval, in as many even pieces as its payloads say values."""
    said = _payloads(interval)
    parts = {kind: len(values) if _is_packed(kind, values) else 1 for kind, values in said.items()}
    lo, hi = millis(start), millis(end)
    edges = {n: [lo + (hi - lo) * k // n for k in range(n)] for n in {*parts.values(), 1}}
    reached = dict.fromkeys(edges, 0)
    for here, there in pairwise([*sorted({e for found in edges.values() for e in found}), hi]):
        for n, found in edges.items():
            while reached[n] + 1 < n and found[reached[n] + 1] <= here:
                reached[n] += 1
        values = {kind: said[kind][reached[n]] for kind, n in parts.items()}
        yield Interval(number, from_millis(here), from_millis(there), _usable(values))


def _payloads(interval: Document) -> dict[str, list[Value]]:
    return {p["type"]: p["values"] for p in interval.get("payloads") or [] if p.get("values")}


def count_pieces(document: Document) -> int:
    """Return into how many pieces an event's payloads may cut its intervals."""
    return sum(
        1 + sum({len(v) for kind, v in _payloads(i).items() if _is_packed(kind, v)})
        for i in _said(document)
    )


def _is_packed(kind: str, values: Sequence[Value]) -> bool:
    """Whether values follow each other in time: prices and such, each a number."""
    return (
        1 < len(values) <= MOST_PIECES
        and (is_price(kind) or kind in {"GHG", "PRICE_ALTERNATE"})
        and all(is_number(v) for v in values)
    )


def is_number(value: object) -> bool:
    """Whether a value is a number, as it comes out of JSON."""
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _usable(values: Mapping[str, Value]) -> Mapping[str, Value]:
    """Leave out what is no price where a price is meant: it is shown, but not acted on."""
    return {
        kind: value
        for kind, value in values.items()
        if (is_amount(value) if is_price(kind) or kind == SIMPLE else not isinstance(value, dict))
    }


def is_amount(value: object) -> bool:
    """Whether a value is a number that can be kept exactly."""
    if not is_number(value):
        return False
    try:
        read_amount(value)
    except ValueError:
        return False
    return True


def is_priced(document: str) -> bool:
    """Whether an event says only prices: a fact that no opt-out makes undone."""
    return all(is_price(kind) for kind in units(from_json(document)))


class Reported(NamedTuple):
    """A value that a report says of a stretch of time."""

    kind: str
    start: datetime
    end: datetime
    value: Decimal
    quality: str | None


def reported(resource: Document) -> Iterator[Reported]:
    """Yield the amounts that a report says of a resource; several values share their interval.

    What has no time of its own, or no amount, is left out: nothing is guessed (OpenADR
    3.1.0 User Guide, sections 7.3 and 7.8).
    """
    default = resource.get("intervalPeriod") or {}
    start = _start(default)
    for interval in resource["intervals"]:
        own = interval.get("intervalPeriod") or {}
        start = _start(own) or start
        said = own.get("duration") or default.get("duration")
        if start is None or said is None or _is_endless(said):
            continue
        end = _later(start, max(_readable(said), ZERO))
        lo, length = millis(start), millis(end) - millis(start)
        quality = next(
            (p["values"][0] for p in interval["payloads"]
             if p["type"] == "DATA_QUALITY" and p["values"]), None,
        )  # fmt: skip
        for payload in interval["payloads"]:
            count = len(payload["values"])
            for n, value in enumerate(payload["values"]):
                if is_amount(value):
                    yield Reported(
                        payload["type"],
                        from_millis(lo + length * n // count),
                        from_millis(lo + length * (n + 1) // count),
                        Decimal(value),
                        quality if isinstance(quality, str) else None,
                    )
        start = end


def randomization(document: Document) -> timedelta:
    """Return how far a start may be drawn later: a day at most."""
    said = (document.get("intervalPeriod") or {}).get("randomizeStart")
    return min(abs(_readable(said)), MOST_RANDOM) if said else ZERO


def units(document: Document) -> Mapping[str, tuple[str | None, str | None]]:
    """Return unit and currency for each payload type that occurs."""
    found: dict[str, tuple[str | None, str | None]] = {
        d["payloadType"]: (d.get("units"), d.get("currency"))
        for d in document.get("payloadDescriptors") or []
    }
    for interval in document.get("intervals") or []:
        for payload in interval.get("payloads") or []:
            found.setdefault(payload["type"], (None, None))
    return found


def descriptors(described: Mapping[str, tuple[str | None, str | None]]) -> list[Document]:
    """Return descriptors that say unit and currency for each payload type."""
    return [
        {
            "objectType": "EVENT_PAYLOAD_DESCRIPTOR",
            "payloadType": kind,
            **({"units": unit} if unit else {}),
            **({"currency": currency} if currency else {}),
        }
        for kind, (unit, currency) in described.items()
    ]


def price_day(
    names: tuple[str, str],
    program: str,
    intervals: Sequence[Interval],
    described: Mapping[str, tuple[str | None, str | None]],
    known: tuple[datetime, datetime],
) -> Document:
    """Return the event that says a day's prices, with a period of its own for each interval.

    `names` are its id and its eventName, `described` is unit and currency for each payload
    type, `known` since when the first and the last of it was known (OpenADR 3.1.0
    Definition, event).
    """
    return {
        "id": names[0],
        "objectType": "EVENT",
        "createdDateTime": write_time(known[0]),
        "modificationDateTime": write_time(known[1]),
        "programID": program,
        "eventName": names[1],
        "payloadDescriptors": descriptors(described),
        # The default of each interval's length, though each says its own (User Guide, 7.3)
        "intervalPeriod": _period(intervals[0].start, intervals[0].end),
        "intervals": [
            {
                "id": interval.id,
                "intervalPeriod": _period(interval.start, interval.end),
                "payloads": [{"type": k, "values": [v]} for k, v in interval.values.items()],
            }
            for interval in intervals
        ],
    }


def _period(start: datetime, end: datetime) -> Document:
    return {"start": write_time(start), "duration": write_duration(end - start)}
