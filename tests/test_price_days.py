"""Price days reach devices: after corrections, beside others, and none that nobody follows."""

import asyncio
from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest

from bridge.interfaces import Batch
from bridge.model import Price, Publication, Tariff
from bridge.notation import day_span
from bridge.sources import Feed
from bridge.store import open_store
from tests.peers import Device, SimClock, eventually, quiet, started

ZONE = "America/Los_Angeles"
DAY = date(2026, 7, 1)
BEGIN, END = day_span(DAY, ZONE)
HOUR = timedelta(hours=1)
SOURCE = Feed(kind="feed", name="f", path="x.csv")


def tariff(name="P", zone=ZONE, **about):
    return Tariff(name, name, currency="USD", zone=zone, **about)


def hours(first, last, value, start=BEGIN, length=HOUR):
    return [
        Price(start + n * length, start + (n + 1) * length, Decimal(value))
        for n in range(first, last)
    ]


class Scene:
    def __init__(self, clock, device, running, path):
        self.clock, self.device, self.running, self.path = clock, device, running, path

    async def publish(self, prices, name="P", whole=(), **about):
        said = Publication(tariff(name, **about), prices, whole)
        await self.running.store.events.save(SOURCE, Batch(publications=[said]), self.clock.now())
        await quiet(self.path, self.clock)

    async def at(self, moment):
        self.clock.set(moment)
        await quiet(self.path, self.clock)
        await asyncio.sleep(0.01)
        await quiet(self.path, self.clock)

    def told(self):
        found = [b["data"] for b in self.device.bodies if b["type"] == "interval.started"]
        return [
            (datetime.fromisoformat(d["interval"]["intervalPeriod"]["start"]), d["state"]["price"])
            for d in found
        ]


@pytest.fixture
async def scene(settings, bridge, tmp_path, request):
    clock, device = SimClock(BEGIN + 10 * HOUR), Device()
    programs = getattr(request, "param", ["P*"])
    async with started(device):
        made = settings(devices=[{"name": "d", "url": device.url, "programs": programs}])
        async with bridge(made, clock) as running:
            yield Scene(clock, device, running, tmp_path / "bridge.db")


def passes(scene):
    return scene.running.store.moments


async def count_marks(scene, seconds=0.5):
    """Return how often the scheduler wrote marks while nothing happened."""
    store, count = scene.running.store.moments, 0
    fired = store.fired

    async def counted(*about):
        nonlocal count
        count += 1
        return await fired(*about)

    store.fired = counted
    await asyncio.sleep(seconds)
    store.fired = fired
    return count


async def test_intervals_go_on_after_past_hours_were_corrected(scene):
    await scene.publish(hours(0, 24, "0.1"))
    await scene.publish(hours(0, 9, "0.2"))
    for hour in range(11, 16):
        await scene.at(BEGIN + hour * HOUR)
    assert scene.told() == [(BEGIN + n * HOUR, Decimal("0.1")) for n in range(10, 16)]
    assert await count_marks(scene) <= 2


async def test_a_correction_of_the_hour_under_way_changes_the_state_and_fires_nothing_twice(scene):
    await scene.publish(hours(0, 24, "0.1"))
    await scene.publish(hours(10, 11, "0.7"))
    assert scene.device.state["price"] == Decimal("0.7")
    await scene.publish(hours(12, 24, "0.8"))
    await scene.at(BEGIN + 11 * HOUR)
    await scene.at(BEGIN + 12 * HOUR)
    assert scene.told() == [
        (BEGIN + 10 * HOUR, Decimal("0.1")), (BEGIN + 11 * HOUR, Decimal("0.1")), (BEGIN + 12 * HOUR, Decimal("0.8")),
    ]  # fmt: skip


async def test_a_price_over_midnight_is_corrected_after_midnight(scene):
    night = [Price(BEGIN + 21 * HOUR, BEGIN + 31 * HOUR, Decimal("0.1"))]
    await scene.publish(night)
    await scene.at(BEGIN + 22 * HOUR)
    await scene.at(BEGIN + 25 * HOUR)
    await scene.publish([Price(BEGIN + 21 * HOUR, BEGIN + 31 * HOUR, Decimal("0.2"))])
    assert scene.device.state["price"] == Decimal("0.2")
    await scene.publish(hours(0, 3, "0.3", BEGIN + 31 * HOUR))
    await scene.at(BEGIN + 32 * HOUR)
    assert scene.told()[-1] == (BEGIN + 32 * HOUR, Decimal("0.3"))
    assert await count_marks(scene) <= 2


async def test_a_price_that_began_days_ago_is_told_as_under_way(scene):
    await scene.publish([Price(BEGIN - 48 * HOUR, BEGIN + 99 * HOUR, Decimal("0.4"))])
    assert scene.device.state["price"] == Decimal("0.4")
    assert [price for _, price in scene.told()] == [Decimal("0.4")]


async def test_another_zone_and_an_odd_name_make_no_scheduler_run_hot(scene):
    await scene.publish(hours(0, 48, "0.1"))
    await scene.publish(hours(0, 48, "0.1"), zone="Europe/Berlin")
    await scene.publish(hours(0, 48, "0.2"), zone="Europe/Berlin")
    await scene.publish(hours(0, 48, "0.1"), name="P\nQ")
    for hour in range(11, 30):
        await scene.at(BEGIN + hour * HOUR)
    assert await count_marks(scene) <= 2
    assert scene.running.health.job("scheduler").problem is None
    assert len(scene.told()) >= 18


async def test_a_withdrawn_day_has_no_moments(scene):
    tomorrow = day_span(DAY + timedelta(days=1), ZONE)
    await scene.publish(hours(0, 48, "0.1"))
    await scene.publish([Price(tomorrow[0], tomorrow[0] + HOUR, Decimal(9))], whole=[tomorrow])
    await scene.publish([], whole=[tomorrow])
    for hour in (23, 24, 25, 26):
        await scene.at(BEGIN + hour * HOUR)
    assert max(start for start, _ in scene.told()) == BEGIN + 23 * HOUR
    assert scene.device.state["price"] is None
    assert await count_marks(scene) <= 2


@pytest.mark.parametrize("scene", [["Q"]], indirect=True)
async def test_programs_that_nobody_follows_have_no_moments(scene):
    await scene.publish(hours(0, 72, "0.1"))
    tracks = await scene.running.store.moments._file.read(
        lambda db: db.execute("SELECT count(*) FROM tracks").fetchone()[0]
    )
    assert tracks == 0
    assert await scene.running.store.deliveries.live_events(scene.clock.now()) == []
    assert scene.device.types() == ["state.changed"]


async def test_a_program_that_is_followed_from_now_on_gets_its_moments(settings, bridge, tmp_path):
    clock, device = SimClock(BEGIN + 10 * HOUR), Device()
    async with started(device):
        for programs, expected in ((["Q"], 0), (["P"], 1)):
            made = settings(devices=[{"name": "d", "url": device.url, "programs": programs}])
            async with bridge(made, clock) as running:
                scene = Scene(clock, device, running, tmp_path / "bridge.db")
                await scene.publish(hours(0, 24, "0.1"))
                clock.pass_time(timedelta(seconds=11))
                if expected:
                    await eventually(scene.told)
                assert len(scene.told()) == expected
        await asyncio.sleep(0)


async def test_several_changes_in_one_pass_are_told_once(settings, bridge, tmp_path):
    clock, device = SimClock(BEGIN + 10 * HOUR), Device()
    async with open_store(tmp_path / "bridge.db") as store:
        for n in range(5):
            said = Publication(tariff(), hours(n * 4, n * 4 + 4, "0.1"))
            await store.events.save(SOURCE, Batch(publications=[said]), clock.now())
    async with started(device):
        made = settings(devices=[{"name": "d", "url": device.url}])
        async with bridge(made, clock):
            await quiet(tmp_path / "bridge.db", clock)
            (told,) = [b["data"] for b in device.bodies if b["type"] == "prices.available"]
            assert (told["start"], told["end"]) == ("2026-07-01T07:00:00Z", "2026-07-02T03:00:00Z")


async def test_a_restart_in_the_middle_of_a_day_fires_what_is_due_once(settings, bridge, tmp_path):
    clock, device = SimClock(BEGIN + 10 * HOUR), Device()
    async with started(device):
        made = settings(devices=[{"name": "d", "url": device.url}])
        async with bridge(made, clock) as running:
            scene = Scene(clock, device, running, tmp_path / "bridge.db")
            await scene.publish(hours(0, 24, "0.1"))
            await scene.at(BEGIN + 11 * HOUR)
        clock.set(BEGIN + 13.5 * HOUR)
        async with bridge(made, clock) as running:
            scene = Scene(clock, device, running, tmp_path / "bridge.db")
            await quiet(scene.path, clock)
            await scene.at(BEGIN + 14 * HOUR)
            starts = [start for start, _ in scene.told()]
    assert starts == [BEGIN + n * HOUR for n in (10, 11, 13, 14)]


async def test_getpricing_says_uneven_days_in_even_pieces(scene):
    about = {"utility": "PGE", "rate": "R", "circuit": "1"}
    night = Price(BEGIN - 3 * HOUR, BEGIN + 7 * HOUR, Decimal("0.1"))
    day = Price(BEGIN + 7 * HOUR, BEGIN + 16.5 * HOUR, Decimal("0.2"))
    evening = Price(BEGIN + 16.5 * HOUR, BEGIN + 31 * HOUR, Decimal("0.3"))
    await scene.publish([night, day, evening], **about)
    from bridge.wire import gridx

    asked = gridx.Asked("PGE", "R", "1", None, DAY, DAY)
    found = await scene.running.store.prices.days("PGE", "R", "1", None, DAY, DAY)
    answer = gridx.read_pricing(gridx.write_pricing(asked, found, "u"), ZONE)
    (curve,) = answer.curves
    assert (answer.doubts, len(curve.prices)) == ((), 48)
    values = [str(p.value) for p in curve.prices]
    assert values == ["0.100000"] * 14 + ["0.200000"] * 19 + ["0.300000"] * 15
    assert (curve.prices[0].start, curve.prices[-1].end) == (BEGIN, END)


async def test_a_currency_that_is_said_later_makes_no_second_series(scene):
    first = Publication(
        Tariff("P", "P", zone=ZONE, utility="PGE", rate="R", circuit="1"), hours(0, 24, "0.1")
    )
    await scene.running.store.events.save(SOURCE, Batch(publications=[first]), scene.clock.now())
    await scene.publish(hours(0, 24, "0.2"), utility="PGE", rate="R", circuit="1")
    (day,) = await scene.running.store.prices.days("PGE", "R", "1", None, DAY, DAY)
    assert {r.value for r in day.prices} == {Decimal("0.2")}
    assert day.tariff.currency == "USD"
    rows = await scene.running.store.deliveries.live_events(scene.clock.now())
    assert rows[0].units == {"PRICE": ("KWH", "USD")}


async def test_dates_and_hosts_that_make_no_sense_are_refused(scene):
    await scene.publish(hours(0, 24, "0.1"), utility="PGE", rate="R", circuit="1")
    from aiohttp import ClientSession

    base = scene.running.addresses["vtn"]
    query = "utility=PGE&market=DAM&program=CalFUSE&ratename=R&representativeCircuitId=1"
    async with ClientSession() as http:
        for day in ("99991231", "00010101", "20260701"):
            url = f"{base}/v1/getPricing?{query}&startdate={day}&enddate={day}"
            async with http.get(url) as reply:
                assert reply.status == (200 if day == "20260701" else 204)
        for host in ("x:abc", "x:99999", "[::1]:x"):
            async with http.get(url, headers={"Host": host}) as reply:
                assert reply.status == 400
        for path in ("as_of=2026-01-01T00:00:00Z", "revisions=true"):
            async with http.get(f"{base}/api/v1/prices?{path}") as reply:
                assert reply.status == 400
                assert "name one" in await reply.text()
