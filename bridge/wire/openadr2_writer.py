"""OpenADR 3.1 events with an origin as OpenADR 2.0b events: undoes what wire/openadr2 does."""

from datetime import datetime, timedelta
from decimal import Decimal

from lxml import etree
from lxml.builder import ElementMaker

from bridge.model import FOREVER, Dispatch, Document, Origin, SignalOrigin
from bridge.notation import ZERO, read_duration, read_time, write_duration, write_time
from bridge.wire.openadr2 import NS, read_item

_OADR, _EI, _EMIX, _XCAL, _STRM = (
    ElementMaker(namespace=NS[p], nsmap=NS) for p in ("oadr", "ei", "emix", "xcal", "strm")
)


def write_event(dispatch: Dispatch) -> etree._Element:
    """Write a dispatch as an oadrEvent, with the values of its documents."""
    origin = dispatch.origin
    signals = [
        _write_signal(origin, about, document)
        for about, document in zip(origin.signals, dispatch.documents, strict=True)
    ]
    event = _EI.eiEvent(
        _write_descriptor(origin), _write_period(origin), _EI.eiEventSignals(*signals)
    )
    if origin.baseline:
        event[-1].append(etree.fromstring(origin.baseline))
    if origin.target_xml:
        event.append(etree.fromstring(origin.target_xml))
    required = "always" if origin.response_required else "never"
    return _OADR.oadrEvent(event, _OADR.oadrResponseRequired(required))


def _write_descriptor(origin: Origin) -> etree._Element:
    parts = [
        _EI.eventID(origin.foreign_id),
        _EI.modificationNumber(str(origin.modification)),
        origin.modified and _EI.modificationDateTime(write_time(origin.modified)),
        origin.reason and _EI.modificationReason(origin.reason),
        origin.priority is not None and _EI.priority(str(origin.priority)),
        _EI.eiMarketContext(_EMIX.marketContext(origin.context)),
        _EI.createdDateTime(write_time(origin.created)),
        _EI.eventStatus(origin.status),
        origin.test_text is not None and _EI.testEvent(origin.test_text),
        origin.comment is not None and _EI.vtnComment(origin.comment),
    ]
    return _EI.eventDescriptor(*(p for p in parts if isinstance(p, etree._Element)))


def _write_period(origin: Origin) -> etree._Element:
    length = origin.active_to - origin.active_from if origin.active_to else ZERO
    properties = _XCAL.properties(
        _XCAL.dtstart(_XCAL("date-time", write_time(origin.active_from))),
        _XCAL.duration(_XCAL.duration(write_duration(length))),
    )
    if origin.start_after:
        after = _XCAL.startafter(write_duration(origin.start_after))
        properties.append(_XCAL.tolerance(_XCAL.tolerate(after)))
    for name, value in (
        ("x-eiNotification", origin.notification),
        ("x-eiRampUp", origin.ramp_up),
        ("x-eiRecovery", origin.recovery),
    ):
        if value is not None:
            properties.append(_EI(name, _XCAL.duration(write_duration(value))))
    return _EI.eiActivePeriod(properties, _XCAL.components())


def _write_signal(origin: Origin, about: SignalOrigin, document: Document) -> etree._Element:
    *_, exponent = read_item(about.item)
    intervals, expected = [], origin.active_from
    for interval in document["intervals"]:
        start = read_time(interval["intervalPeriod"]["start"])
        said = interval["intervalPeriod"]["duration"]
        length = ZERO if said == FOREVER else read_duration(said)
        intervals.append(
            _write_interval(interval, start if start != expected else None, length, exponent)
        )
        expected = start + length
    parts = [
        _STRM.intervals(*intervals),
        about.target_xml and etree.fromstring(about.target_xml),
        _EI.signalName(about.name),
        _EI.signalType(about.type),
        _EI.signalID(about.signal_id),
        about.item and etree.fromstring(about.item),
        about.current_value is not None and _EI.currentValue(payload(about.current_value)),
    ]
    return _EI.eiEventSignal(*(p for p in parts if isinstance(p, etree._Element)))


def _write_interval(
    interval: Document, start: datetime | None, length: timedelta, exponent: int
) -> etree._Element:
    values = interval["payloads"][0]["values"] if interval["payloads"] else [Decimal("NaN")]
    number = Decimal(values[0])
    text = str(number.scaleb(-exponent) if exponent else number)
    element = _EI.interval(
        _XCAL.duration(_XCAL.duration(write_duration(length))),
        _XCAL.uid(_XCAL.text(str(interval["id"]))),
        _EI.signalPayload(payload(text)),
    )
    if start:
        element.insert(0, _XCAL.dtstart(_XCAL("date-time", write_time(start))))
    return element


def payload(text: str) -> etree._Element:
    """Write a number as a signal's payload."""
    return _EI.payloadFloat(_EI.value(text))
