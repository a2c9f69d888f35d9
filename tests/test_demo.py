"""The demo, as `make run` starts it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from aiohttp import ClientSession

from bridge.demo.devices import describe
from bridge.demo.play import _day, events
from bridge.demo.prices import RECORDED

ZONE = ZoneInfo("America/Los_Angeles")


@pytest.mark.timeout(60)
async def test_the_demo_prints_todays_prices_and_serves_them(tmp_path):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge", "demo", "--folder", str(tmp_path),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ},
    )  # fmt: skip
    try:
        ready = json.loads(await process.stdout.readline())
        assert ready["event"] == "ready"
        said = ""
        while "price 0" not in said and "price -0" not in said:
            said += (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
        async with ClientSession() as http:
            reply = await http.get(ready["vtn"] + "/api/v1/prices?program=EV2A")
            items = (await reply.json())["items"]
            token = said.partition("Bearer ")[2].partition("'")[0]
            reply = await http.get(
                ready["admin"] + "/api/v1/events", headers={"Authorization": f"Bearer {token}"}
            )
            assert reply.status == 200
        assert len(items) == 96
        first = next(iter(RECORDED.values()))
        assert [i["price"] for i in items[:24]] == list(first)
        today = datetime.now(ZONE).date()
        assert f"EV2A-{today}" in said
        process.send_signal(signal.SIGINT)
        rest, errors = await asyncio.wait_for(process.communicate(), 10)
        assert process.returncode == 0, errors
        assert "stopping" in rest.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def test_a_day_has_as_many_hours_as_the_clock_gives_it():
    values = tuple(range(24))
    for day, hours in (("2027-03-14", 23), ("2027-03-15", 24), ("2027-11-07", 24)):
        event = _day(datetime.fromisoformat(day).date(), values)
        assert len(event["signals"][0]["values"]) == hours
    assert _day(datetime(2027, 3, 14).date(), values)["start"] == "2027-03-14T08:00:00+00:00"  # noqa: DTZ001


def test_an_event_stands_a_few_minutes_ahead():
    now = datetime(2027, 1, 1, 20, 0, 30, tzinfo=UTC)
    *_, shed = events(now)
    assert timedelta(minutes=2) < datetime.fromisoformat(shed["start"]) - now < timedelta(minutes=4)


def test_what_a_device_prints():
    state = {
        "price": 0.1, "unit": "KWH", "currency": "USD", "level": 2, "stale": True,
        "next": {"at": "2027-01-01T08:00:00Z", "price": None, "level": 1},
    }  # fmt: skip
    (line,) = describe({"type": "state.changed", "data": {"state": state}}, ZONE)
    assert line.endswith("price 0.1 USD/KWH, level 2, until 00:00, then no price, level 1 (stale)")
