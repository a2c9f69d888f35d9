"""What a delivery says: `{type, timestamp, data}`, frozen as bytes when its row is written."""

from datetime import datetime, timedelta
from functools import lru_cache

from bridge.model import Change, Document, Event, Receiver
from bridge.notation import from_json, from_millis, to_json, write_time

STATE, PRICES, USAGE = "state.changed", "prices.available", "usage.available"
TYPES = {
    "upcoming": "event.upcoming",
    "started": "event.started",
    "interval": "interval.started",
    "ended": "event.ended",
}
# `event.ended` and `event.cancelled` are worth knowing for a while after the fact.
AFTERWARDS = timedelta(hours=24)
USAGE_AFTERWARDS = timedelta(days=7)  # a device asks for the readings themselves


@lru_cache(maxsize=256)
def _interval_json(document: str, interval_id: int) -> str:
    # By its id: intervals are kept in order of time, which a document need not be in.
    intervals = from_json(document).get("intervals") or []
    return to_json(next((i for i in intervals if i["id"] == interval_id), None))


def body(
    kind: str,
    at: datetime,
    receiver: Receiver,
    state: str,
    event: Event | None = None,
    interval: int | None = None,
) -> bytes:
    """Write a body; `state` is JSON already, as is the event's document.

    `interval` is an index into the event's intervals as they are kept. A device with
    `format = "state"` gets that and nothing else in `data`.
    """
    if receiver.format == "state":
        data = f'{{"state":{state}}}'
    else:
        told = event.intervals[interval] if event and interval is not None else None
        shown = _interval_json(event.document, told.id) if event and told else "null"
        data = (
            f'{{"device":{to_json(receiver.name)},'
            f'"program":{to_json(event.program) if event else "null"},'
            f'"event":{event.document if event else "null"},'
            f'"interval":{shown},"state":{state}}}'
        )
    return f'{{"type":"{kind}","timestamp":"{write_time(at)}","data":{data}}}'.encode()


def prices_body(change: Change, receiver: Receiver, state: str) -> bytes:
    """Write that a program's prices changed: between when, and how far they are known now."""
    about = change.after or {}
    told = {
        "device": receiver.name,
        "program": about["program"],
        **{
            name: from_millis(about[name]) if about[name] is not None else None
            for name in ("start", "end", "covers_until")
        },
    }
    data = f'{to_json(told)[:-1]},"event":null,"interval":null,"state":{state}}}'
    return f'{{"type":"{PRICES}","timestamp":"{write_time(change.at)}","data":{data}}}'.encode()


def usage_body(change: Change, receiver: Receiver, state: str) -> bytes:
    """Write that readings of a meter came, or were corrected: between when."""
    about = change.after or {}
    times = {name: from_millis(about[name]) for name in ("start", "end")}
    told = {"device": receiver.name, "meter": about["meter"], **times}
    data = f'{to_json(told)[:-1]},"event":null,"interval":null,"state":{state}}}'
    return f'{{"type":"{USAGE}","timestamp":"{write_time(change.at)}","data":{data}}}'.encode()


def expiry(kind: str, event: Event, at: datetime, interval: int | None = None) -> datetime:
    """Return when a moment is no longer useful to a device."""
    if kind in {"event.ended", "event.cancelled"}:
        return max(event.end, at) + AFTERWARDS
    if kind == "event.upcoming":
        return event.start
    if kind == "interval.started" and interval is not None:
        return event.intervals[interval].end
    return event.end


def state_key(state: Document) -> str:
    """Return a state without what passes with time, to tell whether it changed."""
    return to_json({k: v for k, v in state.items() if k not in {"as_of", "valid_until"}})
