"""The store's file: opened by one bridge at a time, migrated, backed up, restored."""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import structlog
from sqlite_utils import Database

from bridge.errors import StoreError
from bridge.model import Document
from bridge.store.migrations import migrations
from bridge.store.sqlite import connect, immediately, one

log = structlog.get_logger()

APPLICATION_ID = 0x0ADB0001  # says in the file's head whose it is


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file for one bridge; raise StoreError when another has it."""
    with _reachable(path):
        file = path.with_name(path.name + ".lock").open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreError(f"{path}: is in use by another bridge") from error
        yield


def prepare(path: Path) -> str:
    """Create the file or bring it up to the newest shape; return its store_id.

    A file that is not ours, damaged or newer than this program is refused untouched.
    """
    with _reachable(path), _alone(path.parent):
        return _prepare(path)


@contextmanager
def _reachable(path: Path) -> Iterator[None]:
    """Make the folder, and say it clearly where files cannot be made in it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise StoreError(f"{path}: cannot be made or opened there ({error.strerror})") from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep another command from making or migrating a store here at the same time."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _prepare(path: Path) -> str:
    if path.exists() and path.stat().st_size and not _is_unfinished(path):
        check(path)
    with closing(connect(path)) as db:
        db.conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        done, pending = migrations.applied(db), migrations.pending(db)
        if done and pending:
            copy = path.with_name(f"{path.name}.before-{pending[0].name}")
            backup(path, copy)
            log.info("backed up before migrating", file=str(copy), migrations=len(pending))
        try:
            migrations.apply(db)
        except sqlite3.Error as error:
            raise StoreError(f"{path}: cannot be brought up to this version ({error})") from error
        return _store_id(db)


def _is_unfinished(path: Path) -> bool:
    """Whether this is a store that was stopped in the middle of being made: nothing is in it."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            tables = {
                r[0] for r in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            }
    except sqlite3.Error:
        return False
    return tables <= {"_sqlite_migrations", "sqlite_sequence"}


def _store_id(db: Database) -> str:
    row = one(db, "SELECT value FROM meta WHERE key = 'store_id'")
    return str(row["value"]) if row else _new_store_id(db)


def _new_store_id(db: Database) -> str:
    fresh = str(uuid4())
    with immediately(db):
        db.conn.execute("INSERT OR REPLACE INTO meta VALUES ('store_id', ?)", (fresh,))
    return fresh


@contextmanager
def beside(path: Path) -> Iterator[Database]:
    """Write to the store from a command, be a bridge running on it or not."""
    try:
        prepare(path)
        with closing(connect(path)) as db, immediately(db):
            yield db
    except sqlite3.Error as error:
        raise StoreError(f"{path}: cannot be written ({error})") from error


def check(path: Path, *, thoroughly: bool = False) -> Document:
    """Return what a store's file says of itself; raise StoreError when it is no good one."""
    if not path.is_file():
        raise StoreError(f"{path}: is not a file")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            ours = db.execute("PRAGMA application_id").fetchone()[0]
            tables = {r[0] for r in db.execute("SELECT name FROM sqlite_master")}
            if ours != APPLICATION_ID or "changes" not in tables:
                raise StoreError(f"{path}: is a database, but not one of openadr-bridge")
            return _look_into(path, db, thoroughly=thoroughly)
    except sqlite3.Error as error:
        raise StoreError(f"{path}: is damaged or not a database ({error})") from error


def _look_into(path: Path, db: sqlite3.Connection, *, thoroughly: bool) -> Document:
    applied = [r[0] for r in db.execute("SELECT name FROM _sqlite_migrations ORDER BY id")]
    known = [m.name for m in migrations._migrations]
    newer = [name for name in applied if name not in known]
    if newer:
        raise StoreError(
            f"{path}: was written by a newer openadr-bridge ({newer[0]} is not known here); "
            "use that version or restore an older backup"
        )
    if thoroughly:
        found = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if found != "ok":
            raise StoreError(f"{path}: is damaged ({found})")
    found = db.execute("SELECT value FROM meta WHERE key = 'store_id'").fetchone()
    return {"store_id": found[0] if found else None, "migrations": applied}


def counts(path: Path) -> dict[str, int]:
    """Return how many rows each table holds."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
        names = [
            r[0]
            for r in db.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
                " AND name NOT LIKE 'sqlite%' AND name NOT LIKE '\\_%' ESCAPE '\\' ORDER BY name"
            )
        ]
        return {n: db.execute(f"SELECT count(*) FROM {n}").fetchone()[0] for n in names}  # noqa: S608 -- our tables


def vacuum(path: Path) -> tuple[int, int]:
    """Rewrite the file without its gaps; return its bytes before and after."""
    check(path)
    with locked(path), closing(connect(path)) as db:
        before = path.stat().st_size
        db.conn.execute("VACUUM")
        db.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return before, path.stat().st_size


def backup(path: Path, to: Path) -> int:
    """Write a consistent, compact copy, also while a bridge is writing; return its bytes."""
    check(path)
    if to.exists():
        if to.samefile(path):
            raise StoreError(f"{to}: is the store itself; choose another file for the backup")
        check(to)  # only an older backup is written over
    unfinished = to.with_name(to.name + ".unfinished")
    unfinished.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            db.execute("VACUUM INTO ?", (str(unfinished),))
        with closing(sqlite3.connect(unfinished)) as copy:
            copy.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        with unfinished.open("rb") as written:
            os.fsync(written.fileno())
        unfinished.replace(to)
    except (OSError, sqlite3.Error) as error:
        unfinished.unlink(missing_ok=True)
        raise StoreError(f"{to}: the backup could not be written ({error})") from error
    return to.stat().st_size


def restore(copy: Path, path: Path) -> Path | None:
    """Put a backup in the store's place; return where what stood there was kept.

    The copy is checked whole first. The restored store has a new store_id, so that
    whoever follows it starts afresh.
    """
    check(copy, thoroughly=True)
    with locked(path):
        incoming = path.with_name(path.name + ".incoming")
        incoming.unlink(missing_ok=True)
        try:
            backup(copy, incoming)
            with closing(connect(incoming)) as db:
                _new_store_id(db)
                db.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                db.conn.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.Error as error:
            raise StoreError(f"{copy}: could not be restored ({error})") from error
        owner = (path if path.exists() else path.parent).stat()
        former = _put_aside(path)
        os.chown(incoming, owner.st_uid, owner.st_gid)
        incoming.replace(path)
    return former


def _put_aside(path: Path) -> Path | None:
    if not path.exists():
        return None
    former = path.with_name(f"{path.name}.{datetime.now(UTC):%Y%m%dT%H%M%S}.replaced")
    # What still stands in the write-ahead log belongs to the former file.
    with suppress(sqlite3.Error, StoreError), closing(connect(path)) as db:
        db.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path.replace(former)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return former
