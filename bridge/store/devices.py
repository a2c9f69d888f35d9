"""The devices that are told: which there are, and how each is doing."""

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlite_utils import Database

from bridge.model import Document
from bridge.notation import millis
from bridge.store import changes, price_days, usage
from bridge.store.sqlite import Sqlite, one, rows

LIST = """
SELECT d.*, coalesce(w.owed, 0) AS owed FROM devices d LEFT JOIN (
    SELECT device, count(*) AS owed FROM deliveries WHERE outcome IS NULL GROUP BY device
) w ON w.device = d.name ORDER BY d.name
"""


class Devices:
    """Knows the devices of the settings file."""

    def __init__(self, file: Sqlite) -> None:
        self._file = file

    async def sync(
        self,
        kinds: Mapping[str, str],
        at: datetime,
        followed: Collection[str] = (),
        meters: Collection[str] = (),
    ) -> None:
        """Make the kept devices those of the settings (name → kind); log what changed.

        `followed` are the names and globs of the programs that any of them follows, `meters`
        those of the meters of whose readings any is told.
        """

        def work(db: Database) -> None:
            kept = {r["name"] for r in rows(db, "SELECT name FROM devices")}
            for name in kinds.keys() - kept:
                db.conn.execute(
                    "INSERT INTO devices (name, kind, created) VALUES (?, ?, ?)",
                    (name, kinds[name], millis(at)),
                )
                changes.append(db, at, "CREATE", "DEVICE", name, after={"kind": kinds[name]})
            for name in kept - kinds.keys():
                _remove(db, name, at)
            price_days.follow(db, followed, at)
            usage.follow(db, meters)

        await self._file.write(work)

    async def list(self) -> list[Document]:
        """Return all devices by name, with what each is owed."""
        return await self._file.read(lambda db: rows(db, LIST))


def enable(db: Database, name: str, at: datetime) -> bool:
    """Send to a disabled device again; return whether there is such a device."""
    if not one(db, "SELECT 1 FROM devices WHERE name = ?", (name,)):
        return False
    db.conn.execute(
        "UPDATE devices SET disabled = NULL, told = NULL, told_at = NULL WHERE name = ?",
        (name,),
    )
    changes.append(db, at, "UPDATE", "DEVICE", name, after={"disabled": None})
    return True


def _remove(db: Database, name: str, at: datetime) -> None:
    db.conn.execute(
        "UPDATE deliveries SET outcome = 'given_up', settled = ?,"
        " problem = 'the device is no longer in the settings' WHERE device = ? AND outcome IS NULL",
        (millis(at), name),
    )
    db.conn.execute("DELETE FROM tracks WHERE device = ?", (name,))
    db.conn.execute("DELETE FROM devices WHERE name = ?", (name,))
    changes.append(db, at, "DELETE", "DEVICE", name)
