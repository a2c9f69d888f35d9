"""Local adders: exact, cut at the hours they hold in, told as derived."""

import tomllib
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from pydantic import ValidationError

from bridge import adders
from bridge.adders import Adder
from bridge.clock import WallClock
from bridge.config import Settings
from bridge.ingest import derive_history, with_derived
from bridge.interfaces import Batch
from bridge.model import Component, Price, Publication, Tariff
from bridge.notation import day_span
from bridge.sources import Feed
from bridge.store import open_store
from tests.peers import kept_prices, replaced_prices

ZONE = "America/Los_Angeles"
HOUR = timedelta(hours=1)
TARIFF = Tariff(
    "P", "c", currency="USD", zone=ZONE, basis="marginal", utility="PGE", rate="R", circuit="1"
)
SOURCE = Feed(kind="feed", name="f", path="x.csv")


def adder(text, **about):
    return Adder.model_validate({"program": "P", "name": "home", **tomllib.loads(text), **about})


def prices_of(day, value="0.1", length=HOUR):
    start, end = day_span(day, ZONE)
    return [
        Price(start + n * length, start + (n + 1) * length, Decimal(value))
        for n in range((end - start) // length)
    ]


def test_fixed_and_percent_are_exact():
    (price,) = adders.add(
        prices_of(date(2026, 1, 1))[:1], adder('fixed = "0.0853"\npercent = "7.25"'), ZONE
    )
    assert price.value == Decimal("0.1853") * Decimal("1.0725")
    assert price.components == (
        Component("base", "price", Decimal("0.1")),
        Component("fixed", "adder", Decimal("0.0853")),
        Component("percent", "adder", Decimal("0.01343425")),
    )


@pytest.mark.parametrize(
    ("day", "count"), [(date(2026, 3, 8), 23), (date(2026, 11, 1), 25), (date(2026, 7, 1), 24)]
)
def test_time_of_use_is_local_on_days_of_any_length(day, count):
    rule = adder('time_of_use = [{ amount = "0.2", from = "16:00", to = "21:00" }]')
    found = list(adders.add(prices_of(day), rule, ZONE))
    assert len(found) == count
    peak = [p for p in found if p.value == Decimal("0.3")]
    assert [p.start.astimezone(adders.ZoneInfo(ZONE)).hour for p in peak] == [16, 17, 18, 19, 20]


def test_a_price_is_cut_where_an_amount_begins_and_ends_within_it():
    start = datetime(2026, 7, 1, 7, tzinfo=UTC)
    rule = adder(
        'time_of_use = [{ amount = "1", from = "16:30", to = "21:00" }, { amount = "2", from = "22:00" }]'
    )
    found = list(adders.add([Price(start, start + 48 * HOUR, Decimal(0))], rule, ZONE))
    assert [((p.start - start) / HOUR, p.value) for p in found] == [
        (0, 0), (16.5, 1), (21, 0), (22, 2), (24, 0), (40.5, 1), (45, 0), (46, 2),
    ]  # fmt: skip
    assert found[-1].end == start + 48 * HOUR


def test_days_and_months_narrow_an_amount():
    rule = adder('time_of_use = [{ amount = "1", days = ["sat", "sun"], months = [7] }]')
    values = [
        next(adders.add(prices_of(d)[:1], rule, ZONE)).value
        for d in (date(2026, 7, 4), date(2026, 7, 6), date(2026, 8, 1))
    ]
    assert values == [Decimal("1.1"), Decimal("0.1"), Decimal("0.1")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('time_of_use = [{ amount = "1", from = "21:00", to = "16:00" }]', "must be after from"),
        ('time_of_use = [{ amount = "1", months = [13] }]', "from 1 to 12"),
        ('name = "P"', "a name of its own"),
        ('percent = "many"', "valid decimal"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(text, said):
    with pytest.raises(ValidationError, match=said):
        Adder.model_validate({"program": "P", "name": "home", **tomllib.loads(text)})


async def test_a_derived_series_follows_its_base_and_says_so(tmp_path):
    rule, day = adder('fixed = "0.05"'), date(2026, 7, 1)
    noon = datetime(2026, 7, 1, 12, tzinfo=UTC)
    async with open_store(tmp_path / "bridge.db") as store:
        await store.devices.sync({"d": "webhook"}, noon, {"*"})
        batch = Batch(publications=[Publication(TARIFF, prices_of(day), [day_span(day, ZONE)])])
        await store.events.save(SOURCE, with_derived(batch, [rule]), noon)
        begin = day_span(day, ZONE)[0]
        base, home = await kept_prices(store, "P", begin), await kept_prices(store, "home", begin)
        assert {h.value - b.value for b, h in zip(base, home, strict=True)} == {Decimal("0.05")}
        (about,) = [p for p in await store.prices.programs(noon) if p["programName"] == "home"]
        assert (about["derived_from"], about["basis"], about["rate"]) == ("P", "retail", None)
        # it is no rate of the utility: its Pricing API does not serve it
        (served,) = await store.prices.days("PGE", "R", "1", None, day, day)
        assert served.tariff.program == "P"
        assert {e.program for e in await store.deliveries.live_events(noon)} == {"P", "home"}


class Deriving:
    """A store with a base program, and what derives from it; every save is counted."""

    def __init__(self, store):
        self.store, self.saves = store, 0
        save = store.events.save

        async def counted(*about):
            self.saves += 1
            return await save(*about)

        store.events.save = counted

    async def publish(self, prices, added=(), whole=(), program="P", **about):
        tariff = replace(TARIFF, program=program, context=program, **about)
        batch = Batch(publications=[Publication(tariff, prices, whole)])
        await self.store.events.save(SOURCE, with_derived(batch, added), NOON)

    async def start(self, *added):
        parts = (SOURCE, self.store.events, self.store.sources, self.store.prices, WallClock())
        before = self.saves
        await derive_history(*parts, added)
        return self.saves - before

    async def values(self, name="home"):
        rows = await kept_prices(self.store, name, BEGIN, limit=9999)
        return [str(r.value) for r in rows]


NOON, DAY = datetime(2026, 7, 1, 12, tzinfo=UTC), date(2026, 7, 1)
BEGIN = day_span(DAY, ZONE)[0]


@pytest.fixture
async def deriving(tmp_path):
    async with open_store(tmp_path / "bridge.db") as store:
        yield Deriving(store)


async def test_history_is_derived_once_and_again_when_the_adder_changes(deriving):
    await deriving.publish(prices_of(DAY))
    for text, value, saves in (
        ('fixed = "0.05"', "0.15", 2), ('fixed = "0.05"', "0.15", 0), ('fixed = "0.06"', "0.16", 2),
    ):  # fmt: skip
        assert await deriving.start(adder(text)) == saves
        assert await deriving.values() == [value] * 24
    assert len(await replaced_prices(deriving.store, "home")) == 24
    assert (
        await deriving.start(adder('fixed = "0.06"'), adder("", program="unknown", name="x")) == 0
    )


async def test_an_adder_that_was_away_misses_nothing(deriving):
    rule, tomorrow = adder('fixed = "0.05"'), DAY + timedelta(days=1)
    await deriving.publish(prices_of(DAY), [rule])
    await deriving.start(rule)
    await deriving.start()  # a start without it
    await deriving.publish(prices_of(tomorrow))
    await deriving.start(rule)
    assert await deriving.values() == ["0.15"] * 48


async def test_what_the_base_has_no_more_is_withdrawn_from_the_derived(deriving, monkeypatch):
    monkeypatch.setattr("bridge.ingest.AT_ONCE", 5)
    rule, whole = adder('fixed = "0.05"'), day_span(DAY, ZONE)
    await deriving.publish(prices_of(DAY), [rule], [whole])
    left = [p for n, p in enumerate(prices_of(DAY)) if n not in {0, 4, 5, 9, 10, 23}]
    await deriving.publish(left, [rule], [whole])
    assert len(await deriving.values()) == 18  # while it runs
    await deriving.publish(prices_of(DAY), [rule], [whole])
    await deriving.publish(left, [], [whole])  # while it was away
    assert len(await deriving.values()) == 24
    await deriving.start(rule)
    base = [r.start for r in await kept_prices(deriving.store, "P", BEGIN)]
    assert [r.start for r in await kept_prices(deriving.store, "home", BEGIN)] == base


async def test_a_derived_program_goes_with_its_adder_to_another_base(deriving):
    await deriving.publish(prices_of(DAY))
    await deriving.publish(prices_of(DAY, "0.5"), program="Q")
    await deriving.start(adder('fixed = "1"'))
    await deriving.start(adder('fixed = "1"', program="Q"))
    assert await deriving.values() == ["1.5"] * 24
    names = [p["programName"] for p in await deriving.store.prices.programs(NOON)]
    assert names == ["P", "Q", "home"]


async def test_each_series_of_a_program_is_derived_under_its_own_currency(deriving):
    tomorrow = DAY + timedelta(days=1)
    await deriving.publish(prices_of(DAY))
    await deriving.publish(prices_of(tomorrow, "0.2"), currency="EUR")
    await deriving.start(adder('fixed = "1"'))
    rows = await kept_prices(deriving.store, "home", BEGIN)
    assert {(r.currency, str(r.value)) for r in rows} == {("USD", "1.1"), ("EUR", "1.2")}
    assert len(rows) == 48


async def test_only_prices_are_added_to(deriving):
    rule = adder('fixed = "0.05"')
    for kind in ("GHG", "DEMAND_CHARGE", "EXPORT_PRICE"):
        await deriving.publish(prices_of(DAY), [rule], payload_type=kind)
    await deriving.start(rule)
    assert [p["programName"] for p in await deriving.store.prices.programs(NOON)] == ["P"]


def test_long_amounts_stay_exact():
    price = replace(prices_of(DAY)[0], value=Decimal("0.1234567890123456789012345678901"))
    (found,) = adders.add([price], adder('fixed = "1"'), ZONE)
    assert str(found.value) == "1.1234567890123456789012345678901"


def test_a_time_that_the_clock_skips_cuts_nothing():
    rule = adder('time_of_use = [{ amount = "1", from = "02:00", to = "03:00" }]')
    found = list(adders.add(prices_of(date(2026, 3, 8)), rule, ZONE))
    assert len(found) == 23
    assert {p.value for p in found} == {Decimal("0.1")}


def test_an_adder_of_an_adder_is_refused():
    one, two = adder(""), adder("", program="home", name="other")
    with pytest.raises(ValidationError, match="'home' is derived itself"):
        Settings(adders=(one, two))
