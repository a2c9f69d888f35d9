"""The six kinds of objects: where each is found, who may do what, what lists are filtered by."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from bridge.notation import to_utc
from bridge.parties import Wanted
from bridge.web import Query
from bridge.wire import openadr3_requests as requests

BASE = "/openadr3/3.1.0"
MOST = 50  # objects in a page
Name = Annotated[str, Field(min_length=1, max_length=128)]
Id = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]*$", min_length=1, max_length=128)]
ObjectType = Literal["PROGRAM", "EVENT", "REPORT", "SUBSCRIPTION", "VEN", "RESOURCE"]


def _count(value: object) -> object:
    text = str(value)
    if not (text.isascii() and text.isdigit()):
        raise ValueError("write a number without a sign, such as 50")
    return int(text) if len(text) < 12 else 2**40


def _day_or_time(value: object) -> object:
    text = str(value).replace(" ", "+")
    try:
        return date.fromisoformat(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
        return to_utc(moment) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError("write a date such as 2027-03-14, or a time as RFC 3339") from error


Count = BeforeValidator(_count)
DayOrTime = Annotated[date | datetime, BeforeValidator(_day_or_time)]


class Page(Query):
    """Which part of a list. What else a client says is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    skip: Annotated[int, Field(ge=0, lt=2**31), Count] = 0
    limit: Annotated[int, Field(ge=0, le=MOST), Count] = MOST


class Targeted(Page):
    """What can be aimed at someone."""

    targets: tuple[Name, ...] = ()


class Programs(Targeted):
    """What `GET /programs` can be asked; `programName` is an extension."""

    programName: Name | None = None  # noqa: N815 -- OpenADR's name


class Events(Targeted):
    """What `GET /events` can be asked; `programName`, `dateStart` and `dateEnd` are extensions.

    Dates are those of the site; the last day is included.
    """

    programID: Id | None = None  # noqa: N815
    active: Literal["true", "false"] = "false"
    programName: Name | None = None  # noqa: N815
    dateStart: DayOrTime | None = None  # noqa: N815
    dateEnd: DayOrTime | None = None  # noqa: N815


class Reports(Page):
    """What `GET /reports` can be asked."""

    programID: Id | None = None  # noqa: N815
    eventID: Id | None = None  # noqa: N815
    clientName: Name | None = None  # noqa: N815


class Subscriptions(Page):
    """What `GET /subscriptions` can be asked."""

    programID: Id | None = None  # noqa: N815
    clientName: Name | None = None  # noqa: N815
    objects: tuple[ObjectType, ...] = ()


class Vens(Targeted):
    """What `GET /vens` can be asked."""

    venName: Name | None = None  # noqa: N815


class Resources(Targeted):
    """What `GET /resources` can be asked."""

    resourceName: Name | None = None  # noqa: N815
    venID: Id | None = None  # noqa: N815


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object."""

    name: str
    collection: str
    id: str  # what its id is called in paths
    request: type[requests.Request]
    query: type[Page]
    read: tuple[str, ...]
    write: tuple[str, ...]
    aimed: bool  # whether what is seen of it depends on targets, and not on whose it is


_TARGETED, _OWN = ("read_all", "read_targets"), ("read_all", "read_ven_objects")
KINDS = (
    Kind("PROGRAM", "programs", "programID", requests.Program, Programs, _TARGETED,
         ("write_programs",), aimed=True),
    Kind("EVENT", "events", "eventID", requests.Event, Events, _TARGETED,
         ("write_events",), aimed=True),
    Kind("REPORT", "reports", "reportID", requests.Report, Reports, _OWN,
         ("write_reports",), aimed=False),
    Kind("SUBSCRIPTION", "subscriptions", "subscriptionID", requests.Subscription, Subscriptions,
         _OWN, ("write_subscriptions",), aimed=False),
    Kind("VEN", "vens", "venID", requests.Ven, Vens, _OWN, ("write_vens",), aimed=False),
    Kind("RESOURCE", "resources", "resourceID", requests.Resource, Resources, _OWN,
         ("write_vens",), aimed=False),
)  # fmt: skip


def to_wanted(kind: str, query: Page, zone: tzinfo) -> Wanted:
    """Return what a query asks for."""
    said = query.model_dump()
    return Wanted(
        kind=kind,
        program=said.get("programID"),
        program_name=said.get("programName"),
        event=said.get("eventID"),
        ven=said.get("venID"),
        name=said.get("venName") or said.get("resourceName") or said.get("clientName"),
        objects=frozenset(said.get("objects", ())),
        targets=_split(said.get("targets", ())),
        active=said.get("active") == "true",
        start=_edge(said.get("dateStart"), zone, 0),
        end=_edge(said.get("dateEnd"), zone, 1),
        skip=query.skip,
        limit=query.limit,
    )


def _split(targets: Iterable[str]) -> frozenset[str]:
    """Return targets, and those that some clients join with commas, of which one may hold some."""
    return frozenset(t for said in targets for t in (said, *said.split(",")) if t)


def _edge(said: date | datetime | None, zone: tzinfo, days: int) -> datetime | None:
    """Return a time, or when a local day begins, `days` later."""
    if said is None or isinstance(said, datetime):
        return said
    day = min(max(said, date(1971, 1, 1)), date(8999, 1, 1)) + timedelta(days=days)
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
