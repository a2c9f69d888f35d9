"""What is published is kept: against a plain model, through restarts, with every revision."""

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from types import SimpleNamespace

import pytest

from bridge.interfaces import Batch
from bridge.model import Component, OptPolicy, Price, PriceQuestion, Publication, Tariff
from bridge.notation import day_span
from bridge.store import open_store
from tests.peers import LONG, kept_prices, replaced_prices

NOON = datetime(2027, 3, 14, 12, tzinfo=UTC)
HOUR, QUARTER = timedelta(hours=1), timedelta(minutes=15)
ZONE = "America/Los_Angeles"
SOURCE = SimpleNamespace(
    name="s", opt_policy=OptPolicy(), max_open_ended=timedelta(hours=24), program_names={}
)
TARIFF = Tariff(
    "P",
    "PGE/P/1/",
    currency="USD",
    zone=ZONE,
    utility="PGE",
    rate="P",
    circuit="1",
    basis="marginal",
)


@pytest.fixture
async def store(tmp_path):
    async with open_store(tmp_path / "bridge.db") as found:
        await found.devices.sync({"d": "webhook"}, NOON, {"P*"})
        yield found


async def publish(store, prices, at=NOON, tariff=TARIFF, whole=()):
    return await store.events.save(
        SOURCE, Batch(publications=[Publication(tariff, prices, whole)]), at
    )


def hourly(values, start=NOON, length=HOUR, **about):
    return [
        Price(start + n * length, start + (n + 1) * length, Decimal(v), **about)
        for n, v in enumerate(values)
    ]


async def changes(store):
    found, _ = await store.deliveries.changes(0, 1000)
    return [c for c in found if c.object_type == "PRICES"]


async def test_the_same_again_is_no_change(store):
    assert await publish(store, hourly(["0.1", "-0.2", "0.000000"])) == 3
    assert await publish(store, hourly(["0.1", "-0.2", "0.000000"]), NOON + HOUR) == 0
    (change,) = await changes(store)
    assert change.after["program"] == "P"
    assert [str(r.value) for r in await kept_prices(store, "P", NOON)] == [
        "0.1",
        "-0.2",
        "0.000000",
    ]


async def test_a_status_or_a_component_that_changes_is_a_change(store):
    parts = (Component("mec", "generation", Decimal("0.1")),)
    await publish(store, hourly(["0.1"], status="Preliminary"))
    await publish(store, hourly(["0.1"], status="Final"), NOON + HOUR)
    await publish(store, hourly(["0.1"], status="Final", components=parts), NOON + 2 * HOUR)
    assert [r.status for r in await replaced_prices(store, "P")] == ["Preliminary", "Final"]
    (row,) = await kept_prices(store, "P", NOON)
    assert row.components == parts
    assert len(await changes(store)) == 3


async def test_what_was_withdrawn_is_not_known_again_when_the_clock_steps_back(store):
    hour = (NOON, NOON + HOUR)
    await publish(store, hourly(["1"]), NOON)
    await publish(store, [], NOON + 2 * HOUR, whole=[hour])
    await publish(store, hourly(["2"]), NOON + HOUR)  # by a clock that was set back
    for minutes in range(-30, 200, 10):
        found = await kept_prices(store, "P", NOON, as_of=NOON + timedelta(minutes=minutes))
        assert len(found) <= 1, minutes
    assert [str(r.value) for r in await kept_prices(store, "P", NOON)] == ["2"]


async def test_a_price_shorter_than_times_are_kept_is_none(store):
    moment = timedelta(microseconds=300)
    assert await publish(store, [Price(NOON, NOON + moment, Decimal(1))]) == 0
    assert await publish(store, [Price(NOON, NOON + moment, Decimal(1)), *hourly(["2"])]) == 1
    assert [str(r.value) for r in await kept_prices(store, "P", NOON)] == ["2"]


async def test_finer_prices_replace_what_they_overlap_and_no_more(store):
    await publish(store, hourly(["1", "2", "3"]))
    await publish(store, hourly(["7", "8"], NOON + HOUR, QUARTER), NOON + HOUR)
    rows = await kept_prices(store, "P", NOON)
    assert [((r.start - NOON) / QUARTER, str(r.value)) for r in rows] == [
        (0, "1"), (4, "7"), (5, "8"), (6, "2"), (8, "3"),
    ]  # fmt: skip
    assert all(a.end == b.start for a, b in pairwise(rows))


async def test_a_whole_day_withdraws_what_it_does_not_say(store):
    day = day_span(date(2027, 3, 14), ZONE)
    starts = [day[0] + n * HOUR for n in range(23)]
    await publish(
        store, [Price(s, s + HOUR, Decimal(n)) for n, s in enumerate(starts)], whole=[day]
    )
    left = [Price(s, s + HOUR, Decimal(n)) for n, s in enumerate(starts) if n != 3]
    await publish(store, left, NOON + HOUR, whole=[day])
    assert starts[3] not in [r.start for r in await kept_prices(store, "P", day[0])]
    (gone,) = await replaced_prices(store, "P")
    assert gone.start == starts[3]
    (about,) = await store.prices.programs(starts[1])
    assert about["covers_until"] == starts[3]


async def test_coverage_ends_at_the_first_gap(store):
    await publish(store, hourly(["1"] * 30))
    await publish(store, hourly(["1"] * 3, NOON + 40 * HOUR))
    for at, until in (
        (NOON - HOUR, None), (NOON, NOON + 30 * HOUR), (NOON + 35 * HOUR, NOON + 30 * HOUR),
        (NOON + 41 * HOUR, NOON + 43 * HOUR), (NOON + 99 * HOUR, NOON + 43 * HOUR),
    ):  # fmt: skip
        assert (await store.prices.programs(at))[0]["covers_until"] == until, at


async def test_a_price_for_a_year_holds_all_year(store):
    await publish(store, [Price(NOON, NOON + timedelta(days=365), Decimal("0.3"))])
    for days in (0, 1, 40, 364):
        (row,) = await kept_prices(store, "P", NOON + timedelta(days=days))
        assert row.value == Decimal("0.3")
        (event,) = await store.deliveries.live_events(NOON + timedelta(days=days))
        assert event.end == NOON + timedelta(days=365)
    await publish(store, [Price(NOON, NOON + timedelta(days=365), Decimal("0.4"))], NOON + HOUR)
    (then,) = await kept_prices(store, "P", NOON + timedelta(days=200), as_of=NOON)
    assert then.value == Decimal("0.3")


async def test_a_program_takes_another_name_where_its_own_is_taken(store):
    await publish(store, hourly(["1"]))
    other = SimpleNamespace(**{**SOURCE.__dict__, "name": "t"})
    await store.events.save(other, Batch(publications=[Publication(TARIFF, hourly(["2"]))]), NOON)
    found = await store.prices.programs(NOON)
    assert [(p["programName"], p["source"]) for p in found] == [("P", "s"), ("P-t", "t")]


async def test_a_cca_is_another_series(store):
    with_cca = Tariff(
        "P-PCE", "PGE/P/1/PCE", zone=ZONE, utility="PGE", rate="P", circuit="1", cca="PCE"
    )
    await publish(store, hourly(["1"]))
    await publish(store, hourly(["2"]), tariff=with_cca)
    for cca, value in ((None, 1), ("PCE", 2)):
        (day,) = await store.prices.days("PGE", "P", "1", cca, date(2027, 3, 14), date(2027, 3, 14))
        assert [r.value for r in day.prices] == [value]
    assert (
        await store.prices.days("PGE", "P", "1", "AVA", date(2027, 3, 14), date(2027, 3, 14)) == []
    )


async def test_price_days_come_near_as_time_passes(store):
    starts = [NOON + n * HOUR for n in range(24 * 20)]
    await publish(store, [Price(s, s + HOUR, Decimal(1)) for s in starts])
    now, fired = NOON, set()
    for _ in range(18):
        await store.moments.bring_nearer(now)
        for track in await store.moments.due(now):
            fired.add(track.event.id)
        days = [e.id for e in await store.deliveries.live_events(now)]
        assert f"P-{(now + timedelta(days=2)):%Y-%m-%d}" in days
        now += timedelta(days=1)
    assert len(fired) >= 18
    assert sum(c.operation == "MOMENT" for c in await changes(store)) >= 8


class Model:
    """A minute-by-minute model of what was known when: a plain dictionary for each change."""

    def __init__(self):
        self.now = {}
        self.then = []

    def publish(self, at, prices, whole=()):
        now = dict(self.now)
        for minute, (start, *_) in self.now.items():
            if any(lo <= start < hi for lo, hi in whole):
                del now[minute]
        for price in prices:
            minute = price.start
            while minute < price.end:
                now[minute] = (price.start, price.value, price.status)
                minute += QUARTER
        self.now = now
        self.then.append((at, now))

    def known(self, at):
        found = {}
        for stamp, now in self.then:
            if stamp <= at:
                found = now
        return {m: (v, s) for m, (_, v, s) in found.items()}


async def answers(store, as_of=None):
    rows = await kept_prices(store, "P", NOON - timedelta(days=9), limit=10**6, as_of=as_of)
    assert all(a.end <= b.start for a, b in pairwise(rows))
    found = {}
    for row in rows:
        minute = row.start
        while minute < row.end:
            found[minute] = (row.value, row.status)
            minute += QUARTER
    return found


@pytest.mark.parametrize("seed", range(300 if LONG else 12))
async def test_any_sequence_is_answered_as_a_plain_model_answers_it(tmp_path, seed):
    draw, model, at = random.Random(seed), Model(), NOON
    for restart in range(3):
        async with open_store(tmp_path / "bridge.db") as store:
            for _ in range(8):
                at += timedelta(minutes=draw.randint(1, 90))
                day = day_span(date(2027, 3, 13) + timedelta(days=draw.randrange(3)), ZONE)
                length = draw.choice([HOUR, QUARTER, 4 * HOUR])
                slots = range((day[1] - day[0]) // length)
                picked = sorted(draw.sample(slots, draw.randint(0, len(slots))))
                prices = [
                    Price(
                        day[0] + n * length, day[0] + (n + 1) * length,
                        Decimal(draw.randrange(-9, 9)) / 100, draw.choice(["Final", "Preliminary"]),
                    )
                    for n in picked
                ]  # fmt: skip
                whole = [day] if draw.random() < 0.5 else []
                await publish(store, prices, at, whole=whole)
                model.publish(at, prices, whole)
                assert await answers(store) == model.known(at)
            for stamp in [NOON, *(s for s, _ in model.then)]:
                for asked in (stamp - timedelta(seconds=1), stamp, stamp + timedelta(seconds=30)):
                    assert await answers(store, asked) == model.known(asked), (restart, asked)


async def test_pages_of_revisions_miss_none(store):
    for n in range(6):
        await publish(store, hourly([str(n)] * 30), NOON + n * HOUR)
    found, after = [], None
    while True:
        page = await store.prices.prices(
            PriceQuestion("P", NOON, revisions=True, after=after, limit=7)
        )
        if not page:
            break
        found += page
        after = (page[-1].program, page[-1].series, page[-1].start, page[-1].since)
    assert len(found) == len({(r.start, r.since) for r in found}) == 180
    assert [(r.start, r.since) for r in found] == sorted((r.start, r.since) for r in found)


async def test_a_day_takes_few_bytes(store, tmp_path):
    parts = [("mec", "generation"), ("cld", "distribution"), ("mgcc", "generation")]
    draw = random.Random(1)
    for day in range(60):
        prices = [
            Price(
                NOON + timedelta(days=day, hours=n), NOON + timedelta(days=day, hours=n + 1),
                Decimal(draw.randrange(90_000)) / 10**6, "Final",
                tuple(Component(*p, Decimal(draw.randrange(30_000)) / 10**6) for p in parts),
            )
            for n in range(24)
        ]  # fmt: skip
        await publish(store, prices, NOON + timedelta(days=day))
    size = await store.prices._file.read(
        lambda db: db.execute("SELECT sum(length(data)) FROM prices").fetchone()[0]
    )
    assert size / (60 * 24) < 25
