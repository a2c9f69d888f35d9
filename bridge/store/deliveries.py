"""What is owed to devices, what they were told, and how each delivery ended."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlite_utils import Database

from bridge.model import Change, Delivery, Document, Ended, Event
from bridge.notation import from_millis, millis
from bridge.parties import BROKER, SUBSCRIPTION
from bridge.store import changes, event_rows, objects, price_days, sources
from bridge.store.changes import to_change
from bridge.store.sqlite import Sqlite, one, rows, write_many

CURSOR = "deliver"
Told = Mapping[str, tuple[str | None, datetime | None, str | None]]

_INSERT = """
INSERT OR IGNORE INTO deliveries
    (id, device, type, event, modification, moment, instant, body, created, due, expires,
     attempts, outcome, settled, problem)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?)
"""


class Deliveries:
    """Holds what is owed to devices."""

    def __init__(self, file: Sqlite, silences: sources.Sources) -> None:
        self._file = file
        self.silences = silences.silences

    async def cursor(self, name: str) -> int:
        """Return how far a follower of the change log has got."""
        row = await self._file.read(
            lambda db: one(db, "SELECT seq FROM cursors WHERE name = ?", (name,))
        )
        return int(row["seq"]) if row else 0

    async def changes(self, after: int, limit: int) -> tuple[list[Change], list[Event]]:
        """Return changes after a sequence number, oldest first, and the events they are about.

        For a change of a program's prices these are all its price days that are near.
        """

        def read(db: Any) -> tuple[list[Change], list[Event]]:
            sql = "SELECT * FROM changes WHERE seq > ? ORDER BY seq LIMIT ?"
            found = [to_change(row) for row in rows(db, sql, (after, limit))]
            ids = {c.object_id for c in found if c.object_type == "EVENT"}
            marks = ", ".join("?" * len(ids))
            events = event_rows.event_rows(db, f"e.id IN ({marks})", ids) if ids else []
            priced = {c.object_id: c.at for c in found if c.object_type == "PRICES"}
            if priced:
                events += price_days.near(db, max(priced.values()), priced)
            events += price_days.by_name(db, ids - {e.id for e in events})
            return found, events

        return await self._file.read(read)

    async def live_events(self, at: datetime) -> list[Event]:
        """Return events that are not over, price days that are near among them."""
        return await self._file.read(
            lambda db: [
                *event_rows.event_rows(db, "e.active_to > ?", (millis(at),)),
                *price_days.near(db, at),
            ]
        )

    async def programs(self) -> Mapping[str, Sequence[str]]:
        """Return the names of programs by source."""
        found = await self._file.read(lambda db: rows(db, "SELECT source, name FROM programs"))
        names: dict[str, list[str]] = {}
        for row in found:
            names.setdefault(row["source"], []).append(row["name"])
        return names

    async def offsets(self) -> Mapping[tuple[str, str], timedelta]:
        """Return drawn starts: (event, device) → how much later."""
        found = await self._file.read(
            lambda db: rows(db, "SELECT event, device, shift FROM tracks WHERE device <> ''")
        )
        return {(r["event"], r["device"]): timedelta(milliseconds=r["shift"]) for r in found}

    async def device_states(self) -> Told:
        """Return each device's last told state, when, and why it is disabled."""
        found = await self._file.read(
            lambda db: rows(db, "SELECT name, told, told_at, disabled FROM devices")
        )
        return {
            r["name"]: (
                r["told"],
                from_millis(r["told_at"]) if r["told_at"] is not None else None,
                r["disabled"],
            )
            for r in found
        }

    async def save_deliveries(
        self,
        deliveries: Sequence[Delivery],
        states: Mapping[str, tuple[str, datetime]],
        draws: Mapping[tuple[str, str], timedelta],
        cursor: int,
        at: datetime,
    ) -> None:
        """Write rows and what devices were told, and move the cursor, in one transaction.

        `draws` are starts drawn for (event, device).
        """
        stamp = millis(at)

        def work(db: Database) -> None:
            write_many(
                db,
                "UPDATE deliveries SET outcome = 'superseded', settled = ?"
                " WHERE device = ? AND type = 'state.changed' AND outcome IS NULL",
                ((stamp, device) for device in states),
            )
            insert(db, deliveries, at)
            write_many(
                db,
                "UPDATE devices SET told = ?, told_at = ? WHERE name = ?",
                ((told, millis(when), name) for name, (told, when) in states.items()),
            )
            write_many(
                db,
                "INSERT OR IGNORE INTO tracks"
                " (event, device, modification, shift, started, fresh, fired_to, next_at)"
                # The event may have been changed while this was planned.
                " SELECT id, ?, modification, ?, 0, 1, ?, ? FROM events"
                " WHERE id = ? AND cancelled_at IS NULL AND active_to > ?",
                (
                    (device, shift // timedelta(milliseconds=1), stamp, stamp, event, stamp)
                    for (event, device), shift in draws.items()
                ),
            )
            db.conn.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", (CURSOR, cursor))

        await self._file.write(work)

    async def owed(self, after: int) -> list[Delivery]:
        """Return unsettled deliveries with a turn after this one, in order."""
        found = await self._file.read(
            lambda db: rows(
                db,
                "SELECT * FROM deliveries WHERE outcome IS NULL AND turn > ? AND device <> ?"
                " ORDER BY turn",
                (after, BROKER),
            )
        )
        return [to_delivery(row) for row in found]

    async def settle(self, ended: Sequence[Ended]) -> None:
        """Note how deliveries ended."""

        def work(db: Database) -> None:
            note_ended(db, ended)
            done = {e.delivery.device: millis(e.at) for e in ended if e.outcome == "delivered"}
            write_many(
                db,
                "UPDATE devices SET last_success = ?, last_problem = NULL WHERE name = ?",
                ((at, name) for name, at in done.items()),
            )
            told = [name for name in done if name.startswith(SUBSCRIPTION)]
            objects.note_problem(db, told, None, max(done.values(), default=0))

        await self._file.write(work, durable=False, tell=False)

    async def postpone(self, delivery: Delivery, problem: str, due: datetime) -> None:
        """Note a failed attempt and when the next one is."""

        def work(db: Database) -> None:
            db.conn.execute(
                "UPDATE deliveries SET attempts = ?, problem = ?, due = ? WHERE id = ?",
                (delivery.attempts, problem, millis(due), delivery.id),
            )
            if delivery.device.startswith(SUBSCRIPTION):
                objects.note_problem(db, [delivery.device], problem, millis(due))
                return
            db.conn.execute(
                "UPDATE devices SET last_problem = ? WHERE name = ?", (problem, delivery.device)
            )

        await self._file.write(work, durable=False, tell=False)

    async def disable_device(self, name: str, reason: str, at: datetime) -> None:
        """Note that a device asks never to be sent anything again."""

        def work(db: Database) -> None:
            if name.startswith(SUBSCRIPTION):
                objects.disable_subscription(db, name, reason, at)
                return
            db.conn.execute("UPDATE devices SET disabled = ? WHERE name = ?", (reason, name))
            db.conn.execute(
                "UPDATE deliveries SET outcome = 'given_up', settled = ?, problem = ?"
                " WHERE device = ? AND outcome IS NULL",
                (millis(at), reason, name),
            )
            changes.append(db, at, "UPDATE", "DEVICE", name, after={"disabled": reason})

        await self._file.write(work)

    async def retry(self, delivery_id: str, at: datetime) -> Document | None:
        """Owe a settled delivery again, under the same id and with the same body.

        Returns the row as it is then, or None when there is none of this id.
        """

        def work(db: Database) -> Document | None:
            row = one(db, "SELECT * FROM deliveries WHERE id = ?", (delivery_id,))
            if row is None or row["outcome"] is None:
                return row
            db.conn.execute("DELETE FROM deliveries WHERE id = ?", (delivery_id,))
            del row["turn"]  # a new one, at the end of the queue
            row |= {
                "outcome": None,
                "settled": None,
                "expires": None,
                "due": millis(at),
                "attempts": 0,
            }
            columns = ", ".join(row)
            db.conn.execute(
                f"INSERT INTO deliveries ({columns}) VALUES ({', '.join('?' * len(row))})",  # noqa: S608 -- column names
                list(row.values()),
            )
            return one(db, "SELECT * FROM deliveries WHERE id = ?", (delivery_id,))

        return await self._file.write(work)

    async def list(
        self, after: int | None, limit: int, device: str | None, outcome: str | None
    ) -> list[Document]:
        """Return deliveries, the newest first; `outcome` may be `owed`."""
        where, values = ["turn < ?"], [after if after is not None else 2**62]
        if device is not None:
            where, values = [*where, "device = ?"], [*values, device]  # type: ignore[list-item]
        if outcome == "owed":
            where.append("outcome IS NULL")
        elif outcome is not None:
            where, values = [*where, "outcome = ?"], [*values, outcome]  # type: ignore[list-item]
        sql = f"SELECT * FROM deliveries WHERE {' AND '.join(where)} ORDER BY turn DESC LIMIT ?"  # noqa: S608 -- constants
        return await self._file.read(lambda db: rows(db, sql, (*values, limit)))

    async def outcomes(self) -> Mapping[str, int]:
        """Return how many kept deliveries ended how."""
        found = await self._file.read(
            lambda db: rows(
                db,
                "SELECT coalesce(outcome, 'owed') AS outcome, count(*) AS n"
                " FROM deliveries GROUP BY 1",
            )
        )
        return {r["outcome"]: r["n"] for r in found}

    async def counts(self) -> Document:
        """Return how many deliveries are owed, and when the oldest of them was made."""
        row = await self._file.read(
            lambda db: one(
                db,
                "SELECT count(*) AS owed, min(created) AS oldest FROM deliveries"
                " WHERE outcome IS NULL",
            )
        )
        return row or {}

    def bell(self, name: str) -> asyncio.Event:
        """Return an event of one's own that is set after each change."""
        return self._file.bell(name)


def insert(db: Database, owed: Sequence[Delivery], at: datetime) -> None:
    """Write rows; one that is there already stays as it is."""
    stamp = millis(at)
    write_many(db, _INSERT, (_values(d, stamp) for d in owed))


def note_ended(db: Database, ended: Sequence[Ended]) -> None:
    """Note how deliveries ended."""
    write_many(
        db,
        "UPDATE deliveries SET outcome = ?, settled = ?, problem = ?, attempts = ?"
        " WHERE id = ? AND outcome IS NULL",
        ((e.outcome, millis(e.at), e.problem, e.delivery.attempts, e.delivery.id) for e in ended),
    )


def _values(d: Delivery, now: int) -> tuple[Any, ...]:
    settled = now if d.outcome else None
    return (
        d.id, d.device, d.type, d.event, d.modification, d.moment,
        millis(d.instant) if d.instant else now, d.body, now, millis(d.due),
        millis(d.expires) if d.expires else None, d.outcome, settled, d.problem,
    )  # fmt: skip


def to_delivery(row: Document) -> Delivery:
    """Return a row as a Delivery."""
    return Delivery(
        id=row["id"],
        device=row["device"],
        type=row["type"],
        body=row["body"],
        due=from_millis(row["due"]),
        expires=from_millis(row["expires"]) if row["expires"] is not None else None,
        event=row["event"],
        modification=row["modification"],
        moment=row["moment"],
        instant=from_millis(row["instant"]),
        attempts=row["attempts"],
        turn=row["turn"],
        outcome=row["outcome"],
        problem=row["problem"],
    )
