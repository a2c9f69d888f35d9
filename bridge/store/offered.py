"""Programs and events as OpenADR 3 clients are offered them, wherever they come from.

What business logic wrote is shown verbatim; a utility's 2.0b events and price days are
rendered. Shown are events that count: not cancelled, taken part in, and no tests, which
OpenADR 3 has no word for.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import chain, islice
from typing import Any

from bridge.errors import Conflict
from bridge.model import Document, Event
from bridge.notation import from_millis, millis, to_json, write_time
from bridge.parties import View, Wanted
from bridge.store import event_rows, price_days, privacy, series
from bridge.store.packing import LARGEST
from bridge.store.sqlite import one, rows
from bridge.wire import openadr3

PROGRAM, EVENT = "PROGRAM", "EVENT"
VTN = "vtn"  # the source of what business logic writes
_PROGRAMS = """
SELECT p.*, t.zone, t.utility, t.derived_from FROM programs p
LEFT JOIN tariffs t ON t.program = p.id WHERE p.deleted IS NULL
"""
_EVENTS = """
SELECT e.id, e.audiences, e.document, e.active_from, e.active_to, e.endless, o.opt
FROM events e JOIN origins o ON o.id = e.origin
WHERE e.cancelled_at IS NULL AND e.test = 0
"""
_DAY = re.compile(r"(.+)-(\d{4}-\d\d-\d\d)")
FIRST, LAST = 0, LARGEST - 1  # milliseconds


# --- programs --------------------------------------------------------------------------------


def programs(db: Any, seen: View, wanted: Wanted) -> Iterator[str]:
    """Yield programs in the order in which they were made."""
    where, values = "", []
    if wanted.program_name is not None:
        where, values = " AND p.name = ?", [wanted.program_name]
    cursor = db.execute(f"{_PROGRAMS}{where} ORDER BY p.created, p.id", values)
    names = [column[0] for column in cursor.description]
    found = (dict(zip(names, row, strict=True)) for row in cursor)
    matching = (row for row in found if _wanted(row["audiences"], seen, wanted))
    asked = _narrowed(seen, wanted)
    for row in _page(matching, wanted):
        yield program_document(db, row, asked)


def program(db: Any, program_id: str, seen: View) -> Document | None:
    """Return a program's row, if this client may see it."""
    row = one(db, f"{_PROGRAMS} AND p.id = ?", (program_id,))
    return row if row and seen.sees(privacy.audiences(row["audiences"])) else None


def need_program(db: Any, program_id: str, seen: View) -> Document:
    """Return a program's row; raise Conflict where there is none, for this client at least."""
    row = program(db, program_id, seen)
    if row is None:
        raise Conflict(
            f"programID: A foreign key constraint is violated: there is no program {program_id!r}"
        )
    return row


def program_document(db: Any, row: Document, seen: View) -> str:
    """Return a program as it is shown."""
    if row["document"] is not None:
        return privacy.hide(row["document"], seen)
    known = series.by_program(db, row["id"])
    units = {s["payload_type"]: (s["unit"] or None, s["currency"] or None) for s in known}
    attributes = [
        {"type": kind, "values": [value]}
        for kind, value in (
            ("RETAILER_NAME", row["utility"]),
            ("LOCAL", True if row["derived_from"] else None),
        )
        if value
    ]
    made = write_time(from_millis(row["created"]))
    return to_json(
        {
            "id": row["id"],
            "createdDateTime": made,
            "modificationDateTime": made,
            "objectType": PROGRAM,
            "programName": row["name"],
            **({"payloadDescriptors": openadr3.descriptors(units)} if units else {}),
            **({"attributes": attributes} if attributes else {}),
        }
    )


# --- events ----------------------------------------------------------------------------------


def events(db: Any, seen: View, wanted: Wanted, at: datetime) -> Iterator[str]:
    """Yield events in the order in which they were made, and then price days by program."""
    lo = millis(wanted.start) if wanted.start else FIRST
    lo = max(lo, millis(at)) if wanted.active else lo
    hi = millis(wanted.end) if wanted.end else LAST
    found: Iterator[Any] = _kept(db, seen, wanted, lo, hi)
    if not wanted.targets:  # price days are aimed at nobody
        found = chain(found, _days(db, wanted, lo, hi))
    asked = _narrowed(seen, wanted)
    for one_found in _page(found, wanted):
        if isinstance(one_found, str):
            yield privacy.hide(one_found, asked)
        else:
            yield one_found().document


def _kept(db: Any, seen: View, wanted: Wanted, lo: int, hi: int) -> Iterator[str]:
    where: list[str] = []
    values: list[Any] = []
    for condition, value in (
        ("e.program = ?", wanted.program),
        ("e.program = (SELECT id FROM programs WHERE name = ?)", wanted.program_name),
        ("(e.active_to > ? OR e.endless)", lo or None),
        ("e.active_from < ?", hi if hi < LAST else None),
    ):
        if value is not None:
            where, values = [*where, f" AND {condition}"], [*values, value]
    for row in db.execute(f"{_EVENTS}{''.join(where)} ORDER BY e.rowid", values):
        _, aimed, document, _, _, _, opt = row
        if _wanted(aimed, seen, wanted) and (opt == "optIn" or openadr3.is_priced(document)):
            yield document


def _days(db: Any, wanted: Wanted, lo: int, hi: int) -> Iterator[Any]:
    """Yield what renders a price day, for each day that is wanted."""
    where, values = "", []
    if wanted.program is not None:
        where, values = " WHERE t.program = ?", [wanted.program]
    if wanted.program_name is not None:
        where, values = f"{where} {'AND' if where else 'WHERE'} p.name = ?", [
            *values, wanted.program_name,
        ]  # fmt: skip
    for about in rows(db, f"{price_days.TARIFF}{where} ORDER BY p.created, p.id", values):
        for day in price_days.dates(db, about, lo, hi):
            yield lambda about=about, day=day: price_days.of_date(db, about, day)


def event(db: Any, event_id: str, seen: View) -> str | None:
    """Return an event or a price day as it is shown, if this client may see it."""
    row = one(db, f"{_EVENTS} AND e.id = ?", (event_id,))
    if row is None:
        day = price_day(db, event_id)
        return day.document if day else None
    counts = row["opt"] == "optIn" or openadr3.is_priced(row["document"])
    if counts and seen.sees(privacy.audiences(row["audiences"])):
        return privacy.hide(row["document"], seen)
    return None


def price_day(db: Any, event_id: str) -> Event | None:
    """Return a price day by its id."""
    parts = _DAY.fullmatch(event_id)
    about = rows(db, f"{price_days.TARIFF} WHERE t.program = ?", (parts[1],)) if parts else []
    if not (parts and about):
        return None
    try:
        day = date.fromisoformat(parts[2])
    except ValueError:
        return None
    return price_days.of_date(db, about[0], day)


def program_of(db: Any, event_id: str, seen: View) -> str:
    """Return an event's program; raise Conflict where there is none, for this client at least."""
    document = event(db, event_id, seen)
    if document is None:
        raise Conflict(
            f"eventID: A foreign key constraint is violated: there is no event {event_id!r}"
        )
    row = one(db, "SELECT program FROM events WHERE id = ?", (event_id,))
    parts = _DAY.fullmatch(event_id)
    return str(row["program"]) if row else parts[1] if parts else ""


def next_change(db: Any, at: datetime) -> datetime:
    """Return until when what is active stays so, if nothing is written."""
    row = one(db, "SELECT min(active_to) AS at FROM events WHERE active_to > ?", (millis(at),))
    minute = at.replace(second=0, microsecond=0) + timedelta(minutes=1)  # price days end on one
    ends = row["at"] if row else None
    return min(minute, from_millis(ends)) if ends is not None else minute


def live_event_ids(db: Any, program_id: str) -> list[str]:
    """Return the ids of a program's events that were not cancelled."""
    return [
        e.id for e in event_rows.event_rows(db, "e.program = ? AND e.cancelled_at IS NULL",
                                            (program_id,))
    ]  # fmt: skip


def _wanted(aimed: str, seen: View, wanted: Wanted) -> bool:
    """Whether a client may see an object, and asks for one that is aimed so."""
    groups = privacy.audiences(aimed)
    if not seen.sees(groups):
        return False
    return not wanted.targets or any(
        t in wanted.targets for group in groups for t in seen.shown(group)
    )


def _narrowed(seen: View, wanted: Wanted) -> View:
    """Return what of targets is shown: of those granted, the ones that are asked for."""
    if seen.all or not wanted.targets:
        return seen
    return replace(seen, grants=seen.grants & wanted.targets)


def _page(found: Iterator[Any], wanted: Wanted) -> Iterator[Any]:
    return islice(found, wanted.skip, wanted.skip + wanted.limit)
