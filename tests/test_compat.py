"""Clients that were written for the real services, with only the address changed."""

import json
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from aiohttp import ClientSession

from tests.peers import SimClock, eventually, started
from tests.utilities import PACIFIC, GridX

TODAY = date(2026, 3, 8)  # a day of 23 hours
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)")


@pytest.fixture
async def served(settings, bridge):
    utility, clock = GridX(), SimClock(datetime(2026, 3, 9, 2, tzinfo=UTC))
    key = ("EV2A", "024040403", None)
    for n in range(-2, 2):
        utility.publish(
            TODAY + timedelta(days=n), [f"{h / 1000 - 0.004:.6f}" for h in range(24)], key
        )
    about = {
        "kind": "gridx", "name": "pge", "base_url": "", "utility": "PGE",
        "series": [{"rate": "EV2A", "circuit": "024040403"}],
    }  # fmt: skip
    async with started(utility):
        made = settings([{**about, "base_url": utility.base}])
        async with bridge(made, clock) as running:
            await eventually(lambda: running.health.job("source:pge").last_success)
            yield running.addresses["vtn"], utility.base


async def test_a_public_pge_integration_gets_its_prices(served):
    """The calls and the reading of a car logger's PG&E provider: a request for each day."""
    prices = {}
    for base in served:
        found = []
        async with ClientSession() as http:
            for day in (TODAY - timedelta(days=1), TODAY, TODAY + timedelta(days=1)):
                url = (
                    f"{base.removesuffix('/v1')}/v1/getPricing?utility=PGE&market=DAM&program=CalFUSE"
                    f"&startdate={day:%Y%m%d}&enddate={day:%Y%m%d}&ratename=EV2A"
                    "&representativeCircuitId=024040403"
                )
                async with http.get(url, headers={"Accept": "application/json"}) as reply:
                    assert reply.status == 200
                    body = await reply.json()
                assert body["meta"]["code"] == 200
                for curve in body["data"]:
                    length = timedelta(minutes=curve["priceHeader"]["intervalLengthInMinutes"])
                    for row in curve["priceDetails"]:
                        start = datetime.strptime(
                            row["startIntervalTimeStamp"], "%Y-%m-%dT%H:%M:%S%z"
                        )
                        assert isinstance(row["intervalPrice"], str)
                        found.append((start, start + length, Decimal(row["intervalPrice"])))
        prices[base] = found
    ours, theirs = prices.values()
    assert ours == theirs
    assert len(ours) == 24 + 23 + 24
    assert ours[24][0].astimezone(PACIFIC).hour == 0


async def test_a_circuit_without_its_leading_zero_is_another_one(served):
    async with (
        ClientSession() as http,
        http.get(
            f"{served[0]}/v1/getPricing?utility=PGE&market=DAM&program=CalFUSE&startdate=20260308"
            "&enddate=20260308&ratename=EV2A&representativeCircuitId=24040403"
        ) as reply,
    ):
        assert (reply.status, await reply.read()) == (204, b"")


async def test_a_web_page_may_ask(served):
    query = (
        "utility=PGE&market=DAM&program=CalFUSE&startdate=20260308&enddate=20260308&ratename=EV2A"
        "&representativeCircuitId=024040403"
    )
    async with ClientSession() as http:
        for path in (f"/v1/getPricing?{query}", "/v1/getPricing"):
            async with http.get(
                served[0] + path, headers={"Origin": "http://page.example"}
            ) as reply:
                assert reply.headers["Access-Control-Allow-Origin"] == "*"


async def test_evccs_custom_tariff_reads_the_evcc_form(served):
    """evcc wants a bare array: RFC 3339 start and end, value a number; in order, none twice."""
    url = f"{served[0]}/api/v1/prices?program=EV2A-024040403&format=evcc"
    async with ClientSession() as http, http.get(url) as reply:
        assert reply.content_type == "application/json"
        rates = json.loads(await reply.text(), parse_float=Decimal)
    assert all(RFC3339.fullmatch(r[k]) for r in rates for k in ("start", "end"))
    assert all(isinstance(r["value"], Decimal) for r in rates)
    assert [r["start"] for r in rates] == sorted({r["start"] for r in rates})
    assert {r["end"] for r in rates[:-1]} == {r["start"] for r in rates[1:]}
    assert min(r["value"] for r in rates) == Decimal("-0.004")


async def test_evccs_jq_over_the_utilitys_own_form(served):
    """`[.data[].priceDetails[] | {start: .startIntervalTimeStamp, value: .intervalPrice | tonumber}]`."""
    url = (
        f"{served[0]}/stage/v1/getPricing?utility=PGE&market=DAM&program=CalFUSE&startdate=20260307"
        "&enddate=20260309&ratename=EV2A&representativeCircuitId=024040403"
    )
    async with ClientSession() as http, http.get(url) as reply:
        body = await reply.json()
    rates = [
        (datetime.fromisoformat(p["startIntervalTimeStamp"]), float(p["intervalPrice"]))
        for day in body["data"]
        for p in day["priceDetails"]
    ]
    assert len(rates) == 71
    assert {b[0] - a[0] for a, b in pairwise(rates)} == {timedelta(hours=1)}
