"""What the codes of Green Button mean, and what is said of qualities, clocks and ages."""

from datetime import UTC, datetime

import pytest

from tests import greenbutton as gb
from tests.wire.test_greenbutton import only, read

FEED_SAID = datetime.fromisoformat(gb.SAID)


def streams(**said):
    _, measured = read(gb.download(gb.readings([1]), **said))
    return [m.stream[1:] for m in measured]


@pytest.mark.parametrize(
    ("said", "stream"),
    [
        ({"uom": 38, "kind": 37, "accumulationBehaviour": 12}, ("import", "demand", "KW", "USD")),
        ({"uom": 61, "accumulationBehaviour": 12}, ("import", "demand", "KVA", "USD")),
        ({"uom": 72, "kind": 8}, ("import", "demand", "KWH", "USD")),
        ({"uom": 72, "dataQualifier": 8}, ("import", "demand", "KWH", "USD")),
        ({"uom": 38, "dataQualifier": 16}, ("import", "demand.qualifier-16", "KW", "USD")),
        ({"uom": 73}, ("import", "usage", "KVARH", "USD")),
        ({"uom": 71, "flowDirection": 4}, ("net", "usage", "KVAH", "USD")),
        ({"flowDirection": 0}, ("net", "usage", "KWH", "USD")),
        ({"flowDirection": None}, ("net", "usage", "KWH", "USD")),
        ({"flowDirection": 20}, ("total", "usage", "KWH", "USD")),
        ({"flowDirection": " 17 "}, ("flow-17", "usage", "KWH", "USD")),
        ({"accumulationBehaviour": 3}, ("import", "register", "KWH", "USD")),
        ({"accumulationBehaviour": 1}, ("import", "usage", "KWH", "USD")),
        ({"accumulationBehaviour": 1, "intervalLength": None}, ("import", "register", "KWH", "USD")),
        ({"accumulationBehaviour": None}, ("import", "usage", "KWH", "USD")),
        ({"accumulationBehaviour": 6}, ("import", "usage.accumulation-6", "KWH", "USD")),
        ({"accumulationBehaviour": 3, "uom": 38}, ("import", "demand.accumulation-3", "KW", "USD")),
        ({"uom": 29, "kind": 54}, ("import", "voltage", "V", "USD")),
        ({"uom": 23, "kind": None}, ("import", "temperature", "CELSIUS", "USD")),
        ({"uom": 128, "kind": 58}, ("import", "usage", "GAL", "USD")),
        ({"uom": 777}, ("import", "usage", "UOM-777", "USD")),
        ({"uom": None}, ("import", "usage", "", "USD")),
        ({"uom": "072"}, ("import", "usage", "KWH", "USD")),
        ({"currency": 124}, ("import", "usage", "KWH", "CAD")),
        ({"currency": 999}, ("import", "usage", "KWH", "CURRENCY-999")),
        ({"currency": 0}, ("import", "usage", "KWH", "")),
        ({"currency": None}, ("import", "usage", "KWH", "")),
        ({"phase": 224}, ("import", "usage", "KWH", "USD")),
        ({"phase": 128}, ("import", "usage.phase-128", "KWH", "USD")),
        ({"tou": 1, "consumptionTier": 2, "cpp": 0}, ("import", "usage.tou-1.tier-2", "KWH", "USD")),
        ({"argument": "<numerator>45</numerator><denominator>1</denominator>"}, ("import", "usage.argument-45/1", "KWH", "USD")),
    ],
)  # fmt: skip
def test_what_a_reading_type_says_becomes_a_stream(said, stream):
    assert streams(**said) == [stream]


def test_what_is_measured_in_more_than_one_way_is_told():
    text = gb.feed(
        gb.meter_reading(1), gb.meter_reading(2), gb.typed(1), gb.typed(2, phase=224),
        *(gb.intervals(gb.readings([1]), n) for n in (1, 2)),
    )  # fmt: skip
    found, _ = read(text)
    assert "measures import usage of Subscription/0/UsagePoint/1 in ways" in found.problems[0]
    daily = gb.typed(2, intervalLength=86400)
    hours = gb.intervals(gb.readings([1])), gb.intervals(gb.readings([24], length=86400), 2)
    found, measured = read(
        gb.feed(gb.meter_reading(1), gb.meter_reading(2), gb.typed(1), daily, *hours)
    )
    assert (found.problems, len(only(measured))) == ([], 2)


@pytest.mark.parametrize(
    ("codes", "default", "words"),
    [
        ([], None, None), ([], 17, "validated"), ([0], 17, "valid"), ([14, 8], None, "raw,estimated_from_history"),
        ([" 9 "], None, "estimated"), ([99], None, "quality-99"), (["odd"], None, "quality-odd"), ([""], 19, "billing"),
    ],
)  # fmt: skip
def test_qualities_in_words(codes, default, words):
    _, measured = read(gb.download(gb.readings([1, 2], quality=codes), defaultQuality=default))
    assert [r.quality for r in only(measured)] == [words, words]


@pytest.mark.parametrize(
    ("updated", "said"),
    [
        ("2016-07-07T02:32:15", datetime(2016, 7, 7, 2, 32, 15, tzinfo=UTC)),
        (" 2016-07-07T02:32:15.5-07:00\n", datetime(2016, 7, 7, 9, 32, 15, 500_000, tzinfo=UTC)),
        ("2024-06-21", datetime(2024, 6, 21, tzinfo=UTC)),
        *((odd, FEED_SAID) for odd in ("1899-12-30T00:00:00Z", "9999-12-31T23:59:59-12:00", "once", None)),
    ],
)  # fmt: skip
def test_a_block_was_said_when_its_entry_was_updated_or_else_the_feed(updated, said):
    text = gb.feed(gb.meter_reading(), gb.typed(), gb.intervals(gb.readings([1]), updated=updated))
    _, measured = read(text)
    assert [m.said for m in measured] == [said]
    _, measured = read(
        text.replace(f"<id>urn:uuid:0</id><updated>{gb.SAID}</updated>".encode(), b"")
    )
    assert [m.said for m in measured] == [None if said == FEED_SAID else said]


@pytest.mark.parametrize(
    ("about", "problem"),
    [
        ({}, None),
        ({"offset": 18000}, "a tzOffset of 18000: its sign is wrong"),
        ({"offset": 90000}, "a tzOffset of '90000', which no clock has"),
        ({"offset": "x"}, "a tzOffset of 'x', which no clock has"),
        ({"saved": 36000}, "a dstOffset of '36000'"),
        ({"begin": "B60E"}, "a dstStartRule of 'B60E', which is no rule"),
        ({"begin": "north!!!"}, "a dstStartRule of 'NORTH!!!', which is no rule"),
        ({"end": "northern"}, "a dstEndRule of 'NORTHERN', which is no rule"),
        ({"begin": "B40E2000"}, "a summer time that begins when it ends"),
        ({"saved": 0, "begin": "FFFFFFFF", "end": "FFFFFFFF"}, None),
        ({"offset": -18000}, "5 h behind UTC, but America/Los_Angeles is 8 h behind it"),
    ],
)
def test_a_clock_that_looks_wrong_is_told_and_not_used(about, problem):
    parts = gb.meter_reading(), gb.typed(), gb.intervals(gb.readings([1]))
    found, measured = read(gb.feed(gb.local_times(**about), *parts), zone="America/Los_Angeles")
    assert (problem in found.problems[0]) if problem else not found.problems
    assert (only(measured)[0].start, measured[0].zone) == (gb.START * 1000, None)
