"""What a source, a device adapter and a store must do.

Each protocol is what one part asks of another; the parts do not know each other.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Protocol

from aiohttp import ClientSession

from bridge.clock import Clock
from bridge.model import (
    Answer,
    Change,
    Delivery,
    Dispatch,
    Document,
    Ended,
    Event,
    Firing,
    OptPolicy,
    OptType,
    PartOpt,
    PriceDay,
    PriceQuestion,
    PriceRow,
    Publication,
    Receiver,
    Registration,
    Tariff,
    Track,
)
from bridge.reporting import ReportMemory
from bridge.usage import Contract, Measured, MeterState

Send = Callable[[Delivery], Awaitable[None]]


async def _nothing() -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Events, prices and readings as an upstream said them, and how to tell it that they are kept.

    `complete` says that these events are all there are: what is kept, not over and not listed
    has been cancelled. `marks` say, in the source's own words, how far it has got, and are
    kept with the rest. `history` is what can be asked for again if the power fails.
    """

    dispatches: Sequence[Dispatch] = ()
    request_id: str = ""
    complete: bool = False
    accepted: Callable[[], Awaitable[None]] = _nothing
    publications: Sequence[Publication] = ()
    marks: Mapping[str, str] = field(default_factory=dict)
    history: bool = False
    measured: Sequence[Measured] = ()
    meters: Sequence[MeterState] = ()
    contracts: Sequence[Contract] = ()


class SourceMemory(Protocol):
    """What a source keeps in the store, and follows there."""

    async def registration(self, source: str) -> Registration | None:
        """Return what the VTN gave this VEN at registration."""

    async def save_registration(self, source: str, given: Registration | None) -> None:
        """Keep it, or forget it."""

    async def missing(self, source: str, listed: Collection[str], at: datetime) -> list[str]:
        """Return ids of events that are kept, not over and not listed."""

    async def answers(
        self, source: str, at: datetime, listed: Mapping[str, int] | None = None
    ) -> list[Answer]:
        """Return the opts of these events (id → modification), or all not told yet."""

    async def answered(self, source: str, answers: Sequence[Answer]) -> None:
        """Note that the upstream was told."""

    async def part_opts(self, source: str, at: datetime) -> list[PartOpt]:
        """Return what resources are opted of which events, and was not told yet."""

    async def part_opts_told(self, source: str, told: Sequence[PartOpt]) -> None:
        """Note that the upstream was told."""

    async def heard_from(self, source: str, at: datetime) -> None:
        """Note that the upstream is there."""

    async def marks(self, source: str) -> Mapping[str, str]:
        """Return how far the source has got, in its own words."""

    async def contexts(self, source: str) -> Collection[str]:
        """Return the contexts of the source's programs: those it ever said something of."""

    def bell(self, name: str) -> asyncio.Event:
        """Return an event of one's own that is set after each change."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a source is given when it is started."""

    memory: SourceMemory
    clock: Clock
    succeeded: Callable[[datetime], None]
    warn: Callable[[str | None], None]
    reports: ReportMemory | None = None  # of sources that tell their upstream of usage


class Author(Protocol):
    """Whose events are kept: a source, or the bridge's own business-logic clients."""

    @property
    def name(self) -> str:
        """A name for logs and the admin page."""

    @property
    def opt_policy(self) -> OptPolicy:
        """How its events are answered."""

    @property
    def max_open_ended(self) -> timedelta:
        """After how long an open-ended event is released."""

    @property
    def program_names(self) -> Mapping[str, str]:
        """Names of programs by market context, as settled by a person."""


class Source(Author, Protocol):
    """Says what an upstream says, for as long as it is iterated."""

    def batches(self, around: Surroundings) -> AsyncGenerator[Batch, None]:
        """Yield events as they come; raise SourceError when the upstream fails."""


@dataclass(frozen=True, slots=True)
class DeviceSurroundings:
    """What a device adapter is given when it is opened."""

    http: ClientSession  # shared: a thousand devices need no thousand pools
    clock: Clock


class Device(Protocol):
    """Reaches one device in one way."""

    @property
    def receiver(self) -> Receiver:
        """What the device follows and how it is told."""

    @property
    def kind(self) -> str:
        """The adapter's name."""

    def connect(self, around: "DeviceSurroundings") -> AbstractAsyncContextManager[Send]:
        """Open what sending needs; `send` raises DeviceError, Refused or Gone."""


class Crowd(Protocol):
    """Reaches receivers that come and go: all whose names begin with its prefix."""

    @property
    def prefix(self) -> str:
        """What the names of its receivers begin with."""

    def connect(self, around: "DeviceSurroundings") -> AbstractAsyncContextManager[Send]:
        """Open what sending needs; `send` raises DeviceError, Refused or Gone."""


class SignalStore(Protocol):
    """Keeps what sources say."""

    async def save(self, source: Source, batch: Batch, at: datetime) -> int:
        """Keep events and prices with their change rows, in one transaction.

        Returns how many published prices were written or withdrawn.
        """


class Timetable(Protocol):
    """Knows which moments are due."""

    async def newest(self) -> datetime | None:
        """Return the time of the newest change."""

    async def bring_nearer(self, now: datetime) -> None:
        """Let the moments of price days fire that have come near."""

    async def recheck(self, now: datetime) -> None:
        """Look at every track once more."""

    async def due(self, now: datetime) -> list[Track]:
        """Return tracks with a moment due, the earliest first."""

    async def next_due(self) -> datetime | None:
        """Return when the next moment or opt deadline is due."""

    async def fired(self, firings: Sequence[tuple[Track, Firing]], now: datetime) -> int:
        """Write moments as changes with the marks that they fired; return how many tracks."""

    async def expire_opts(self, now: datetime, defaults: dict[str, OptType]) -> None:
        """Answer by default (source → opt) what nobody answered before its deadline."""

    async def prune(self, now: datetime) -> bool:
        """Drop some of what nobody needs any more; say whether more is left."""

    def bell(self, name: str) -> asyncio.Event:
        """Return an event of one's own that is set after each change."""


class SilenceNotes(Protocol):
    """Knows which sources are silent."""

    async def note_silences(self, now: datetime, limits: Collection[timedelta]) -> None:
        """Write a change for each source that fell silent or spoke again."""


class Outbox(Protocol):
    """Holds what is owed to devices."""

    async def cursor(self, name: str) -> int:
        """Return how far a follower of the change log has got."""

    async def changes(self, after: int, limit: int) -> tuple[list[Change], list[Event]]:
        """Return changes after a sequence number, oldest first, and the events they are about.

        For a change of a program's prices these are all its price days that are near.
        """

    async def live_events(self, at: datetime) -> list[Event]:
        """Return events that are not over, price days that are near among them."""

    async def programs(self) -> Mapping[str, Sequence[str]]:
        """Return the names of programs by source."""

    async def offsets(self) -> Mapping[tuple[str, str], timedelta]:
        """Return drawn starts: (event, device) → how much later."""

    async def device_states(
        self,
    ) -> Mapping[str, tuple[str | None, datetime | None, str | None]]:
        """Return each device's last told state, when, and why it is disabled."""

    async def silences(self) -> Mapping[tuple[str, timedelta], datetime]:
        """Return (source, stale_after) → since when it is silent for such a device."""

    async def save_deliveries(
        self,
        deliveries: Sequence[Delivery],
        states: Mapping[str, tuple[str, datetime]],
        draws: Mapping[tuple[str, str], timedelta],
        cursor: int,
        at: datetime,
    ) -> None:
        """Write rows and what devices were told, and move the cursor, in one transaction."""

    async def owed(self, after: int) -> list[Delivery]:
        """Return unsettled deliveries with a turn after this one, in order."""

    async def settle(self, ended: Sequence[Ended]) -> None:
        """Note how deliveries ended."""

    async def postpone(self, delivery: Delivery, problem: str, due: datetime) -> None:
        """Note a failed attempt and when the next one is."""

    async def disable_device(self, name: str, reason: str, at: datetime) -> None:
        """Note that a device asks never to be sent anything again."""

    def bell(self, name: str) -> asyncio.Event:
        """Return an event of one's own that is set after each change."""


class PriceHistory(Protocol):
    """Answers what prices were, are and will be."""

    async def programs(
        self, at: datetime, name: str | None = None, *, public: bool = False
    ) -> list[Document]:
        """Return all programs, or one, by name: how far prices reach, and when last asked for.

        The `public` ones are those that are there still and aimed at nobody.
        """

    async def prices(self, question: PriceQuestion) -> list[PriceRow]:
        """Return the prices that are asked for, by program, series, start and since."""

    async def tariffs(self, program: str) -> list[tuple[int, Tariff]]:
        """Return what a pricing source's program is the price of: a tariff for each series."""

    async def days(
        self, utility: str, rate: str, circuit: str, cca: str | None, first: date, last: date
    ) -> list[PriceDay]:
        """Return local days of a utility's series, the last included."""


class Overview(Protocol):
    """Answers what the admin endpoint asks of the store."""

    async def list_sources(self) -> list[Document]:
        """Return all sources by name."""

    async def list_devices(self) -> list[Document]:
        """Return all devices by name, with what each is owed."""

    async def list_subscriptions(self) -> list[Document]:
        """Return all subscriptions, with what each is owed and how it did last."""

    async def list_vens(self, at: datetime | None = None) -> list[Document]:
        """Return all 2.0b VENs; with a time, also what each is owed then, said, asked for."""

    async def answers(
        self, events: Collection[tuple[str, str]]
    ) -> Mapping[tuple[str, str], list[Document]]:
        """Return what VENs answered to events: (source, foreign id) → answers."""

    async def list_events(
        self, after: str | None, limit: int, live: datetime | None
    ) -> list[Document]:
        """Return events with their origin, the latest start first."""

    async def list_deliveries(
        self, after: int | None, limit: int, device: str | None, outcome: str | None
    ) -> list[Document]:
        """Return deliveries, the newest first."""

    async def retry(self, delivery_id: str, at: datetime) -> Document | None:
        """Owe a settled delivery again; return its row, or None when there is none."""

    async def counts(self) -> Document:
        """Return how many deliveries are owed, and when the oldest of them was made."""

    async def outcomes(self) -> Mapping[str, int]:
        """Return how many kept deliveries ended how."""
