"""Which moments are due, and the marks that they fired."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlite_utils import Database

from bridge.model import Document, Event, Firing, Moment, OptType, Track
from bridge.notation import from_millis, millis
from bridge.store import changes, event_rows, price_days, publications
from bridge.store.sqlite import Sqlite, one, rows, write_many

AT_ONCE = 5_000  # tracks looked at in one go
KEEP_CHANGES = timedelta(days=7)
KEEP_DELIVERIES = timedelta(days=30)
KEEP_STATES = timedelta(days=2)  # a state is replaced by the next one
PRUNED_AT_ONCE = 5_000


_OLD_CHANGES = """
DELETE FROM changes WHERE seq IN (SELECT seq FROM changes
WHERE seq <= (SELECT min(seq) FROM cursors) AND at < ? ORDER BY seq LIMIT ?)
"""
_OLD_STATES = """
DELETE FROM deliveries WHERE turn IN (SELECT turn FROM deliveries
WHERE type = 'state.changed' AND settled < ? LIMIT ?)
"""
_OLD_DELIVERIES = """
DELETE FROM deliveries WHERE turn IN (SELECT turn FROM deliveries WHERE settled < ? LIMIT ?)
"""
_OLD_TRACKS = """
DELETE FROM tracks WHERE (event, device) IN (SELECT event, device FROM tracks
WHERE next_at IS NULL AND fired_to < ? LIMIT ?)
"""


class Moments:
    """Knows which moments are due."""

    def __init__(self, file: Sqlite) -> None:
        self._file = file

    async def newest(self) -> datetime | None:
        """Return the time of the newest change."""
        row = await self._file.read(
            lambda db: one(
                db,
                "SELECT max(at) AS at FROM (SELECT at FROM changes ORDER BY seq DESC LIMIT 1000)",
            )
        )
        return from_millis(row["at"]) if row and row["at"] is not None else None

    async def recheck(self, now: datetime) -> None:
        """Look at every track once more: the devices' lead times may be others now."""
        await self._file.write(
            lambda db: db.conn.execute(
                "UPDATE tracks SET next_at = min(next_at, ?) WHERE next_at IS NOT NULL",
                (millis(now),),
            )
        )

    async def due(self, now: datetime) -> list[Track]:
        """Return tracks with a moment due, the earliest first."""

        def read(db: Any) -> tuple[list[Track], set[str]]:
            tracks = rows(
                db,
                "SELECT * FROM tracks WHERE next_at <= ? ORDER BY next_at LIMIT ?",
                (millis(now), AT_ONCE),
            )
            names = {t["event"] for t in tracks}
            marks = ", ".join("?" * len(names))
            kept = {e.id: e for e in event_rows.event_rows(db, f"e.id IN ({marks})", tuple(names))}
            kept |= {e.id: e for e in price_days.by_name(db, names - kept.keys())}
            found = [_track(t, kept[t["event"]]) for t in tracks if t["event"] in kept]
            return found, names - kept.keys()

        found, gone = await self._file.read(read)
        if gone:  # price days whose last price was withdrawn: nothing of them is due any more
            await self._file.write(
                lambda db: write_many(
                    db, "DELETE FROM tracks WHERE event = ?", ((g,) for g in gone)
                )
            )
        return found

    async def bring_nearer(self, now: datetime) -> None:
        """Let the moments of price days fire that have come near."""
        sql = "SELECT 1 FROM tariffs WHERE near_to < ? LIMIT 1"
        horizon = millis(now + publications.NEAR)
        if await self._file.read(lambda db: one(db, sql, (horizon,))):
            await self._file.write(lambda db: publications.nearer(db, now))

    async def next_due(self) -> datetime | None:
        """Return when the next moment or opt deadline is due."""
        row = await self._file.read(
            lambda db: one(
                db,
                "SELECT min(at) AS at FROM (SELECT min(next_at) AS at FROM tracks"
                " WHERE next_at IS NOT NULL UNION ALL SELECT min(opt_due) FROM origins"
                " WHERE opt_due IS NOT NULL)",
            )
        )
        return from_millis(row["at"]) if row and row["at"] is not None else None

    async def fired(self, firings: Sequence[tuple[Track, Firing]], now: datetime) -> int:
        """Write moments as changes, in order of time, together with the marks that they fired.

        A track whose event was changed since it was read is passed over: it comes again.
        Returns how many tracks were marked.
        """

        def work(db: Database) -> int:
            marked = [(t, firing) for t, firing in firings if _mark(db, t, firing, now)]
            fired = [(track, moment) for track, firing in marked for moment in firing.due]
            for track, moment in sorted(fired, key=lambda pair: pair[1].at):
                _append(db, track, moment, now)
            return len(marked)

        return await self._file.write(work)

    async def expire_opts(self, now: datetime, defaults: dict[str, OptType]) -> None:
        """Answer by default (source → opt) what nobody answered before its deadline."""

        def work(db: Database) -> None:
            undecided = rows(
                db,
                "SELECT o.source, min(e.id) AS event FROM origins o"
                " JOIN events e ON e.origin = o.id WHERE o.opt_due <= ? GROUP BY o.id",
                (millis(now),),
            )
            for row in undecided:
                event_rows.set_opt(db, row["event"], defaults.get(row["source"], "optIn"), now)
            # An event without signals has no part to be answered by.
            db.conn.execute("UPDATE origins SET opt_due = NULL WHERE opt_due <= ?", (millis(now),))

        overdue = await self._file.read(
            lambda db: one(db, "SELECT 1 FROM origins WHERE opt_due <= ?", (millis(now),))
        )
        if overdue:
            await self._file.write(work)

    async def prune(self, now: datetime) -> bool:
        """Drop a bounded number of rows that nobody needs any more; say whether more are left."""
        past = {k: millis(now - k) for k in (KEEP_CHANGES, KEEP_DELIVERIES, KEEP_STATES)}

        def work(db: Database) -> int:
            done = [db.conn.execute(sql, (*values, PRUNED_AT_ONCE)).rowcount for sql, values in old]
            return max(done)

        old = (
            (_OLD_CHANGES, (past[KEEP_CHANGES],)),
            (_OLD_STATES, (past[KEEP_STATES],)),
            (_OLD_DELIVERIES, (past[KEEP_DELIVERIES],)),
            (_OLD_TRACKS, (past[KEEP_STATES],)),
        )
        return await self._file.write(work, durable=False, tell=False) >= PRUNED_AT_ONCE

    def bell(self, name: str) -> asyncio.Event:
        """Return an event of one's own that is set after each change."""
        return self._file.bell(name)


def _track(row: Document, event: Event) -> Track:
    if event.price_day:  # rendered, so that its track is what knows which one was armed
        event = replace(event, modification=row["modification"])
    return Track(
        event,
        row["device"],
        timedelta(milliseconds=row["shift"]),
        bool(row["started"]),
        from_millis(row["fired_to"]),
        bool(row["fresh"]),
    )


def _mark(db: Database, track: Track, firing: Firing, now: datetime) -> bool:
    mark = db.conn.execute(
        "UPDATE tracks SET started = ?, fresh = 0, fired_to = ?, next_at = ?"
        " WHERE event = ? AND device = ? AND modification = ? AND fired_to = ? AND fresh = ?",
        (
            int(firing.started), millis(now), millis(firing.next_at) if firing.next_at else None,
            track.event.id, track.device, track.event.modification,
            millis(track.fired_to), int(track.fresh),
        ),
    )  # fmt: skip
    return bool(mark.rowcount)


def _append(db: Database, track: Track, moment: Moment, now: datetime) -> None:
    changes.append(
        db, now, "MOMENT", "EVENT", track.event.id,
        after={
            "moment": moment.kind,
            "instant": millis(moment.at),
            "lead": moment.lead // timedelta(milliseconds=1),
            "device": track.device,
            "modification": track.event.modification,
        },
    )  # fmt: skip
