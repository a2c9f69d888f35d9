"""Events as a VEN is shown them: an oadrEvent that is kept, as it is now, for this VEN."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta

from lxml import etree

from bridge.errors import WireError
from bridge.notation import ZERO, read_duration, read_time
from bridge.wire.openadr2 import NS
from bridge.wire.openadr2_writer import payload

_EI = f"{{{NS['ei']}}}"


def canonical(xml: str) -> str:
    """Return an oadrEvent in its canonical form."""
    element = etree.fromstring(xml)
    return etree.tostring(element, method="c14n", exclusive=True, with_tail=False).decode()


def offered(
    xml: str,
    at: datetime,
    *,
    event: str,
    modification: int,
    cancelled: bool,
    signals: Collection[int],
    ven: str,
    groups: Sequence[str],
    resources: Sequence[str],
    aimed: Collection[str],
) -> tuple[bytes, datetime | None]:
    """Return an oadrEvent as it is now for a VEN, and until when it is so.

    `signals` are those of its signals that concern the VEN, `aimed` the names at which the event
    is aimed. Targets that are not the VEN's own are not shown.
    """
    element = etree.fromstring(xml)
    whole = _need(element, f"{_EI}eiEvent")
    about = _need(whole, f"{_EI}eventDescriptor")
    period = _need(whole, f"{_EI}eiActivePeriod/{{*}}properties")
    _set(about, "eventID", event)
    _set(about, "modificationNumber", str(modification))
    status, until = ("cancelled", None) if cancelled else _status(period, at)
    _set(about, "eventStatus", status)
    begin, _, _ = _times(period)
    for n, signal in enumerate(list(element.iterfind(f".//{_EI}eiEventSignal"))):
        if n not in signals:
            _need(whole, f"{_EI}eiEventSignals").remove(signal)
            continue
        change = _set_current(signal, begin, at, active=status == "active")
        until = min((u for u in (until, change) if u), default=None)
    own = {*groups, *resources}
    for target in whole.iterfind(f".//{_EI}eiEventSignal/{_EI}eiTarget"):
        _keep_own(target, own)
    _aim(whole, ven, groups, resources, aimed)
    return etree.tostring(element, with_tail=False), until


def _set(element: etree._Element, name: str, text: str) -> None:
    _need(element, _EI + name).text = text


def _need(element: etree._Element, path: str) -> etree._Element:
    found = element.find(path)
    if found is None:
        raise WireError(f"an oadrEvent has no {path.rpartition('}')[2]}")
    return found


def _times(period: etree._Element) -> tuple[datetime, datetime | None, timedelta]:
    start = read_time((period.findtext("{*}dtstart/{*}date-time") or "").strip())
    length = read_duration((period.findtext("{*}duration/{*}duration") or "PT0S").strip())
    ramp = period.findtext("{*}x-eiRampUp/{*}duration")
    return start, start + length if length else None, read_duration(ramp.strip()) if ramp else ZERO


def _status(period: etree._Element, at: datetime) -> tuple[str, datetime | None]:
    """Return an event's status at a time, and until when it is this (section 8.2, figure 5)."""
    start, end, ramp = _times(period)
    for status, until in (("far", start - ramp), ("near", start), ("active", end)):
        if until is None or at < until:
            return status, until
    return "completed", None


def _set_current(
    signal: etree._Element, begin: datetime, at: datetime, *, active: bool
) -> datetime | None:
    """Set what a signal says it is worth now; return until when."""
    current = signal.find(f"{_EI}currentValue")
    if current is None:
        return None
    said, until = "0.0", None
    for start, end, value in _intervals(signal, begin) if active else ():
        if start <= at and (end is None or at < end):
            said, until = value, end
    signal.replace(current, _current(said))
    return until


def _current(text: str) -> etree._Element:
    element = etree.Element(f"{_EI}currentValue")
    element.append(payload(text))
    return element


def _intervals(
    signal: etree._Element, start: datetime
) -> Iterator[tuple[datetime, datetime | None, str]]:
    for interval in signal.iterfind("{*}intervals/{*}interval"):
        own = interval.findtext("{*}dtstart/{*}date-time")
        start = read_time(own.strip()) if own else start
        length = read_duration((interval.findtext("{*}duration/{*}duration") or "PT0S").strip())
        value = interval.findtext("{*}signalPayload/*/{*}value") or "0.0"
        yield start, start + length if length else None, value.strip()
        start += length


def _aim(
    event: etree._Element, ven: str, groups: Sequence[str], resources: Sequence[str],
    aimed: Collection[str],
) -> None:  # fmt: skip
    """Say at whom an event is aimed, as far as this VEN may know: at itself where at nobody."""
    target = event.find(f"{_EI}eiTarget")
    if target is None:
        target = etree.SubElement(event, f"{_EI}eiTarget")
    said = _keep_own(target, {*groups, *resources})
    for name, names in (("groupID", groups), ("resourceID", resources)):
        for one in names:
            if one in aimed and one not in said:
                _insert(target, name, one)
                said.add(one)
    if not len(target):
        _insert(target, "venID", ven)


def _keep_own(target: etree._Element, own: Collection[str]) -> set[str]:
    """Take out of a target what is not the VEN's own; return what is left."""
    said = {child: "".join(str(t) for t in child.itertext()).strip() for child in target}
    for child, name in said.items():
        if name not in own:
            target.remove(child)
    return set(said.values()) & set(own)


def _insert(target: etree._Element, name: str, text: str) -> None:
    """Put a child where the schema wants it: groupID, groupName, resourceID."""
    before = {"groupID": ("groupName", "resourceID"), "resourceID": ()}.get(name, ())
    element = etree.Element(_EI + name)
    element.text = text
    at = next((n for n, c in enumerate(target) if etree.QName(c).localname in before), len(target))
    target.insert(at, element)
