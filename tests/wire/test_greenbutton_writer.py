"""What is exported as Green Button reads back as what it was, and is a feed that others read."""

import io
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.usage import Measured, Origin, Reading, Stream
from bridge.wire.greenbutton import Files
from bridge.wire.greenbutton.codes import CURRENCIES, QUALITIES, UNITS
from bridge.wire.greenbutton.times import local_times
from bridge.wire.greenbutton.writer import reading_type, write
from tests import greenbutton as gb
from tests.peers import LONG

NOW = datetime(2026, 7, 1, 12, 0, 0, 250_000, tzinfo=UTC)
ATOM, ESPI = "{http://www.w3.org/2005/Atom}", "{http://naesb.org/espi}"
ENERGY = Stream("home", "import", "usage", "KWH", "USD")
DAY = 86_400_000


def measured(stream, *readings, said=None):
    return Measured(stream, readings, Origin("api"), said)


def export(*pieces, meter="home", **about):
    """Write and read again; return both, with what was told."""
    streams: dict[Stream, list[Measured]] = {}
    for piece in pieces:
        streams.setdefault(piece.stream, []).append(piece)
    left_out: Counter[str] = Counter()
    text = b"".join(write(meter, list(streams.items()), now=NOW, left_out=left_out, **about))
    again = Files()
    found = list(again.read([("export.xml", lambda: io.BytesIO(text))]))
    assert ([p for p in again.problems if "says no unit" not in p], again.dropped) == ([], {})
    return text, found, left_out


def said(pieces, undated=NOW):
    return Counter(
        (
            p.stream,
            p.said or undated,
            r.start,
            r.length,
            Decimal(r.value).scaleb(r.exponent),
            r.quality,
            r.cost,
        )
        for p in pieces
        for r in p.readings
    )


directions = st.sampled_from(["import", "export", "net", "total"]) | st.integers(21, 99).map(
    "flow-{}".format
)
kinds = st.sampled_from(
    [
        "usage",
        "register",
        "usage.phase-128",
        "usage.tou-1.tier-2",
        "usage.accumulation-6",
        "usage.argument-45/1",
    ]
)
energies = st.sampled_from(["KWH", "KVARH", "KVAH", "THERM", "M3", "GAL", "BTU", "UOM-777", ""])
powers = st.tuples(
    directions,
    st.sampled_from(["demand", "demand.qualifier-16"]),
    st.sampled_from(["KW", "KVA", "KVAR"]),
)
said_kinds = st.sampled_from(
    [("net", "voltage", "V"), ("net", "temperature", "CELSIUS"), ("import", "current", "A")]
)
currencies = st.sampled_from(["", *CURRENCIES.values(), "CURRENCY-999"])
names = st.text(min_size=1, max_size=40) | st.sampled_from(
    [
        "Subscription/0/UsagePoint/1",
        "UsagePoint/1",
        "a/UsagePoint/b/UsagePoint/c",
        "MeterReading/UsagePoint/1",
        "Batch/a/UsagePoint/1",
        "ü %2F & <x>",
    ]
)
amounts = (
    st.integers(-(10**9), 10**9)
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.integers(10**19, 10**30).map(str)
)
readings = st.builds(
    Reading,
    start=st.integers(0, 2_000_000_000).map(lambda s: s * 1000) | st.integers(0, 7 * 10**12),
    length=st.sampled_from([60_000, 900_000, 3_600_000, DAY, 31 * DAY, 0, 500]),
    value=amounts,
    exponent=st.integers(-9, 4),
    quality=st.none()
    | st.lists(
        st.sampled_from([*QUALITIES.values(), "quality-99"]), min_size=1, max_size=3, unique=True
    ).map(",".join),
    cost=st.none() | st.integers(-(2**62), 2**62),
)
times = st.none() | st.integers(0, 200 * 366 * 86400).map(
    lambda seconds: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds, microseconds=7)
)


@st.composite
def everything(draw):
    meter = draw(names)
    kinds_of = st.one_of(st.tuples(directions, kinds, energies), powers, said_kinds)
    pieces = []
    for what in draw(
        st.lists(st.tuples(kinds_of, currencies), min_size=1, max_size=3, unique=True)
    ):
        stream = Stream(meter, *what[0], what[1])
        rows = draw(
            st.lists(readings, min_size=1, max_size=12, unique_by=lambda r: (r.start, r.length))
        )
        rows.sort()
        cut = draw(st.integers(0, len(rows)))
        pieces += [
            measured(stream, *part, said=draw(times)) for part in (rows[:cut], rows[cut:]) if part
        ]
    return meter, pieces


@settings(max_examples=1000 if LONG else 120, deadline=None)
@given(everything())
def test_what_is_exported_reads_back_as_it_was(about):
    meter, pieces = about
    _, found, left_out = export(*pieces, meter=meter)
    assert said(found) == said(pieces)
    assert not left_out


@pytest.mark.parametrize(
    "other",
    [
        {"direction": "generation"}, {"direction": "sideways"}, {"kind": "baseline"}, {"kind": "subscription_pre"},
        {"kind": "usage.colour-red"}, {"unit": "%"}, {"unit": "KW"}, {"currency": "XYZ"}, {"kind": "demand.phase"},
    ],
)  # fmt: skip
def test_what_espi_cannot_say_is_left_out_and_told(other):
    stream = ENERGY._replace(**other)
    row = Reading(0, 3_600_000, 1)
    _, found, left_out = export(measured(stream, row), measured(ENERGY, row))
    assert [m.stream for m in found] == [ENERGY]
    ((what, count),) = left_out.items()
    assert (stream.kind in what, stream.direction in what, count) == (True, True, 1)


def test_a_quality_without_a_code_is_other_and_told():
    _, found, left_out = export(
        measured(ENERGY, Reading(0, 1000, 1, quality="billing,approximate"))
    )
    assert [r.quality for m in found for r in m.readings] == ["billing,other"]
    assert list(left_out) == ["quality approximate: ESPI has no code"]


def test_values_are_whole_numbers_in_as_few_meter_readings_as_it_takes():
    values = [("0.5", 1), ("12.25", 1), ("3", 1), ("0.0625", 2), ("1e3", 2), ("7.000", 2)]
    rows = []
    for n, (text, _) in enumerate(values):
        _, digits, exponent = Decimal(text).as_tuple()
        rows.append(Reading(n * 3_600_000, 3_600_000, int("".join(map(str, digits))), exponent))
    text, found, _ = export(measured(ENERGY, *rows))
    tree = ElementTree.fromstring(text)  # noqa: S314 -- our own
    multipliers = [e.text for e in tree.iter(f"{ESPI}powerOfTenMultiplier")]
    assert multipliers == ["0", "-3"]
    blocks = [
        [v.text for v in block.iter(f"{ESPI}value")] for block in tree.iter(f"{ESPI}IntervalBlock")
    ]
    assert blocks == [["500", "12250", "3000"], ["62500", "1000000000", "7000000"]]
    assert len({m.stream for m in found}) == 1


def test_a_feed_is_what_the_standard_asks_for():
    rows = [Reading(n * 3_600_000, 3_600_000, n, -3, "valid", n) for n in range(60)]
    reverse = ENERGY._replace(direction="export")
    text, _, _ = export(
        measured(ENERGY, *rows), measured(reverse, *rows), zone="America/Los_Angeles"
    )
    tree = ElementTree.fromstring(text)  # noqa: S314 -- our own
    assert [tree.find(f"{ATOM}{name}").text for name in ("title", "updated")] == [
        "Usage of home",
        "2026-07-01T12:00:00.250000Z",
    ]
    entries: dict[str, list[ElementTree.Element]] = {}
    for entry in tree.iter(f"{ATOM}entry"):
        entries.setdefault(entry.find(f"{ATOM}content")[0].tag.removeprefix(ESPI), []).append(entry)
    counts = {kind: len(of) for kind, of in entries.items()}
    assert counts == {
        "UsagePoint": 1,
        "LocalTimeParameters": 1,
        "MeterReading": 2,
        "ReadingType": 2,
        "IntervalBlock": 6,
    }
    everything = [e for of in entries.values() for e in of]
    assert len({e.find(f"{ATOM}id").text for e in everything}) == len(everything)

    def links(entry, rel):
        return [link.get("href") for link in entry.iter(f"{ATOM}link") if link.get("rel") == rel]

    own = {kind: {links(e, "self")[0] for e in of} for kind, of in entries.items()}
    (point,) = entries["UsagePoint"]
    assert set(links(point, "related")) >= own["LocalTimeParameters"]
    for reading in entries["MeterReading"]:
        assert links(reading, "up")[0] in links(point, "related")
        assert len(own["ReadingType"].intersection(links(reading, "related"))) == 1
    listed = {href for reading in entries["MeterReading"] for href in links(reading, "related")}
    for entry in entries["IntervalBlock"]:
        assert links(entry, "up")[0] in listed
        (block,) = entry.iter(f"{ESPI}IntervalBlock")
        starts = [int(s.text) for s in block.iter(f"{ESPI}start")]
        assert (starts[0], len({s // 86400 for s in starts})) == (starts[1], 1)
        assert [c.tag.removeprefix(ESPI) for c in block[1]] == [
            "cost",
            "ReadingQuality",
            "timePeriod",
            "value",
        ]


def test_what_was_said_at_another_time_is_another_entry():
    later = NOW + timedelta(hours=1)
    pieces = [
        measured(ENERGY, Reading(n * 1000, 1000, n), said=s)
        for n, s in enumerate([NOW, NOW, later, None])
    ]
    text, found, _ = export(*pieces)
    assert text.count(b"<IntervalBlock ") == 3
    assert said(found) == said(pieces)


def test_a_file_is_written_as_its_readings_come():
    taken = []

    def endless():
        for n in range(10**9):
            taken.append(n)
            yield measured(
                ENERGY, *(Reading((n * 24 + h) * 3_600_000, 3_600_000, h, -3) for h in range(24))
            )

    pieces = list(islice(write("home", [(ENERGY, endless())], now=NOW), 50))
    assert len(taken) < 52
    assert max(map(len, pieces)) < 10_000


def test_a_day_of_many_readings_is_several_blocks():
    text, found, _ = export(measured(ENERGY, *(Reading(n * 1000, 1000, n) for n in range(12_000))))
    assert text.count(b"<IntervalBlock ") == 3
    assert sum(len(m.readings) for m in found) == 12_000


@pytest.mark.parametrize(
    ("zone", "times"),
    [
        ("America/Los_Angeles", ("360E2000", "B40E2000", "3600", "-28800")),
        ("Europe/Berlin", ("3E0E2000", "AE0E3000", "3600", "3600")),
        ("Australia/Lord_Howe", ("A40E2000", "440E2000", "1800", "37800")),
        ("Asia/Tokyo", ("FFFFFFFF", "FFFFFFFF", "0", "32400")),
        ("Africa/Casablanca", None),
    ],
)
def test_a_zone_is_written_where_its_rules_can_be_said(zone, times):
    found = local_times(zone, 2026)
    names = ("dstStartRule", "dstEndRule", "dstOffset", "tzOffset")
    assert (found and tuple(found[name] for name in names)) == times
    text, _, _ = export(measured(ENERGY, Reading(0, 1000, 1)), zone=zone)
    again = Files(zone=zone)
    list(again.read([("export.xml", lambda: io.BytesIO(text))]))
    assert again.problems == []
    assert text.count(b"<LocalTimeParameters ") == bool(times)


def test_every_unit_that_is_read_can_be_written():
    for code in UNITS:
        text = gb.download(gb.readings([5]), uom=code, kind=None, accumulationBehaviour=None)
        (found,) = Files().read([("x.xml", lambda t=text: io.BytesIO(t))])
        assert reading_type(found.stream), found.stream
        _, again, _ = export(found, meter=found.stream.meter)
        assert said(again) == said([found])


def test_what_was_imported_is_exported_as_it_was():
    text = b"".join(gb.long(5000))
    first = list(Files().read([("x.xml", lambda: io.BytesIO(text))]))
    _, again, _ = export(*first, meter=first[0].stream.meter)
    assert said(again) == said(first)
