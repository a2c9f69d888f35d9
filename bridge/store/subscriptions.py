"""Who is told of operations on objects, by webhook and by MQTT, and what each is owed."""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
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
            gone = set(price_days.names(about, start, end)) - {d.name for d in days}
            return days, [_bare_day(about, name) for name in sorted(gone)]

        return await self._file.read(read)

    async def subscribers(self) -> list[Subscriber]:
        """Return whom to tell, each with what it may see; those of revoked clients are left out."""

        def read(db: Any) -> list[Subscriber]:
            sql = "SELECT * FROM objects WHERE kind = 'SUBSCRIPTION' AND disabled IS NULL"
            views: dict[str, View | None] = {}
            found = []
            for row in rows(db, sql):
                client = row["client"]
                if client not in views:
                    views[client] = _view(db, client)
                seen = views[client]
                if seen is not None:
                    found += list(_subscribers(row, seen))
            return found

        return await self._file.read(read)

    async def vens(self) -> Mapping[str, View]:
        """Return, by the ids of vens, what each may see."""

        def read(db: Any) -> Mapping[str, View]:
            sql = "SELECT id, client FROM objects WHERE kind = 'VEN'"
            found = {row["id"]: _view(db, row["client"]) for row in rows(db, sql)}
            return {ven: seen for ven, seen in found.items() if seen and not seen.all}

        return await self._file.read(read)

    async def save(self, owed: Sequence[Delivery], cursor: int, at: datetime) -> None:
        """Write notifications and move the cursor, in one transaction."""

        def work(db: Database) -> None:
            deliveries.insert(db, owed, at)
            db.conn.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", (CURSOR, cursor))

        await self._file.write(work, durable=bool(owed), tell=bool(owed))

    async def callback(self, receiver: str, at: datetime) -> tuple[str, str | None, View] | None:
        """Return where a subscriber is told, its bearer token, and what it may see now.

        None where there is no such subscription any more, or its client was revoked.
        """
        subscription, _, part = receiver.removeprefix(SUBSCRIPTION).partition(":")

        def read(db: Any) -> tuple[Document, View] | None:
            row = one(db, "SELECT * FROM objects WHERE id = ?", (subscription,))
            seen = _view(db, row["client"]) if row and row["disabled"] is None else None
            return (row, seen) if row and seen else None

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

    async def owed_to_broker(self, after: int, limit: int) -> list[Delivery]:
        """Return what is to be published after a turn, in order."""
        sql = (
            f"SELECT * FROM deliveries WHERE outcome IS NULL AND device = '{BROKER}' AND turn > ?"  # noqa: S608 -- a constant, so that the index is used
            " ORDER BY turn LIMIT ?"
        )
        found = await self._file.read(lambda db: rows(db, sql, (after, limit)))
        return [deliveries.to_delivery(row) for row in found]

    async def settle(self, ended: Sequence[Ended]) -> None:
        """Note how publishing ended."""
        await self._file.write(
            lambda db: deliveries.note_ended(db, ended), durable=False, tell=False
        )


def _time(stamp: int | None) -> datetime | None:
    return from_millis(stamp) if stamp is not None else None


def _view(db: Any, client_id: str) -> View | None:
    """Return what a client may see; None for one that is revoked."""
    client = clients.find(db, client_id)
    return privacy.view(db, Caller(client_id, client["scopes"], client_id)) if client else None


def _subscribers(row: Document, seen: View) -> Iterable[Subscriber]:
    for part, entry in enumerate(json.loads(row["document"])["objectOperations"]):
        yield Subscriber(
            id=row["id"],
            part=part,
            view=seen,
            program=row["program"],
            targets=frozenset(json.loads(row["targets"])),
            objects=frozenset(entry["objects"]),
            operations=frozenset(entry["operations"]),
        )


def _bare_day(about: Document, name: str) -> Document:
    """Return what can still be said of a price day whose prices were all withdrawn."""
    return {
        "id": f"{about['program']}{name.removeprefix(about['name'])}",
        "objectType": offered.EVENT,
        "programID": about["program"],
        "eventName": name,
    }
