"""The words for OpenADR 2.0b clients: who is enrolled, what each is offered, what it said.

At the end: what a store must do for them.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, Protocol

from bridge.model import Document, OptType
from bridge.notation import read_time, write_time


@dataclass(frozen=True, slots=True)
class Ven:
    """A VEN as a person enrolled it, and its registration if it has one."""

    name: str
    ven_id: str
    registration_id: str | None
    signs: bool  # an unsigned message of its is refused where "per-ven" says so
    test_events: bool
    programs: tuple[str, ...]
    resources: tuple[str, ...]
    groups: tuple[str, ...]
    # SHA-256, or OpenADR's 10 bytes of it → when it ends; None: it was not seen yet
    certificates: Mapping[str, datetime | None]

    @property
    def names(self) -> frozenset[str]:
        """Return all by which an event may be aimed at it."""
        return frozenset((self.name, self.ven_id, *self.resources, *self.groups))

    def follows(self, program: str) -> bool:
        """Whether it is told of a program's events."""
        return any(fnmatchcase(program, pattern) for pattern in self.programs)


@dataclass(frozen=True, slots=True)
class Offer:
    """An event as VENs are offered it: frozen, until a modification takes its place."""

    event: str  # its eventID
    modification: int
    program: str
    context: str  # its market context
    source: str
    foreign_id: str  # the source's own id of the event
    start: datetime
    end: datetime  # of an endless one: never
    released: datetime | None  # when an endless one is cancelled by us
    priority: int  # as 2.0b counts: 1 is the highest, 0 is none
    test: bool
    priced: bool
    required: bool  # whether an answer is asked for
    cancelled: bool
    audiences: tuple[tuple[frozenset[str], ...], ...]  # for each signal
    xml: str  # an oadrEvent

    def signals_for(self, ven: Ven) -> list[int]:
        """Return which of its signals concern a VEN."""
        if not ven.follows(self.program) or (self.test and not ven.test_events):
            return []
        names = ven.names
        return [
            n for n, groups in enumerate(self.audiences) if all(names & group for group in groups)
        ]


@dataclass(slots=True)
class Said:
    """What passed between a VEN and us about an event: the last modification sent, and answered."""

    sent: int
    answered: int | None = None
    opt: OptType | None = None
    at: datetime | None = None
    taken_back: int | None = None  # the modification that aimed it elsewhere, if it was told so

    def owed(self, offer: Offer) -> bool:
        """Whether the VEN has still to answer an event as it is now."""
        return self.answered is None or self.answered < offer.modification


@dataclass(frozen=True, slots=True)
class Opt:
    """An EiOpt: for one event, or for times; of some resources, or of the whole VEN."""

    opt_id: str
    opt: OptType
    reason: str
    context: str | None = None
    event: str | None = None
    modification: int | None = None
    times: tuple[tuple[datetime, datetime], ...] = ()
    resources: frozenset[str] = frozenset()
    at: datetime | None = None  # when it was said

    def covers(self, offer: Offer) -> bool:
        """Whether an event lies wholly in its times, and is of its market context."""
        return self.context in {None, offer.context} and any(
            begin <= offer.start and offer.end <= until for begin, until in self.times
        )


@dataclass(frozen=True, slots=True)
class Message:
    """Something a VEN is to be told when it polls: a message type and its parts."""

    turn: int
    kind: str
    payload: Document


@dataclass(slots=True)
class Standing:
    """All that polls are answered from, as it was when the store had this version.

    One that is `partial` holds only those VENs of which something was changed since.
    """

    version: int = -1
    at: datetime | None = None  # when it was looked up
    partial: bool = False
    vens: dict[str, Ven] = field(default_factory=dict)  # by name
    by_certificate: dict[str, str] = field(default_factory=dict)  # fingerprint → name
    offers: list[Offer] = field(default_factory=list)
    said: dict[str, dict[str, Said]] = field(default_factory=dict)  # name → eventID → …
    opts: dict[str, list[Opt]] = field(default_factory=dict)
    messages: dict[str, list[Message]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wish:
    """A report that VENs are asked for, by the settings."""

    ven: str = "*"  # a name or a glob
    report: str = "TELEMETRY_USAGE"
    resource: str = "*"  # the resource's name, or the rID, or a glob
    every: timedelta = timedelta(minutes=15)
    sampling: timedelta = timedelta(minutes=1)
    history: timedelta | None = None  # of HISTORY_… reports: how far back


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement that a VEN says it can report (oadrReportDescription)."""

    r_id: str
    resource: str | None
    report_type: str
    reading_type: str
    unit: str | None = None
    currency: str | None = None
    exponent: int = 0  # the power of ten that brings values to that unit
    shortest: timedelta | None = None  # oadrSamplingRate
    longest: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Offered:
    """A report that a VEN says it can give, with all its measurements."""

    specifier: str
    name: str  # TELEMETRY_USAGE: without METADATA_ before it
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """A report that we ask of a VEN, under an id of ours."""

    request_id: str
    specifier: str
    name: str
    points: tuple[tuple[str, str], ...]  # rID, readingType
    sampling: timedelta
    every: timedelta
    start: datetime | None = None  # of history: which
    length: timedelta | None = None

    @property
    def document(self) -> Document:
        """Return it as it is kept."""
        return {
            "request_id": self.request_id,
            "specifier": self.specifier,
            "name": self.name,
            "points": [list(point) for point in self.points],
            "sampling": self.sampling.total_seconds(),
            "every": self.every.total_seconds(),
            "start": write_time(self.start) if self.start else None,
            "length": self.length.total_seconds() if self.length else None,
        }

    @classmethod
    def read(cls, said: Document) -> "Request":
        """Return what was kept as a document."""
        return cls(
            request_id=said["request_id"],
            specifier=said["specifier"],
            name=said["name"],
            points=tuple((r_id, reading_type) for r_id, reading_type in said["points"]),
            sampling=timedelta(seconds=said["sampling"]),
            every=timedelta(seconds=said["every"]),
            start=read_time(said["start"]) if said["start"] else None,
            length=timedelta(seconds=said["length"]) if said["length"] else None,
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """What a VEN measured."""

    meter: str
    kind: str
    start: datetime
    length: timedelta
    value: Any  # Decimal
    unit: str | None
    reading_type: str | None
    quality: str | None
    request_id: str


Answers = Mapping[str, tuple[int, OptType | None]]  # eventID → modification, opt


class VenStore(Protocol):
    """Keeps what is said between VENs and us. Nothing is said before it is kept."""

    @property
    def commits(self) -> int:
        """Return a number that moves with every commit that may concern a reader."""

    @property
    def version(self) -> int:
        """Return a number that moves when something of a `Standing` was changed by others."""

    async def standing(self, at: datetime, since: int | None = None) -> Standing:
        """Return all that polls are answered from, or where it does what changed `since`."""

    async def recognised(self, fingerprint: str, sha256: str, at: datetime, ends: datetime) -> None:
        """Note that an enrolled certificate was seen, whole, and when it ends."""

    async def register(
        self, ven: str, ven_name: str, *, signs: bool, knows: bool, at: datetime
    ) -> str:
        """Register a VEN, or again, where it `knows` its registrationID; return that."""

    async def deregister(self, ven: str, *, if_asked: bool = False) -> bool:
        """Forget a VEN's registration, and what hangs on it; `if_asked` only where it was told so.

        Returns whether it was done.
        """

    async def note_sent(
        self, ven: str, sent: Mapping[str, tuple[int, int | None]], at: datetime
    ) -> None:
        """Note which modifications of events a VEN is being sent, and which took one back."""

    async def note_answers(self, ven: str, answers: Answers, at: datetime) -> None:
        """Keep a VEN's answers: eventID → modification and opt."""

    async def add_opt(self, ven: str, opt: Opt, answers: Answers, at: datetime) -> None:
        """Keep an EiOpt, and what it answers."""

    async def drop_opt(self, ven: str, opt_id: str, answers: Answers, at: datetime) -> bool:
        """Forget an EiOpt, and keep what that answers; return whether there was one."""

    async def settle_outs(
        self, outs: Mapping[tuple[str, str], tuple[bool, Mapping[str, OptType]]], at: datetime
    ) -> None:
        """Keep what upstreams are to be told: (source, foreign id) → all out; resources' opts.

        That a resource is in is told only where it was told that it is out.
        """

    async def message_done(self, ven: str, kind: str, requests: Collection[str | None]) -> bool:
        """Note that a VEN answered messages, by their requests; return whether there were any."""

    async def save_reports(
        self, ven: str, offered: Sequence[Offered], wishes: Collection[Wish], at: datetime
    ) -> list[Request]:
        """Keep what reports a VEN can give; return what it is asked for of them."""

    async def reconcile(self, wishes: Collection[Wish], at: datetime) -> None:
        """Ask registered VENs for what the settings wish now, and no more for what they do not."""

    async def points(self, ven: str, specifier: str) -> Mapping[str, Point]:
        """Return what a VEN can measure, by rID; nothing where it did not say."""

    async def samplings(self, ven: str, requests: Collection[str]) -> Mapping[str, timedelta]:
        """Return how long the intervals are that a VEN was asked for, by request id."""

    async def save_readings(
        self, ven: str, readings: Sequence[Reading], requests: Collection[str], at: datetime
    ) -> set[str]:
        """Keep what a VEN measured; return those request ids under which nothing is asked for."""

    async def heard_from(self, ven: str, at: datetime) -> None:
        """Note that a VEN is there."""

    def bell(self, name: str) -> asyncio.Event:
        """Return an event of one's own that is set after each change."""
