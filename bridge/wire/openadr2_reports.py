"""OpenADR 2.0b reports: what a VEN can measure, and what it measured (section 8.3)."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal

from lxml import etree

from bridge.errors import WireError
from bridge.notation import MOST_DIGITS, ZERO, read_duration, read_time
from bridge.vens import Offered, Point, Reading
from bridge.wire.openadr2 import NS, read_item

_EI, _OADR = f"{{{NS['ei']}}}", f"{{{NS['oadr']}}}"
# reportType → OpenADR 3.1 payload type, as readings are kept
KINDS = {
    "usage": "USAGE", "reading": "READING", "demand": "DEMAND", "deltaUsage": "DELTA_USAGE",
    "baseline": "BASELINE",
}  # fmt: skip
_OVER_TIME = {"usage", "deltaUsage", "demand", "baseline"}
_ENERGY = {"KWH", "KVAH", "KVARH", "THERMS"}
_KNOWN = {"rID", "reportSubject", "reportDataSource", "reportType", "readingType"}
NO_POINT = Point("", None, "reading", "x-notApplicable")


def read_offered(element: etree._Element) -> list[Offered]:
    """Read an oadrRegisterReport: the reports that a VEN says it can give."""
    try:
        return [
            Offered(
                specifier=_text(report, f"{_EI}reportSpecifierID"),
                name=_text(report, f"{_EI}reportName").removeprefix("METADATA_"),
                points=tuple(map(_point, report.iterfind(f"{_OADR}oadrReportDescription"))),
            )
            for report in element.iterfind(f"{_OADR}oadrReport")
        ]
    except (ValueError, ArithmeticError) as error:
        raise WireError(f"the report's description cannot be read: {error}") from error


def _point(described: etree._Element) -> Point:
    item = next((e for e in described if _is_item(e)), None)
    xml = None if item is None else etree.tostring(item, with_tail=False).decode()
    unit, currency, exponent = read_item(xml)
    rate = described.find(f"{_OADR}oadrSamplingRate")
    return Point(
        r_id=_text(described, f"{_EI}rID"),
        resource=_resource(described),
        report_type=_text(described, f"{_EI}reportType"),
        reading_type=_text(described, f"{_EI}readingType"),
        unit=unit,
        currency=currency,
        exponent=exponent,
        shortest=_duration(rate, f"{_OADR}oadrMinPeriod") if rate is not None else None,
        longest=_duration(rate, f"{_OADR}oadrMaxPeriod") if rate is not None else None,
    )


def _is_item(element: etree._Element) -> bool:
    name = etree.QName(element).localname
    return name not in _KNOWN | {"marketContext", "oadrSamplingRate"}


def _resource(described: etree._Element) -> str | None:
    """Return whose measurement it is: the resource, else the meter or end device."""
    for place in ("reportDataSource", "reportSubject"):
        for name in ("resourceID", "meterAsset", "endDeviceAsset"):
            found = described.find(f"{_EI}{place}/{{*}}{name}")
            text = "" if found is None else "".join(str(t) for t in found.itertext()).strip()
            if text:
                return text
    return None


def specifiers(element: etree._Element) -> set[str]:
    """Return the specifiers of the reports in an oadrUpdateReport."""
    found = element.iterfind(f"{_OADR}oadrReport")
    return {_text(report, f"{_EI}reportSpecifierID") for report in found}


def request_ids(element: etree._Element) -> set[str]:
    """Return under which requests an oadrUpdateReport reports."""
    found = element.iterfind(f"{_OADR}oadrReport")
    return {_text(report, f"{_EI}reportRequestID") for report in found}


def read_update(
    element: etree._Element,
    known: Mapping[str, Mapping[str, Point]],
    samplings: Mapping[str, timedelta],
) -> list[Reading]:
    """Read an oadrUpdateReport; `known` is, by specifier and rID, what the VEN said it measures.

    `samplings` are, by request id, the lengths that were asked for: those of amounts over time
    that say none. What is no number, or has no time, is left out: nothing is guessed.
    """
    meters = {specifier: _meters(points) for specifier, points in known.items()}
    try:
        return [
            reading
            for report in element.iterfind(f"{_OADR}oadrReport")
            for reading in _readings(report, known, meters, samplings)
        ]
    except (ValueError, ArithmeticError) as error:
        raise WireError(f"the report cannot be read: {error}") from error


def _readings(
    report: etree._Element,
    known: Mapping[str, Mapping[str, Point]],
    named: Mapping[str, Mapping[str, str]],
    samplings: Mapping[str, timedelta],
) -> Iterator[Reading]:
    specifier = _text(report, f"{_EI}reportSpecifierID")
    points, meters = known.get(specifier, {}), named.get(specifier, {})
    request = _text(report, f"{_EI}reportRequestID")
    start, usual = _time(report), samplings.get(request, ZERO)
    step = usual
    for n, interval in enumerate(report.iterfind("{*}intervals/{*}interval")):
        own = _time(interval)
        if own is None and n and not step:
            raise WireError("an interval has no dtstart, and the one before it no duration")
        start = own or start
        said = _duration(interval, "{*}duration") or ZERO
        if start is None:
            continue
        for payload in interval.iterfind(f"{_OADR}oadrReportPayload"):
            r_id = _text(payload, f"{_EI}rID")
            point = points.get(r_id, NO_POINT)
            length = said or (usual if point.report_type in _OVER_TIME else ZERO)
            quality = payload.findtext(f"{_OADR}oadrDataQuality")
            for kind, value in _values(payload, point):
                yield Reading(
                    meter=meters.get(r_id, r_id),
                    kind=kind,
                    start=start,
                    length=length,
                    value=value,
                    unit=point.unit if "." not in kind else None,
                    reading_type=point.reading_type,
                    quality=quality.strip() if quality else None,
                    request_id=request,
                )
        step = said or usual
        start = start + step


def _meters(points: Mapping[str, Point]) -> dict[str, str]:
    """Return the meter of each rID: its resource, with the rID where two are of one kind."""
    measured = Counter((p.resource or r, _kind(p)) for r, p in points.items())
    return {
        r: (p.resource or r) if measured[p.resource or r, _kind(p)] == 1 else f"{p.resource}/{r}"
        for r, p in points.items()
    }


def _kind(point: Point) -> str:
    if point.report_type == "usage" and point.unit is not None and point.unit not in _ENERGY:
        return "DEMAND"
    named = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", point.report_type).upper()
    return KINDS.get(point.report_type, named)


def _values(payload: etree._Element, point: Point) -> Iterator[tuple[str, Decimal]]:
    said = payload.findtext(f"{_EI}payloadFloat/{_EI}value")
    if said is not None:
        if (value := _number(said)) is not None:
            yield _kind(point), value.scaleb(point.exponent) if point.exponent else value
        return
    status = payload.find(f"{_OADR}oadrPayloadResourceStatus")
    if status is None:
        return
    for kind, name in (("ONLINE", "oadrOnline"), ("MANUAL_OVERRIDE", "oadrManualOverride")):
        flag = (status.findtext(f"{_OADR}{name}") or "").strip()
        if flag:
            yield kind, Decimal(flag in {"true", "1"})
    for control in status.iterfind(f"{_OADR}oadrLoadControlState/*"):
        for number in control:
            if (value := _number(number.text or "")) is not None:
                names = (etree.QName(e).localname.removeprefix("oadr") for e in (control, number))
                yield "LOAD_CONTROL." + ".".join(names), value


def _number(text: str) -> Decimal | None:
    number = Decimal(text.strip())
    if not number.is_finite():
        return None  # xs:float may say INF or NaN: then the value is not known
    _, digits, exponent = number.as_tuple()
    sayable = len(digits) <= MOST_DIGITS and abs(int(exponent)) <= MOST_DIGITS
    return number if sayable else None  # finer, or larger, than anything that is measured


def _time(element: etree._Element) -> datetime | None:
    text = element.findtext("{*}dtstart/{*}date-time")
    return read_time(text.strip()) if text else None


def _duration(element: etree._Element, path: str) -> timedelta | None:
    found = element.find(path)
    if found is None:
        return None
    text = "".join(str(t) for t in found.itertext()).strip()
    length = read_duration(text) if text else None
    if length is not None and length < ZERO:
        raise ValueError(f"the duration {text[:40]} is negative")
    return length


def _text(element: etree._Element, path: str) -> str:
    return (element.findtext(path) or "").strip()
