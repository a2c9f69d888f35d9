"""OpenADR 2.0b events as OpenADR 3.1 events with an origin; openadr2_writer goes back.

Read from the checked XML itself, so that identifiers stay text and numbers stay exact.
Several signals of one event become sibling documents that share the origin. References
are to the OpenADR 2.0 Profile Specification B Profile and to the OpenADR 3.1.0 Definition.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from lxml import etree

from bridge.errors import WireError
from bridge.model import (
    FOREVER,
    PRICE,
    SIMPLE,
    Dispatch,
    Document,
    Origin,
    SignalOrigin,
    Target,
    Value,
)
from bridge.notation import ZERO, read_duration, read_time, write_duration, write_time

NS = {
    "oadr": "http://openadr.org/oadr-2.0b/2012/07",
    "ei": "http://docs.oasis-open.org/ns/energyinterop/201110",
    "pyld": "http://docs.oasis-open.org/ns/energyinterop/201110/payloads",
    "emix": "http://docs.oasis-open.org/ns/emix/2011/06",
    "xcal": "urn:ietf:params:xml:ns:icalendar-2.0",
    "strm": "urn:ietf:params:xml:ns:icalendar-2.0:stream",
}

# (signal name, signal type) → OpenADR 3.1 payload type. Whatever is not here becomes
# `NAME.type`, so that a relative price or a multiplier is never taken for a price.
PAYLOAD_TYPES = {
    ("SIMPLE", "level"): SIMPLE,
    ("simple", "level"): SIMPLE,
    ("ELECTRICITY_PRICE", "price"): PRICE,
    ("DEMAND_CHARGE", "price"): "DEMAND_CHARGE",
    ("BID_PRICE", "price"): "BID_PRICE",
    ("LOAD_DISPATCH", "setpoint"): "DISPATCH_SETPOINT",
    ("LOAD_DISPATCH", "delta"): "DISPATCH_SETPOINT_RELATIVE",
    ("CHARGE_STATE", "setpoint"): "CHARGE_STATE_SETPOINT",
}
# itemBase → OpenADR 3.1 unit, and the power of ten from the item's unit to it
UNITS = {
    "currencyPerKWh": ("KWH", 0), "currencyPerKW": ("KW", 0), "currencyPerThm": ("THERMS", 0),
    "powerReal": ("KW", -3), "powerApparent": ("KVA", -3), "powerReactive": ("KVAR", -3),
    "energyReal": ("KWH", -3), "energyApparent": ("KVAH", -3), "energyReactive": ("KVARH", -3),
    "voltage": ("VOLTS", 0), "current": ("AMPS", 0), "Therm": ("THERMS", 0),
}  # fmt: skip
SCALES = {
    "p": -12, "n": -9, "micro": -6, "m": -3, "c": -2, "d": -1, "none": 0, "native": 0,
    "k": 3, "M": 6, "G": 9, "T": 12,
}  # fmt: skip
_SIGNAL_PARTS = {
    "intervals",
    "eiTarget",
    "signalName",
    "signalType",
    "signalID",
    "currentValue",
}


@dataclass(frozen=True, slots=True)
class Listing:
    """What an oadrDistributeEvent says: all events the VTN has for a VEN."""

    request_id: str
    vtn_id: str
    dispatches: tuple[Dispatch, ...]
    unreadable: tuple[str, ...] = ()  # what is wrong with events that make no sense


def read_listing(element: etree._Element, ven_id: str | None = None) -> Listing:
    """Read an oadrDistributeEvent; an event that makes no sense spoils no other.

    A target that is `ven_id`, our own, narrows nothing and is left out of the documents.
    """
    dispatches, unreadable = [], []
    for event in element.iterchildren("{*}oadrEvent"):
        try:
            dispatches.append(read_event(event, ven_id))
        except WireError as error:
            unreadable.append(str(error))
    return Listing(
        _text(element, "requestID") or "",
        _text(element, "vtnID") or "",
        tuple(dispatches),
        tuple(unreadable),
    )


def read_event(element: etree._Element, ven_id: str | None = None) -> Dispatch:
    """Read an oadrEvent into its origin and a document for each signal."""
    try:
        origin = _origin(element)
        signals = [
            (s, _signal_origin(s))
            for s in element.iterfind(".//{*}eiEventSignals/{*}eiEventSignal")
        ]
        origin = replace(origin, signals=tuple(o for _, o in signals))
        documents = tuple(_document(origin, o, s, ven_id) for s, o in signals)
    except (ValueError, ArithmeticError, etree.LxmlError) as error:
        name = _text(element, ".//eventID") or "?"
        raise WireError(f"event {name} cannot be read: {error}") from error
    return Dispatch(origin, documents, tuple(_audiences(origin, o, ven_id) for _, o in signals))


def payload_type(name: str, signal_type: str) -> str:
    """Return the OpenADR 3.1 payload type of a signal."""
    if name.startswith("x-"):
        return name
    return PAYLOAD_TYPES.get((name, signal_type), f"{name}.{signal_type}")


def _origin(element: etree._Element) -> Origin:
    event = _need(element, "eiEvent")
    about, period = _need(event, "eventDescriptor"), _need(event, "eiActivePeriod/properties")
    start, length = _time(_need(period, "dtstart")), _duration(period, "duration") or ZERO
    modified, priority = _text(about, "modificationDateTime"), _text(about, "priority")
    test, target = _text(about, "testEvent"), event.find("{*}eiTarget")
    return Origin(
        foreign_id=_text(about, "eventID") or "",
        modification=int(_text(about, "modificationNumber") or 0),
        status=_text(about, "eventStatus") or "none",
        context=_text(about, "eiMarketContext/marketContext") or "",
        created=read_time(_text(about, "createdDateTime") or ""),
        active_from=start,
        active_to=start + length if length else None,
        # Conformance rule 6: every value but "false" means that it is a test.
        test=test is not None and test != "false",
        test_text=test,
        response_required=_text(element, "oadrResponseRequired") != "never",
        modified=read_time(modified) if modified else None,
        reason=_text(about, "modificationReason"),
        comment=_text(about, "vtnComment"),
        priority=int(priority) if priority else None,
        start_after=_duration(period, "tolerance/tolerate/startafter") or ZERO,
        notification=_duration(period, "x-eiNotification"),
        ramp_up=_duration(period, "x-eiRampUp"),
        recovery=_duration(period, "x-eiRecovery"),
        targets=_targets(target),
        target_xml=_xml(target),
        baseline=_xml(event.find(".//{*}eiEventBaseline")),
        message=etree.tostring(element, encoding="unicode", with_tail=False),
    )


def _signal_origin(signal: etree._Element) -> SignalOrigin:
    target = signal.find("{*}eiTarget")
    return SignalOrigin(
        signal_id=_text(signal, "signalID") or "",
        name=_text(signal, "signalName") or "",
        type=_text(signal, "signalType") or "",
        current_value=_text(signal, "currentValue/*/value"),
        item=_xml(next((e for e in signal if _local(e) not in _SIGNAL_PARTS), None)),
        targets=_targets(target),
        target_xml=_xml(target),
    )


def _document(
    origin: Origin, about: SignalOrigin, signal: etree._Element, ven_id: str | None
) -> Document:
    kind = _payload_type_beside(origin, about)
    unit, currency, exponent = read_item(about.item)
    descriptor = {
        "objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": kind,
        "units": unit, "currency": currency,
    }  # fmt: skip
    period = {"start": write_time(origin.active_from)}
    if origin.start_after:
        period["randomizeStart"] = write_duration(origin.start_after)
    intervals = list(_intervals(origin, signal, kind, exponent))
    if intervals:  # each says its own; some clients cannot read an event without a default
        period["duration"] = intervals[0]["intervalPeriod"]["duration"]
    targets = _names(about.targets, ven_id) or _names(origin.targets, ven_id)
    document = {
        "objectType": "EVENT",
        "createdDateTime": write_time(origin.created),
        "modificationDateTime": write_time(origin.modified or origin.created),
        "eventName": origin.foreign_id,
        # 2.0b's 0 is "no priority"; 3.1's 0 is the highest there is.
        "priority": origin.priority or None,
        "targets": sorted(targets) or None,
        "payloadDescriptors": [_present(descriptor)],
        "intervalPeriod": period,
        "intervals": intervals,
    }
    return _present(document)


def _payload_type_beside(origin: Origin, about: SignalOrigin) -> str:
    """Take an ENERGY_PRICE for the price unless a whole ELECTRICITY_PRICE stands beside it."""
    names = {(s.name, s.type) for s in origin.signals}
    if (about.name, about.type) == ("ENERGY_PRICE", "price") and (
        "ELECTRICITY_PRICE",
        "price",
    ) not in names:
        return PRICE
    return payload_type(about.name, about.type)


def _intervals(
    origin: Origin, signal: etree._Element, kind: str, exponent: int
) -> Iterator[Document]:
    start = origin.active_from
    for index, interval in enumerate(signal.iterfind("{*}intervals/{*}interval")):
        own_start = interval.find("{*}dtstart")
        start = _time(own_start) if own_start is not None else start
        length = _duration(interval, "duration") or ZERO
        value = _value(_text(interval, "signalPayload/*/value"), kind, exponent)
        yield {
            "id": index,
            "intervalPeriod": {
                "start": write_time(start),
                "duration": write_duration(length) if length else FOREVER,
            },
            "payloads": [] if value is None else [{"type": kind, "values": [value]}],
        }
        start += length


def _value(text: str | None, kind: str, exponent: int) -> Value | None:
    number = Decimal(text or "NaN")
    if not number.is_finite():
        return None  # xs:float may say INF or NaN: then the value is not known
    if kind == SIMPLE and number == number.to_integral_value():
        return int(number)
    return number.scaleb(exponent) if exponent else number


def read_item(xml: str | None) -> tuple[str | None, str | None, int]:
    """Return unit, currency and the power of ten that brings values to that unit."""
    if not xml:
        return None, None, 0
    item = etree.fromstring(xml)
    name, said = _local(item), _text(item, "itemUnits")
    scale = SCALES.get(_text(item, "siScaleCode") or "none", 0)
    unit, exponent = UNITS.get(name, (None if name == "currency" else said, 0))
    if name == "temperature":
        unit = (said or "").upper()
    return unit, said if name.startswith("currency") else None, scale + exponent


def _audiences(
    origin: Origin, signal: SignalOrigin, ven_id: str | None
) -> tuple[frozenset[str], ...]:
    both = (_names(origin.targets, ven_id), _names(signal.targets, ven_id))
    return tuple(frozenset(names) for names in both if names)


def _names(targets: Iterable[Target], ven_id: str | None) -> set[str]:
    return {t.name for t in targets if not (t.kind == "venID" and t.name == ven_id)}


def _targets(target: etree._Element | None) -> tuple[Target, ...]:
    if target is None:
        return ()
    texts = ((_local(e), e.text or next((c.text for c in e.iter() if c.text), "")) for e in target)
    return tuple(Target(kind, (name or "").strip()) for kind, name in texts)


def _find(element: etree._Element, path: str) -> etree._Element | None:
    steps = [s if s in {"*", "."} or not s else "{*}" + s for s in path.split("/")]
    return element.find("/".join(steps))


def _need(element: etree._Element, path: str) -> etree._Element:
    found = _find(element, path)
    if found is None:
        raise ValueError(f"it has no {path}")
    return found


def _text(element: etree._Element, path: str) -> str | None:
    found = _find(element, path)
    return None if found is None else (found.text or "").strip()


def _time(element: etree._Element) -> datetime:
    return read_time(_text(element, "date-time") or "")


def _duration(element: etree._Element, path: str) -> timedelta | None:
    found = _find(element, path)
    if found is None:
        return None
    return read_duration("".join(str(t) for t in found.itertext()).strip())


def _xml(element: etree._Element | None) -> str | None:
    """Return XML in its canonical form: the same, whichever prefixes stood around it."""
    if element is None:
        return None
    return etree.tostring(element, method="c14n", exclusive=True, with_tail=False).decode()


def _local(element: etree._Element) -> str:
    return etree.QName(element).localname


def _present(document: Document) -> Document:
    return {key: value for key, value in document.items() if value is not None}
