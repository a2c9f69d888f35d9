"""Reports to a stock OpenLEADR VTN in a process of its own, which asks for them in its own way."""

import asyncio
import json
import math
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from bridge.clock import WallClock
from tests.openadr2.site import free_port
from tests.peers import LONG, StockUtility, eventually, started
from tests.reporting import measured

SECOND = timedelta(seconds=1)


def asked_for(store):
    """Return how many reports a VTN has asked for."""
    with closing(sqlite3.connect(f"file:{store.path}?mode=ro", uri=True)) as db:
        return db.execute("SELECT count(*) FROM upstream_requests").fetchone()[0]


class Later(WallClock):
    """The computer's clock, and some time ahead of it."""

    ahead = timedelta(0)

    def now(self):
        return super().now() + self.ahead


class Utility(StockUtility):
    """Asks for every report with a sampling and a period in seconds; always at one port."""

    def __init__(self, certs, report, **about):
        super().__init__(certs, **about)
        self.about |= {"port": free_port(), "report": report}

    async def start(self):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.openadr2.stock_vtn", json.dumps(self.about),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=environment, limit=2**24,
        )  # fmt: skip
        self.url = json.loads(await self.process.stdout.readline())["ready"]
        self._reader = asyncio.create_task(self._read())

    def told(self, resource):
        """Return what its callback was told of a resource: start → values as they came."""
        found = {}
        for line in self.lines:
            for at, value in line["values"] if line.get("report") == resource else ():
                found.setdefault(datetime.fromisoformat(at), []).append(value)
        return found


class Meter:
    """Measures something every second from now on, until it is told to stop."""

    def __init__(self, store, name, number):
        self.store, self.name, self.number = store, name, number
        self.said = {}  # start → kWh
        self.start = datetime.now(UTC).replace(microsecond=0)

    async def run(self):
        while True:
            at = self.start + len(self.said) * SECOND
            await asyncio.sleep(max(0, (at + SECOND - datetime.now(UTC)).total_seconds()))
            value = Decimal(self.number * 1000 + len(self.said)) / 1000
            await measured.keep(self.store, self.name, at, SECOND, [value], datetime.now(UTC))
            self.said[at] = value


@pytest.mark.parametrize("sign", [True, False] if LONG else [True])
async def test_its_callback_receives_all_that_was_measured(settings, bridge, certs, tls, sign):
    utility = Utility(certs / "ec", [1, 2], sign=sign)
    async with started(utility):
        source = {"name": "utility", "vtn_url": utility.url, "sign": sign, **tls()}
        source["reports"] = [
            {"resource": name, "meter": f"m-{name}", "every": "1s"} for name in ("one", "007")
        ]
        async with bridge(settings([source])) as running:
            meters = [Meter(running.store, f"m-{n}", i) for i, n in enumerate(("one", "007"), 1)]
            writing = [asyncio.create_task(meter.run()) for meter in meters]
            try:
                await eventually(lambda: len(utility.told("one")) >= 3, 30)
                await utility.stop()
                away = len(meters[0].said)
                await eventually(lambda: len(meters[0].said) >= away + 3)
                await utility.start()
                await eventually(lambda: len(utility.told("one")) >= away + 5, 60)
            finally:
                for task in writing:
                    task.cancel()
                await asyncio.gather(*writing, return_exceptions=True)
            last = max(meters[0].said)
            await eventually(lambda: last in utility.told("one"), 30)
            assert running.health.job("source:utility").warning is None
            for meter, name in zip(meters, ("one", 7), strict=True):
                told = utility.told(name)
                first = min(told)
                # What was just being told when it stopped may have been told to either.
                assert {s: v for s, v in told.items() if s in meter.said} == {
                    s: pytest.approx([float(v)] * len(told[s]))
                    for s, v in meter.said.items()
                    if s >= first and s in told
                }
                assert all(s in told for s in meter.said if first <= s < last)
                assert sum(len(values) - 1 for values in told.values()) <= 4


async def test_gaps_and_states_neither_break_it_nor_stop_events(settings, bridge, certs, tls):
    begin = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    levels = {"name": "SIMPLE", "type": "level", "values": [1], "seconds": 3600}
    event = {"id": "E", "context": "http://u/CPP", "start": begin, "signals": [levels]}
    utility = Utility(certs / "ec", [60, 60])
    async with started(utility):
        source = {"name": "utility", "vtn_url": utility.url, **tls()}
        source["reports"] = [
            {"resource": "R", "meter": "M", "every": "1m"},
            {"resource": "R", "meter": "M", "every": "1m", "kind": "status"},
        ]
        clock = Later()
        async with bridge(settings([source]), clock) as running:
            job = running.health.job("source:utility")
            await eventually(lambda: asked_for(running.store) == 2)
            # Gaps are told when nothing came for minutes, and for half of one after all was due.
            now = datetime.now(UTC)
            clock.ahead = now.replace(second=40) + timedelta(minutes=8) - now
            # It fails at states (HTTP 500), which it asked for itself.
            await eventually(lambda: "HTTP 500" in str(job.warning), 30)
            await eventually(lambda: utility.told("R"), 30)
            assert all(math.isnan(v) for values in utility.told("R").values() for v in values)
            await utility.order(add=event)
            await eventually(lambda: utility.opts("E") == ["optIn"], 30)
            assert job.problem is None
