"""Events: kept with their prices, their moments and a change row, in one transaction."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid5

import structlog
from sqlite_utils import Database

from bridge.interfaces import Author, Batch, Source
from bridge.model import Dispatch, Document, Event, OptPolicy, OptType, is_price
from bridge.notation import millis, to_json
from bridge.store import (
    changes,
    contracts,
    event_rows,
    painting,
    programs,
    publications,
    usage,
)
from bridge.store.sqlite import Sqlite, one, rows

log = structlog.get_logger()


class Events:
    """Keeps what sources say."""

    def __init__(self, file: Sqlite) -> None:
        self._file = file

    async def save(self, source: Source, batch: Batch, at: datetime) -> int:
        """Keep events and prices with their change rows, in one transaction.

        Returns how many published prices were written or withdrawn.
        """
        return await self._file.write(
            lambda db: save_batch(db, source, batch, at), durable=not batch.history
        )

    async def set_opt(self, event_id: str, opt: OptType, at: datetime) -> Event | None:
        """Answer an event; return it, or None when there is none of this id."""
        return await self._file.write(
            lambda db: event_rows.set_opt(db, event_id, opt, at, by="person")
        )

    async def list(
        self, after: str | None, limit: int, *, live: datetime | None = None
    ) -> list[Document]:
        """Return events with their origin, the latest start first."""

        def read(db: Any) -> list[Document]:
            stamp, last = (after or f"{2**62}:").split(":", 1)
            return rows(
                db,
                "SELECT e.id, e.document, e.modification, e.cancelled_at, e.test, e.active_from,"
                " e.active_to, e.audiences, p.name AS program, o.source, o.foreign_id, o.opt,"
                " o.opt_due, o.opt_told FROM events e JOIN origins o ON o.id = e.origin"
                " JOIN programs p ON p.id = e.program"
                " WHERE (e.active_from, e.id) < (?, ?) AND e.active_to > ?"
                " ORDER BY e.active_from DESC, e.id DESC LIMIT ?",
                (int(stamp), last, millis(live) if live else 0, limit),
            )

        return await self._file.read(read)


def save_batch(db: Database, source: Source, batch: Batch, at: datetime) -> int:
    """Save what a source said, inside a transaction; return how many published prices changed."""
    saving = Saving(db, source, at)
    for dispatch in batch.dispatches:
        saving.dispatch(dispatch, batch.request_id)
    if batch.complete:
        listed = {d.origin.foreign_id for d in batch.dispatches}
        for foreign_id in event_rows.missing(db, source.name, listed, at):
            saving.cancel(foreign_id)
    saving.paint()
    usage.keep(db, batch.measured, at)
    usage.note_states(db, source.name, batch.meters, at)
    contracts.say(db, source.name, batch.contracts)
    publications.note(db, source.name, batch.marks)
    return sum(publications.publish(db, source.name, p, at) for p in batch.publications)


class Saving:
    """A batch being saved, inside a transaction; prices are painted once, at its end."""

    def __init__(self, db: Database, source: Author, at: datetime) -> None:
        self.db, self.source, self.at = db, source, at
        self.repaint: dict[str, tuple[datetime, datetime]] = {}  # program's name → from, to

    def dispatch(self, dispatch: Dispatch, request_id: str) -> None:
        """Keep an event as it is said now, unless it is older than what is kept."""
        origin = dispatch.origin
        had = self._origin_row(origin.foreign_id)
        said = meaning(dispatch)
        if had and origin.modification < had["modification"]:
            log.warning(
                "older modification ignored", source=self.source.name, event_id=origin.foreign_id,
                kept=had["modification"], sent=origin.modification,
            )  # fmt: skip
        if had and (
            origin.modification < had["modification"]
            or (origin.modification == had["modification"] and said == had["meaning"])
        ):
            self.db.conn.execute(
                "UPDATE origins SET request_id = ? WHERE id = ?", (request_id, had["id"])
            )
            return
        self._save_events(self._save_origin(dispatch, request_id, said, had), dispatch)

    def cancel(self, foreign_id: str) -> None:
        """Cancel an event that its utility has dropped."""
        had = self._origin_row(foreign_id)
        if had:
            log.info("implied cancellation", source=self.source.name, event_id=foreign_id)
            self._set(had["id"], "cancelled_at = ?, meaning = ''", millis(self.at))
            for event in event_rows.event_rows(self.db, "e.origin = ?", (had["id"],)):
                self._cancel_event(event)

    def withdraw(self, event: Event) -> None:
        """Cancel an event because whoever wrote it takes it back."""
        about = one(self.db, "SELECT origin FROM events WHERE id = ?", (event.id,))
        self._set(about["origin"] if about else 0, "cancelled_at = ?", millis(self.at))
        self._cancel_event(event)

    def _origin_row(self, foreign_id: str) -> Document | None:
        return one(
            self.db,
            "SELECT * FROM origins WHERE source = ? AND foreign_id = ?",
            (self.source.name, foreign_id),
        )

    def _set(self, origin: int, columns: str, *values: Any) -> None:
        self.db.conn.execute(f"UPDATE origins SET {columns} WHERE id = ?", (*values, origin))  # noqa: S608 -- constants

    def _save_origin(
        self, dispatch: Dispatch, request_id: str, said: str, had: Document | None
    ) -> int:
        origin = dispatch.origin
        end = origin.active_to or origin.active_from + self.source.max_open_ended
        over = origin.cancelled or (
            origin.status == "completed" and end > self.at + timedelta(minutes=1)
        )
        # Said again, a cancellation is no later than when it was first said.
        since = had["cancelled_at"] if had and had["cancelled_at"] is not None else millis(self.at)
        if had:
            opt, due = had["opt"], had["opt_due"]
        else:
            opt, due = self._first_opt(
                self.source.opt_policy, asked=origin.response_required and not over
            )
        columns = {
            "modification": origin.modification,
            "cancelled_at": since if over else None,
            "active_to": millis(end),
            "meaning": said,
            "response_required": int(origin.response_required),
            "request_id": request_id,
            "opt": opt,
            "opt_due": None if over else due,
            "message": origin.message,
        }
        if had:
            self._set(had["id"], ", ".join(f"{c} = ?" for c in columns), *columns.values())
            return int(had["id"])
        columns |= {"source": self.source.name, "foreign_id": origin.foreign_id}
        marks = ", ".join("?" * len(columns))
        insert = f"INSERT INTO origins ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608 -- constants
        return self.db.conn.execute(insert, list(columns.values())).lastrowid or 0

    def _first_opt(self, policy: OptPolicy, *, asked: bool) -> tuple[OptType | None, int | None]:
        if policy.rule == "never":
            return "optOut", None
        if policy.rule == "manual" and asked:
            return None, millis(self.at + policy.deadline)
        return "optIn", None

    def _save_events(self, origin: int, dispatch: Dispatch) -> None:
        kept = {e.id: e for e in event_rows.event_rows(self.db, "e.origin = ?", (origin,))}
        program = self._program(dispatch.origin.context)
        seen: set[str] = set()
        for part, document in enumerate(dispatch.documents):
            name = f"{self.source.name}\n{dispatch.origin.foreign_id}\n{part}"
            event_id = str(uuid5(programs.IDS, name))
            self._save_event(
                event_id, origin, program, part, dispatch, document, kept.get(event_id)
            )
            seen.add(event_id)
        for event in kept.values():
            if event.id not in seen and not event.cancelled:
                self._cancel_event(event)

    def _save_event(
        self,
        event_id: str,
        origin: int,
        program: str,
        part: int,
        dispatch: Dispatch,
        document: Document,
        had: Event | None,
    ) -> None:
        about = one(self.db, "SELECT cancelled_at, active_to FROM origins WHERE id = ?", (origin,))
        cancelled_at = about["cancelled_at"] if about else None
        document = {"id": event_id, "programID": program, **document}
        columns = {
            "origin": origin, "part": part, "program": program,
            "modification": dispatch.origin.modification,
            "cancelled_at": cancelled_at,
            "test": int(dispatch.origin.test),
            "active_from": millis(dispatch.origin.active_from),
            "active_to": about["active_to"] if about else 0,
            "longest": self.source.max_open_ended // timedelta(milliseconds=1),
            "audiences": to_json([sorted(a) for a in dispatch.audiences[part]]),
            "issued": 0, "document": to_json(document),
        }  # fmt: skip
        update = ", ".join(f"{c} = excluded.{c}" for c in columns)
        self.db.conn.execute(
            f"INSERT INTO events (id, {', '.join(columns)}) VALUES (?{', ?' * len(columns)})"  # noqa: S608 -- constants
            f" ON CONFLICT (id) DO UPDATE SET {update}",
            (event_id, *columns.values()),
        )
        (event,) = event_rows.event_rows(self.db, "e.id = ?", (event_id,))
        seq = changes.append(
            self.db, self.at, "UPDATE" if had else "CREATE", "EVENT", event_id,
            before=event_rows.snapshot(had) if had else None, after=event_rows.snapshot(event),
        )  # fmt: skip
        self.db.conn.execute("UPDATE events SET issued = ? WHERE id = ?", (seq, event_id))
        event_rows.arm(self.db, event, self.at)
        self._touch(event)
        if had:
            self._touch(had)  # its program may have been another

    def _cancel_event(self, event: Event) -> None:
        gone = replace(event, cancelled=True)
        changes.append(
            self.db,
            self.at,
            "UPDATE",
            "EVENT",
            event.id,
            before=event_rows.snapshot(event),
            after=event_rows.snapshot(gone),
        )
        self.db.conn.execute(
            "UPDATE events SET cancelled_at = ? WHERE id = ?", (millis(self.at), event.id)
        )
        event_rows.arm(self.db, gone, self.at)
        self._touch(event)

    def _touch(self, event: Event) -> None:
        """Note that an event's program may have other prices now."""
        if any(map(is_price, event.units)):
            lo, hi = self.repaint.get(event.program, (event.start, event.end))
            self.repaint[event.program] = min(lo, event.start), max(hi, event.end)

    def paint(self) -> None:
        """Bring the price series up to what was saved."""
        for name, (lo, hi) in self.repaint.items():
            program = one(self.db, "SELECT id FROM programs WHERE name = ?", (name,))
            if program:
                painting.paint(self.db, program["id"], millis(lo), millis(hi), self.at)

    def _program(self, context: str) -> str:
        """Return the id of a market context's program."""
        settled = self.source.program_names.get(context)
        return programs.program_id(
            self.db, self.source.name, context, settled or context_name(context), self.at,
            settled=settled is not None,
        )  # fmt: skip


def context_name(context: str) -> str:
    """Return a market context's last path segment, or what else of it can be a name."""
    parts = urlsplit(context)
    return (parts.path.rstrip("/").rpartition("/")[2] or parts.netloc or context or "program")[:100]


def meaning(dispatch: Dispatch) -> str:
    """Return a digest of what a dispatch says, whenever and however often it is said.

    A VTN moves the status from far to active and renews the creation time by itself.
    """
    origin = asdict(dispatch.origin)
    for passing in ("status", "created", "modified", "message"):
        del origin[passing]
    documents: Sequence[Document] = [
        {k: v for k, v in d.items() if k not in {"createdDateTime", "modificationDateTime"}}
        for d in dispatch.documents
    ]
    text = json.dumps([origin, documents, dispatch.origin.cancelled], default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
