"""`/api/v1/usage`: who sees what, at which resolution, and what it cost."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from bridge.vtn import usage as vtn_usage
from tests.peers import Device, eventually, started
from tests.store.test_usage import reading, run
from tests.usage.calls import HOUR, measured
from tests.usage.conftest import ALICE, BOB, NOON

# The local day before the clocks go forward, and that day
START = datetime(2027, 3, 13, 8, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
SPAN = {"start": "2027-03-13T00:00:00-08:00", "end": "2027-03-15T00:00:00-07:00"}


async def filled(site):
    """Two local days of quarters for Alice, of hours for Bob."""
    await site.keep(
        measured("alice-1", run(START, QUARTER, ["0.25"] * 4 * 47)),
        measured("bob-1", run(START, HOUR, [3] * 47)),
    )


@pytest.mark.parametrize(
    ("resolution", "values"),
    [
        ("native", [Decimal("0.25")] * 188), ("hourly", [1] * 47), ("daily", [24, 23]),
        ("monthly", [47]),
    ],
)  # fmt: skip
async def test_every_resolution_has_the_same_sum(site, resolution, values):
    async with site() as call:
        await filled(call)
        found = await call("alice").get("/api/v1/usage", resolution=resolution, **SPAN)
        assert [row["value"] for row in found.items] == values
        assert found.json["next"] is None
        assert {row["unit"] for row in found.items} == {"KWH"}
        assert "omitted_fields" not in found.json
        if resolution == "daily":
            assert [(r["start"], r["complete"]) for r in found.items] == [
                ("2027-03-13T08:00:00Z", True), ("2027-03-14T08:00:00Z", True),
            ]  # fmt: skip


async def test_pages_say_the_same_as_the_whole(site):
    async with site() as call:
        await filled(call)
        for resolution in ("native", "hourly", "daily"):
            whole = (
                await call("read").get("/api/v1/usage", resolution=resolution, limit=9999, **SPAN)
            ).items
            pages, more = [], {}
            while True:
                page = await call("read").get(
                    "/api/v1/usage", resolution=resolution, limit=7, **SPAN, **more
                )
                pages += page.items
                if page.json["next"] is None:
                    break
                more = {"cursor": page.json["next"]}
            assert pages == whole
            assert len({r["id"] for r in pages}) == len(pages)


async def test_tiers(site):
    async with site() as call:
        await filled(call)
        await call.price(START, *[0.5] * 47)
        refused = await call("pat").get("/api/v1/usage")
        assert (refused.status, "usage:read" in refused.json["detail"]) == (403, True)
        assert (
            await call("pat").get("/api/v1/prices", program="P", start=SPAN["start"])
        ).status == 200
        assert (await call("dev").get("/api/v1/prices")).status == 403
        refused = await call("ann").get("/api/v1/usage", resolution="native")
        assert (refused.status, "usage:raw" in refused.json["detail"]) == (403, True)
        hours = await call("ann").get("/api/v1/usage", cost="true", **SPAN)
        assert {"cost", "deviation_cost", "origin"} <= set(hours.json["omitted_fields"])
        assert len(hours.items) == 47
        assert not set(hours.json["omitted_fields"]) & {k for row in hours.items for k in row}
        table = await call("ann").get("/api/v1/usage", format="csv", **SPAN)
        assert "cost" not in table.text.split("\n")[0]
        assert "cost" in table.headers["X-Omitted-Fields"]
        full = await call("alice").get("/api/v1/usage", cost="true", **SPAN)
        assert {(r["cost"], r["currency"], r["unpriced"]) for r in full.items} == {
            (Decimal("0.5"), "USD", 0)
        }


async def test_nobody_asks_without_a_token(site):
    async with site() as call:
        for path in (
            "/api/v1/usage",
            "/api/v1/usage/coverage",
            "/api/v1/meters",
            "/api/v1/usage?x=y",
        ):
            assert (await call().get(path)).status == 401
        assert (await call().post("/api/v1/readings", "[")).status == 401


async def test_one_customer_sees_nothing_of_another(site):
    """Hidden and unknown are the same, whatever is asked by whichever parameter."""
    async with site() as call:
        await filled(call)
        for who, own, other in (("alice", ALICE, BOB), ("bob", BOB, ALICE)):
            theirs = "bob-1" if who == "alice" else "alice-1"
            everything = (await call(who).get("/api/v1/usage", resolution="daily", **SPAN)).items
            assert theirs not in {row["meter"] for row in everything}
            assert [m["meter"] for m in (await call(who).get("/api/v1/meters")).items] == [
                "alice-1" if who == "alice" else "bob-1"
            ]
            for path in ("/api/v1/usage", "/api/v1/usage/coverage"):
                for name, hidden, unknown in (
                    ("meter", theirs, "nothing"), ("contract", other[0], "0000000000"),
                ):  # fmt: skip
                    answers = [await call(who).get(path, **{name: v}) for v in (hidden, unknown)]
                    assert _blind(answers[0]) == _blind(answers[1])
                    assert answers[0].status == 404
                both = await call(who).get(path, meter=theirs, contract=own[0])
                assert both.status == 404
            assert (await call(who).get("/api/v1/usage", contract=own[0])).status == 200


def _blind(answer):
    said = {k: v for k, v in answer.json.items() if k != "instance"}
    headers = {
        k: v for k, v in answer.headers.items() if k not in {"Date", "X-RateLimit-Remaining"}
    }
    return answer.status, said, headers


async def test_a_cursor_of_another_customer_is_worth_nothing(site):
    async with site() as call:
        await filled(call)
        page = await call("bob").get("/api/v1/usage", limit=1, **SPAN)
        stolen = await call("alice").get("/api/v1/usage", limit=1, cursor=page.json["next"], **SPAN)
        made_up = await call("alice").get(
            "/api/v1/usage", limit=1, cursor="2027-03-13T08:00:00Z~999~0", **SPAN
        )
        assert _blind(stolen) == _blind(made_up)
        assert stolen.status == 400


async def test_a_grant_that_is_taken_back_holds_no_more(site):
    async with site(contracts=[]) as call:
        await call.keep(measured("alice-1", run(START, HOUR, [1])))
        assert (await call("alice").get("/api/v1/usage", contract=ALICE[0])).status == 404
        from bridge.store import contracts
        from bridge.store.files import beside
        from bridge.usage import Contract

        with beside(call.bridge.store.path) as db:
            contracts.add(db, Contract(ALICE[0], ALICE[1], ("alice-1",)))
            contracts.grant(db, ALICE[0], "alice")
        assert (await call("alice").get("/api/v1/usage", contract=ALICE[0])).status == 200
        with beside(call.bridge.store.path) as db:
            assert contracts.withhold(db, ALICE[0], "alice")
        assert (await call("alice").get("/api/v1/usage", contract=ALICE[0])).status == 404


async def test_what_is_wrong_is_said(site):
    async with site() as call:
        await filled(call)
        for query, word in (
            ({"start": "yesterday"}, "RFC 3339"), ({"resolution": "weekly"}, "native"),
            ({"limit": "0"}, "limit"), ({"cursor": "x"}, "cursor"), ({"what": "1"}, "not a parameter"),
            ({"start": SPAN["end"], "end": SPAN["start"]}, "end"),
            ({"revisions": "true"}, "native"),
        ):  # fmt: skip
            found = await call("read").get("/api/v1/usage", **query)
            assert (found.status, word in found.json["detail"]) == (400, True), (query, found.text)


async def test_costs_and_the_subscription(site):
    async with site() as call:
        await filled(call)
        await call.price(START, *[Decimal(n) / 100 for n in range(40)])
        await call.keep(
            measured("alice-1", run(START, HOUR, ["0.75"] * 47), kind="subscription_pre"),
            measured("alice-1", run(START, HOUR, [2] * 2), kind="subscription_post"),
        )
        hours = await call("alice").get("/api/v1/usage", cost="true", kind="usage", **SPAN)
        first, second, third = hours.items[:3]
        assert (first["subscription"], first["deviation"], first["cost"]) == (2, -1, 0)
        assert (second["deviation"], second["deviation_cost"]) == (-1, Decimal("-0.01"))
        assert (third["subscription"], third["deviation"], third["deviation_cost"]) == (
            Decimal("0.75"), Decimal("0.25"), Decimal("0.005"),
        )  # fmt: skip
        assert (hours.items[-1]["cost"], hours.items[-1]["unpriced"]) == (None, 1)
        days = await call("alice").get(
            "/api/v1/usage", cost="true", kind="usage", resolution="daily", **SPAN
        )
        assert days.items[0]["cost"] == sum(Decimal(n) / 100 for n in range(24))
        assert days.items[1]["unpriced"] == 7
        (month,) = (
            await call("alice").get(
                "/api/v1/usage", cost="true", kind="usage", resolution="monthly", **SPAN
            )
        ).items
        assert month["cost"] == sum(Decimal(n) / 100 for n in range(40))
        assert month["deviation"] == 45 * Decimal("0.25") - 2


async def test_an_hour_of_two_prices_is_not_spread_over_them(site):
    async with site() as call:
        await call.keep(measured("alice-1", [reading(START, 2 * HOUR, 5)]))
        await call.price(START, 1, 2)
        (row,) = (
            await call("alice").get("/api/v1/usage", cost="true", resolution="daily", **SPAN)
        ).items
        assert (row["cost"], row["unpriced"]) == (None, 5)


async def test_each_amount_costs_what_it_is_made_of(site):
    async with site() as call:
        await call.keep(
            measured("alice-1", [reading(START, 24 * HOUR, 9), *run(START, HOUR, [1, 2])])
        )
        await call.price(START, *[Decimal("0.5")] * 24)
        asked = {"cost": "true", **SPAN}
        hours = (await call("alice").get("/api/v1/usage", **asked)).items
        assert [(r["value"], r["cost"], r["unpriced"]) for r in hours] == [
            (1, Decimal("0.5"), 0), (2, 1, 0),
        ]  # fmt: skip
        for resolution in ("daily", "native"):
            (day,) = (
                await call("alice").get("/api/v1/usage", resolution=resolution, **asked)
            ).items
            assert (day["value"], day["cost"]) == (9, Decimal("4.5")), "hours do not fill it"


async def test_readings_that_were_replaced_are_shown_when_asked_for(site):
    async with site() as call:
        await call.keep(measured("alice-1", run(START, HOUR, [1])))
        call.clock.set(NOON + HOUR)
        await call.keep(measured("alice-1", run(START, HOUR, [2])))
        found = await call("alice").get(
            "/api/v1/usage", resolution="native", revisions="true", **SPAN
        )
        assert [(r["value"], r.get("replaced")) for r in found.items] == [
            (1, "2027-03-14T20:00:00Z"),
            (2, None),
        ]
        assert found.items[1]["origin"] == {"kind": "api", "name": "test"}


async def test_pages_of_revisions_say_each_row_once(site):
    async with site() as call:
        for n in range(5):
            call.clock.set(NOON + n * HOUR)
            await call.keep(measured("alice-1", run(START, HOUR, [n, n + 10, n + 20])))
        query = {"resolution": "native", "revisions": "true", **SPAN}
        whole = (await call("alice").get("/api/v1/usage", **query)).items
        assert len(whole) == 15
        for limit in (1, 2, 3, 4, 7):
            pages, more = [], {}
            while True:
                page = await call("alice").get("/api/v1/usage", limit=limit, **query, **more)
                pages += page.items
                if page.json["next"] is None:
                    break
                more = {"cursor": page.json["next"]}
            assert pages == whole


async def test_between_readings_that_lie_far_apart_nothing_is_worked_out(site):
    first, last = datetime(1972, 1, 1, tzinfo=UTC), datetime(2190, 1, 1, tzinfo=UTC)
    async with site() as call:
        await call.keep(measured("alice-1", run(first, HOUR, [1]) + run(last, HOUR, [2])))
        for resolution in ("hourly", "daily", "monthly"):
            async with asyncio.timeout(5):
                found = await call("alice").get(
                    "/api/v1/usage", resolution=resolution, start="1971-01-01T00:00:00Z"
                )
            assert [r["value"] for r in found.items] == [1, 2]


async def test_what_no_hour_is_made_of_is_not_looked_through(site, monkeypatch):
    long, day = timedelta(days=100), timedelta(days=1)
    first = datetime(1990, 1, 1, tzinfo=UTC)
    async with site() as call:
        await call.keep(measured("alice-1", run(first, long, [1] * 120) + run(START, HOUR, [2])))
        async with asyncio.timeout(5):
            found = await call("alice").get("/api/v1/usage", start="1990-01-01T00:00:00Z", limit=1)
        assert [r["value"] for r in found.items] == [2]
        # Of many days the hours are asked for, of which there are none: page by page.
        await call.keep(measured("alice-1", run(START - 400 * day, day, [24] * 400)))
        monkeypatch.setattr(vtn_usage, "MOST_PIECES", 3)
        more, pages = {"start": "1990-01-01T00:00:00Z", "resolution": "hourly"}, []
        while not pages or pages[-1].json["next"]:
            cursor = {"cursor": pages[-1].json["next"]} if pages else {}
            pages.append(await call("alice").get("/api/v1/usage", **more, **cursor))
        assert [r["value"] for page in pages for r in page.items] == [2]
        assert len(pages) in {7, 8}


async def test_what_was_billed_by_goes_over_what_was_planned_however_long_its_intervals_are(site):
    async with site() as call:
        await call.keep(
            measured("alice-1", run(START, HOUR, [4, 4])),
            measured("alice-1", run(START, HOUR, [3, 3]), kind="subscription_pre"),
            measured("alice-1", run(START, QUARTER, ["0.75"] * 4), kind="subscription_post"),
        )
        (row,) = (
            await call("alice").get(
                "/api/v1/usage", cost="true", kind="usage", resolution="daily", **SPAN
            )
        ).items
        assert row["subscription"] == 6


async def test_pages_of_hours_where_the_clock_moves_by_half_an_hour(site):
    start = datetime(2027, 4, 3, 13, tzinfo=UTC)
    async with site(site={"timezone": "Australia/Lord_Howe"}) as call:
        await call.keep(measured("alice-1", run(start, QUARTER, [1] * 192)))
        query = {"start": "2027-04-03T00:00:00+11:00", "end": "2027-04-07T00:00:00+10:30"}
        whole = (await call("alice").get("/api/v1/usage", **query)).items
        pages, more = [], {}
        while True:
            page = await call("alice").get("/api/v1/usage", limit=10, **query, **more)
            pages += page.items
            if page.json["next"] is None:
                break
            more = {"cursor": page.json["next"]}
        assert pages == whole
        assert sum(r["value"] for r in whole) == 192


async def test_a_cursor_that_was_made_up_is_refused(site):
    async with site(site={"timezone": "Asia/Tokyo"}) as call:
        await filled(call)
        number = (
            (await call("alice").get("/api/v1/usage", limit=1, **SPAN)).json["next"].split("~")[1]
        )
        for when in ("9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "x"):
            for resolution in ("native", "hourly", "daily", "monthly"):
                found = await call("alice").get(
                    "/api/v1/usage", resolution=resolution, cursor=f"{when}~{number}~0"
                )
                assert found.status == 400, found.text


async def test_gaps_are_listed(site):
    async with site() as call:
        await call.keep(
            measured("alice-1", run(START, HOUR, [1, 1]) + run(START + 5 * HOUR, HOUR, [1]))
        )
        (found,) = (await call("alice").get("/api/v1/usage/coverage", start=SPAN["start"])).items
        assert found["covered"] == [
            {"start": "2027-03-13T08:00:00Z", "end": "2027-03-13T10:00:00Z"},
            {"start": "2027-03-13T13:00:00Z", "end": "2027-03-13T14:00:00Z"},
        ]
        assert found["gaps"] == [{"start": "2027-03-13T10:00:00Z", "end": "2027-03-13T13:00:00Z"}]


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
@pytest.mark.parametrize("span", [{}, SPAN])
async def test_coverage_comes_in_pages_that_lose_nothing(site, limit, span):
    async with site() as call:
        for meter, kind in (
            ("alice-1", "usage"),
            ("alice-1", "baseline"),
            ("openadr3:alice:x", "usage"),
        ):
            rows = [r for n in range(4) for r in run(START + 3 * n * HOUR, HOUR, [1, 1])]
            await call.keep(measured(meter, rows, kind=kind))

        def flat(items):
            return [
                sorted((i["id"], s["start"], s["end"]) for i in items for s in i[name])
                for name in ("covered", "gaps")
            ]

        whole = (await call("alice").get("/api/v1/usage/coverage", **span)).items
        assert len(whole) == 3
        items, cursor = [], {}
        for _ in range(20):
            page = await call("alice").get("/api/v1/usage/coverage", limit=limit, **span, **cursor)
            assert sum(len(i["covered"]) for i in page.items) <= limit
            items += page.items
            if page.json["next"] is None:
                break
            cursor = {"cursor": page.json["next"]}
        assert page.json["next"] is None
        assert flat(items) == flat(whole)


async def test_too_many_requests_are_told_to_wait(site):
    async with site(vtn={"listen": "127.0.0.1:0", "rate_limit": 5}) as call:
        answers = [await call("alice").get("/api/v1/meters") for _ in range(8)]
        statuses = [a.status for a in answers]
        assert statuses[:5] == [200] * 5
        assert 429 in statuses
        slow = answers[statuses.index(429)]
        assert (slow.headers["Retry-After"], slow.headers["X-RateLimit-Limit"]) == ("1", "5")
        assert answers[0].headers["X-RateLimit-Remaining"] == "4"
        assert (await call("bob").get("/api/v1/meters")).status == 200, "each client has its own"


async def test_devices_are_told_of_readings(site):
    device = Device()
    async with started(device):
        told = [{"kind": "webhook", "name": "d", "url": device.url, "meters": ["alice-*"]}]
        async with site(devices=told) as call:
            await filled(call)
            told = await eventually(
                lambda: [b["data"] for b in device.bodies if b["type"] == "usage.available"]
            )
            assert [(d["meter"], d["start"], d["end"]) for d in told] == [
                ("alice-1", "2027-03-13T08:00:00Z", "2027-03-15T07:00:00Z")
            ]
