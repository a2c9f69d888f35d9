"""OpenADR 3.1 event documents: when their intervals hold, and what they say."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from bridge.model import FOREVER, Document, Interval, Value
from bridge.notation import (
    from_millis,
    millis,
    read_duration,
    read_time,
    write_duration,
    write_time,
)


def intervals(document: Document, longest: timedelta) -> tuple[Interval, ...]:
    """Return an event's intervals with their times; an endless one ends after `longest`.

    An interval without a period of its own takes the event's, and follows the one before
    it (OpenADR 3.1.0 User Guide, section 8.3).
    """
    return tuple(_intervals(document, longest))


def _intervals(document: Document, longest: timedelta) -> Iterator[Interval]:
    default = document.get("intervalPeriod") or {}
    start = read_time(default["start"]) if default.get("start") else None
    for interval in document.get("intervals") or []:
        own = interval.get("intervalPeriod") or {}
        start = read_time(own["start"]) if own.get("start") else start
        if start is None:
            continue
        end = start + _length(own.get("duration") or default.get("duration"), longest)
        yield Interval(interval["id"], _whole(start), _whole(end), _values(interval))
        start = end


def _length(duration: str | None, longest: timedelta) -> timedelta:
    if duration is None or duration == FOREVER:
        return longest
    return (
        min(read_duration(duration), longest) if duration.endswith("Y") else read_duration(duration)
    )


def _whole(moment: datetime) -> datetime:
    """Return a time in whole milliseconds, as the store keeps times."""
    return from_millis(millis(moment))


def _values(interval: Document) -> Mapping[str, Value]:
    return {p["type"]: p["values"][0] for p in interval.get("payloads") or [] if p.get("values")}


def randomization(document: Document) -> timedelta:
    """Return how far a start may be drawn later."""
    said = (document.get("intervalPeriod") or {}).get("randomizeStart")
    return read_duration(said) if said else timedelta(0)


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


def price_day(
    name: str,
    program: str,
    intervals: Sequence[Interval],
    described: Mapping[str, tuple[str | None, str | None]],
    at: datetime,
) -> Document:
    """Return the event that says a day's prices, with a period of its own for each interval.

    `described` is unit and currency for each payload type (OpenADR 3.1.0 Definition, event).
    """
    descriptors = [
        {
            "objectType": "EVENT_PAYLOAD_DESCRIPTOR",
            "payloadType": kind,
            **({"units": unit} if unit else {}),
            **({"currency": currency} if currency else {}),
        }
        for kind, (unit, currency) in described.items()
    ]
    return {
        "id": name,
        "objectType": "EVENT",
        "createdDateTime": write_time(at),
        "modificationDateTime": write_time(at),
        "programID": program,
        "eventName": name,
        "payloadDescriptors": descriptors,
        "intervalPeriod": _period(intervals[0].start, max(i.end for i in intervals)),
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
