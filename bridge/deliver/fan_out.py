"""Follows the change log and writes a row for each device that a change concerns.

The rows, what each device was told, and the cursor are one transaction: nothing can be
saved and not told, and nothing is told twice.
"""

import asyncio
import random
from collections import ChainMap, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import uuid4

from bridge.clock import Clock
from bridge.deliver import available
from bridge.deliver.bodies import STATE, TYPES, body, expiry
from bridge.deliver.states import States
from bridge.interfaces import Outbox
from bridge.model import Audience, Change, Delivery, Document, Event, Receiver
from bridge.notation import ZERO, from_millis
from bridge.supervise import Job

AT_ONCE = 500  # changes in one transaction
WRONG_CLOCK = timedelta(seconds=10)  # how often it is looked at while it is wrong
SMALL = 50  # deliveries, or events, that are planned in about a millisecond


@dataclass
class Told:
    """What a device was last told, and when; why it is disabled, if it is."""

    key: str | None
    at: datetime | None
    disabled: str | None


@dataclass
class Plan:
    """What one pass will write."""

    deliveries: list[Delivery] = field(default_factory=list)
    states: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    draws: dict[tuple[str, str], timedelta] = field(default_factory=dict)


class FanOut:
    """The one job that turns changes into deliveries."""

    def __init__(
        self,
        outbox: Outbox,
        receivers: Collection[Receiver],
        clock: Clock,
        clock_is_right: Callable[[], bool] = lambda: True,
    ) -> None:
        self._outbox, self._clock, self._clock_is_right = outbox, clock, clock_is_right
        self._receivers = {r.name: r for r in receivers}
        self._events: dict[str, Event] = {}
        self._told: dict[str, Told] = {}
        self._offsets: dict[tuple[str, str], timedelta] = {}
        self._programs: Mapping[str, Sequence[str]] = {}
        self._silences: Mapping[tuple[str, timedelta], datetime] = {}
        self._next: datetime | None = None  # when something is due without a change
        self._longest = max((r.refresh for r in receivers), default=ZERO)

    async def run(self, job: Job) -> None:
        """Follow the change log until cancelled."""
        bell = self._outbox.bell("fan-out")
        cursor = await self._load()
        while True:
            if not self._clock_is_right():  # what is due, and until when, cannot be told
                await self._clock.wait(bell, self._clock.now() + WRONG_CLOCK)
                continue
            changes, events = await self._outbox.changes(cursor, AT_ONCE)
            now = self._clock.now()
            if changes or self._is_due(now):
                self._learn(changes, events)
                await self._refresh({c.object_type for c in changes})
                plan = await self._planned(changes, now)
                cursor = changes[-1].seq if changes else cursor
                await self._write(plan, cursor, now)
                job.succeeded(now)
                continue
            await self._clock.wait(bell, self._next)

    async def _load(self) -> int:
        await self._reload_devices()
        self._learn((), await self._outbox.live_events(self._clock.now()))
        self._offsets = dict(await self._outbox.offsets())
        self._programs = await self._outbox.programs()
        self._silences = await self._outbox.silences()
        return await self._outbox.cursor("deliver")

    def _learn(self, changes: Sequence[Change], events: Sequence[Event]) -> None:
        """Take in what changes are about; price days that nobody follows are left out."""
        repriced = {(c.after or {})["program"] for c in changes if c.object_type == "PRICES"}
        gone = [i for i, e in self._events.items() if e.price_day and e.program in repriced]
        for event_id in gone:
            del self._events[event_id]
        followed = {e.program for e in events if e.price_day and self._is_followed(e.program)}
        self._events |= {e.id: e for e in events if not e.price_day or e.program in followed}

    def _is_followed(self, program: str) -> bool:
        audiences = {r.audience for r in self._receivers.values()}
        return any(a.includes(program, (), test=False) for a in audiences)

    async def _reload_devices(self) -> None:
        states = await self._outbox.device_states()
        self._told = {n: Told(*states[n]) for n in self._receivers if n in states}
        self._next = self._clock.now()

    async def _refresh(self, kinds: Collection[str]) -> None:
        """Look up what changes of these object types are about."""
        if "DEVICE" in kinds:
            await self._reload_devices()
        if "PROGRAM" in kinds:
            self._programs = await self._outbox.programs()
        if "SOURCE" in kinds:
            self._silences = await self._outbox.silences()

    async def _planned(self, changes: Sequence[Change], now: datetime) -> Plan:
        """Plan, off the event loop where it would take more than a few milliseconds."""
        if len(self._told) * (len(changes) + 1) <= SMALL and len(self._events) <= SMALL:
            return self.plan(changes, now)
        return await asyncio.to_thread(self.plan, changes, now)

    async def _write(self, plan: Plan, cursor: int, now: datetime) -> None:
        moments = [d for d in plan.deliveries if d.type != STATE]
        states = [d for d in plan.deliveries if d.type == STATE]
        # What happened goes out first. States are not tied to the cursor: whatever became
        # of a bridge in between, they are compared with what was told, and told, anew.
        if moments or plan.draws or not states:
            await self._outbox.save_deliveries(moments, {}, plan.draws, cursor, now)
        if states:
            await self._outbox.save_deliveries(states, plan.states, {}, cursor, now)
        for name, (key, at) in plan.states.items():
            self._told[name].key, self._told[name].at = key, at
        self._offsets |= plan.draws
        self._next = self._find_next(now)
        longest = max((e.randomize for e in self._events.values()), default=ZERO)
        self._events = {i: e for i, e in self._events.items() if e.end > now - longest}
        self._offsets = {k: v for k, v in self._offsets.items() if k[0] in self._events}

    # --- what is due without a change ---------------------------------------------------

    def _is_due(self, now: datetime) -> bool:
        # What is due later than any refresh was worked out before the clock was set back.
        return self._next is not None and not now < self._next <= now + self._longest

    def _find_next(self, now: datetime) -> datetime | None:
        enabled = ((n, t) for n, t in self._told.items() if not t.disabled)
        return min((self._reassert_at(n, t, now) for n, t in enabled), default=None)

    def _reassert_at(self, name: str, told: Told, now: datetime) -> datetime:
        if told.key is None or told.at is None or told.at > now:
            return now
        return told.at + self._receivers[name].refresh

    # --- planning -------------------------------------------------------------------------

    def plan(self, changes: Sequence[Change], now: datetime) -> Plan:
        """Return all rows that these changes, and the time, make necessary."""
        plan = Plan()
        live = [
            r for n, r in self._receivers.items() if n in self._told and not self._told[n].disabled
        ]
        groups: dict[Audience, list[Receiver]] = defaultdict(list)
        for receiver in live:
            groups[receiver.audience].append(receiver)
        for change in changes:
            self._draw(plan, change, groups)
        states = States(
            self._events.values(),
            ChainMap(plan.draws, self._offsets),
            self._programs,
            self._silences,
            now,
        )
        for change in available.merged(changes):
            plan.deliveries += self._moments(change, groups, states, now)
        for receiver in live:
            self._state(plan, receiver, states, now)
        return plan

    def _draw(self, plan: Plan, change: Change, groups: Mapping[Audience, list[Receiver]]) -> None:
        """Draw a start for each device, once for each event."""
        if change.object_type == "DEVICE":  # a new one, or one that is back
            concerned: Collection[Event] = self._events.values()
        elif change.object_type == "EVENT" and change.object_id in self._events:
            concerned = [self._events[change.object_id]]
        else:
            return
        for event in (e for e in concerned if e.randomize and e.in_force):
            for audience, receivers in groups.items():
                if audience.includes(event.program, event.audiences, test=event.test):
                    for receiver in receivers:
                        key = (event.id, receiver.name)
                        later = self._offsets.get(key) or _draw(event.randomize)
                        plan.draws.setdefault(key, later)

    def _moments(
        self,
        change: Change,
        groups: Mapping[Audience, list[Receiver]],
        states: States,
        now: datetime,
    ) -> Iterator[Delivery]:
        if available.is_told(change):
            yield from available.deliveries(change, groups, states, now)
            return
        event = self._events.get(change.object_id) if change.object_type == "EVENT" else None
        if event is None:
            return
        for audience, receivers in groups.items():
            kind = _kind(change, audience, event)
            if kind is None:
                continue
            for receiver in receivers:
                if receiver.format != "state" and _concerns(change, receiver):
                    yield self._moment(kind, change, event, receiver, states, now)

    def _moment(
        self,
        kind: str,
        change: Change,
        event: Event,
        receiver: Receiver,
        states: States,
        now: datetime,
    ) -> Delivery:
        about = change.after or {}
        fired = change.operation == "MOMENT"
        instant = from_millis(about["instant"]) if fired else change.at
        seen = event.shifted(states.offset(event, receiver))
        interval = _interval_of(kind, seen, instant, now) if fired else None
        expires = expiry(kind, seen, instant, interval)
        outcome, problem = (
            (None, None) if expires > now else ("expired", "it was over before it was known")
        )
        if (
            fired
            and about["modification"] != event.modification
            and not _still(kind, seen, instant)
        ):
            outcome, problem = "expired", "the event was changed meanwhile"
        elif fired and not event.in_force:
            outcome, problem = "expired", "the event was withdrawn meanwhile"
        elif fired and kind != "event.ended" and states.withheld(event, receiver):
            outcome, problem = (
                "withheld",
                "its source is silent, and the device's on_stale is normal",
            )
        return Delivery(
            id=str(uuid4()),
            device=receiver.name,
            type=kind,
            body=body(kind, instant, receiver, states.json(receiver), event, interval),
            due=now,
            expires=expires,
            event=event.id,
            modification=about["modification"],
            moment=kind,
            instant=instant,
            outcome=outcome,
            problem=problem,
        )

    def _state(self, plan: Plan, receiver: Receiver, states: States, now: datetime) -> None:
        """Tell a device its state when it changed, or when it is time to say it again."""
        told, key = self._told[receiver.name], states.key(receiver)
        if key == told.key and self._reassert_at(receiver.name, told, now) > now:
            return
        plan.states[receiver.name] = (key, now)
        plan.deliveries.append(
            Delivery(
                id=str(uuid4()),
                device=receiver.name,
                type=STATE,
                body=body(STATE, now, receiver, states.json(receiver)),
                due=now,
                expires=None,
                moment=STATE,
                instant=now,
            )
        )


def _draw(longest: timedelta) -> timedelta:
    """Draw how much later a start is, in whole milliseconds, as it is kept."""
    drawn = longest * random.random()  # noqa: S311 -- spreads load, keeps no secret
    return drawn // timedelta(milliseconds=1) * timedelta(milliseconds=1)


def _kind(change: Change, audience: Audience, event: Event) -> str | None:
    """Return which moment a change is to devices of this audience, if it is one."""
    if change.operation == "MOMENT":
        if not audience.includes(event.program, event.audiences, test=event.test):
            return None
        kind = TYPES.get((change.after or {})["moment"])
        # event.* is for the events of utilities; of a price day only its intervals are told
        return kind if not event.price_day or kind == "interval.started" else None
    before, after = _sees(audience, change.before), _sees(audience, change.after)
    if after:
        return "event.updated" if before else "event.received"
    return "event.cancelled" if before else None


def _interval_of(kind: str, event: Event, instant: datetime, now: datetime) -> int | None:
    """Return the index of the interval that a moment is about."""
    if kind == "event.started":
        at = max(now, event.start)
        return next((n for n, i in enumerate(event.intervals) if i.start <= at < i.end), None)
    if kind == "interval.started":
        return next((n for n, i in enumerate(event.intervals) if i.start == instant), None)
    return None


def _still(kind: str, event: Event, instant: datetime) -> bool:
    """Whether an event that was changed still has this moment at this instant."""
    if kind == "event.upcoming":
        return instant < event.start
    if kind == "interval.started":
        return any(i.start == instant for i in event.intervals)
    return instant == (event.start if kind == "event.started" else event.end)


def _sees(audience: Audience, snapshot: Document | None) -> bool:
    if snapshot is None or not snapshot["in_force"]:
        return False
    aimed = [frozenset(a) for a in snapshot["audiences"]]
    return audience.includes(snapshot["program"], aimed, test=snapshot["test"])


def _concerns(change: Change, receiver: Receiver) -> bool:
    """Whether a moment is this device's: its own drawn start, its own lead time."""
    about = change.after or {}
    if change.operation != "MOMENT":
        return True
    if about["device"] not in {"", receiver.name}:
        return False
    lead = receiver.lead // timedelta(milliseconds=1)
    return about["moment"] != "upcoming" or bool(about["lead"] == lead)
