"""UtilityAPI's documents (API version 2): lists, authorizations, meters, events, webhooks.

Enumerations are open: a status, a note or a kind of event that nobody knows is kept by its name.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from bridge.errors import WireError
from bridge.model import Document
from bridge.notation import from_json
from bridge.wire.readings import read_moment

SALT, SIGNATURE = "x-utilityapi-webhook-salt", "x-utilityapi-webhook-signature"
LONGEST_UID, LONGEST_TEXT = 100, 300  # characters
SECRET = "access_token"  # noqa: S105 -- a name: what must not be repeated from an address
Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list, and what to ask for the next one."""

    items: tuple[Document, ...]
    next: Mapping[str, str] | None
    incomplete: bool


class Note(NamedTuple):
    """What UtilityAPI noted of a meter or an authorization."""

    type: str
    message: str
    at: datetime | None
    eta: datetime | None


@dataclass(frozen=True, slots=True)
class Authorization:
    """A customer's leave to see an account."""

    uid: str
    revoked: bool
    declined: bool
    expired: bool
    expires: datetime | None
    test: bool
    status: str
    notes: tuple[Note, ...]
    referrals: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter or a similar service, and what is collected of it."""

    uid: str
    authorization: str
    activated: bool | None
    archived: bool
    status: str
    message: str
    notes: tuple[Note, ...]
    interval_count: int | None
    intervals: tuple[Span, ...]  # of which there are intervals
    bill_count: int | None
    bills: tuple[Span, ...]
    monitoring: str  # how often data are collected anew
    facts: Document


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened: look again."""

    uid: str
    type: str
    at: datetime | None
    authorization: str | None
    meter: str | None


def read_page(body: bytes, key: str) -> Page:
    """Read a page of a list; raise WireError where it is none."""
    document = read_document(body)
    items = document.get(key)
    if not isinstance(items, list):
        raise WireError(f"the answer has no list of {key}")
    found = tuple(item for item in items if isinstance(item, dict))
    return Page(found, _next(document.get("next")), document.get("is_incomplete") is True)


def read_document(body: bytes) -> Document:
    """Read a JSON object; raise WireError for anything else."""
    try:
        document = from_json(body)
    except ValueError as error:
        raise WireError("the answer is not JSON") from error
    if not isinstance(document, dict):
        raise WireError("the answer is not a JSON object")
    return document


def read_problem(body: bytes) -> str:
    """Return what an error says of itself; nothing where it is HTML, or says nothing."""
    try:
        document = from_json(body)
    except ValueError:
        return ""
    if not isinstance(document, dict):
        return ""
    said = (document.get("error"), document.get("error_description"))
    return ": ".join(_text(part) for part in said if isinstance(part, str) and part.strip())


def read_authorization(document: Document) -> Authorization:
    """Read an authorization; raise WireError where it has no uid."""
    expires = read_stamp(document.get("expires"))
    referrals = document.get("referrals")
    return Authorization(
        read_uid(document.get("uid")),
        revoked=_is(document, "revoked"),
        declined=_is(document, "declined"),
        expired=document.get("is_expired") is True,
        expires=expires,
        test=document.get("is_test") is True,
        status=_text(document.get("status")),
        notes=_notes(document.get("notes")),
        referrals=tuple(map(_text, referrals)) if isinstance(referrals, list) else (),
    )


def read_meter(document: Document) -> Meter:
    """Read a meter; raise WireError where it does not say which one it is."""
    activated, monitoring = document.get("is_activated"), document.get("ongoing_monitoring")
    base = document.get("base")
    base = base if isinstance(base, dict) else {}
    numbers = base.get("meter_numbers")
    facts = {
        "utility": _text(document.get("utility")),
        "service_class": _text(base.get("service_class")),
        "service_tariff": _text(base.get("service_tariff")),
        "meter_numbers": list(map(_text, numbers)) if isinstance(numbers, list) else [],
    }
    return Meter(
        read_uid(document.get("uid")),
        read_uid(document.get("authorization_uid")),
        activated if isinstance(activated, bool) else None,
        archived=document.get("is_archived") is True,
        status=_text(document.get("status")),
        message=_text(document.get("status_message")),
        notes=_notes(document.get("notes")),
        interval_count=_count(document.get("interval_count")),
        intervals=_spans(document.get("interval_coverage")),
        bill_count=_count(document.get("bill_count")),
        bills=_spans(document.get("bill_coverage")),
        monitoring=_text(monitoring.get("frequency")) if isinstance(monitoring, dict) else "",
        facts={name: fact for name, fact in facts.items() if fact},
    )


def read_event(document: Document) -> Event:
    """Read an event; raise WireError where it has no uid."""
    about = (document.get(key) for key in ("authorization_uid", "meter_uid"))
    authorization, meter = (None if uid is None else read_uid(uid) for uid in about)
    return Event(
        read_uid(document.get("uid")),
        _text(document.get("type")),
        read_stamp(document.get("ts")),
        authorization,
        meter,
    )


def read_events(documents: Iterable[Any]) -> tuple[list[Event], list[str]]:
    """Return events, and what is wrong with those that cannot be read."""
    events, problems = [], []
    for document in documents:
        try:
            events.append(read_event(document if isinstance(document, dict) else {}))
        except WireError as error:
            problems.append(str(error))
    return events, problems


def read_webhook(body: bytes, headers: Mapping[str, str], secret: str) -> list[Event]:
    """Read the events of a webhook; raise WireError where it is not signed with the secret.

    The signature is a bare SHA-256 of "secret.salt.body", not an HMAC, over the raw bytes.
    """
    said = {name.lower(): value for name, value in headers.items()}
    salt, given = (
        said.get(name, "").encode(errors="surrogateescape") for name in (SALT, SIGNATURE)
    )
    digest = hashlib.sha256(b".".join((secret.encode(), salt, body))).hexdigest().encode()
    if not secret or not hmac.compare_digest(digest, given.strip().lower()):
        raise WireError("the signature is not that of the body")
    events = read_document(body).get("events")
    if not isinstance(events, list):
        raise WireError("there is no list of events")
    return read_events(events)[0]


def read_uids(document: Document, key: str) -> list[str]:
    """Return the uids in a list of an answer; raise WireError where there is no such list."""
    found = document.get(key)
    if not isinstance(found, list):
        raise WireError(f"the answer has no list of {key}")
    return [read_uid(uid) for uid in found]


def read_uid(said: Any) -> str:
    """Return a uid, which may look like a number; raise WireError where it is none."""
    uid = str(said) if isinstance(said, int) and not isinstance(said, bool) else said
    if not isinstance(uid, str) or not 0 < len(uid) <= LONGEST_UID or not uid.isprintable():
        raise WireError(f"{said!r:.40} is not a uid")
    return uid


def read_stamp(said: Any) -> datetime | None:
    """Return a time, where one is said."""
    try:
        return read_moment(said)
    except ValueError:
        return None


def _next(said: Any) -> Mapping[str, str] | None:
    """Return what the address of the next page asks for; where it leads to is ours to know."""
    if said is None:
        return None
    try:
        query = dict(parse_qsl(urlsplit(said).query)) if isinstance(said, str) else {}
    except ValueError as error:
        raise WireError("the address of the next page makes no sense") from error
    query.pop(SECRET, None)
    if not query:
        raise WireError("the address of the next page asks for nothing")
    return query


def _is(document: Document, what: str) -> bool:
    """Whether it is so: said as a flag, or as the time since when."""
    return document.get(f"is_{what}") is True or document.get(what) not in (None, False, "")


def _text(said: Any) -> str:
    """Return text that can be shown in one line."""
    text = " ".join(said.split()) if isinstance(said, str) else ""
    return "".join(c for c in text if c.isprintable())[:LONGEST_TEXT]


def _notes(said: Any) -> tuple[Note, ...]:
    """Return notes, the oldest first; those without a time stand where they stood."""
    notes = [
        Note(
            _text(note.get("type")),
            _text(note.get("msg")),
            read_stamp(note.get("ts")),
            read_stamp(note.get("eta", note.get("eta "))),
        )
        for note in (said if isinstance(said, list) else ())
        if isinstance(note, dict)
    ]
    timed = [(note.at, n, note) for n, note in enumerate(notes) if note.at]
    return tuple(note for *_, note in sorted(timed)) if len(timed) == len(notes) else tuple(notes)


def _count(said: Any) -> int | None:
    return said if isinstance(said, int) and not isinstance(said, bool) else None


def _spans(said: Any) -> tuple[Span, ...]:
    """Return stretches of time in order; what is none is left out."""
    found = []
    for pair in said if isinstance(said, list) else ():
        if isinstance(pair, list) and len(pair) == 2:
            start, end = map(read_stamp, pair)
            if start and end and start < end:
                found.append((start, end))
    return tuple(sorted(found))
