"""Price series: painted from events, with every revision."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.interfaces import Batch
from bridge.model import OptPolicy
from bridge.notation import millis
from bridge.store import open_store
from bridge.store.packing import from_columns, to_columns
from bridge.wire.openadr2 import read_listing
from bridge.wire.openleadr import read_message
from tests.peers import distribute, event, kept_prices, replaced_prices, signal

NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SOURCE = SimpleNamespace(
    name="s", opt_policy=OptPolicy(), max_open_ended=timedelta(hours=24), program_names={}
)


@pytest.fixture
async def store(tmp_path):
    async with open_store(tmp_path / "bridge.db") as found:
        await found.sources.sync(["s"], NOON)
        yield found


async def say(store, *events, at=NOON, complete=False):
    listing = read_listing(read_message(distribute(*events).encode()).element)

    async def nothing():
        pass

    await store.events.save(SOURCE, Batch(listing.dispatches, "r", complete, nothing), at)


async def shown(store, start=NOON - 48 * HOUR):
    rows = await kept_prices(store, "EV2A", start, limit=1000)
    return [((r.start - NOON) / HOUR, (r.end - r.start) / HOUR, str(r.value)) for r in rows]


def day(name, values, start=NOON, **about):
    return event(
        name,
        start,
        signal(values, length=about.pop("length", "PT1H")),
        duration=f"PT{len(values)}H",
        **about,
    )


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_an_amount_is_kept_digit_for_digit(amount):
    assert str(from_columns(*to_columns(amount))) == str(amount) or amount == 0


async def test_a_day_is_painted_once(store):
    await say(store, day("A", ["0.1", "-0.25", "0"]))
    await say(store, day("A", ["0.1", "-0.25", "0"]))
    assert await shown(store) == [(0, 1, "0.1"), (1, 1, "-0.25"), (2, 1, "0")]
    assert await replaced_prices(store, "EV2A") == []


async def test_of_overlapping_issues_the_newest_holds_and_gives_way_again(store):
    await say(store, day("A", ["1", "2", "3"]))
    await say(store, day("B", ["9"], start=NOON + HOUR), at=NOON + HOUR / 60)
    assert await shown(store) == [(0, 1, "1"), (1, 1, "9"), (2, 1, "3")]
    gone = day("B", ["9"], start=NOON + HOUR, modification=1, status="cancelled")
    await say(store, gone, at=NOON + HOUR / 30)
    assert await shown(store) == [(0, 1, "1"), (1, 1, "2"), (2, 1, "3")]
    assert [str(r.value) for r in await replaced_prices(store, "EV2A")] == ["2", "9"]


async def test_a_finer_price_cuts_into_a_coarser_one(store):
    await say(store, day("A", ["1", "2"]))
    await say(store, event("B", NOON + HOUR / 4, signal(["5"], length="PT15M"), duration="PT15M"))
    assert await shown(store) == [(0, 0.25, "1"), (0.25, 0.25, "5"), (0.5, 0.5, "1"), (1, 1, "2")]


async def test_cancelling_withdraws_what_was_still_to_come(store):
    await say(store, day("A", ["1", "2", "3"]))
    gone = day("A", ["1", "2", "3"], modification=1, status="cancelled")
    await say(store, gone, at=NOON + HOUR * 1.5)
    assert await shown(store) == [(0, 1, "1"), (1, 0.5, "2")]
    assert [str(r.value) for r in await replaced_prices(store, "EV2A")] == ["2", "3"]


async def test_what_was_known_before_a_cancellation_and_a_correction_is_known_still(store):
    await say(store, day("A", ["1", "2", "3"]))
    await say(store, day("A", ["1", "2", "4"], modification=1), at=NOON + HOUR / 2)
    gone = day("A", ["1", "2", "4"], modification=2, status="cancelled")
    await say(store, gone, at=NOON + HOUR)
    for at, known in (
        (NOON - HOUR, []), (NOON, ["1", "2", "3"]), (NOON + HOUR / 2, ["1", "2", "4"]), (NOON + HOUR, ["1"]),
    ):  # fmt: skip
        rows = await kept_prices(store, "EV2A", NOON, as_of=at)
        assert [str(r.value) for r in rows] == known, at


async def test_a_correction_is_a_revision(store):
    await say(store, day("A", ["1", "2"]))
    await say(store, day("A", ["1", "2.5"], modification=1), at=NOON + HOUR)
    assert await shown(store) == [(0, 1, "1"), (1, 1, "2.5")]
    (was,) = await replaced_prices(store, "EV2A")
    assert (was.start, was.value, was.since) == (NOON + HOUR, Decimal(2), NOON)


async def test_relative_prices_levels_and_test_events_are_no_prices(store):
    await say(
        store,
        event("R", NOON, signal(["2"], kind="priceMultiplier", unit="")),
        event("L", NOON, signal(["1"], "SIMPLE", "level", unit="")),
        day("T", ["7"], test="true"),
    )
    assert await shown(store) == []


async def test_pages_go_on_where_the_last_ended(store):
    await say(store, day("A", [str(n) for n in range(24)]))
    found, after = [], None
    while page := await kept_prices(store, None, NOON, after=after, limit=7):
        found += page
        after = (page[-1].program, page[-1].series, page[-1].start, page[-1].since)
    assert [int(r.value) for r in found] == list(range(24))


async def test_a_price_that_holds_at_the_start_is_shown_and_one_that_ended_is_not(store):
    await say(store, day("A", ["1", "2", "3"]))
    assert await shown(store, NOON + HOUR * 1.5) == [(1, 1, "2"), (2, 1, "3")]
    assert await shown(store, NOON + HOUR) == [(1, 1, "2"), (2, 1, "3")]


async def test_a_dropped_event_and_an_unchanged_one(store):
    await say(store, day("A", ["1"]), day("B", ["2"], start=NOON + 5 * HOUR))
    await say(store, day("B", ["2"], start=NOON + 5 * HOUR), complete=True)
    assert await shown(store) == [(5, 1, "2")]


async def test_an_older_modification_changes_nothing(store):
    await say(store, day("A", ["2"], modification=3))
    await say(store, day("A", ["1"], modification=2))
    assert await shown(store) == [(0, 1, "2")]


async def test_a_program_renamed_in_the_settings_and_one_with_the_same_name(store, tmp_path):
    await say(store, day("A", ["1"]))
    await say(store, day("B", ["1"], context="http://other.example/EV2A"))
    await say(store, day("C", ["1"], context="http://third.example/x/EV2A"))
    assert [p["programName"] for p in await store.prices.programs(NOON)] == [
        "EV2A",
        "EV2A-s",
        "EV2A-s-2",
    ]
    SOURCE.program_names = {"http://utility.example/EV2A": "Home"}
    try:
        await say(store, day("A", ["3"], modification=1))
    finally:
        SOURCE.program_names = {}
    assert "Home" in [p["programName"] for p in await store.prices.programs(NOON)]


async def test_what_history_costs_does_not_grow(store):
    for n in range(30):
        await say(store, day(f"D{n}", [str(n)] * 24, start=NOON + timedelta(days=n - 40)))
    plan = await store.prices._file.read(
        lambda db: [
            r[3]
            for r in db.execute(
                "EXPLAIN QUERY PLAN SELECT document FROM events WHERE program = ? AND test = 0"
                " AND active_to > ? AND active_from < ? ORDER BY issued DESC",
                ("p", millis(NOON), millis(NOON)),
            )
        ]
    )
    assert any("events_by_program" in step for step in plan)


async def test_fine_issues_inside_a_coarse_one_never_overlap(store):
    await say(store, event("E1", NOON, signal(["1"], length="PT4H"), duration="PT4H"))
    await say(store, event("E2", NOON, signal(["2"], length="PT2H"), duration="PT2H"))
    await say(store, event("E3", NOON + 3 * HOUR, signal(["3"]), duration="PT1H"))
    assert await shown(store) == [(0, 2, "2"), (2, 1, "1"), (3, 1, "3")]
    await say(store, event("E4", NOON, signal(["4"], length="PT15M"), duration="PT15M"))
    assert await shown(store) == [(0, 0.25, "4"), (0.25, 1.75, "2"), (2, 1, "1"), (3, 1, "3")]


@pytest.mark.parametrize("seed", range(15))
async def test_any_issues_in_any_order_say_what_the_newest_says(store, seed):
    draw, said = random.Random(seed), []
    for n in range(14):
        start, length = NOON + draw.randrange(0, 96) * HOUR / 4, draw.choice([1, 2, 4, 16])
        values = [f"{draw.randrange(100)}.{n}" for _ in range(draw.randint(1, 4))]
        end = start + len(values) * length * HOUR / 4
        body = signal(values, length=f"PT{15 * length}M")
        await say(
            store,
            event(f"E{n}", start, body, duration=f"PT{15 * length * len(values)}M"),
            at=NOON + n * HOUR / 3600,
        )
        said.append((start, end, length, values))
    rows = await kept_prices(store, "EV2A", NOON - HOUR, limit=1000)
    assert all(a.end <= b.start for a, b in pairwise(rows))
    for quarter in range(-4, 200):
        at = NOON + quarter * HOUR / 4
        holds = next(
            (
                v[int((at - s) / (length * HOUR / 4))]
                for s, e, length, v in reversed(said)
                if s <= at < e
            ),
            None,
        )
        found = [str(r.value) for r in rows if r.start <= at < r.end]
        assert found == ([holds] if holds else []), at


async def test_a_cancellation_that_is_said_again_brings_nothing_back(store):
    await say(store, day("A", ["1", "2", "3"]))
    for n, hours in ((1, 0.5), (2, 2.5)):
        gone = day("A", ["1", "2", "3"], modification=n, status="cancelled")
        await say(store, gone, at=NOON + HOUR * hours)
    assert await shown(store) == [(0, 0.5, "1")]


async def test_an_event_that_moves_to_another_program_leaves_the_first(store):
    await say(store, day("A", ["1", "2"]))
    await say(store, day("A", ["1", "2"], modification=1, context="http://utility.example/TOU"))
    assert await shown(store) == []
    rows = await kept_prices(store, "TOU", NOON, limit=10)
    assert [str(r.value) for r in rows] == ["1", "2"]
