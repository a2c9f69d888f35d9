"""Who is told of operations on objects, by webhook and by MQTT, and what each is owed."""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from sqlite_utils import Database

from bridge.model import Change, Delivery, Document, Ended, Event
from bridge.notation import from_json, from_millis
from bridge.parties import BROKER, SUBSCRIPTION, Caller, Subscriber, View
from bridge.store import changes, clients, deliveries, objects, offered, price_days, privacy
from bridge.store.sqlite import Sqlite, one, rows
from bridge.store.vault import Vault

CURSOR = "notify"
_LIST = """
SELECT o.*, coalesce(w.owed, 0) AS owed FROM objects o LEFT JOIN (
    SELECT substr(device, ?, 36) AS id, count(*) AS owed FROM deliveries
    WHERE outcome IS NULL AND device LIKE ? GROUP BY 1
) w ON w.id = o.id WHERE o.kind = 'SUBSCRIPTION' ORDER BY o.turn
"""


class Subscriptions:
    """Knows subscriptions, and holds the notifications that are owed."""

    def __init__(self, file: Sqlite, vault: Vault) -> None:
        self._file, self._vault = file, vault

    def bell(self, name: str) -> asyncio.Event:
        """Return an event of one's own that is set after each change."""
        return self._file.bell(name)

    async def cursor(self) -> int:
        """Return how far the change log was turned into notifications."""
        row = await self._file.read(
            lambda db: one(db, "SELECT seq FROM cursors WHERE name = ?", (CURSOR,))
        )
        return int(row["seq"]) if row else 0

    async def changes(self, after: int, limit: int) -> list[Change]:
        """Return changes after a sequence number, oldest first."""
        sql = "SELECT * FROM changes WHERE seq > ? ORDER BY seq LIMIT ?"
        found = await self._file.read(lambda db: rows(db, sql, (after, limit)))
        return [changes.to_change(row) for row in found]

    async def program(self, program_id: str) -> Document | None:
        """Return a program as it is shown to business logic."""
        everything = View(True, None, frozenset())

        def read(db: Any) -> Document | None:
            row = offered.program(db, program_id, everything)
            return from_json(offered.program_document(db, row, everything)) if row else None

        return await self._file.read(read)

    async def price_days(
        self, program_id: str, start: int, end: int
    ) -> tuple[list[Event], list[Document]]:
        """Return a program's price days between two instants, and what is left of those gone."""

        def read(db: Any) -> tuple[list[Event], list[Document]]:
            about = one(db, f"{price_days.TARIFF} WHERE t.program = ?", (program_id,))
            if about is None:
                return [], []
            days = list(price_days.render(db, about, start, end))
            known = {day.name for day in days}
            gone = [n for n in price_days.names(about, start, end) if n not in known]
            # A day may be over and still be known.
            gone = [n for n in gone if not price_days.of_date(db, about, _date(n))]
            return days, [_bare_day(about, name) for name in gone]

        return await self._file.read(read)

    async def subscribers(self) -> list[Subscriber]:
        """Return whom to tell, each with what it may see; those of revoked clients are left out."""

        def read(db: Any) -> list[Subscriber]:
            sql = "SELECT * FROM objects WHERE kind = 'SUBSCRIPTION' AND disabled IS NULL"
            views: dict[tuple[str, str], tuple[Caller, View] | None] = {}
            found = []
            for row in rows(db, sql):
                who = (row["client"], row["scopes"])
                if who not in views:
                    views[who] = _view(db, *who)
                if seen := views[who]:
                    found += list(_subscribers(row, *seen))
            return found

        return await self._file.read(read)

    async def vens(self) -> Mapping[str, View]:
        """Return, by the ids of vens, what each may see."""

        def read(db: Any) -> Mapping[str, View]:
            sql = "SELECT id, client FROM objects WHERE kind = 'VEN'"
            found = {row["id"]: _view(db, row["client"]) for row in rows(db, sql)}
            return {ven: seen[1] for ven, seen in found.items() if seen and not seen[1].all}

        return await self._file.read(read)

    async def save(self, owed: Sequence[Delivery], cursor: int, at: datetime) -> None:
        """Write notifications and move the cursor, in one transaction."""

        def work(db: Database) -> None:
            deliveries.insert(db, owed, at)
            db.conn.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", (CURSOR, cursor))

        await self._file.write(work, durable=bool(owed), tell=bool(owed))

    async def callback(
        self, delivery: Delivery, at: datetime
    ) -> tuple[str, str | None, View] | None:
        """Return where a subscriber is told, its bearer token, and what it may see now.

        None where there is no such subscription any more, it was changed since the
        delivery was planned, or its client was revoked.
        """
        subscription, _, part = delivery.device.removeprefix(SUBSCRIPTION).partition(":")

        def read(db: Any) -> tuple[Document, View] | None:
            sql = "SELECT * FROM objects WHERE id = ? AND since <= ? AND disabled IS NULL"
            row = one(db, sql, (subscription, delivery.modification))
            seen = _view(db, row["client"], row["scopes"]) if row else None
            return (row, seen[1]) if row and seen else None

        found = await self._file.read(read)
        if found is None:
            return None
        row, seen = found
        entry = json.loads(row["document"])["objectOperations"][int(part)]
        secrets = objects.secrets_of(row, self._vault, at)
        if secrets is None:
            return None
        return entry["callbackUrl"], secrets[int(part)], seen

    async def listing(self) -> list[Document]:
        """Return all subscriptions for the admin endpoint, with what each is owed."""
        values = (len(SUBSCRIPTION) + 1, f"{SUBSCRIPTION}%")
        found = await self._file.read(lambda db: rows(db, _LIST, values))
        return [
            {
                "id": r["id"],
                "client": r["client"],
                "name": r["name"],
                "owed": r["owed"],
                "disabled": r["disabled"],
                "last_problem": r["last_problem"],
                "last_success": _time(r["last_success"]),
            }
            for r in found
        ]

    async def owed_to_broker(self, limit: int) -> list[Delivery]:
        """Return what is to be published, in order."""
        sql = (
            f"SELECT * FROM deliveries WHERE outcome IS NULL AND device = '{BROKER}'"  # noqa: S608 -- a constant, so that the index is used
            " ORDER BY turn LIMIT ?"
        )
        found = await self._file.read(lambda db: rows(db, sql, (limit,)))
        return [deliveries.to_delivery(row) for row in found]

    async def settle(self, ended: Sequence[Ended]) -> None:
        """Note how publishing ended."""
        await self._file.write(
            lambda db: deliveries.note_ended(db, ended), durable=False, tell=False
        )


def _time(stamp: int | None) -> datetime | None:
    return from_millis(stamp) if stamp is not None else None


def _view(db: Any, client_id: str, scopes: str | None = None) -> tuple[Caller, View] | None:
    """Return a client and what it may see; None for one that is revoked.

    `scopes` are those of the token by which it subscribed: it is not told more than it could read.
    """
    client = clients.find(db, client_id)
    if client is None:
        return None
    granted = client["scopes"] & set(json.loads(scopes)) if scopes else client["scopes"]
    caller = Caller(client_id, granted, client_id)
    return caller, privacy.view(db, caller)


def _readable(caller: Caller, objects_: Iterable[str]) -> frozenset[str]:
    """Return those of kinds of objects that a client may read at all."""
    needed = {"PROGRAM": "read_targets", "EVENT": "read_targets"}
    return frozenset(
        kind
        for kind in objects_
        if caller.sees_all or needed.get(kind, "read_ven_objects") in caller.scopes
    )


def _subscribers(row: Document, caller: Caller, seen: View) -> Iterable[Subscriber]:
    for part, entry in enumerate(json.loads(row["document"])["objectOperations"]):
        yield Subscriber(
            id=row["id"],
            part=part,
            view=seen,
            program=row["program"],
            targets=frozenset(json.loads(row["targets"])),
            objects=_readable(caller, entry["objects"]),
            operations=frozenset(entry["operations"]),
        )


def _date(name: str) -> date:
    return date.fromisoformat(name[-10:])


def _bare_day(about: Document, name: str) -> Document:
    """Return what can still be said of a price day whose prices were all withdrawn."""
    return {
        "id": f"{about['program']}{name.removeprefix(about['name'])}",
        "objectType": offered.EVENT,
        "programID": about["program"],
        "eventName": name,
    }
