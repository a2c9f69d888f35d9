"""`kill -9` at seeded instants of a busy replay, restarted each time: nothing lost, nothing doubled.

Shortened unless BRIDGE_LONG=1, which makes it 100 kills.
"""

import asyncio
import json
import os
import random
import sqlite3
import subprocess
import sys
from collections import defaultdict
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from bridge.store.packing import from_columns, unpack
from tests.peers import LONG, Device, StockUtility, eventually, started

KILLS = 100 if LONG else 8
LENGTH = 2  # seconds of an interval
UTILITY = """
[[sources]]
kind = "openadr2"
name = "utility"
vtn_url = "{url}"
ven_name = "bridge"
cert = "{certs}/ven.crt"
key = "{certs}/ven.key"
ca = "{certs}/ca.crt"
"""
SETTINGS = f"""
[store]
path = "bridge.db"
[vtn]
listen = "127.0.0.1:0"
{UTILITY}"""
DEVICE = (
    '[[devices]]\nkind = "webhook"\nname = "{name}"\nurl = "{url}"\nrefresh = "1h"\nlead = "3s"\n'
)


def planned(begin, seconds, draw):
    """Return events with intervals of seconds that fill a time, prices and levels."""
    events, at, number = [], begin, 0
    while at < begin + timedelta(seconds=seconds):
        count = draw.randint(3, 6)
        prices = [round(draw.uniform(-0.1, 1.0), 6) for _ in range(count)]
        events.append({
            "id": f"P{number}", "context": "http://u/EV2A", "start": at.isoformat(),
            "signals": [{"name": "ELECTRICITY_PRICE", "type": "price", "values": prices, "seconds": LENGTH}],
        })  # fmt: skip
        if number % 2:
            events.append({
                "id": f"L{number}", "context": "http://u/CPP", "start": (at + timedelta(seconds=1)).isoformat(),
                "signals": [{"name": "SIMPLE", "type": "level", "values": [1, 2], "seconds": LENGTH}],
            })  # fmt: skip
        at += timedelta(seconds=count * LENGTH)
        number += 1
    return events


async def launch(path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge", "run", "-c", str(path),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    line = await asyncio.wait_for(process.stdout.readline(), 30)
    assert json.loads(line)["event"] == "ready"
    return process


@pytest.mark.long
@pytest.mark.timeout(1800 if LONG else 180)
async def test_killed_again_and_again(certs, tmp_path):
    draw = random.Random(20270314)
    # A restart takes about as long as an interval, so that moments are missed as well.
    pauses = [draw.uniform(0.05, 2.5) for _ in range(KILLS)]
    begin = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=4)
    events = planned(begin, sum(pauses) + KILLS * 1.5, draw)
    end = max(
        datetime.fromisoformat(e["start"])
        + timedelta(seconds=len(e["signals"][0]["values"]) * LENGTH)
        for e in events
    )
    devices = {"one": Device(), "two": Device()}
    utility = StockUtility(certs / "ec", events=events, poll=1)
    async with started(utility, *devices.values()):
        text = SETTINGS.format(url=utility.url, certs=certs / "ec")
        text += "".join(DEVICE.format(name=n, url=d.url) for n, d in devices.items())
        (tmp_path / "bridge.toml").write_text(text)
        for pause in pauses:
            process = await launch(tmp_path / "bridge.toml")
            await asyncio.sleep(pause)
            process.kill()
            await process.wait()
        process = await launch(tmp_path / "bridge.toml")
        await asyncio.sleep(max(0.0, (end - datetime.now(UTC)).total_seconds()) + 3)
        await eventually(lambda: not owed(tmp_path), 30)
        process.terminate()
        assert await process.wait() == 0
    for name, device in devices.items():
        check_device(tmp_path, name, device, events)
    check_prices(tmp_path, events)


def query(folder, sql, *values):
    with closing(sqlite3.connect(folder / "bridge.db")) as db:
        db.row_factory = sqlite3.Row
        return [dict(r) for r in db.execute(sql, values)]


def owed(folder):
    return query(folder, "SELECT 1 FROM deliveries WHERE outcome IS NULL")


def check_device(folder, name, device, events):
    bodies = defaultdict(set)
    for headers, body in device.received:
        bodies[headers["webhook-id"]].add(body)
    assert all(len(b) == 1 for b in bodies.values()), "one id came with two bodies"
    rows = query(
        folder,
        "SELECT * FROM deliveries WHERE device = ? AND type <> 'state.changed' ORDER BY turn",
        name,
    )
    # What is recorded as delivered is there, and what is there is recorded.
    assert {r["id"] for r in rows if r["outcome"] == "delivered"} <= set(bodies)
    assert {r["outcome"] for r in rows} <= {"delivered", "expired"}
    # In order: first arrivals follow the order in which the rows were written.
    order = {r["id"]: r["turn"] for r in rows}
    first = list(
        dict.fromkeys(h["webhook-id"] for h, _ in device.received if h["webhook-id"] in order)
    )
    assert first == sorted(first, key=order.get)
    # Every event and every moment is there or recorded as expired, exactly once.
    names = {
        e["id"]: e["name"]
        for e in query(
            folder,
            "SELECT e.id, o.foreign_id AS name FROM events e JOIN origins o ON o.id = e.origin",
        )
    }
    seen = defaultdict(list)
    for row in rows:
        seen[names[row["event"]], row["type"]].append(row["instant"])
    for event in events:
        start = datetime.fromisoformat(event["start"]).timestamp() * 1000
        intervals = [start + n * LENGTH * 1000 for n in range(len(event["signals"][0]["values"]))]
        assert len(seen[event["id"], "event.received"]) == 1, event["id"]
        known = seen[event["id"], "event.received"][0]
        if known >= intervals[-1] + LENGTH * 1000:
            continue  # the bridge was down for the whole of it
        assert seen[event["id"], "event.started"] == [start]
        assert seen[event["id"], "event.ended"] == [intervals[-1] + LENGTH * 1000]
        assert seen[event["id"], "interval.started"] == [
            i for i in intervals if i + LENGTH * 1000 > known
        ]


def check_prices(folder, events):
    wanted = {}
    for event in events:
        signal = event["signals"][0]
        if signal["type"] == "price":
            start = datetime.fromisoformat(event["start"])
            for n, value in enumerate(signal["values"]):
                at = start + timedelta(seconds=n * LENGTH)
                wanted[int(at.timestamp() * 1000)] = Decimal(str(value))
    found = {
        kept.price.start: from_columns(kept.price.value, kept.price.exponent)
        for row in query(folder, "SELECT * FROM prices")
        for kept in unpack(row["data"], row["day"], {0: ()})
    }
    assert found == wanted
