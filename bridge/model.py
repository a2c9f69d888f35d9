"""The words everything uses: events, intervals, prices, deliveries, states.

Times are aware UTC and intervals half-open. Amounts are `Decimal`. Event documents are
OpenADR 3.1.0 objects as plain dictionaries; the classes here hold what is derived from them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

from bridge.notation import ZERO

Document = dict[str, Any]
Value = Decimal | int | str | bool
OptType = Literal["optIn", "optOut"]

FOREVER = "P9999Y"  # OpenADR 3.1.0 intervalPeriod: "may indicate infinity"
PRICE, SIMPLE = "PRICE", "SIMPLE"


@dataclass(frozen=True, slots=True)
class Interval:
    """One interval of an event: what holds from `start` until `end`."""

    id: int
    start: datetime
    end: datetime
    values: Mapping[str, Value]  # payload type → its first value


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a 2.0b event is aimed at: a kind such as `groupID`, and a name."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class SignalOrigin:
    """What OpenADR 3.1 cannot say of a 2.0b signal."""

    signal_id: str
    name: str
    type: str
    current_value: str | None = None
    item: str | None = None  # its itemBase, as XML
    targets: tuple[Target, ...] = ()
    target_xml: str | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an event came from, and what OpenADR 3.1 cannot say of it."""

    foreign_id: str
    modification: int
    status: str  # none, far, near, active, completed, cancelled
    context: str
    created: datetime
    active_from: datetime
    active_to: datetime | None  # None: open-ended
    test: bool = False
    test_text: str | None = None
    response_required: bool = True
    modified: datetime | None = None
    reason: str | None = None
    comment: str | None = None
    priority: int | None = None  # as 2.0b says it: 0 is "none"
    start_after: timedelta = ZERO
    notification: timedelta | None = None
    ramp_up: timedelta | None = None
    recovery: timedelta | None = None
    targets: tuple[Target, ...] = ()
    target_xml: str | None = None
    signals: tuple[SignalOrigin, ...] = ()
    baseline: str | None = None
    message: str = field(default="", compare=False)  # the event as it was received

    @property
    def cancelled(self) -> bool:
        """Whether the utility cancelled it."""
        return self.status == "cancelled"


@dataclass(frozen=True, slots=True)
class Dispatch:
    """An event as a source sent it: its origin, and an OpenADR 3.1 document for each signal."""

    origin: Origin
    documents: tuple[Document, ...]
    audiences: tuple[tuple[frozenset[str], ...], ...]  # for each document


@dataclass(frozen=True, slots=True)
class Event:
    """A kept event with all that is derived from its document."""

    id: str
    program: str
    source: str
    name: str
    modification: int
    priority: int | None
    test: bool
    start: datetime
    end: datetime
    randomize: timedelta
    issued: int  # grows with each change: the newer holds
    opt: OptType | None
    cancelled: bool
    audiences: tuple[frozenset[str], ...]  # a device must be in each of them
    intervals: tuple[Interval, ...]
    units: Mapping[str, tuple[str | None, str | None]]  # payload type → unit, currency
    document: str
    price_day: bool = False  # rendered from a price series, not sent by anyone

    @property
    def priced(self) -> bool:
        """Whether it says only prices: a fact that no opt-out makes undone."""
        return all(is_price(kind) for kind in self.units)

    @property
    def in_force(self) -> bool:
        """Whether it counts: not cancelled, and taken part in where it asks for something."""
        return not self.cancelled and (self.priced or self.opt == "optIn")

    def shifted(self, offset: timedelta) -> "Event":
        """Return it as a device sees it whose start was drawn `offset` later."""
        if not offset:
            return self
        moved = tuple(
            replace(i, start=i.start + offset, end=i.end + offset) for i in self.intervals
        )
        return replace(self, start=self.start + offset, end=self.end + offset, intervals=moved)


def is_price(payload_type: str) -> bool:
    """Whether values of this payload type are prices, and so belong in a price series."""
    return payload_type in {PRICE, "EXPORT_PRICE", "DEMAND_CHARGE", "BID_PRICE"}


@dataclass(frozen=True, slots=True)
class Audience:
    """Which events a device follows: programs by name or glob, and who it says it is."""

    programs: tuple[str, ...] = ("*",)
    names: frozenset[str] = frozenset()  # its resources and groups
    test_events: bool = False

    def includes(self, program: str, audiences: Sequence[frozenset[str]], *, test: bool) -> bool:
        """Whether an event of this program, aimed so, concerns the device."""
        return (
            (self.test_events or not test)
            and any(fnmatchcase(program, pattern) for pattern in self.programs)
            and all(aimed & self.names for aimed in audiences)
        )


@dataclass(frozen=True, slots=True)
class Receiver:
    """A device as delivery knows it: what it follows and how it is told."""

    name: str
    audience: Audience
    format: str = "full"
    refresh: timedelta = timedelta(minutes=5)
    lead: timedelta = timedelta(minutes=10)
    stale_after: timedelta = timedelta(hours=2)
    on_stale: str = "normal"
    meters: tuple[str, ...] = ()  # names or globs of those whose readings it is told of


@dataclass(frozen=True, slots=True)
class Moment:
    """Something due about an event: `upcoming`, `started`, `interval`, `gap`, `ended`."""

    kind: str
    at: datetime
    interval: int | None = None  # index into the event's intervals
    lead: timedelta = ZERO


@dataclass(frozen=True, slots=True)
class Track:
    """How far an event's moments have fired; for one device where its start was drawn."""

    event: Event
    device: str
    offset: timedelta
    started: bool
    fired_to: datetime
    fresh: bool


@dataclass(frozen=True, slots=True)
class Firing:
    """The moments of a track that are due, and when the next one is."""

    due: Sequence[Moment]
    started: bool
    next_at: datetime | None


@dataclass(frozen=True, slots=True)
class Change:
    """One row of the change log."""

    seq: int
    at: datetime
    operation: str  # CREATE, UPDATE, DELETE, MOMENT
    object_type: str  # EVENT, PRICES, USAGE, PROGRAM, DEVICE, SOURCE
    object_id: str
    before: Document | None
    after: Document | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message owed to a device: its id and body never change once written."""

    id: str
    device: str
    type: str
    body: bytes
    due: datetime
    expires: datetime | None
    event: str | None = None
    modification: int = 0
    moment: str = ""
    instant: datetime | None = None
    attempts: int = 0
    turn: int = 0
    outcome: str | None = None  # delivered, expired, superseded, given_up, withheld
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a delivery ended: delivered, expired, given_up."""

    delivery: Delivery
    outcome: str
    at: datetime
    problem: str | None = None


Place = tuple[str, int, datetime, datetime]  # program, series, start, since


class Component(NamedTuple):
    """A part of a price, such as GridX's `mec`, and its type, such as `generation`."""

    name: str
    type: str
    price: Decimal


@dataclass(frozen=True, slots=True)
class Price:
    """What an upstream says holds from `start` until `end`."""

    start: datetime
    end: datetime
    value: Decimal
    status: str | None = None  # Final, Preliminary
    components: tuple[Component, ...] = ()


@dataclass(frozen=True, slots=True)
class Tariff:
    """What a pricing source's series is the price of: it becomes a program."""

    program: str  # the name it should have
    context: str  # its identity within the source
    payload_type: str = PRICE
    unit: str | None = "KWH"
    currency: str | None = None
    zone: str = "UTC"  # whose days its price days are
    basis: str | None = None  # marginal, retail
    utility: str | None = None
    rate: str | None = None
    circuit: str | None = None
    cca: str | None = None
    curve: str | None = None  # GridX's priceCurveName, marketName, settlementUnit
    market: str | None = None
    settlement_unit: str | None = None
    derived_from: str | None = None  # the program that local adders are added to


@dataclass(frozen=True, slots=True)
class Publication:
    """What a pricing source said of one tariff.

    A price replaces what it overlaps. Within the `whole` spans there are no other prices:
    what was known there and is not said any more was withdrawn.
    """

    tariff: Tariff
    prices: Sequence[Price]
    whole: Sequence[tuple[datetime, datetime]] = ()


@dataclass(frozen=True, slots=True)
class PriceRow:
    """A price that holds from `start` until `end`, as it is kept."""

    program: str
    start: datetime
    end: datetime
    value: Decimal
    payload_type: str
    unit: str | None
    currency: str | None
    since: datetime  # when the bridge learnt it
    replaced: datetime | None = None  # when something else took its place
    status: str | None = None
    components: tuple[Component, ...] = ()
    series: int = 0

    @property
    def place(self) -> "Place":
        """Return where it stands among all rows, to go on from."""
        return self.program, self.series, self.start, self.since


@dataclass(frozen=True, slots=True)
class PriceQuestion:
    """Which prices are asked for: those that hold in [start, end), by program and time.

    `as_of` asks what was known at an instant, `revisions` for all that ever was. `after` is
    program, series, start and since of the last row of the page before.
    """

    program: str | None
    start: datetime
    end: datetime | None = None
    payload_type: str = PRICE
    as_of: datetime | None = None
    revisions: bool = False
    after: "Place | None" = None
    limit: int = 1000
    series: int | None = None  # one series of the program, else all of the payload type
    public: bool = False  # only of programs that are there still and aimed at nobody


@dataclass(frozen=True, slots=True)
class PriceDay:
    """One local day of a tariff, as its utility shows it."""

    tariff: Tariff
    start: datetime
    end: datetime
    prices: tuple[PriceRow, ...]


@dataclass(frozen=True, slots=True)
class Registration:
    """What a VTN gave this VEN."""

    ven_id: str
    registration_id: str
    vtn_id: str | None
    poll: timedelta


@dataclass(frozen=True, slots=True)
class Answer:
    """An opt to be told upstream, for one event and modification."""

    foreign_id: str
    modification: int
    opt: OptType
    request_id: str


@dataclass(frozen=True, slots=True)
class PartOpt:
    """The opt of one resource at which an event is aimed, to be told upstream by EiOpt."""

    foreign_id: str
    modification: int
    opt: OptType
    resource: str


@dataclass(frozen=True, slots=True)
class OptPolicy:
    """How a source's events are answered: always, never, or by a person before a deadline."""

    rule: Literal["always", "never", "manual"] = "always"
    deadline: timedelta = timedelta(minutes=10)
    default: OptType = "optIn"
