"""UtilityAPI's documents: what is read of them, exactly, and what is refused."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import WireError
from bridge.notation import millis, to_json
from bridge.usage import Reading
from bridge.wire import utilityapi
from bridge.wire.utilityapi import read_page, read_problem, read_webhook
from bridge.wire.utilityapi_usage import Told, read_bills, read_intervals
from tests.utilityapi import bill, chunk, local, point, reading
from tests.wire.damage import ANYTHING, change_a_part, cuts_of, damaged, outcome

NOON = datetime(2026, 7, 1, 19, tzinfo=UTC)
QUARTER, HOUR, DAY = timedelta(minutes=15), timedelta(hours=1), timedelta(days=1)
NET = Told("A98", "net", "usage", "KWH")


def page(*items, key="intervals", **about):
    return to_json({key: items, "next": None, **about}).encode()


def only(*readings, **about):
    """Return what one chunk of readings says, and what is doubtful of it."""
    _, (found,), doubts = read_intervals(page(chunk("i1", "58", list(readings), NOON, **about)))
    return found, doubts


def at(start, value, exponent=0, length=QUARTER, quality="revenue"):
    return Reading(millis(start), length // timedelta(milliseconds=1), value, exponent, quality)


def test_the_vendors_sample_is_read_but_for_its_absurd_end():
    sample = """{"intervals":[{"uid":"12382-123111","meter_uid":"58","authorization_uid":"23",
      "created":"2015-03-19T20:50:41.206253+00:00","updated":"2015-03-19T20:50:41.206253+00:00",
      "utility":"DEMO","blocks":["base","sources","readings"],
      "base":{"service_identifier":"1234567890","meter_numbers":["A98"],"qualities":["revenue"]},
      "notes":[],"sources":[],"readings":[
        {"start":"2015-01-07T08:30:00.000000-07:00","end":"2015-02-05T08:45:00.000000-07:00",
         "kwh":18.2,"datapoints":[{"type":"net","unit":"kwh","value":18.2,"meter_number":"A98"}]},
        {"start":"2015-01-07T08:15:00.000000-07:00","end":"2015-01-07T08:30:00.000000-07:00",
         "kwh":17.1,"datapoints":[{"type":"net","unit":"kwh","value":17.1,"meter_number":"A98"}]}
      ]}],"next":null,"is_incomplete":false}"""
    found, (only_one,), doubts = read_intervals(sample.encode())
    assert (only_one.uid, only_one.meter, only_one.several) == ("12382-123111", "58", False)
    assert only_one.said == datetime(2015, 3, 19, 20, 50, 41, 206253, tzinfo=UTC)
    start = datetime(2015, 1, 7, 15, 15, tzinfo=UTC)
    assert only_one.readings == {NET: [at(start, 171, -1)]}
    assert doubts == [
        "interval 12382-123111: 1 left out: it does not end within 25 hours after its start"
    ]
    assert (found.next, found.incomplete) == (None, False)


def test_directions_stand_side_by_side_and_are_not_added():
    points = [point("fwd", Decimal("1.50")), point("rev", Decimal("0.25")), point("net", Decimal("1.25")),
              point("gen", 0), point("max", Decimal("6.0"), "kw")]  # fmt: skip
    found, doubts = only(reading(NOON, points, kwh=99))
    assert {t: [(r.value, r.exponent) for r in rs] for t, rs in found.readings.items()} == {
        Told("A98", "import", "usage", "KWH"): [(150, -2)],
        Told("A98", "export", "usage", "KWH"): [(25, -2)],
        Told("A98", "net", "usage", "KWH"): [(125, -2)],
        Told("A98", "generation", "usage", "KWH"): [(0, 0)],
        Told("A98", "net", "demand", "KW"): [(60, -1)],
    }
    assert doubts == []


def test_units_are_scaled_without_losing_a_digit_and_unknown_words_are_kept():
    points = [point("fwd", 1234, "Wh"), point("net", Decimal("0.5"), "therms"),
              point("fwd", 3, "kvar"), point("sag", 1, "volts"), point("rev", 7, None)]  # fmt: skip
    found, doubts = only(reading(NOON, points))
    assert {t[1:]: (rs[0].value, rs[0].exponent) for t, rs in found.readings.items()} == {
        ("import", "usage", "KWH"): (1234, -3),
        ("net", "usage", "THERMS"): (5, -1),
        ("import", "demand", "KVAR"): (3, 0),
        ("net", "sag", "VOLTS"): (1, 0),
        ("export", "usage", ""): (7, 0),
    }
    assert doubts == []


def test_the_old_form_counts_only_where_there_are_no_datapoints():
    found, _ = only(reading(NOON, [], kwh=Decimal("18.20")))
    assert found.readings == {Told("", "net", "usage", "KWH"): [at(NOON, 1820, -2)]}
    found, _ = only(reading(NOON, [point("fwd", None)], kwh=Decimal("18.2")))
    assert found.readings == {}


def test_what_is_not_known_is_no_zero():
    found, doubts = only(
        reading(NOON, [point("net", None)]), reading(NOON + QUARTER, [point("net", 0)]),
        reading(NOON + 2 * QUARTER, [], kwh=None),
    )  # fmt: skip
    assert found.readings == {NET: [at(NOON + QUARTER, 0)]}
    assert doubts == []


def test_readings_come_in_order_each_once_and_contradictions_are_told():
    found, doubts = only(
        reading(NOON, [point("net", 1)]), reading(NOON + QUARTER, [point("net", 2)]),
        reading(NOON, [point("net", 1)]), reading(NOON + QUARTER, [point("net", 3)]),
    )  # fmt: skip
    assert found.readings == {NET: [at(NOON, 1), at(NOON + QUARTER, 3)]}  # newest first
    assert doubts == ["interval i1: 1 left out: there is another reading of the same time"]


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ({"start": "2026-07-01T12:00:00"}, "its times cannot be read"),
        ({"end": "yesterday"}, "its times cannot be read"),
        ({"end": None}, "its times cannot be read"),
        ({"end": local(NOON)}, "it does not end within 25 hours after its start"),
        ({"end": local(NOON - HOUR)}, "it does not end within 25 hours after its start"),
        ({"end": local(NOON + 26 * HOUR)}, "it does not end within 25 hours after its start"),
        ({"datapoints": "none"}, "its datapoints are not a list"),
        ({"datapoints": [3]}, "a datapoint is not an object"),
        (
            {"datapoints": [{"type": "net", "unit": "kwh", "value": "much"}]},
            "a datapoint cannot be read",
        ),
        ({"datapoints": [{"type": "net", "unit": 5, "value": 1}]}, "a datapoint cannot be read"),
        (
            {"datapoints": [{"type": "net", "unit": "kwh", "value": True}]},
            "a datapoint cannot be read",
        ),
    ],
)
def test_a_reading_that_makes_no_sense_is_left_out_and_told(broken, why):
    found, doubts = only(
        {**reading(NOON, [point("net", 1)]), **broken}, reading(NOON + HOUR, [point("net", 2)])
    )
    assert found.readings == {NET: [at(NOON + HOUR, 2)]}
    assert doubts == [f"interval i1: 1 left out: {why}"]


def test_the_long_day_has_readings_of_its_own_length():
    start = datetime(2026, 11, 1, 7, tzinfo=UTC)
    found, doubts = only(reading(start, [point("net", 30)], end=start + 25 * HOUR))
    assert found.readings == {NET: [at(start, 30, length=25 * HOUR)]}
    assert doubts == []


def test_meters_side_by_side_are_told_apart_and_one_after_the_other_is_one():
    both = [point("net", 1, number="A"), point("net", 2, number="B")]
    found, _ = only(reading(NOON, both))
    assert found.several
    assert {t.number: rs[0].value for t, rs in found.readings.items()} == {"A": 1, "B": 2}
    exchanged = [
        reading(NOON, [point("net", 1, number="A")]),
        reading(NOON + HOUR, [point("net", 2, number="B")]),
    ]
    assert not only(*exchanged)[0].several


def test_a_quality_is_kept_where_there_is_a_single_one():
    found, _ = only(reading(NOON, [point("net", 1)]), qualities=["estimated", "revenue"])
    assert found.readings[NET][0].quality is None
    found, _ = only(reading(NOON, [point("net", 1)]), qualities=["estimated"])
    assert found.readings[NET][0].quality == "estimated"


def test_bills_say_an_amount_and_a_cost_exactly():
    start, end = datetime(2026, 1, 7, 8, tzinfo=UTC), datetime(2026, 2, 5, 8, tzinfo=UTC)
    good = bill("b1", "58", start, end, Decimal("837.0"), Decimal("123.45"))
    gas = bill("b2", "58", start, end, None, 5, bill_total_unit="therms", bill_total_volume=12)
    dear = bill("b3", "58", start, end, 1, Decimal("0.000001"))
    empty = bill("b4", "58", start, end, None, None)
    endless = bill("b5", "58", start, start + 500 * DAY, 1, 1)
    _, found, doubts = read_bills(page(good, gas, dear, empty, endless, {"uid": "b6"}, key="bills"))
    length = (end - start) // timedelta(milliseconds=1)
    assert [(b.uid, b.unit, b.reading) for b in found] == [
        ("b1", "KWH", Reading(millis(start), length, 8370, -1, None, 12_345_000)),
        ("b2", "THERMS", Reading(millis(start), length, 12, 0, None, 500_000)),
        ("b3", "KWH", Reading(millis(start), length, 1, 0, None, None)),
    ]
    assert found[0].said == end
    assert doubts == [
        "bill b3 of 2026-01-07T08:00:00Z: its cost cannot be kept exactly",
        "bill 'b5' was left out: it does not end within 2400 hours after its start",
        "bill 'b6' was left out: None is not a uid",
    ]


def test_the_next_page_is_what_it_asks_for_and_not_where_it_leads():
    url = "https://elsewhere.example/api/v2/events?after=234&limit=2&access_token=secret"
    assert read_page(page(key="events", next=url), "events").next == {"after": "234", "limit": "2"}
    for wrong in ("https://elsewhere.example/", 7, "", "http://[::1"):
        with pytest.raises(WireError, match="next page"):
            read_page(page(key="events", next=wrong), "events")


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"null", b'{"events": {}}', b"\xff\xfe", b"{" * 10**5]
)
def test_what_is_no_list_is_refused(body):
    with pytest.raises(WireError):
        read_page(body, "events")
    assert read_problem(body) == ""


def test_a_problem_is_said_in_its_own_words():
    body = b'{"error": "invalid_param", "error_description": "No such\\u0007 meter.", "url": "x"}'
    assert read_problem(body) == "invalid_param: No such meter."


def test_uids_may_look_like_numbers():
    found = utilityapi.read_meter({"uid": 58, "authorization_uid": "23", "is_activated": False})
    assert (found.uid, found.activated) == ("58", False)
    for uid in (None, "", True, 1.5, [], "a\nb", "x" * 101):
        with pytest.raises(WireError):
            utilityapi.read_meter({"uid": uid, "authorization_uid": "23"})


# Signed webhooks

BODY, SALT = b'{\n    "json": "object"\n}', "salt"
SIGNATURE = "6cd59ee8461872a3e0deea0d6428b5cdad5049452b4914ad66ed1cc1081b5e7d"


def headers(signature=SIGNATURE, salt=SALT):
    return {"X-UtilityAPI-Webhook-Salt": salt, "X-UtilityAPI-Webhook-Signature": signature}


def sign(body):
    return headers(hashlib.sha256(f"secret.{SALT}.".encode() + body).hexdigest())


def test_the_signature_is_that_of_the_raw_body():
    with pytest.raises(WireError, match="no list of events"):  # so the signature holds
        read_webhook(BODY, headers(), "secret")
    told = {"events": [{"uid": "0b346106", "type": "meter_intervals_added", "ts": local(NOON), "meter_uid": 5},
                       {"uid": "0b346107", "type": "something_new"}], "next": None}  # fmt: skip
    body = json.dumps(told, indent=4).encode()
    first, second = read_webhook(body, sign(body), "secret")
    assert first == utilityapi.Event("0b346106", "meter_intervals_added", NOON, None, "5")
    assert (second.type, second.at, second.meter) == ("something_new", None, None)


@pytest.mark.parametrize(
    ("body", "said", "secret"),
    [
        (BODY + b" ", headers(), "secret"),
        (b'{"json": "object"}', headers(), "secret"),
        (BODY, headers(salt="pepper"), "secret"),
        (BODY, headers(signature=""), "secret"),
        (BODY, headers(signature="\udcff"), "secret"),
        (BODY, headers(salt="\udcff"), "secret"),
        (BODY, headers(), "another"),
        (BODY, headers(), ""),
        (BODY, {}, "secret"),
    ],
)
def test_what_is_signed_otherwise_is_refused(body, said, secret):
    with pytest.raises(WireError, match="signature"):
        read_webhook(body, said, secret)


# Whatever comes

GOOD = page(
    chunk(
        "i1",
        "58",
        [reading(NOON + n * QUARTER, [point("fwd", 1), point("rev", 2)]) for n in range(4)],
        NOON,
    )
)
BILLS = page(bill("b1", "58", NOON, NOON + 30 * DAY, 1, 2), key="bills")


@settings(max_examples=150, deadline=None)
@given(cuts_of(GOOD))
def test_a_damaged_answer_is_refused_or_read(cuts):
    for good, read in ((GOOD, read_intervals), (BILLS, read_bills)):
        assert outcome(read, damaged(good, cuts))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_part_that_is_something_else_is_survived(data):
    document = json.loads(data.draw(st.sampled_from([GOOD, BILLS])))
    change_a_part(data, document)
    for read in (read_intervals, read_bills):
        assert outcome(read, json.dumps(document).encode())


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["uid", "authorization_uid", "meter_uid", "notes", "expires", "revoked", "is_declined", "base", "interval_coverage", "interval_count", "ongoing_monitoring", "status", "ts", "type", "referrals"]), ANYTHING))  # fmt: skip
def test_any_meter_authorization_and_event_is_read_or_refused(document):
    for read in (utilityapi.read_meter, utilityapi.read_authorization, utilityapi.read_event):
        assert outcome(read, document)
