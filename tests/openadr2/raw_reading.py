"""What a VTN said, read from its XML by hand and held against the official schema."""

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from lxml import etree

from tests.openadr2.raw_messages import EI, EMIX, OADR, PYLD, STRM, XCAL
from tests.openadr2.raw_signatures import Signed

PREFIXES = {"o": OADR, "e": EI, "p": PYLD, "m": EMIX, "c": XCAL, "t": STRM}
# What a VTN answers with, each of which may say no
REFUSALS = {
    "oadrResponse", "oadrCreatedPartyRegistration", "oadrCanceledPartyRegistration",
    "oadrRegisteredReport", "oadrUpdatedReport", "oadrCreatedOpt", "oadrCanceledOpt",
    "oadrDistributeEvent",
}  # fmt: skip
PLAIN = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)


@lru_cache(maxsize=1)
def schema() -> etree.XMLSchema:
    """Return the official schema; its files are all that is taken from where they lie."""
    folder = find_spec("openleadr").submodule_search_locations[0]
    return etree.XMLSchema(etree.parse(str(Path(folder) / "schema" / "oadr_20b.xsd")))


def find(element: Any, path: str) -> Any:
    return element.find(path, PREFIXES)


def text(element: Any, path: str, otherwise: Any = None) -> Any:
    """Return the text at a path, or what else there is to say."""
    found = element.find(path, PREFIXES)
    return otherwise if found is None else (found.text or "").strip()


def texts(element: Any, path: str) -> list[str]:
    return [(e.text or "").strip() for e in element.findall(path, PREFIXES)]


def length(said: str) -> timedelta:
    """Return how long a duration is."""
    parts = re.fullmatch(
        r"([+-]?)P(?:(\d+)W)?(?:(\d+)D)?T?(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?", said
    )
    assert parts, f"{said} is no duration of weeks, days and shorter"
    sign, weeks, days, hours, minutes, seconds = parts.groups()
    found = timedelta(
        weeks=int(weeks or 0),
        days=int(days or 0),
        hours=int(hours or 0),
        minutes=int(minutes or 0),
        seconds=float(seconds or 0),
    )
    return -found if sign == "-" else found


def moment(said: str) -> datetime:
    assert said.endswith("Z"), f"{said} has no time zone"
    return datetime.fromisoformat(said)


class Interval(NamedTuple):
    start: datetime
    duration: timedelta
    value: float


class Signal(NamedTuple):
    name: str
    type: str
    intervals: list[Interval]
    unit: str | None  # such as USD
    measure: str | None  # such as currencyPerKWh
    current: float | None

    @property
    def values(self) -> list[float]:
        return [i.value for i in self.intervals]


class Event(NamedTuple):
    id: str
    modification: int
    status: str
    context: str
    priority: int
    test: str | None
    required: str
    start: datetime
    duration: timedelta
    signals: list[Signal]
    targets: dict[str, list[str]]

    @property
    def version(self) -> tuple[str, int]:
        return self.id, self.modification


class Wanted(NamedTuple):
    """A report that is asked for."""

    id: str
    specifier: str
    every: timedelta
    sampling: timedelta
    points: list[str]


@dataclass
class Answer:
    """What came back: HTTP's side of it and the message."""

    status: int
    content: bytes
    content_type: str = ""
    signed: Signed | None = None
    kind: str = ""  # the message type
    element: Any = field(default=None, repr=False)  # the message itself

    @classmethod
    def read(cls, status: int, content: bytes, content_type: str = "") -> "Answer":
        """Read an answer; what is no message has no kind."""
        found = cls(status, content, content_type)
        if content_type != "application/xml" or not content:
            return found
        root = etree.fromstring(content, PLAIN)
        if not schema().validate(root):
            raise AssertionError(f"not OpenADR 2.0b: {schema().error_log}\n{content[:2000]!r}")
        found.element = find(root, "o:oadrSignedObject")[0]
        found.kind = etree.QName(found.element).localname
        return found

    @cached_property
    def code(self) -> int:
        """The responseCode; 0 where the message has none."""
        if self.element is None:
            return 0
        return int(text(self.element, ".//e:eiResponse/e:responseCode", 0))

    @property
    def description(self) -> str:
        return str(text(self.element, ".//e:eiResponse/e:responseDescription", ""))

    def text(self, path: str) -> Any:
        return text(self.element, path)

    @property
    def good(self) -> bool:
        return self.status == 200 and self.code == 200

    def refuses(self, code: int) -> bool:
        """Whether it says no, with this code, in the way that 2.0b says no."""
        return self.status == 200 and self.code == code and self.kind in REFUSALS

    def events(self) -> list[Event]:
        """Return the events of an oadrDistributeEvent."""
        assert self.kind == "oadrDistributeEvent", self
        return [_event(e) for e in self.element.findall("o:oadrEvent", PREFIXES)]

    def report_requests(self) -> list[Wanted]:
        """Return the reports that are asked for."""
        return [_wanted(e) for e in self.element.findall("o:oadrReportRequest", PREFIXES)]


def _event(element: Any) -> Event:
    said = find(element, "e:eiEvent/e:eventDescriptor")
    period = find(element, "e:eiEvent/e:eiActivePeriod/c:properties")
    start = moment(text(period, "c:dtstart/c:date-time"))
    signals = element.findall("e:eiEvent/e:eiEventSignals/e:eiEventSignal", PREFIXES)
    targets: dict[str, list[str]] = {}
    for target in find(element, "e:eiEvent/e:eiTarget"):
        targets.setdefault(etree.QName(target).localname, []).append("".join(target.itertext()))
    return Event(
        id=text(said, "e:eventID"),
        modification=int(text(said, "e:modificationNumber")),
        status=text(said, "e:eventStatus"),
        context=text(said, "e:eiMarketContext/m:marketContext"),
        priority=int(text(said, "e:priority", 0)),
        test=text(said, "e:testEvent"),
        required=text(element, "o:oadrResponseRequired"),
        start=start,
        duration=length(text(period, "c:duration/c:duration")),
        signals=[_signal(signal, start) for signal in signals],
        targets=targets,
    )


def _signal(element: Any, start: datetime) -> Signal:
    intervals, at = [], start
    for one in element.findall("t:intervals/e:interval", PREFIXES):
        own = text(one, "c:dtstart/c:date-time")
        at = moment(own) if own else at
        lasts = length(text(one, "c:duration/c:duration", "PT0S"))
        value = float(text(one, "e:signalPayload/e:payloadFloat/e:value"))
        intervals.append(Interval(at, lasts, value))
        at += lasts
    units = element.xpath("*[*[local-name() = 'itemUnits']]")
    current = text(element, "e:currentValue/e:payloadFloat/e:value")
    return Signal(
        name=text(element, "e:signalName"),
        type=text(element, "e:signalType"),
        intervals=intervals,
        unit=text(units[0], "{*}itemUnits") if units else None,
        measure=etree.QName(units[0]).localname if units else None,
        current=None if current is None else float(current),
    )


def _wanted(element: Any) -> Wanted:
    said = find(element, "e:reportSpecifier")
    return Wanted(
        id=text(element, "e:reportRequestID"),
        specifier=text(said, "e:reportSpecifierID"),
        every=length(text(said, "e:reportBackDuration/c:duration")),
        sampling=length(text(said, "c:granularity/c:duration")),
        points=texts(said, "e:specifierPayload/e:rID"),
    )
