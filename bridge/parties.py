"""The words for clients: who calls, what each may see and asks for, who is told of what.

At the end: what a store must do for them.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from bridge.model import Change, Delivery, Document, Ended, Event


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the scopes that were granted, and the client id of an OpenADR client."""

    name: str
    scopes: frozenset[str]
    client: str | None = None

    @property
    def sees_all(self) -> bool:
        """Whether nothing is hidden from it, as from business logic."""
        return "read_all" in self.scopes


@dataclass(frozen=True, slots=True)
class View:
    """What a client may see: all, or what is its own, is granted to it, or is aimed at nobody."""

    all: bool
    client: str | None
    grants: frozenset[str]

    def sees(self, audiences: Iterable[Collection[str]]) -> bool:
        """Whether an object that is aimed so is visible (Definition, Object Privacy)."""
        return self.all or all(not self.grants.isdisjoint(aimed) for aimed in audiences)

    def shown(self, targets: Collection[str]) -> list[str]:
        """Return those of an object's targets that this client may know of."""
        return [t for t in targets if self.all or t in self.grants]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which objects of a kind are asked for: those that match every filter, page by page."""

    kind: str  # PROGRAM, EVENT, REPORT, SUBSCRIPTION, VEN, RESOURCE
    program: str | None = None  # its id
    program_name: str | None = None
    event: str | None = None
    ven: str | None = None
    name: str | None = None  # venName, resourceName, clientName
    objects: frozenset[str] = frozenset()
    targets: frozenset[str] = frozenset()
    active: bool = False
    start: datetime | None = None  # events that hold somewhere in [start, end)
    end: datetime | None = None
    skip: int = 0
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Subscriber:
    """One objectOperation of a subscription: who is told of what, and where."""

    id: str
    part: int
    view: View
    program: str | None
    targets: frozenset[str]
    objects: frozenset[str]
    operations: frozenset[str]

    @property
    def receiver(self) -> str:
        """Its name among those that deliveries go to."""
        return f"{SUBSCRIPTION}{self.id}:{self.part}"


SUBSCRIPTION, BROKER = "subscription:", "mqtt:"  # receivers that are no devices


@dataclass(frozen=True, slots=True)
class Notice:
    """An operation on an object that clients may be told of."""

    kind: str  # PROGRAM, EVENT, REPORT, SUBSCRIPTION, VEN, RESOURCE
    operation: str  # CREATE, UPDATE, DELETE
    document: Document  # as it is, or as it was when it was deleted
    audiences: tuple[frozenset[str], ...]
    seq: int
    at: datetime
    client: str | None = None  # whose the object is
    ven: str | None = None  # of a ven or a resource: the ven's id
    program: str | None = None  # of an event, a report or a subscription
    former: "Notice | None" = None  # an updated object as it was before

    @property
    def aimed(self) -> bool:
        """Whether who sees it depends on its targets, and not on whose it is."""
        return self.kind in {"PROGRAM", "EVENT"}


class Objects(Protocol):
    """Keeps the objects of OpenADR 3. What cannot be done raises one of the ObjectErrors."""

    @property
    def commits(self) -> int:
        """Return a number that moves with every commit that may concern a reader."""

    async def latest(self) -> int:
        """Return the sequence number of the newest change."""

    async def visibility(self, caller: Caller) -> View:
        """Return what of programs and events a caller may see: its grants that occur in any."""

    async def list(
        self, caller: Caller, wanted: Wanted, at: datetime
    ) -> tuple[Sequence[str], datetime | None]:
        """Return documents as JSON, and until when they are right if nothing is written."""

    async def read(self, kind: str, object_id: str, caller: Caller) -> str:
        """Return one document as JSON."""

    async def create(self, kind: str, caller: Caller, document: Document, at: datetime) -> str:
        """Keep a new object; return it as JSON."""

    async def replace(
        self, kind: str, object_id: str, caller: Caller, document: Document, at: datetime
    ) -> str:
        """Replace an object; return it as JSON."""

    async def delete(self, kind: str, object_id: str, caller: Caller, at: datetime) -> str:
        """Delete an object and what hangs on it; return what it was."""


class Credentials(Protocol):
    """Knows clients by their secrets, and gives out tokens."""

    async def check(self, client_id: str, secret: str) -> Document | None:
        """Return a client if this is its secret."""

    def narrow(self, client: Document, asked: Collection[str]) -> frozenset[str] | None:
        """Return the scopes that a client has of those asked for; None where one is not known."""

    def issue(
        self, client: Document, scopes: Collection[str], at: datetime
    ) -> tuple[str, timedelta]:
        """Return an access token, and how long it lasts."""


class Notebook(Protocol):
    """Follows the change log for those who are notified of operations on objects."""

    async def cursor(self) -> int:
        """Return how far the change log was turned into notifications."""

    async def changes(self, after: int, limit: int) -> list[Change]:
        """Return changes after a sequence number, oldest first."""

    async def program(self, program_id: str) -> Document | None:
        """Return a program as it is shown to business logic."""

    async def price_days(
        self, program_id: str, start: int, end: int
    ) -> tuple[list[Event], list[Document]]:
        """Return a program's price days between two instants, and what is left of those gone."""

    async def subscribers(self) -> list[Subscriber]:
        """Return whom to tell, each with what it may see."""

    async def vens(self) -> Mapping[str, View]:
        """Return, by the ids of vens, what each may see."""

    async def save(self, owed: Sequence[Delivery], cursor: int, at: datetime) -> None:
        """Write notifications and move the cursor, in one transaction."""

    async def callback(
        self, delivery: Delivery, at: datetime
    ) -> tuple[str, str | None, View] | None:
        """Return where a subscriber is told, its bearer token, and what it may see now."""

    async def owed_to_broker(self, limit: int) -> list[Delivery]:
        """Return what is to be published, in order."""

    async def settle(self, ended: Sequence[Ended]) -> None:
        """Note how publishing ended."""

    def bell(self, name: str) -> asyncio.Event:
        """Return an event of one's own that is set after each change."""
