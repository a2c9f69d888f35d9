"""What is served: prices to all on this machine, the rest to those with a token."""

import asyncio
import csv
import io
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import ClientSession

from bridge.store.access import new_token, revoke_token
from bridge.store.files import beside
from tests.peers import Device, RawVtn, SimClock, event, eventually, levels, quiet, signal, started

NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)
PRICES = [f"0.{n:02}0" for n in range(24)]


@pytest.fixture
def served(settings, bridge, tmp_path):
    @asynccontextmanager
    async def run(vtn_settings=None, **site):
        clock, vtn, device = SimClock(NOON), RawVtn(), Device()
        vtn.list(
            event("DAY", datetime(2027, 3, 1, 8, tzinfo=UTC), signal(PRICES)),
            event(
                "CPP-1",
                NOON + timedelta(hours=2),
                levels([1]),
                duration="PT1H",
                context="http://u/CPP",
            ),
        )
        async with started(vtn, device):
            made = settings(
                [{"name": "utility", "vtn_url": vtn.url}], [{"name": "d", "url": device.url}],
                site={"timezone": "America/Los_Angeles"}, **({"vtn": vtn_settings} if vtn_settings else {}), **site,
            )  # fmt: skip
            async with bridge(made, clock) as running, ClientSession() as http:
                await eventually(lambda: vtn.done)
                await quiet(tmp_path / "bridge.db", clock)

                async def get(path, listener="vtn", method="GET", **options):
                    async with http.request(
                        method, running.addresses[listener] + path, **options
                    ) as reply:
                        return reply.status, reply.headers.copy(), await reply.text()

                get.clock, get.bridge, get.vtn = clock, running, vtn
                yield get

    return run


def bearer(path, scope="read", name="t"):
    with beside(path) as db:
        return {"Authorization": f"Bearer {new_token(db, name, scope, NOON)}"}


async def test_prices_in_every_form(served):
    async with served() as get:
        status, headers, text = await get("/api/v1/prices?program=EV2A")
        assert (status, headers["Content-Type"]) == (200, "application/json")
        items = json.loads(text)["items"]
        assert len(items) == 24
        assert items[0]["start"] == "2027-03-01T08:00:00Z"
        assert '"price":0.010' in text  # digit for digit as it was sent
        assert set(items[0]) == {
            "id",
            "program",
            "start",
            "end",
            "price",
            "unit",
            "currency",
            "type",
            "status",
            "since",
            "components",
        }
        rows = list(
            csv.DictReader(io.StringIO((await get("/api/v1/prices?program=EV2A&format=csv"))[2]))
        )
        assert [r["price"] for r in rows] == PRICES
        lines = (await get("/api/v1/prices?program=EV2A&format=ndjson"))[2].splitlines()
        assert [json.loads(line)["start"] for line in lines] == [i["start"] for i in items]
        evcc = json.loads((await get("/api/v1/prices?program=EV2A&format=evcc"))[2])
        assert evcc[1] == {
            "start": "2027-03-01T09:00:00Z",
            "end": "2027-03-01T10:00:00Z",
            "value": 0.01,
        }
        programs = json.loads((await get("/api/v1/programs"))[2])["items"]
        assert [(p["programName"], p["source"]) for p in programs] == [
            ("CPP", "utility"),
            ("EV2A", "utility"),
        ]


async def test_the_default_is_the_sites_today_and_all_that_is_known_after(served):
    async with served() as get:
        get.clock.set(datetime(2027, 3, 2, 7, 30, tzinfo=UTC))  # 23:30 the day before, at the site
        assert len(json.loads((await get("/api/v1/prices"))[2])["items"]) == 24
        get.clock.set(datetime(2027, 3, 2, 8, 30, tzinfo=UTC))
        assert json.loads((await get("/api/v1/prices"))[2])["items"] == []


async def test_a_window_pages_and_an_etag(served):
    async with served() as get:
        window = "start=2027-03-01T01:30:00-08:00&end=2027-03-01T04:00:00-08:00"
        items = json.loads((await get(f"/api/v1/prices?{window}"))[2])["items"]
        assert [i["start"][11:13] for i in items] == ["09", "10", "11"]
        _, headers, text = await get("/api/v1/prices?limit=10&format=json")
        after = json.loads(text)["next"]
        rest = json.loads((await get("/api/v1/prices", params={"cursor": after}))[2])
        assert (len(rest["items"]), rest["next"]) == (14, None)
        status, _, text = await get(
            "/api/v1/prices?limit=10", headers={"If-None-Match": headers["ETag"]}
        )
        assert (status, text) == (304, "")
        _, headers, _ = await get("/api/v1/prices?limit=10&format=csv")
        assert 'rel="next"' in headers["Link"]


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("start=yesterday", 400, "start: write a time as RFC 3339"),
        ("start=2027-03-01T00:00:00", 400, "start: write a time as RFC 3339"),
        ("end=2027-03-01T00:00:00Z&start=2027-03-02T00:00:00Z", 400, "end: must be after start"),
        ("program=TOU", 404, "no program 'TOU'"),
        ("limit=0", 400, "limit:"),
        ("limit=x", 400, "limit:"),
        ("format=xml", 400, "format:"),
        ("form=csv", 400, "form: is not a parameter here; there are: program"),
        ("cursor=zzz", 400, "cursor: is not one"),
        ("limit=1&limit=2", 400, "limit: is given twice"),
        ("format=evcc", 400, "name one of CPP, EV2A"),
        ("format=evcc&program=EV2A&limit=3", 400, "more than 3 prices"),
    ],
)
async def test_a_bad_question_gets_a_clear_answer(served, query, status, said):
    async with served() as get:
        found, headers, text = await get(f"/api/v1/prices?{query}")
        problem = json.loads(text)
        assert (found, problem["status"], headers["Content-Type"].split(";")[0]) == (
            status,
            status,
            "application/problem+json",
        )
        assert said in problem["detail"]
        assert problem["instance"].startswith("urn:uuid:")


async def test_everything_else_asks_for_a_token_before_it_looks(served):
    async with served({"listen": "127.0.0.1:0", "public_prices": False}) as get:
        for path in ("/api/v1/prices?start=nonsense", "/api/v1/programs", "/nothing"):
            status, headers, _ = await get(path)
            assert (status, "Bearer" in headers["WWW-Authenticate"]) == (401, True)
        for path in (
            "/api/v1/sources",
            "/api/v1/devices",
            "/api/v1/events",
            "/api/v1/deliveries?x=y",
            "/api/v1/openapi.json",
        ):
            assert (await get(path, "admin"))[0] == 401
        assert (await get("/api/v1/deliveries/x/retry", "admin", "POST"))[0] == 401
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await get(path, "admin"))[0] == 200


async def test_what_the_admin_endpoint_shows(served, tmp_path):
    async with served() as get:
        token = bearer(tmp_path / "bridge.db")

        async def items(path):
            status, _, text = await get(path, "admin", headers=token)
            assert status == 200, text
            return json.loads(text)["items"]

        (source,) = await items("/api/v1/sources")
        assert (source["id"], source["ok"], source["registration"]["venID"]) == (
            "utility",
            True,
            "V1",
        )
        (device,) = await items("/api/v1/devices")
        assert (device["id"], device["owed"], device["state"]["price"]) == ("d", 0, 0.04)
        events = await items("/api/v1/events")
        assert [(e["eventName"], e["status"], e["opt_told"]) for e in events] == [
            ("CPP-1", "pending", "optIn:0"), ("DAY", "active", "optIn:0"),
        ]  # fmt: skip
        deliveries = await items("/api/v1/deliveries?device=d&outcome=delivered")
        assert {d["outcome"] for d in deliveries} == {"delivered"}
        assert await items("/api/v1/events?live=true&limit=1")
        text = (await get("/api/v1/events?limit=1", "admin", headers=token))[2]
        after = json.loads(text)["next"]
        assert [e["eventName"] for e in await items(f"/api/v1/events?cursor={after}")] == ["DAY"]
        text = (await get("/api/v1/deliveries?limit=1", "admin", headers=token))[2]
        assert await items(f"/api/v1/deliveries?cursor={json.loads(text)['next']}")
        for bad in (
            "/api/v1/deliveries?cursor=x",
            "/api/v1/events?cursor=x",
            "/api/v1/events?limit=9999",
        ):
            assert (await get(bad, "admin", headers=token))[0] == 400


async def test_scopes_methods_and_a_retry(served, tmp_path):
    async with served() as get:
        read, operate = (bearer(tmp_path / "bridge.db", s, s) for s in ("read", "operate"))
        listed = json.loads((await get("/api/v1/deliveries", "admin", headers=read))[2])["items"]
        path = f"/api/v1/deliveries/{listed[0]['id']}/retry"
        status, _, text = await get(path, "admin", "POST", headers=read)
        assert (status, "scope operate" in text) == (403, True)
        status, _, text = await get(path, "admin", "POST", headers=operate)
        assert (status, json.loads(text)["outcome"]) == (202, None)
        assert (await get("/api/v1/deliveries/none/retry", "admin", "POST", headers=operate))[
            0
        ] == 404
        status, headers, text = await get("/api/v1/sources", "admin", "DELETE", headers=operate)
        assert (status, "GET" in headers["Allow"]) == (405, True)
        assert (await get("/nothing", "admin", headers=read))[0] == 404
        with beside(tmp_path / "bridge.db") as db:
            assert revoke_token(db, "read", NOON)
        assert (await get("/api/v1/sources", "admin", headers=read))[0] == 401


async def test_guessing_tokens_is_slowed_down(served):
    async with served() as get:
        bad = {"Authorization": "Bearer oadrb_guess"}
        found = [(await get("/api/v1/sources", "admin", headers=bad))[0] for _ in range(25)]
        assert found[:20] == [401] * 20
        assert found[-1] == 429


async def test_the_openapi_document_names_every_route(served, tmp_path):
    async with served() as get:
        text = (await get("/api/v1/openapi.json", "admin", headers=bearer(tmp_path / "bridge.db")))[
            2
        ]
        paths = json.loads(text)["paths"]
        assert paths["/api/v1/deliveries/{id}/retry"]["post"]["x-scope"] == "operate"
        assert {p["name"] for p in paths["/api/v1/deliveries"]["get"]["parameters"]} == {
            "limit",
            "cursor",
            "device",
            "outcome",
        }


async def test_metrics_and_readiness(served):
    async with served() as get:
        text = (await get("/metrics", "admin"))[2]
        assert 'bridge_source_failures{source="utility"} 0.0' in text
        assert 'bridge_deliveries{outcome="delivered"}' in text
        assert 'bridge_device_failures{device="d"} 0.0' in text
        status, _, text = await get("/readyz", "admin")
        checks = json.loads(text)["checks"]
        assert status == 200
        assert set(checks) == {
            "store", "scheduler", "clock", "fan-out", "workers", "source:utility", "deliveries", "events",
        }  # fmt: skip
        get.vtn.fail = lambda: (_ for _ in ()).throw(RuntimeError("down"))
        job = get.bridge.health.job("source:utility")
        while not job.problem:  # it polls every ten seconds
            get.clock.pass_time(timedelta(seconds=10))
            await asyncio.sleep(0.05)
        status, _, text = await get("/readyz", "admin")
        check = json.loads(text)["checks"]["source:utility"]
        assert status == 503
        assert "HTTP 500" in check["problem"]
        next_attempt, since = (
            datetime.fromisoformat(check[k]) for k in ("next_attempt", "failing_since")
        )
        assert next_attempt > since
        assert (await get("/healthz", "admin"))[0] == 200
        get.bridge.health.broken.set()
        assert (await get("/healthz", "admin"))[0] == 503


async def test_a_body_that_is_too_large_and_a_broken_store(served, monkeypatch, tmp_path):
    async with served() as get:
        operate = bearer(tmp_path / "bridge.db", "operate")
        assert (await get("/api/v1/sources", "admin", "PUT", data=b"x" * 200_000))[0] in {401, 413}
        from bridge.errors import StoreError

        async def broken(*_):
            raise StoreError("gone")

        get.bridge.store.overview.list_sources = broken
        assert (await get("/api/v1/sources", "admin", headers=operate))[0] == 503

        async def mistaken(*_):
            raise KeyError("ours")

        get.bridge.store.overview.list_sources = mistaken
        status, _, text = await get("/api/v1/sources", "admin", headers=operate)
        assert (status, "KeyError" in text) == (500, False)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/prices?end=9999-12-31T23:59:59-08:00",
        "/api/v1/prices?start=0001-01-01T00:00:00%2B09:00",
        "/api/v1/prices?cursor=2027-01-01T00:00:00Z~99999999999999999999999~x",
    ],
)
async def test_times_at_the_edges_of_the_calendar(served, path):
    async with served() as get:
        assert (await get(path))[0] in {200, 400}


async def test_a_good_token_is_heard_beside_a_guesser_and_head_is_a_get(served, tmp_path):
    async with served() as get:
        good = bearer(tmp_path / "bridge.db")
        for _ in range(25):
            await get("/api/v1/sources", "admin", headers={"Authorization": "Bearer oadrb_guess"})
        assert (await get("/api/v1/sources", "admin", headers=good))[0] == 200
        assert (await get("/healthz", "admin", "HEAD"))[0] == 200
        for cursor in ("²", "99999999999999999999", "99999999999999999999:x"):
            assert (
                await get("/api/v1/deliveries", "admin", headers=good, params={"cursor": cursor})
            )[0] == 400
            assert (await get("/api/v1/events", "admin", headers=good, params={"cursor": cursor}))[
                0
            ] == 400
