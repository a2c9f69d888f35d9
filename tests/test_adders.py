"""Local adders: exact, cut at the hours they hold in, told as derived."""

import tomllib
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from pydantic import ValidationError

from bridge import adders
from bridge.adders import Adder
from bridge.clock import WallClock
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


async def test_history_is_derived_once_and_again_when_the_adder_changes(tmp_path):
    day, noon = date(2026, 7, 1), datetime(2026, 7, 1, 12, tzinfo=UTC)
    async with open_store(tmp_path / "bridge.db") as store:
        await store.events.save(
            SOURCE, Batch(publications=[Publication(TARIFF, prices_of(day))]), noon
        )
        parts = (SOURCE, store.events, store.sources, store.prices, WallClock())
        for text, value in (
            ('fixed = "0.05"', "0.15"),
            ('fixed = "0.05"', "0.15"),
            ('fixed = "0.06"', "0.16"),
        ):
            await derive_history(*parts, [adder(text)])
            rows = await kept_prices(store, "home", day_span(day, ZONE)[0])
            assert [str(r.value) for r in rows] == [value] * 24
        assert len(await replaced_prices(store, "home")) == 24
        await derive_history(*parts, [adder("", program="unknown")])
