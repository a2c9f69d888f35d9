"""Readings in the store, against a plain model: any order of imports, corrections, restarts."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import Unfit
from bridge.notation import millis
from bridge.store import open_store, usage, usage_rows
from bridge.store.files import beside, check
from bridge.store.metered import pack
from bridge.usage import Kept, Measured, Origin, Reading, Stream, UsageQuestion
from tests.peers import LONG, kept_readings

T0 = datetime(2027, 3, 13, tzinfo=UTC)  # the day before the clocks go forward in Los Angeles
LA = "America/Los_Angeles"
DAY_MS = 86_400_000
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FILE = Origin("greenbutton", reference="a.xml")


def reading(start, length, value, **more):
    amount = Decimal(str(value))
    sign, digits, exponent = amount.as_tuple()
    number = int("".join(map(str, digits))) * (-1 if sign else 1)
    return Reading(millis(start), length // timedelta(milliseconds=1), number, exponent, **more)


def run(start, step, values, **more):
    return [reading(start + n * step, step, v, **more) for n, v in enumerate(values)]


def said(readings, stream=None, at=None, origin=FILE, zone=None):
    return Measured(stream or Stream("m", "import"), readings, origin, at, zone)


@pytest.fixture
async def store(tmp_path):
    async with open_store(tmp_path / "bridge.db") as opened:
        yield opened


async def keep(store, *measured, at=T0):
    return await store.meters.keep(measured, at, durable=False)


async def stream_of(store, meter="m", kind=None):
    (found,) = await store.meters.streams(UsageQuestion(frozenset({meter}), kind=kind))
    return found


async def sums(store, *edges, meter="m", kind=None):
    buckets = await store.meters.buckets(await stream_of(store, meter, kind), edges)
    return [b.value for b in buckets]


async def shown(store, start, end, meter="m"):
    found = await store.meters.readings(await stream_of(store, meter), start, end, 10_000)
    return [(r.start, r.end, r.value) for r in found]


def dates(zone, first, count):
    zone = ZoneInfo(zone)
    days = [first + timedelta(days=n) for n in range(count + 1)]
    return [datetime(d.year, d.month, d.day, tzinfo=zone).astimezone(UTC) for d in days]


# --- what a person would expect --------------------------------------------------------------


async def test_said_twice_it_changes_nothing(store):
    assert await keep(store, said(run(T0, HOUR, range(48)))) == Kept(new=48)
    assert await keep(store, said(run(T0, HOUR, range(48))), at=T0 + DAY) == Kept(duplicates=48)
    assert await sums(store, T0, T0 + DAY, T0 + 2 * DAY) == [276, 852]


async def test_a_correction_holds_and_leaves_a_trace(store):
    await keep(store, said(run(T0, HOUR, [1, 2, 3])))
    counts = await keep(store, said(run(T0, HOUR, [1, "2.5", 3])), at=T0 + DAY)
    assert counts == Kept(updated=1, duplicates=2)
    assert await sums(store, T0, T0 + DAY) == [Decimal("6.5")]
    (trace,) = await store.meters.trace(await stream_of(store), T0, T0 + DAY, 10)
    assert (trace.value, trace.start, trace.since, trace.replaced) == (2, T0 + HOUR, T0, T0 + DAY)


async def test_what_was_said_earlier_does_not_undo_what_was_said_later(store):
    async def told(value, day):
        return await keep(store, said(run(T0, HOUR, [value]), at=T0 + day * DAY), at=T0 + 9 * DAY)

    await told(5, 2)
    assert await told(4, 1) == Kept(outdated=1)
    await told(5, 4)  # said again, it is as new
    assert await told(6, 3) == Kept(outdated=1)
    assert await sums(store, T0, T0 + DAY) == [5]


async def test_of_many_within_each_other_only_so_many_are_kept(store):
    second = timedelta(seconds=1)
    russian_dolls = [reading(T0 + n * second, DAY - 2 * n * second, n) for n in range(5000)]
    kept = await keep(store, said(russian_dolls))
    assert (kept.new + kept.outdated, kept.new) == (5000, len(kept_readings(store.path)))
    assert 100 < kept.new < 500
    assert await keep(store, said(run(T0 + DAY, HOUR, [1] * 24))) == Kept(new=24)


async def test_the_highest_of_dates_knows_midnight_once(store):
    demand = Stream("m", "import", "demand", "KW")
    instants = [reading(T0 + n * HOUR, 0 * HOUR, 9 if n == 24 else 1) for n in range(48)]
    await keep(store, said(instants, demand))
    assert await sums(store, T0, T0 + DAY, T0 + 2 * DAY) == [1, 9]
    while await store.meters.refresh(T0 + 30 * DAY):
        pass
    assert await sums(store, T0, T0 + DAY, T0 + 2 * DAY) == [1, 9]


async def test_hours_that_fill_a_day_count_and_the_day_does_not(store):
    (start, end) = dates(LA, date(2027, 3, 13), 1)
    await keep(store, said([reading(start, end - start, 100)], zone=LA))
    await keep(store, said(run(start, HOUR, [1] * 20)))
    assert await sums(store, start, end) == [100]
    assert await shown(store, start, end) == [(start, end, 100)]
    await keep(store, said(run(start + 20 * HOUR, HOUR, [1] * 4)))
    assert await sums(store, start, end) == [24]
    assert len(await shown(store, start, end)) == 24
    assert await sums(store, start, start + HOUR, start + 2 * HOUR) == [1, 1]


async def test_of_two_that_overlap_the_later_one_holds(store):
    await keep(store, said(run(T0, HOUR, [1, 2, 3])))
    counts = await keep(store, said([reading(T0 + 0.5 * HOUR, HOUR, 9)]), at=T0 + HOUR)
    assert counts == Kept(updated=1)
    assert await shown(store, T0, T0 + DAY) == [
        (T0 + 0.5 * HOUR, T0 + 1.5 * HOUR, 9), (T0 + 2 * HOUR, T0 + 3 * HOUR, 3),
    ]  # fmt: skip


async def test_a_day_when_the_clocks_change_has_its_own_hours(store):
    edges = dates(LA, date(2027, 3, 13), 3) + dates(LA, date(2027, 11, 7), 1)
    await keep(store, said(run(edges[0], HOUR, [1] * 71), zone=LA))
    await keep(store, said(run(edges[4], HOUR, [1] * 25)))
    assert await sums(store, *edges[:4]) == [24, 23, 24]
    assert await sums(store, *edges[4:]) == [25]


async def test_a_leap_day_and_a_change_of_interval_length(store):
    start = datetime(2028, 2, 28, tzinfo=UTC)
    await keep(store, said(run(start, HOUR, [1] * 24)))
    await keep(store, said(run(start + DAY, timedelta(minutes=15), ["0.25"] * 96)))
    await keep(store, said(run(start + 2 * DAY, timedelta(minutes=1), ["0.01"] * 1440)))
    assert await sums(store, *(start + n * DAY for n in range(4))) == [24, 24, Decimal("14.4")]
    assert await sums(store, datetime(2028, 2, 1, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC),
                      datetime(2028, 4, 1, tzinfo=UTC)) == [48, Decimal("14.4")]  # fmt: skip


async def test_net_readings_may_be_negative_and_large_ones_stay_exact(store):
    net = Stream("m", "net")
    await keep(store, said(run(T0, HOUR, [5, -7, "-0.001"]), net))
    big = Reading(millis(T0 + 3 * HOUR), 3_600_000, "123456789012345678901234567890", -3)
    await keep(store, said([big], net))
    assert await sums(store, T0, T0 + DAY) == [Decimal("123456789012345678901234565.889")]


async def test_of_demand_the_highest_counts(store):
    stream = Stream("m", "import", "demand", "KW")
    await keep(store, said(run(T0, HOUR, [3, 8, 5]), stream))
    assert await sums(store, T0, T0 + DAY) == [8]


async def test_a_bill_over_two_months_is_in_the_year_and_in_neither_month(store):
    start = datetime(2027, 1, 12, tzinfo=UTC)
    await keep(store, said([reading(start, 30 * DAY, 400)]))
    months = [datetime(2027, m, 1, tzinfo=UTC) for m in (1, 2, 3)]
    assert await sums(store, *months) == [None, None]
    assert await sums(
        store, datetime(2027, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
    ) == [400]


async def test_the_end_of_a_question_does_not_change_what_is_shown(store):
    start = datetime(2027, 1, 1, tzinfo=UTC)
    await keep(store, said([reading(start, 31 * DAY, 800)]), said(run(start, HOUR, [1] * 31 * 24)))
    found = await shown(store, start + 5 * DAY, start + 5 * DAY + 2 * HOUR)
    assert [b - a for a, b, _ in found] == [HOUR, HOUR], "hours fill the month: it is not shown"


async def test_a_bill_beside_hours_costs_its_own_row(store):
    start = datetime(2027, 1, 1, tzinfo=UTC)
    await keep(store, said(run(start, HOUR, [1] * 90 * 24)), said([reading(start, 90 * DAY, 9)]))
    stream = await stream_of(store)
    assert (stream.first, stream.last) == (start, start + 90 * DAY)
    later = start + 60 * DAY
    assert await store.meters.begins(stream, later) == later
    # Two bills that cross: the later one holds, and the hours stay.
    await keep(store, said([reading(start + 30 * DAY, 90 * DAY, 8)]), at=T0 + DAY)
    (trace,) = await store.meters.trace(stream, start, start + DAY, 10)
    assert (trace.value, trace.end) == (9, start + 90 * DAY)
    (found,) = await store.meters.coverage(stream, None, None, 10)
    assert found == (start, start + 120 * DAY)
    assert await sums(store, start, start + 120 * DAY) == [30 * 24 + 8]
    assert await store.meters.begins(stream, start + 121 * DAY) is None
    # Taken back, the bill is gone, and nothing else.
    keys = [(millis(start + 30 * DAY), 90 * 86_400_000)]
    with beside(store.path) as db:
        usage.withdraw(db, Stream("m", "import"), keys, FILE, T0 + 2 * DAY)
    assert await sums(store, start, start + 120 * DAY) == [90 * 24]


async def test_readings_are_taken_back_day_by_day_and_not_one_by_one(store):
    hours = run(T0, HOUR, range(24 * 60))
    await keep(store, said(hours))
    asked = []
    with beside(store.path) as db:
        db.conn.set_trace_callback(asked.append)
        usage.withdraw(db, Stream("m", "import"), [r[:2] for r in hours[12:]], FILE, T0 + DAY)
    assert len(asked) < 60 * 12, "some statements for each day"
    assert len(kept_readings(store.path)) == 12


async def test_what_is_of_an_instant_is_said_once_too(store):
    kind = Stream("m", "net", "demand", "KW")
    await keep(store, said([reading(T0, timedelta(0), 5)], kind))
    assert await keep(store, said([reading(T0, timedelta(0), 5)], kind)) == Kept(duplicates=1)
    assert await keep(store, said([reading(T0, timedelta(0), 3)], kind), at=T0 + HOUR) == Kept(
        updated=1
    )
    assert await sums(store, T0, T0 + DAY) == [3]


async def test_readings_within_each_other_a_thousand_deep(store):
    deep = [
        reading(T0 + n * timedelta(seconds=1), DAY - 2 * n * timedelta(seconds=1), n)
        for n in range(1500)
    ]
    await keep(store, said(deep))
    assert await sums(store, T0, T0 + DAY) == [0]
    assert not await store.meters.refresh(T0 + 30 * DAY)


async def test_readings_have_bounds(store):
    for bad in (
        Reading(-1, 10, 1),
        Reading(7_258_118_400_000, 1, 1),
        Reading(0, 101 * 86_400_000, 1),
    ):
        with pytest.raises(Unfit, match="readings"):
            await keep(store, said([bad]))


async def test_what_is_said_to_be_of_the_future_is_as_new_as_now(store):
    await keep(store, said([reading(T0, HOUR, 1)], at=datetime(2999, 1, 1, tzinfo=UTC)))
    assert await keep(store, said([reading(T0, HOUR, 2)]), at=T0 + HOUR) == Kept(updated=1)


async def test_gaps_are_told(store):
    await keep(store, said(run(T0, HOUR, [1, 2])))
    await keep(store, said(run(T0 + 30 * HOUR, HOUR, [1])))
    stream = await stream_of(store)
    found = await store.meters.coverage(stream, None, None, 10)
    assert [tuple(s) for s in found] == [
        (T0, T0 + 2 * HOUR), (T0 + 30 * HOUR, T0 + 31 * HOUR),
    ]  # fmt: skip
    (bucket,) = await store.meters.buckets(stream, [T0, T0 + DAY])
    assert (bucket.covered, bucket.whole, bucket.readings) == (2 * HOUR, False, 2)


async def test_another_zone_of_the_site_makes_other_dates(store):
    await keep(store, said(run(T0, HOUR, [1] * 72)))
    while await store.meters.refresh(T0 + 30 * DAY):
        pass
    assert await sums(store, *dates("UTC", date(2027, 3, 13), 1)) == [24]
    await store.meters.settle_zone(LA)
    assert await sums(store, *dates(LA, date(2027, 3, 13), 2)) == [24, 23]
    while await store.meters.refresh(T0 + 30 * DAY):
        pass
    assert await sums(store, *dates(LA, date(2027, 3, 13), 2)) == [24, 23]


async def test_a_store_of_the_former_shape_is_brought_up_to_date(tmp_path):
    path = tmp_path / "bridge.db"
    bill = reading(T0, 30 * DAY, 400)
    hours = run(T0, HOUR, [1] * 48)
    async with open_store(path) as store:
        await keep(store, said([*hours, bill]))
        had = kept_readings(path)
    with closing(sqlite3.connect(path)) as db:  # as it was: packed with the rest, and looked for
        day = bill.start // DAY_MS
        ((_, held),) = usage_rows.day_rows(db, 1, day, day)
        db.execute("UPDATE usage SET data = ? WHERE day = ?", (pack(held, day), day))
        db.execute("DROP TABLE usage_long")
        db.execute("ALTER TABLE streams DROP COLUMN hourly")
        db.execute("ALTER TABLE streams ADD COLUMN longest INTEGER NOT NULL DEFAULT 2592000000")
        db.execute("DELETE FROM _sqlite_migrations WHERE name = 'long_readings'")
        db.commit()
    async with open_store(path) as store:
        assert kept_readings(path) == had
        assert await keep(store, said([*hours, bill])) == Kept(duplicates=49)
    assert "long_readings" in check(path, thoroughly=True)["migrations"]


# --- against a plain model ---------------------------------------------------------------------


class Model:
    """The same rules, said in the plainest way."""

    def __init__(self):
        self.held = {}  # (start, end) → value, said

    def say(self, readings, stamp):
        for start, end, value in sorted(readings, key=lambda r: r[0]):
            had = self.held.get((start, end))
            if had:
                if had[0] == value:
                    self.held[start, end] = value, max(stamp, had[1])
                elif stamp >= had[1]:
                    self.held[start, end] = value, stamp
                continue
            crossed = [
                (a, b) for a, b in self.held
                if a < end and b > start and not (a <= start and end <= b) and not (start <= a and b <= end)
            ]  # fmt: skip
            if all(self.held[k][1] <= stamp for k in crossed):
                for key in crossed:
                    del self.held[key]
                self.held[start, end] = value, stamp

    def amount(self, lo, hi):
        inside = sorted(
            (k for k in self.held if lo <= k[0] < k[1] <= hi), key=lambda k: (k[0], k[0] - k[1])
        )
        return self._sum(inside)

    def _sum(self, keys):
        total = None
        while keys:
            first, *rest = keys
            inner = [k for k in rest if k[0] >= first[0] and k[1] <= first[1]]
            keys = [k for k in rest if k not in inner]
            value = self._sum(inner) if self._tiles(inner, *first) else self.held[first][0]
            total = value if total is None else total + value
        return total

    def _tiles(self, keys, start, end):
        at = start
        while keys:
            outer, *rest = keys
            if outer[0] != at:
                return False
            at = outer[1]
            keys = [k for k in rest if not (k[0] >= outer[0] and k[1] <= outer[1])]
        return at == end


QUARTER = timedelta(minutes=15)
pieces = st.tuples(
    st.integers(0, 4 * 60),
    st.sampled_from([0, 1, 2, 3, 4, 4, 4, 8, 96, 92, 7, 110, 200, 900]),
    st.integers(-5, 20),
)
batches = st.lists(
    st.tuples(
        st.lists(pieces, min_size=1, max_size=12), st.integers(0, 3), st.booleans(), st.booleans()
    ),
    max_size=12,
)


@given(batches)
@settings(max_examples=600 if LONG else 80, deadline=None)
def test_any_order_of_imports_corrections_and_restarts(steps):
    assert asyncio.run(_check(steps)) == len(steps)


async def _check(steps):
    model, start = Model(), dates(LA, date(2027, 3, 12), 1)[0]
    edges = dates(LA, date(2027, 3, 12), 16)
    hours = [start + n * HOUR for n in range(70)]
    with TemporaryDirectory() as folder:
        path, n = Path(folder) / "bridge.db", 0
        while True:
            async with open_store(path) as store:
                await store.meters.settle_zone(LA)
                while n < len(steps):
                    found, stamp, restart, refreshes = steps[n]
                    n += 1
                    said_at = T0 + stamp * DAY
                    times = [
                        (start + a * QUARTER, start + (a + b) * QUARTER, v) for a, b, v in found
                    ]
                    readings = [reading(a, b - a, v) for a, b, v in times]
                    await keep(store, said(readings, at=said_at), at=T0 + 9 * DAY)
                    model.say(times, said_at)
                    if refreshes:
                        await store.meters.refresh(T0 + 30 * DAY)
                    if restart:
                        break
                if n == len(steps):
                    if model.held:
                        assert await sums(store, *edges) == [
                            model.amount(*e) for e in pairwise(edges)
                        ]
                        assert await sums(store, edges[0], edges[-1]) == [
                            model.amount(edges[0], edges[-1])
                        ]
                        assert await sums(store, *hours) == [
                            model.amount(*e) for e in pairwise(hours)
                        ]
                        listed = await shown(store, start - DAY, start + 20 * DAY)
                        total = sum(v for a, b, v in listed if b > a)
                        assert total == (model.amount(start - DAY, start + 20 * DAY) or 0)
                        for lo, hi in ((3, 7), (20, 26), (49, 60)):
                            part = await shown(store, hours[lo], hours[hi])
                            assert part == [r for r in listed if hours[lo] <= r[0] < hours[hi]]
                    return n
