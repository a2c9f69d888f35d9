"""Rows of offers: numbered when they change, cancelled when what they said holds no more."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlite_utils import Database

from bridge.model import Document
from bridge.notation import from_millis, millis, to_json
from bridge.store.sqlite import one, rows
from bridge.vens import Offer

KEPT = timedelta(days=30)  # after an event is over
NEVER = millis(datetime(9000, 1, 1, tzinfo=UTC))  # when an endless event ends
_COLUMNS = (
    "thing", "event", "meaning", "modification", "program", "context", "source", "foreign_id",
    "starts", "ends", "released", "priority", "test", "priced", "required", "cancelled",
    "audiences", "xml",
)  # fmt: skip
_UPSERT = (
    f"INSERT INTO ven_offers ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 -- constants
    f" ON CONFLICT (thing) DO UPDATE SET {', '.join(f'{c} = excluded.{c}' for c in _COLUMNS[2:])}"
)


def of(db: Any, prefix: str) -> list[Document]:
    """Return the rows of a thing: one for each stretch of it that 2.0b can say."""
    sql = "SELECT * FROM ven_offers WHERE thing >= ? AND thing < ?"
    return rows(db, sql, (f"{prefix}#", f"{prefix}$"))


def stands(kept: Sequence[Document], meaning: str) -> bool:
    """Whether what a thing means is what is offered."""
    return bool(kept) and all(r["meaning"] == meaning and not r["cancelled"] for r in kept)


def offer(db: Database, prefix: str, offers: Sequence[Offer], meaning: str, at: datetime) -> bool:
    """Make these what is offered of a thing; return whether anything was changed.

    A modification is the source's own where that is higher than the last one offered.
    """
    kept = {row["thing"]: row for row in of(db, prefix)}
    wanted = {f"{prefix}#{n}": said for n, said in enumerate(offers)}
    changed = [cancel(db, kept[thing], 0, at) for thing in kept if thing not in wanted]
    for thing, said in wanted.items():
        had = kept.get(thing)
        if had and stands([had], meaning):
            continue
        number = max(said.modification, had["modification"] + 1) if had else said.modification
        event = had["event"] if had else _free(db, said)
        _write(db, thing, meaning, replace(said, modification=number, event=event))
        changed.append(True)
    return any(changed)


def cancel(db: Database, row: Document, modification: int, at: datetime) -> bool:
    """Let an offer be told as cancelled, to those who were told of it; return whether it was not.

    `modification` is that of the cancellation, where the source sent one.
    """
    stamp = millis(at)
    if row["cancelled"] or row["ends"] <= stamp:
        return False
    ends = min(row["ends"], millis(at + KEPT)) if row["ends"] == NEVER else row["ends"]
    db.conn.execute(
        "UPDATE ven_offers SET cancelled = 1, modification = ?, ends = ? WHERE thing = ?",
        (max(modification, row["modification"] + 1), ends, row["thing"]),
    )
    return True


def due(db: Any, at: datetime) -> list[Document]:
    """Return endless offers that are released now."""
    return rows(db, "SELECT * FROM ven_offers WHERE released <= ? AND NOT cancelled", (millis(at),))


def next_due(db: Any) -> datetime | None:
    """Return when the next endless offer is released."""
    row = one(db, "SELECT min(released) AS at FROM ven_offers WHERE NOT cancelled")
    return from_millis(row["at"]) if row and row["at"] is not None else None


def days(db: Any, program: str, at: datetime) -> Iterator[str]:
    """Yield the things that are price days of a program, not over and not cancelled."""
    sql = (
        "SELECT thing FROM ven_offers WHERE thing >= ? AND thing < ? AND ends > ? AND NOT cancelled"
    )
    for (thing,) in db.execute(sql, (f"day:{program}-", f"day:{program}.", millis(at))):
        yield thing.partition("#")[0]


def prune(db: Database, at: datetime) -> None:
    """Forget what was over long ago."""
    stamp = millis(at - KEPT)
    for table, where in (
        ("ven_offers", "ends < ?"),
        ("ven_events", "at < ? AND event NOT IN (SELECT event FROM ven_offers)"),
        ("ven_opts", "iif(event IS NULL, ends, at) < ?"
                     " AND (event IS NULL OR event NOT IN (SELECT event FROM ven_offers))"),
        # That history was given is remembered for good.
        ("ven_requests", "ended < ? AND (heard IS NULL OR name NOT LIKE 'HISTORY%')"),
        ("upstream_opts", "told IS opt AND (source, foreign_id) IN"
                          " (SELECT source, foreign_id FROM origins WHERE active_to < ?)"),
    ):  # fmt: skip
        db.conn.execute(f"DELETE FROM {table} WHERE {where}", (stamp,))  # noqa: S608 -- constants


def _free(db: Database, said: Offer) -> str:
    """Return an eventID that no other event has: ids repeat between utilities."""
    event, n = said.event, 1
    while one(db, "SELECT 1 FROM ven_offers WHERE event = ?", (event,)):
        event = f"{said.source}:{said.event}" if n == 1 else f"{said.source}:{said.event}:{n}"
        n += 1
    return event


def _write(db: Database, thing: str, meaning: str, said: Offer) -> None:
    db.conn.execute(
        _UPSERT,
        (
            thing, said.event, meaning, said.modification, said.program, said.context,
            said.source, said.foreign_id, millis(said.start),
            NEVER if said.released else millis(said.end),
            millis(said.released) if said.released else None, said.priority, said.test,
            said.priced, said.required, said.cancelled,
            to_json([[sorted(g) for g in groups] for groups in said.audiences]), said.xml,
        ),
    )  # fmt: skip


def to_offer(row: Document) -> Offer:
    """Return a row as an Offer."""
    return Offer(
        event=row["event"],
        modification=row["modification"],
        program=row["program"],
        context=row["context"],
        source=row["source"],
        foreign_id=row["foreign_id"],
        start=from_millis(row["starts"]),
        end=from_millis(row["ends"]),
        released=from_millis(row["released"]) if row["released"] is not None else None,
        priority=row["priority"],
        test=bool(row["test"]),
        priced=bool(row["priced"]),
        required=bool(row["required"]),
        cancelled=bool(row["cancelled"]),
        audiences=tuple(
            tuple(frozenset(g) for g in groups) for groups in json.loads(row["audiences"])
        ),
        xml=row["xml"],
    )
