"""OpenADR 3: reads against bare aiohttp handlers, writes with many who listen, pages, reports."""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from bridge.app import running
from bridge.config import Settings
from bridge.parties import Caller
from bridge.store.clients import ROLES
from tests.openadr3.clients import BASE, calling, prices, static, subscription, with_clients

REQUESTS, CONNECTIONS = 6_000, 4
REPORT_SECONDS = 60 if os.environ.get("BRIDGE_LONG") else 10
CONFIG = """
[store]
path = "bridge.db"
[vtn]
listen = "127.0.0.1:0"
[[clients]]
id = "bl"
role = "bl"
secret_file = "bl.secret"
"""
BARE = """
import asyncio, sys
from aiohttp import web

body = sys.stdin.buffer.read()

async def whole(request):
    return web.Response(body=body, content_type="application/json")

async def unchanged(request):
    return web.Response(status=304, headers={"ETag": '"x"'})

async def main():
    site = web.Application()
    site.router.add_get("/whole", whole)
    site.router.add_get("/unchanged", unchanged)
    runner = web.AppRunner(site, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
BL = Caller("bl", frozenset(ROLES["bl"]), "bl")
SINK = "http://127.0.0.1:9/sink"


async def rate(port, path, *headers):
    """Return requests a second over a few kept-alive connections, one at a time on each."""
    lines = "\r\n".join((f"GET {path} HTTP/1.1", "Host: x", *headers))
    request = f"{lines}\r\n\r\n".encode()

    async def ask(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(count):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (
                    line
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length:")
                ),
                b": 0",
            )
            await reader.readexactly(int(length.partition(b":")[2]))
        writer.close()

    await ask(300)
    began = time.perf_counter()
    await asyncio.gather(*(ask(REQUESTS // CONNECTIONS) for _ in range(CONNECTIONS)))
    return REQUESTS / (time.perf_counter() - began)


@contextmanager
def bare(body):
    process = subprocess.Popen(
        [sys.executable, "-c", BARE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.stdin.write(body)
    process.stdin.close()
    try:
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


async def reads(show):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bl.secret").write_text("1001-business-logic")
        (folder / "bridge.toml").write_text(CONFIG)
        process = subprocess.Popen(  # noqa: ASYNC220 -- nothing else runs meanwhile
            [sys.executable, "-m", "bridge", "run", "-c", str(folder / "bridge.toml")],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            url = json.loads(process.stdout.readline())["vtn"]
            async with calling(url) as vtn:
                program = await vtn("bl").made("/programs", {"programName": "P"})
                await vtn("bl").made(
                    "/events", prices(program["id"], "2030-01-01T00:00:00Z", *[0.125] * 24)
                )
                found = await vtn("bl").get("/events", headers={"Accept-Encoding": "identity"})
            port, token = int(url.rpartition(":")[2]), f"Authorization: Bearer {static('bl')}"
            tag = f"If-None-Match: {found.headers['ETag']}"
            with bare(found.text.encode()) as other:
                for what, path, plain, *headers in (
                    ("200", f"{BASE}/events", "/whole"),
                    ("304", f"{BASE}/events", "/unchanged", tag),
                ):
                    pairs = [
                        (await rate(port, path, token, *headers), await rate(other, plain))
                        for _ in range(3)
                    ]
                    ours, theirs = max(p[0] for p in pairs), max(p[1] for p in pairs)
                    show(
                        f"GET /events, one event of 24 intervals, {what}",
                        f"{ours:,.0f}/s = {ours / theirs:.2f} × bare aiohttp", "≥ 0.5 ×",
                    )  # fmt: skip
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()


@asynccontextmanager
async def bridge_in(folder):
    settings = {"store": {"path": folder / "bridge.db"}, **with_clients(folder)}
    async with (
        running(Settings.model_validate(settings)) as bridge,
        calling(bridge.addresses["vtn"]) as vtn,
    ):
        yield bridge, vtn


async def writes(show, subscriptions, vens):
    """Time POST /events with so many who listen, and how long until all have a row."""
    with tempfile.TemporaryDirectory() as name:
        async with bridge_in(Path(name)) as (bridge, vtn):
            catalog, now = bridge.store.catalog, datetime.now(UTC)
            work = [
                catalog.create(
                    "SUBSCRIPTION", BL, subscription(SINK, "EVENT", operations=["CREATE"]), now
                )
                for _ in range(subscriptions)
            ]
            work += [
                catalog.create(
                    "VEN", BL, {"clientID": f"c{n}", "venName": f"v{n}", "targets": [f"g{n}"]}, now
                )
                for n in range(vens)
            ]
            await asyncio.gather(*work)
            program = await vtn("bl").made("/programs", {"programName": "P"})
            document, times = prices(program["id"], "2030-01-01T00:00:00Z", *[0.125] * 24), []
            for _ in range(30):
                began = time.perf_counter()
                await vtn("bl").made("/events", document)
                times.append((time.perf_counter() - began) * 1000)
                await asyncio.sleep(0.02)
    times.sort()
    show(
        f"POST /events, {subscriptions:,} subscriptions, {vens:,} vens",
        f"p50 {statistics.median(times):.1f} p95 {times[int(len(times) * 0.95)]:.1f} ms", "(no goal)",
    )  # fmt: skip


async def pages(show):
    with tempfile.TemporaryDirectory() as name:
        async with bridge_in(Path(name)) as (bridge, vtn):
            now = datetime.now(UTC)
            await asyncio.gather(*(
                bridge.store.catalog.create("PROGRAM", BL, {"programName": f"P{n}"}, now) for n in range(500)
            ))  # fmt: skip
            for who, again in (("bl", "first"), ("ven1", "first"), ("bl", "again")):
                began = time.perf_counter()
                for skip in range(0, 500, 50):
                    found = await vtn(who).get("/programs", params={"skip": skip, "limit": 50})
                    assert len(found.json) == 50
                took = (time.perf_counter() - began) * 1000
                show(
                    f"500 programs by pages of 50, {who}, {again} time",
                    f"{took:.0f} ms",
                    "(no goal)",
                )


async def reports(show, a_second=200):
    with tempfile.TemporaryDirectory() as name:
        async with bridge_in(Path(name)) as (_, vtn):
            program = await vtn("bl").made("/programs", {"programName": "P"})
            event = await vtn("bl").made(
                "/events", prices(program["id"], "2030-01-01T00:00:00Z", 1)
            )
            usage = {
                "eventID": event["id"], "clientName": "c",
                "resources": [{"resourceName": "m", "intervalPeriod": {"start": "2030-01-01T00:00:00Z", "duration": "PT1H"},
                               "intervals": [{"id": 0, "payloads": [{"type": "USAGE", "values": [0.5]}]}]}],
            }  # fmt: skip
            body, times, late = json.dumps(usage), [], 0.0
            began = time.perf_counter()

            async def send(due):
                nonlocal late
                late = max(late, time.perf_counter() - due)
                sent = time.perf_counter()
                answer = await vtn("ven1").post("/reports", body)
                assert answer.status == 201, answer.text
                times.append((time.perf_counter() - sent) * 1000)

            tasks = []
            for n in range(a_second * REPORT_SECONDS):
                due = began + n / a_second
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                tasks.append(asyncio.create_task(send(due)))
            await asyncio.gather(*tasks)
            took = time.perf_counter() - began
    times.sort()
    show(
        f"{a_second} reports a second for {REPORT_SECONDS} s, each kept",
        f"{len(times) / took:.0f}/s, p50 {statistics.median(times):.1f} p99 {times[int(len(times) * 0.99)]:.0f} ms",
        "200/s",
    )  # fmt: skip


async def bench(show):
    await reads(show)
    for subscriptions, vens in ((0, 0), (1000, 0), (0, 1000), (1000, 1000)):
        await writes(show, subscriptions, vens)
    await pages(show)
    await reports(show)


if __name__ == "__main__":
    asyncio.run(
        bench(lambda what, found, goal: print(f"{what:52} {found:>40}   goal {goal}", flush=True))
    )
