"""What is kept of each source: its registration, its opts, and when it was last heard of."""

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from sqlite_utils import Database

from bridge.model import Answer, Document, PartOpt, Registration
from bridge.notation import from_millis, millis
from bridge.store import changes, event_rows
from bridge.store.heard import Heard
from bridge.store.sqlite import Sqlite, one, rows, write_many

# Being heard of is kept in memory and written this seldom: flash memory wears out.


class Sources:
    """What sources keep in the store, and follow there."""

    def __init__(self, file: Sqlite) -> None:
        self._file = file
        self._names: Collection[str] = ()
        self._heard = Heard(file, "sources")

    async def sync(self, names: Collection[str], at: datetime) -> None:
        """Make a row for each source of the settings; others are not waited for any more."""
        self._names = set(names)
        await self._file.write(
            lambda db: write_many(
                db,
                "INSERT OR IGNORE INTO sources (name, created) VALUES (?, ?)",
                ((name, millis(at)) for name in names),
            )
        )

    async def registration(self, source: str) -> Registration | None:
        """Return what the VTN gave this VEN at registration."""
        row = await self._file.read(
            lambda db: one(db, "SELECT registration FROM sources WHERE name = ?", (source,))
        )
        if not row or not row["registration"]:
            return None
        given = json.loads(row["registration"])
        return Registration(
            given["venID"],
            given["registrationID"],
            given["vtnID"],
            timedelta(seconds=given["poll"]),
        )

    async def save_registration(self, source: str, given: Registration | None) -> None:
        """Keep it, or forget it."""
        text = given and json.dumps(
            {
                "venID": given.ven_id,
                "registrationID": given.registration_id,
                "vtnID": given.vtn_id,
                "poll": given.poll.total_seconds(),
            }
        )
        await self._file.write(
            lambda db: db.conn.execute(
                "UPDATE sources SET registration = ? WHERE name = ?", (text, source)
            )
        )

    async def missing(self, source: str, listed: Collection[str], at: datetime) -> list[str]:
        """Return ids of events that are kept, not over and not listed."""
        return await self._file.read(lambda db: event_rows.missing(db, source, listed, at))

    async def answers(
        self, source: str, at: datetime, listed: Mapping[str, int] | None = None
    ) -> list[Answer]:
        """Return the opts of these events (id → modification), or all not told yet.

        Events that are over are answered no more (conformance rule 8).
        """
        sql = (
            "SELECT foreign_id, modification, opt, request_id FROM origins"
            " WHERE source = ? AND active_to > ? AND opt IS NOT NULL AND response_required"
        )
        if listed is None:
            sql += " AND opt_told IS NOT opt || ':' || modification"
        found = await self._file.read(lambda db: rows(db, sql, (source, millis(at))))
        return [
            Answer(
                r["foreign_id"],
                r["modification"] if listed is None else listed[r["foreign_id"]],
                r["opt"],
                r["request_id"],
            )
            for r in found
            if listed is None or r["foreign_id"] in listed
        ]

    async def answered(self, source: str, answers: Sequence[Answer]) -> None:
        """Note that the upstream was told."""
        await self._file.write(
            lambda db: write_many(
                db,
                "UPDATE origins SET opt_told = ? WHERE source = ? AND foreign_id = ?",
                ((f"{a.opt}:{a.modification}", source, a.foreign_id) for a in answers),
            ),
            durable=False,
            tell=False,
        )

    async def part_opts(self, source: str, at: datetime) -> list[PartOpt]:
        """Return what resources are opted of which events, and was not told yet."""
        sql = (
            "SELECT u.foreign_id, o.modification, u.opt, u.resource FROM upstream_opts u"
            " JOIN origins o ON o.source = u.source AND o.foreign_id = u.foreign_id"
            " WHERE u.source = ? AND u.told IS NOT u.opt AND o.active_to > ?"
            " AND o.cancelled_at IS NULL ORDER BY 1, 3, 4"
        )
        found = await self._file.read(lambda db: rows(db, sql, (source, millis(at))))
        return [PartOpt(**row) for row in found]

    async def part_opts_told(self, source: str, told: Sequence[PartOpt]) -> None:
        """Note that the upstream was told."""
        sql = (
            "UPDATE upstream_opts SET told = ? WHERE source = ? AND foreign_id = ? AND resource = ?"
        )
        values = [(part.opt, source, part.foreign_id, part.resource) for part in told]
        await self._file.write(lambda db: write_many(db, sql, values), durable=False, tell=False)

    async def heard_from(self, source: str, at: datetime) -> None:
        """Note that the upstream is there."""
        self._heard.note(source, at)

    async def heard(self) -> Mapping[str, datetime]:
        """Return when each source was last heard of, or first waited for."""
        found = await self._file.read(
            lambda db: rows(db, "SELECT name, coalesce(heard, created) AS heard FROM sources")
        )
        return {
            r["name"]: self._heard.at.get(r["name"], from_millis(r["heard"]))
            for r in found
            if r["name"] in self._names
        }

    async def answered_at(self) -> Mapping[str, datetime]:
        """Return when each source last answered; those that never did are left out."""
        found = await self._file.read(
            lambda db: rows(db, "SELECT name, heard FROM sources WHERE heard IS NOT NULL")
        )
        return {r["name"]: from_millis(r["heard"]) for r in found} | self._heard.at

    async def marks(self, source: str) -> Mapping[str, str]:
        """Return how far the source has got, in its own words."""
        sql = "SELECT name, mark FROM marks WHERE source = ?"
        found = await self._file.read(lambda db: rows(db, sql, (source,)))
        return {row["name"]: row["mark"] for row in found}

    async def contexts(self, source: str) -> Collection[str]:
        """Return the contexts of the source's programs: those it ever said something of."""
        sql = "SELECT context FROM programs WHERE source = ?"
        found = await self._file.read(lambda db: rows(db, sql, (source,)))
        return {row["context"] for row in found}

    async def note_silences(self, now: datetime, limits: Collection[timedelta]) -> None:
        """Write a change for each source that fell silent, or spoke again.

        `limits` are the silences that devices put up with (`stale_after`).
        """
        heard, noted = await self.heard(), await self.silences()
        fell, spoke = [], []
        for source, last in heard.items():
            for limit in limits:
                silent = now - last > limit
                if silent and (source, limit) not in noted:
                    fell.append((source, limit, last + limit))
                elif not silent and (source, limit) in noted:
                    spoke.append((source, limit))
        gone = [key for key in noted if key[0] not in heard or key[1] not in limits]
        if fell or spoke or gone:
            await self._file.write(lambda db: _note(db, now, fell, [*spoke, *gone]))

    async def silences(self) -> Mapping[tuple[str, timedelta], datetime]:
        """Return (source, stale_after) → since when it is silent for such a device."""
        found = await self._file.read(lambda db: rows(db, "SELECT * FROM silences"))
        return {
            (r["source"], timedelta(milliseconds=r["stale_after"])): from_millis(r["since"])
            for r in found
        }

    async def list(self) -> list[Document]:
        """Return all sources by name."""
        return await self._file.read(
            lambda db: rows(db, "SELECT name, registration, heard FROM sources ORDER BY name")
        )

    def bell(self, name: str) -> asyncio.Event:
        """Return an event of one's own that is set after each change."""
        return self._file.bell(name)


def _note(
    db: Database,
    now: datetime,
    fell: Sequence[tuple[str, timedelta, datetime]],
    spoke: Sequence[tuple[str, timedelta]],
) -> None:
    for source, limit, since in fell:
        db.conn.execute(
            "INSERT OR REPLACE INTO silences VALUES (?, ?, ?)",
            (source, limit // timedelta(milliseconds=1), millis(since)),
        )
        changes.append(db, now, "UPDATE", "SOURCE", source, after={"silent_since": since})
    for source, limit in spoke:
        db.conn.execute(
            "DELETE FROM silences WHERE source = ? AND stale_after = ?",
            (source, limit // timedelta(milliseconds=1)),
        )
        changes.append(db, now, "UPDATE", "SOURCE", source, after={"silent_since": None})
