"""MIDAS: rates by their RINs, two of them added exactly, history in steps of six months."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from aiohttp import web

from bridge.errors import WireError
from bridge.model import Price
from bridge.wire import midas
from tests.peers import Served, SimClock, eventually, kept_prices, started
from tests.sources.test_gridx import Scene

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DELIVERY, GENERATION = "USCA-PGXX-NB25-0000", "USCA-XXPG-NB25-0000"


def value(start, amount, unit="$/kWh", length=HOUR, inclusive=True):
    end = start + length - timedelta(seconds=1 if inclusive else 0)
    return {
        "ValueName": "x", "DateStart": f"{start:%Y-%m-%d}", "TimeStart": f"{start:%H:%M:%S}",
        "DateEnd": f"{end:%Y-%m-%d}", "TimeEnd": f"{end:%H:%M:%S}", "DayStart": "Monday", "DayEnd": 8,
        "Value": amount, "Unit": unit,
    }  # fmt: skip


class Midas(Served):
    path = "/api/{rest:.*}"

    def __init__(self):
        super().__init__()
        self.values, self.asked = {}, []
        self.fail = None

    @property
    def base(self):
        return self.url.rstrip("/")

    async def answer(self, request):
        self.asked.append((request.match_info["rest"], dict(request.query)))
        if self.fail:
            return self.fail()
        rest, query = request.match_info["rest"], request.query
        if rest == "valuedata":
            rin, lo, hi = query["ID"], NOON - timedelta(days=90), NOON + timedelta(days=9)
        else:
            rin = rest.removeprefix("historicaldata/")
            lo, hi = (
                datetime.fromisoformat(query[k]).replace(tzinfo=UTC)
                for k in ("startdate", "enddate")
            )
            hi += timedelta(days=1)
        if rin not in self.values:
            return web.json_response({"detail": "RIN not found"}, status=404)
        found = [v for s, v in self.values[rin] if lo <= s < hi]
        return web.json_response({"RateID": rin, "API_Url": "None", "ValueInformation": found})


@pytest.fixture
async def peer():
    found = Midas()
    async with started(found):
        yield found


def source(peer, **about):
    rates = [{"rins": [DELIVERY, GENERATION], "program": "NBT25"}]
    return {"kind": "midas", "name": "pge", "base_url": peer.base, "rates": rates, **about}


async def test_two_rins_are_added_exactly(peer, settings, bridge, tmp_path):
    starts = [NOON + n * HOUR for n in range(48)]
    peer.values[DELIVERY] = [(s, value(s, 0.00078)) for s in starts]
    peer.values[GENERATION] = [(s, value(s, 0.06233)) for s in starts[:24]]
    clock = SimClock(NOON)
    async with bridge(settings([source(peer)]), clock) as running:
        scene = Scene(peer, None, clock, running, tmp_path / "bridge.db")
        await scene.passing(lambda: scene.job.last_success, timedelta(seconds=1))
        rows = await kept_prices(running.store, "NBT25", NOON)
        assert [str(r.value) for r in rows] == ["0.06311"] * 24  # not where only one is known
        assert [c.name for c in rows[0].components] == [DELIVERY, GENERATION]
        assert (rows[0].unit, rows[0].currency) == ("KWH", "USD")
        assert peer.asked[0] == ("valuedata", {"ID": DELIVERY, "QueryType": "alldata"})
        await scene.polled()
        assert peer.asked[-1][1]["QueryType"] == "realtime"


async def test_history_is_asked_for_in_steps_and_not_again(peer, settings, bridge, tmp_path):
    start = datetime(2025, 6, 1, tzinfo=UTC)
    rin = "USCA-SGIP-MOER-P2"
    peer.values[rin] = [
        (s, value(s, 300.5, "g/kWh CO2", timedelta(minutes=5)))
        for s in (start + n * timedelta(days=30) for n in range(14))
    ]
    clock = SimClock(NOON)
    made = settings([source(peer, rates=[{"rins": [rin]}], backfill_from="2025-06-01")])
    for _ in range(2):
        async with bridge(made, clock) as running:
            scene = Scene(peer, None, clock, running, tmp_path / "bridge.db")
            await scene.passing(
                lambda: [r for r, _ in peer.asked].count(f"historicaldata/{rin}") == 3,
                timedelta(seconds=1),
            )
            await scene.polled()
    asked = [q for r, q in peer.asked if r.startswith("historicaldata")]
    assert [(q["startdate"], q["enddate"]) for q in asked] == [
        ("2025-06-01", "2025-11-27"), ("2025-11-28", "2026-05-26"), ("2026-05-27", "2026-06-30"),
    ]  # fmt: skip
    async with bridge(made, clock) as running:
        rows = await kept_prices(running.store, rin, start, payload_type="GHG")
    assert len(rows) == 14
    assert rows[0].end - rows[0].start == timedelta(minutes=5)


@pytest.mark.parametrize(
    ("fail", "said"),
    [
        (lambda: web.json_response({"detail": "RIN not found"}, status=404), "answered 404"),
        (lambda: web.json_response({"detail": "busy"}, status=503), "answered 503"),
        (lambda: web.json_response({"detail": "odd"}), "no ValueInformation: odd"),
        (lambda: web.Response(text="<html>"), "not JSON"),
    ],
)
async def test_a_failing_midas_is_said(peer, settings, bridge, tmp_path, fail, said):
    peer.fail, clock = fail, SimClock(NOON)
    async with bridge(settings([source(peer)]), clock) as running:
        job = running.health.job("source:pge")
        await eventually(lambda: job.problem)
        assert said in job.problem


async def test_a_wrong_rin_and_failing_history_stop_no_other_rate(peer, settings, bridge, tmp_path):
    starts = [NOON + n * HOUR for n in range(-24 * 3, 48)]
    peer.values[DELIVERY] = [(s, value(s, 0.1)) for s in starts]
    clock = SimClock(NOON)
    rates = [{"rins": ["USCA-XXXX-XXXX-0000"]}, {"rins": [DELIVERY]}]
    made = settings([source(peer, rates=rates, backfill_from="2026-06-28")])
    async with bridge(made, clock) as running:
        scene = Scene(peer, None, clock, running, tmp_path / "bridge.db")
        await scene.passing(lambda: scene.job.warning, timedelta(seconds=1))
        await scene.warned("USCA-XXXX-XXXX-0000: answered 404")
        assert scene.job.problem is None
        assert len(await kept_prices(running.store, DELIVERY, NOON - 99 * HOUR)) == len(starts)
        await scene.passing(lambda: clock.now() > NOON + 6 * HOUR, HOUR / 12)
        whole = [
            q for _, q in peer.asked if q.get("QueryType") == "alldata" and q["ID"] == DELIVERY
        ]
        assert len(whole) == 1
        assert len(peer.asked) < 40


async def test_units_written_otherwise_are_the_same_and_others_are_told(
    peer, settings, bridge, tmp_path
):
    peer.values[DELIVERY] = [(NOON, value(NOON, 0.1, "Export $/kWh"))]
    peer.values[GENERATION] = [
        (NOON, value(NOON, 0.2, "export $/kWh")),
        (NOON, value(NOON, 3, "$/kW")),
    ]
    clock = SimClock(NOON)
    async with bridge(settings([source(peer)]), clock) as running:
        scene = Scene(peer, None, clock, running, tmp_path / "bridge.db")
        await scene.passing(lambda: scene.job.warning, timedelta(seconds=1))
        (row,) = await kept_prices(running.store, "NBT25", NOON, payload_type="EXPORT_PRICE")
        assert str(row.value) == "0.3"
        await scene.warned(f"{DELIVERY} says nothing of DEMAND_CHARGE")


async def test_another_rin_has_a_history_of_its_own(peer, settings, bridge, tmp_path):
    peer.values[DELIVERY] = peer.values[GENERATION] = [
        (NOON - n * HOUR, value(NOON - n * HOUR, 0.1)) for n in range(99)
    ]
    clock = SimClock(NOON)
    for rins in ([DELIVERY], [DELIVERY, GENERATION]):
        rates = [{"rins": rins, "program": "NBT25"}]
        async with bridge(
            settings([source(peer, rates=rates, backfill_from="2026-06-01")]), clock
        ) as running:
            scene = Scene(peer, None, clock, running, tmp_path / "bridge.db")
            wanted = [f"historicaldata/{rin}" for rin in rins]
            await scene.passing(
                lambda w=wanted: set(w) <= {r for r, _ in peer.asked}, timedelta(seconds=1)
            )
            peer.asked.clear()


def test_two_values_for_one_hour_are_told_and_the_first_is_taken():
    two = [value(NOON, 1), value(NOON, 2)]
    found, problems = midas.read_values(
        f'{{"ValueInformation": [{_json(two[0])}, {_json(two[1])}]}}'
    )
    assert [str(p.value) for p in found["PRICE", "KWH", "USD"]] == ["1"]
    assert problems == ["there are two values for 2026-07-01T12:00Z"]


def test_long_amounts_are_added_exactly():
    long = Decimal("0.1234567890123456789012345678901")
    parts = {n: [Price(NOON, NOON + HOUR, v)] for n, v in (("a", long), ("b", Decimal(1)))}
    assert str(midas.add_up(parts)[0].value) == "1.1234567890123456789012345678901"


def test_all_signals_have_their_payload_type():
    assert midas.meaning("$/kWh")[0] == "PRICE"
    assert midas.meaning("Export $/kWh") == ("EXPORT_PRICE", "KWH", "USD")
    assert midas.meaning("g/kWh CO2")[0] == "GHG"
    assert midas.meaning("Event")[0] == "ALERT_FLEX_ALERT"
    assert midas.meaning("bananas") == ("PRICE", "bananas", None)


@pytest.mark.parametrize(
    "changes",
    [{"DateStart": None}, {"TimeEnd": "25:00:00"}, {"Value": "free"}, {"Value": None}, {"Value": True},
     {"Unit": None}, {"Unit": ""}, {"DateEnd": "2020-01-01"}],
)  # fmt: skip
def test_a_bad_value_is_told_and_the_others_are_read(changes):
    good = value(NOON, 1)
    text = f'{{"ValueInformation": [{_json(good)}, {_json({**good, **changes})}, 3]}}'
    found, problems = midas.read_values(text)
    assert (len(found["PRICE", "KWH", "USD"]), len(problems)) == (1, 2)


def _json(document):
    import json

    return json.dumps(document)


def test_ends_without_seconds_and_exclusive_ends():
    short = {**value(NOON, 1), "TimeStart": "12:00", "TimeEnd": "12:59"}
    exclusive = value(NOON + HOUR, 2, inclusive=False)
    found, _ = midas.read_values(f'{{"ValueInformation": [{_json(short)}, {_json(exclusive)}]}}')
    assert [p.end - p.start for p in found["PRICE", "KWH", "USD"]] == [HOUR, HOUR]


def test_parts_of_other_lengths_are_added_where_all_are_known():
    quarter = timedelta(minutes=15)
    parts = {
        "a": [Price(NOON, NOON + HOUR, Decimal(1))],
        "b": [Price(NOON + n * quarter, NOON + (n + 1) * quarter, Decimal(n)) for n in (0, 1, 3)],
    }
    found = midas.add_up(parts)
    assert [((p.start - NOON) / quarter, p.value) for p in found] == [(0, 1), (1, 2), (3, 4)]


def test_what_is_no_answer_is_said():
    with pytest.raises(WireError, match="no ValueInformation"):
        midas.read_values("[]")
