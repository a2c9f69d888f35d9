"""Prices at the size of two utilities: bytes, rates, queries alone and while a day is written.

A year of PG&E and SCE is 944 and 690 series. By default a tenth of them is made, with
BRIDGE_LONG=1 all: 14.3 million intervals, made from a recorded curve where it is at hand.
"""

import asyncio
import json
import random
import resource
import sqlite3
import statistics
import tempfile
import time
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import msgpack

from bridge.interfaces import Batch
from bridge.model import Component, OptPolicy, Price, PriceQuestion, Publication, Tariff
from bridge.store import open_store
from bridge.wire import gridx
from tests.peers import LONG
from tests.utilities import PGE, RECORDED, SCE, recorded_year

YEAR, HOUR = date(2025, 1, 1), timedelta(hours=1)
ZONE = "America/Los_Angeles"
SHARE = 1 if LONG else 10
UTILITIES = (("PGE", 944 // SHARE, PGE), ("SCE", 690 // SHARE, SCE))
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
SOURCE = SimpleNamespace(
    name="s", opt_policy=OptPolicy(), max_open_ended=timedelta(hours=24), program_names={}
)


def curve():
    """Return a year of (start, price in millionths of a dollar)."""
    if RECORDED.exists():
        rows = [row for rows in recorded_year().values() for row in rows]
        return [(start, int(Decimal(price).scaleb(6))) for start, price in sorted(rows)]
    draw, begin = random.Random(1), datetime(2025, 1, 1, 8, tzinfo=UTC)
    return [(begin + n * HOUR, draw.randrange(-20_000, 110_000)) for n in range(8760)]


def prices(base, names, seed, *, parts=True):
    """Return a series: the curve, moved a little for each component."""
    draw, found = random.Random(seed), []
    for start, micro in base:
        amounts = [draw.randrange(0, 9_000) for _ in names[1:]]
        amounts = [micro + draw.randrange(-2_000, 2_000), *amounts]
        components = tuple(
            Component(name, kind, Decimal(a).scaleb(-6))
            for (name, kind), a in zip(names, amounts, strict=True)
        )
        total = Decimal(sum(amounts)).scaleb(-6)
        found.append(Price(start, start + HOUR, total, "Final", components if parts else ()))
    return found


def tariff(utility, number):
    return Tariff(
        f"{utility}-{number}", f"{utility}/R/{number}/", currency="USD", zone=ZONE,
        utility=utility, rate="R", circuit=str(number), curve=f"{utility}-CalFUSE-R",
        market="CAISO-DAM", settlement_unit="kWh",
    )  # fmt: skip


async def fill(store, base, *, parts=True):
    """Publish the year of every series, a piece at a time; return intervals a second."""
    spent = count = 0
    for utility, number, names in UTILITIES:
        for n in range(number):
            said = prices(base, names, n, parts=parts)
            began = time.perf_counter()
            batch = Batch(publications=[Publication(tariff(utility, n), said)], history=True)
            await store.events.save(SOURCE, batch, NOON)
            spent, count = spent + time.perf_counter() - began, count + len(said)
    return count, count / spent


def pages(path, count):
    """Return how many bytes of the file an interval takes, all tables and gaps included."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.stat().st_size / count


def bare(db, series, first, last, url):
    """Read the same rows with bare sqlite3 and dump the same JSON."""
    zone, days = ZoneInfo(ZONE), {}
    sets = {i: json.loads(n) for i, n in db.execute("SELECT id, names FROM component_sets")}
    lo, hi = ((d - date(1970, 1, 1)).days for d in (first, last))
    found = db.execute(
        "SELECT day, data FROM prices WHERE series = ? AND day BETWEEN ? AND ? ORDER BY day",
        (series, lo, hi + 1),
    )
    for day, data in found:
        n, begin, step, _, values, _, _, status, number, parts, _ = msgpack.unpackb(data)
        spread = [p if isinstance(p, list) else [p] * n for p in parts]
        for i in range(n):
            at = datetime.fromtimestamp(day * 86400 + begin / 1000 + i * step / 1000, zone)
            if first <= at.date() <= last:
                days.setdefault(at.date(), []).append(
                    {
                        "startIntervalTimeStamp": at.strftime("%Y-%m-%dT%H:%M:%S%z"),
                        "intervalPrice": f"{values[i] / 1e6:.6f}",
                        "priceStatus": status,
                        "priceComponents": [
                            {"component": c, "intervalPrice": f"{p[i] / 1e6:.6f}", "priceType": t}
                            for (c, t), p in zip(sets[number], spread, strict=True)
                        ],
                    }
                )
    data = [{"priceHeader": {"recordCount": len(d)}, "priceDetails": d} for d in days.values()]
    return json.dumps({"meta": {"requestURL": url}, "data": data}, separators=(",", ":"))


async def ours(store, utility, number, first, last):
    asked = gridx.Asked(utility, "R", str(number), None, first, last)
    days = await store.prices.days(utility, "R", str(number), None, first, last)
    return await asyncio.to_thread(gridx.write_pricing, asked, days, "u")


async def queries(store, show):
    """14 days and a year, against bare sqlite3 in the same run."""
    with closing(sqlite3.connect(f"file:{store.path}?mode=ro", uri=True)) as db:
        series = dict(
            db.execute("SELECT p.name, s.id FROM series s JOIN programs p ON p.id = s.program")
        )
        draw = random.Random(2)
        for length, times in ((14, 60), (365, 6)):
            for utility, number, _ in UTILITIES:
                spent = {"bare": [], "ours": []}
                for _ in range(times):
                    n = draw.randrange(number)
                    first = YEAR + timedelta(days=draw.randrange(max(1, 350 - length)))
                    last = first + timedelta(days=length - 1)
                    began = time.perf_counter()
                    text = bare(db, series[f"{utility}-{n}"], first, last, "u")
                    middle = time.perf_counter()
                    answer = await ours(store, utility, n, first, last)
                    spent["bare"].append(middle - began)
                    spent["ours"].append(time.perf_counter() - middle)
                    assert json.loads(text)["data"][0]["priceDetails"] == json.loads(answer)["data"][0]["priceDetails"]  # fmt: skip
                a, b = (statistics.median(spent[k]) * 1000 for k in ("ours", "bare"))
                show(
                    f"getPricing, {length} days of {utility} with components",
                    f"{a:.1f} ms = {a / b:.2f} x bare ({b:.1f} ms)",
                    "≤ 2 x" if length == 14 else "(no goal)",
                )
    began = time.perf_counter()
    found = await store.prices.prices(
        PriceQuestion("PGE-1", datetime(2025, 1, 1, tzinfo=UTC), limit=10_000)
    )
    show(f"{len(found):,} prices of a year from the store", f"{(time.perf_counter() - began) * 1000:.0f} ms", "(no goal)")  # fmt: skip


async def mixed(store, show):
    """14-day queries while a new day is written for every series."""
    idle, busy, draw, writing = [], [], random.Random(3), True

    async def write():
        nonlocal writing
        began, day = time.perf_counter(), datetime(2026, 1, 2, 8, tzinfo=UTC)
        base = [(day + n * HOUR, 50_000) for n in range(24)]
        for utility, number, names in UTILITIES:
            for n in range(number):
                batch = Batch(
                    publications=[Publication(tariff(utility, n), prices(base, names, n))]
                )
                await store.events.save(SOURCE, batch, NOON)
        writing = False
        return time.perf_counter() - began

    async def ask(times):
        first = YEAR + timedelta(days=draw.randrange(330))
        began = time.perf_counter()
        await ours(store, "PGE", draw.randrange(UTILITIES[0][1]), first, first + timedelta(days=13))
        times.append((time.perf_counter() - began) * 1000)

    for _ in range(50):
        await ask(idle)
    task = asyncio.create_task(write())
    while writing:
        await ask(busy)
    spent = await task
    count = sum(n for _, n, _ in UTILITIES)
    show(
        f"14-day queries while {count} series get a day",
        f"p50 {statistics.median(busy):.1f} ms, p95 {sorted(busy)[int(len(busy) * 0.95)]:.1f} ms",
        f"alone: p50 {statistics.median(idle):.1f} ms",
    )
    show("that day written, each series durable", f"{count / spent:,.0f} series/s", "(no goal)")


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


async def bench(show):
    base = curve()
    for parts in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            async with open_store(Path(folder) / "bridge.db") as store:
                before = resident()
                count, rate = await fill(store, base, parts=parts)
                size = pages(store.path, count)
                what = "with components" if parts else "total only"
                show(
                    f"price history, {count:,} intervals, {what}",
                    f"{size:.1f} bytes an interval",
                    "≤ 60" if parts else "≤ 25",
                )
                show(f"published to the store, {what}", f"{rate:,.0f} intervals/s", "(no goal)")
                show(
                    "resident memory, before and after",
                    f"{before:.0f} MB, {resident():.0f} MB",
                    "flat",
                )
                if parts:
                    await queries(store, show)
                    await mixed(store, show)
