"""`make bench`: what is measured, beside the goal, each as a ratio in the same run."""

import asyncio
import json
import os
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

from aiohttp import ClientSession, TCPConnector, web

from bridge.app import running
from bridge.config import Settings
from bridge.interfaces import Batch
from bridge.model import OptPolicy
from bridge.store import open_store
from bridge.store.files import prepare
from bridge.wire.openadr2 import read_listing
from bridge.wire.openleadr import read_message
from tests.bench import greenbutton, openadr2, openadr3, prices, usage
from tests.peers import distribute, event, eventually, signal
from tests.test_app import CONFIG

SOURCE = SimpleNamespace(
    name="s", opt_policy=OptPolicy(), max_open_ended=timedelta(hours=24), program_names={}
)
TODAY = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def show(what, found, goal):
    print(f"{what:52} {found:>26}   goal {goal}", flush=True)


def day(number, start=None):
    begin = start or TODAY + timedelta(days=number + 1)
    return event(f"DAY-{number}", begin, signal([f"0.{n:04}" for n in range(1000, 1024)]))


def batch(*events):
    listing = read_listing(read_message(distribute(*events).encode()).element)

    async def nothing():
        pass

    return Batch(listing.dispatches, "r", False, nothing)


class Sink:
    """A device in a process of its own would measure the network; in this one it measures us."""

    def __init__(self):
        self.times: dict[str, list[float]] = {}
        self.came = asyncio.Event()

    async def answer(self, request):
        self.times.setdefault(request.match_info["name"], []).append(time.perf_counter())
        self.came.set()
        if request.match_info["name"] == "dead":
            await asyncio.sleep(60)
        return web.Response(status=204)

    async def start(self):
        site = web.Application()
        site.router.add_post("/{name}", self.answer)
        self.runner = web.AppRunner(site, access_log=None, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0, backlog=2048).start()
        return f"http://127.0.0.1:{self.runner.addresses[0][1]}"


def settings(folder, url, names, **device):
    return Settings.model_validate({
        "store": {"path": Path(folder) / "bridge.db"},
        "vtn": {"listen": "127.0.0.1:0"},
        "sources": [{"kind": "openadr2", "name": "s", "ven_name": "v", "vtn_url": "http://127.0.0.1:9/x"}],
        "devices": [{"kind": "webhook", "name": n, "url": f"{url}/{n}", "refresh": "1d", **device} for n in names],
    })  # fmt: skip


async def latency():
    sink = Sink()
    url, found = await sink.start(), []
    with tempfile.TemporaryDirectory() as folder:
        async with running(settings(folder, url, ["d"])) as bridge:
            await eventually(lambda: "d" in sink.times)
            for number in range(200):
                await asyncio.sleep(0.02)
                sink.times.clear()
                sink.came.clear()
                one = batch(day(number))
                await bridge.store.events.save(SOURCE, one, datetime.now(UTC))
                committed = time.perf_counter()
                await sink.came.wait()
                found.append((sink.times["d"][0] - committed) * 1000)
    await sink.runner.cleanup()
    found.sort()
    show(
        "event committed → request at an idle device, p50",
        f"{statistics.median(found):.2f} ms",
        "≤ 5 ms",
    )
    show("the same, p99", f"{found[int(len(found) * 0.99)]:.2f} ms", "≤ 25 ms")


async def fan_out(count=1000):
    """The bridge and a bare client post the same bodies to the same devices."""
    sink = Sink()
    url, names = await sink.start(), [f"d{n}" for n in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        async with running(settings(folder, url, [*names, "dead"], timeout="20s")) as bridge:
            await eventually(lambda: len(sink.times) == count + 1, 60)
            await eventually(lambda: bridge.health.job("fan-out").last_success)
            await asyncio.sleep(1)
            times = []
            for number in range(3):
                sink.times.clear()
                began = time.perf_counter()
                await bridge.store.events.save(SOURCE, batch(day(number)), datetime.now(UTC))
                await eventually(lambda: all(n in sink.times for n in names), 60)
                times.append(max(sink.times[n][0] for n in names) - began)
                await asyncio.sleep(1.5)
        with closing(sqlite3.connect(Path(folder) / "bridge.db")) as db:
            bodies = [
                r[0]
                for r in db.execute(
                    "SELECT body FROM deliveries WHERE type = 'event.received' AND device <> 'dead' LIMIT ?",
                    (count,),
                )
            ]
    bare = []
    async with ClientSession(connector=TCPConnector(limit=1000)) as http:

        async def post(name, body):
            async with http.post(f"{url}/{name}", data=body):
                pass

        for _ in range(4):
            sink.times.clear()
            began = time.perf_counter()
            await asyncio.gather(*(post(n, b) for n, b in zip(names, bodies, strict=True)))
            bare.append(max(sink.times[n][0] for n in names) - began)
    await sink.runner.cleanup()
    ours, theirs = min(times), min(bare[1:])
    show(
        f"event → last of {count} devices, one of them dead",
        f"{ours:.2f} s = {ours / theirs:.2f} × bare client",
        "≤ 2 ×",
    )


async def ingest():
    begin, rate = TODAY - timedelta(days=400), {}
    listing = distribute(*(day(n, begin + timedelta(days=n)) for n in range(365))).encode()
    with tempfile.TemporaryDirectory() as folder:
        async with open_store(Path(folder) / "b.db") as store:
            await store.sources.sync(["s"], TODAY)
            began = time.perf_counter()
            read = read_listing(read_message(listing).element)
            rate["read"] = time.perf_counter() - began

            async def nothing():
                pass

            began = time.perf_counter()
            await store.events.save(SOURCE, Batch(read.dispatches, "r", False, nothing), TODAY)
            rate["save"] = time.perf_counter() - began
            began = time.perf_counter()
            await store.events.save(SOURCE, Batch(read.dispatches, "r", False, nothing), TODAY)
            rate["again"] = time.perf_counter() - began
        size = (Path(folder) / "b.db").stat().st_size
        with closing(sqlite3.connect(Path(folder) / "b.db")) as db:
            pages = (
                db.execute(
                    "SELECT sum(pgsize), (SELECT 8760) FROM dbstat WHERE name = 'prices'"
                ).fetchone()
                if _has_dbstat(db)
                else (0, 1)
            )
    hours = 365 * 24
    show(
        "ingest of a year of price days, reading XML",
        f"{hours / rate['read']:,.0f} intervals/s",
        "(no goal)",
    )
    show(
        "the same, kept with prices and change rows",
        f"{hours / rate['save']:,.0f} intervals/s",
        "(no goal)",
    )
    show("an identical repeat of the year", f"{rate['again'] * 1000:.0f} ms", "(no goal)")
    if pages[0]:
        show("price history, an interval", f"{pages[0] / pages[1]:.1f} bytes", "≤ 25 bytes")
    show("database after a year of one program", f"{size / 1e6:.1f} MB", "(no goal)")


def _has_dbstat(db):
    try:
        db.execute("SELECT 1 FROM dbstat LIMIT 1")
    except sqlite3.Error:
        return False
    return True


def fill(path, megabytes):
    prepare(path)
    with closing(sqlite3.connect(path)) as db:
        rows = ((n, 0, "x", "y", "z" * 1000, "{}") for n in range(megabytes * 1000))
        db.executemany(
            "INSERT INTO changes (at, operation, object_type, object_id, before, after) VALUES (?, ?, ?, 'o', ?, ?)",
            ((r[1], r[2], r[3], r[4], r[5]) for r in rows),
        )
        seq = db.execute("SELECT max(seq) FROM changes").fetchone()[0]
        for name in ("deliver", "notify"):
            db.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", (name, seq))
        db.commit()


def start_and_memory(megabytes):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        nowhere = "http://127.0.0.1:9/x"
        (path / "bridge.toml").write_text(CONFIG.format(vtn=nowhere, device=nowhere))
        if megabytes:
            fill(path / "bridge.db", megabytes)
        for _ in range(2):  # the first run compiles and caches
            began = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-m", "bridge", "run", "-c", str(path / "bridge.toml")],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            json.loads(process.stdout.readline())
            ready = time.perf_counter() - began
            time.sleep(2)
            rss = next(
                int(line.split()[1])
                for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
                if line.startswith("VmRSS")
            )
            process.terminate()
            process.wait()
            process.stdout.close()
    bare = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", "import aiohttp, pydantic, lxml.etree, openleadr"], check=True
    )
    bare = time.perf_counter() - bare
    show(
        f"start to ready with a database of {megabytes} MB",
        f"{ready:.2f} s ({bare:.2f} s bare imports)",
        "≤ 1.5 s",
    )
    show("resident memory, idle", f"{rss / 1024:.0f} MB", "≤ 110 MB")


def main():
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores\n")
    asyncio.run(latency())
    asyncio.run(fan_out())
    asyncio.run(ingest())
    asyncio.run(prices.bench(show))
    asyncio.run(openadr2.bench(show))
    asyncio.run(openadr3.bench(show))
    greenbutton.bench(show)
    asyncio.run(usage.bench(show))
    start_and_memory(300)
    print(
        f"\n(the bench itself: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB at most)"
    )


if __name__ == "__main__":
    main()
