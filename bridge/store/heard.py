"""When sources and VENs were last heard of: each time in memory, now and then in the file."""

from datetime import datetime, timedelta
from typing import Literal

from bridge.notation import millis
from bridge.store.sqlite import Sqlite

WRITTEN_EVERY = timedelta(minutes=1)


class Heard:
    """Knows since the start when each row of a table was last heard of."""

    def __init__(self, file: Sqlite, table: Literal["sources", "vens"]) -> None:
        self._file = file
        self._sql = f"UPDATE {table} SET heard = ? WHERE name = ?"  # noqa: S608 -- constants
        self._written: dict[str, datetime] = {}
        self.at: dict[str, datetime] = {}

    def note(self, name: str, at: datetime) -> None:
        """Note that one was heard of; it is written, by and by, where that was long ago."""
        self.at[name] = at
        last = self._written.get(name)
        if last is None or not last <= at < last + WRITTEN_EVERY:
            self._written[name] = at
            self._file.hand_over(lambda db: db.conn.execute(self._sql, (millis(at), name)))
