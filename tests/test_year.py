"""A recorded year of a utility's prices, sent by stock VTNs over mutual TLS.

The 8,736 hours of 2025 are moved by 735 days, so that weekdays and the days on which the
clocks change stay what they were. Unless BRIDGE_LONG=1 it is four months of it, and signed two.
"""

import asyncio
import csv
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from tests.peers import LONG, SHARED, Device, StockUtility, eventually, kept_prices, started

RECORDED = SHARED / "data" / "pge_ev2a_162611704_2025_real_gridx.csv"
MOVED = timedelta(days=735)
# By whether it is signed
MONTHS = (
    dict.fromkeys((False, True), range(1, 13)) if LONG else {False: (1, 3, 7, 11), True: (3, 11)}
)


def recorded_days():
    """Return local day → [(UTC start in 2027, price as text)]."""
    days = defaultdict(list)
    with RECORDED.open() as file:
        for row in csv.DictReader(file):
            start = datetime.fromisoformat(row["start_utc"]) + MOVED
            days[row["start_local_gridx_format"][:10]].append((start, row["usd_per_kwh"]))
    return days


def day_event(day, hours):
    prices = {"name": "ELECTRICITY_PRICE", "type": "price", "values": [float(p) for _, p in hours]}
    return {
        "id": f"EV2A-{day}",
        "context": "http://utility.example/EV2A",
        "start": hours[0][0].isoformat(),
        "signals": [prices],
    }


@pytest.mark.long
@pytest.mark.timeout(900 if LONG else 400)
@pytest.mark.parametrize("sign", [False, True], ids=["unsigned", "RSA-signed"])
async def test_every_hour_of_a_recorded_year(settings, bridge, certs, tls, sign):
    if not RECORDED.exists():
        pytest.skip("the recorded year is not at hand")
    days = recorded_days()
    assert sum(map(len, days.values())) == 8736
    assert sum(p.startswith("-") for d in days.values() for _, p in d) == 218
    by_month = defaultdict(list)
    for day, hours in sorted(days.items()):
        if int(day[5:7]) in MONTHS[sign]:
            by_month[day[:7]].append(day_event(day, hours))
    utilities = {
        m: StockUtility(certs / "rsa", events=e, sign=sign, poll=1) for m, e in by_month.items()
    }
    devices = [Device() for _ in range(3)]
    async with started(*utilities.values(), *devices):
        made = settings(
            [
                {
                    "name": month, "vtn_url": u.url, **tls("rsa"), "sign": sign,
                    "programs": {"http://utility.example/EV2A": {"name": f"EV2A-{month}"}},
                }
                for month, u in utilities.items()
            ],
            [{"name": f"d{n}", "url": d.url} for n, d in enumerate(devices)],
            site={"timezone": "America/Los_Angeles"},
        )  # fmt: skip
        async with bridge(made) as running:
            total = sum(map(len, by_month.values()))
            for device in devices:
                await eventually(
                    lambda d=device: len(d.events("event.received")) == total, 600 if LONG else 300
                )
            kept = {
                month: await kept_prices(
                    running.store,
                    f"EV2A-{month}",
                    datetime(2026, 1, 1, tzinfo=UTC),
                    limit=10_000,
                )
                for month in by_month
            }
            for _ in range(600):  # the last opt is told after the last device was
                told = {
                    m: [
                        r["opt_told"]
                        for r in await running.store.events.list(None, 9999)
                        if r["source"] == m
                    ]
                    for m in by_month
                }
                if all(None not in opts for opts in told.values()):
                    break
                await asyncio.sleep(0.1)
    wanted = {
        s: Decimal(p) for d, hours in days.items() if int(d[5:7]) in MONTHS[sign] for s, p in hours
    }
    found = {r.start: r.value for rows in kept.values() for r in rows}
    assert found == wanted
    assert all(r.end - r.start == timedelta(hours=1) for rows in kept.values() for r in rows)
    spring = [
        r
        for r in kept["2025-03"]
        if datetime(2027, 3, 14, 8, tzinfo=UTC) <= r.start < datetime(2027, 3, 15, 7, tzinfo=UTC)
    ]
    assert len(spring) == 23
    assert all(opts == ["optIn:0"] * len(opts) for opts in told.values())
    for device in devices:
        by_source = defaultdict(list)
        for name in device.events("event.received"):
            by_source[name[5:12]].append(name)
        assert {m: names == sorted(names) for m, names in by_source.items()} == dict.fromkeys(
            by_month, True
        )
    assert devices[0].events("event.received") == devices[1].events("event.received")


async def test_a_stock_utility_modifies_cancels_and_drops(settings, bridge, certs, tls):
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)

    def make(name, level):
        levels = {"name": "SIMPLE", "type": "level", "values": [level, level]}
        return {
            "id": name,
            "context": "http://utility.example/CPP",
            "start": start.isoformat(),
            "signals": [levels],
        }

    utility, device = (
        StockUtility(certs / "ec", events=[make(n, 1) for n in "ABC"], sign=True),
        Device(),
    )
    async with started(utility, device):
        made = settings(
            [{"name": "utility", "vtn_url": utility.url, **tls(), "sign": True}],
            [{"name": "d", "url": device.url}],
        )
        async with bridge(made):
            await eventually(lambda: len(device.events("event.received")) == 3)
            await utility.order(modify=make("A", 3))
            await eventually(lambda: device.events("event.updated") == ["A"])
            await utility.order(cancel="B")
            await eventually(lambda: device.events("event.cancelled") == ["B"])
            await utility.order(drop="C")
            await eventually(lambda: device.events("event.cancelled") == ["B", "C"])
            await utility.order(resend=None)
            await eventually(lambda: utility.opts("A") == ["optIn", "optIn"])
            assert utility.opts("B") == ["optIn", "optIn"]
    assert device.types("state.changed", "event.received") == [
        "event.updated",
        "event.cancelled",
        "event.cancelled",
    ]
