"""Rows of events, and what is done to a kept event: answered, armed, found missing."""

import json
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlite_utils import Database

from bridge.model import Document, Event, OptType
from bridge.notation import from_json, from_millis, millis
from bridge.store import changes
from bridge.store.sqlite import one, rows
from bridge.wire import openadr3

# An event that ends within this time is left to end by itself: the VTN may have dropped it
# as completed by a clock that is a little ahead of ours.
END_GRACE = timedelta(seconds=10)

_EVENT = """
SELECT e.*, p.name AS program_name, o.source, o.foreign_id, o.opt
FROM events e JOIN origins o ON o.id = e.origin JOIN programs p ON p.id = e.program
"""


def to_event(row: Document) -> Event:
    """Return a row of `_EVENT` with all that is derived from its document."""
    document = from_json(row["document"])
    start, end = from_millis(row["active_from"]), from_millis(row["active_to"])
    longest = timedelta(milliseconds=row["longest"])
    found = openadr3.intervals(document, longest, start)
    return Event(
        id=row["id"],
        program=row["program_name"],
        source=row["source"],
        name=row["foreign_id"],
        modification=row["modification"],
        priority=document.get("priority"),
        test=bool(row["test"]),
        start=start,
        end=end,
        randomize=openadr3.randomization(document),
        issued=row["issued"],
        opt=row["opt"],
        cancelled=row["cancelled_at"] is not None,
        audiences=tuple(frozenset(a) for a in json.loads(row["audiences"])),
        intervals=tuple(
            replace(i, end=min(i.end, end))
            for i in sorted(found, key=lambda i: i.start)
            if i.start < end
        ),
        units=openadr3.units(document),
        document=row["document"],
    )


def event_rows(db: Any, where: str, values: Collection[Any] = ()) -> list[Event]:
    """Return events for a condition on `e` (events), `o` (origins) or `p` (programs)."""
    return [to_event(row) for row in rows(db, f"{_EVENT} WHERE {where}", values)]


def snapshot(event: Event) -> Document:
    """Return what the change log keeps of an event: what it said, to whom, and whether."""
    return {
        "document": event.document,
        "program": event.program,
        "audiences": [sorted(a) for a in event.audiences],
        "test": event.test,
        "in_force": event.in_force,
        "modification": event.modification,
    }


def missing(db: Any, source: str, listed: Collection[str], at: datetime) -> list[str]:
    """Return foreign ids of events that are kept, not over, not cancelled and not listed."""
    found = rows(
        db,
        "SELECT foreign_id FROM origins"
        " WHERE source = ? AND active_to > ? AND cancelled_at IS NULL",
        (source, millis(at + END_GRACE)),
    )
    return [row["foreign_id"] for row in found if row["foreign_id"] not in listed]


def set_opt(
    db: Database, event_id: str, opt: OptType, at: datetime, by: str | None = None
) -> Event | None:
    """Set the opt of an event and its siblings, and tell whoever follows; `by` says who did."""
    named = one(db, "SELECT origin FROM events WHERE id = ?", (event_id,))
    if not named:
        return None
    siblings = event_rows(db, "e.origin = ?", (named["origin"],))
    db.conn.execute(
        "UPDATE origins SET opt = ?, opt_by = ?, opt_due = NULL WHERE id = ?",
        (opt, by, named["origin"]),
    )
    for event in siblings:
        changed = replace(event, opt=opt)
        changes.append(
            db, at, "UPDATE", "EVENT", event.id, before=snapshot(event), after=snapshot(changed)
        )
        arm(db, changed, at)
    return next(replace(e, opt=opt) for e in siblings if e.id == event_id)


def disarm(db: Database, event_id: str) -> None:
    """Take an event's tracks away: none of its moments fires."""
    db.conn.execute("DELETE FROM tracks WHERE event = ?", (event_id,))


def arm(db: Database, event: Event, at: datetime) -> None:
    """Set an event's track so that its moments fire; take it away when it is not in force.

    Where starts are drawn, each device has a track of its own, made when it is told.
    """
    stamp = millis(at)
    if not event.in_force:
        disarm(db, event.id)
        return
    other = "device <> ''" if not event.randomize else "device = ''"
    db.conn.execute(f"DELETE FROM tracks WHERE event = ? AND {other}", (event.id,))  # noqa: S608 -- one of two constants
    db.conn.execute(
        # One that stays started is still owed what was due since it last fired.
        "UPDATE tracks SET modification = ?, fresh = 1, next_at = ?,"
        " fired_to = iif(started AND ? + shift <= ?, fired_to, ?),"
        " started = started AND (? + shift <= ?) WHERE event = ?",
        (
            event.modification,
            stamp,
            millis(event.start),
            stamp,
            stamp,
            millis(event.start),
            stamp,
            event.id,
        ),
    )
    if not event.randomize and event.end > at:
        db.conn.execute(
            "INSERT OR IGNORE INTO tracks"
            " (event, device, modification, shift, started, fresh, fired_to, next_at)"
            " VALUES (?, '', ?, 0, 0, 1, ?, ?)",
            (event.id, event.modification, stamp, stamp),
        )
