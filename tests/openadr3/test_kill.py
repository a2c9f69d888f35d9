"""Bridge and broker are killed at seeded instants while clients write and a utility sends.

What was promised is told at least once, by webhook and by MQTT, and said again byte by byte.
Shortened unless BRIDGE_LONG=1, which makes it 50 kills.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
from collections import defaultdict
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from aiohttp import ClientError

from tests.openadr3.clients import SECRETS, calling, prices, subscription
from tests.openadr3.test_mqtt import Listener
from tests.peers import LONG, Device, StockUtility, eventually, started
from tests.test_kill import UTILITY, owed, query
from tests.utilities import GridX

KILLS = 50 if LONG else 6
SETTINGS = (
    """
[store]
path = "bridge.db"
[vtn]
listen = "127.0.0.1:0"
[vtn.callbacks]
allow_http = true
allow_networks = ["127.0.0.0/8"]
echo = "off"
[mqtt]
url = "{mqtt}"
private_topics = true
"""
    + UTILITY
    + """
[[sources]]
kind = "gridx"
name = "pge"
base_url = "{gridx}"
utility = "PGE"
series = [{{ rate = "EELEC", circuit = "013532223" }}]
[[clients]]
id = "bl"
role = "bl"
secret_file = "bl.secret"
"""
)


class Bridge:
    """A bridge in a process of its own, started again after each kill."""

    def __init__(self, folder):
        self.folder = folder

    async def start(self):
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bridge", "run", "-c", str(self.folder / "bridge.toml"),
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={k: v for k, v in os.environ.items() if not k.startswith("COV")},
        )  # fmt: skip
        line = await asyncio.wait_for(self.process.stdout.readline(), 30)
        self.url = json.loads(line)["vtn"]

    async def kill(self):
        self.process.kill()
        await self.process.wait()

    @asynccontextmanager
    async def client(self):
        async with calling(self.url) as vtn:
            yield vtn("bl")


@pytest.mark.long
@pytest.mark.timeout(1800 if LONG else 240)
async def test_killed_again_and_again(certs, tmp_path, mosquitto):
    draw = random.Random(20270314)
    broker, subscriber, utility, prices_api = (
        mosquitto(),
        Device(),
        StockUtility(certs / "ec", poll=1),
        GridX(),
    )
    await broker.start()
    listener = Listener(broker, "OpenADR/#", identifier="listener", clean_session=False)
    bridge = Bridge(tmp_path)
    promised = {}  # what was answered with 201: id → document
    try:
        async with started(subscriber, listener, utility, prices_api):
            (tmp_path / "bl.secret").write_text(SECRETS["bl"])
            (tmp_path / "bridge.toml").write_text(
                SETTINGS.format(
                    mqtt=broker.url, url=utility.url, certs=certs / "ec", gridx=prices_api.base
                )
            )
            await bridge.start()
            async with bridge.client() as bl:
                await bl.made("/subscriptions", subscription(subscriber.url, "EVENT", "PROGRAM"))
                program = (await bl.made("/programs", {"programName": "local"}))["id"]
            for n in range(KILLS):
                await utility.order(add=sent(n))
                if n == KILLS // 2:
                    prices_api.publish(today(), "0.125000")
                writing = asyncio.create_task(write(bridge, program, promised, draw.randint(1, 20)))
                await asyncio.sleep(draw.uniform(0.0, 1.2))
                victim = broker if draw.random() < 0.4 else bridge
                await victim.kill()
                await writing
                await asyncio.sleep(draw.uniform(0.0, 0.5))
                await victim.start()
            await eventually(lambda: len(names(tmp_path)) == KILLS, 60)
            day = f"EELEC-013532223-{today()}"
            for part in (subscriber, listener):
                await eventually(lambda p=part: day in created(p), 60)
                await eventually(lambda p=part: set(promised) <= set(created(p, "id")), 60)
                await eventually(lambda p=part: names(tmp_path) <= set(created(p)), 60)
            await eventually(lambda: not owed(tmp_path), 60)
            bridge.process.terminate()
            assert await bridge.process.wait() == 0
    finally:
        if bridge.process.returncode is None:
            await bridge.kill()
        await broker.stop()
    check_repeats(subscriber, listener, promised)


def today():
    return datetime.now(ZoneInfo("America/Los_Angeles")).date()


def sent(n):
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    values = [0.25 + n / 1000]
    return {
        "id": f"E{n}", "context": "http://u/EV2A", "start": start.isoformat(),
        "signals": [{"name": "ELECTRICITY_PRICE", "type": "price", "values": values, "seconds": 3600}],
    }  # fmt: skip


async def write(bridge, program, promised, count):
    """Write events until the bridge is gone; note what it has promised."""
    try:
        async with bridge.client() as bl:
            for n in range(count):
                answer = await bl.post("/events", prices(program, "2030-01-01T00:00:00Z", n))
                if answer.status == 201:
                    promised[answer.json["id"]] = answer.json
    except (ClientError, OSError):
        pass  # it was killed


def names(folder):
    """Return the utility's events that the bridge has kept, and so answered."""
    return {
        r["foreign_id"]
        for r in query(folder, "SELECT foreign_id FROM origins WHERE source = 'utility'")
    }


def created(part, key="eventName"):
    return {
        b["object"][key]: b["object"]
        for b in part.bodies
        if b["objectType"] == "EVENT" and b["operation"] == "CREATE" and key in b["object"]
    }


def check_repeats(subscriber, listener, promised):
    by_id = defaultdict(set)
    for headers, body in subscriber.received:
        by_id[headers["webhook-id"]].add(body)
    assert all(len(bodies) == 1 for bodies in by_id.values()), "one id came with two bodies"
    told = defaultdict(set)
    for topic, payload in listener.received:
        said = json.loads(payload)
        told[
            topic, said["object"]["id"], said["operation"], said["object"]["modificationDateTime"]
        ].add(payload)
    assert all(len(payloads) == 1 for payloads in told.values()), "it was said again in other words"
    for event_id, document in promised.items():
        assert plain(created(subscriber, "id")[event_id]) == document
        assert created(listener, "id")[event_id] == document
    # each event once under one id, however often it came
    ids = defaultdict(set)
    for headers, body in subscriber.received:
        said = json.loads(body)
        if said["operation"] == "CREATE":
            ids[said["object"]["id"]].add(headers["webhook-id"])
    assert all(len(found) == 1 for found in ids.values())


def plain(document):
    return json.loads(json.dumps(document, default=float))
