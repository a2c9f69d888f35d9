"""Programs: named by a person or by what the source calls them, each name once."""

from datetime import datetime
from uuid import UUID, uuid5

from sqlite_utils import Database

from bridge.notation import millis
from bridge.store import changes
from bridge.store.sqlite import one

IDS = UUID("5b1f4d6e-0a4c-4d0e-9d0c-7a2f0f3f6f20")


def program_id(
    db: Database, source: str, context: str, wanted: str, at: datetime, *, settled: bool
) -> str:
    """Return the id of a source's program; make it where it is new.

    A name that was `settled` by a person replaces the one it has; one that only comes with
    the source is taken once.
    """
    key = (source, context)
    had = one(db, "SELECT id, name FROM programs WHERE source = ? AND context = ?", key)
    if had and (had["name"] == wanted or not settled):
        return str(had["id"])
    program = str(had["id"]) if had else str(uuid5(IDS, "\n".join(key)))
    name = _free_name(db, wanted, source, program)
    db.conn.execute(
        "INSERT INTO programs (id, name, source, context, created) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET name = excluded.name",
        (program, name, *key, millis(at)),
    )
    operation = "UPDATE" if had else "CREATE"
    changes.append(db, at, operation, "PROGRAM", program, after={"program": name})
    return program


def _free_name(db: Database, wanted: str, source: str, program: str) -> str:
    names = [wanted, f"{wanted}-{source}", *(f"{wanted}-{source}-{n}" for n in range(2, 1000))]
    sql = "SELECT 1 FROM programs WHERE name = ? AND id <> ?"
    return next(n for n in names if not one(db, sql, (n, program)))
