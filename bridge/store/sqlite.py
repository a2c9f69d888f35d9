"""SQLite as the store uses it: one writer thread, read-only readers, bells.

One thread owns the one connection that writes. It takes functions, and groups those that
wait into one commit with a savepoint each: one that fails takes nothing else with it.
Reads go to read-only connections on threads of their own.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import structlog
from sqlite_utils import Database

from bridge.errors import StoreError

log = structlog.get_logger()
T = TypeVar("T")

READERS = 2
GROUP = 200  # pieces of work in one commit, at most
BUSY = 5.0  # seconds to wait for a command that writes beside the bridge
NOTICE = 1.0  # seconds until what such a command wrote is noticed

_PRAGMAS = """
PRAGMA journal_mode = WAL;
PRAGMA foreign_keys = ON;
PRAGMA temp_store = MEMORY;
PRAGMA journal_size_limit = 16777216;
"""


def connect(path: Path) -> Database:
    """Open the file for writing."""
    try:
        connection = sqlite3.connect(path, timeout=BUSY, check_same_thread=False)
        connection.executescript(_PRAGMAS)
        connection.isolation_level = None
    except sqlite3.Error as error:
        raise StoreError(f"{path}: cannot be opened as a database ({error})") from error
    return Database(connection)


@contextmanager
def immediately(db: Database) -> Iterator[Database]:
    """Hold the write lock from the start, so that what is read stays true until the commit."""
    db.conn.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.conn.execute("COMMIT")
    except BaseException:
        if db.conn.in_transaction:
            db.conn.execute("ROLLBACK")
        raise


class Sqlite:
    """One database file: `write` and `read` run functions on it, off the event loop."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = connect(path)
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._local = threading.local()
        self._readers = ThreadPoolExecutor(READERS, "store-read")
        self._read_connections: list[sqlite3.Connection] = []
        self._watch = self._open()
        self._bells: dict[str, asyncio.Event] = {}
        self._loop = asyncio.get_running_loop()
        self._seen = self._db.execute("PRAGMA data_version").fetchone()[0]
        self._writer = threading.Thread(target=self._write_all, name="store-write", daemon=True)
        self._writer.start()

    async def write(
        self, work: Callable[[Database], T], *, durable: bool = True, tell: bool = True
    ) -> T:
        """Run `work` in a transaction; return once it is committed.

        `durable` work is on the disk before this returns (synchronous=FULL); other work
        is consistent after a power cut, but its last second may be missing. `tell` rings
        the bells of those who follow what is kept.
        """
        future: Future[T] = Future()
        self._work.put(_Work(work, future, durable))
        result = await asyncio.wrap_future(future)
        if tell:
            self.ring()
        return result

    def hand_over(self, work: Callable[[Database], object]) -> None:
        """Let `work` be done beside what is written next; its failure is logged, no more."""
        future: Future[object] = Future()
        future.add_done_callback(_log_failure)
        self._work.put(_Work(work, future, durable=False))

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on a read-only connection, in one snapshot."""
        return await self._loop.run_in_executor(self._readers, self._read, work)

    @property
    def commits(self) -> int:
        """Return a number that moves with every commit, whoever makes it, in microseconds."""
        return int(self.peek("PRAGMA data_version"))

    def peek(self, sql: str) -> Any:
        """Return the one value of a query that takes microseconds, at once."""
        try:
            return self._watch.execute(sql).fetchone()[0]
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: cannot be read ({error})") from error

    def bell(self, name: str) -> asyncio.Event:
        """Return an event that is set after each commit; one for each name."""
        return self._bells.setdefault(name, asyncio.Event())

    def ring(self) -> None:
        """Tell every follower that something was committed."""
        for bell in self._bells.values():
            bell.set()

    async def close(self) -> None:
        """Finish what waits, then close."""
        self._work.put(None)
        await self._loop.run_in_executor(None, self._writer.join)
        await self._loop.run_in_executor(None, self._readers.shutdown)
        for connection in self._read_connections:
            connection.close()
        with suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._reader()
        connection.execute("BEGIN")
        try:
            return work(connection)
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: cannot be read ({error})") from error
        finally:
            connection.execute("ROLLBACK")

    def _reader(self) -> sqlite3.Connection:
        found: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if found is None:
            self._local.connection = found = self._open()
        return found

    def _open(self) -> sqlite3.Connection:
        """Open a connection that only reads; it is closed with the rest."""
        uri = f"{self.path.resolve().as_uri()}?mode=ro"
        opened = sqlite3.connect(uri, uri=True, timeout=BUSY, check_same_thread=False)
        opened.isolation_level = None
        opened.row_factory = sqlite3.Row
        self._read_connections.append(opened)
        return opened

    def _write_all(self) -> None:
        while True:
            group = self._waiting()
            work = [piece for piece in group if piece]
            if work:
                self._commit(work)
            elif self._others_wrote():
                with suppress(RuntimeError):  # the loop may have closed meanwhile
                    self._loop.call_soon_threadsafe(self.ring)
            if None in group:
                return

    def _waiting(self) -> list["_Work | None"]:
        """Return what waits for the writer; nothing when nothing came for a while."""
        group: list[_Work | None] = []
        with suppress(queue.Empty):
            group.append(self._work.get(timeout=NOTICE))
            while group[-1] and len(group) < GROUP:
                group.append(self._work.get_nowait())
        return group

    def _others_wrote(self) -> bool:
        # The write connection's data_version moves for commits of others only.
        version = self._db.execute("PRAGMA data_version").fetchone()[0]
        moved, self._seen = version != self._seen, version
        return bool(moved)

    def _commit(self, group: list["_Work"]) -> None:
        results: list[tuple[_Work, Any, BaseException | None]] = []
        try:
            level = "FULL" if any(w.durable for w in group) else "NORMAL"
            self._db.conn.execute(f"PRAGMA synchronous = {level}")
            with immediately(self._db):
                results += [(work, *self._attempt(work)) for work in group]
        except sqlite3.Error as error:
            failure = StoreError(f"{self.path}: cannot be written ({error})")
            failure.__cause__ = error
            results = [(work, None, failure) for work in group]
        for work, value, problem in results:
            if work.future.set_running_or_notify_cancel():
                work.future.set_exception(problem) if problem else work.future.set_result(value)

    def _attempt(self, work: "_Work") -> tuple[Any, BaseException | None]:
        try:
            with self._db.atomic():
                return work.run(self._db), None
        except sqlite3.IntegrityError as error:
            return None, StoreError(f"{self.path}: would contradict itself ({error})")
        except (sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError) as error:
            # What was to be written is at fault, and not the file.
            return None, ValueError(f"cannot be kept: {error}")
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001 -- goes to whoever asked, not to the rest
            return None, error


class _Work:
    """A function that waits for the writer, and where its result goes."""

    __slots__ = ("durable", "future", "run")

    def __init__(
        self, run: Callable[[Database], Any], future: "Future[Any]", durable: bool
    ) -> None:
        self.run, self.future, self.durable = run, future, durable


def _log_failure(future: "Future[object]") -> None:
    if problem := future.exception():
        log.warning("what nobody waits for was not written", problem=str(problem))


def rows(
    db: Database | sqlite3.Connection, sql: str, values: Iterable[Any] = ()
) -> list[dict[str, Any]]:
    """Return rows as dictionaries."""
    connection = db.conn if isinstance(db, Database) else db
    cursor = connection.execute(sql, list(values))
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def one(
    db: Database | sqlite3.Connection, sql: str, values: Iterable[Any] = ()
) -> dict[str, Any] | None:
    """Return the first row, or None."""
    found = rows(db, sql, values)
    return found[0] if found else None


def write_many(db: Database, sql: str, values: Iterable[Iterable[Any]]) -> None:
    """Run a statement for many rows."""
    db.conn.executemany(sql, [list(v) for v in values])
