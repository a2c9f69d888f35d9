"""Input at the edge, changes at the wrong moment, and what must not come of either."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from unittest.mock import patch

import pytest

from bridge.store import clients
from bridge.store.files import beside
from bridge.vtn.openadr3 import rendered
from tests.openadr3.clients import SECRETS, prices, static, subscription, until
from tests.openadr3.test_auth import GRANT, ask, basic
from tests.peers import Device, SimClock, eventually, kept_prices, started

NOON = datetime(2027, 3, 14, 19, tzinfo=UTC)
START = "2027-03-14T19:00:00Z"
HOUR = timedelta(hours=1)


async def program(call, **more):
    return (await call("bl").made("/programs", {"programName": "P", **more}))["id"]


async def test_many_values_in_one_interval_hold_nobody_up(vtn):
    async with vtn() as call:
        made = prices(await program(call), START, 1)
        made["intervals"][0]["payloads"][0]["values"] = [n / 1000 for n in range(2000)]
        began = asyncio.get_running_loop().time()
        await call("bl").made("/events", made)
        assert asyncio.get_running_loop().time() - began < 2
        made["intervals"] = [{**made["intervals"][0], "id": n} for n in range(11)]
        answer = await call("bl").post("/events", made)
        assert (answer.status, "more than 20000" in answer.json["detail"]) == (400, True)
        usage = {"type": "USAGE", "values": [1] * 20_001}
        report = {
            "eventID": (await call("bl").get("/events")).json[0]["id"], "clientName": "c",
            "resources": [{"resourceName": "m", "intervalPeriod": {"start": START, "duration": "PT1H"},
                           "intervals": [{"id": 0, "payloads": [usage]}]}],
        }  # fmt: skip
        answer = await call("ven1").post("/reports", report)
        assert (answer.status, "more than 20000 readings" in answer.json["detail"]) == (400, True)


@pytest.mark.parametrize(
    "body",
    [
        '{"programID": "%s", "duration": "P' + "9" * 5000 + 'Y"}',
        '{"programID": "%s", "x": ' + "[" * 600 + "]" * 600 + "}",
        '{"programID": "%s", "x": 1e99999999999999999999999}',
        '{"programID": "%s", "x": ' + "9" * 5000 + "}",
        '{"programID": "%s", "priority": 1e300}',
    ],
)
async def test_absurd_numbers_are_refused_and_not_stumbled_over(vtn, body):
    async with vtn() as call:
        answer = await call("bl").post("/events", body % await program(call))
        assert answer.status == 400, answer.text


@pytest.mark.parametrize(
    "period",
    [
        {"duration": "P2000000D"},
        {"duration": "P999Y"},
        {"duration": "P9999Y"},
        {"start": "9999-12-31T23:59:59-14:00"},
        {"start": "0002-01-01T00:00:00+14:00"},
        {"start": "0750-01-01T00:00:00Z"},
        {"randomizeStart": "P7000Y"},
    ],
)
async def test_what_is_legal_however_long_is_kept_and_devices_go_on(vtn, period):
    device = Device()
    async with started(device), vtn(devices=[{"name": "d", "url": device.url}]) as call:
        made = prices(await program(call), START, 1)
        made["intervalPeriod"] = {"start": START, "duration": "PT1H", **period}
        made["intervals"][0]["payloads"][0]["values"] = [1] * 1500
        await call("bl").made("/events", made)
        await call("bl").made(
            "/events", prices(made["programID"], datetime.now(UTC).isoformat(), 7)
        )
        await eventually(lambda: device.state["price"] in {1, 7})
        assert all(job.problem is None for job in call.bridge.health.jobs.values())


async def test_many_ask_for_tokens_at_once(vtn):
    async with vtn() as call:
        good = {**GRANT, "client_id": "ven1", "client_secret": SECRETS["ven1"]}
        assert {
            (await one)[0] for one in asyncio.as_completed([ask(call, **good) for _ in range(8)])
        } == {200}
        bad = [ask(call, **GRANT, client_id="bl", client_secret=f"{n}") for n in range(30)]
        assert sorted({(await one)[0] for one in asyncio.as_completed(bad)}) == [401, 429]
        # another name from the same place is no way round
        bad = [
            (await ask(call, **GRANT, client_id=f"c{n}", client_secret="x"))[0] for n in range(60)
        ]
        assert bad[-1] == 429


async def test_a_right_guess_after_too_many_wrong_ones_is_not_told(vtn, tmp_path):
    async with vtn() as call:
        for n in range(25):
            await call(token=static("bl", f"guess {n}")).get("/programs")
        assert (await call("bl").get("/programs")).status == 429
        _, said, _ = await ask(call, **GRANT, client_id="ven1", client_secret=SECRETS["ven1"])
        assert (await call(token=said["access_token"]).get("/programs")).status == 200
        assert (await call("ven1").get("/programs")).status == 200  # it was found right before


@pytest.mark.parametrize("secret", ["s+cr/t=%41", "plain"])
async def test_basic_is_read_as_it_is_and_as_it_is_encoded(vtn, tmp_path, secret):
    async with vtn() as call:
        with beside(tmp_path / "bridge.db") as db:
            clients.add(db, "x", clients.scopes_of("ven"), secret, NOON)
        from urllib.parse import quote_plus

        for said in (secret, quote_plus(secret)):
            assert (await ask(call, basic("x", said), **GRANT))[0] == 200
        for kind in ("bogus", "utf-8"):
            headers = {"Content-Type": f"application/x-www-form-urlencoded; charset={kind}"}
            async with call.http.post(
                f"{call.url}/openadr3/3.1.0/auth/token", data=b"a=\xff", headers=headers
            ) as reply:
                assert reply.status == 400
        async with call.http.get(
            f"{call.url}/openadr3/3.1.0/programs", headers={"Authorization": "Bearer oadrb_\udcff"}
        ) as reply:
            assert reply.status == 401


async def test_what_is_aimed_at_some_is_no_public_price(vtn):
    async with vtn() as call:
        bl = call("bl")
        hidden = await bl.made("/programs", {"programName": "hidden", "targets": ["x"]})
        await bl.made("/events", prices(hidden["id"], START, 0.99))
        shown = await program(call)
        await bl.made("/events", prices(shown, START, 0.11))
        await bl.made("/events", prices(shown, START, 0.55, targets=["x"]))
        gone = await bl.made("/programs", {"programName": "gone"})
        await bl.delete(f"/programs/{gone['id']}")

        async def seen(path, token=None):
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            async with call.http.get(f"{call.url}/api/v1/{path}", headers=headers) as reply:
                return await reply.json()

        for token in (None, static("ven1"), "nonsense"):
            assert [p["programName"] for p in (await seen("programs", token))["items"]] == ["P"]
            assert [
                r["price"]
                for r in (await seen("prices?start=2027-01-01T00:00:00Z", token))["items"]
            ] == [0.11]
            assert (await seen("prices?program=hidden", token))["status"] == 404
        assert len((await seen("programs", static("bl")))["items"]) == 3
        assert (await seen("prices?program=hidden&start=2027-01-01T00:00:00Z", static("bl")))[
            "items"
        ][0]["price"] == 0.99


async def test_a_narrow_token_is_not_told_more_than_it_could_read(vtn):
    device = Device()
    async with started(device), vtn() as call:
        _, said, _ = await ask(
            call,
            **GRANT,
            client_id="bl",
            client_secret=SECRETS["bl"],
            scope="write_subscriptions read_targets",
        )
        await call(token=said["access_token"]).made(
            "/subscriptions", subscription(device.url, "PROGRAM", "VEN")
        )
        await call("bl").made("/programs", {"programName": "hidden", "targets": ["x"]})
        await call("ven1").made("/vens", {"objectType": "VEN_VEN_REQUEST", "venName": "v"})
        await program(call)
        await eventually(lambda: device.bodies)
        assert [b["object"].get("programName") for b in device.bodies] == ["P"]


async def test_an_event_that_moves_is_gone_there_and_new_here(vtn):
    one, two = Device(), Device()
    async with started(one, two), vtn() as call:
        bl, here = call("bl"), await program(call)
        there = (await bl.made("/programs", {"programName": "Q"}))["id"]
        for device, about in ((one, here), (two, there)):
            await call("ven1").made(
                "/subscriptions", subscription(device.url, "EVENT", programID=about)
            )
        made = await bl.made("/events", prices(here, START, 1))
        await bl.put(f"/events/{made['id']}", prices(there, START, 1))
        await bl.put(f"/events/{made['id']}", prices(there, START, 1, targets=["x"]))
        await eventually(lambda: len(one.bodies) == len(two.bodies) == 2)
        assert (
            [b["operation"] for b in one.bodies]
            == [b["operation"] for b in two.bodies]
            == ["CREATE", "DELETE"]
        )
        await bl.delete(f"/programs/{here}")  # its subscription hears of it
        (mine,) = [
            s for s in (await call("ven1").get("/subscriptions")).json if s["programID"] == here
        ]
        assert (await call("ven1").delete(f"/subscriptions/{mine['id']}")).status == 200


async def test_what_was_planned_for_a_subscription_that_changed_is_not_sent(vtn):
    old, new = Device(), Device()
    async with started(old, new), vtn() as call:
        ven = call("ven1")
        made = await ven.made("/subscriptions", subscription(old.url, "PROGRAM"))
        old.status = 500
        await program(call)

        async def failing():
            (one,) = await call.bridge.store.subscriptions.listing()
            return one["last_problem"]

        await until(failing)
        entry = {
            "objects": ["EVENT"],
            "operations": ["CREATE"],
            "callbackUrl": new.url,
            "bearerToken": "new-token",
        }
        await ven.put(
            f"/subscriptions/{made['id']}", {"clientName": "c", "objectOperations": [entry]}
        )
        old.status = 204
        event = await call("bl").made(
            "/events", prices((await call("bl").get("/programs")).json[0]["id"], START, 1)
        )
        await eventually(lambda: new.bodies, 20)
        assert [b["object"]["id"] for b in new.bodies] == [event["id"]]
        assert old.received == []
        await ven.put(f"/subscriptions/{made['id']}", {"clientName": "c", "objectOperations": []})
        for url in ("\n", "ä"):
            bad = {**entry, "bearerToken": f"a{url}b"}
            assert (
                await ven.post("/subscriptions", {"clientName": "c", "objectOperations": [bad]})
            ).status == 400
        assert (
            await ven.post("/subscriptions", {"clientName": "c", "objectOperations": [entry] * 17})
        ).status == 400


async def test_a_new_secret_makes_the_old_tokens_void_and_a_new_client_inherits_nothing(
    vtn, tmp_path
):
    device = Device()
    async with started(device), vtn() as call:
        with beside(tmp_path / "bridge.db") as db:
            secret = clients.add(db, "x", clients.scopes_of("ven"), None, NOON)
        _, said, _ = await ask(call, **GRANT, client_id="x", client_secret=secret)
        await call(token=said["access_token"]).made(
            "/subscriptions", subscription(device.url, "PROGRAM")
        )
        with beside(tmp_path / "bridge.db") as db:
            another = clients.renew(db, "x", None, datetime.now(UTC))
            assert clients.renew(db, "nobody", None, NOON) is None
        for token in (said["access_token"], static("x", secret)):
            assert (await call(token=token).get("/programs")).status == 401
        assert (await call(token=static("x", another)).get("/programs")).status == 200
        await call("bl").made("/programs", {"programName": "told"})  # it is the same client still
        await eventually(lambda: device.bodies)
        with beside(tmp_path / "bridge.db") as db:
            clients.revoke(db, "x", NOON)
            clients.add(db, "x", clients.scopes_of("ven"), None, NOON)
        await call("bl").made("/programs", {"programName": "not told"})
        (kept,) = await call.bridge.store.subscriptions.listing()
        assert (kept["disabled"], len(device.bodies)) == ("its client was revoked", 1)


async def test_a_ven_that_changes_hands_takes_its_resources_along(vtn):
    async with vtn() as call:
        bl = call("bl")
        about = {"objectType": "BL_VEN_REQUEST", "venName": "v"}
        ven = await bl.made("/vens", {**about, "clientID": "ven1"})
        made = await call("ven1").made("/resources", {"resourceName": "r"})
        await bl.put(f"/vens/{ven['id']}", {**about, "clientID": "ven2"})
        assert (await call("ven1").get("/resources")).json == []
        (found,) = (await call("ven2").get("/resources")).json
        assert (found["id"], found["clientID"]) == (made["id"], "ven2")


async def test_what_began_now_goes_on_when_it_is_changed(vtn):
    clock = SimClock(NOON)
    async with vtn(clock) as call:
        about = await program(call)
        now = {"intervalPeriod": {"start": "0001-01-01", "duration": "P9999Y"}}
        made = await call("bl").made("/events", {**prices(about, START, 0.20), **now})
        clock.pass_time(2 * HOUR)
        await call("bl").put(f"/events/{made['id']}", {**prices(about, START, 0.25), **now})
        kept = await kept_prices(call.bridge.store, "P", NOON)
        assert [(r.start, r.value) for r in kept] == [(NOON, Decimal("0.25"))]


async def test_what_is_kept_of_answers_is_bounded_and_shared_by_those_who_see_the_same(vtn):
    made = []
    real = rendered.Rendered._keep

    def keep(self, key, kept):
        made.append((self, key))
        real(self, key, kept)

    with (
        patch.object(rendered, "MOST", 50 * rendered.OVERHEAD),
        patch.object(rendered.Rendered, "_keep", keep),
    ):
        async with vtn() as call:
            for name in ("ven1", "ven2"):
                await call(name).made("/vens", {"objectType": "VEN_VEN_REQUEST", "venName": name})
            for name in ("ven1", "ven2"):
                await call(name).get("/programs")
            assert made[0][1] == made[1][1]
            for n in range(200):
                assert (await call("ven1").get("/programs", params={"skip": n})).json == []
            assert len(made[0][0]._kept) <= 50


async def test_a_grant_that_is_taken_back_is_not_told_of_any_more(vtn):
    device = Device()
    async with started(device), vtn() as call:
        bl = call("bl")
        about = {"objectType": "BL_VEN_REQUEST", "venName": "v", "clientID": "ven1"}
        ven = await bl.made("/vens", {**about, "targets": ["a", "b"]})
        await call("ven1").made("/subscriptions", subscription(device.url, "PROGRAM"))
        device.status = 500
        await bl.made("/programs", {"programName": "both", "targets": ["a", "b"]})

        async def failing():
            (one,) = await call.bridge.store.subscriptions.listing()
            return one["last_problem"]

        await until(failing)
        await bl.put(f"/vens/{ven['id']}", {**about, "targets": ["a"]})
        device.status = 204
        await bl.made("/programs", {"programName": "last"})
        await eventually(lambda: device.bodies, 20)
        assert [b["object"]["programName"] for b in device.bodies] == ["last"]
        assert json.dumps([b["object"].get("targets") for b in device.bodies]) == "[null]"
