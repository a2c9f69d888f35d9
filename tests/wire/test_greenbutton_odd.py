"""Green Button files as they should not be: odd, wrong, cut off, hostile, and very long."""

import io
import json
import random
import re
import subprocess
import sys
import zipfile
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import WireError
from bridge.usage import Stream, out_of_bounds
from bridge.wire.greenbutton import Files
from bridge.wire.greenbutton import files as greenbutton
from bridge.wire.greenbutton.feed import LARGEST
from tests import greenbutton as gb
from tests.peers import LONG
from tests.wire.test_greenbutton import ENERGY, only, read, totals

YEAR = gb.download(gb.readings(range(200)))
DEFINED = gb.point() + gb.meter_reading() + gb.typed()


@pytest.mark.parametrize(
    "text",
    [
        gb.prefixed(YEAR),
        YEAR.replace(b"http://naesb.org/espi", b"urn:something-else"),
        YEAR.replace(b' xmlns="http://naesb.org/espi"', b"").replace(b" xmlns='http://www.w3.org/2005/Atom'", b""),
        b"\xef\xbb\xbf" + YEAR,
        YEAR.decode().replace("UTF-8", "UTF-16").encode("utf-16"),
        YEAR.decode().replace("UTF-8", "ISO-8859-1").replace("urn:uuid:1", "é").encode("latin-1"),
        re.sub(rb"(<(?:start|value|duration|uom|flowDirection)>)(\d+)", rb"\1\n \2\t", YEAR),
        re.sub(rb"</(interval|IntervalReading|timePeriod)>", rb"<!-- 1/1/2011 8:00:00 AM --></\1><x/>", YEAR),
        re.sub(rb"<value>(\d+)", rb"<value>\1.0", YEAR),
        re.sub(rb"<value>(\d+)(.*?</IntervalReading>)", rb"<other><deep>7</deep></other><value>\1\2", YEAR),
        re.sub(rb"(<timePeriod>.*?</timePeriod>)(<value>\d+</value>)", rb"\2\1", YEAR),
        re.sub(rb"<duration>3600</duration>(<start>\d+[1357]</start>)", rb"\1", YEAR),
        re.sub(rb"<(value|start)>(\d*?)([02468])<", rb"<\1><![CDATA[\2]]>\3<", YEAR),
        re.sub(rb"<entry>.*?(<link.*?)(<content.*?)(<updated>.*?)</entry>", rb"<entry>\2\3\1</entry>", YEAR),
        re.sub(rb'rel="related"( href="[^"]*IntervalBlock")', rb'rel="up"\1', YEAR),
        re.sub(rb'<link rel="up"[^>]*>', b"", YEAR),
        re.sub(rb'<link rel="self" href="[^"]*IntervalBlock[^"]*"/>', b"", YEAR),
        re.sub(rb'(<link rel="[^"]*" href="[^"]*"/>)', rb"\1\1", YEAR),
        re.sub(rb'href="https://[^/]*', b'href="http://elsewhere.example', YEAR, count=7),
    ],
)  # fmt: skip
def test_a_file_is_read_however_it_is_written(text):
    found, measured = read(text)
    assert totals(measured) == {ENERGY: Decimal("19.9")}
    assert [Decimal(r.value).scaleb(r.exponent + 3) for r in only(measured)] == list(range(200))
    assert {r.length for r in only(measured)} == {3_600_000}
    assert (found.problems, found.dropped) == ([], {})


def test_readings_of_several_shapes_keep_their_order():
    rows = [
        gb.reading(gb.START + n, n, cost=n if n % 2 else None, quality=[0, 8][: n % 3], extra="<tou>1</tou>" * (n % 5 == 0))
        for n in range(100)
    ]  # fmt: skip
    _, measured = read(gb.download(rows, per_block=100))
    readings = only(measured)
    assert [r.value for r in readings] == list(range(100))
    assert [r.cost for r in readings] == [n if n % 2 else None for n in range(100)]
    assert [r.quality for r in readings[:3]] == [None, "valid", "valid,estimated_from_history"]


def test_several_blocks_in_one_entry_whose_links_come_last():
    blocks = "".join(gb.block(gb.readings([n], gb.START + n * 3600)) for n in range(2500))
    up = f"{gb.POINT}/MeterReading/1/IntervalBlock"
    found, measured = read(
        gb.feed(gb.entry(blocks, f"{up}/1", up, last=True), gb.meter_reading(), gb.typed())
    )
    assert [r.value for r in only(measured)] == list(range(2500))
    assert ({m.stream for m in measured}, found.dropped) == ({ENERGY}, {})


def test_one_block_of_everything_whose_links_come_last():
    _, measured = read(b"".join(gb.long(30_000, per_block=30_000, last=True)))
    readings = only(measured)
    assert [r.value for r in readings] == [n * 7919 % 4999 for n in range(30_000)]
    assert {m.stream for m in measured} == {ENERGY}


def test_starts_in_fractions_of_a_second_are_kept_to_the_millisecond():
    found, measured = read(gb.download([gb.reading("1721154384.66136", 12_000, 2_505_600)]))
    assert only(measured)[0].start == 1_721_154_384_661
    assert "0.xml: has fractions of a second" in found.problems[0]


def test_of_one_time_the_value_that_is_said_last_is_kept():
    rows = [gb.reading("1721154384", n, 86400 * (n % 2 + 1), cost=n) for n in range(6)]
    found, measured = read(gb.download([*rows, rows[-1]]))
    assert [(r.value, r.length) for r in only(measured)] == [
        (4, 86_400_000),
        (5, 172_800_000),
        (5, 172_800_000),
    ]
    assert found.dropped == {"same time said twice with another value": 4}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (gb.reading(value=None), "no value"),
        (gb.reading(value=" "), "no value"),
        (gb.reading(value="n/a"), "value not a number"),
        (gb.reading(value="1_000"), "value not a number"),
        (gb.reading(value="NaN"), "value not a number"),
        (gb.reading(value="1e999"), "value not a number"),
        (gb.reading(value="9" * 5000), "value not a number"),
        (gb.reading(start=None), "no start"),
        (gb.reading(start=-1), "start out of reason"),
        (gb.reading(start=10**12), "start out of reason"),
        (gb.reading(start="10:00"), "start out of reason"),
        (gb.reading(duration=-3600), "negative duration"),
        (gb.reading(duration=401 * 86400), "duration longer than 100 days"),
        (gb.reading(start=7_258_118_400), "start out of reason"),
        (gb.reading(start=7_258_118_400 - 900, duration=901), "start out of reason"),
        (gb.reading(duration=None), "no duration"),
        (gb.reading(duration="an hour"), "no duration"),
        ("<IntervalReading/>", "no start"),
    ],
)
def test_what_is_left_out_is_counted(row, reason):
    good = gb.readings([1], gb.START + 3600)
    found, measured = read(gb.download([row, *good], intervalLength=None))
    assert [r.value for r in only(measured)] == [1]
    assert found.dropped == {reason: 1}


@pytest.mark.parametrize("cost", ["free", "1.5", "1e40", "NaN", 10**19])
def test_a_cost_that_cannot_be_read_does_not_cost_the_reading(cost):
    found, measured = read(gb.download(gb.readings([7], cost=cost)))
    assert [(r.value, r.cost) for r in only(measured)] == [(7, None)]
    assert found.dropped == {"cost": 1}


@pytest.mark.parametrize(
    ("said", "value", "exponent"),
    [
        ("-5", -5, -3), ("+5", 5, -3), ("0.250", 250, -6), ("1E+3", 1, 0),
        (str(2**63 - 1), 2**63 - 1, -3), (str(2**63), str(2**63), -3), (f"-{2**70}.5", f"-{2**70}5", -4),
    ],
)  # fmt: skip
def test_amounts_are_exact(said, value, exponent):
    _, measured = read(gb.download(gb.readings([said])))
    assert [(r.value, r.exponent) for r in only(measured)] == [(value, exponent)]


@pytest.mark.parametrize(
    ("rows", "length", "expected"),
    [
        (gb.readings([1], duration=None), None, [86_400_000]),
        (gb.readings([1, 2], duration=None), 900, [900_000, 900_000]),
        (
            [gb.reading(duration=None), gb.reading(gb.START + 60, duration=30)],
            900,
            [900_000, 30_000],
        ),
        ([gb.reading(duration="0.5")], 900, [500]),
        ([gb.reading(duration=0)], 900, [0]),
    ],
)
def test_how_long_a_reading_is_that_does_not_say(rows, length, expected):
    _, measured = read(gb.download(rows, intervalLength=length))
    assert [r.length for r in only(measured)] == expected


@pytest.mark.parametrize(
    ("length", "reason"),
    [("²", "no duration"), (366 * 86400, "duration longer than 100 days"), ("9" * 90, "duration longer than 100 days")],
)  # fmt: skip
def test_a_length_that_is_none_costs_the_readings_that_need_it(length, reason):
    rows = [gb.reading(duration=None), gb.reading(gb.START + 60, duration=30)]
    found, measured = read(gb.download(rows, intervalLength=length))
    assert [r.length for r in only(measured)] == [30_000]
    assert found.dropped == {reason: 1}


@pytest.mark.parametrize(
    "text",
    [
        YEAR,
        gb.prefixed(YEAR),
        gb.feed(DEFINED, gb.entry(gb.block(gb.readings(range(1500))), last=True)),
    ],
)
def test_a_file_that_is_cut_off_is_read_up_to_there(text):
    start = re.search(rb"<(ns0:)?feed[^>]*>", text).end()
    for cut in [
        *range(start, len(text) - 8, len(text) // 100),
        *range(len(text) - 80, len(text) - 8, 7),
    ]:
        found, measured = read(("july.xml", text[:cut]))
        assert len(only(measured)) == len(re.findall(rb"</(?:ns\d:)?IntervalReading>", text[:cut]))
        assert found.dropped["truncated"] == 1
        assert re.search(
            r"july.xml: is cut off at line \d+, column \d+; what came before is read",
            found.problems[0],
        )


def test_a_file_that_is_broken_in_the_middle_is_read_up_to_there():
    at = YEAR.index(b"<value>120<")
    found, measured = read(YEAR[:at] + b"</value>" + YEAR[at:])
    assert [r.value for r in only(measured)] == list(range(120))
    assert re.match(r"0.xml: is broken \(mismatched tag\) at line \d+", found.problems[0])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "is no XML"),
        (b"start,end,value\n", "is no XML"),
        (b'{"interval": []}', "is no XML"),
        (b"\x00\x01\x02", "is no XML"),
        (b"<?xml version='1.0' encoding='klingon'?><feed/>", "is no XML"),
        (b"<html><body>Sign in</body></html>", "begins with <html>"),
        (b'<ServiceStatus xmlns="http://naesb.org/espi"/>', "begins with <ServiceStatus>"),
        (b"<!--" + b" " * 2**21 + b"--><feed/>", "has nothing but comments"),
        (b'<?xml version="1.0"?><!DOCTYPE feed><feed/>', "has a DOCTYPE"),
        (b'<!DOCTYPE f [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><feed>&b;</feed>', "has a DOCTYPE"),
        (b'<!DOCTYPE f SYSTEM "file:///etc/passwd"><feed/>', "has a DOCTYPE"),
        ('<!DOCTYPE f [<!ENTITY a "b">]><feed/>'.encode("utf-16"), "has a DOCTYPE"),
    ],
)
def test_what_is_no_green_button_file_is_refused_before_anything_is_read(text, problem):
    found = Files()
    with pytest.raises(WireError, match=f"usage.bin: {problem}") as caught:
        next(
            found.read(
                [("good.xml", lambda: io.BytesIO(YEAR)), ("usage.bin", lambda: io.BytesIO(text))]
            )
        )
    assert "DOCTYPE" in problem or "begins with <feed>" in str(caught.value)


def test_an_archive_is_refused():
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("usage.xml", YEAR)
    with pytest.raises(WireError, match="is a zip archive; take the file out of it"):
        read(archive.getvalue())


def test_one_thing_of_any_size_does_not_fill_the_memory():
    huge = gb.feed(
        DEFINED, gb.entry(gb.thing("UsageSummary", "<note>" + " " * (LARGEST + 2**17) + "</note>"))
    )
    with pytest.raises(WireError, match="has something of more than"):
        read(huge)


@pytest.mark.parametrize(
    "text",
    [
        b"<feed/>",
        b"<feed></feed>",
        gb.feed(),
        gb.feed(DEFINED),
        gb.feed(DEFINED, gb.intervals([])),
        gb.feed(gb.entry(gb.thing("UsageSummary", "<value>1</value>")), "<x><y/></x>"),
    ],
)
def test_a_file_without_readings_yields_nothing(text):
    found, measured = read(text)
    assert (measured, found.problems, found.dropped) == ([], [], {})


def test_a_file_that_defines_without_end_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(greenbutton, "DEFINED", 50)
    with pytest.raises(WireError, match="more than 50 things are said of measurements"):
        read(gb.feed(*(gb.meter_reading(n) for n in range(51))))
    with pytest.raises(WireError, match="more than 1000 things in one entry"):
        read(gb.feed(gb.entry("<ReadingType/>" * 2000)))


def test_addresses_and_depths_without_reason_take_no_time():
    href = "a/" * 2**19 + "UsagePoint/1"
    rows = gb.entry(gb.block(gb.readings([1])), href, href, updated="0" * 2**20)
    found, measured = read(gb.feed(rows, "<a>" * 100_000 + "</a>" * 100_000))
    assert [m.stream.unit for m in measured] == [""]
    assert all(len(p) < 300 for p in found.problems)


def test_a_lone_entry_is_a_feed_of_one():
    head = gb.HEAD.encode()
    _, measured = read(head + gb.intervals(gb.readings([1])).encode(), head + gb.typed().encode())
    assert totals(measured) == {ENERGY: Decimal("0.001")}


def test_problems_are_told_up_to_twenty():
    found, _ = read(*(gb.feed(gb.local_times(99999 + n)) for n in range(1200)))
    assert len(found.problems) == 21
    assert found.problems[-1] == "and 1180 more"


@pytest.mark.parametrize("multiplier", ["kilo", "10**3", 99])
def test_a_multiplier_that_is_no_number_is_not_guessed(multiplier):
    found, measured = read(gb.download(gb.readings([7]), powerOfTenMultiplier=multiplier))
    assert totals(measured) == {Stream(gb.POINT, unit=""): Decimal(7)}
    assert "powerOfTenMultiplier is no number" in found.problems[0]


SMALL = gb.feed(
    gb.point(), gb.local_times(), gb.meter_reading(), gb.typed(),
    *(gb.intervals(gb.readings([n, "x", 2.5], gb.START + n * 10800, cost=n, quality=[0, 8]), at=n) for n in range(3)),
)  # fmt: skip


def harmless(text):
    try:
        found, measured = read(text, gb.feed(DEFINED))
    except WireError as error:
        return bool(str(error))
    assert not any(out_of_bounds(r.start, r.length) for r in only(measured))
    return bool(json.dumps([found.problems, found.dropped]))


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200), st.integers(0, len(SMALL)), st.integers(0, 40), st.booleans())
def test_no_bytes_do_harm(some, at, without, begun):
    assert harmless(SMALL[:at] + some + SMALL[at + without :])
    assert harmless(b"<feed>" * begun + some)


@pytest.mark.parametrize("seed", range(20))
def test_no_change_of_the_markup_does_harm(seed):
    chance = random.Random(seed)
    pieces = re.findall(rb"<[^>]*>|[^<]+", SMALL)
    for _ in range(40):
        other = list(pieces)
        for _ in range(chance.randint(1, 6)):
            n, m = chance.randrange(len(other)), chance.randrange(len(other))
            other[n : n + chance.randint(0, 3)] = chance.choice(
                [[], [other[m]], [other[m], other[n]], other[m : m + 9]]
            )
        assert harmless(b"".join(other))


MEASURE = """
import resource, sys
from bridge.wire.greenbutton import Files

for path in sys.argv[1:]:
    count = sum(len(m.readings) for m in Files().read([(path, lambda: open(path, "rb"))]))
    print(path, count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
LAYOUTS = {
    "daily": {}, "whole": {"per_block": 10**9}, "last": {"per_block": 10**9, "last": True}, "unknown": {"known": False},
}  # fmt: skip


@pytest.mark.long
def test_memory_stays_flat_however_long_a_file_is(tmp_path):
    """The first is 30 MB, with BRIDGE_LONG=1 each is 200."""
    counts = dict.fromkeys(LAYOUTS, 1_100_000 if LONG else 40_000) | (
        {} if LONG else {"daily": 160_000}
    )
    paths = []
    for size in ("small", "large"):
        for layout, about in LAYOUTS.items():
            paths.append(tmp_path / f"{size}-{layout}.xml")
            with paths[-1].open("wb") as file:
                file.writelines(gb.long(12_000 if size == "small" else counts[layout], **about))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
    )
    found = [line.split() for line in done.stdout.splitlines()]
    assert [int(n) for _, n, _ in found] == [12_000] * 4 + list(counts.values())
    grown = {Path(path).name: float(size) - float(found[3][2]) for path, _, size in found[4:]}
    assert max(grown.values()) < 8, grown


def test_pieces_come_before_the_file_is_read_to_its_end():
    pieces = gb.long(50_000)

    class Growing(io.RawIOBase):
        rest, taken = b"", 0

        def read(self, size=-1):
            while len(self.rest) < size and (piece := next(pieces, None)):
                self.rest += piece
            Growing.taken += size
            found, self.rest = self.rest[:size], self.rest[size:]
            return found

    opened = iter([io.BytesIO(YEAR), Growing()])  # looked at, and then read
    found = Files().read([("all.xml", lambda: next(opened))])
    assert len(next(found).readings) == 5000
    assert Growing.taken < 2 * 10**6
    found.close()
