"""Programs and events that business logic writes; the utility's can only be read."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import uuid4

from sqlite_utils import Database

from bridge.errors import Conflict, Forbidden, Unfit
from bridge.model import Dispatch, Document, OptPolicy, Origin
from bridge.notation import from_json, from_millis, millis, to_json, write_time
from bridge.parties import View
from bridge.store import changes, event_rows, objects, offered
from bridge.store.events import Saving
from bridge.store.offered import EVENT, PROGRAM, VTN
from bridge.store.sqlite import one, rows
from bridge.wire import openadr3

# An end of "never": longer ahead no device is told, and after it an event is released.
LONGEST = timedelta(days=366)


class _BusinessLogic:
    """Business logic as a source: it is obeyed, and asked nothing."""

    name = VTN
    opt_policy = OptPolicy()
    max_open_ended = LONGEST
    program_names: Mapping[str, str] = {}


# --- programs --------------------------------------------------------------------------------


def create_program(db: Database, seen: View, document: Document, at: datetime) -> str:
    """Keep a new program and return it as it is shown."""
    program = str(uuid4())
    stamp = {"id": program, "createdDateTime": write_time(at)}
    _free_name(db, document["programName"], program, at)
    return _save_program(db, program, stamp, document, at, had=None)


def replace_program(
    db: Database, program_id: str, seen: View, document: Document, at: datetime
) -> str:
    """Replace a program and return it as it is shown."""
    had = _own_program(db, program_id, seen)
    was = from_json(had["document"])
    _free_name(db, document["programName"], program_id, at)
    stamp = {"id": program_id, "createdDateTime": was["createdDateTime"]}
    return _save_program(db, program_id, stamp, document, at, had=had)


def delete_program(db: Database, program_id: str, seen: View, at: datetime) -> str:
    """Delete a program with its events and reports; return what it was.

    Its price history stays, under its name until another program takes that. So do its
    subscriptions: they are told of it.
    """
    had = _own_program(db, program_id, seen)
    for event_id in offered.live_event_ids(db, program_id):
        _withdraw(db, event_id, at)
    sql = "SELECT * FROM objects WHERE kind = 'REPORT' AND program = ? ORDER BY turn"
    for row in rows(db, sql, (program_id,)):
        objects.remove(db, row, at)
    db.conn.execute("UPDATE programs SET deleted = ? WHERE id = ?", (millis(at), program_id))
    changes.append(db, at, "DELETE", PROGRAM, program_id, before=_told(had))
    return str(had["document"])


def _own_program(db: Database, program_id: str, seen: View) -> Document:
    row = offered.program(db, program_id, seen)
    if row is None:
        raise objects.unknown(PROGRAM, program_id)
    if row["source"] != VTN:
        raise Forbidden(f"program {program_id!r} is {row['source']}'s; here it can only be read")
    return row


def _free_name(db: Database, name: str, program_id: str, at: datetime) -> None:
    taken = one(db, "SELECT id, deleted FROM programs WHERE name = ? AND id <> ?",
                (name, program_id))  # fmt: skip
    if taken and taken["deleted"] is None:
        raise Conflict(f"programName: {name!r} is taken by another program")
    if taken:  # its history is still there to be asked for
        until = f"{name} until {write_time(from_millis(taken['deleted']))} {taken['id']}"
        db.conn.execute("UPDATE programs SET name = ? WHERE id = ?", (until, taken["id"]))


def _save_program(
    db: Database, program: str, stamp: Document, document: Document, at: datetime,
    had: Document | None,
) -> str:  # fmt: skip
    shown = to_json(_stamped(stamp, PROGRAM, document, at))
    name, aimed = document["programName"], to_json(_aimed(document))
    db.conn.execute(
        "INSERT INTO programs (id, name, source, context, created, document, audiences)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET name = excluded.name,"
        " document = excluded.document, audiences = excluded.audiences",
        (program, name, VTN, program, millis(at), shown, aimed),
    )
    row = {"name": name, "document": shown, "audiences": aimed}
    changes.append(
        db, at, "UPDATE" if had else "CREATE", PROGRAM, program,
        before=_told(had) if had else None, after=_told(row),
    )  # fmt: skip
    return shown


def _told(row: Document) -> Document:
    """Return what the change log keeps of a program."""
    return {
        "program": row["name"],
        "document": row["document"],
        "audiences": from_json(row["audiences"]),
    }


# --- events ----------------------------------------------------------------------------------


def create_event(db: Database, seen: View, document: Document, at: datetime) -> str:
    """Keep a new event, its prices and moments, and return it as it is shown."""
    stamp = {"createdDateTime": write_time(at)}
    return _save_event(db, seen, document, at, stamp, str(uuid4()), 0, at)


def replace_event(db: Database, event_id: str, seen: View, document: Document, at: datetime) -> str:
    """Replace an event and return it as it is shown."""
    had = _own_event(db, event_id, seen)
    was = from_json(had["document"])
    stamp = {"createdDateTime": was["createdDateTime"]}
    # What began "now" once goes on, and does not begin again.
    goes_on = openadr3.begins_now(was) and openadr3.begins_now(document)
    began = from_millis(had["active_from"]) if goes_on else at
    return _save_event(
        db, seen, document, at, stamp, had["foreign_id"], had["modification"] + 1, began
    )


def delete_event(db: Database, event_id: str, seen: View, at: datetime) -> str:
    """Cancel an event; return what it was."""
    had = _own_event(db, event_id, seen)
    _withdraw(db, event_id, at)
    return str(had["document"])


def _own_event(db: Database, event_id: str, seen: View) -> Document:
    if offered.event(db, event_id, seen) is None:
        raise objects.unknown(EVENT, event_id)
    row = one(
        db,
        "SELECT e.document, e.active_from, o.source, o.foreign_id, o.modification FROM events e"
        " JOIN origins o ON o.id = e.origin WHERE e.id = ?",
        (event_id,),
    )
    if row is None or row["source"] != VTN:
        whose = row["source"] if row else "rendered from prices"
        raise Forbidden(f"event {event_id!r} is {whose}; here it can only be read")
    return row


def _save_event(
    db: Database, seen: View, document: Document, at: datetime, stamp: Document,
    foreign_id: str, modification: int, began: datetime,
) -> str:  # fmt: skip
    program = offered.need_program(db, document["programID"], seen)
    if program["source"] != VTN:
        raise Forbidden(
            f"programID: the program is {program['source']}'s, and so are its events; "
            "make a program of your own"
        )
    if openadr3.count_pieces(document) > openadr3.MOST_INTERVALS:
        raise Unfit(
            f"intervals: are, with the values that share one, more than {openadr3.MOST_INTERVALS}"
        )
    active_from, active_to = openadr3.span(document, LONGEST, began)
    origin = Origin(
        foreign_id=foreign_id, modification=modification, status="none",
        context=document["programID"], created=at, active_from=active_from, active_to=active_to,
    )  # fmt: skip
    shown = _stamped(stamp, EVENT, document, at)
    saving = Saving(db, _BusinessLogic(), at)
    aimed = tuple(frozenset(group) for group in _aimed(document))
    saving.dispatch(Dispatch(origin, (shown,), (aimed,)), "")
    saving.paint()
    row = one(
        db,
        "SELECT e.id, e.document FROM events e JOIN origins o ON o.id = e.origin"
        " WHERE o.source = ? AND o.foreign_id = ?",
        (VTN, foreign_id),
    ) or {}  # fmt: skip
    db.conn.execute(
        "UPDATE events SET endless = ? WHERE id = ?", (int(active_to is None), row["id"])
    )
    return str(row["document"])


def _withdraw(db: Database, event_id: str, at: datetime) -> None:
    saving = Saving(db, _BusinessLogic(), at)
    (event,) = event_rows.event_rows(db, "e.id = ?", (event_id,))
    saving.withdraw(event)
    saving.paint()


# --- both ------------------------------------------------------------------------------------


def _stamped(stamp: Document, kind: str, document: Document, at: datetime) -> Document:
    """Return a document with what only the VTN says of it (Definition, Object Metadata)."""
    said = {k: v for k, v in document.items() if k not in objects.STAMPS}
    return {**stamp, "modificationDateTime": write_time(at), "objectType": kind, **said}


def _aimed(document: Document) -> Sequence[Sequence[str]]:
    targets = document.get("targets")
    return [targets] if targets else []
