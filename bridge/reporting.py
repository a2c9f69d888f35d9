"""The words for reports upstream: what is offered, what is asked for, how far it was told.

At the end: what a store must do for them.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple, Protocol

from bridge.model import Document
from bridge.notation import ZERO, read_duration, read_time, to_json, write_duration, write_time
from bridge.usage import Bucket

TELEMETRY_USAGE, HISTORY_USAGE = "TELEMETRY_USAGE", "HISTORY_USAGE"
TELEMETRY_STATUS, METADATA = "TELEMETRY_STATUS", "METADATA"
# reportSpecifierID → report. An id stays the same for good: VTNs remember it.
REPORTS: Mapping[str, str] = {
    "telemetry-usage": TELEMETRY_USAGE,
    "history-usage": HISTORY_USAGE,
    "telemetry-status": TELEMETRY_STATUS,
}
LONGEST = timedelta(days=400)  # that anything is told of afterwards
SHORTEST_PATIENCE = timedelta(minutes=5)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource of which an upstream is told, and the meter that measures it."""

    name: str
    meter: str
    status: bool  # whether it is told if the meter is there, or else what it measures
    every: timedelta  # how long the meter's intervals are
    direction: str | None = None  # of what is measured; None: what the meter has

    @property
    def patience(self) -> timedelta:
        """Return how long an interval that is over is waited for, until it counts as a gap."""
        return max(2 * self.every, SHORTEST_PATIENCE)

    @property
    def silence(self) -> timedelta:
        """Return after how long without a reading the meter counts as offline."""
        return max(3 * self.every, SHORTEST_PATIENCE)


class Offer:
    """What an upstream is told that can be reported: by specifier, resources by their rID."""

    def __init__(self, resources: Collection[Resource]) -> None:
        usage = {r.name: r for r in resources if not r.status}
        status = {r.name: r for r in resources if r.status}
        by_report = {TELEMETRY_USAGE: usage, HISTORY_USAGE: usage, TELEMETRY_STATUS: status}
        self.reports: Mapping[str, Mapping[str, Resource]] = {
            specifier: by_report[name] for specifier, name in REPORTS.items() if by_report[name]
        }

    @property
    def digest(self) -> str:
        """Return what changes when the upstream is to be told anew."""
        said = [
            [specifier, r.name, r.every.total_seconds()]
            for specifier, points in self.reports.items()
            for r in points.values()
        ]
        return hashlib.sha256(to_json(said).encode()).hexdigest()

    def find(self, specifier: str, r_id: str) -> Resource | None:
        """Return the resource that an rID stands for."""
        points = self.reports.get(specifier, {})
        if r_id in points:
            return points[r_id]
        # Stock VTNs take 007 for 7.
        alike = [p for name, p in points.items() if r_id.isdigit() and name.lstrip("0") == r_id]
        return alike[0] if len(alike) == 1 else None


@dataclass(frozen=True, slots=True)
class Asked:
    """A report as a VTN asks for it (oadrReportRequest)."""

    request_id: str
    specifier: str
    r_ids: tuple[str, ...]
    granularity: timedelta
    back: timedelta  # how often it is reported; zero: once
    start: datetime | None = None
    length: timedelta | None = None

    @property
    def document(self) -> Document:
        """Return it as it is kept."""
        return {
            "id": self.request_id,
            "specifier": self.specifier,
            "rIDs": list(self.r_ids),
            "granularity": write_duration(self.granularity),
            "back": write_duration(self.back),
            "start": self.start and write_time(self.start),
            "length": None if self.length is None else write_duration(self.length),
        }

    @classmethod
    def read(cls, kept: Document) -> "Asked":
        """Return what `document` was made of."""
        return cls(
            request_id=kept["id"],
            specifier=kept["specifier"],
            r_ids=tuple(kept["rIDs"]),
            granularity=read_duration(kept["granularity"]),
            back=read_duration(kept["back"]),
            start=read_time(kept["start"]) if kept["start"] else None,
            length=None if kept["length"] is None else read_duration(kept["length"]),
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """When a report is told of what: intervals of `step` from `origin` on, until `end`."""

    origin: datetime
    step: timedelta
    back: timedelta
    end: datetime | None = None

    @property
    def whole(self) -> bool:
        """Whether it is told once, and all at once."""
        return not self.back

    def told_to(self, now: datetime) -> datetime:
        """Return up to when it is told by now; the origin where nothing is due yet."""
        if self.end is not None and now >= self.end:
            return self.end
        if self.whole or now < self.origin:
            return self.origin
        return self.floor(self.origin + (now - self.origin) // self.back * self.back)

    def next_due(self, now: datetime) -> datetime | None:
        """Return when more of it is due; None where nothing is, ever."""
        if self.end is not None and (now >= self.end or self.whole):
            return self.end if now < self.end else None
        times = max((now - self.origin) // self.back, 0) if self.back else 0
        due = self.origin + (times + 1) * self.back
        return due if self.end is None else min(due, self.end)

    def floor(self, moment: datetime) -> datetime:
        """Return the last edge between its intervals that is not after a moment."""
        return self.origin + (moment - self.origin) // self.step * self.step

    def ceiling(self, moment: datetime) -> datetime:
        """Return the first edge between its intervals that is not before a moment."""
        return self.origin - (self.origin - moment) // self.step * self.step

    @property
    def document(self) -> Document:
        """Return it as it is kept."""
        return {
            "origin": write_time(self.origin),
            "step": write_duration(self.step),
            "back": write_duration(self.back),
            "end": self.end and write_time(self.end),
        }

    @classmethod
    def read(cls, kept: Document) -> "Plan":
        """Return what `document` was made of."""
        return cls(
            origin=read_time(kept["origin"]),
            step=read_duration(kept["step"]),
            back=read_duration(kept["back"]),
            end=read_time(kept["end"]) if kept["end"] else None,
        )


def plan(asked: Asked, every: timedelta, now: datetime) -> Plan:
    """Return when a report is told of what; `every` is how long its meters' intervals are.

    Intervals lie on the clock, where meters measure too: whatever moment is asked from, the
    first is that in which it lies. Without a start it is from now on; once is the last one
    that is over. History is told of what is over.
    """
    step, start = asked.granularity or every, asked.start
    origin = floored(start, every) if start else floored(now, step)
    made = Plan(origin, step, asked.back)
    history = REPORTS.get(asked.specifier) == HISTORY_USAGE
    if history:
        until = min(start + asked.length, now) if start and asked.length else now
        end = made.ceiling(until) if made.ceiling(until) <= now else made.floor(now)
        return Plan(origin, step, ZERO, max(end, origin + step))
    if start and asked.length:
        return Plan(
            origin, step, asked.back, max(made.ceiling(start + asked.length), origin + step)
        )
    if asked.back:
        return made
    if start is None:
        origin -= step
    return Plan(origin, step, ZERO, origin + step)


def floored(moment: datetime, step: timedelta) -> datetime:
    """Return the last whole multiple of a step since 1970 that is not after a moment."""
    return EPOCH + (moment - EPOCH) // step * step


Wanted = tuple[Asked, Plan]
Spot = tuple[str, datetime]  # rID and start of an interval


class Cell(NamedTuple):
    """What a report says of one interval of one resource; None is that it is not known."""

    r_id: str
    start: datetime
    length: timedelta
    value: Decimal | bool | None


@dataclass(frozen=True, slots=True)
class Update:
    """A message with which a report is told, frozen: what is told again is the very same."""

    update_id: str
    ven_id: str  # to whom it speaks as
    made: datetime
    body: str  # an oadrSignedObject; nothing where there is nothing to say
    reach: Mapping[str, datetime] = field(default_factory=dict)  # rID → told up to
    gaps: Sequence[Spot] = ()  # what it says is not known
    filled: Sequence[Spot] = ()  # what was not known once, and is said now
    held: Sequence[Spot] = ()  # what it leaves out, as it may come to be known soon
    tries: int = 0  # how often the upstream would not have it


@dataclass(frozen=True, slots=True)
class Running:
    """A report that is being told: to whom what was told how far."""

    key: int
    asked: Asked
    plan: Plan
    era: int  # in which registration of reports it was asked for
    answered: bool  # whether the upstream was told that it will have it
    reach: Mapping[str, datetime]  # rID → told up to

    @property
    def report(self) -> str:
        """Return which report it is."""
        return REPORTS[self.asked.specifier]

    @property
    def what(self) -> tuple[str, timedelta, frozenset[str]]:
        """Return what is the same in a request that takes this one's place."""
        return self.asked.specifier, self.plan.step, frozenset(self.asked.r_ids)


@dataclass(frozen=True, slots=True)
class Account:
    """How it stands with an upstream's reports."""

    offered: str | None = None  # the digest of what it was told; None: it is to be told anew
    wanted_by: str = ""  # the request that asks to be told anew
    era: int = 0
    known: bool = False  # whether it was ever told of reports
    running: Sequence[Running] = ()
    away: Sequence[tuple[datetime, datetime]] = ()  # when nobody here looked at meters


class ReportMemory(Protocol):
    """Keeps what upstreams are told of what was measured, and knows that."""

    async def measured(
        self, resource: Resource, start: datetime, end: datetime, step: timedelta
    ) -> list[Bucket]:
        """Return what a resource's meter measured, in steps from start to end."""

    async def heard(self, resource: Resource, after: datetime, until: datetime) -> bool:
        """Whether a resource's meter has measured anything that ends in (after, until]."""

    async def account(self, source: str) -> Account:
        """Return how it stands with a source's reports."""

    async def asked_for(self) -> list[tuple[str, Running]]:
        """Return the reports that are being told, by source."""

    async def look(self, source: str, at: datetime) -> None:
        """Note that this program looks after a source's reports now."""

    async def tell_anew(self, source: str, wanted_by: str = "") -> None:
        """Note that the upstream is to be told once more what can be reported."""

    async def told(
        self, source: str, digest: str, wanted: Sequence[Wanted],
        offers: Callable[[str, str], bool], at: datetime,
    ) -> None:  # fmt: skip
        """Keep what the upstream was told can be reported, and what it asked for in answer.

        What it asked for and is offered (specifier, rID) no more is told no more.
        """

    async def accept(self, source: str, wanted: Sequence[Wanted], said: str, at: datetime) -> None:
        """Keep what the upstream asks for; `said` is the message that says so."""

    async def answered(self, source: str) -> None:
        """Note that the upstream was told which reports it will have."""

    async def cancel(
        self, source: str, reports: Collection[str], at: datetime, *, to_follow: bool
    ) -> list[str]:
        """End reports, after a last one where it is `to_follow`; return which are not there."""

    async def forget(self, source: str, *, offer: bool = False) -> None:
        """End all of a source's reports; with the `offer` as if there had never been one."""

    async def freeze(self, key: int, update: Update) -> None:
        """Keep an update that is about to be sent."""

    async def frozen(self, key: int) -> Update | None:
        """Return the update that was sent, or was about to be, and is not settled."""

    async def tried(self, key: int) -> None:
        """Note that the upstream would not have an update."""

    async def thaw(self, key: int) -> None:
        """Forget an update, to tell what it says in another."""

    async def settle(self, key: int, update: Update, at: datetime) -> None:
        """Note that an update was taken, or is given up: what it covers was told."""

    async def gaps(self, key: int, *, told: bool) -> Mapping[str, list[datetime]]:
        """Return what was told as not known, or was left out so far: rID → starts, in order."""
