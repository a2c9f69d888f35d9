"""Green Button files: whatever exporters write is read, and what nobody says stays unknown."""

import io
import itertools
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pytest

from bridge.usage import Measured, Stream
from bridge.wire.greenbutton import Files
from tests import greenbutton as gb
from tests.peers import SHARED

FOLDER = SHARED / "data" / "greenbutton"
HOUR = 3_600_000
ENERGY = Stream(gb.POINT, "import", "usage", "KWH", "USD")


def read(*files, **about) -> tuple[Files, list[Measured]]:
    named = [
        (f"{n}.xml", text) if isinstance(text, bytes) else text for n, text in enumerate(files)
    ]
    found = Files(**about)
    return found, list(found.read([(name, lambda t=text: io.BytesIO(t)) for name, text in named]))


def flat(measured):
    """What was said, of whatever files and in whatever pieces."""
    return Counter((m.stream, m.said, r) for m in measured for r in m.readings)


def totals(measured):
    sums = Counter()
    for m in measured:
        sums[m.stream] += sum(Decimal(r.value).scaleb(r.exponent) for r in m.readings)
    return dict(sums)


def only(measured):
    return [reading for m in measured for reading in m.readings]


@pytest.mark.skipif(not FOLDER.exists(), reason="the recorded Green Button files are not at hand")
@pytest.mark.parametrize("name", [p.name for p in sorted(FOLDER.glob("*.xml"))])
def test_recorded_files_have_the_totals_that_a_plain_reading_finds(name):
    tree = ElementTree.parse(FOLDER / name)  # noqa: S314 -- a recording
    rows = [e for e in tree.iter() if e.tag.endswith("}IntervalReading")]
    values = [int(v.text) for row in rows for v in row if v.tag.endswith("}value")]
    found, measured = read((name, (FOLDER / name).read_bytes()))
    readings = only(measured)
    assert (len(readings), sum(r.value for r in readings)) == (len(values), sum(values))
    assert not found.dropped
    assert all(len(m.readings) <= 5000 and m.origin.reference == name for m in measured)


@pytest.mark.skipif(not FOLDER.exists(), reason="the recorded Green Button files are not at hand")
def test_recorded_years_are_what_their_makers_say():
    (path,) = FOLDER.glob("Coastal*")
    _, measured = read(path.read_bytes())
    stream = Stream("RetailCustomer/3/UsagePoint/1", "import", "usage", "KWH", "USD")
    assert totals(measured) == {stream: Decimal("4425.305")}
    assert len({m.said for m in measured}) == 730


@pytest.mark.skipif(not FOLDER.exists(), reason="the recorded Green Button files are not at hand")
def test_the_parts_of_a_download_in_any_order_are_one():
    parts = [(p.name, p.read_bytes()) for p in sorted(FOLDER.glob("PGE*.xml"))]
    expected = flat(read(*parts)[1])
    for order in (parts[::-1], parts[2:] + parts[:2], [p for p in parts if "Block" in p[0]]):
        found, measured = read(*order)
        # 48 ReadingTypes, each said twice, and none that the readings name
        assert flat(measured) == expected
        assert {m.stream for m in measured} == {Stream("Subscription/0/UsagePoint/1", unit="")}
        assert sum("nothing says what" in p for p in found.problems) == 1


PARTS = {
    "blocks": gb.feed(gb.intervals(gb.readings([5, 6, 7]))),
    "readings": gb.feed(gb.meter_reading()),
    "types": gb.feed(gb.typed()),
    "points": gb.feed(gb.point(), gb.local_times()),
}


@pytest.mark.parametrize("order", list(itertools.permutations(PARTS)))
def test_parts_are_put_together_whatever_comes_first(order):
    found, measured = read(*((f"{name}.xml", PARTS[name]) for name in order))
    assert totals(measured) == {ENERGY: Decimal("0.018")}
    assert found.problems == []
    assert {m.origin.reference for m in measured} == {"blocks.xml"}


@pytest.mark.parametrize("without", ["readings", "points"])
def test_the_only_reading_type_is_the_one(without):
    _, measured = read(*(text for name, text in PARTS.items() if name != without))
    assert totals(measured) == {ENERGY: Decimal("0.018")}


def test_blocks_alone_are_kept_as_they_are_by_the_name_of_their_meter():
    found, measured = read(PARTS["blocks"])
    assert totals(measured) == {Stream(gb.POINT, unit=""): Decimal(18)}
    assert (
        "nothing says what Subscription/0/UsagePoint/1/MeterReading/1 measures" in found.problems[0]
    )


def test_blocks_alone_of_two_measurements_are_not_one():
    _, measured = read(
        gb.feed(gb.intervals(gb.readings([1]), 1), gb.intervals(gb.readings([2]), 2))
    )
    assert [(m.stream.kind, m.readings[0].value) for m in measured] == [
        ("usage.1", 1),
        ("usage.2", 2),
    ]


def test_definitions_of_the_blocks_own_file_go_before_those_of_others():
    first = gb.download(gb.readings([1]), uom=72)
    second = gb.download(gb.readings([2], gb.START + 3600), uom=169, powerOfTenMultiplier=-3)
    _, measured = read(first, second)
    assert totals(measured) == {
        ENERGY: Decimal("0.001"),
        ENERGY._replace(unit="THERM"): Decimal("0.002"),
    }
    # Others that contradict each other say nothing of a third
    blocks = gb.feed(gb.intervals(gb.readings([3])))
    found, measured = read(first, second, blocks)
    assert measured[-1].stream.unit == ""
    assert "2.xml: nothing says" in found.problems[0]


def test_a_reading_type_that_is_said_twice():
    rows = gb.intervals(gb.readings([1]))
    same, measured = read(gb.feed(gb.meter_reading(), gb.typed(), gb.typed(), rows))
    assert (measured[0].stream, same.problems) == (ENERGY, [])
    other, measured = read(
        gb.feed(gb.meter_reading(), gb.typed(), gb.typed(accumulationBehaviour=2), rows)
    )
    assert measured[0].stream == ENERGY
    assert "says more than once, and not the same, what ReadingType/1 is" in other.problems[0]
    unit, measured = read(gb.feed(gb.meter_reading(), gb.typed(), gb.typed(uom=73), rows))
    assert measured[0].stream.unit == ""
    assert len(unit.problems) == 2


def test_a_link_to_a_reading_type_that_is_missing_is_not_answered_by_another_files():
    lone = gb.feed(gb.meter_reading(kind=9), gb.intervals(gb.readings([1])))
    _, measured = read(lone, gb.feed(gb.typed(7, uom=42)))
    assert measured[0].stream.unit == ""
    _, measured = read(
        gb.feed(gb.meter_reading(kind=9), gb.typed(7, uom=42), gb.intervals(gb.readings([1])))
    )
    assert measured[0].stream.unit == "M3"


def test_forward_and_reverse_at_the_same_times_are_two():
    text = gb.feed(
        gb.point(), gb.meter_reading(1), gb.meter_reading(2), gb.typed(1), gb.typed(2, flowDirection=19),
        *(gb.intervals(gb.readings([n, 2 * n]), n, at=n) for n in (1, 2)),
    )  # fmt: skip
    _, measured = read(text)
    assert totals(measured) == {
        ENERGY: Decimal("0.003"),
        ENERGY._replace(direction="export"): Decimal("0.006"),
    }


def several(*paths):
    return gb.feed(
        *(gb.point(path, n) for n, path in enumerate(paths)),
        *(gb.meter_reading(path=path) for path in paths),
        gb.typed(),
        *(gb.intervals(gb.readings([n]), path=path) for n, path in enumerate(paths)),
    )


def test_several_usage_points_are_several_meters():
    paths = [f"RetailCustomer/{n}/UsagePoint/1" for n in range(4)]
    _, measured = read(several(*paths))
    assert [m.stream.meter for m in measured] == paths
    named, measured = read(several(*paths), meter="home")
    names = [
        "home",
        "home/1",
        "home/RetailCustomer/2/UsagePoint/1",
        "home/RetailCustomer/3/UsagePoint/1",
    ]
    assert [m.stream.meter for m in measured] == names
    assert len(named.problems) == 3
    assert "has another meter, RetailCustomer/1/UsagePoint/1: kept as home/1" in named.problems[0]


@pytest.mark.parametrize(
    ("host", "path", "name"),
    [
        (gb.HOST, "Batch/Subscription/5/UsagePoint/1", "Subscription/5/UsagePoint/1"),
        ("", "RetailCustomer/9b6c/UsagePoint/01", "RetailCustomer/9b6c/UsagePoint/01"),
        ("/v1/", "User/123/UsagePoint/NET_USAGE", "User/123/UsagePoint/NET_USAGE"),
        ("http://h.example/", "Customer/39/UsagePoint/90", "Customer/39/UsagePoint/90"),
        ("/espi/1_1/resource/", "UsagePoint/7", "UsagePoint/7"),
        (
            "/resource/",
            "Subscription/1/UsagePoint/my%20house",
            "Subscription/1/UsagePoint/my house",
        ),
    ],
)
def test_a_meter_is_named_by_the_path_of_its_usage_point(host, path, name):
    own = f"{path}/MeterReading/1"
    text = gb.feed(
        gb.typed(host=host), gb.meter_reading(path=path, host=host), gb.point(path, host=host),
        gb.entry(gb.block(gb.readings([1])), f"{own}/IntervalBlock/1", host=host),
    )  # fmt: skip
    found, measured = read(text)
    assert [m.stream for m in measured] == [ENERGY._replace(meter=name)]
    assert found.problems == []


def test_files_without_links_are_named_by_what_there_is():
    nothing = {"own": None}
    parts = [
        gb.entry(gb.thing("UsagePoint"), identity="urn:uuid:CB6E", **nothing),
        gb.entry(gb.thing("MeterReading"), **nothing),
        gb.entry(gb.thing("ReadingType", "<uom>72</uom>"), **nothing),
        gb.entry(gb.block(gb.readings([7])), **nothing),
    ]
    for order in (parts, parts[::-1]):
        _, measured = read(gb.feed(*order))
        assert totals(measured) == {Stream("CB6E"): Decimal("0.007")}
    _, measured = read(("folder/july.xml", gb.feed(*parts[1:])))
    assert totals(measured) == {Stream("july"): Decimal("0.007")}


def test_addresses_that_say_nothing_link_all_the_same():
    text = gb.feed(
        gb.entry(gb.thing("MeterReading"), "x/2", None, ["x/3", "x/4"]),
        gb.entry(gb.thing("ReadingType", "<uom>42</uom>"), "x/3"),
        gb.entry(gb.thing("ReadingType", "<uom>72</uom>"), "x/5"),
        gb.entry(gb.block(gb.readings([7])), "x/4"),
    )  # fmt: skip
    _, measured = read(("pool.xml", text))
    assert totals(measured) == {Stream("pool", unit="M3"): Decimal(7)}


def test_a_meter_reading_knows_the_point_and_the_blocks_that_do_not_say():
    text = gb.feed(
        gb.entry(gb.block(gb.readings([1])), "Block/9"),
        gb.entry(gb.thing("MeterReading"), "Readings/1", None, ["Block/9", "ReadingType/1", gb.POINT]),
        gb.entry(gb.thing("MeterReading"), "Readings/2", None, ["Block/8", "ReadingType/2", "A/1/UsagePoint/2"]),
        gb.typed(1), gb.typed(2, uom=42),
    )  # fmt: skip
    _, measured = read(text)
    assert totals(measured) == {ENERGY: Decimal("0.001")}


@pytest.mark.parametrize("length", [60, 900, 1800, 3600, 86400])
def test_any_interval_in_pieces_of_five_thousand(length):
    rows = gb.readings(range(12_000), length=length)
    _, measured = read(gb.download(rows, per_block=9_000))
    readings = only(measured)
    assert [len(m.readings) <= 5000 for m in measured] == [True] * len(measured)
    assert [r.value for r in readings] == list(range(12_000))
    assert {r.length for r in readings} == {length * 1000}
    assert readings[-1].start == (gb.START + 11_999 * length) * 1000
    # What is read again is the same
    assert flat(measured) == flat(read(gb.download(rows, per_block=9_000))[1])


def test_many_meters_by_turns():
    paths = [f"Subscription/1/UsagePoint/{n}" for n in range(60)]
    blocks = (
        gb.intervals(gb.readings(range(50), gb.START + day * 86400, 60), path=p)
        for day in range(10)
        for p in paths
    )
    _, measured = read(
        gb.feed(gb.typed(), *(gb.meter_reading(path=p, kind=1) for p in paths), *blocks)
    )
    assert totals(measured) == {ENERGY._replace(meter=p): Decimal("12.25") for p in paths}


def test_days_have_23_and_25_hours():
    short, long = 1_773_043_200, 1_793_516_400  # 2026-03-08 and 2026-11-01 in Los Angeles
    rows = [gb.reading(short, 23, 82_800), gb.reading(long, 25, 90_000)]
    _, measured = read(gb.download(rows, intervalLength=86400))
    assert [r.length / HOUR for r in only(measured)] == [23, 25]


@pytest.mark.parametrize("own", [False, True])  # whether each entry was said by itself
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(("kind", "per_block"), [("day", 31), ("day", 1), ("hour", 24)])
def test_a_day_of_24_hours_ends_where_the_next_begins(own, order, kind, per_block):
    zone = ZoneInfo("America/Los_Angeles")
    days = [datetime(2026, 3, n, tzinfo=zone) for n in range(1, 32)]
    starts = [int(day.timestamp()) for day in days][::order]
    rows = [gb.reading(start, 1000, 86400) for start in starts]
    if kind == "hour":  # nothing else is cut: a window that slides hour by hour is none of this
        rows = [gb.reading(starts[0] + n * 3600, 1000, 86400) for n in range(48)][::order]
    text = gb.download(rows, per_block=per_block, intervalLength=86400)
    if own:
        text = gb.each_said_by_itself(text, datetime(2026, 4, 2, tzinfo=UTC))
    found, measured = read(text)
    lengths = Counter(r.length / HOUR for r in only(measured))
    assert lengths == ({24: 48} if kind == "hour" else {24: 30, 23: 1})
    assert sum(r.value for r in only(measured)) == 1000 * len(rows)
    assert ["reach an hour" in p for p in found.problems] == [True] * (kind == "day")


def test_costs_are_never_scaled():
    rows = gb.readings([1000], cost=22_056) + gb.readings([1], gb.START + 3600, cost=" -7 ")
    _, measured = read(gb.download(rows, powerOfTenMultiplier=3))
    (one, other) = only(measured)
    assert (one.value, one.exponent, one.cost, other.cost) == (1000, 0, 22_056, -7)


def test_gas_in_therms():
    rows = gb.readings([37_000], length=3_024_000, cost=5_100_000)
    _, measured = read(
        gb.download(
            rows, service=1, commodity=7, uom=169, powerOfTenMultiplier=-3, flowDirection=None
        )
    )
    stream = Stream(gb.POINT, "net", "usage", "THERM", "USD")
    assert totals(measured) == {stream: Decimal("37.000")}
