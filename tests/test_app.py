"""The whole bridge: a simulated week, its start and its end."""

import asyncio
import json
import os
import random
import signal as signals
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from bridge.app import running
from bridge.errors import SettingsError
from tests.peers import (
    LONG,
    Device,
    RawVtn,
    SimClock,
    event,
    eventually,
    levels,
    quiet,
    signal,
    started,
)

MONDAY = datetime(2027, 3, 8, 8, tzinfo=UTC)  # midnight at the site; DST begins on the Sunday
HOUR = timedelta(hours=1)


class Plan:
    """What a utility plans for a week, and what ought to hold at any instant of it."""

    def __init__(self, seed):
        self.random, self.events, self.truth = random.Random(seed), [], []

    def add(
        self,
        name,
        start,
        kind,
        values,
        length,
        *,
        priority=None,
        group=None,
        also=None,
        open_ended=False,
    ):
        body = signal if kind == "PRICE" else levels
        iso = f"PT{int(length.total_seconds() // 60)}M"
        total = f"PT{int(length.total_seconds() // 60) * len(values)}M"
        parts = [body(values, length="PT0S" if open_ended else iso)]
        if also:
            parts.append(levels(also, iso))
        target = f"<ei:groupID>{group}</ei:groupID>" if group else ""
        self.events.append(
            event(
                name,
                start,
                *parts,
                duration="PT0S" if open_ended else total,
                priority=priority,
                targets=target,
            )
        )
        if open_ended:
            length = 24 * HOUR
        for which, row in ((kind, values), ("SIMPLE", also or [])):
            for n, value in enumerate(row):
                begin = start + n * length
                self.truth.append(
                    (which, begin, begin + length, priority, len(self.events), value, group)
                )

    def holds(self, kind, at, groups):
        found = [
            (p if p is not None else 10**9, -begin.timestamp(), -issued, value)
            for k, begin, end, p, issued, value, group in self.truth
            if k == kind and begin <= at < end and (group is None or group in groups)
        ]
        return min(found)[3] if found else None


def week(seed):
    plan = Plan(seed)
    draw = plan.random
    day = MONDAY
    for n in range(7):
        hours = 23 if n == 6 else 24
        prices = [f"{draw.uniform(-0.05, 0.9):.6f}" for _ in range(hours)]
        plan.add(f"day-{n}", day, "PRICE", prices, HOUR)
        day += hours * HOUR
    for n in range(12):  # overlapping, of different priority, some for one group only
        start = MONDAY + timedelta(minutes=draw.randrange(0, 6 * 24 * 60, 5))
        plan.add(
            f"dr-{n}", start, "SIMPLE", [draw.randint(0, 3) for _ in range(draw.randint(1, 3))],
            timedelta(minutes=draw.choice([5, 30, 60, 240])),
            priority=draw.choice([None, 1, 2, 5]), group=draw.choice([None, None, "east", "west"]),
        )  # fmt: skip
    plan.add(
        "two-signals", MONDAY + 50 * HOUR, "PRICE", ["1.5", "2.5"], HOUR, priority=1, also=[1, 2]
    )
    plan.add("open", MONDAY + 80 * HOUR, "SIMPLE", [1], HOUR, priority=9, open_ended=True)
    return plan


@pytest.mark.parametrize("seed", [1, 2] if LONG else [1])
async def test_the_devices_state_is_right_at_every_instant_of_a_week(
    settings, bridge, tmp_path, seed
):
    plan, clock, vtn = week(seed), SimClock(MONDAY - 2 * HOUR), RawVtn()
    vtn.poll = "PT1H"
    vtn.list(*plan.events)
    devices = {
        "plain": (Device(), set()),
        "east": (Device(), {"east"}),
        "west": (Device(), {"west"}),
    }
    async with started(vtn, *[d for d, _ in devices.values()]):
        made = settings(
            [{"name": "utility", "vtn_url": vtn.url}],
            [
                {"name": n, "url": d.url, "groups": sorted(g), "refresh": "1d"}
                for n, (d, g) in devices.items()
            ],
            site={"timezone": "America/Los_Angeles"},
        )
        async with bridge(made, clock):
            await eventually(lambda: vtn.done)
            await quiet(tmp_path / "bridge.db", clock)
            instants = sorted({t for _, begin, end, *_ in plan.truth for t in (begin, end)})
            for at in instants:
                clock.set(at)
                await quiet(tmp_path / "bridge.db", clock)
                for name, (device, groups) in devices.items():
                    price, level = plan.holds("PRICE", at, groups), plan.holds("SIMPLE", at, groups)
                    wanted = (Decimal(price) if price else None, level)
                    with suppress(AssertionError):  # the state is on its way
                        await eventually(
                            lambda d=device, w=wanted: (d.state["price"], d.state["level"]) == w, 5
                        )
                    state = device.state
                    said = (state["price"], state["level"])
                    assert said == (Decimal(price) if price else None, level), (name, at)
                    if state["next"]:
                        then = datetime.fromisoformat(state["next"]["at"])
                        price = plan.holds("PRICE", then, groups)
                        assert state["next"]["price"] == (Decimal(price) if price else None), (
                            name,
                            at,
                        )
    assert vtn.count("oadrPoll") > 10
    assert len(devices["plain"][0].events("event.started")) >= 9


async def test_a_start_that_fails_leaves_nothing_behind(settings, tmp_path):
    made = settings()
    async with running(made) as bridge:
        port = int(bridge.addresses["vtn"].rpartition(":")[2])
        other = made.model_copy(
            update={
                "store": made.store.model_copy(update={"path": tmp_path / "other.db"}),
                "vtn": made.vtn.model_copy(update={"listen": f"127.0.0.1:{port}"}),
            }
        )
        with pytest.raises(SettingsError, match="cannot be served at"):
            async with running(other):
                pass
    async with running(other.model_copy(update={"vtn": made.vtn})):
        pass  # its store is free again


async def test_a_store_that_fails_stops_the_bridge(settings):
    device = Device()
    async with started(device):
        made = settings(devices=[{"name": "d", "url": device.url}])
        async with running(made) as bridge:
            await eventually(lambda: device.received)
            from bridge.errors import StoreError

            async def fail(*_):
                raise StoreError("the disk is gone")

            bridge.store.moments.next_due = fail
            bridge.store.moments.bell("scheduler").set()
            await eventually(bridge.health.broken.is_set)


CONFIG = """
[store]
path = "bridge.db"
[vtn]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[[sources]]
kind = "openadr2"
name = "utility"
vtn_url = "{vtn}"
ven_name = "bridge"
[[devices]]
kind = "webhook"
name = "d"
url = "{device}"
"""


async def start_program(path):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge", "run", "-c", str(path),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ},
    )  # fmt: skip
    line = await asyncio.wait_for(process.stdout.readline(), 30)
    return process, json.loads(line)


@pytest.mark.parametrize("busy", ["nothing", "a hanging utility", "a hanging device", "a burst"])
async def test_sigterm_during_anything_ends_well_within_five_seconds(tmp_path, busy):
    vtn, device = RawVtn(), Device()
    start = datetime.now(UTC) + HOUR
    if busy == "a hanging utility":
        hang = asyncio.Event()

        async def answer(_request):
            await hang.wait()

        vtn.answer = answer
    device.hang = busy == "a hanging device"
    async with started(vtn, device):
        if busy == "a burst":
            vtn.list(*(event(f"E{n}", start, signal(["0.1"] * 24)) for n in range(150)))
        (tmp_path / "bridge.toml").write_text(CONFIG.format(vtn=vtn.url, device=device.url))
        process, ready = await start_program(tmp_path / "bridge.toml")
        assert ready["event"] == "ready"
        assert ready["vtn"].startswith("http://127.0.0.1:")
        await asyncio.sleep(0.3)
        process.send_signal(signals.SIGTERM)
        _, errors = await asyncio.wait_for(process.communicate(), 5)
        assert process.returncode == 0, errors
        if busy == "a burst":  # and nothing was lost
            process, _ = await start_program(tmp_path / "bridge.toml")
            await eventually(lambda: len(set(device.events("event.received"))) == 150, 40)
            process.terminate()
            await process.communicate()
            assert len(device.events("event.received")) in range(150, 153)


async def test_systemd_is_told(tmp_path, monkeypatch):
    import socket

    from bridge.supervise import Job, notify, watchdog

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "100000")
        notify("READY=1")
        assert channel.recv(100) == b"READY=1"
        job = Job("scheduler", last_success=MONDAY)
        beat = asyncio.create_task(watchdog(job))
        assert await asyncio.to_thread(channel.recv, 100) == b"WATCHDOG=1"
        await asyncio.sleep(0.15)  # no pass of the scheduler, no sign of life
        channel.setblocking(False)
        with pytest.raises(BlockingIOError):
            channel.recv(100)
        beat.cancel()
