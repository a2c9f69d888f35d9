"""GridX on a bad day: one series fails, history fails, days come late, the clock is set."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from aiohttp import web

from bridge.sources.gridx import SCHEDULE
from bridge.sources.gridx import GridX as Source
from tests.peers import SimClock, eventually, kept_prices, started
from tests.sources.test_gridx import DAY, EVENING, HOUR, TODAY, Scene, source
from tests.utilities import GridX, detail, hours_of

MANY = [{"rate": "EELEC", "circuit": f"00000000{n}"} for n in range(1, 5)]


@pytest.fixture
def peer():
    found = GridX()
    for n in range(-40, 2):
        for circuit in ("013532223", *(s["circuit"] for s in MANY)):
            found.publish(TODAY + n * DAY, "0.1", ("EELEC", circuit, None))
    return found


def only(bad, answer=lambda: web.Response(status=500)):
    return lambda request: answer() if request.query["representativeCircuitId"] in bad else None


async def test_bad_series_stop_no_other(peer, settings, bridge, tmp_path):
    peer.fail = only({"000000001", "000000002"})
    clock, about = SimClock(EVENING), {"series": MANY, "backfill_from": "2026-01-20"}
    async with started(peer), bridge(settings([source(peer, **about)]), clock) as running:
        scene = Scene(peer, None, clock, running, tmp_path / "bridge.db")

        async def counts():
            return [
                len(
                    await kept_prices(
                        running.store,
                        f"EELEC-{s['circuit']}",
                        datetime(2026, 1, 1, tzinfo=UTC),
                        limit=9999,
                    )
                )
                for s in MANY
            ]

        await scene.passing(lambda: scene.job.last_success, timedelta(seconds=1))
        for _ in range(200):
            clock.pass_time(timedelta(seconds=1))
            await asyncio.sleep(0.005)
            if (await counts())[2:] == [41 * 24] * 2:
                break
        assert await counts() == [0, 0, 41 * 24, 41 * 24]  # the history too
        await eventually(lambda: scene.job.warning)
        await scene.warned("EELEC-000000001: answered 500")
        assert scene.job.problem is None
        before = len(peer.asked)
        await scene.passing(lambda: clock.now() > EVENING + 6 * HOUR, HOUR / 12)
        assert len(peer.asked) - before < 100  # asked again, less and less
        peer.fail = None
        await scene.passing(lambda: scene.job.warning is None, HOUR / 6)
        assert min(await counts()) > 24


async def test_history_that_fails_is_put_off_and_the_rest_goes_on(
    peer, settings, bridge, tmp_path, logged
):
    def fail(request):
        old = request.query["startdate"] < "20260203"
        return web.Response(status=500) if old and request.query["enddate"] < "20260220" else None

    peer.fail = fail
    clock, about = SimClock(EVENING), {"backfill_from": "2026-01-20"}
    async with started(peer), bridge(settings([source(peer, **about)]), clock) as running:
        scene = Scene(peer, None, clock, running, tmp_path / "bridge.db")
        await scene.passing(lambda: scene.job.warning, timedelta(seconds=1))
        await scene.warned("EELEC-013532223, 2026-01-20 to 2026-02-02: answered 500")
        assert scene.job.problem is None
        await scene.passing(lambda: clock.now() > EVENING + 5 * HOUR, HOUR / 12)
        assert len(peer.asked) < 50
        assert [entry["event"] for entry in logged].count("job is not well") == 1
        peer.fail = None
        await scene.passing(lambda: scene.job.warning is None, HOUR / 6)
        await scene.polled()
        assert (await scene.prices())[0].start == datetime(2026, 1, 20, 8, tzinfo=UTC)


async def test_the_longest_wait_that_is_asked_for_holds_for_all(peer, settings, bridge, tmp_path):
    answers = iter(
        [web.Response(status=500), web.Response(status=429, headers={"Retry-After": "1200"})]
    )
    peer.fail = lambda _: next(answers, None) or web.Response(status=500)
    clock = SimClock(EVENING)
    async with started(peer), bridge(settings([source(peer, series=MANY[:2])]), clock) as running:
        scene = Scene(peer, None, clock, running, tmp_path / "bridge.db")
        await scene.passing(lambda: scene.job.problem, timedelta(seconds=0.5))
        assert scene.job.next_attempt - scene.job.failing_since == timedelta(seconds=1200)
        assert len(peer.asked) == 2


@pytest.mark.parametrize("shift", [timedelta(days=-400), timedelta(days=-1), timedelta(hours=-2)])
async def test_a_clock_that_is_set_back_stops_no_polls(peer, settings, bridge, tmp_path, shift):
    clock = SimClock(EVENING)
    async with started(peer), bridge(settings([source(peer)]), clock) as running:
        scene = Scene(peer, None, clock, running, tmp_path / "bridge.db")
        await eventually(lambda: scene.job.last_success)
        asked = len(peer.asked)
        clock.set(EVENING + shift)
        await scene.passing(lambda: len(peer.asked) > asked, timedelta(minutes=5), 40)


async def test_a_bridge_that_wakes_in_1970_fills_its_history_once_the_clock_is_right(
    peer, settings, bridge, tmp_path
):
    clock = SimClock(datetime(1970, 1, 1, 0, 1, tzinfo=UTC))
    about = {"backfill_from": "2026-01-20"}
    async with started(peer), bridge(settings([source(peer, **about)]), clock) as running:
        scene = Scene(peer, None, clock, running, tmp_path / "bridge.db")
        await eventually(lambda: peer.asked)
        await scene.passing(
            lambda: scene.job.last_success or scene.job.problem, timedelta(seconds=1)
        )
        clock.set(EVENING)
        for _ in range(300):
            clock.pass_time(timedelta(seconds=20))
            await asyncio.sleep(0.005)
            if len(await scene.prices()) == 41 * 24:
                return
        raise AssertionError(len(await scene.prices()))


async def test_days_that_come_after_weeks_are_fetched_after_all(peer, settings, bridge, tmp_path):
    late = [TODAY - n * DAY for n in range(12, 16)]
    kept = {day: peer.days["EELEC", "013532223", None].pop(day) for day in late}
    clock, about = SimClock(EVENING), {"backfill_from": "2026-01-20"}
    async with started(peer):
        made = settings([source(peer, **about)])
        async with bridge(made, clock) as running:
            scene = Scene(peer, None, clock, running, tmp_path / "bridge.db")
            await scene.passing(lambda: scene.job.last_success, timedelta(seconds=1))
            for _ in range(400):
                if len(await scene.prices()) == (41 - 4) * 24:
                    break
                clock.pass_time(timedelta(seconds=1))
                await asyncio.sleep(0.005)
            assert len(await scene.prices()) == (41 - 4) * 24
            peer.days["EELEC", "013532223", None] |= kept
        async with bridge(made, clock) as running:
            scene = Scene(peer, None, clock, running, tmp_path / "bridge.db")
            await scene.passing(lambda: scene.job.last_success, HOUR / 6)
            for _ in range(400):
                clock.pass_time(timedelta(minutes=10))
                await asyncio.sleep(0.005)
                if len(await scene.prices()) == 41 * 24:
                    break
            rows = await scene.prices()
            assert {r.start.astimezone(UTC).date() for r in rows} >= set(late)


async def test_history_that_cannot_be_read_is_told_and_asked_for_again(
    peer, settings, bridge, tmp_path
):
    broken = peer.days["EELEC", "013532223", None][date(2026, 1, 25)]
    good = dict(broken["priceDetails"][3])
    broken["priceDetails"][3]["intervalPrice"] = "?"
    peer.days["EELEC", "013532223", None][date(2026, 1, 28)]["priceHeader"]["recordCount"] = 96
    clock, about = SimClock(EVENING), {"backfill_from": "2026-01-20"}
    async with started(peer), bridge(settings([source(peer, **about)]), clock) as running:
        scene = Scene(peer, None, clock, running, tmp_path / "bridge.db")
        await scene.passing(lambda: scene.job.warning, timedelta(seconds=1))
        await scene.warned("'?' is not an amount")
        await scene.warned("recordCount is 96, but there are 24 prices")
        assert not [
            r
            for r in await scene.prices()
            if r.start.date() == date(2026, 1, 25) and r.start.hour > 8
        ]
        broken["priceDetails"][3] = good
        await scene.passing(lambda: clock.now() > EVENING + 25 * HOUR, HOUR / 4)
        await scene.polled()
        assert [
            r
            for r in await scene.prices()
            if r.start.date() == date(2026, 1, 25) and r.start.hour > 8
        ]


@pytest.mark.parametrize("bad", [date(2026, 1, 20), date(2026, 1, 27), date(2026, 2, 2)])
async def test_one_day_that_always_fails_holds_up_no_other(peer, settings, bridge, tmp_path, bad):
    def fail(request):
        hit = request.query["startdate"] <= f"{bad:%Y%m%d}" <= request.query["enddate"]
        return web.Response(status=500) if hit else None

    peer.fail, clock = fail, SimClock(EVENING)
    about = {"backfill_from": "2026-01-20"}
    async with started(peer), bridge(settings([source(peer, **about)]), clock) as running:
        scene = Scene(peer, None, clock, running, tmp_path / "bridge.db")
        await scene.passing(lambda: scene.job.warning, timedelta(seconds=1))
        await scene.warned(f"EELEC-013532223, {bad}: answered 500")
        assert len(await scene.prices()) == 40 * 24
        asked = len(peer.asked)
        await scene.passing(lambda: clock.now() > EVENING + 12 * HOUR, HOUR / 4)
        assert len(peer.asked) - asked < 40
        await scene.warned(f"{bad}: answered 500")
        peer.fail = None
        await scene.passing(lambda: clock.now() > EVENING + 30 * HOUR, HOUR / 4)
        await scene.polled()
        assert scene.job.warning is None or str(bad) not in scene.job.warning
        assert {r.start for r in await scene.prices()} >= set(hours_of(bad))


async def test_a_utility_that_limits_the_rate_is_warned_of_once(
    peer, settings, bridge, tmp_path, logged
):
    series = [{"rate": "EELEC", "circuit": f"00000000{n}"} for n in range(1, 9)]

    def limited(_):
        busy = len(peer.asked) % 11 == 0
        return web.Response(status=429, headers={"Retry-After": "60"}) if busy else None

    peer.fail, clock = limited, SimClock(EVENING)
    async with started(peer), bridge(settings([source(peer, series=series)]), clock) as running:
        scene = Scene(peer, None, clock, running, tmp_path / "bridge.db")
        await scene.passing(lambda: scene.job.last_success, timedelta(seconds=1))
        await scene.passing(lambda: clock.now() > EVENING + 5 * HOUR, timedelta(seconds=30))
        lines = [e["warning"] for e in logged if e["event"] == "job is not well"]
        # half of the series are not published: each is told when it was first asked for
        assert 1 <= len(lines) <= 5, lines
        assert sum("answered 429" in line for line in lines) >= 1


def test_rounds_are_due_by_the_schedule_and_every_hour():
    made = Source.model_validate(
        {"kind": "gridx", "name": "p", "base_url": "http://x/v1", "utility": "PGE", "series": MANY}
    )
    at, due = datetime(2026, 3, 1, 8, tzinfo=UTC), []
    while at < datetime(2026, 3, 3, 8, tzinfo=UTC):
        at = made._next_round(at)
        due.append(at)
    assert max(b - a for a, b in pairwise(due)) <= HOUR + timedelta(seconds=30)
    local = [(t - timedelta(hours=8)).time() for t in due]
    for moment in SCHEDULE:
        near = [t for t in local if 0 <= _seconds(t) - _seconds(moment) <= 30]
        assert len(near) == 2, moment


def _seconds(moment):
    return moment.hour * 3600 + moment.minute * 60 + moment.second


async def test_prices_that_reach_over_each_other_are_refused(peer, settings, bridge, tmp_path):
    key = ("EELEC", "013532223", None)
    peer.publish(TODAY + DAY, "0.2", key, length=timedelta(minutes=15))
    peer.days[key][TODAY + DAY]["priceHeader"]["intervalLengthInMinutes"] = 60
    peer.days[key][TODAY]["priceDetails"] = [detail(datetime(2026, 3, 1, 7, 30, tzinfo=UTC), "0.3")]
    clock = SimClock(EVENING)
    async with started(peer), bridge(settings([source(peer)]), clock) as running:
        scene = Scene(peer, None, clock, running, tmp_path / "bridge.db")
        await eventually(lambda: scene.job.warning)
        await scene.warned("15 minutes apart, but intervalLengthInMinutes is 60")
        await scene.warned("reaches into the next day")
        (about,) = await running.store.prices.programs(clock.now())
        assert about["covers_until"] == datetime(2026, 2, 28, 8, tzinfo=UTC)
