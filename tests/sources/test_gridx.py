"""GridX: polled, back-filled, failing in every way, and served again."""

import asyncio
import json
import re
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from aiohttp import ClientSession, web

from bridge.notation import from_json
from tests.peers import Device, SimClock, eventually, kept_prices, quiet, replaced_prices, started
from tests.utilities import SCE, GridX, hours_of, recorded_year

EVENING = datetime(2026, 3, 1, 3, tzinfo=UTC)  # 19:00 on 2026-02-28 in California
TODAY = date(2026, 2, 28)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
EELEC = ("EELEC", "013532223", None)
PROGRAM = "EELEC-013532223"


def source(peer, **about):
    return {
        "kind": "gridx", "name": "pge", "base_url": peer.base, "utility": "PGE",
        "series": [{"rate": "EELEC", "circuit": "013532223"}], **about,
    }  # fmt: skip


class Scene:
    def __init__(self, utility, device, clock, running, path):
        self.utility, self.device, self.clock = utility, device, clock
        self.bridge, self.path = running, path

    @property
    def job(self):
        return self.bridge.health.job("source:pge")

    async def polled(self):
        """Let time pass until the utility was asked once more, and all that follows is done."""
        last = self.job.last_success
        await self.passing(lambda: self.job.last_success != last, HOUR / 6)
        await quiet(self.path, self.clock)

    async def warned(self, text):
        """Return once the source warns of something, or of nothing: it does at a round's end."""
        await eventually(
            lambda: text in (self.job.warning or "") if text else self.job.warning is None, 5
        )

    async def passing(self, condition, step=timedelta(minutes=1), times=2000):
        for _ in range(times):
            if condition():
                return
            self.clock.pass_time(step)
            await asyncio.sleep(0.002)
            with suppress(AssertionError):
                await eventually(condition, within=0.02)
        raise AssertionError(self.job)

    async def prices(self, program=PROGRAM, start=datetime(2024, 1, 1, tzinfo=UTC), **about):
        return await kept_prices(self.bridge.store, program, start, limit=100_000, **about)

    async def get(self, path):
        async with ClientSession() as http, http.get(self.bridge.addresses["vtn"] + path) as reply:
            return reply.status, await reply.read()


@pytest.fixture
async def scene(settings, bridge, tmp_path, request):
    options = getattr(request, "param", {})
    clock, utility, device = SimClock(EVENING), GridX(), Device()
    for n in range(-6, 2):
        utility.publish(TODAY + n * DAY, f"0.0{n + 10:02}001")
    async with started(utility, device):
        made = settings([source(utility, **options)], [{"name": "d", "url": device.url}])
        async with bridge(made, clock) as running:
            found = Scene(utility, device, clock, running, tmp_path / "bridge.db")
            await eventually(lambda: found.job.last_success or found.job.problem)
            await quiet(found.path, clock)
            yield found


async def test_what_is_published_is_kept_with_components_and_told_once(scene):
    rows = await scene.prices()
    assert len(rows) == 8 * 24
    assert rows[0].start == datetime(2026, 2, 22, 8, tzinfo=UTC)
    assert (str(rows[0].value), rows[0].status) == ("0.004001", "Final")
    assert [(c.name, c.type) for c in rows[0].components] == [
        ("cld", "distribution"), ("mec", "generation"), ("mgcc", "generation"),
    ]  # fmt: skip
    assert sum(c.price for c in rows[0].components) == rows[0].value
    (told,) = [b["data"] for b in scene.device.bodies if b["type"] == "prices.available"]
    assert (told["program"], told["covers_until"]) == (PROGRAM, "2026-03-02T08:00:00Z")
    assert scene.device.state["price"] == Decimal("0.010001")
    await scene.polled()
    await scene.polled()
    assert scene.device.types().count("prices.available") == 1
    assert await replaced_prices(scene.bridge.store, PROGRAM) == []
    assert all("cca" not in asked for asked in scene.utility.asked)


async def test_intervals_fire_and_nothing_else_of_a_price_day_does(scene):
    for _ in range(3):
        scene.clock.pass_time(HOUR)
        await scene.polled()
    kinds = set(scene.device.types())
    assert kinds == {"prices.available", "interval.started", "state.changed"}
    intervals = [b["data"] for b in scene.device.bodies if b["type"] == "interval.started"]
    assert [i["interval"]["id"] for i in intervals][:3] == [19, 20, 21]
    assert {i["event"]["eventName"] for i in intervals} == {f"{PROGRAM}-2026-02-28"}
    assert intervals[0]["event"]["intervals"][3]["intervalPeriod"] == {
        "start": "2026-02-28T11:00:00Z", "duration": "PT1H",
    }  # fmt: skip


async def test_a_correction_is_told_once_and_the_former_price_is_kept(scene):
    scene.utility.publish(TODAY + DAY, ["0.5", *["0.011001"] * 23])
    await scene.polled()
    assert scene.device.types().count("prices.available") == 2
    (was,) = await replaced_prices(scene.bridge.store, PROGRAM)
    assert (was.start, str(was.value)) == (datetime(2026, 3, 1, 8, tzinfo=UTC), "0.011001")
    then = await scene.prices(as_of=was.since)
    assert [str(r.value) for r in then if r.start == was.start] == ["0.011001"]
    await scene.polled()
    assert scene.device.types().count("prices.available") == 2


async def test_what_was_known_is_served_with_what_is_known(scene):
    first = (await scene.prices())[0].since
    scene.utility.publish(TODAY + DAY, ["0.5", *["0.011001"] * 23])
    await scene.polled()
    path = f"/api/v1/prices?program={PROGRAM}&start=2026-03-01T08:00:00Z"
    _, body = await scene.get(path)
    now = from_json(body)
    assert (now["basis"], now["covers_until"], now["derived_from"]) == (
        "marginal",
        "2026-03-02T08:00:00Z",
        None,
    )
    assert datetime.fromisoformat(now["last_success"]) == scene.job.last_success
    assert (now["items"][0]["price"], now["items"][0]["status"]) == (Decimal("0.500000"), "Final")
    parts = now["items"][0]["components"]
    assert [(c["component"], c["type"]) for c in parts] == [
        ("cld", "distribution"), ("mec", "generation"), ("mgcc", "generation"),
    ]  # fmt: skip
    assert sum(c["price"] for c in parts) == Decimal("0.5")
    _, body = await scene.get(f"{path}&as_of={first:%Y-%m-%dT%H:%M:%SZ}&components=false")
    then = from_json(body)["items"]
    assert then[0]["price"] == Decimal("0.011001")
    assert "components" not in then[0]
    items, after = [], ""
    while after is not None:  # all that ever was, page by page
        _, body = await scene.get(f"{path}&revisions=true&limit=7{after and '&cursor=' + after}")
        page = from_json(body)
        items, after = items + page["items"], page["next"]
    assert len(items) == len({i["id"] for i in items}) == 25
    assert [(str(i["price"]), i["replaced"] is None) for i in items[:2]] == [
        ("0.011001", False),
        ("0.500000", True),
    ]
    assert items[0]["replaced"] == items[1]["since"]
    _, body = await scene.get(f"{path}&format=csv&revisions=true")
    head, row = body.decode().splitlines()[:2]
    assert head.endswith("status,since,replaced,components")
    assert row.endswith(",cld=0.010998;mec=0.000001;mgcc=0.000002")


async def test_preliminary_becomes_final(scene):
    scene.utility.publish(TODAY + 2 * DAY, "0.2", status="Preliminary")
    await scene.polled()
    scene.utility.publish(TODAY + 2 * DAY, "0.2", status="Final")
    await scene.polled()
    rows = await scene.prices(start=datetime(2026, 3, 2, 8, tzinfo=UTC))
    assert {r.status for r in rows} == {"Final"}
    gone = await replaced_prices(scene.bridge.store, PROGRAM)
    assert [r.status for r in gone] == ["Preliminary"] * 24


async def test_tomorrow_reaches_the_device_when_it_is_published(scene):
    await scene.passing(lambda: scene.clock.now() > EVENING + 20 * HOUR, HOUR / 4)
    assert (await scene.bridge.store.prices.programs(scene.clock.now()))[0]["covers_until"] == (
        datetime(2026, 3, 2, 8, tzinfo=UTC)
    )
    scene.utility.publish(TODAY + 2 * DAY, "0.777")
    await scene.passing(lambda: scene.clock.now() > EVENING + 30 * HOUR, HOUR / 4)
    await quiet(scene.path, scene.clock)
    assert scene.device.state["price"] == Decimal("0.777")


async def test_a_strict_utility_is_asked_day_by_day(settings, bridge, tmp_path):
    clock, utility = SimClock(EVENING), GridX()
    utility.strict = True
    for n in range(-6, 3):
        utility.publish(TODAY + n * DAY, "0.1")
    async with started(utility), bridge(settings([source(utility)]), clock) as running:
        scene = Scene(utility, None, clock, running, tmp_path / "bridge.db")
        await scene.passing(lambda: scene.job.last_success, timedelta(seconds=1))
        assert len(await scene.prices()) == 9 * 24


@pytest.mark.parametrize("scene", [{"backfill_from": "2025-12-01"}], indirect=True)
async def test_history_is_filled_in_steps_oldest_first_and_not_again(scene, settings, bridge):
    for n in range(1, 120):
        scene.utility.publish(TODAY - n * DAY, "0.3")
    await scene.passing(lambda: _asked(scene)[-1:] == ["20260223-20260227"], timedelta(seconds=1))
    fills = [a for a in _asked(scene) if not a.startswith("20260222")]
    assert fills[:3] == ["20251201-20251214", "20251215-20251228", "20251229-20260111"]
    await quiet(scene.path, scene.clock)
    assert (await scene.prices())[0].start == datetime(2025, 12, 1, 8, tzinfo=UTC)
    # history is no news to a device
    assert scene.device.types().count("prices.available") == 1


def _asked(scene):
    return [f"{a['startdate']}-{a['enddate']}" for a in scene.utility.asked]


async def test_an_interrupted_filling_goes_on(settings, bridge, tmp_path):
    clock, utility = SimClock(EVENING), GridX()
    for n in range(-100, 2):
        utility.publish(TODAY + n * DAY, "0.1")
    made = None
    async with started(utility):
        made = settings([source(utility, backfill_from="2025-12-01")])
        async with bridge(made, clock) as running:
            scene = Scene(utility, None, clock, running, tmp_path / "bridge.db")
            await scene.passing(lambda: len(utility.asked) >= 4, timedelta(seconds=0.5))
        before = _asked(scene)
        async with bridge(made, clock) as running:
            scene = Scene(utility, None, clock, running, tmp_path / "bridge.db")
            await scene.passing(
                lambda: _asked(scene)[-1] == "20260223-20260227", timedelta(seconds=1)
            )
            await scene.passing(lambda: scene.job.last_success)
            assert "20251201-20251214" in before
            assert _asked(scene)[len(before) + 1 :][0] > "20251201-20251214"
            assert len(set(_asked(scene))) >= len(_asked(scene)) - 2  # one step may come twice
            assert len(await scene.prices()) == 24 * (date(2026, 3, 2) - date(2025, 12, 1)).days


async def test_requests_are_half_a_second_apart(settings, bridge, tmp_path):
    clock, utility = SimClock(EVENING), GridX()
    utility.publish(TODAY, "0.1")
    at = []
    utility.fail = lambda _: at.append(clock.now())
    async with (
        started(utility),
        bridge(settings([source(utility, backfill_from="2025-12-01")]), clock) as running,
    ):
        scene = Scene(utility, None, clock, running, tmp_path / "bridge.db")
        await scene.passing(lambda: len(at) > 8, timedelta(milliseconds=100))
    assert min(b - a for a, b in pairwise(at)) >= timedelta(seconds=0.5)


async def test_nothing_published_yet_is_told_from_a_wrong_name(settings, bridge, tmp_path):
    clock, utility = SimClock(EVENING), GridX()
    utility.publish(TODAY - 30 * DAY, "0.1")
    both = [
        {"rate": "EELEC", "circuit": "013532223"},
        {"rate": "EELEC", "circuit": "999999999"},
    ]
    async with started(utility), bridge(settings([source(utility, series=both)]), clock) as running:
        scene = Scene(utility, None, clock, running, tmp_path / "bridge.db")
        await scene.passing(lambda: scene.job.warning, timedelta(seconds=1))
        first, second = scene.job.warning.split("; ", 1)
        assert first == "EELEC-013532223: no prices are published yet for 2026-02-28"
        assert "the circuit or the CCA seems wrong" in second
        assert await running.store.prices.programs(clock.now()) == []


HTML = "<html><body>slow down</body></html>"


async def _half(request):
    reply = web.StreamResponse(
        headers={"Content-Length": "100000", "Content-Type": "application/json"}
    )
    await reply.prepare(request)
    await reply.write(b'{"meta": {"code": 200,')
    request.transport.close()
    return reply


@pytest.mark.parametrize(
    ("fail", "said"),
    [
        (lambda _: web.Response(status=429, text=HTML, content_type="text/html"), "answered 429"),
        (lambda _: web.Response(status=503), "answered 503"),
        (lambda _: web.Response(status=404), "answered 404"),
        (_half, "cannot be asked"),
        (lambda _: web.Response(text='{"meta": {"code"'), "not JSON"),
        (lambda _: web.Response(text="[]"), "meta.code is not 200"),
        (lambda _: web.json_response({"meta": {"code": 400, "response": "bad"}, "data": []}), "bad"),
        (lambda _: web.json_response({"meta": {"code": 200}, "data": {}}), "no list of days"),
    ],
)  # fmt: skip
async def test_a_failing_utility_changes_nothing_and_is_warned_of_once(scene, fail, said, logged):
    before = await scene.prices()
    scene.utility.fail = fail
    await scene.passing(lambda: scene.job.failures >= 4)
    assert said in scene.job.problem
    assert await scene.prices() == before
    assert scene.device.state["price"] is not None
    about = scene.job.problem
    scene.utility.fail = None
    await scene.passing(lambda: scene.job.problem is None)
    assert await scene.prices() == before
    lines = [entry for entry in logged if entry.get("problem") == about]
    assert len(lines) == 1, logged


@pytest.mark.parametrize("scene", [{"timeout": "300ms"}], indirect=True)
async def test_a_slow_answer_is_waited_for_only_so_long(scene):
    async def slow(_):
        await asyncio.sleep(delay)

    delay, scene.utility.fail = 0.05, slow
    await scene.polled()
    assert scene.job.problem is None
    delay = 0.6
    await scene.passing(lambda: scene.job.problem, timedelta(hours=1))
    assert scene.job.problem == "no answer within 0.3 s"
    delay = 0
    await scene.passing(lambda: scene.job.problem is None)


async def test_a_day_that_never_comes_is_shown_as_not_known(scene, logged):
    await scene.passing(lambda: scene.clock.now() > EVENING + 36 * HOUR, HOUR / 4)
    await quiet(scene.path, scene.clock)
    assert scene.device.state["price"] is None
    assert scene.device.state["stale"] is False  # the utility is there, it only has no prices
    (about,) = await scene.bridge.store.prices.programs(scene.clock.now())
    assert about["covers_until"] == datetime(2026, 3, 2, 8, tzinfo=UTC)
    await scene.warned("no prices are published yet for 2026-03-02")
    lines = [entry for entry in logged if entry["event"] == "job is not well"]
    assert 1 <= len(lines) <= 4, lines  # as often as other days are missing
    for n in range(2, 5):
        scene.utility.publish(TODAY + n * DAY, "0.9")
    await scene.polled()
    assert scene.device.state["price"] == Decimal("0.9")
    await scene.warned(None)


async def test_a_withdrawn_day_holds_nobody_up(scene):
    scene.utility.days[EELEC][TODAY + DAY]["priceDetails"].clear()
    scene.utility.days[EELEC][TODAY + DAY]["priceHeader"]["recordCount"] = 0
    await scene.polled()
    assert (
        len(await scene.prices(start=datetime(2026, 3, 1, 8, tzinfo=UTC))) == 24
    )  # an empty day says nothing
    scene.utility.publish(TODAY, ["0.5"])
    await scene.polled()
    assert scene.device.state["price"] is None
    scene.utility.publish(TODAY, "0.6")
    await scene.polled()
    assert scene.device.state["price"] == Decimal("0.6")


async def test_sces_names_and_components(settings, bridge, tmp_path):
    clock, utility, key = SimClock(EVENING), GridX(), ("TOU-PRIME", "Eagle Rock", None)
    about = {"utility": "SCE", "series": [{"rate": "TOU-PRIME", "circuit": "Eagle Rock"}]}
    utility.publish(TODAY, "0.139976", key, names=SCE, name="SCE-CalFUSE-TOU-PRIME-SECONDARY")
    async with started(utility), bridge(settings([source(utility, **about)]), clock) as running:
        scene = Scene(utility, None, clock, running, tmp_path / "bridge.db")
        await eventually(lambda: scene.job.last_success)
        rows = await scene.prices("TOU-PRIME-Eagle Rock")
        assert [c.name for c in rows[0].components] == [name for name, _ in SCE]
        (about,) = await running.store.prices.programs(clock.now())
        assert (about["basis"], about["zone"]) == ("retail", "America/Los_Angeles")
        _, body = await scene.get(
            "/v1/getPricing?utility=SCE&market=DAM&program=CalFUSE&ratename=TOU-PRIME"
            "&representativeCircuitId=Eagle%20Rock&startdate=20260228&enddate=20260228"
        )
        assert json.loads(body)["data"] == [utility.days[key][TODAY]]


async def test_a_rate_that_is_not_known_is_warned_of_and_collected(settings, bridge, logged):
    clock, utility = SimClock(EVENING), GridX()
    utility.publish(TODAY, "0.1", ("ENEW", "013532223", "PCE"))
    series = [{"rate": "ENEW", "circuit": "013532223", "cca": "PCE"}]
    async with (
        started(utility),
        bridge(settings([source(utility, series=series)]), clock) as running,
    ):
        await eventually(lambda: running.health.job("source:pge").last_success)
        assert len(await kept_prices(running.store, "ENEW-013532223-PCE", EVENING)) > 0
    (line,) = [entry for entry in logged if entry["event"] == "rate is not one that is known"]
    assert line["rate"] == "ENEW"


async def test_the_wait_that_a_utility_asks_for_is_kept(scene):
    scene.utility.fail = lambda _: web.Response(status=429, headers={"Retry-After": "1200"})
    await scene.passing(lambda: scene.job.problem)
    assert scene.job.next_attempt - scene.job.failing_since == timedelta(seconds=1200)


async def test_devices_keep_what_is_known_and_see_that_it_is_stale(scene):
    await scene.utility.stop()
    await scene.passing(lambda: scene.clock.now() > EVENING + 4 * HOUR, HOUR / 6)
    await quiet(scene.path, scene.clock)
    await eventually(lambda: scene.device.state["stale"] is True)
    assert scene.device.state["price"] == Decimal("0.010001")
    await scene.utility.start()
    await scene.passing(lambda: scene.job.problem is None)
    await eventually(lambda: scene.device.state["stale"] is False)


async def test_offsets_that_are_not_the_zones_are_refused(scene):
    wrong = json.dumps(scene.utility.days[EELEC][TODAY + DAY]).replace("-0800", "-0700")
    scene.utility.days[EELEC][TODAY + 2 * DAY] = json.loads(
        re.sub("2026-03-01", "2026-03-02", wrong)
    )
    await scene.polled()
    await scene.warned("the offset of 2026-03-02T00:00:00-0700 is not that of America")
    assert len(await scene.prices(start=datetime(2026, 3, 2, 8, tzinfo=UTC))) == 0


async def test_a_record_count_that_is_wrong_is_reported_and_withdraws_nothing(scene):
    scene.utility.publish(TODAY + DAY, ["0.9", "0.8"], count=24)
    await scene.polled()
    await scene.warned("recordCount is 24, but there are 2 prices")
    rows = await scene.prices(start=datetime(2026, 3, 1, 8, tzinfo=UTC))
    assert [str(r.value) for r in rows] == ["0.900000", "0.800000"] + ["0.011001"] * 22
    scene.utility.publish(TODAY + DAY, ["0.9", "0.8"])
    await scene.polled()
    rows = await scene.prices(start=datetime(2026, 3, 1, 8, tzinfo=UTC))
    assert [str(r.value) for r in rows] == ["0.900000", "0.800000"]
    await scene.warned(None)


CHANGES = [
    (date(2024, 3, 10), 23), (date(2024, 11, 3), 25), (date(2025, 3, 9), 23), (date(2025, 11, 2), 25),
    (date(2026, 3, 8), 23), (date(2026, 11, 1), 25), (date(2027, 3, 14), 23), (date(2027, 11, 7), 25),
]  # fmt: skip


@pytest.mark.parametrize("minutes", [60, 15])
@pytest.mark.parametrize(("day", "hours"), CHANGES)
async def test_days_of_23_and_25_hours_come_out_of_every_form(
    settings, bridge, tmp_path, day, hours, minutes
):
    length, clock, utility = timedelta(minutes=minutes), SimClock(EVENING), GridX()
    starts = hours_of(day, length=length)
    count = hours * 60 // minutes
    assert len(starts) == count
    clock.set(datetime(day.year, day.month, day.day, 20, tzinfo=UTC))
    prices = [f"{n / 1000:.6f}" for n in range(count)]
    utility.publish(day, prices, length=length, names=SCE)
    async with (
        started(utility),
        bridge(
            settings(
                [source(utility)],
                [{"name": "d", "url": "http://127.0.0.1:9/x"}],
                site={"timezone": "America/Los_Angeles"},
            ),
            clock,
        ) as running,
    ):
        scene = Scene(utility, None, clock, running, tmp_path / "bridge.db")
        await scene.passing(lambda: scene.job.last_success, timedelta(seconds=1))
        stamp = day.strftime("%Y%m%d")
        _, body = await scene.get(
            "/v1/getPricing?utility=PGE&market=DAM&program=CalFUSE&ratename=EELEC"
            f"&representativeCircuitId=013532223&startdate={stamp}&enddate={stamp}"
        )
        (served,) = json.loads(body)["data"]
        assert served == utility.days[EELEC][day]
        assert served["priceHeader"]["recordCount"] == count
        for form, read in (
            ("json", lambda b: [i["start"] for i in json.loads(b)["items"]]),
            ("evcc", lambda b: [i["start"] for i in json.loads(b)]),
            ("ndjson", lambda b: [json.loads(line)["start"] for line in b.splitlines()]),
            ("csv", lambda b: [line.split(",")[1] for line in b.decode().splitlines()[1:]]),
        ):
            _, body = await scene.get(f"/api/v1/prices?program={PROGRAM}&format={form}")
            assert [datetime.fromisoformat(s) for s in read(body)] == starts, form
        (event,) = await running.store.deliveries.live_events(clock.now())
        assert [i.id for i in event.intervals] == list(range(count))


async def test_a_second_bridge_serves_byte_for_byte_what_the_first_does(settings, bridge, tmp_path):
    days = recorded_year()
    clock, utility = SimClock(datetime(2026, 1, 3, 4, tzinfo=UTC)), GridX()
    key = ("EV2A", "162611704", None)
    for day, hours in days.items():
        utility.publish(day, [price for _, price in hours], key, name="PGE-CalFUSE-EV2A-SECONDARY")
    about = {
        "series": [{"rate": "EV2A", "circuit": "162611704"}], "backfill_from": "2025-01-01",
    }  # fmt: skip
    query = (
        "utility=PGE&market=DAM&program=CalFUSE&ratename=EV2A&representativeCircuitId=162611704"
        "&startdate={}&enddate={}"
    )
    year = query.format("20250101", "20251230")
    async with started(utility), bridge(settings([source(utility, **about)]), clock) as one:
        scene = Scene(utility, None, clock, one, tmp_path / "bridge.db")
        await _filled(scene, 8736)
        status, first = await scene.get(f"/v1/getPricing?{year}")
        assert status == 200
        served = {d["priceHeader"]["startTime"][:10]: d for d in json.loads(first)["data"]}
        assert served == {d.isoformat(): c for d, c in utility.days[key].items()}
        assert len(served["2025-03-09"]["priceDetails"]) == 23
        assert len(served["2025-11-02"]["priceDetails"]) == 25
        again = settings(
            [{**source(utility, **about), "base_url": one.addresses["vtn"] + "/stage/v1"}],
            store={"path": tmp_path / "second.db"},
        )
        async with bridge(again, clock) as two:
            other = Scene(utility, None, clock, two, tmp_path / "second.db")
            await _filled(other, 8736)
            for path, asked in (
                ("/v1/getPricing", year),
                ("/stage/v1/getPricing", query.format("20250309", "20250309")),
                ("/v1/getPricing", query.format("20251101", "20251103")),
            ):
                mine, theirs = [
                    re.sub(rb'"requestURL":"[^"]*"', b"", (await s.get(f"{path}?{asked}"))[1])
                    for s in (scene, other)
                ]
                assert mine == theirs
            # the same input again is no change
            assert await replaced_prices(two.store, "EV2A-162611704") == []


async def _filled(scene, count):
    for _ in range(4000):
        scene.clock.pass_time(timedelta(seconds=0.5))
        await asyncio.sleep(0.004)
        if scene.bridge.health.job("source:pge").problem:
            raise AssertionError(scene.job.problem)
        if len(scene.utility.asked) > 20 and len(await scene.prices("EV2A-162611704")) == count:
            return
    raise AssertionError(len(await scene.prices("EV2A-162611704")))


@pytest.mark.parametrize(
    "query",
    [
        "", "utility=PGE", "startdate=20260230", "startdate=x", "startdate=20260305",
        "ratename=B6", "representativeCircuitId=13532223", "utility=pge", "market=RTM",
        "program=Other", "cca=PCE", "enddate=20260301&startdate=20260301&ratename=",
    ],
)  # fmt: skip
async def test_whatever_does_not_fit_is_answered_with_204(scene, query):
    good = {
        "utility": "PGE", "market": "DAM", "program": "CalFUSE", "startdate": "20260228",
        "enddate": "20260228", "ratename": "EELEC", "representativeCircuitId": "013532223",
    }  # fmt: skip
    changed = dict(part.split("=") for part in query.split("&") if part)
    asked = {**good, **changed} if query and query != "utility=PGE" else changed
    text = "&".join(f"{k}={v}" for k, v in asked.items())
    assert await scene.get(f"/v1/getPricing?{text}") == (204, b"")
    whole = "&".join(f"{k}={v}" for k, v in good.items())
    assert (await scene.get(f"/v1/getPricing?{whole}"))[0] == 200
