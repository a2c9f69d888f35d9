"""When an OpenADR 3.1 event holds (User Guide, section 7.3), and what a report measured."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from bridge.errors import WireError
from bridge.notation import from_json, to_json
from bridge.wire import openadr3
from bridge.wire.openadr3_requests import Event, Program, read_request

NOW = datetime(2027, 3, 14, 6, tzinfo=UTC)
YEAR = timedelta(days=366)
HOUR = timedelta(hours=1)


def event(*intervals, **about):
    return {"programID": "p", "intervals": list(intervals), **about}


def interval(number, *values, kind="PRICE", **period):
    said = {"id": number, "payloads": [{"type": kind, "values": list(values)}]}
    return said | ({"intervalPeriod": period} if period else {})


def held(document, begin=NOW):
    found = openadr3.intervals(document, YEAR, begin)
    return [((i.start - NOW) / HOUR, (i.end - NOW) / HOUR, *i.values.values()) for i in found]


MIDNIGHT = {"start": "2027-03-14T00:00:00Z", "duration": "PT1H"}


def test_intervals_follow_each_other_from_the_events_start():
    assert held(event(interval(0, 1), interval(1, 2), intervalPeriod=MIDNIGHT)) == [
        (-6, -5, 1),
        (-5, -4, 2),
    ]


@pytest.mark.parametrize(
    "start", ["0001-01-01", "0001-01-01T00:00:00", "0001-01-01T00:00:00Z", "0000-00-00T00:00:00Z"]
)
def test_the_beginning_of_time_is_now(start):
    assert held(event(interval(0, 1), intervalPeriod={"start": start, "duration": "PT1H"})) == [
        (0, 1, 1)
    ]
    # on the first interval it is the event's start, on a later one the end of the one before
    own = {"start": start, "duration": "PT2H"}
    assert held(event(interval(0, 1, **own), interval(1, 2, **own), intervalPeriod=MIDNIGHT)) == [
        (-6, -4, 1),
        (-4, -2, 2),
    ]


def test_an_intervals_own_period_wins_and_the_next_follows_it():
    own = {"start": "2027-03-14T08:00:00Z", "duration": "PT30M"}
    assert held(event(interval(0, 1), interval(1, 2, **own), interval(2, 3), intervalPeriod=MIDNIGHT)) == [
        (-6, -5, 1), (2, 2.5, 2), (2.5, 3.5, 3),
    ]  # fmt: skip


def test_several_prices_share_their_interval_evenly_and_keep_its_id():
    found = openadr3.intervals(
        event(interval(7, Decimal("0.10"), 2, 3, 4), intervalPeriod=MIDNIGHT), YEAR, NOW
    )
    assert [(i.id, i.end - i.start, i.values["PRICE"]) for i in found] == [
        (7, HOUR / 4, v) for v in (Decimal("0.10"), 2, 3, 4)
    ]
    # a curve is one thing, however many points it has
    points = [{"x": 1, "y": 2}, {"x": 2, "y": 3}]
    assert (
        len(
            openadr3.intervals(
                event(interval(0, *points, kind="CURVE"), intervalPeriod=MIDNIGHT), YEAR, NOW
            )
        )
        == 1
    )


def test_the_events_duration_repeats_its_intervals_or_cuts_them_short():
    two = (interval(0, 1), interval(1, 2))
    assert held(event(*two, intervalPeriod=MIDNIGHT, duration="PT5H")) == [
        (-6, -5, 1), (-5, -4, 2), (-4, -3, 1), (-3, -2, 2), (-2, -1, 1),
    ]  # fmt: skip
    assert held(event(*two, intervalPeriod=MIDNIGHT, duration="PT90M")) == [
        (-6, -5, 1),
        (-5, -4.5, 2),
    ]
    endless = openadr3.intervals(event(*two, intervalPeriod=MIDNIGHT, duration="P9999Y"), YEAR, NOW)
    assert (len(endless), endless[-1].end - endless[0].start) == (366 * 24, YEAR)


def test_a_repetition_has_an_end_even_of_intervals_without_length():
    nothing = event(
        interval(0, 1),
        intervalPeriod={"start": "2027-03-14T00:00:00Z", "duration": "PT0S"},
        duration="P9999Y",
    )
    assert held(nothing) == [(-6, -6, 1)]
    seconds = event(
        interval(0, 1),
        intervalPeriod={"start": "2027-03-14T00:00:00Z", "duration": "PT1S"},
        duration="P9999Y",
    )
    assert len(openadr3.intervals(seconds, YEAR, NOW)) == openadr3.MOST_INTERVALS


@pytest.mark.parametrize(
    ("document", "start", "end"),
    [
        (event(interval(0, 1), intervalPeriod=MIDNIGHT), -6, -5),
        (event(interval(0, 1), intervalPeriod={"start": "0001-01-01", "duration": "P9999Y"}), 0, None),
        (event(interval(0, 1), intervalPeriod={"start": "2027-03-14T00:00:00Z"}), -6, None),
        (event(interval(0, 1), intervalPeriod=MIDNIGHT, duration="P9999Y"), -6, None),
        (event(interval(0, 1), intervalPeriod=MIDNIGHT, duration="PT5H"), -6, -1),
        (event(interval(0, 1), intervalPeriod={"start": "0001-01-01", "duration": "PT0S"}), 0, 0),
        ({"programID": "p"}, 0, None),
        ({"programID": "p", "intervalPeriod": MIDNIGHT}, -6, -5),
        ({"programID": "p", "duration": "PT2H"}, 0, 2),
        (event(interval(0, 1), intervalPeriod={"start": "8999-12-31T23:00:00Z", "duration": "P9999D"}), ..., ...),
        (event(interval(0, 1), intervalPeriod={"start": "0002-01-01T00:00:00+14:00", "duration": "PT1H"}), ..., ...),
        (event(interval(0, 1), intervalPeriod={"duration": "P99999999999999Y"}), 0, None),
        (event(interval(0, 1), intervalPeriod={"duration": "-PT1H"}), 0, 0),
    ],
)  # fmt: skip
def test_from_when_until_when_an_event_is_active(document, start, end):
    found = openadr3.span(document, YEAR, NOW)
    if start is not ...:
        assert found == (NOW + start * HOUR, None if end is None else NOW + end * HOUR)


def test_what_is_no_price_is_shown_and_not_acted_on():
    for value in ("cheap", True, Decimal("1E+400"), {"x": 1, "y": 2}):
        (found,) = openadr3.intervals(event(interval(0, value), intervalPeriod=MIDNIGHT), YEAR, NOW)
        assert found.values == {}


@pytest.mark.parametrize(
    "text",
    [
        '{"programID":"p","intervals":[{"id":0,"payloads":[{"type":"PRICE","values":[0.10,-0.0,1e-7]}]}]}',
        '{"programID":"p","duration":"P9999Y","intervalPeriod":{"start":"0001-01-01"}}',
        '{"programID":"p","unknown":{"deep":[1.50]},"targets":["g"]}',
    ],
)
def test_what_was_written_is_kept_as_it_was_written(text):
    assert from_json(to_json(read_request(Event, text.encode()))) == from_json(text)
    assert "0.10" not in text or "0.10" in to_json(read_request(Event, text.encode()))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[]", "not a JSON object"),
        (b"{", "not JSON"),
        (b'{"programID": NaN}', "not JSON"),
        (b"\xff{}", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"intervals": []}', "programID: is missing"),
        (b'{"programID": null}', "programID: is missing"),
        (b'{"programID": 1}', "programID: input should be a valid string"),
        (b'{"programID": "a b"}', "programID: string should match"),
        (b'{"programID": "p", "priority": -1}', "priority: input should be greater"),
        (b'{"programID": "p", "priority": true}', "priority: input should be a valid integer"),
        (b'{"programID": "p", "intervals": [{"id": 1.5, "payloads": []}]}', "intervals.0.id"),
        (
            b'{"programID": "p", "intervals": [{"id": 1, "payloads": [{"type": "P", "values": [null]}]}]}',
            "values.0",
        ),
        (b'{"programID": "p", "intervalPeriod": {"start": "tomorrow"}}', "RFC 3339"),
        (b'{"programID": "p", "intervalPeriod": {"start": "2027-03-14"}}', "RFC 3339"),
        (b'{"programID": "p", "duration": "1h"}', "ISO 8601"),
        (b'{"programID": "p", "eventName": "\\ud800"}', "lone surrogate"),
        (b'{"programID": "p", "targets": [""]}', "targets.0"),
    ],
)
def test_bad_bodies_are_told_what_would_be_right(body, said):
    with pytest.raises(WireError, match=said.replace(".", r"\.")):
        read_request(Event, body)


def test_discriminators_may_be_missing_and_nulls_are_absent():
    said = b'{"programName": "p", "payloadDescriptors": [{"payloadType": "PRICE", "units": null}], "targets": null}'
    assert read_request(Program, said) == {
        "programName": "p",
        "payloadDescriptors": [{"payloadType": "PRICE"}],
    }
    with pytest.raises(WireError, match="objectType"):
        read_request(
            Program,
            b'{"programName": "p", "payloadDescriptors": [{"objectType": "X", "payloadType": "y"}]}',
        )


def test_a_report_measures_what_has_a_time_and_an_amount():
    resource = {
        "resourceName": "meter",
        "intervalPeriod": MIDNIGHT,
        "intervals": [
            interval(0, Decimal("0.012"), kind="USAGE"),
            interval(1, 1, 2, kind="USAGE")
            | {
                "payloads": [
                    {"type": "USAGE", "values": [1, 2]},
                    {"type": "DATA_QUALITY", "values": ["ESTIMATED"]},
                ]
            },
            interval(2, "much", kind="USAGE"),
            interval(3, 5, kind="USAGE", duration="P9999Y"),
        ],
    }
    found = list(openadr3.reported(resource))
    assert [((r.start - NOW) / HOUR, (r.end - NOW) / HOUR, r.value, r.quality) for r in found if r.kind == "USAGE"] == [
        (-6, -5, Decimal("0.012"), None), (-5, -4.5, 1, "ESTIMATED"), (-4.5, -4, 2, "ESTIMATED"),
    ]  # fmt: skip
    assert (
        list(openadr3.reported({"resourceName": "m", "intervals": [interval(0, 1, kind="USAGE")]}))
        == []
    )
