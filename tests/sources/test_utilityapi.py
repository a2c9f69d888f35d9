"""UtilityAPI: what it has collected is fetched, politely and whole, and never a cent is spent."""

import hashlib
import json
import socket
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from aiohttp import ClientSession, web
from pydantic import ValidationError

from bridge.config import read_settings
from bridge.errors import SettingsError
from bridge.notation import day_span
from bridge.sources import UtilityAPI
from bridge.usage import Stream, UsageQuestion
from tests.peers import eventually, started
from tests.sources.collecting import NOON, SECOND
from tests.utilityapi import (
    QUARTER,
    TOKEN,
    UtilityApi,
    bill,
    local,
    point,
    problem,
    reading,
    too_many,
)

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
IMPORT = Stream("home/m1", "import")
BESIDE = 25 * HOUR  # of both sides of a window is asked for, too


@pytest.fixture
async def peer(clock):
    found = UtilityApi(clock)
    async with started(found):
        yield found


@pytest.fixture
def source(tmp_path, peer):
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    (tmp_path / "webhook").write_text("shared")

    def make(**about):
        place = {"kind": "utilityapi", "name": "home", "base_url": peer.url}
        return UtilityAPI.model_validate({**place, "token_file": tmp_path / "token", **about})

    return make


def hours(start, count, value=Decimal("0.25"), kind="fwd", **about):
    return [reading(start + n * HOUR, [point(kind, value, **about)], HOUR) for n in range(count)]


def got(*values):
    return [Decimal(str(value)) for value in values]


async def test_what_is_there_is_kept_exactly_newest_first_in_windows(peer, scene, source, clock):
    start = NOON - 80 * DAY
    points = [
        [point("fwd", Decimal(n) / 1000), point("rev", 0), point("net", Decimal(n) / 1000)]
        for n in range(80 * 96)
    ]
    peer.install("m1")
    peer.collect("m1", [reading(start + n * QUARTER, p) for n, p in enumerate(points)])
    async with scene.running(source()):
        await scene.passing(4 * MINUTE)
    expected = [(start + n * QUARTER, Decimal(n) / 1000) for n in range(80 * 96)]
    assert scene.values(IMPORT) == expected
    assert scene.values(Stream("home/m1", "net")) == expected
    assert {value for _, value in scene.values(Stream("home/m1", "export"))} == {0}
    assert {r[2] for r in scene.readings[IMPORT].values()} == {"revenue"}
    assert {(o.kind, o.name, o.reference) for o in scene.origins} == {
        ("utilityapi", "home", "m1-0")
    }
    assert set(scene.said) == {NOON}
    edges = [tuple(map(datetime.fromisoformat, window)) for window in peer.windows()]
    assert edges == [
        (start + 62 * DAY - BESIDE, NOON),
        (start + 31 * DAY - BESIDE, start + 62 * DAY + BESIDE),
        (start, start + 31 * DAY + BESIDE),
    ]
    assert scene.state("home/m1") == "ok"
    assert scene.job.warning is None


async def test_it_is_asked_as_politely_as_it_wants_to_be(peer, scene, source, clock):
    peer.install("m1")
    peer.install("m2", "a2")
    peer.page["intervals"] = 1
    for uid in ("m1", "m2"):
        for month in range(3):
            peer.collect(uid, hours(NOON - (30 + month * 30) * DAY, 24 * 30))
        peer.billed(bill(f"b{uid}", uid, NOON - 60 * DAY, NOON - 30 * DAY, 500, Decimal("99.99")))
    peer.happen("ping", authorization=None)
    async with scene.running(source()):
        await scene.passing(25 * MINUTE)
    assert len(peer.downloads()) >= 10
    assert min(b - a for a, b in pairwise(peer.downloads())) >= MINUTE
    assert min(b - a for a, b in pairwise([at for at, *_ in peer.asked])) >= SECOND
    assert len(scene.values(IMPORT)) == len(scene.values(Stream("home/m2", "import"))) == 90 * 24


async def test_in_weeks_not_one_call_is_made_that_costs_money(peer, scene, source, clock):
    peer.install("m1")
    peer.install("m2", "a2", is_activated=False)
    peer.collect("m1", hours(NOON - 5 * DAY, 120))
    async with scene.running(source(every="2h")):
        for day in range(15):
            peer.balance = 0 if day % 3 else 50
            peer.fail = (lambda path, _: web.Response(status=503)) if day == 4 else None
            peer.happen("meter_historical_collection_finished_errored", "m2", "a2")
            peer.happen("authorization_update_finished_successful", None, "a1")
            await scene.passing(DAY)
    assert len(peer.asked) > 150
    assert peer.paid == []
    assert {method for _, method, *_ in peer.asked} == {"GET"}
    assert not any(uid == "m2" for *_, q in peer.asked for uid in [q.get("meters")])
    state = scene.states["home/m2"]
    assert state.state == "needs_activation"
    assert "no logs yet" in state.says
    assert "openadr-bridge utilityapi collect home m2" in state.next_step
    assert "costs money" in state.next_step


async def test_news_has_the_last_week_fetched_again_with_its_corrections(
    peer, scene, source, clock
):
    start = NOON - 20 * DAY
    peer.install("m1")
    peer.collect("m1", hours(start, 24 * 19))
    async with scene.running(source()):
        await scene.passing(5 * MINUTE)
        before = len(peer.windows())
        late = [
            *hours(start, 24 * 18),
            *hours(start + 18 * DAY, 24, Decimal(9)),
            *hours(start + 19 * DAY, 12),
        ]
        peer.collect("m1", late, name="m1-0")
        await scene.passing(10 * MINUTE)
        assert peer.windows()[before:] == [
            ("2026-06-22T18:00:00Z", "2026-07-01T07:00:00Z"),
        ]  # a week and a day before what was there, to what is there now
        values = dict(scene.values(IMPORT))
        assert len(values) == 24 * 19 + 12
        assert {values[start + 18 * DAY + n * HOUR] for n in range(24)} == {Decimal(9)}
        asked = len(peer.windows())
        await scene.passing(3 * HOUR)
        assert len(peer.windows()) == asked


async def test_events_come_repeated_unordered_and_in_pages_and_each_acts_once(
    peer, scene, source, clock
):
    peer.install("m1")
    peer.collect("m1", hours(NOON - 3 * DAY, 48))
    for n in reversed(range(9)):
        peer.happen("meter_created", None, "other", at=NOON - n * HOUR, uid=f"old{n}")
    peer.page["events"] = 3
    async with scene.running(source()):
        await scene.passing(4 * MINUTE)
        listed = [a for a in peer.asked if a[2] == "meters"]
        assert len(listed) == 1
        assert [q for *_, p, q in peer.asked if p == "events"] == [{}]  # what was before is known
        for n in range(7):
            peer.happen("meter_intervals_added", "m1", at=clock.now() - n * MINUTE, uid=f"new{n}")
        peer.events += peer.events[2:5]
        await scene.passing(HOUR)
    pages = [q for *_, p, q in peer.asked if p == "events"]
    assert [q["after"] for q in pages if q] == ["new4", "new1", "old1"]  # no further than was seen
    assert len([a for a in peer.asked if a[2] == "meters"]) == 2
    assert len(peer.windows()) == 2  # once at first, once for all the news


async def test_events_that_are_of_others_or_of_nothing_cause_nothing(peer, scene, source, clock):
    peer.install("m1")
    peer.install("m2", "a2")
    async with scene.running(source(authorizations=["a1"])):
        await scene.passing(4 * MINUTE)
        peer.happen("ping", None, None)
        peer.happen("form_created", None, None)
        peer.happen("meter_intervals_added", "m2", "a2")
        await scene.passing(HOUR)
        assert len([a for a in peer.asked if a[2] == "meters"]) == 1
        peer.happen("something_new", "m1", "a1")
        await scene.passing(HOUR)
        assert len([a for a in peer.asked if a[2] == "meters"]) == 2
    assert set(scene.states) == {"home/m1"}


async def test_a_restart_in_the_middle_goes_on_without_loss_and_no_faster(
    peer, scene, source, clock
):
    start = NOON - 150 * DAY
    peer.install("m1")
    peer.collect("m1", hours(start, 24 * 150))
    async with scene.running(source()):
        await scene.until(lambda: sum("downloaded" in b.marks for b in scene.batches) == 3)
        assert len(peer.windows()) == 3
    clock.pass_time(5 * SECOND)
    async with scene.running(source()):  # another object: nothing is remembered but by the store
        await scene.passing(10 * MINUTE)
    assert len(scene.values(IMPORT)) == 24 * 150
    assert len(set(peer.windows())) == len(peer.windows()) == 5
    assert min(b - a for a, b in pairwise(peer.downloads())) >= MINUTE
    seen = len(peer.windows())
    async with scene.running(source()):
        await scene.passing(10 * MINUTE)
    assert len(peer.windows()) == seen


STATES = [
    ({}, {}, "ok", "no intervals of it yet"),
    ({}, {"is_activated": False}, "needs_activation", "no logs yet"),
    ({}, {"status": "pending", "status_message": "Found bill 4 of 13!"}, "pending", "Found bill 4 of 13!"),
    ({}, {"status": "pending", "notes": [{"type": "waiting", "msg": "Others first.", "ts": local(NOON), "eta": local(NOON + HOUR)}]}, "waiting", "2026-07-01T20:00:00Z"),
    ({}, {"notes": [{"type": "retrying", "msg": "Errors.", "ts": local(NOON), "eta": local(NOON + 2 * HOUR)}]}, "waiting", "2026-07-01T21:00:00Z"),
    ({}, {"notes": [{"type": "waiting", "msg": "Over.", "ts": local(NOON), "eta": local(NOON - HOUR)}]}, "ok", ""),
    ({}, {"notes": [{"type": "intervals_empty", "msg": "", "ts": local(NOON)}]}, "ok", "The utility has no intervals"),
    ({}, {"notes": [{"type": "access_valid", "ts": local(NOON)}, {"type": "access_invalid", "msg": "Bad login.", "ts": local(NOON + HOUR)}]}, "access_invalid", "Bad login."),
    ({}, {"notes": [{"type": "access_invalid", "ts": local(NOON)}, {"type": "access_valid", "ts": local(NOON + HOUR)}]}, "ok", ""),
    ({"notes": [{"type": "access_locked", "msg": "Locked.", "ts": local(NOON)}]}, {}, "access_locked", "Locked."),
    ({"is_revoked": True}, {"is_activated": False}, "revoked", "revoked"),
    ({"revoked": local(NOON)}, {}, "revoked", "revoked"),
    ({"is_expired": True, "expires": local(NOON - DAY)}, {}, "expired", "on 2026-06-30"),
    ({"expires": local(NOON - DAY)}, {}, "expired", "on 2026-06-30"),
    ({"expires": "until_revoked"}, {}, "ok", ""),
    ({"is_declined": True}, {}, "declined", "declined"),
    ({}, {"status": "something_new"}, "ok", ""),
]  # fmt: skip


@pytest.mark.parametrize(("authorization", "meter", "state", "says"), STATES)
async def test_how_a_meter_stands_is_said_in_a_word_a_sentence_and_a_next_step(
    peer, scene, source, authorization, meter, state, says
):
    peer.authorize("a1", **authorization)
    peer.install("m1", **meter)
    async with scene.running(source(names={"m1": "house"})):
        await scene.until(lambda: "house" in scene.states)
    found = scene.states["house"]
    assert found.state == state
    assert says in found.says
    assert found.says.endswith((".", "!"))
    assert (found.next_step == "") == (state == "ok")
    assert found.about["uid"] == "m1"
    shown = json.dumps(found.about)
    assert "Fry" not in shown
    assert "Main St" not in shown


async def test_a_revoked_authorization_ends_the_asking_and_keeps_the_history(
    peer, scene, source, clock
):
    peer.install("m1")
    peer.collect("m1", hours(NOON - 70 * DAY, 24 * 70))
    async with scene.running(source()):
        await scene.until(lambda: len(peer.windows()) == 1)
        peer.authorizations["a1"]["is_revoked"] = True
        del peer.meters["m1"]  # with all its data
        peer.happen("authorization_revoked")
        await scene.passing(10 * MINUTE)
        assert scene.state("home/m1") == "revoked"
        asked = len(peer.windows())
        await scene.passing(2 * DAY)
        assert len(peer.windows()) == asked
        assert len(scene.values(IMPORT)) > 24 * 7
        assert scene.job.problem is None


async def test_a_meter_that_is_not_listed_any_more_is_no_proof_of_anything(
    peer, scene, source, clock
):
    peer.install("m1")
    peer.install("m2")
    async with scene.running(source()):
        await scene.until(lambda: len(scene.states) == 2)
        hidden = peer.meters.pop("m2")
        peer.happen("meter_created", "m1")
        await scene.passing(6 * MINUTE)
        assert (scene.state("home/m1"), scene.state("home/m2")) == ("ok", "gone")
        peer.meters["m2"] = hidden
        await scene.passing(DAY)
        assert scene.state("home/m2") == "ok"


async def test_a_refused_token_ends_all_asking_until_there_is_another(
    peer, scene, source, clock, tmp_path
):
    peer.install("m1")
    peer.collect("m1", hours(NOON - 5 * DAY, 100))
    async with scene.running(source()):
        await scene.passing(2 * MINUTE)
        peer.token = "another-one"
        await scene.until(lambda: scene.job.problem)
        assert scene.state("home/m1") == "auth_failed"
        assert "token_file" in scene.states["home/m1"].next_step
        assert "401" in scene.job.problem
        asked = len(peer.asked)
        await scene.passing(2 * DAY)
        assert len(peer.asked) == asked
        (tmp_path / "token").write_text("another-one")
        await scene.passing(5 * MINUTE)
        assert len(peer.asked) > asked
        assert scene.job.problem is None
        assert scene.state("home/m1") == "ok"


async def test_a_token_that_is_refused_for_a_download_is_refused_for_all(
    peer, scene, source, clock
):
    peer.install("m1")
    peer.install("m2")
    for uid in ("m1", "m2"):
        peer.collect(uid, hours(NOON - 5 * DAY, 100))
    peer.fail = lambda path, _: (
        problem(401, "invalid_token", TOKEN) if path == "intervals" else None
    )
    async with scene.running(source()):
        await scene.until(lambda: scene.job.problem)
        assert {s.state for s in scene.states.values()} == {"auth_failed"}
        assert len(peer.windows()) == 1
        assert TOKEN not in scene.job.problem


async def test_where_payment_is_required_the_rest_is_downloaded_all_the_same(
    peer, scene, source, clock
):
    peer.install("m1")
    peer.install("m2")
    for uid in ("m1", "m2"):
        peer.collect(uid, hours(NOON - 5 * DAY, 100))
    unpaid = {"m1"}
    peer.fail = lambda path, q: (
        problem(402, "payment_required", "Pay.") if q.get("meters") in unpaid else None
    )
    async with scene.running(source()):
        await scene.passing(20 * MINUTE)
        assert len(scene.values(Stream("home/m2", "import"))) == 100
        assert (scene.state("home/m1"), scene.state("home/m2")) == ("payment_required", "ok")
        assert "402" in scene.job.warning
        unpaid.clear()
        await scene.passing(2 * DAY)
        assert len(scene.values(IMPORT)) == 100
        assert scene.state("home/m1") == "ok"
        assert scene.job.warning is None


async def test_asked_too_often_it_waits_as_long_as_it_is_told_to(
    peer, scene, source, clock, logged
):
    peer.install("m1")
    peer.collect("m1", hours(NOON - 5 * DAY, 100))
    peer.fail = lambda path, _: (
        too_many(900) if path == "intervals" and len(peer.windows()) == 1 else None
    )
    async with scene.running(source()):
        await scene.passing(30 * MINUTE)
    first, second = peer.downloads()
    assert second - first >= 900 * SECOND
    between = [at for at, *_ in peer.asked if first < at < first + 900 * SECOND]
    assert between == []
    assert len(scene.values(IMPORT)) == 100
    assert not any("html" in str(entry) for entry in logged)


async def test_what_is_not_ready_is_asked_for_again_later(peer, scene, source, clock):
    peer.install("m1")
    peer.collect("m1", hours(NOON - 5 * DAY, 100))
    peer.fail = lambda path, _: (
        web.Response(status=202, headers={"Retry-After": "200"})
        if path == "intervals" and len(peer.windows()) == 1
        else None
    )
    async with scene.running(source()):
        await scene.passing(15 * MINUTE)
    first, second = peer.downloads()
    assert second - first >= 200 * SECOND
    assert len(scene.values(IMPORT)) == 100


async def test_what_cannot_be_built_in_time_is_asked_for_in_smaller_windows(
    peer, scene, source, clock
):
    start = NOON - 62 * DAY
    peer.install("m1")
    peer.collect("m1", hours(start, 24 * 62))

    def fail(path, query):
        edges = (
            [datetime.fromisoformat(query[k]) for k in ("start", "end")]
            if "start" in query
            else None
        )
        return (
            web.Response(status=504, text="<html>")
            if edges and edges[1] - edges[0] > 10 * DAY
            else None
        )

    peer.fail = fail
    async with scene.running(source(every="1h")):
        await scene.passing(12 * HOUR)
    assert [v for _, v in scene.values(IMPORT)] == [Decimal("0.25")] * 24 * 62
    assert min(b - a for a, b in pairwise(peer.downloads())) >= MINUTE


async def test_a_window_that_always_fails_hides_no_other(peer, scene, source, clock):
    start = NOON - 93 * DAY
    peer.install("m1")
    peer.install("m2")
    for uid in ("m1", "m2"):
        peer.collect(uid, hours(start, 24 * 93))
    bad = NOON - 40 * DAY

    def fail(path, query):
        if query.get("meters") != "m1" or path != "intervals":
            return None
        edges = [datetime.fromisoformat(query[k]) for k in ("start", "end")]
        return web.Response(text="<html>oops</html>") if edges[0] <= bad < edges[1] else None

    peer.fail = fail
    async with scene.running(source()):
        await scene.passing(6 * HOUR)
    assert len(scene.values(Stream("home/m2", "import"))) == 24 * 93
    assert len(scene.values(IMPORT)) == 24 * 62 + 2 * 25  # what is beside it came with others
    assert "not JSON" in scene.job.warning


@pytest.mark.parametrize(
    "body", ["", "<html>", "[]", '{"meters": 3}', '{"meters": [{}], "next": 7}']
)
async def test_garbage_is_told_and_harms_nothing(peer, scene, source, body):
    peer.install("m1")
    peer.collect("m1", hours(NOON - 5 * DAY, 100))
    peer.fail = lambda path, _: web.Response(text=body) if path in {"meters", "events"} else None
    async with scene.running(source()):
        await scene.until(lambda: scene.job.problem)
        assert scene.states == {}
        peer.fail = None
        await scene.passing(10 * MINUTE)
        assert scene.job.problem is None
        assert len(scene.values(IMPORT)) == 100


async def test_a_bad_meter_in_a_list_hides_no_other(peer, scene, source):
    peer.install("m1")
    peer.meters["m2"] = {"uid": "m2", "is_archived": False, "authorization_uid": None}
    async with scene.running(source()):
        await scene.until(lambda: scene.job.warning)
    assert set(scene.states) == {"home/m1"}
    assert "is not a uid" in scene.job.warning


async def test_a_dead_peer_is_told_and_awaited(peer, scene, source, clock):
    peer.install("m1")
    peer.collect("m1", hours(NOON - 5 * DAY, 100))
    async with scene.running(source()):
        await scene.passing(2 * MINUTE)
        await peer.stop()
        await scene.passing(30 * MINUTE)
        assert scene.state("home/m1") == "upstream_down"
        assert "cannot be asked" in scene.job.problem
        await peer.start()
        await scene.passing(10 * MINUTE)
        assert scene.state("home/m1") == "ok"
        assert scene.job.problem is None
    assert len(scene.values(IMPORT)) == 100


async def test_with_a_dead_peer_from_the_start_known_meters_are_down(peer, scene, source, clock):
    peer.install("m1")
    async with scene.running(source()):
        await scene.until(lambda: scene.states)
    await peer.stop()
    scene.states.clear()
    async with scene.running(source()):
        await scene.until(lambda: scene.states)
    assert scene.state("home/m1") == "upstream_down"


async def test_what_is_incomplete_is_fetched_again_when_there_is_news(peer, scene, source, clock):
    peer.install("m1")
    peer.collect("m1", hours(NOON - 5 * DAY, 50))
    peer.meters["m1"]["interval_coverage"] = [
        [local(NOON - 5 * DAY), local(NOON - 5 * DAY + 100 * HOUR)]
    ]
    peer.incomplete = True
    async with scene.running(source()):
        await scene.passing(30 * MINUTE)
        assert len(scene.values(IMPORT)) == 50
        assert len(peer.windows()) == 1
        peer.incomplete = False
        peer.collect("m1", hours(NOON - 5 * DAY, 100), name="m1-0")
        await scene.passing(10 * MINUTE)
        assert len(scene.values(IMPORT)) == 100


async def test_what_is_incomplete_is_fetched_again_a_day_later_without_news(
    peer, scene, source, clock
):
    peer.install("m1")
    peer.collect("m1", hours(NOON - 5 * DAY, 100))
    peer.incomplete, whole = True, peer.chunks["m1"][0]
    peer.chunks["m1"] = [{**whole, "readings": whole["readings"][:50]}]
    async with scene.running(source()):
        await scene.passing(30 * MINUTE)
        peer.incomplete, peer.chunks["m1"] = False, [whole]
        await scene.passing(DAY)
    assert len(scene.values(IMPORT)) == 100
    assert len(peer.windows()) == 2


async def test_chunks_that_only_partly_lie_in_a_window_are_not_lost(peer, scene, source, clock):
    start = NOON - 120 * DAY
    peer.install("m1")
    peer.whole_chunks = True
    for n in range(3):
        peer.collect("m1", hours(start + n * 40 * DAY, 24 * 40))
    async with scene.running(source()):
        await scene.passing(15 * MINUTE)
        assert len(scene.values(IMPORT)) == 24 * 120
        assert scene.job.warning is None
        before = len(peer.windows())
        await scene.passing(DAY)
        assert len(peer.windows()) == before


async def test_what_is_said_to_be_there_and_is_not_is_told(peer, scene, source, clock):
    peer.install("m1")
    peer.collect("m1", hours(NOON - 30 * DAY, 24 * 20))
    peer.meters["m1"]["interval_coverage"][0][1] = local(NOON)
    async with scene.running(source()):
        await scene.until(lambda: scene.job.warning)
        assert "gives less" in scene.job.warning
        assert len(scene.values(IMPORT)) == 24 * 20
        asked = len(peer.windows())
        await scene.passing(5 * HOUR)
        assert len(peer.windows()) == asked


async def test_several_meters_of_a_service_are_never_one(peer, scene, source, clock):
    peer.install("m1")
    peer.page["intervals"] = 1
    both = [point("fwd", 1, number="A"), point("fwd", 2, number="B")]
    peer.collect("m1", [reading(NOON - n * QUARTER, both) for n in range(1, 97)])
    async with scene.running(source(names={"m1": "shop"})):
        await scene.passing(3 * MINUTE)
        assert {s.meter for s in scene.readings} == {"shop/A", "shop/B"}
        alone = [reading(NOON + QUARTER, [point("fwd", 3, number="B")])]
        peer.collect("m1", alone)
    async with scene.running(source(names={"m1": "shop"})):
        await scene.passing(10 * MINUTE)
    assert {s.meter for s in scene.readings} == {"shop/A", "shop/B"}
    assert scene.values(Stream("shop/B", "import"))[-1] == (NOON + QUARTER, 3)


async def test_a_meter_that_was_exchanged_goes_on_as_one(peer, scene, source):
    peer.install("m1")
    peer.collect("m1", hours(NOON - 48 * HOUR, 24, number="A"), meter_numbers=["A", "B"])
    peer.collect("m1", hours(NOON - 24 * HOUR, 24, number="B"), meter_numbers=["A", "B"])
    async with scene.running(source()):
        await scene.passing(3 * MINUTE)
    assert len(scene.values(IMPORT)) == 48


async def test_a_meter_that_comes_beside_another_takes_nothing_from_it(peer, scene, source):
    peer.install("m1")
    peer.collect("m1", hours(NOON - 10 * DAY, 10 * 24, value=1, number="A"))
    async with scene.running(source()):
        await scene.passing(3 * MINUTE)
        both = [point("fwd", 1, number="A"), point("fwd", 2, number="B")]
        peer.collect("m1", [reading(NOON + n * HOUR, both, HOUR) for n in range(5)])
        await scene.until(lambda: scene.job.warning)
        assert "is meter A; others are beside it now" in scene.job.warning
        await scene.passing(HOUR)
    assert len(scene.values(IMPORT)) == 10 * 24 + 5
    assert [v for _, v in scene.values(Stream("home/m1/B", "import"))] == [2] * 5
    assert set(scene.readings) == {IMPORT, Stream("home/m1/B", "import")}


@pytest.mark.parametrize("history", ["730d", "90d"])
async def test_days_of_a_place_across_a_windows_edge_are_not_lost(peer, scene, source, history):
    peer.install("m1")
    peer.whole_chunks = True
    days = [day_span((NOON - n * DAY).date(), "America/Los_Angeles") for n in range(200, 0, -1)]
    for begin, end in days:
        peer.collect("m1", hours(begin, (end - begin) // HOUR), tell=False)
    async with scene.running(source(history=history)):
        await scene.passing(2 * HOUR)
        assert scene.job.warning is None
    since = NOON - {"730d": 730 * DAY, "90d": 89 * DAY}[history]
    kept = {start for start, _ in scene.values(IMPORT)}
    assert [b for b, _ in days if b >= since and b not in kept] == []


async def test_a_gap_that_is_filled_later_is_asked_for(peer, scene, source):
    peer.install("m1")
    peer.whole_chunks = True
    peer.collect("m1", hours(NOON - 100 * DAY, 24 * 50), name="old")
    peer.collect("m1", hours(NOON - 40 * DAY, 24 * 40), name="new")
    gap = [[local(NOON - 100 * DAY), local(NOON - 50 * DAY)], [local(NOON - 40 * DAY), local(NOON)]]
    peer.meters["m1"]["interval_coverage"] = gap
    async with scene.running(source()):
        await scene.passing(2 * HOUR)
        assert len(scene.values(IMPORT)) == 24 * 90
        peer.collect("m1", hours(NOON - 50 * DAY, 24 * 10), name="between")
        await scene.passing(2 * HOUR)
    assert len(scene.values(IMPORT)) == 24 * 100


async def test_what_cannot_be_read_stops_nobody_else(peer, scene, source):
    peer.install("m1")
    peer.collect("m1", hours(NOON - DAY, 24))
    async with scene.running(source()):
        await scene.passing(3 * MINUTE)
        peer.meters["m1"]["interval_coverage"], had = "?", peer.meters["m1"]["interval_coverage"]
        peer.meters["m1"]["authorization_uid"] = ["?"]
        peer.happen("meter_intervals_added", "m1")
        await scene.until(lambda: scene.job.warning)
        assert scene.state("home/m1") == "ok"
        peer.meters["m1"] |= {"interval_coverage": had, "authorization_uid": "a1"}
        peer.collect("m1", hours(NOON, 12))
        peer.happen("odd", "")
        peer.events[0]["meter_uid"] = ""
        await scene.passing(HOUR)
        assert scene.job.warning == "events: '' is not a uid"
    assert len(scene.values(IMPORT)) == 36


async def test_a_reading_out_of_all_time_stops_nobody(peer, scene, source):
    peer.install("m1")
    peer.install("m2")
    peer.collect("m1", hours(datetime(1969, 1, 1, tzinfo=UTC), 1), tell=False)
    peer.collect("m1", hours(NOON - DAY, 24))
    peer.meters["m1"]["interval_coverage"] = [[local(NOON - DAY), local(NOON)]]
    peer.chunks["m1"] = [
        {**peer.chunks["m1"][1], "readings": [r for c in peer.chunks["m1"] for r in c["readings"]]}
    ]
    peer.collect("m2", hours(NOON - DAY, 24))
    peer.fail = lambda path, query: (
        peer._page(path, [peer.chunks["m1"][0]], query) if query.get("meters") == "m1" else None
    )
    async with scene.running(source()):
        await scene.until(lambda: scene.job.warning)
        assert "before 1970" in scene.job.warning
        await scene.passing(10 * MINUTE)
    assert len(scene.values(IMPORT)) == len(scene.values(Stream("home/m2", "import"))) == 24


async def test_bills_are_kept_with_what_they_cost(peer, scene, source):
    start, end = NOON - 70 * DAY, NOON - 40 * DAY
    peer.install("m1")
    peer.billed(bill("b1", "m1", start, end, Decimal("837.0"), Decimal("123.45")))
    async with scene.running(source(currency="USD")):
        await scene.passing(3 * MINUTE)
    kept = scene.readings[Stream("home/m1", "net", "bill", "KWH", "USD")]
    assert kept == {start: (end, Decimal("837.0"), None, 12_345_000)}


async def test_bills_may_be_left_alone(peer, scene, source):
    peer.install("m1")
    peer.billed(bill("b1", "m1", NOON - 70 * DAY, NOON - 40 * DAY, 1, 1))
    async with scene.running(source(bills=False)):
        await scene.passing(5 * MINUTE)
    assert peer.windows("bills") == []


async def test_history_goes_as_far_back_as_is_wanted_and_grows_with_the_wish(peer, scene, source):
    peer.install("m1")
    peer.collect("m1", hours(NOON - 50 * DAY, 24 * 50))
    async with scene.running(source(history="10d")):
        await scene.passing(5 * MINUTE)
    assert [start for start, _ in peer.windows()] == ["2026-06-19T23:00:00Z"]
    async with scene.running(source(history="30d")):
        await scene.passing(5 * MINUTE)
    assert peer.windows()[1:] == [("2026-05-30T23:00:00Z", "2026-06-22T01:00:00Z")]


def signed(body, secret="shared", salt="s"):  # noqa: S107 -- made up
    digest = hashlib.sha256(f"{secret}.{salt}.".encode() + body).hexdigest()
    return {"x-utilityapi-webhook-salt": salt, "X-UtilityAPI-Webhook-Signature": digest}


async def test_a_signed_webhook_has_events_looked_for_at_once(peer, scene, source, clock, tmp_path):
    peer.install("m1")
    asked = source(webhook_secret_file=tmp_path / "webhook", every="6h")
    async with scene.running(asked):
        await scene.passing(2 * MINUTE)
        peer.collect("m1", hours(NOON - 5 * DAY, 100))
        body = json.dumps({"events": peer.events[:1], "next": None}, indent=4).encode()
        assert not asked.received(body, signed(body, "guessed"))
        assert not asked.received(body + b" ", signed(body))
        assert not source().received(body, signed(body))
        await scene.passing(2 * MINUTE)
        assert scene.values(IMPORT) == []
        assert asked.received(body, signed(body))
        # no time passes
        await eventually(lambda: len([a for a in peer.asked if a[2] == "events"]) == 2)
        await scene.passing(2 * MINUTE)
        assert len(scene.values(IMPORT)) == 100


async def test_in_the_bridge_a_webhook_ends_as_readings_in_the_store(
    peer, settings, bridge, clock, tmp_path, source
):
    peer.install("m1")
    about = source(webhook_secret_file=tmp_path / "webhook", every="6h").model_dump()
    async with bridge(settings([about]), clock) as running, ClientSession() as http:
        job = running.health.job("source:home")
        await eventually(lambda: clock.pass_time(SECOND) or job.last_success)
        peer.collect("m1", hours(NOON - 5 * DAY, 100))
        body = json.dumps({"events": peer.events[:1], "next": None}).encode()
        url = f"{running.addresses['vtn']}/hooks/home"
        async with http.post(url, data=body, headers=signed(body, "guessed")) as reply:
            assert reply.status == 401
        async with http.post(url, data=body, headers=signed(body)) as reply:
            assert reply.status == 200
        await eventually(lambda: clock.pass_time(SECOND) or peer.windows())
        kept = []
        while len(kept) < 100:
            streams = await running.store.meters.streams(UsageQuestion(["home/m1"]))
            for stream in streams:
                kept = await running.store.meters.readings(stream, NOON - 9 * DAY, NOON, 1000)
    assert [k.start for k in kept] == [NOON - 5 * DAY + n * HOUR for n in range(100)]
    assert {(k.value, k.quality) for k in kept} == {(Decimal("0.25"), "revenue")}
    assert {k.origin["kind"] for k in kept} == {"utilityapi"}


async def test_a_token_goes_nowhere_but_to_the_address_of_the_settings(peer, scene, source, clock):
    peer.install("m1")
    other = UtilityApi(clock)
    async with started(other):
        peer.fail = lambda path, q: {
            "events": web.json_response({"events": [], "next": f"{other.url}/events?after=1"}),
            "meters": web.Response(status=302, headers={"Location": f"{other.url}/meters"}),
        }.get(path if not q.get("after") else "")
        async with scene.running(source()):
            await scene.passing(10 * MINUTE)
        assert other.asked == []
        assert "302" in scene.job.warning


async def test_no_secret_is_shown(peer, scene, source, clock, logged, tmp_path):
    peer.install("m1")
    made = source(webhook_secret_file=tmp_path / "webhook")
    peer.fail = lambda path, _: web.Response(status=500, text=TOKEN)
    async with scene.running(made):
        await scene.passing(10 * MINUTE)
        peer.fail = lambda path, _: problem(401, "invalid_token", TOKEN)
        await scene.passing(10 * MINUTE)
    shown = f"{logged} {made!r} {made.model_dump_json()} {scene.job} {scene.states} {scene.batches}"
    assert TOKEN not in shown
    assert TOKEN not in str(await scene.store.sources.marks("home"))


def test_settings_that_cannot_be_meant_are_refused(tmp_path, source):
    with pytest.raises(ValidationError, match="write an https address"):
        source(base_url="http://utilityapi.example/api/v2")
    with pytest.raises(ValidationError, match="two meters are named 'house'"):
        source(names={"1": "house", "2": "house"})
    with pytest.raises(ValidationError, match="should match pattern"):
        source(meters=["1,2"])
    for text in ("", "two\nlines", "töken", "x" * 20_000):
        (tmp_path / "token").write_text(text)
        with pytest.raises(SettingsError, match="token: "):
            source().check_files()
    with pytest.raises(SettingsError, match="cannot be read"):
        source(token_file=tmp_path / "nowhere").check_files()


def test_files_are_looked_for_beside_the_settings(tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    settings = tmp_path / "bridge.toml"
    settings.write_text(
        '[[sources]]\nkind = "utilityapi"\nname = "home"\ntoken_file = "token"\n'
        'names = { "1234" = "house" }\n'
    )
    (found,) = read_settings(settings).sources
    assert found.token_file == tmp_path / "token"
    assert found.wishes.meter_name("1234") == "house"
    assert str(found.base_url) == "https://utilityapi.com/api/v2"


async def test_a_peer_that_never_answers_is_given_up(scene, source, clock):
    silent = socket.create_server(("127.0.0.1", 0))
    with silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with scene.running(source(base_url=url, timeout="50ms")):
            await scene.until(lambda: scene.job.problem)
            assert "no answer within 0.05 s" in scene.job.problem
