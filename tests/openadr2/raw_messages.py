"""OpenADR 2.0b messages as a VEN writes them: text, from the specification and its schema.

Each function returns what stands in the oadrSignedObject; `wrap` makes the message of it.
The prefixes are others than those of the libraries at hand, and OpenADR's own namespace is
the default one.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4
from xml.sax.saxutils import escape

OADR = "http://openadr.org/oadr-2.0b/2012/07"
EI = "http://docs.oasis-open.org/ns/energyinterop/201110"
PYLD = "http://docs.oasis-open.org/ns/energyinterop/201110/payloads"
EMIX = "http://docs.oasis-open.org/ns/emix/2011/06"
POWER = "http://docs.oasis-open.org/ns/emix/2011/06/power"
SCALE = "http://docs.oasis-open.org/ns/emix/2011/06/siscale"
XCAL = "urn:ietf:params:xml:ns:icalendar-2.0"
STRM = "urn:ietf:params:xml:ns:icalendar-2.0:stream"
NAMESPACES = {
    "o": OADR, "e": EI, "p": PYLD, "m": EMIX, "w": POWER, "s": SCALE, "c": XCAL, "t": STRM,
}  # fmt: skip
DECLARED = " ".join(f'xmlns:{k}="{v}"' for k, v in NAMESPACES.items() if k != "o")
VERSION = 'e:schemaVersion="2.0b"'

SERVICES = {
    "oadrQueryRegistration": "EiRegisterParty",
    "oadrCreatePartyRegistration": "EiRegisterParty",
    "oadrCancelPartyRegistration": "EiRegisterParty",
    "oadrCanceledPartyRegistration": "EiRegisterParty",
    "oadrResponse": "EiRegisterParty",
    "oadrPoll": "OadrPoll",
    "oadrRequestEvent": "EiEvent",
    "oadrCreatedEvent": "EiEvent",
    "oadrRegisterReport": "EiReport",
    "oadrRegisteredReport": "EiReport",
    "oadrCreatedReport": "EiReport",
    "oadrUpdateReport": "EiReport",
    "oadrCanceledReport": "EiReport",
    "oadrCreateOpt": "EiOpt",
    "oadrCancelOpt": "EiOpt",
}


def fresh(kind: str = "r") -> str:
    """Return an identifier that was not used before."""
    return f"{kind}-{uuid4().hex[:12]}"


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def kind_of(body: str) -> str:
    """Return the message type of what stands in an oadrSignedObject."""
    return body.lstrip()[1:].split(None, 1)[0].rstrip("/>")


def wrap(body: str) -> str:
    """Put a message into its envelope, ready to be signed."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<oadrPayload xmlns="{OADR}" {DECLARED}>\n'
        f'<oadrSignedObject xmlns:o="{OADR}" o:Id="oadrSignedObject">\n{body}\n</oadrSignedObject>'
        "\n</oadrPayload>"
    )


def _maybe(tag: str, value: Any) -> str:
    if value is None:
        return ""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"<{tag}>{escape(text)}</{tag}>"


def _each(tag: str, values: Iterable[Any]) -> str:
    return "".join(_maybe(tag, value) for value in values)


def _result(code: int, request_id: str, description: str | None = "OK") -> str:
    return (
        f"<e:eiResponse><e:responseCode>{code:03}</e:responseCode>"
        f"{_maybe('e:responseDescription', description)}"
        f"<p:requestID>{escape(request_id)}</p:requestID></e:eiResponse>"
    )


def _span(start: datetime, length: str) -> str:
    return (
        f"<c:properties><c:dtstart><c:date-time>{stamp(start)}</c:date-time></c:dtstart>"
        f"<c:duration><c:duration>{length}</c:duration></c:duration></c:properties>"
    )


# Registration


def query_registration(request_id: str = "query-1") -> str:
    return (
        f"<oadrQueryRegistration {VERSION}><p:requestID>{escape(request_id)}</p:requestID>"
        "</oadrQueryRegistration>"
    )


def create_party_registration(
    *,
    name: str | None = None,
    ven_id: str | None = None,
    registration_id: str | None = None,
    request_id: str = "register-1",
    profile: str = "2.0b",
    transport: str = "simpleHttp",
    address: str | None = None,
    report_only: bool = False,
    signed: bool = False,
    pull: bool | None = True,
) -> str:
    return (
        f"<oadrCreatePartyRegistration {VERSION}>"
        f"{_maybe('p:requestID', request_id)}{_maybe('e:registrationID', registration_id)}"
        f"{_maybe('e:venID', ven_id)}{_maybe('oadrProfileName', profile)}"
        f"{_maybe('oadrTransportName', transport)}{_maybe('oadrTransportAddress', address)}"
        f"{_maybe('oadrReportOnly', report_only)}{_maybe('oadrXmlSignature', signed)}"
        f"{_maybe('oadrVenName', name)}{_maybe('oadrHttpPullModel', pull)}"
        "</oadrCreatePartyRegistration>"
    )


def cancel_party_registration(
    registration_id: str, ven_id: str | None = None, request_id: str = "cancel-1"
) -> str:
    return (
        f"<oadrCancelPartyRegistration {VERSION}>{_maybe('p:requestID', request_id)}"
        f"{_maybe('e:registrationID', registration_id)}{_maybe('e:venID', ven_id)}"
        "</oadrCancelPartyRegistration>"
    )


def canceled_party_registration(
    registration_id: str | None, ven_id: str | None, request_id: str = "", code: int = 200
) -> str:
    return (
        f"<oadrCanceledPartyRegistration {VERSION}>{_result(code, request_id)}"
        f"{_maybe('e:registrationID', registration_id)}{_maybe('e:venID', ven_id)}"
        "</oadrCanceledPartyRegistration>"
    )


def response(ven_id: str | None, request_id: str = "", code: int = 200) -> str:
    return (
        f"<oadrResponse {VERSION}>{_result(code, request_id)}{_maybe('e:venID', ven_id)}"
        "</oadrResponse>"
    )


# Events


def poll(ven_id: str) -> str:
    # The namespace of the identifier is the default one here.
    return f'<oadrPoll {VERSION}><venID xmlns="{EI}">{escape(ven_id)}</venID></oadrPoll>'  # as it may be


def request_event(ven_id: str, limit: int | None = None, request_id: str = "events-1") -> str:
    return (
        f'<oadrRequestEvent {VERSION}><eiRequestEvent xmlns="{PYLD}">'
        f"<requestID>{escape(request_id)}</requestID>{_maybe('e:venID', ven_id)}"
        f"{_maybe('replyLimit', limit)}</eiRequestEvent></oadrRequestEvent>"
    )


def created_event(
    ven_id: str,
    answers: Iterable[tuple[str, int, str]],
    request_id: str = "",
    code: int = 200,
) -> str:
    """Write answers, each of an eventID, a modification and an optType."""
    said = "".join(
        f"<e:eventResponse><e:responseCode>{code}</e:responseCode>"
        f"<p:requestID>{escape(request_id)}</p:requestID><e:qualifiedEventID>"
        f"{_maybe('e:eventID', event)}{_maybe('e:modificationNumber', modification)}"
        f"</e:qualifiedEventID>{_maybe('e:optType', opt)}</e:eventResponse>"
        for event, modification, opt in answers
    )
    return (
        f"<oadrCreatedEvent {VERSION}><p:eiCreatedEvent>{_result(code, '')}"
        f"<e:eventResponses>{said}</e:eventResponses>{_maybe('e:venID', ven_id)}"
        "</p:eiCreatedEvent></oadrCreatedEvent>"
    )


# Reports

ENERGY = (
    "<w:energyReal><w:itemDescription>RealEnergy</w:itemDescription>"
    "<w:itemUnits>Wh</w:itemUnits><s:siScaleCode>k</s:siScaleCode></w:energyReal>"
)
DEMAND = (
    "<w:powerReal><w:itemDescription>RealPower</w:itemDescription><w:itemUnits>W</w:itemUnits>"
    "<s:siScaleCode>none</s:siScaleCode><w:powerAttributes><w:hertz>60</w:hertz>"
    "<w:voltage>240</w:voltage><w:ac>true</w:ac></w:powerAttributes></w:powerReal>"
)


def _described(rid: str, resource: str, kind: str, unit: str, reading: str) -> str:
    return (
        f"<oadrReportDescription><e:rID>{escape(rid)}</e:rID>"
        f"<e:reportDataSource>{_maybe('e:resourceID', resource)}</e:reportDataSource>"
        f"<e:reportType>{kind}</e:reportType>{unit}<e:readingType>{reading}</e:readingType>"
        "<oadrSamplingRate><oadrMinPeriod>PT10S</oadrMinPeriod><oadrMaxPeriod>PT1H</oadrMaxPeriod>"
        "<oadrOnChange>false</oadrOnChange></oadrSamplingRate></oadrReportDescription>"
    )


def offer(name: str, specifier: str, described: str, length: str = "PT1H") -> str:
    return (
        f"<oadrReport><c:duration><c:duration>{length}</c:duration></c:duration>{described}"
        "<e:reportRequestID>0</e:reportRequestID>"
        f"{_maybe('e:reportSpecifierID', specifier)}<e:reportName>METADATA_{name}</e:reportName>"
        f"<e:createdDateTime>{stamp(datetime.now(UTC))}</e:createdDateTime></oadrReport>"
    )


def usage_offer(specifier: str = "usage", resource: str = "meter") -> str:
    """Offer telemetry of energy and power of a resource, by the ids `energy` and `power`."""
    return offer(
        "TELEMETRY_USAGE",
        specifier,
        _described("energy", resource, "usage", ENERGY, "Direct Read")
        + _described("power", resource, "demand", DEMAND, "Mean"),
    )


def status_offer(specifier: str = "status", resource: str = "meter") -> str:
    described = _described("state", resource, "x-resourceStatus", "", "x-notApplicable")
    return offer("TELEMETRY_STATUS", specifier, described)


def history_offer(specifier: str = "history", resource: str = "meter") -> str:
    described = _described("past", resource, "usage", ENERGY, "Direct Read")
    return offer("HISTORY_USAGE", specifier, described, "P30D")


def register_report(ven_id: str | None, offers: Iterable[str], request_id: str = "offer-1") -> str:
    return (
        f"<oadrRegisterReport {VERSION}>{_maybe('p:requestID', request_id)}{''.join(offers)}"
        f"{_maybe('e:venID', ven_id)}</oadrRegisterReport>"
    )


def registered_report(ven_id: str | None, request_id: str = "", code: int = 200) -> str:
    return (
        f"<oadrRegisteredReport {VERSION}>{_result(code, request_id)}{_maybe('e:venID', ven_id)}"
        "</oadrRegisteredReport>"
    )


def _pending(tag: str, ven_id: str | None, pending: Iterable[str], request_id: str) -> str:
    return (
        f"<{tag} {VERSION}>{_result(200, request_id)}<oadrPendingReports>"
        f"{_each('e:reportRequestID', pending)}</oadrPendingReports>{_maybe('e:venID', ven_id)}"
        f"</{tag}>"
    )


def created_report(ven_id: str | None, pending: Iterable[str] = (), request_id: str = "") -> str:
    return _pending("oadrCreatedReport", ven_id, pending, request_id)


def canceled_report(ven_id: str | None, pending: Iterable[str] = (), request_id: str = "") -> str:
    return _pending("oadrCanceledReport", ven_id, pending, request_id)


def _number(value: Any) -> str:
    return f"<e:payloadFloat><e:value>{value}</e:value></e:payloadFloat>"


def _state(online: bool, override: bool, level: float) -> str:
    return (
        f"<oadrPayloadResourceStatus>{_maybe('oadrOnline', online)}"
        f"{_maybe('oadrManualOverride', override)}<oadrLoadControlState><oadrCapacity>"
        f"<oadrMin>0</oadrMin><oadrMax>100</oadrMax><oadrCurrent>{level}</oadrCurrent>"
        "<oadrNormal>100</oadrNormal></oadrCapacity></oadrLoadControlState>"
        "</oadrPayloadResourceStatus>"
    )


def report(
    request: str,
    specifier: str,
    name: str,
    intervals: Iterable[tuple[datetime, str | None, Mapping[str, Any]]],
    *,
    report_id: str | None = None,
    created: datetime | None = None,
    quality: str | None = None,
) -> str:
    """Write a report of intervals, each of a start, a length and what each rID says.

    What is said is a number, or online, overridden and level for a resource's status.
    """
    rows = list(intervals)
    first = rows[0][0] if rows else datetime.now(UTC)
    return (
        f"<oadrReport><c:dtstart><c:date-time>{stamp(first)}</c:date-time></c:dtstart>"
        f"<t:intervals>{''.join(_interval(*row, quality) for row in rows)}</t:intervals>"
        f"{_maybe('e:eiReportID', report_id)}{_maybe('e:reportRequestID', request)}"
        f"{_maybe('e:reportSpecifierID', specifier)}{_maybe('e:reportName', name)}"
        f"<e:createdDateTime>{stamp(created or datetime.now(UTC))}</e:createdDateTime></oadrReport>"
    )


def _interval(
    start: datetime, length: str | None, said: Mapping[str, Any], quality: str | None
) -> str:
    lasts = f"<c:duration><c:duration>{length}</c:duration></c:duration>" if length else ""
    payloads = "".join(
        f"<oadrReportPayload>{_maybe('e:rID', rid)}<e:confidence>100</e:confidence>"
        "<e:accuracy>0.5</e:accuracy>"
        f"{_state(*value) if isinstance(value, tuple) else _number(value)}"
        f"{_maybe('oadrDataQuality', quality)}</oadrReportPayload>"
        for rid, value in said.items()
    )
    return (
        f"<e:interval><c:dtstart><c:date-time>{stamp(start)}</c:date-time></c:dtstart>{lasts}"
        f"{payloads}</e:interval>"
    )


def update_report(ven_id: str | None, reports: Iterable[str], request_id: str = "update-1") -> str:
    return (
        f"<oadrUpdateReport {VERSION}>{_maybe('p:requestID', request_id)}{''.join(reports)}"
        f"{_maybe('e:venID', ven_id)}</oadrUpdateReport>"
    )


# Opts


def create_opt(
    ven_id: str,
    opt_id: str,
    *,
    opt: str = "optOut",
    reason: str = "notParticipating",
    context: str | None = None,
    available: Iterable[tuple[datetime, str]] = (),
    event: tuple[str, int] | None = None,
    resources: Iterable[str] = (),
    device_class: str | None = None,
    request_id: str = "opt-1",
) -> str:
    times = "".join(f"<c:available>{_span(*one)}</c:available>" for one in available)
    about = (
        f"<e:qualifiedEventID>{_maybe('e:eventID', event[0])}"
        f"{_maybe('e:modificationNumber', event[1])}</e:qualifiedEventID>"
        if event
        else ""
    )
    return (
        f"<oadrCreateOpt {VERSION}>{_maybe('e:optID', opt_id)}{_maybe('e:optType', opt)}"
        f"{_maybe('e:optReason', reason)}{_maybe('m:marketContext', context)}"
        f"{_maybe('e:venID', ven_id)}"
        + (
            f"<c:vavailability><c:components>{times}</c:components></c:vavailability>"
            if times
            else ""
        )
        + f"<e:createdDateTime>{stamp(datetime.now(UTC))}</e:createdDateTime>"
        f"{_maybe('p:requestID', request_id)}{about}"
        f"<e:eiTarget>{_each('e:resourceID', resources)}</e:eiTarget>"
        + (
            "<oadrDeviceClass><w:endDeviceAsset>"
            f"{_maybe('w:mrid', device_class)}</w:endDeviceAsset></oadrDeviceClass>"
            if device_class
            else ""
        )
        + "</oadrCreateOpt>"
    )


def cancel_opt(ven_id: str, opt_id: str, request_id: str = "opt-2") -> str:
    return (
        f"<oadrCancelOpt {VERSION}>{_maybe('p:requestID', request_id)}{_maybe('e:optID', opt_id)}"
        f"{_maybe('e:venID', ven_id)}</oadrCancelOpt>"
    )
