"""Usage at the size of a small utility: bytes, rates and queries, beside bare sqlite3.

A year of quarter-hours of 1,000 meters is 35 million readings. By default a twentieth of them is
made, with BRIDGE_LONG=1 all.
"""

import asyncio
import json
import random
import sqlite3
import statistics
import tempfile
import time
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

from bridge.clock import WallClock
from bridge.intake import take_in
from bridge.parties import Caller
from bridge.store import open_store
from bridge.usage import Measured, Origin, Reading, Stream, UsageQuestion
from bridge.vtn.usage import Usage
from bridge.web import CALLER, RateLimit
from tests import greenbutton
from tests.peers import LONG

METERS = 1000 if LONG else 50
ZONE = "America/Los_Angeles"
QUARTER = 900_000
BEGIN = datetime(2025, 1, 1, 8, tzinfo=UTC)
START = int(BEGIN.timestamp() * 1000)
COUNT = 365 * 96
TOKEN = Caller("bench", frozenset({"usage:read", "usage:raw"}))


def values(number):
    """Return a year of quarter-hours in Wh, with days and seasons in it."""
    draw = random.Random(number)
    base = [150 + 100 * (28 <= n < 80) for n in range(96)]
    return [base[n % 96] + draw.randrange(0, 400) for n in range(COUNT)]


async def fill(store):
    """Keep every meter's year, a month at a time; return readings a second."""
    spent = 0.0
    for number in range(METERS):
        said = [Reading(START + n * QUARTER, QUARTER, v, -3) for n, v in enumerate(values(number))]
        stream, origin = Stream(f"m{number}", "import"), Origin("greenbutton", reference="bench")
        began = time.perf_counter()
        for n in range(0, COUNT, 5000):
            piece = [Measured(stream, said[n : n + 5000], origin, zone=ZONE)]
            await store.meters.keep(piece, BEGIN, durable=False)
        spent += time.perf_counter() - began
    return METERS * COUNT / spent


def fill_bare(path):
    """Write the same rows with executemany; return readings a second."""
    spent = 0.0
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(
            "CREATE TABLE readings (meter INTEGER, start INTEGER, length INTEGER, value INTEGER,"
            " PRIMARY KEY (meter, start)) WITHOUT ROWID"
        )
        for number in range(METERS):
            rows = [(number, START + n * QUARTER, QUARTER, v) for n, v in enumerate(values(number))]
            began = time.perf_counter()
            db.execute("BEGIN")
            db.executemany("INSERT OR REPLACE INTO readings VALUES (?, ?, ?, ?)", rows)
            db.execute("COMMIT")
            spent += time.perf_counter() - began
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return METERS * COUNT / spent


def bare(db, number, first, last, key):
    """Read rows, add them up by local time, dump them."""
    zone = ZoneInfo(ZONE)
    lo, hi = (
        int(datetime(d.year, d.month, d.day, tzinfo=zone).timestamp() * 1000) for d in (first, last)
    )
    found = db.execute(
        "SELECT start, value FROM readings WHERE meter = ? AND start >= ? AND start < ? ORDER BY start",
        (number, lo, hi),
    ).fetchall()  # fmt: skip
    if key is None:
        return json.dumps([{"start": s, "end": s + QUARTER, "value": v / 1000} for s, v in found])
    sums = {}
    for start, value in found:
        at = key(datetime.fromtimestamp(start / 1000, zone))
        sums[at] = sums.get(at, 0) + value
    return json.dumps([{"start": str(at), "value": v / 1000} for at, v in sums.items()])


QUESTIONS = (
    ("a day of quarter-hours", "native", 1, None),
    ("a month of days", "daily", 31, datetime.date),
    ("a year of months", "monthly", 365, lambda at: (at.year, at.month)),
    ("a year of hours", "hourly", 365, lambda at: (at.date(), at.hour)),
)


class Asked(dict):
    """As much of a request as a handler looks at."""

    def __init__(self, **query):
        from multidict import MultiDict

        super().__init__({CALLER: TOKEN})
        self.query, self.headers = MultiDict(query), {}


async def queries(store, show, path):
    usage = Usage(store.meters, store.contracts, store.prices, WallClock())
    draw = random.Random(2)
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        for what, resolution, length, key in QUESTIONS:
            spent = {"bare": [], "ours": []}
            for _ in range(40 if length < 100 else 12):
                number = draw.randrange(METERS)
                first = date(2025, 1, 1) + timedelta(days=draw.randrange(max(1, 364 - length)))
                last = first + timedelta(days=length)
                began = time.perf_counter()
                bare(db, number, first, last, key)
                middle = time.perf_counter()
                edges = [
                    datetime(d.year, d.month, d.day, tzinfo=ZoneInfo(ZONE)) for d in (first, last)
                ]
                request = Asked(
                    meter=f"m{number}", resolution=resolution, limit="10000",
                    start=edges[0].isoformat(), end=edges[1].isoformat(),
                )  # fmt: skip
                reply = await usage.usage(request)
                spent["bare"].append(middle - began)
                spent["ours"].append(time.perf_counter() - middle)
                assert reply.status == 200
            a, b = (statistics.median(spent[k]) * 1000 for k in ("ours", "bare"))
            show(
                f"usage: {what} of one meter",
                f"{a:.1f} ms = {a / b:.2f} x bare ({b:.1f} ms)",
                "(no goal)",
            )


def bare_import(file, path):
    """Read a file with bare iterparse, write its rows with executemany."""

    def rows():
        start = duration = None
        for _, element in ElementTree.iterparse(file):  # noqa: S314 -- our own
            name = element.tag.rpartition("}")[2]
            if name == "start":
                start = int(element.text)
            elif name == "duration":
                duration = int(element.text)
            elif name == "value":
                yield start * 1000, duration * 1000, int(element.text)
            elif name == "entry":
                element.clear()

    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(
            "CREATE TABLE readings (start INTEGER PRIMARY KEY, length INTEGER, value INTEGER)"
        )
        db.execute("BEGIN")
        db.executemany("INSERT OR REPLACE INTO readings VALUES (?, ?, ?)", rows())
        db.execute("COMMIT")
        return db.execute("SELECT count(*), sum(value) FROM readings").fetchone()


async def imports(show):
    """A Green Button file of three years of quarter-hours, taken in beside the bare way."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "download.xml"
        with file.open("wb") as made:
            made.writelines(greenbutton.long(3 * COUNT))
        spent = {"ours": [], "bare": []}
        for n in range(3):
            began = time.perf_counter()
            count, total = bare_import(file, Path(folder) / f"bare{n}.db")
            middle = time.perf_counter()
            async with open_store(Path(folder) / f"ours{n}.db") as store:
                opened = time.perf_counter()
                taken = await take_in([("download.xml", file)], store.meters, WallClock())
                spent["ours"].append(time.perf_counter() - opened)
                (stream,) = await store.meters.streams(UsageQuestion())
                (bucket,) = await store.meters.buckets(stream, [stream.first, stream.last])
            spent["bare"].append(middle - began)
            assert (taken.readings, int(bucket.value * 1000)) == (count, total)
        ours, plain = (3 * COUNT / statistics.median(spent[k]) for k in ("ours", "bare"))
        show(
            "Green Button import",
            f"{ours:,.0f}/s = {ours / plain:.2f} x bare ({plain:,.0f}/s)",
            "≥ 0.5 x",
        )


def limiter(show):
    limit, times = RateLimit(10**9), 200_000
    began = time.perf_counter()
    for n in range(times):
        limit.take(n % 100)
    spent = (time.perf_counter() - began) / times * 1e6
    show("the rate limit, of each request", f"{spent:.2f} µs", "(no goal)")


async def bench(show):
    with tempfile.TemporaryDirectory() as folder:
        ours, plain = Path(folder) / "bridge.db", Path(folder) / "bare.db"
        async with open_store(ours) as store:
            rate = await fill(store)
            began, dates = time.perf_counter(), 0
            while await store.meters.refresh(datetime(2026, 6, 1, tzinfo=UTC)):
                dates += 500
            spent = time.perf_counter() - began
            others = fill_bare(plain)
            with closing(sqlite3.connect(ours)) as db:
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            size, other = (p.stat().st_size / (METERS * COUNT) for p in (ours, plain))
            show(
                f"{METERS} meters, a year of quarter-hours: size",
                f"{size:.1f} bytes a reading",
                f"bare: {other:.1f}",
            )
            show(
                "the same: kept",
                f"{rate:,.0f}/s = {rate / others:.2f} x bare executemany",
                "(no goal)",
            )
            show("the same: sums of dates", f"{dates / spent:,.0f} dates/s", "(no goal)")
            await queries(store, show, plain)
    limiter(show)
    await imports(show)


if __name__ == "__main__":
    asyncio.run(bench(lambda what, found, goal: print(f"{what:52} {found:>30}   goal {goal}")))
