"""Reports upstream: what was asked for, how far it was told, and what is being told.

An update is here before it is sent, and until the upstream has taken it: what is sent again
after a failure is the very same message.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from sqlite_utils import Database

from bridge.model import Document
from bridge.notation import ZERO, from_millis, millis, to_json
from bridge.reporting import Account, Resource, Running, Spot, Update, Wanted
from bridge.store import upstream_requests
from bridge.store.meters import Meters
from bridge.store.sqlite import Sqlite, one, rows, write_many
from bridge.usage import EXPORT, GENERATION, IMPORT, NET, USAGE, Bucket, StreamInfo, UsageQuestion

NOTED_EVERY = timedelta(minutes=1)  # that this program looks after reports: flash memory wears out
LONGEST_PAUSE = timedelta(minutes=10)  # between two looks of a program that runs
MOST_GAPS = 3_000  # of one resource in one report that are remembered
# Which direction is told of a meter that has several, where nobody says
PREFERRED = (NET, IMPORT, GENERATION, EXPORT)


class UpstreamReports:
    """What each source's upstream is told of what was measured."""

    def __init__(self, file: Sqlite, meters: Meters) -> None:
        self._file, self._meters = file, meters
        self._alive: dict[str, datetime] = {}  # source → when it was noted last

    async def measured(
        self, resource: Resource, start: datetime, end: datetime, step: timedelta
    ) -> list[Bucket]:
        """Return what a resource's meter measured, in steps from start to end."""
        edges = [start + n * step for n in range((end - start) // step + 1)]
        found = [Bucket(a, b, None, ZERO) for a, b in pairwise(edges)]
        question = UsageQuestion(frozenset({resource.meter}), kind=USAGE)
        for stream in _fitting(await self._meters.streams(question), resource):
            if all(bucket.whole for bucket in found):
                break
            said = await self._meters.buckets(stream, edges)
            found = [max(a, b, key=_known) for a, b in zip(found, said, strict=True)]
        return found

    async def heard(self, resource: Resource, after: datetime, until: datetime) -> bool:
        """Whether a resource's meter has measured anything that ends in (after, until]."""
        return await self._meters.heard(resource.meter, after, until)

    async def account(self, source: str) -> Account:
        """Return how it stands with a source's reports."""
        return await self._file.read(lambda db: _account(db, source))

    async def asked_for(self) -> list[tuple[str, Running]]:
        """Return the reports that are being told, by source."""

        def read(db: Any) -> list[tuple[str, Running]]:
            found = rows(db, "SELECT source FROM upstream_reporting ORDER BY source")
            sources = [row["source"] for row in found]
            return [(s, one) for s in sources for one in upstream_requests.running(db, s)]

        return await self._file.read(read)

    async def look(self, source: str, at: datetime) -> None:
        """Note that this program looks after a source's reports now.

        What lies between two looks that are far apart is nobody's time.
        """
        last = self._alive.get(source)
        if last is None or not last <= at < last + NOTED_EVERY:
            self._alive[source] = at
            await self._file.write(lambda db: _look(db, source, last, at), tell=False)

    async def tell_anew(self, source: str, wanted_by: str = "") -> None:
        """Note that the upstream is to be told once more what can be reported."""
        sql = (
            "UPDATE upstream_reporting SET offered = NULL, wanted_by = ?"
            " WHERE source = ? AND (offered IS NOT NULL OR wanted_by <> ?)"
        )
        values = (wanted_by, source, wanted_by)
        await self._file.write(lambda db: db.conn.execute(sql, values), tell=False)

    async def told(
        self, source: str, digest: str, wanted: Sequence[Wanted],
        offers: Callable[[str, str], bool], at: datetime,
    ) -> None:  # fmt: skip
        """Keep what the upstream was told can be reported, and what it asked for in answer.

        What it asked for and is offered (specifier, rID) no more is told no more.
        """
        await self._file.write(
            lambda db: upstream_requests.told(db, source, digest, wanted, offers, at), tell=False
        )

    async def accept(self, source: str, wanted: Sequence[Wanted], said: str, at: datetime) -> None:
        """Keep what the upstream asks for; `said` is the message that says so."""
        await self._file.write(
            lambda db: upstream_requests.accept(db, source, wanted, said, at), tell=False
        )

    async def answered(self, source: str) -> None:
        """Note that the upstream was told which reports it will have."""
        sql = "UPDATE upstream_requests SET answered = 1 WHERE source = ?"
        await self._file.write(
            lambda db: db.conn.execute(sql, (source,)), durable=False, tell=False
        )

    async def cancel(
        self, source: str, reports: Collection[str], at: datetime, *, to_follow: bool
    ) -> list[str]:
        """End reports, after a last one where it is `to_follow`; return which are not there."""
        return await self._file.write(
            lambda db: upstream_requests.cancel(db, source, reports, at, to_follow=to_follow),
            tell=False,
        )

    async def forget(self, source: str, *, offer: bool = False) -> None:
        """End all of a source's reports; with the `offer` as if there had never been one."""
        await self._file.write(lambda db: _forget(db, source, offer=offer), tell=False)

    async def freeze(self, key: int, update: Update) -> None:
        """Keep an update that is about to be sent."""
        sql = (
            "INSERT INTO upstream_updates (request, update_id, ven_id, made, body, covers)"
            " VALUES (?, ?, ?, ?, ?, ?)"
        )
        values = (
            key, update.update_id, update.ven_id, millis(update.made), update.body, _covers(update)
        )  # fmt: skip
        await self._file.write(lambda db: db.conn.execute(sql, values), tell=False)

    async def frozen(self, key: int) -> Update | None:
        """Return the update that was sent, or was about to be, and is not settled."""
        sql = "SELECT * FROM upstream_updates WHERE request = ?"
        row = await self._file.read(lambda db: one(db, sql, (key,)))
        return _update(row) if row else None

    async def tried(self, key: int) -> None:
        """Note that the upstream would not have an update."""
        sql = "UPDATE upstream_updates SET tries = tries + 1 WHERE request = ?"
        await self._file.write(lambda db: db.conn.execute(sql, (key,)), durable=False, tell=False)

    async def thaw(self, key: int) -> None:
        """Forget an update, to tell what it says in another."""
        sql = "DELETE FROM upstream_updates WHERE request = ?"
        await self._file.write(lambda db: db.conn.execute(sql, (key,)), tell=False)

    async def settle(self, key: int, update: Update, at: datetime) -> None:
        """Note that an update was taken, or is given up: what it covers was told."""
        await self._file.write(lambda db: _settle(db, key, update, at), tell=False)

    async def gaps(self, key: int, *, told: bool) -> Mapping[str, list[datetime]]:
        """Return what was told as not known, or was left out so far: rID → starts, in order."""
        sql = (
            "SELECT r_id, start FROM upstream_gaps WHERE request = ? AND told = ?"
            " ORDER BY r_id, start"
        )
        found: dict[str, list[datetime]] = {}
        for row in await self._file.read(lambda db: rows(db, sql, (key, int(told)))):
            found.setdefault(row["r_id"], []).append(from_millis(row["start"]))
        return found


# --- what was measured --------------------------------------------------------------------------


def _fitting(streams: Iterable[StreamInfo], resource: Resource) -> list[StreamInfo]:
    """Return the energy streams of one direction, the one that was said last first."""
    energy = [s for s in streams if s.unit == "KWH" and resource.direction in {None, s.direction}]
    for direction in PREFERRED:
        found = [s for s in energy if s.direction == direction]
        if found:
            return sorted(found, key=lambda s: s.last or s.first or from_millis(0), reverse=True)
    return []


def _known(bucket: Bucket) -> tuple[bool, timedelta, int]:
    return bucket.whole, bucket.covered, bucket.readings


# --- how it stands ------------------------------------------------------------------------------


def _account(db: Any, source: str) -> Account:
    row = one(db, "SELECT * FROM upstream_reporting WHERE source = ?", (source,))
    away = rows(db, "SELECT since, until FROM upstream_away WHERE source = ?", (source,))
    return Account(
        offered=row["offered"] if row else None,
        wanted_by=row["wanted_by"] if row else "",
        era=row["era"] if row else 0,
        known=row is not None,
        running=tuple(upstream_requests.running(db, source)),
        away=tuple((from_millis(a["since"]), from_millis(a["until"])) for a in away),
    )


def _forget(db: Database, source: str, *, offer: bool) -> None:
    for table in ("upstream_requests", "upstream_away"):
        db.conn.execute(f"DELETE FROM {table} WHERE source = ?", (source,))  # noqa: S608 -- constants
    if offer:
        db.conn.execute("DELETE FROM upstream_reporting WHERE source = ?", (source,))


def _look(db: Database, source: str, last: datetime | None, at: datetime) -> None:
    if last is None:  # it has just been started
        row = one(db, "SELECT alive FROM upstream_reporting WHERE source = ?", (source,))
        last = from_millis(row["alive"]) if row and row["alive"] else None
        paused = last is not None
    else:
        paused = at - last > LONGEST_PAUSE
    if last and paused and last < at:
        db.conn.execute(
            "INSERT OR REPLACE INTO upstream_away VALUES (?, ?, ?)",
            (source, millis(last), millis(at)),
        )
    sql = "UPDATE upstream_reporting SET alive = ? WHERE source = ?"
    db.conn.execute(sql, (millis(at), source))
    # What all has been told beyond is not looked up any more.
    reach = (
        "SELECT min(p.reach) FROM upstream_points p JOIN upstream_requests r ON r.id = p.request"
        " WHERE r.source = ? AND r.ended IS NULL"
    )
    sql = f"DELETE FROM upstream_away WHERE source = ? AND until <= coalesce(({reach}), until)"  # noqa: S608 -- constants
    db.conn.execute(sql, (source, source))


def _settle(db: Database, key: int, update: Update, at: datetime) -> None:
    upstream_requests.drop_update(db, key)
    if one(db, "SELECT 1 FROM upstream_requests WHERE id = ?", (key,)) is None:
        return
    write_many(
        db,
        "UPDATE upstream_points SET reach = ? WHERE request = ? AND r_id = ?",
        ((millis(reached), key, r_id) for r_id, reached in update.reach.items()),
    )
    write_many(
        db,
        "DELETE FROM upstream_gaps WHERE request = ? AND r_id = ? AND start = ?",
        ((key, r_id, millis(start)) for r_id, start in update.filled),
    )
    missing = [(*spot, 1) for spot in update.gaps] + [(*spot, 0) for spot in update.held]
    write_many(
        db,
        "INSERT OR REPLACE INTO upstream_gaps VALUES (?, ?, ?, ?)",
        ((key, r_id, millis(start), told) for r_id, start, told in missing),
    )
    write_many(
        db,
        "DELETE FROM upstream_gaps WHERE request = ? AND r_id = ? AND start <="
        " (SELECT start FROM upstream_gaps WHERE request = ? AND r_id = ?"
        " ORDER BY start DESC LIMIT 1 OFFSET ?)",
        ((key, r_id, key, r_id, MOST_GAPS) for r_id in {r_id for r_id, *_ in missing}),
    )
    upstream_requests.end_where_done(db, key, at)


def _covers(update: Update) -> str:
    def kept(spots: Iterable[Spot]) -> list[Any]:
        return [[r_id, millis(moment)] for r_id, moment in spots]

    return to_json(
        {
            "reach": kept(update.reach.items()),
            "gaps": kept(update.gaps),
            "filled": kept(update.filled),
            "held": kept(update.held),
        }
    )


def _update(row: Document) -> Update:
    covers: dict[str, list[Spot]] = {
        name: [(r_id, from_millis(moment)) for r_id, moment in spots]
        for name, spots in json.loads(row["covers"]).items()
    }
    return Update(
        update_id=row["update_id"],
        ven_id=row["ven_id"],
        made=from_millis(row["made"]),
        body=row["body"],
        reach=dict(covers["reach"]),
        gaps=covers["gaps"],
        filled=covers["filled"],
        held=covers["held"],
        tries=row["tries"],
    )
