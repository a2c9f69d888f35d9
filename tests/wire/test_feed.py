"""Feeds: forms, times, amounts; what is wrong with a row is said and the rest is read."""

import io
import json
import zipfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from bridge.errors import WireError
from bridge.wire import feed
from bridge.wire.feed import Fields, Reading


def read(text, form=None, **fields):
    reading = Reading(Fields.model_validate(fields))
    content = io.BytesIO(text.encode() if isinstance(text, str) else text)
    return list(reading.prices(feed.rows(content, reading.fields, form))), reading


def test_evccs_form_is_read_without_a_mapping():
    text = (
        '[{"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T01:00:00+00:00", "value": 0.06311}]'
    )
    ((program, price),), _ = read(text)
    assert program is None
    assert (str(price.value), price.start) == ("0.06311", datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_csv_with_and_without_a_byte_order_mark(mark):
    text = mark + b"start,end,value\r\n2026-01-01T00:00:00Z,2026-01-01T01:00:00Z,-0.040800\r\n"
    ((_, price),), _ = read(text)
    assert str(price.value) == "-0.040800"


def test_a_list_deep_in_a_document_with_other_names():
    text = json.dumps(
        {"data": {"rates": [{"from": 1767225600000, "till": 1767229200000, "ct": "12.3"}]}}
    )
    ((_, price),), _ = read(
        text, items="data.rates", start="from", end="till", value="ct", time_format="unix_ms", scale="0.01",
    )  # fmt: skip
    assert (price.start, price.value) == (datetime(2026, 1, 1, tzinfo=UTC), Decimal("0.123"))


def test_two_fields_for_a_time_and_a_form_of_its_own():
    text = "d;t;v\n3/1/2026;8:00;1\n"
    ((_, price),), _ = read(
        text, start=["d", "t"], length="30m", value="v", time_format="%m/%d/%Y %H:%M", delimiter=";",
        timezone="America/Los_Angeles",
    )  # fmt: skip
    assert price.start == datetime(2026, 3, 1, 16, tzinfo=UTC)
    assert price.end - price.start == timedelta(minutes=30)


@pytest.mark.parametrize("minutes", [15, 60])
@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("ends", ["next start", "own hour", "none"])
def test_the_hour_that_comes_twice_however_it_is_written(minutes, newest_first, ends):
    zone, step = ZoneInfo("America/Los_Angeles"), timedelta(minutes=minutes)
    begin = datetime(2026, 11, 1, 7, tzinfo=UTC)
    starts = [begin + n * step for n in range(25 * 60 // minutes)]
    rows = [
        {"start": f"{s.astimezone(zone):%Y-%m-%dT%H:%M}", "value": n,
         "end": f"{(s + step).astimezone(zone):%Y-%m-%dT%H:%M}" if ends == "next start"
         else f"{s.astimezone(zone).replace(tzinfo=None) + step:%Y-%m-%dT%H:%M}"}
        for n, s in enumerate(starts)
    ]  # fmt: skip
    about = {"length": f"{minutes}m"} if ends == "none" else {}
    found, reading = read(
        json.dumps(rows[::-1] if newest_first else rows), timezone="America/Los_Angeles", **about
    )
    assert reading.problems == []
    prices = sorted((p for _, p in found), key=lambda p: p.start)
    assert [p.start for p in prices] == starts
    assert [int(p.value) for p in prices] == list(range(len(starts)))
    assert {p.end - p.start for p in prices} == {step}


def test_a_row_of_the_hour_that_comes_twice_cannot_come_three_times():
    rows = [{"start": "2026-11-01T01:00", "value": n} for n in range(3)]
    found, reading = read(json.dumps(rows), timezone="America/Los_Angeles", length="1h")
    assert len(found) == 2
    assert "three times" in reading.summary


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-11-01", 25), ("2026-03-08", 23), ("2026-07-01", 24)]
)
def test_a_price_for_a_whole_day_is_as_long_as_the_day(day, hours):
    after = (datetime.fromisoformat(day) + timedelta(days=1)).date().isoformat()
    ((_, price),), _ = read(
        json.dumps([{"start": f"{day}T00:00", "end": f"{after}T00:00", "value": 1}]),
        timezone="America/Los_Angeles",
    )
    assert price.end - price.start == timedelta(hours=hours)


@pytest.mark.parametrize(
    "fields",
    [
        {"scale": 0},
        {"scale": "1e999"},
        {"length": "0s"},
        {"start": []},
        {"value": ""},
        {"time_format": "%Q"},
    ],
)
def test_a_mapping_that_cannot_be_meant_is_refused(fields):
    with pytest.raises(ValidationError):
        Fields.model_validate(fields)


def test_a_document_that_never_ends_is_refused(monkeypatch):
    monkeypatch.setattr(feed, "LARGEST_JSON", 1000)
    monkeypatch.setattr(feed, "LONGEST_LINE", 1000)
    with pytest.raises(WireError, match="more than 1000 bytes of JSON"):
        read("[" + "1," * 9999)
    with pytest.raises(WireError, match="more than 1000 characters"):
        read("start,end,value" + "a" * 9999)


@pytest.mark.parametrize("length", [None, "1h"])
def test_local_times_of_a_day_with_25_hours(length):
    hours = [0, 1, 1, *range(2, 24)]
    ends = [*hours[1:], 24]
    rows = [
        {"start": f"2026-11-01T{h:02}:00", "value": n,
         "end": "2026-11-02T00:00" if e == 24 else f"2026-11-01T{(h + 1 if h == e else e):02}:00"}
        for n, (h, e) in enumerate(zip(hours, ends, strict=True))
    ]  # fmt: skip
    about = {"length": length} if length else {}
    found, reading = read(json.dumps(rows), timezone="America/Los_Angeles", **about)
    assert reading.problems == []
    starts = [p.start for _, p in found]
    assert starts == [datetime(2026, 11, 1, 7, tzinfo=UTC) + timedelta(hours=n) for n in range(25)]
    assert {p.end - p.start for _, p in found} == {timedelta(hours=1)}


def test_a_local_time_that_the_clock_skips_is_refused():
    rows = [{"start": f"2026-03-08T{h:02}:00", "value": h} for h in range(4)]
    found, reading = read(json.dumps(rows), timezone="America/Los_Angeles", length="1h")
    assert [int(p.value) for _, p in found] == [0, 1, 3]
    assert "clocks go forward" in reading.problems[0]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"start": "2026-01-01T00:00Z", "end": "2026-01-01T01:00Z"}, "no field value or price"),
        ({"start": "2026-01-01T00:00Z", "end": "", "value": 1}, "no field end"),
        ({"start": "then", "end": "2026-01-01T01:00Z", "value": 1}, "not a time in the form ISO 8601"),
        ({"start": 5, "end": "2026-01-01T01:00Z", "value": 1}, "not a time"),
        ({"start": "2026-01-01T01:00Z", "end": "2026-01-01T01:00Z", "value": 1}, "not after its start"),
        ({"start": "2026-01-01T00:00Z", "end": "2026-01-01T01:00Z", "value": "n/a"}, "not an amount"),
        ({"start": "2026-01-01T00:00Z", "end": "2026-01-01T01:00Z", "value": None}, "not an amount"),
        ({"start": "2026-01-01T00:00Z", "end": "2026-01-01T01:00Z", "value": True}, "not an amount"),
        ({"start": "2026-01-01T00:00Z", "end": "2026-01-01T01:00Z", "value": "Infinity"}, "not an amount"),
        ({"start": "2026-01-01T00:00Z", "end": "2026-01-01T01:00Z", "value": "1e1000001"}, "not an amount"),
        ({"start": "2026-01-01T00:00Z", "end": "2026-01-01T01:00Z", "value": "9" * 5000}, "not an amount"),
        ({"start": "9999-12-31T23:30:00-14:00", "end": "2026-01-01T01:00Z", "value": 1}, "not a year"),
        ("text", "not an object"),
    ],
)  # fmt: skip
def test_a_bad_row_is_told_and_the_good_ones_are_read(row, said):
    good = {"start": "2026-01-02T00:00Z", "end": "2026-01-02T01:00Z", "value": 2}
    found, reading = read(json.dumps([good, row, good]))
    assert len(found) == 2
    assert said in reading.summary
    assert reading.summary.startswith("row 2: ")


@pytest.mark.parametrize(
    ("text", "form", "fields", "said"),
    [
        ("{", None, {}, "not JSON"),
        ('{"a": 1}', None, {}, "no list at the top"),
        ('{"a": 1}', None, {"items": "a.b"}, "no list at a.b"),
        (b"\xff\xfe\x00a", "csv", {}, "not CSV in UTF-8"),
    ],
)
def test_what_is_no_feed_is_said(text, form, fields, said):
    with pytest.raises(WireError, match=said):
        read(text, form, **fields)


def test_an_archive_yields_its_feeds_only(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("prices.csv", "start,end,value\n")
        archive.writestr("__MACOSX/._prices.csv", b"\x00\x05\x16")
        archive.writestr(".hidden.csv", "x")
        archive.writestr("read me.pdf", "x")
    assert [name for name, _, _ in feed.open_all(path)] == ["a.zip/prices.csv"]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("read me.pdf", "x")
    with pytest.raises(WireError, match=r"no \.csv"):
        list(feed.open_all(path))
    path.write_bytes(b"PK\x03\x04 not an archive, PK\x05\x06")
    with pytest.raises(WireError, match="cannot be read"):
        list(feed.open_all(tmp_path / "missing.csv"))


def test_a_damaged_archive_is_said(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "prices.csv", "start,end,value\n" + "2026-01-01T00:00Z,2026-01-01T01:00Z,1\n" * 5000
        )
    whole = bytearray(path.read_bytes())
    whole[60:90] = b"\x00" * 30
    path.write_bytes(whole)
    contents = feed.open_all(path)
    _, content, _ = next(contents)
    with pytest.raises(WireError, match="cannot be read"):
        list(feed.rows(content, Fields()))


@pytest.mark.parametrize(("end", "hours"), [("2026-11-01T16:00", 16), ("2026-11-02T00:00", 24)])
def test_a_long_price_from_the_hour_that_comes_twice_is_not_cut(end, hours):
    row = {"start": "2026-11-01T01:00", "end": end, "value": 1}
    ((_, price),), _ = read(json.dumps([row]), timezone="America/Los_Angeles")
    assert price.end - price.start == timedelta(hours=hours)
