"""OpenADR 2.0b reports as a VEN gives them: what it offers, is asked for, tells (section 8.3).

What a VTN asks for is read from the checked XML itself, so that identifiers stay text.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from lxml import etree
from lxml.builder import ElementMaker

from bridge.notation import LAST_YEAR, ZERO, read_duration, read_time, write_duration, write_time
from bridge.reporting import (
    LONGEST,
    METADATA,
    REPORTS,
    TELEMETRY_STATUS,
    Asked,
    Cell,
    Offer,
    Resource,
)
from bridge.wire.openadr2 import NS
from bridge.wire.signatures import OADR

_NSMAP = {
    **{prefix: NS[prefix] for prefix in ("oadr", "ei", "pyld", "xcal", "strm")},
    "power": "http://docs.oasis-open.org/ns/emix/2011/06/power",
    "scale": "http://docs.oasis-open.org/ns/emix/2011/06/siscale",
}
_O, _E, _P, _X, _S, _POWER, _SCALE = (
    ElementMaker(namespace=uri, nsmap=_NSMAP) for uri in _NSMAP.values()
)
_EI, _OADR, _PYLD, _XCAL = (f"{{{NS[p]}}}" for p in ("ei", "oadr", "pyld", "xcal"))
_VERSION = {f"{_EI}schemaVersion": "2.0b"}

# Response codes (OpenADR 2.0b Profile Specification, table of application error codes)
OK, NOT_ALLOWED, INVALID_ID, INVALID_DATA, NOT_SUPPORTED = 200, 451, 452, 454, 461
GOOD, NO_VALUE = "Quality Good - Non Specific", "No Quality - No Value"
LONGEST_ID = 256  # characters of an id that is remembered


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that is not accepted, and why."""

    request_id: str
    code: int
    why: str


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What an oadrCancelReport says."""

    request_id: str
    reports: tuple[str, ...]
    to_follow: bool  # whether it is told a last time


# --- what a VTN asks for -----------------------------------------------------------------------


def read_requests(element: etree._Element) -> list[Asked | Refused]:
    """Read what an oadrCreateReport or oadrRegisteredReport asks for; a bad one spoils no other."""
    return [_request(e) for e in element.iterfind(f"{_OADR}oadrReportRequest")]


def _request(element: etree._Element) -> Asked | Refused:
    request_id = _text(element, f"{_EI}reportRequestID")
    about = element.find(f"{_EI}reportSpecifier")
    if about is None or not 0 < len(request_id) <= LONGEST_ID:
        return Refused(request_id[:LONGEST_ID], INVALID_ID, "the reportRequestID cannot be used")
    try:
        interval = about.find(f"{_EI}reportInterval/{_XCAL}properties")
        asked = Asked(
            request_id=request_id,
            specifier=_text(about, f"{_EI}reportSpecifierID"),
            r_ids=tuple(dict.fromkeys(_r_ids(about))),
            granularity=_duration(about, f"{_XCAL}granularity"),
            back=_duration(about, f"{_EI}reportBackDuration"),
            start=None if interval is None else _time(interval),
            length=None if interval is None else _duration(interval, f"{_XCAL}duration"),
        )
    except (ValueError, OverflowError) as error:
        return Refused(request_id, INVALID_DATA, str(error))
    if max(asked.granularity, asked.back) > LONGEST:
        return Refused(request_id, INVALID_DATA, f"a duration is longer than {LONGEST.days} days")
    return asked


def _r_ids(about: etree._Element) -> Iterator[str]:
    return (_text(e, f"{_EI}rID") for e in about.iterfind(f"{_EI}specifierPayload"))


def read_cancelled(element: etree._Element) -> Cancelled:
    """Read an oadrCancelReport."""
    found = element.iterfind(f"{_EI}reportRequestID")
    return Cancelled(
        _text(element, f"{_PYLD}requestID"),
        tuple(dict.fromkeys((e.text or "").strip() for e in found)),
        _text(element, f"{_PYLD}reportToFollow") in {"true", "1"},
    )


def cancelled_with(element: etree._Element) -> Cancelled | None:
    """Return what an oadrUpdatedReport cancels."""
    found = element.find(f"{_OADR}oadrCancelReport")
    return None if found is None else read_cancelled(found)


def _duration(element: etree._Element, path: str) -> timedelta:
    length = read_duration(_text(element, f"{path}/{_XCAL}duration") or "PT0S")
    if length < ZERO:
        raise ValueError("a duration is negative")
    return length


def _time(interval: etree._Element) -> datetime:
    start = read_time(_text(interval, f"{_XCAL}dtstart/{_XCAL}date-time"))
    if not 1970 < start.year < LAST_YEAR:
        raise ValueError(f"{start.year} is no year of which there is something to report")
    return start


def _text(element: etree._Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


# --- what a VEN says ---------------------------------------------------------------------------


def write_offer(
    offer: Offer, ven_id: str, request_id: str, at: datetime, wanted_by: str = ""
) -> str:
    """Write an oadrRegisterReport: all that can be reported, with its rIDs."""
    reports = [
        _O.oadrReport(
            _X.duration(_X.duration(write_duration(LONGEST))),
            *(_described(r, REPORTS[specifier]) for r in points.values()),
            _E.reportRequestID(wanted_by or "0"),
            _E.reportSpecifierID(specifier),
            _E.reportName(f"{METADATA}_{REPORTS[specifier]}"),
            _E.createdDateTime(_stamp(at)),
        )
        for specifier, points in offer.reports.items()
    ]
    said = [_P.requestID(request_id), *reports, _E.venID(ven_id)]
    return _signed_object(_O.oadrRegisterReport(*said, **_VERSION))


def _described(resource: Resource, report: str) -> etree._Element:
    """Write what is measured of a resource, and how often."""
    status, every = report == TELEMETRY_STATUS, write_duration(resource.every)
    energy = _POWER.energyReal(
        _POWER.itemDescription("RealEnergy"), _POWER.itemUnits("Wh"), _SCALE.siScaleCode("k")
    )
    return _O.oadrReportDescription(
        _E.rID(resource.name),
        _E.reportSubject(_E.resourceID(resource.name)),
        _E.reportDataSource(_E.resourceID(resource.name)),
        _E.reportType("x-resourceStatus" if status else "usage"),
        *([] if status else [energy]),
        _E.readingType("x-notApplicable" if status else "Direct Read"),
        _O.oadrSamplingRate(
            _O.oadrMinPeriod(every), _O.oadrMaxPeriod(every), _O.oadrOnChange("false")
        ),
    )


def write_created(
    ven_id: str, request_id: str, pending: Collection[str], refused: Sequence[Refused] = ()
) -> str:
    """Write an oadrCreatedReport: which reports are told from now on, and what is refused."""
    said = (_response(request_id, refused), _pending(pending), _E.venID(ven_id))
    return _signed_object(_O.oadrCreatedReport(*said, **_VERSION))


def write_cancelled(
    ven_id: str, request_id: str, pending: Collection[str], refused: Sequence[Refused] = ()
) -> str:
    """Write an oadrCanceledReport: which reports are still told, and what was never asked for."""
    said = (_response(request_id, refused), _pending(pending), _E.venID(ven_id))
    return _signed_object(_O.oadrCanceledReport(*said, **_VERSION))


def _response(request_id: str, refused: Sequence[Refused]) -> etree._Element:
    """Write an eiResponse with the first refusal's code; it says of all which they are."""
    code = refused[0].code if refused else OK
    text = "; ".join(f"{_sayable(r.request_id)}: {_sayable(r.why)}" for r in refused[:10])
    return _E.eiResponse(
        _E.responseCode(str(code)), _E.responseDescription(text or "OK"), _P.requestID(request_id)
    )


def _pending(reports: Iterable[str]) -> etree._Element:
    return _O.oadrPendingReports(*(_E.reportRequestID(name) for name in sorted(reports)))


def write_update(
    asked: Asked, cells: Sequence[Cell], ven_id: str, update_id: str, at: datetime
) -> str:
    """Write an oadrUpdateReport: an interval for each cell.

    One resource's value to an interval, with its own start: stock VTNs read no other.
    """
    intervals = [
        _E.interval(
            _start(c.start), _X.duration(_X.duration(write_duration(c.length))), _payload(c)
        )
        for c in cells
    ]
    report = _O.oadrReport(
        _start(min(c.start for c in cells)),
        _S.intervals(*intervals),
        _E.eiReportID(update_id),
        _E.reportRequestID(asked.request_id),
        _E.reportSpecifierID(asked.specifier),
        _E.reportName(REPORTS[asked.specifier]),
        _E.createdDateTime(_stamp(at)),
    )
    said = (_P.requestID(update_id), report, _E.venID(ven_id))
    return _signed_object(_O.oadrUpdateReport(*said, **_VERSION))


def _payload(cell: Cell) -> etree._Element:
    """Write what is known of an interval; of a gap that it is none, with no number in its place."""
    if isinstance(cell.value, bool):
        value = _O.oadrPayloadResourceStatus(
            _O.oadrOnline("true" if cell.value else "false"), _O.oadrManualOverride("false")
        )
    else:
        value = _E.payloadFloat(_E.value(_number(cell.value)))
    quality = NO_VALUE if cell.value is None else GOOD
    return _O.oadrReportPayload(_E.rID(cell.r_id), value, _O.oadrDataQuality(quality))


def _number(value: Decimal | None) -> str:
    return "NaN" if value is None else f"{value:f}"


def _start(moment: datetime) -> etree._Element:
    return _X.dtstart(_X("date-time", _stamp(moment)))


def _stamp(moment: datetime) -> str:
    return write_time(moment.replace(microsecond=0))


def _sayable(text: str) -> str:
    return " ".join(text.split())[:120]


def _signed_object(message: etree._Element) -> str:
    signed = _O.oadrSignedObject(message, **{f"{OADR}Id": "oadrSignedObject"})
    etree.cleanup_namespaces(signed, top_nsmap={"oadr": NS["oadr"]})
    return etree.tostring(signed, encoding="unicode")


def enveloped(signed_object: str) -> bytes:
    """Return a whole oadrPayload around an oadrSignedObject, unsigned: the same each time."""
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<oadr:oadrPayload xmlns:oadr="{NS["oadr"]}">'
        f"{signed_object}</oadr:oadrPayload>"
    ).encode()
