"""The words for what was measured: meters, readings, who said them, whose they are.

At the end: what a store must do for them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple, Protocol

from bridge.model import Document

# Which way energy went. Where nobody says it is NET: what went through the meter, either way.
IMPORT, EXPORT, NET, GENERATION = "import", "export", "net", "generation"
DIRECTIONS = (IMPORT, EXPORT, NET, GENERATION)
# What was measured. Others are kept, too, and not added up.
USAGE, DEMAND, BASELINE = "usage", "demand", "baseline"
SUBSCRIPTION_PRE, SUBSCRIPTION_POST = "subscription_pre", "subscription_post"
UNMEASURED = frozenset({BASELINE, SUBSCRIPTION_PRE, SUBSCRIPTION_POST})  # by any meter
ADDED_UP = frozenset({USAGE}) | UNMEASURED
UNKNOWN = ""  # a unit or a currency that nobody says
# What a reading may be of: between these instants, and no longer than this (milliseconds)
FIRST, LAST, LONGEST = 0, 7_258_118_400_000, 100 * 86_400_000  # 1970, 2200, a quarter's bill
# Unit as it is said → unit as it is kept, and the power of ten between them: no digit changes
_SCALED: Mapping[str, tuple[str, int]] = {
    prefix + unit: ("K" + unit, power)
    for unit in ("WH", "W", "VAH", "VA", "VARH", "VAR")
    for prefix, power in (("", -3), ("K", 0), ("M", 3), ("G", 6))
}


def kept_unit(said: str) -> tuple[str, int]:
    """Return the unit that amounts are kept in, and the power of ten to scale them by.

    Energy is kept in KWH, power in KW, however it is said; other units as they are.
    """
    unit = said.strip().upper()
    return _SCALED.get(unit, (unit, 0))


class Stream(NamedTuple):
    """What a meter measures: one direction and kind, in one unit."""

    meter: str
    direction: str = NET
    kind: str = USAGE
    unit: str = "KWH"
    currency: str = UNKNOWN  # of the costs that are said with the readings


def owned(protocol: str, client: str, meter: str = "") -> str:
    """Return the name under which a client's meter is kept: no other client can name it.

    Without a meter, what the names of all its meters begin with. Ids of clients hold no colon.
    """
    return f"{protocol}:{client}:{meter}"


class Reading(NamedTuple):
    """An amount: `value` times 10^`exponent`, of [start, start + length).

    Times are whole milliseconds since 1970, as the store has them: a year of minutes is half
    a million of these. A value that does not fit into 63 bits is its digits, as text.
    """

    start: int
    length: int
    value: int | str
    exponent: int = 0
    quality: str | None = None
    cost: int | None = None  # hundred-thousandths of the stream's currency, as ESPI counts


def out_of_bounds(start: int, length: int) -> str | None:
    """Say what is wrong with the time of a reading; None where nothing is."""
    if start < FIRST or start + length > LAST:
        return "of a time before 1970 or after 2200"
    if not 0 <= length <= LONGEST:
        return f"of no time, or of more than {LONGEST // 86_400_000} days"
    return None


class Origin(NamedTuple):
    """Who said a reading, and where."""

    kind: str  # greenbutton, api, mqtt, utilityapi, customer, openadr2, openadr3
    name: str = ""  # of the source, client, VEN or token
    reference: str = ""  # a file, a report, an interval's uid
    reading_type: str = ""  # as OpenADR calls it


@dataclass(frozen=True, slots=True)
class Measured:
    """Readings of one stream as one origin said them."""

    stream: Stream
    readings: Sequence[Reading]
    origin: Origin
    said: datetime | None = None  # when; without it, when it came
    zone: str | None = None  # of the meter, where it is known for sure


@dataclass(frozen=True, slots=True)
class MeterState:
    """How a source stands with a meter, in a word, a sentence, and what to do next."""

    meter: str
    state: str  # ok, needs_activation, pending, waiting, payment_required, revoked, …
    says: str = ""
    next_step: str = ""
    about: Document = field(default_factory=dict)  # what else the source says of it


@dataclass(frozen=True, slots=True)
class Contract:
    """A customer's contract with a utility: which meters count, and at which prices."""

    id: str
    customer: str
    meters: tuple[str, ...] = ()
    program: str | None = None  # whose prices hold
    about: Document = field(default_factory=dict)  # what the utility says of it
    clients: frozenset[str] = frozenset()  # to whom it is granted


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of readings that were said."""

    new: int = 0
    updated: int = 0
    duplicates: int = 0
    outdated: int = 0  # something newer is known
    told: int = 0  # meters of whose news devices are told

    def __add__(self, other: "Kept") -> "Kept":
        return Kept(
            self.new + other.new, self.updated + other.updated,
            self.duplicates + other.duplicates, self.outdated + other.outdated,
            self.told + other.told,
        )  # fmt: skip


class Bucket(NamedTuple):
    """What is known of a span of time: its amount, and how much of it that amount is of.

    `value` is None where nothing is known. Energy is added up, of demand it is the highest.
    """

    start: datetime
    end: datetime
    value: Decimal | None
    covered: timedelta
    readings: int = 0  # how many it is made of

    @property
    def whole(self) -> bool:
        """Whether it is known all through."""
        return self.value is not None and self.covered >= self.end - self.start


class Known(NamedTuple):
    """A reading as it is kept: who said it when, and when the bridge learnt it."""

    start: datetime
    end: datetime
    value: Decimal
    quality: str | None
    cost: Decimal | None  # as it was said with the reading
    origin: Document
    said: datetime
    since: datetime
    replaced: datetime | None = None  # until when it was known


class Stretch(NamedTuple):
    """A stretch of time of which there are readings."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A stream as it is kept, and how far its readings reach."""

    id: int
    meter: str
    direction: str
    kind: str
    unit: str
    currency: str
    zone: str
    straddles: bool  # whether one may be of several local dates
    first: datetime | None
    last: datetime | None

    @property
    def stream(self) -> Stream:
        """Return what is measured."""
        return Stream(self.meter, self.direction, self.kind, self.unit, self.currency)


@dataclass(frozen=True, slots=True)
class UsageQuestion:
    """Which streams are asked for; None is all. `own` is what further meters begin with."""

    meters: frozenset[str] | None = None
    own: str | None = None
    direction: str | None = None
    kind: str | None = None

    def of(self, meter: str) -> "UsageQuestion":
        """Return the question for one meter, if it is among those that are asked for."""
        asked = self.meters is None or meter in self.meters
        asked = asked or (self.own is not None and meter.startswith(self.own))
        return UsageQuestion(frozenset({meter}) if asked else frozenset())


class UsageStore(Protocol):
    """Keeps what was measured, and answers what it amounts to."""

    async def keep(self, measured: Sequence[Measured], at: datetime, *, durable: bool) -> Kept:
        """Keep what was measured, in one transaction; say what became of it."""

    async def meters(self, question: UsageQuestion) -> list[Document]:
        """Return the meters that are asked for by name, with what each measures."""

    async def exists(self, question: UsageQuestion) -> bool:
        """Whether there is a meter that is asked for."""

    async def streams(self, question: UsageQuestion) -> list[StreamInfo]:
        """Return the streams that are asked for, by meter, direction, kind and unit."""

    async def readings(
        self, stream: StreamInfo, start: datetime, end: datetime, limit: int, *, all_: bool = False
    ) -> list[Known]:
        """Return the first readings that begin in [start, end), the finest there are; or all."""

    async def begins(
        self, stream: StreamInfo, at: datetime, *, shorts: bool = False
    ) -> datetime | None:
        """Return where, from an instant on, there is something again; None where nothing is.

        With `shorts` readings of more than a day are nothing.
        """

    async def buckets(self, stream: StreamInfo, edges: Sequence[datetime]) -> list[Bucket]:
        """Return what each span between two edges amounts to."""

    async def parts(
        self, stream: StreamInfo, spans: Sequence[tuple[datetime, datetime]], limit: int
    ) -> list[Sequence[Known]]:
        """Return the readings that the amount of each span, in order, is the sum of.

        The last spans are missing where there are more than `limit` readings.
        """

    async def coverage(
        self, stream: StreamInfo, start: datetime | None, end: datetime | None, limit: int
    ) -> list[Stretch]:
        """Return the first stretches of time, in order, of which there are readings."""

    async def trace(
        self, stream: StreamInfo, start: datetime, end: datetime, limit: int
    ) -> list[Known]:
        """Return the first readings of [start, end) that do not hold any more.

        In order of their starts, and of when they were learnt.
        """


class ContractStore(Protocol):
    """Knows whose contracts there are."""

    async def granted(self, client: str | None) -> list[Contract]:
        """Return the contracts that a client may see; None sees all."""
