"""The file: one writer, its lock, backups, restores, migrations."""

import asyncio
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlite_utils import Database, Migrations

from bridge.errors import StoreError
from bridge.notation import from_millis, millis
from bridge.store import files, open_store
from bridge.store.access import new_token
from bridge.store.packing import DAY
from bridge.store.sqlite import Sqlite, connect, rows
from tests.peers import kept_prices, kept_readings, replaced_prices

NOW = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.fixture
async def file(tmp_path):
    files.prepare(tmp_path / "bridge.db")
    found = Sqlite(tmp_path / "bridge.db")
    yield found
    await found.close()


def put(key):
    return lambda db: db.conn.execute("INSERT INTO meta VALUES (?, '')", (key,))


def keys(db):
    return {r["key"] for r in rows(db, "SELECT key FROM meta")} - {"store_id", "vens", "vens_whole"}


async def test_work_that_fails_takes_nothing_else_with_it(file):
    gate = threading.Event()
    first = asyncio.create_task(file.write(lambda _: gate.wait(5)))
    await asyncio.sleep(0)
    pieces = [
        file.write(put("a")),
        file.write(put("b")),
        file.write(lambda _: 1 / 0),
        file.write(put("c")),
    ]
    waiting = [asyncio.ensure_future(p) for p in pieces]
    await asyncio.sleep(0)
    gate.set()
    await first
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(found[2], ZeroDivisionError)
    assert await file.read(keys) == {"a", "b", "c"}


async def test_what_contradicts_itself_is_a_store_error(file):
    await file.write(put("a"))
    with pytest.raises(StoreError, match="contradict"):
        await file.write(put("a"))


async def test_a_full_disk_is_a_store_error_for_all_who_wait(file):
    def full(_db):
        raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(StoreError, match="disk is full"):
        await file.write(full)
    await file.write(put("later"))
    assert "later" in await file.read(keys)


async def test_readers_cannot_write(file):
    with pytest.raises(StoreError, match="readonly"):
        await file.read(lambda db: db.execute("DELETE FROM meta"))


async def test_what_another_process_writes_is_noticed_within_a_second_or_so(file, tmp_path):
    bell = file.bell("me")
    bell.clear()
    with files.beside(tmp_path / "bridge.db") as db:
        new_token(db, "n", "read", NOW)
    await asyncio.wait_for(bell.wait(), 4)


async def test_one_bridge_at_a_time(tmp_path):
    async with open_store(tmp_path / "bridge.db"):
        with pytest.raises(StoreError, match="another bridge"):
            async with open_store(tmp_path / "bridge.db"):
                pass
    async with open_store(tmp_path / "bridge.db"):
        pass


async def test_the_store_id_stays_and_a_restore_makes_a_new_one(tmp_path):
    path = tmp_path / "bridge.db"
    async with open_store(path) as store:
        first = store.id
    async with open_store(path) as store:
        assert store.id == first
    files.backup(path, tmp_path / "copy.db")
    with files.beside(path) as db:
        new_token(db, "lost by the restore", "read", NOW)
    former = files.restore(tmp_path / "copy.db", path)
    async with open_store(path) as store:
        assert store.id != first
    with closing(connect(path)) as db:
        assert rows(db, "SELECT name FROM tokens") == []
    with closing(connect(former)) as db:
        assert len(rows(db, "SELECT name FROM tokens")) == 1


async def test_no_restore_under_a_running_bridge(tmp_path):
    path = tmp_path / "bridge.db"
    async with open_store(path):
        files.backup(path, tmp_path / "copy.db")
        with pytest.raises(StoreError, match="another bridge"):
            files.restore(tmp_path / "copy.db", path)


def foreign(path):
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (x)")
        db.commit()


def damaged(path):
    files.prepare(path)
    with closing(connect(path)) as db:
        db.conn.executemany(
            "INSERT INTO changes (at, operation, object_type, object_id) VALUES (1, 'x', 'y', ?)",
            [("z" * 200,)] * 2000,
        )
        db.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    for place in range(20_000, 60_000, 500):
        content[place : place + 100] = b"\xa5" * 100
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (foreign, "not one of openadr-bridge"),
        (lambda p: p.write_bytes(b"not a database at all" * 100), "not a database"),
        (lambda p: p.mkdir(), "not a file"),
        (damaged, "damaged"),
    ],
)
def test_a_bad_backup_is_refused_and_changes_nothing(tmp_path, make, problem):
    path, copy = tmp_path / "bridge.db", tmp_path / "copy.db"
    files.prepare(path)
    make(copy)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=problem):
        files.restore(copy, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("make", [foreign, lambda p: p.write_bytes(b"x" * 5000)])
def test_a_file_that_is_not_ours_is_not_touched(tmp_path, make):
    path = tmp_path / "theirs.db"
    make(path)
    before = path.read_bytes()
    with pytest.raises(StoreError):
        files.prepare(path)
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused(tmp_path):
    path = tmp_path / "bridge.db"
    files.prepare(path)
    with closing(connect(path)) as db:
        db.conn.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('bridge', 'from_the_future', '')"
        )
    with pytest.raises(StoreError, match="newer openadr-bridge"):
        files.prepare(path)


def test_a_migration_is_preceded_by_a_backup_and_a_failed_one_stops(tmp_path, monkeypatch):
    path = tmp_path / "bridge.db"
    files.prepare(path)
    with closing(connect(path)) as db:
        db.conn.execute("INSERT INTO meta VALUES ('mine', 'kept')")
    later = Migrations("bridge")
    later._migrations = [*files.migrations._migrations]

    @later()
    def a_mistake(db: Database) -> None:
        db.conn.execute("DELETE FROM meta")
        db.conn.execute("SELECT * FROM nothing_of_this_name")

    monkeypatch.setattr(files, "migrations", later)
    with pytest.raises(StoreError, match="cannot be brought up"):
        files.prepare(path)
    for kept in (path, tmp_path / "bridge.db.before-a_mistake"):
        with closing(connect(kept)) as db:
            assert rows(db, "SELECT value FROM meta WHERE key = 'mine'") == [{"value": "kept"}]


async def test_prices_of_the_first_shape_are_all_there_in_the_newest(tmp_path):
    path, day = tmp_path / "old.db", millis(datetime(2027, 3, 14, tzinfo=UTC))
    with closing(connect(path)) as db:
        db.conn.execute(f"PRAGMA application_id = {files.APPLICATION_ID}")
        files.migrations.apply(db, stop_before="prices_by_day")
        db.conn.execute("INSERT INTO programs VALUES ('p', 'EV2A', 's', 'c', 0)")
        db.conn.execute("INSERT INTO series VALUES (7, 'p', 'PRICE', 'KWH', 'USD')")
        now = [(7, day + n * 3_600_000, 3_600_000, n * 10 - 50, -3, day) for n in range(30)]
        was = [(7, day, day + 5, day - 1, 3_600_000, "98765432109876543210", -6)]
        db.conn.executemany("INSERT INTO prices VALUES (?, ?, ?, ?, ?, ?)", now)
        db.conn.executemany("INSERT INTO price_revisions VALUES (?, ?, ?, ?, ?, ?, ?)", was)
        # one that held for days, long ago, and was replaced
        long = (7, day - 9 * DAY, day, day - 9 * DAY, 4 * DAY, 7, -1)
        db.conn.execute("INSERT INTO price_revisions VALUES (?, ?, ?, ?, ?, ?, ?)", long)
    async with open_store(path) as store:
        (then,) = await kept_prices(
            store,
            "EV2A",
            from_millis(day - 6 * DAY),
            end=from_millis(day - 5 * DAY),
            as_of=from_millis(day - 1),
        )
        assert str(then.value) == "0.7"
        found = await kept_prices(store, "EV2A", from_millis(day))
        _, once = await replaced_prices(store, "EV2A")
    assert [str(r.value) for r in found] == [f"{(n * 10 - 50) / 1000:.3f}" for n in range(30)]
    assert {r.since for r in found} == {from_millis(day)}
    assert (str(once.value), millis(once.replaced)) == ("98765432109876.543210", day + 5)
    assert files.check(path, thoroughly=True)["migrations"] == [
        "the_first_shape",
        "prices_by_day",
        "openadr3_objects",
        "openadr2_vens",
        "usage",
        "upstream_reports",
        "long_readings",
    ]
    assert path.with_name("old.db.before-prices_by_day").exists()


async def test_what_reports_measured_before_is_kept_as_readings(tmp_path):
    path, noon = tmp_path / "old.db", millis(datetime(2027, 3, 14, 12, tzinfo=UTC))
    with closing(connect(path)) as db:
        db.conn.execute(f"PRAGMA application_id = {files.APPLICATION_ID}")
        files.migrations.apply(db, stop_before="usage")
        kept = [
            ("m", "USAGE", noon, 60_000, 1250, 0, "WH", "Direct Read", "good", "openadr2:heater", "r1", noon),
            ("m", "USAGE", noon, 60_000, "12345678901234567890", -2, "KWH", None, None, "dev", "r2", noon),
            ("m", "ONLINE", noon, 0, 1, 0, None, None, None, "openadr2:heater", "r3", noon),
            ("year", "USAGE", noon, 365 * 86_400_000, 1, 0, "KWH", None, None, "dev", "r2", noon),
        ]  # fmt: skip
        marks = ", ".join("?" * 12)
        db.conn.executemany(f"INSERT INTO readings VALUES ({marks})", kept)  # noqa: S608
    async with open_store(path):
        pass
    found = {(r["meter"], r["kind"]): r for r in kept_readings(path)}
    heater = found["openadr2:heater:m", "usage"]
    assert (heater["amount"], heater["unit"], heater["since"]) == (Decimal("1.250"), "KWH", noon)
    assert (heater["quality"], heater["client"], heater["report"]) == (
        "good",
        "openadr2:heater",
        "r1",
    )
    assert found["openadr3:dev:m", "usage"]["amount"] == Decimal("123456789012345678.90")
    assert found["openadr2:heater:m", "online"]["amount"] == 1
    assert len(found) == 3, "what has no place any more is left out, and holds nothing up"


def test_vacuum_and_counts(tmp_path):
    path = tmp_path / "bridge.db"
    files.prepare(path)
    before, after = files.vacuum(path)
    assert after <= before
    assert files.counts(path)["meta"] == 3


def test_a_backup_that_cannot_be_written_leaves_nothing(tmp_path):
    files.prepare(tmp_path / "bridge.db")
    (tmp_path / "taken").mkdir()
    with pytest.raises(StoreError, match="is not a file"):
        files.backup(tmp_path / "bridge.db", tmp_path / "taken")
    with pytest.raises(StoreError, match="could not be written"):
        files.backup(tmp_path / "bridge.db", tmp_path / "nowhere" / "copy.db")
    assert not list(tmp_path.glob("*.unfinished"))


def test_a_backup_onto_the_store_or_onto_something_else_is_refused(tmp_path):
    path, other = tmp_path / "bridge.db", tmp_path / "bridge.toml"
    files.prepare(path)
    other.write_text("[vtn]\n")
    with pytest.raises(StoreError, match="is the store itself"):
        files.backup(path, path)
    with pytest.raises(StoreError):
        files.backup(path, other)
    assert other.read_text() == "[vtn]\n"
    files.backup(path, tmp_path / "copy.db")
    files.backup(path, tmp_path / "copy.db")


@pytest.mark.parametrize(
    "statement",
    [
        "PRAGMA journal_mode = WAL",
        "CREATE TABLE _sqlite_migrations (id INTEGER PRIMARY KEY, migration_set TEXT, name TEXT, applied_at TEXT)",
    ],
)
def test_a_store_killed_while_it_was_made_is_made_again(tmp_path, statement):
    path = tmp_path / "bridge.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement)
        db.commit()
    assert files.prepare(path)
    assert files.check(path)["migrations"]


def test_a_place_where_no_store_can_be_made_is_said():
    from pathlib import Path

    with pytest.raises(StoreError, match="cannot be made"):
        files.prepare(Path("/proc/nope/bridge.db"))
    with (
        pytest.raises(StoreError, match="cannot be made"),
        files.locked(Path("/proc/nope/bridge.db")),
    ):
        pass
