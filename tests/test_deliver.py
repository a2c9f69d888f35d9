"""Delivery: in order, at least once, one bad device holding up no other."""

import asyncio
import base64
import secrets
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from bridge.interfaces import Batch
from bridge.store.devices import enable
from bridge.store.files import beside
from bridge.wire.openadr2 import read_listing
from bridge.wire.openleadr import read_message
from tests.peers import (
    Device,
    SimClock,
    distribute,
    event,
    eventually,
    levels,
    quiet,
    signal,
    started,
)

NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


class Scene:
    """A bridge with devices and no source: events are kept as a source's would be."""

    def __init__(self, bridge, settings, clock, path):
        self.bridge, self.settings, self.clock, self.path = bridge, settings, clock, path
        (self.source,) = settings.sources

    async def say(self, *events, complete=False):
        listing = read_listing(read_message(distribute(*events).encode()).element)

        async def nothing():
            pass

        batch = Batch(listing.dispatches, "r", complete, nothing)
        await self.bridge.store.events.save(self.source, batch, self.clock.now())

    async def quiet(self):
        await quiet(self.path, self.clock)

    async def pass_time(self, length, step=MINUTE * 5):
        while length > timedelta(0):
            self.clock.pass_time(min(step, length))
            length -= step
            await asyncio.sleep(0.02)

    async def pass_until(self, condition):
        """Let time pass, no faster than real requests take, until something is so."""
        for _ in range(400):
            if condition():
                return
            self.clock.pass_time(MINUTE / 4)
            await asyncio.sleep(0.03)
        raise AssertionError(
            [(r["type"], r["outcome"], r["attempts"], r["problem"]) for r in await self.rows()]
        )

    async def rows(self, device=None, outcome=None):
        return await self.bridge.store.deliveries.list(None, 1000, device, outcome)


@pytest.fixture
def scene(settings, bridge, tmp_path):
    """Run a bridge for devices given as name → (peer, settings)."""
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def run(at=NOON, **devices):
        clock = SimClock(at)
        nobody = {"name": "s", "vtn_url": "http://127.0.0.1:9/x"}
        async with started(*[d for d, _ in devices.values()]):
            made = settings(
                [nobody],
                [{"name": n, "url": d.url, "refresh": "1d", **o} for n, (d, o) in devices.items()],
            )
            async with bridge(made, clock) as running:
                yield Scene(running, made, clock, tmp_path / "bridge.db")

    return run


async def test_an_events_life_in_order(scene):
    device = Device()
    async with scene(d=(device, {})) as s:
        await s.say(event("E", NOON + HOUR, levels([1, 2]), duration="PT2H"))
        for _ in range(20):
            await s.quiet()
            s.clock.pass_time(10 * MINUTE)
        await s.quiet()
    assert device.types("state.changed") == [
        "event.received", "event.upcoming", "event.started", "interval.started", "interval.started", "event.ended",
    ]  # fmt: skip
    starts = [b for b in device.bodies if b["type"] == "interval.started"]
    assert [b["data"]["interval"]["payloads"][0]["values"] for b in starts] == [[1], [2]]
    assert starts[0]["timestamp"] == "2027-03-01T13:00:00Z"
    assert starts[0]["data"]["state"]["level"] == 1
    assert starts[0]["data"]["device"] == "d"
    assert starts[0]["data"]["program"] == "EV2A"
    assert starts[0]["data"]["event"]["objectType"] == "EVENT"


async def test_a_new_device_is_told_its_state_at_once_and_again_every_refresh(scene):
    device = Device()
    async with scene(d=(device, {"refresh": "5m"})) as s:
        await eventually(lambda: len(device.received) == 1)
        await s.quiet()
        for n in range(2, 5):
            s.clock.pass_time(5 * MINUTE)
            await eventually(lambda n=n: len(device.received) == n)
            await s.quiet()
    assert set(device.types()) == {"state.changed"}
    assert len({h["webhook-id"] for h, _ in device.received}) == 4


async def test_format_state_sends_the_state_alone(scene):
    device = Device()
    async with scene(d=(device, {"format": "state"})) as s:
        await s.say(event("E", NOON, signal(["0.25"] * 24)))
        await s.quiet()
        await eventually(
            lambda: "state.changed" in device.types() and device.state["price"] == Decimal("0.25")
        )
    assert set(device.types()) == {"state.changed"}
    assert set(device.bodies[-1]) == {"type", "timestamp", "data"}
    assert set(device.bodies[-1]["data"]) == {"state"}
    assert device.state["unit"] == "KWH"


async def test_targets_programs_and_test_events(scene):
    one, two, three = Device(), Device(), Device()
    async with scene(
        one=(one, {"resources": ["r1"], "programs": ["CPP"]}),
        two=(two, {"groups": ["g1"]}),
        three=(three, {"test_events": True}),
    ) as s:
        await s.say(
            event("ALL", NOON + HOUR, levels([1]), context="http://u/CPP"),
            event(
                "R1",
                NOON + HOUR,
                levels([1]),
                context="http://u/CPP",
                targets="<ei:resourceID>r1</ei:resourceID>",
            ),
            event(
                "G1",
                NOON + HOUR,
                levels([1]),
                context="http://u/EV2A",
                targets="<ei:groupID>g1</ei:groupID>",
            ),
            event("TEST", NOON + HOUR, levels([1]), test="true"),
            event("NOBODY", NOON + HOUR, levels([1]), targets="<ei:groupID>nobody</ei:groupID>"),
        )
        await s.quiet()
        from aiohttp import ClientSession

        async with ClientSession() as http:
            ready = await (await http.get(s.bridge.addresses["admin"] + "/readyz")).json()
    assert one.events("event.received") == ["ALL", "R1"]
    assert two.events("event.received") == ["ALL", "G1"]
    assert three.events("event.received") == ["ALL", "TEST"]
    assert [e["event"] for e in ready["checks"]["events"]["matching_no_device"]] == ["NOBODY"]


async def test_an_event_that_is_aimed_elsewhere_by_a_modification(scene):
    one, two = Device(), Device()
    aim = "<ei:groupID>{}</ei:groupID>".format
    async with scene(one=(one, {"groups": ["g1"]}), two=(two, {"groups": ["g2"]})) as s:
        await s.say(event("E", NOON + HOUR, levels([1]), targets=aim("g1")))
        await s.quiet()
        await s.say(event("E", NOON + HOUR, levels([1]), targets=aim("g2"), modification=1))
        await s.quiet()
    assert one.types("state.changed") == ["event.received", "event.cancelled"]
    assert two.types("state.changed") == ["event.received"]


async def test_bad_devices_hold_up_no_other_and_get_what_they_should_when_they_return(scene):
    good, hanging, refusing, failing = Device(), Device(), Device(), Device()
    hanging.hang, failing.status = True, 500
    async with scene(
        good=(good, {}),
        hanging=(hanging, {"timeout": "1s"}),
        refusing=(refusing, {}),
        failing=(failing, {}),
    ) as s:
        await refusing.stop()
        await s.say(event("E", NOON + HOUR, levels([1, 2]), duration="PT2H"))
        await eventually(lambda: good.types("state.changed") == ["event.received"], within=1)
        await s.pass_time(70 * MINUTE)
        await eventually(lambda: "event.started" in good.types())
        hanging.hang, failing.status = False, 204
        await refusing.start()
        await s.pass_until(
            lambda: all("interval.started" in d.types() for d in (hanging, refusing, failing))
        )
        while s.clock.now() < NOON + 4 * HOUR:
            s.clock.pass_time(15 * MINUTE)
            await s.quiet()
    for device in (hanging, refusing, failing):
        # "upcoming" was of no use any more; all else came, in order
        assert device.types("state.changed") == [
            "event.received", "event.started", "interval.started", "interval.started", "event.ended",
        ]  # fmt: skip
        states = [b for b in device.bodies if b["type"] == "state.changed"]
        assert len(states) < len([b for b in good.bodies if b["type"] == "state.changed"])
        assert device.state["level"] is None


async def test_a_device_that_was_away_for_a_day(scene):
    device, other = Device(), Device()
    hold = {"on_stale": "hold"}
    async with scene(d=(device, hold), o=(other, hold)) as s:
        await device.stop()
        await s.say(
            event("PAST", NOON + HOUR, levels([1])),
            event("NOW", NOON + 20 * HOUR, levels([2] * 10), duration="PT10H"),
            event("NEXT", NOON + 40 * HOUR, levels([3])),
        )
        await s.pass_time(25 * HOUR, HOUR)
        await device.start()
        await s.pass_until(lambda: "state.changed" in device.types() and device.state["level"] == 2)
        await s.quiet()
        expired = await s.rows("d", "expired")
    assert device.events("event.received") == ["NOW", "NEXT"]
    assert device.events("event.started") == ["NOW"]
    assert device.types().count("interval.started") == 1
    # (only the first state and the newest one: a state is replaced by the next)
    assert any("cannot be reached: Connect" in r["problem"] for r in expired)
    assert {r["moment"] for r in expired} >= {"event.received", "event.started", "interval.started"}
    assert all(r["problem"] for r in expired)


async def test_410_disables_a_device_until_it_is_enabled(scene, tmp_path):
    device, other = Device(), Device()
    device.status = 410
    async with scene(d=(device, {}), o=(other, {})) as s:
        await eventually(lambda: other.received)
        await s.say(event("E", NOON + HOUR, levels([1])))
        await s.quiet()
        assert {r["outcome"] for r in await s.rows("d")} == {"given_up"}
        (about,) = [r for r in await s.bridge.store.devices.list() if r["name"] == "d"]
        assert "410" in about["disabled"]
        device.status = 204
        await s.say(event("F", NOON + HOUR, levels([1])))
        await s.quiet()
        assert device.received == []
        with beside(tmp_path / "bridge.db") as db:
            assert enable(db, "d", s.clock.now())
            assert not enable(db, "nobody", s.clock.now())
        await eventually(lambda: device.types() == ["state.changed"])
        await s.say(event("G", NOON + HOUR, levels([1])))
        await eventually(lambda: device.events("event.received") == ["G"])


async def test_a_delivery_given_up_can_be_sent_again_with_the_same_body(scene):
    device = Device()
    device.status = 400
    async with scene(d=(device, {})) as s:
        await eventually(lambda: True)
        await s.say(event("E", NOON + HOUR, levels([1])))
        await s.quiet()
        (row,) = [r for r in await s.rows("d", "given_up") if r["type"] == "event.received"]
        assert "400" in row["problem"]
        device.status = 204
        again = await s.bridge.store.deliveries.retry(row["id"], s.clock.now())
        assert again["outcome"] is None
        await eventually(
            lambda: any(
                h["webhook-id"] == row["id"] and b == row["body"] for h, b in device.received
            )
        )
        assert await s.bridge.store.deliveries.retry("nothing of this id", s.clock.now()) is None


async def test_retry_after_is_honoured_and_a_new_start_ends_the_wait(scene):
    device = Device()
    device.status, device.headers = 503, {"Retry-After": "1800"}
    async with scene(d=(device, {})) as s:
        await eventually(lambda: s.bridge.health.job("workers").last_success)
        await s.say(event("E", NOON + HOUR, levels([1])))
        await eventually(lambda: device.calls)
        await s.pass_time(1 * MINUTE)
        device.status = 204
        await s.pass_time(25 * MINUTE)
        assert device.received == []
        await s.pass_time(5 * MINUTE)
        await eventually(lambda: device.events("event.received") == ["E"])
        device.status = 503
        await s.say(event("F", NOON + 2 * HOUR, levels([1])))
        await asyncio.sleep(0.2)
        device.status = 204
        await s.say(event("F", NOON + 2 * HOUR, levels([1]), modification=1, status="cancelled"))
        await eventually(lambda: device.events("event.cancelled") == ["F"])
        await s.quiet()


async def test_repeats_are_byte_identical_under_the_same_id(scene):
    device = Device()

    async def forgetful(request):
        device.received.append((dict(request.headers), await request.read()))
        from aiohttp import web

        return web.Response(status=500 if len(device.received) % 2 else 204)

    device.answer = forgetful
    async with scene(d=(device, {})) as s:
        await s.say(event("E", NOON + HOUR, levels([1])))
        await s.pass_time(20 * MINUTE, MINUTE)
        await s.quiet()
    bodies = {}
    for headers, body in device.received:
        bodies.setdefault(
            headers["Webhook-Id"] if "Webhook-Id" in headers else headers["webhook-id"], set()
        ).add(body)
    assert len(bodies) < len(device.received)
    assert all(len(b) == 1 for b in bodies.values())


async def test_a_stranger_cannot_make_a_device_believe_it(scene, tmp_path):
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    (tmp_path / "secret").write_text(secret + "\n")
    device = Device()
    async with scene(datetime.now(UTC), d=(device, {"secret_file": tmp_path / "secret"})) as s:
        await eventually(lambda: device.received)
        await s.say(event("E", s.clock.now() + HOUR, levels([1])))
        await eventually(lambda: device.events("event.received"))
    headers, body = device.received[-1]
    assert Verifier(secret).verify(body, headers)["type"]
    with pytest.raises(WebhookVerificationError):
        Verifier(secret).verify(body.replace(b"1", b"2"), headers)
    other = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    with pytest.raises(WebhookVerificationError):
        Verifier(other).verify(body, headers)


async def test_a_drawn_start_is_drawn_once_and_survives_a_restart(settings, bridge, tmp_path):
    clock, devices = SimClock(NOON), [Device(), Device()]
    async with started(*devices):
        made = settings(
            [{"name": "s", "vtn_url": "http://127.0.0.1:9/x"}],
            [{"name": f"d{n}", "url": d.url} for n, d in enumerate(devices)],
        )
        path = tmp_path / "bridge.db"
        async with bridge(made, clock) as running:
            s = Scene(running, made, clock, path)
            await s.say(event("E", NOON + HOUR, levels([1]), start_after="PT30M", duration="PT1H"))
            await s.quiet()
            first = await running.store.deliveries.offsets()
        async with bridge(made, clock) as running:
            s = Scene(running, made, clock, path)
            await s.say(
                event(
                    "E",
                    NOON + HOUR,
                    levels([2]),
                    start_after="PT30M",
                    duration="PT1H",
                    modification=1,
                )
            )
            await s.quiet()
            assert await running.store.deliveries.offsets() == first
            while clock.now() < NOON + 3 * HOUR:
                clock.pass_time(MINUTE / 2)
                await s.quiet()
    assert len(set(first.values())) == 2
    for n, device in enumerate(devices):
        drawn = next(v for (_, d), v in first.items() if d == f"d{n}")
        (begun,) = [b for b in device.bodies if b["type"] == "event.started"]
        (ended,) = [b for b in device.bodies if b["type"] == "event.ended"]
        at = [datetime.fromisoformat(b["timestamp"]) - NOON for b in (begun, ended)]
        assert [
            abs(a - e) < timedelta(milliseconds=2)
            for a, e in zip(at, (HOUR + drawn, 2 * HOUR + drawn), strict=True)
        ] == [True] * 2
        assert begun["data"]["state"]["level"] == 2


async def test_an_open_ended_event_is_released(scene):
    device = Device()
    async with scene(d=(device, {})) as s:
        await s.say(event("OPEN", NOON, levels([2], "PT0S"), duration="PT0S"))
        await s.pass_time(23 * HOUR, HOUR)
        await s.quiet()
        assert device.state["level"] == 2
        await s.pass_time(2 * HOUR, HOUR)
        await s.quiet()
    assert device.state["level"] is None
    assert device.types("state.changed")[-1] == "event.ended"


async def test_a_silent_source_makes_states_stale_and_begins_nothing(scene):
    normal, hold = Device(), Device()
    options = {"stale_after": "2h"}
    async with scene(normal=(normal, options), hold=(hold, {**options, "on_stale": "hold"})) as s:
        await s.say(
            event("P", NOON, signal(["0.5"] * 24)),
            event("L", NOON + HOUR, levels([1] * 3), duration="PT3H", context="http://u/CPP"),
            event("M", NOON + 6 * HOUR, levels([2]), duration="PT1H", context="http://u/CPP"),
        )
        await s.pass_time(3 * HOUR, 10 * MINUTE)
        await s.quiet()
        for device in (normal, hold):
            assert (device.state["level"], device.state["stale"]) == (1, True)
        await s.pass_time(3 * HOUR + MINUTE, 10 * MINUTE)
        await s.quiet()
        assert (normal.state["level"], normal.state["price"]) == (None, Decimal("0.5"))
        assert hold.state["level"] == 2
        withheld = await s.rows("normal", "withheld")
        assert {r["moment"] for r in withheld} >= {"event.started", "interval.started"}
        await s.bridge.store.sources.heard_from("s", s.clock.now())
        await s.pass_time(1 * MINUTE, MINUTE / 4)
        await s.quiet()
        assert normal.state["stale"] is False
        assert normal.state["level"] == 2


async def test_moments_are_held_while_the_clock_is_behind(settings, bridge, tmp_path):
    clock, device = SimClock(NOON), Device()
    async with started(device):
        made = settings(
            [{"name": "s", "vtn_url": "http://127.0.0.1:9/x"}], [{"name": "d", "url": device.url}]
        )
        async with bridge(made, clock) as running:
            s = Scene(running, made, clock, tmp_path / "bridge.db")
            await s.say(event("E", NOON + HOUR, levels([1])))
            await s.quiet()
        clock = SimClock(datetime(1970, 1, 1, tzinfo=UTC))  # no real-time clock
        async with bridge(made, clock) as running:
            from aiohttp import ClientSession

            async with ClientSession() as http:

                async def check():
                    reply = await http.get(running.addresses["admin"] + "/readyz")
                    return (await reply.json())["checks"]["clock"]["ok"]

                while await check():
                    clock.pass_time(timedelta(seconds=1))
                clock.set(NOON + HOUR + MINUTE)
                await eventually(lambda: "event.started" in device.types())
                assert await check()


async def test_backup_under_load_restores_to_the_same_state(scene, tmp_path):
    from bridge.store import files

    device = Device()
    async with scene(d=(device, {})) as s:

        async def load():
            for n in range(40):
                await s.say(
                    event(
                        f"E{n}",
                        NOON + HOUR + n * MINUTE,
                        signal([f"0.{n + 10}"] * 2, length="PT1M"),
                        duration="PT2M",
                    )
                )

        work = asyncio.create_task(load())
        await asyncio.sleep(0.05)
        await asyncio.to_thread(files.backup, s.path, tmp_path / "copy.db")
        await work
        await s.quiet()
    counts = files.counts(tmp_path / "copy.db")
    assert 0 < counts["events"] <= 40
    assert counts["events"] == counts["origins"] == counts["tracks"]
    files.restore(tmp_path / "copy.db", s.path)
    assert files.counts(s.path) == counts


async def test_old_rows_are_pruned_and_owed_ones_are_not(scene):
    device = Device()
    async with scene(d=(device, {})) as s:
        await s.say(event("E", NOON + HOUR, levels([1])))
        await s.quiet()
        before = await s.rows()
        s.clock.pass_time(timedelta(days=40))
        await asyncio.sleep(0.1)
        await s.quiet()
        assert not await s.bridge.store.moments.prune(s.clock.now())
        after = await s.rows()
    assert len(before) > 1
    assert not {r["id"] for r in before} & {r["id"] for r in after}


async def test_moments_reach_only_those_an_event_is_aimed_at(scene):
    inside, outside, other = Device(), Device(), Device()
    async with scene(
        inside=(inside, {"groups": ["g1"]}),
        outside=(outside, {}),
        other=(other, {"programs": ["TOU"]}),
    ) as s:
        await s.say(
            event(
                "E",
                NOON + 20 * MINUTE,
                levels([1]),
                targets="<ei:groupID>g1</ei:groupID>",
                duration="PT1H",
            )
        )
        await s.say(event("T", NOON + 20 * MINUTE, levels([1]), test="true", duration="PT1H"))
        for _ in range(20):
            await s.quiet()
            s.clock.pass_time(5 * MINUTE)
        await s.quiet()
    assert inside.types("state.changed") == [
        "event.received", "event.upcoming", "event.started", "interval.started", "event.ended",
    ]  # fmt: skip
    assert inside.events("event.started") == ["E"]
    assert outside.types("state.changed") == other.types("state.changed") == []


async def test_a_moment_of_an_event_that_was_changed_meanwhile(scene, settings, tmp_path):
    """The scheduler fired, then the event changed, and only then the fan-out got to it."""
    from bridge.deliver.fan_out import FanOut
    from bridge.model import Change, Track
    from bridge.timeline import fire

    device = Device()
    async with scene(d=(device, {})) as s:
        await s.say(event("E", NOON, levels([1, 2, 3, 4, 5]), duration="PT5H"))
        await s.quiet()
        (old,) = await s.bridge.store.deliveries.live_events(NOON)
        await s.say(event("E", NOON, levels([1, 2]), duration="PT2H", modification=1))
        await s.quiet()
        (new,) = await s.bridge.store.deliveries.live_events(NOON)
        planner = FanOut(s.bridge.store.deliveries, [s.settings.devices[0].receiver], s.clock)
        await planner._load()
        planner._events = {new.id: new}
        track = Track(old, "", timedelta(0), True, NOON, False)
        moments = fire(track, NOON + 5 * HOUR, ()).due
        changes = [
            Change(n, NOON, "MOMENT", "EVENT", old.id, None, {
                "moment": m.kind, "instant": int(m.at.timestamp() * 1000),
                "lead": 0, "device": "", "modification": 0,
            })
            for n, m in enumerate(moments)
        ]  # fmt: skip
        planned = [
            d for d in planner.plan(changes, NOON + HOUR).deliveries if d.type != "state.changed"
        ]
    assert [(d.type, d.outcome) for d in planned] == [
        ("interval.started", None),
        ("interval.started", "expired"), ("interval.started", "expired"), ("interval.started", "expired"),
        ("event.ended", "expired"),
    ]  # fmt: skip


async def test_a_device_that_answers_nonsense_stops_no_other(scene):
    bad, good = Device(), Device()
    bad.status, bad.headers = 503, {"Retry-After": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"}
    async with scene(bad=(bad, {}), good=(good, {})) as s:
        await s.say(event("E", NOON + HOUR, levels([1])))
        await eventually(lambda: good.events("event.received") == ["E"])
        bad.status = 204
        await s.pass_until(lambda: bad.events("event.received") == ["E"])


async def test_delivery_that_stopped_by_itself_begins_anew(scene):
    device = Device()
    async with scene(d=(device, {})) as s:
        await eventually(lambda: device.received)
        outbox, broken = s.bridge.store.deliveries, RuntimeError("a mistake of ours")
        owed = outbox.owed

        async def fail(_after):
            outbox.owed = owed
            raise broken

        outbox.owed = fail
        await s.say(event("E", NOON + HOUR, levels([1])))
        await eventually(lambda: s.bridge.health.job("workers").problem)
        await s.pass_until(lambda: device.events("event.received") == ["E"])
        await eventually(lambda: s.bridge.health.job("workers").problem is None)
        await s.quiet()


async def test_a_drawn_start_survives_an_opt_out_and_in_again(scene):
    device = Device()
    async with scene(d=(device, {})) as s:
        await s.say(event("E", NOON + HOUR, levels([1]), start_after="PT30M", duration="PT1H"))
        await s.quiet()
        (row,) = await s.bridge.store.events.list(None, 10)
        before = await s.bridge.store.deliveries.offsets()
        for opt in ("optOut", "optIn"):
            await s.bridge.store.events.set_opt(row["id"], opt, s.clock.now())
            await s.quiet()
        assert await s.bridge.store.deliveries.offsets() == before
        while s.clock.now() < NOON + 3 * HOUR:
            s.clock.pass_time(5 * MINUTE)
            await s.quiet()
    assert device.events("event.started") == ["E"]
    assert device.events("event.ended") == ["E"]


async def test_times_finer_than_a_millisecond(scene):
    device = Device()
    odd = event("E", NOON + HOUR, levels([1, 2], "PT1S")).replace("13:00:00Z", "13:00:00.000456Z")
    async with scene(d=(device, {})) as s:
        await s.say(odd)
        s.clock.set(NOON + HOUR + timedelta(microseconds=100))
        await s.quiet()
        s.clock.pass_time(MINUTE)
        await s.quiet()
    assert "event.started" in device.types()


async def test_a_boundary_just_before_a_modification_is_not_lost(scene):
    device = Device()
    async with scene(d=(device, {})) as s:
        await s.say(event("E", NOON, levels([1, 2, 3]), duration="PT3H"))
        await s.quiet()
        s.clock._now = NOON + HOUR + timedelta(milliseconds=5)  # nobody has woken for it yet
        await s.say(event("E", NOON, levels([1, 2, 2]), duration="PT3H", modification=1))
        await s.quiet()
    starts = [b["timestamp"] for b in device.bodies if b["type"] == "interval.started"]
    assert starts == ["2027-03-01T12:00:00Z", "2027-03-01T13:00:00Z"]


async def test_a_source_that_left_the_settings_makes_nothing_stale(settings, bridge, tmp_path):
    clock, device = SimClock(NOON), Device()
    async with started(device):
        devices = [{"name": "d", "url": device.url}]
        gone = [{"name": n, "vtn_url": "http://127.0.0.1:9/x"} for n in ("gone", "stays")]
        async with bridge(settings(gone, devices), clock):
            await eventually(lambda: device.received)
        async with bridge(settings(gone[1:], devices), clock) as running:
            await running.store.sources.heard_from("stays", NOON + 5 * HOUR)
            clock.pass_time(5 * HOUR)
            await quiet(tmp_path / "bridge.db", clock)
            assert device.state["stale"] is False


async def test_pruning_goes_on_piece_by_piece(scene, monkeypatch):
    from bridge.store import moments

    monkeypatch.setattr(moments, "PRUNED_AT_ONCE", 1)
    device = Device()
    async with scene(d=(device, {})) as s:
        for n in range(4):
            await s.say(event(f"E{n}", NOON + HOUR, levels([1])))
        await s.quiet()
        before = await s.rows()
        s.clock.pass_time(timedelta(days=40))

        async def left():
            return {r["id"] for r in before} & {r["id"] for r in await s.rows()}

        while await left():
            s.clock.pass_time(timedelta(seconds=10))
            await asyncio.sleep(0.02)
    assert len(before) > 4


async def test_the_interval_that_is_told_is_the_one_that_starts(scene):
    """Also where some intervals lie outside the active period, and so are left out."""
    device = Device()
    async with scene(d=(device, {})) as s:
        body = levels([1, 2, 3]).replace(
            "<ei:interval>",
            "<ei:interval><xcal:dtstart><xcal:date-time>2027-03-01T16:00:00Z</xcal:date-time></xcal:dtstart>", 1,
        )  # fmt: skip
        again = "<xcal:uid><xcal:text>1</xcal:text>"
        start = "<xcal:dtstart><xcal:date-time>2027-03-01T13:00:00Z</xcal:date-time></xcal:dtstart>"
        head, _, tail = body.partition(again)
        place = head.rindex("<ei:interval>") + len("<ei:interval>")
        body = head[:place] + start + head[place:] + again + tail
        await s.say(event("E", NOON + HOUR, body, duration="PT2H"))
        for _ in range(14):
            await s.quiet()
            s.clock.pass_time(15 * MINUTE)
        await s.quiet()
    told = [b["data"] for b in device.bodies if b["type"] == "interval.started"]
    assert [t["interval"]["payloads"][0]["values"] for t in told] == [[2], [3]]
    assert [t["state"]["level"] for t in told] == [2, 3]
