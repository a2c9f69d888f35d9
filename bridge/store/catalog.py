"""The objects of OpenADR 3: one way to list, read, write and delete all six kinds."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlite_utils import Database

from bridge.model import Document
from bridge.parties import Caller, View, Wanted
from bridge.store import objects, offered, privacy, written
from bridge.store.offered import EVENT, PROGRAM
from bridge.store.sqlite import Sqlite, one, rows
from bridge.store.vault import Vault

_CREATE = {PROGRAM: written.create_program, EVENT: written.create_event}
_REPLACE = {PROGRAM: written.replace_program, EVENT: written.replace_event}
_DELETE = {PROGRAM: written.delete_program, EVENT: written.delete_event}


class Catalog:
    """Keeps programs, events, reports, subscriptions, vens and resources."""

    def __init__(self, file: Sqlite, vault: Vault) -> None:
        self._file, self._vault = file, vault

    @property
    def commits(self) -> int:
        """Return a number that moves with every commit that may concern a reader."""
        return self._file.commits

    async def latest(self) -> int:
        """Return the sequence number of the newest change."""
        row = await self._file.read(lambda db: one(db, "SELECT max(seq) AS seq FROM changes"))
        return (row or {}).get("seq") or 0

    async def visibility(self, caller: Caller) -> View:
        """Return what of programs and events a caller may see: its grants that occur in any."""
        return await self._file.read(lambda db: privacy.visibility(db, caller))

    async def list(
        self, caller: Caller, wanted: Wanted, at: datetime
    ) -> tuple[Sequence[str], datetime | None]:
        """Return documents as JSON, and until when they are right if nothing is written."""

        def read(db: Any) -> tuple[Sequence[str], datetime | None]:
            seen = privacy.view(db, caller)
            if wanted.kind == PROGRAM:
                return list(offered.programs(db, seen, wanted)), None
            if wanted.kind == EVENT:
                until = offered.next_change(db, at) if wanted.active else None
                return list(offered.events(db, seen, wanted, at)), until
            return list(objects.listed(db, seen, wanted)), None

        return await self._file.read(read)

    async def read(self, kind: str, object_id: str, caller: Caller) -> str:
        """Return one document as JSON; raise Unknown where there is none, for this caller."""

        def read(db: Any) -> str:
            seen = privacy.view(db, caller)
            if kind == PROGRAM:
                row = offered.program(db, object_id, seen)
                document = offered.program_document(db, row, seen) if row else None
            elif kind == EVENT:
                document = offered.event(db, object_id, seen)
            else:
                document = objects.found(db, kind, object_id, seen)["document"]
            if document is None:
                raise objects.unknown(kind, object_id)
            return document

        return await self._file.read(read)

    async def open_programs(self) -> Sequence[str]:
        """Return the names of the programs that are aimed at nobody."""
        sql = "SELECT name FROM programs WHERE deleted IS NULL AND audiences = '[]' ORDER BY name"
        found = await self._file.read(lambda db: rows(db, sql))
        return [str(row["name"]) for row in found]

    async def create(self, kind: str, caller: Caller, document: Document, at: datetime) -> str:
        """Keep a new object; return it as JSON.

        Raises Conflict where a name is taken or what it refers to is not there, Unfit where
        something is missing that only this caller need not say, Forbidden, Unknown.
        """

        def work(db: Database) -> str:
            if kind in _CREATE:
                return _CREATE[kind](db, privacy.view(db.conn, caller), document, at)
            return objects.create(db, kind, caller, document, at, self._vault)

        return await self._file.write(work)

    async def replace(
        self, kind: str, object_id: str, caller: Caller, document: Document, at: datetime
    ) -> str:
        """Replace an object; return it as JSON. Raises as `create` does."""

        def work(db: Database) -> str:
            if kind in _REPLACE:
                seen = privacy.view(db.conn, caller)
                return _REPLACE[kind](db, object_id, seen, document, at)
            return objects.replace(db, kind, object_id, caller, document, at, self._vault)

        return await self._file.write(work)

    async def delete(self, kind: str, object_id: str, caller: Caller, at: datetime) -> str:
        """Delete an object and what hangs on it; return what it was. Raises as `create` does."""

        def work(db: Database) -> str:
            seen = privacy.view(db.conn, caller)
            if kind in _DELETE:
                return _DELETE[kind](db, object_id, seen, at)
            return objects.delete(db, kind, object_id, seen, at)

        return await self._file.write(work)
