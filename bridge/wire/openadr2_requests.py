"""What a VEN says in OpenADR 2.0b messages, read exactly from the checked XML."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from lxml import etree

from bridge.errors import WireError
from bridge.model import OptType
from bridge.notation import ZERO, read_duration, read_time
from bridge.vens import Opt
from bridge.wire.openadr2 import NS

_EI, _OADR, _PYLD, _EMIX = (f"{{{NS[prefix]}}}" for prefix in ("ei", "oadr", "pyld", "emix"))
LONGEST_NAME = 128
MOST_ANSWERS = 400  # to events in one message
# Message type → service, as a VEN that polls sends them (Profile Specification, section 9)
SERVICES = {
    "oadrQueryRegistration": "EiRegisterParty",
    "oadrCreatePartyRegistration": "EiRegisterParty",
    "oadrCancelPartyRegistration": "EiRegisterParty",
    "oadrCanceledPartyRegistration": "EiRegisterParty",
    "oadrRequestEvent": "EiEvent",
    "oadrCreatedEvent": "EiEvent",
    "oadrRegisterReport": "EiReport",
    "oadrRegisteredReport": "EiReport",
    "oadrCreateReport": "EiReport",
    "oadrCreatedReport": "EiReport",
    "oadrUpdateReport": "EiReport",
    "oadrUpdatedReport": "EiReport",
    "oadrCancelReport": "EiReport",
    "oadrCanceledReport": "EiReport",
    "oadrCreateOpt": "EiOpt",
    "oadrCancelOpt": "EiOpt",
    "oadrPoll": "OadrPoll",
}
# Where a message says whose it is; a target may hold venIDs, too
_WHOSE = (f"{_EI}venID", f"{_PYLD}eiCreatedEvent/{_EI}venID", f"{_PYLD}eiRequestEvent/{_EI}venID")
# Where a message says which request it is, or answers
_WHICH = (
    f"{_PYLD}requestID", f"{_EI}eiResponse/{_PYLD}requestID",
    f"{_PYLD}eiRequestEvent/{_PYLD}requestID",
    f"{_PYLD}eiCreatedEvent/{_EI}eiResponse/{_PYLD}requestID",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PartyRegistration:
    """What an oadrCreatePartyRegistration says."""

    registration_id: str | None
    profile: str
    transport: str
    pull: bool
    ven_name: str


@dataclass(frozen=True, slots=True)
class EventAnswer:
    """One eventResponse of an oadrCreatedEvent."""

    event: str
    modification: int
    opt: OptType


def ven_id(element: etree._Element) -> str | None:
    """Return the venID that a message says it is from; None where it says none."""
    return next((text for path in _WHOSE if (text := _text(element, path))), None)


def request_id(element: etree._Element) -> str:
    """Return a message's requestID, or that which it answers."""
    return next((text for path in _WHICH if (text := _text(element, path))), "")


def response_code(element: etree._Element) -> str:
    """Return the code by which a message answers one of ours."""
    return _text(element, f"{_EI}eiResponse/{_EI}responseCode") or "200"


def pending_reports(element: etree._Element) -> set[str]:
    """Return which reports a VEN says it was asked for (oadrPendingReports)."""
    found = element.iterfind(f"{_OADR}oadrPendingReports/{_EI}reportRequestID")
    return {text for e in found if (text := (e.text or "").strip())}


def registration_id(element: etree._Element) -> str | None:
    """Return a message's registrationID."""
    return _text(element, f"{_EI}registrationID")


def read_registration(element: etree._Element) -> PartyRegistration:
    """Read an oadrCreatePartyRegistration."""
    pull = _text(element, f"{_OADR}oadrHttpPullModel")
    return PartyRegistration(
        registration_id=registration_id(element),
        profile=_text(element, f"{_OADR}oadrProfileName") or "",
        transport=_text(element, f"{_OADR}oadrTransportName") or "",
        pull=pull is None or pull in {"true", "1"},
        ven_name=(_text(element, f"{_OADR}oadrVenName") or "")[:128],
    )


def reply_limit(element: etree._Element) -> int | None:
    """Return how many events at most an oadrRequestEvent asks for."""
    text = _text(element, f"{_PYLD}eiRequestEvent/{_PYLD}replyLimit")
    return int(text) if text else None


def read_answers(element: etree._Element) -> list[EventAnswer]:
    """Read the eventResponses of an oadrCreatedEvent."""
    path = f"{_PYLD}eiCreatedEvent/{_EI}eventResponses/{_EI}eventResponse"
    qualified = f"{_EI}qualifiedEventID/{_EI}"
    found = element.findall(path)
    if len(found) > MOST_ANSWERS:
        raise WireError(
            f"eventResponses: more than {MOST_ANSWERS}; no message lists so many events"
        )
    return [
        EventAnswer(
            event=_text(said, f"{qualified}eventID") or "",
            modification=int(_text(said, f"{qualified}modificationNumber") or 0),
            opt="optOut" if _text(said, f"{_EI}optType") == "optOut" else "optIn",
        )
        for said in found
    ]


def read_opt(element: etree._Element) -> Opt:
    """Read an oadrCreateOpt (section 8.5)."""
    number = _text(element, f"{_EI}qualifiedEventID/{_EI}modificationNumber")
    try:
        return Opt(
            opt_id=opt_id(element),
            opt="optOut" if _text(element, f"{_EI}optType") == "optOut" else "optIn",
            reason=_text(element, f"{_EI}optReason") or "",
            context=_text(element, f"{_EMIX}marketContext"),
            event=_text(element, f"{_EI}qualifiedEventID/{_EI}eventID"),
            modification=int(number) if number else None,
            times=tuple(_times(element)),
            resources=frozenset(_resources(element)),
        )
    except (ValueError, OverflowError) as error:
        raise WireError(f"the opt's times cannot be read: {error}") from error


def opt_id(element: etree._Element) -> str:
    """Return the optID of an oadrCreateOpt or oadrCancelOpt."""
    return _text(element, f"{_EI}optID") or ""


def _times(element: etree._Element) -> Iterator[tuple[datetime, datetime]]:
    for properties in element.iterfind("{*}vavailability/{*}components/{*}available/{*}properties"):
        start = read_time((properties.findtext("{*}dtstart/{*}date-time") or "").strip())
        length = read_duration((properties.findtext("{*}duration/{*}duration") or "PT0S").strip())
        if length < ZERO:
            raise ValueError(f"the duration {length} is negative")
        yield start, start + length


def _resources(element: etree._Element) -> Iterator[str]:
    """Yield what narrows an opt: who says for which part of it speaks for no other part.

    A group or a class of devices is a name like a resource's: no resource may be called so.
    """
    whole = {f"{_EI}venID"}  # its own: another's is refused before
    for path in (f"{_EI}eiTarget/*", f"{_OADR}oadrDeviceClass/*"):
        for found in element.iterfind(path):
            if found.tag not in whole:
                text = " ".join("".join(map(str, found.itertext())).split())
                yield text[:LONGEST_NAME] or etree.QName(found).localname


def _text(element: etree._Element, path: str) -> str | None:
    return (element.findtext(path) or "").strip() or None
