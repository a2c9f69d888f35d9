"""The words for clients: who calls, what each may see and asks for, who is told of what."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from bridge.model import Document


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
