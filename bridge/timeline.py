"""What events mean at a moment: what holds for a device, and what is due when.

Pure functions of events and the clock. Nothing here looks at what was polled last.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import merge
from typing import NamedTuple

from bridge.model import (
    PRICE,
    SIMPLE,
    Document,
    Event,
    Firing,
    Interval,
    Moment,
    Receiver,
    Track,
    Value,
)
from bridge.notation import ZERO

LOWEST_PRIORITY = 2**63  # an absent priority comes after every stated one


@dataclass(frozen=True, slots=True)
class Silence:
    """A source that has not been heard of for longer than a device puts up with."""

    source: str
    since: datetime


class Holder(NamedTuple):
    """The event and interval that hold for one payload type, and what they say."""

    event: Event
    interval: Interval
    value: Value


def holder(events: Iterable[Event], kind: str, at: datetime) -> Holder | None:
    """Return what holds for a payload type at an instant.

    The lowest priority number holds (absent is last), then the later start, then the
    newer event (OpenADR 3.1.0 Definition, event.priority; the rest is DESIGN.md's).
    """
    best: Holder | None = None
    for event in events:
        if kind not in event.units or not event.start <= at < event.end:
            continue
        found = _at(event, kind, at)
        if found and (best is None or _rank(found) < _rank(best)):
            best = found
    return best


def _at(event: Event, kind: str, at: datetime) -> Holder | None:
    index = bisect_right(event.intervals, at, key=lambda i: i.start) - 1
    # Intervals seldom overlap; where they do, the one that began last holds.
    while index >= 0:
        interval = event.intervals[index]
        if at < interval.end:
            value = interval.values.get(kind)
            if value is not None:  # one of another payload type may hold beside it
                return Holder(event, interval, value)
        index -= 1
    return None


def _rank(found: Holder) -> tuple[int, float, int]:
    priority = LOWEST_PRIORITY if found.event.priority is None else found.event.priority
    return priority, -found.interval.start.timestamp(), -found.event.issued


@dataclass(frozen=True, slots=True)
class Situation:
    """What holds for a device from one instant on: a price, a level, or neither."""

    price: Holder | None
    level: Holder | None

    @property
    def holders(self) -> tuple[Holder, ...]:
        """Return what holds, the level first."""
        return tuple(h for h in (self.level, self.price) if h)


def trusted(
    events: Sequence[Event], receiver: Receiver, silences: Mapping[str, Silence]
) -> list[Event]:
    """Return the events that count for a device while some of its sources are silent.

    With `on_stale = "normal"` a dispatch that had not begun when its source fell silent
    does not begin; known prices hold on, and what had begun runs to its end.
    """
    if receiver.on_stale == "hold" or not silences:
        return list(events)
    return [e for e in events if not withheld(e, receiver, silences)]


def withheld(event: Event, receiver: Receiver, silences: Mapping[str, Silence]) -> bool:
    """Whether a dispatch does not begin at a device because its source is silent."""
    silence = silences.get(event.source)
    return (
        silence is not None
        and receiver.on_stale == "normal"
        and not event.priced
        and event.start > silence.since
    )


def situation(events: Sequence[Event], at: datetime) -> Situation:
    """Return what holds at an instant."""
    return Situation(holder(events, PRICE, at), holder(events, SIMPLE, at))


def next_change(events: Sequence[Event], at: datetime) -> datetime | None:
    """Return when what holds is next replaced or ends, or None when nothing is known to."""
    now = _key(situation(events, at))
    for instant in _boundaries(events, at):
        if _key(situation(events, instant)) != now:
            return instant
    return None


def _boundaries(events: Sequence[Event], after: datetime) -> Iterator[datetime]:
    """Yield when intervals begin or end, in order, looking into no event before its start."""
    return merge(*(_edges(event, after) for event in events if event.end > after))


def _edges(event: Event, after: datetime) -> Iterator[datetime]:
    if event.start > after:
        yield event.start
    edges = {t for i in event.intervals for t in (i.start, i.end)}
    yield from sorted(t for t in edges if t > max(after, event.start))


def _key(now: Situation) -> list[tuple[str, int]]:
    return [(h.event.id, h.interval.id) for h in now.holders]


def state(
    events: Sequence[Event], receiver: Receiver, at: datetime, silences: Mapping[str, Silence]
) -> Document:
    """Return a device's state: what holds now, since when, until when, and what is next.

    Facts that are absent are None. `events` are those in force that concern the device.
    """
    counted = trusted(events, receiver, silences)
    now = situation(counted, at)
    until = next_change(counted, at)
    unit, currency = now.price.event.units[PRICE] if now.price else (None, None)
    sources = {h.event.source for h in now.holders} or set(silences)
    relied_on = at + 3 * receiver.refresh
    return {
        "as_of": at,
        "price": now.price.value if now.price else None,
        "unit": unit,
        "currency": currency,
        "level": now.level.value if now.level else None,
        "since": max((h.interval.start for h in now.holders), default=None),
        "until": until,
        "next": _next(situation(counted, until), until) if until else None,
        "stale": any(source in silences for source in sources),
        "test": any(h.event.test for h in now.holders),
        "source": now.holders[0].event.source if now.holders else None,
        # A device that hears nothing newer by then is cut off from the bridge.
        "valid_until": min(until, relied_on) if until else relied_on,
    }


def _next(then: Situation, at: datetime) -> Document:
    return {
        "at": at,
        "price": then.price.value if then.price else None,
        "level": then.level.value if then.level else None,
    }


def moments(event: Event, leads: Iterable[timedelta]) -> list[Moment]:
    """Return all moments of an event in order: upcoming, started, each interval, ended.

    A `gap` is where an interval ends and none begins: devices get only their state then.
    """
    found = [Moment("upcoming", event.start - lead, lead=lead) for lead in leads if lead > ZERO]
    found.append(Moment("started", event.start))
    found += [Moment("interval", i.start, index) for index, i in enumerate(event.intervals)]
    starts = {i.start for i in event.intervals}
    found += [
        Moment("gap", i.end) for i in event.intervals if i.end not in starts and i.end < event.end
    ]
    found.append(Moment("ended", event.end))
    order = {"upcoming": 0, "gap": 1, "ended": 2, "started": 3, "interval": 4}
    return sorted(found, key=lambda m: (m.at, order[m.kind]))


def fire(track: Track, now: datetime, leads: Iterable[timedelta]) -> Firing:
    """Return what is due of an event at `now`.

    A track that is fresh (the event is new or was changed) catches up with what still
    matters: the start of an event under way, the interval it is in, an upcoming start.
    """
    event = track.event.shifted(track.offset)
    every = moments(event, leads)
    due = [m for m in every if track.fired_to < m.at <= now]
    if track.fresh:
        due = [*_caught_up(event, track, every), *due]
    started = track.started or any(m.kind == "started" for m in due)
    return Firing(due, started, min((m.at for m in every if m.at > now), default=None))


def _caught_up(event: Event, track: Track, every: Sequence[Moment]) -> Iterator[Moment]:
    then = track.fired_to
    for moment in every:
        if moment.at > then or then >= event.end:
            return
        upcoming = moment.kind == "upcoming" and then < event.start
        started = moment.kind == "started" and not track.started
        interval = (
            moment.interval is not None
            and not track.started
            and then < event.intervals[moment.interval].end
        )
        if upcoming or started or interval:
            yield moment
