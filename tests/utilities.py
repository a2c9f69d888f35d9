"""Simulated pricing APIs: what they publish is set by a test, how they fail too."""

import asyncio
import csv
import json
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from aiohttp import web

from tests.peers import SHARED, Served

PACIFIC = ZoneInfo("America/Los_Angeles")
RECORDED = SHARED / "data" / "pge_ev2a_162611704_2025_real_gridx.csv"
PGE = (("cld", "distribution"), ("mec", "generation"), ("mgcc", "generation"))
SCE = (
    ("abank", "distribution"), ("bbank", "distribution"), ("circuitpricecurve", "distribution"),
    ("mec", "generation"), ("nbc", "nonbypassablecharge"), ("ppf", "generation"),
    ("ramp", "generation"), ("transmissionpricecurve", "transmission"),
)  # fmt: skip


def recorded_year():
    """Return a recorded year of PG&E's EV2A: local day → [(start, price as it was sent)]."""
    if not RECORDED.exists():
        pytest.skip("../shared is not here")
    days = defaultdict(list)
    with RECORDED.open() as file:
        for row in csv.DictReader(file):
            start = datetime.fromisoformat(row["start_utc"])
            days[start.astimezone(PACIFIC).date()].append((start, row["usd_per_kwh"]))
    return dict(days)


def hours_of(day, zone=PACIFIC, length=timedelta(hours=1)):
    """Return the starts of a local day's intervals, be there 23, 24 or 25 hours."""
    begin, end = (
        datetime(d.year, d.month, d.day, tzinfo=zone).astimezone(UTC)
        for d in (day, day + timedelta(days=1))
    )
    return [begin + n * length for n in range((end - begin) // length)]


def detail(start, price, names=PGE, status="Final", zone=PACIFIC):
    """Return a price as GridX says it; all but the first component are made up, the sum is right."""
    total = Decimal(price)
    rest = [Decimal(n) / 10**6 for n in range(1, len(names))]
    parts = [total - sum(rest), *rest]
    return {
        "startIntervalTimeStamp": start.astimezone(zone).strftime("%Y-%m-%dT%H:%M:%S%z"),
        "intervalPrice": f"{total:.6f}",
        "priceStatus": status,
        "priceComponents": [
            {"component": name, "intervalPrice": f"{part:.6f}", "priceType": kind}
            for (name, kind), part in zip(names, parts, strict=True)
        ],
    }


def curve(details, name="PGE-CalFUSE-EELEC-SECONDARY", minutes=60, count=None):
    """Return a day as GridX says it."""
    first = datetime.fromisoformat(details[0]["startIntervalTimeStamp"]).astimezone(PACIFIC)
    begin = first.replace(hour=0, minute=0)
    end = begin.replace(hour=23, minute=59, second=59)
    return {
        "priceHeader": {
            "priceCurveName": name,
            "marketName": "CAISO-DAM",
            "intervalLengthInMinutes": minutes,
            "settlementCurrency": "USD",
            "settlementUnit": "kWh",
            "startTime": begin.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "endTime": end.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "recordCount": len(details) if count is None else count,
        },
        "priceDetails": details,
    }


class GridX(Served):
    """A utility's Pricing API: `days` of (rate, circuit, cca) are what it has published."""

    path = "/v1/getPricing"

    def __init__(self):
        super().__init__()
        self.days: dict[tuple, dict[date, dict]] = defaultdict(dict)
        self.asked: list[dict[str, str]] = []
        self.fail = None  # a function that answers instead
        self.strict = False  # whether a day that is missing spoils the whole answer

    @property
    def base(self):
        return self.url.removesuffix("/getPricing")

    def publish(self, day, prices, key=("EELEC", "013532223", None), **about):
        """Publish prices (a list for the day's intervals, or one for all) of a local day."""
        length = about.pop("length", timedelta(hours=1))
        names, status = about.pop("names", PGE), about.pop("status", "Final")
        starts = hours_of(day, length=length)
        prices = prices if isinstance(prices, list) else [prices] * len(starts)
        details = [
            detail(start, price, names, status)
            for start, price in zip(starts, prices, strict=False)
        ]
        self.days[key][day] = curve(details, minutes=length // timedelta(minutes=1), **about)

    async def answer(self, request):
        query = dict(request.query)
        self.asked.append(query)
        if self.fail:
            failed = self.fail(request)
            if asyncio.iscoroutine(failed):
                failed = await failed
            if failed is not None:
                return failed
        key = (query["ratename"], query["representativeCircuitId"], query.get("cca"))
        first, last = (
            datetime.strptime(query[k], "%Y%m%d").date()  # noqa: DTZ007 -- a day
            for k in ("startdate", "enddate")
        )
        wanted = [first + timedelta(days=n) for n in range((last - first).days + 1)]
        found = [self.days[key][d] for d in wanted if d in self.days[key]]
        if not found or (self.strict and len(found) < len(wanted)):
            return web.Response(status=204)
        meta = {
            "code": 200,
            "requestURL": "https://internal.example/v1/getpricing",
            "requestBody": json.dumps(query, sort_keys=True, separators=(",", ":")),
            "response": "Request succeeded",
        }
        return web.json_response({"meta": meta, "data": found})
