"""What is old becomes hours, where a setting says so: sums stay, and nothing else is touched."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.intake import take_in
from bridge.store import open_store
from bridge.usage import Kept, Stream
from tests import greenbutton as gb
from tests.peers import LONG, SimClock, eventually, kept_readings
from tests.store.test_usage import (
    HOUR,
    dates,
    keep,
    reading,
    run,
    said,
    shown,
    store,
    stream_of,
    sums,
)

__all__ = ["store"]
START = datetime(2027, 3, 13, tzinfo=UTC)
QUARTER, DAY = timedelta(minutes=15), timedelta(days=1)


async def compacted(store, before):
    while await store.meters.compact(before):
        pass


async def test_whole_hours_are_made_and_sums_stay(store):
    await keep(
        store, said(run(START, QUARTER, ["0.25", "0.5", "0.75", 1] * 40, quality="valid", cost=7))
    )
    await keep(store, said(run(START, QUARTER, ["0.5"], cost=7)), at=START + DAY)  # a correction
    edges = [START, START + DAY, START + 2 * DAY]
    had = await sums(store, *edges)
    await compacted(store, START + 30 * DAY)
    assert await sums(store, *edges) == had
    found = await shown(store, START, START + 2 * DAY)
    assert found[:2] == [
        (START, START + HOUR, Decimal("2.75")),
        (START + HOUR, START + 2 * HOUR, Decimal("2.50")),
    ]
    assert len(found) == 40
    assert await store.meters.trace(await stream_of(store), *edges[::2], 10) == []
    kept = kept_readings(store.path)
    assert [r["quality"] for r in kept][1:] == ["valid"] * 39


async def test_hours_that_are_not_whole_and_other_kinds_stay_as_they_are(store):
    broken = [*run(START, QUARTER, [1, 1, 1]), reading(START + HOUR, 2 * HOUR, 9)]
    await keep(
        store,
        said(broken),
        said(run(START, QUARTER, [1] * 4), Stream("m", "net", "reading", "KWH")),
    )
    had = kept_readings(store.path)
    await compacted(store, START + 30 * DAY)
    assert kept_readings(store.path) == had


async def test_only_what_is_old_and_of_demand_the_highest(store):
    demand = Stream("m", "import", "demand", "KW")
    await keep(store, said(run(START, QUARTER, [3, 9, 5, 1] * 48), demand))
    await compacted(store, START + DAY + HOUR)
    found = await shown(store, START, START + 3 * DAY)
    assert (found[0][2], len(found)) == (9, 24 + 96)


async def test_what_comes_late_is_taken_in_and_made_hours_again(store):
    await keep(store, said(run(START, QUARTER, [1] * 96)))
    await compacted(store, START + 30 * DAY)
    assert len(kept_readings(store.path)) == 24
    assert await keep(store, said(run(START, QUARTER, [2] * 96)), at=START + 31 * DAY) == Kept(
        new=96
    )
    assert await sums(store, START, START + DAY) == [192], "the finest readings count"
    await compacted(store, START + 60 * DAY)
    assert await sums(store, START, START + DAY) == [192]
    assert len(kept_readings(store.path)) == 24


async def test_a_late_correction_of_a_part_of_an_hour_holds_once_the_hour_is_full(store):
    await keep(store, said(run(START, QUARTER, [1] * 96)))
    await compacted(store, START + 30 * DAY)
    late = run(START + HOUR, QUARTER, [5]) + run(START + 2 * HOUR, QUARTER, [2] * 4)
    assert await keep(store, said(late), at=START + 31 * DAY) == Kept(new=5)
    assert await sums(store, START, START + DAY) == [96 + 4]
    await compacted(store, START + 60 * DAY)
    assert await sums(store, START, START + DAY) == [96 + 4]
    assert (await shown(store, START + HOUR, START + 2 * HOUR))[0][1:] == (START + 2 * HOUR, 4)
    rest = said(run(START + HOUR + QUARTER, QUARTER, [6] * 3))
    assert await keep(store, rest, at=START + 61 * DAY) == Kept(new=3)
    assert await sums(store, START, START + DAY) == [96 + 4 + 19]
    (gone,) = await store.meters.trace(await stream_of(store), START + HOUR, START + 2 * HOUR, 10)
    assert (gone.value, gone.replaced, gone.origin["reference"]) == (4, START + 61 * DAY, "a.xml")
    fresh = run(START + 40 * DAY, QUARTER, [1])
    assert await keep(store, said(fresh), at=START + 62 * DAY) == Kept(new=1)


@settings(max_examples=300 if LONG else 40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9), st.booleans()), max_size=8),
    st.randoms(use_true_random=False),
)
def test_what_was_said_last_holds_whenever_hours_are_made(steps, draw):
    """Hours of quarters, said in any order of when: (hour, value, hours are made then)."""
    when = draw.sample(range(100), len(steps))
    last = {}
    for _, (hour, value, _) in sorted(zip(when, steps, strict=True)):
        last[hour] = 4 * value

    async def go(folder):
        async with open_store(Path(folder) / "bridge.db") as store:
            for at, (hour, value, make) in zip(when, steps, strict=True):
                readings = run(START + hour * HOUR, QUARTER, [value] * 4)
                await keep(store, said(readings, at=START + at * HOUR), at=START + 30 * DAY)
                if make:
                    await compacted(store, START + 60 * DAY)
            if steps:
                found = await sums(store, *(START + n * HOUR for n in range(5)))
                assert found == [last.get(hour) for hour in range(4)]

    with TemporaryDirectory() as folder:
        asyncio.run(go(folder))


async def test_what_was_said_before_or_is_coarser_does_not_undo_hours_that_were_made(store):
    hours, quarters = run(START, HOUR, [10] * 24), run(START, QUARTER, ["2.5"] * 95 + [3])
    await keep(store, said(hours), said(quarters))
    await compacted(store, START + 30 * DAY)
    had = kept_readings(store.path)
    assert len(had) == 24
    across = run(START + 1.5 * HOUR, HOUR, [7]) + run(START + 2.75 * HOUR, 0.5 * HOUR, [7])
    for late in (hours, across):
        at = START + 31 * DAY
        assert await keep(store, said(late), at=at) == Kept(outdated=len(late))
    assert await keep(store, said(quarters)) == Kept(outdated=96)
    assert kept_readings(store.path) == had
    day = said(run(START, DAY, [250]))  # of which they are the parts
    assert await keep(store, day, at=START + 31 * DAY) == Kept(new=1)
    assert await sums(store, START, START + DAY) == [Decimal("240.5")]


async def test_the_highest_of_a_demand_is_not_lost(store):
    demand = Stream("m", "import", "demand", "KW")
    minute = timedelta(minutes=1)
    peaks = [reading(START + 5 * minute, minute, 9), reading(START + 65 * minute, 0 * minute, 8)]
    await keep(store, said([*run(START, QUARTER, [5] * 12), *peaks], demand))
    edges = [START + n * HOUR for n in range(4)]
    assert await sums(store, *edges) == [9, 8, 5]
    await compacted(store, START + 30 * DAY)
    assert await sums(store, *edges) == [9, 8, 5]
    assert len(kept_readings(store.path)) == 4, "an instant stays"
    corrected = said(run(START, QUARTER, [4] * 4), demand)
    await keep(store, corrected, at=START + 31 * DAY)
    assert await sums(store, *edges) == [4, 8, 5]


@pytest.mark.parametrize("per_block", [777, 15])
async def test_a_corrected_file_counts_in_whatever_pieces_it_comes(store, tmp_path, per_block):
    clock, path = SimClock(START + 300 * DAY), tmp_path / "a.xml"

    async def taken(value, month):
        text = gb.download(gb.readings([value] * 6_000, gb.START + 900, 60), per_block=per_block)
        path.write_bytes(gb.each_said_by_itself(text, datetime(2026, month, 2, tzinfo=UTC)))
        return (await take_in([("a.xml", path)], store.meters, clock, meter="m")).kept

    assert await taken(1_000, 2) == Kept(new=6_000)
    await compacted(store, clock.now())
    hours = len(kept_readings(store.path))
    assert hours < 200
    # Of the first hour and of the last a part was never known
    assert await taken(2_000, 3) == Kept(new=99 * 60, updated=60)
    await compacted(store, clock.now())
    assert len(kept_readings(store.path)) == hours
    assert sum(r["amount"] for r in kept_readings(store.path)) == 12_000


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "Asia/Kolkata", "Australia/Lord_Howe"])
async def test_where_hours_are_not_those_of_utc_nothing_is_made(store, zone):
    edges = dates(zone, date(2027, 6, 13), 2)
    await keep(store, said(run(edges[0], QUARTER, [1] * 192), zone=zone))
    hours = [edges[0] + n * HOUR for n in range(49)]
    had = await sums(store, *hours), await sums(store, *edges)
    await compacted(store, START + 300 * DAY)
    assert (await sums(store, *hours), await sums(store, *edges)) == had


async def test_an_hour_into_which_a_longer_reading_reaches_is_left(store):
    await keep(
        store,
        said(run(START + 0.5 * HOUR, HOUR, [4] * 3)),
        said(run(START + HOUR, QUARTER, [1] * 12)),
    )
    had = await sums(store, START, START + DAY)
    await compacted(store, START + 30 * DAY)
    assert await sums(store, START, START + DAY) == had


async def test_a_cost_that_would_be_lost_keeps_its_readings(store):
    await keep(
        store,
        said(run(START, QUARTER, [1] * 4, cost=2**62)),
        said(run(START + HOUR, QUARTER, [1] * 3, cost=5) + run(START + 1.75 * HOUR, QUARTER, [1])),
    )
    await compacted(store, START + 30 * DAY)
    assert len(kept_readings(store.path)) == 8


async def test_a_bridge_does_it_by_itself(settings, bridge, tmp_path):
    clock = SimClock(START + 60 * DAY)
    async with bridge(settings(usage={"keep_native": "30d"}), clock) as running:
        await keep(
            running.store,
            said(run(START, QUARTER, [1] * 96)),
            said(run(START + 40 * DAY, QUARTER, [1] * 96)),
        )
        clock.set(clock.now() + timedelta(minutes=11))
        await eventually(lambda: len(kept_readings(running.store.path)) == 24 + 96)
