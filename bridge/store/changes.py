"""The change log: one row for each change to what the bridge knows."""

from datetime import datetime

from sqlite_utils import Database

from bridge.model import Change, Document
from bridge.notation import from_json, from_millis, millis, to_json


def append(
    db: Database,
    at: datetime,
    operation: str,
    object_type: str,
    object_id: str,
    *,
    before: Document | None = None,
    after: Document | None = None,
) -> int:
    """Write a change in the transaction that makes it; return its sequence number."""
    values = (millis(at), operation, object_type, object_id, _json(before), _json(after))
    cursor = db.conn.execute(
        "INSERT INTO changes (at, operation, object_type, object_id, before, after)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        values,
    )
    return cursor.lastrowid or 0


def to_change(row: Document) -> Change:
    """Return a row as a Change."""
    before, after = row["before"], row["after"]
    return Change(
        row["seq"],
        from_millis(row["at"]),
        row["operation"],
        row["object_type"],
        row["object_id"],
        from_json(before) if before else None,
        from_json(after) if after else None,
    )


def _json(value: Document | None) -> str | None:
    return None if value is None else to_json(value)
