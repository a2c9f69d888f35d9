"""The Customer API's documents: read with tolerance, never guessed at, and written again."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import WireError
from bridge.notation import day_span, from_json, millis, to_json
from bridge.usage import Bucket, Contract, Reading
from bridge.wire import customer
from bridge.wire.customer import Said, read_info, read_token, read_usage, write_info, write_usage
from tests.customer import CONTRACT, CUSTOMER, DESCRIPTORS, interval, report
from tests.wire.damage import change_a_part, cuts_of, damaged, outcome

NOON = datetime(2026, 7, 1, 19, tzinfo=UTC)
HOUR = timedelta(hours=1)


def at(start, value, exponent=0, length=HOUR):
    return Reading(millis(start), length // timedelta(milliseconds=1), value, exponent)


def read(document):
    return read_usage(to_json(document).encode())


JWT = "eyJhbGciOiJSUzI1NiJ9.eyJleHAiOjF9.c2ln-_"


@pytest.mark.parametrize(
    ("body", "lasts"),
    [
        (JWT, None),
        (f" {JWT}\n", None),
        (f'"{JWT}"', None),
        (f'{{"access_token": "{JWT}", "expires_in": 600, "token_type": "Bearer"}}', 600),
        (f'{{"token": "{JWT}"}}', None),
        (f'{{"id_token": "{JWT}", "expires_in": "soon"}}', None),
        (f'{{"accessToken": "{JWT}"}}', None),
    ],
)
def test_a_token_comes_in_several_forms(body, lasts):
    assert read_token(body.encode()) == (JWT, lasts and timedelta(seconds=lasts))


@pytest.mark.parametrize("body", [b"", b"<html>", b"two words", b"{}", b"[]", b"7", b'"a\\nb"', b"\xff\xfe", b'{"token": null}', b"x" * 20_000])  # fmt: skip
def test_what_is_no_token_is_refused_without_showing_it(body):
    with pytest.raises(WireError, match=r"^the answer is not a token$"):
        read_token(body)


def test_whose_data_are_asked_for_is_said_in_base64():
    said = customer.identity(CONTRACT, CUSTOMER)
    assert said["X-Contract-Id"] == "MDAxMjM0NTY3OA=="
    assert customer.read_identity({k.lower(): v for k, v in said.items()}) == (CONTRACT, CUSTOMER)
    for wrong in ({}, {**said, "X-Contract-Id": "0012345678"}, {**said, "X-Customer-Uuid": ""}, {**said, "X-Contract-Id": "/w=="}, {**said, "X-Contract-Id": "ü"}):  # fmt: skip
        with pytest.raises(WireError, match="base64"):
            customer.read_identity(wrong)


INFO = {
    "contractId": CONTRACT, "customerUuid": CUSTOMER, "meterAccountId": "SP1", "rateCode": "EV2A",
    "voltageClass": "secondary", "rateCodeHasVoltageClass": True, "circuitId": "013532223",
    "hasCca": False,
}  # fmt: skip


def test_information_is_read_by_any_of_its_names_and_wrappings():
    documented = {
        "contractID": CONTRACT, "customerUuid": CUSTOMER, "meterAccountID": "SP1", "RateCode": "EV2A",
        "voltage_class": "secondary", "rateCodeHasVoltageClass": "true",
        "representativeCircuitID": "013532223", "hasCCA": "N", "CCA": None, "name": "Fry",
    }  # fmt: skip
    for body in (documented, [documented], {"meta": {"code": 200}, "data": [documented]}):
        assert read_info(json.dumps(body).encode()) == INFO


def test_information_is_written_as_it_is_read():
    about = {k: v for k, v in INFO.items() if k not in {"contractId", "customerUuid"}}
    written = write_info(Contract(CONTRACT, CUSTOMER, ("m",), None, {**about, "other": 1}))
    assert written == INFO
    assert list(written) == list(INFO)
    assert read_info(to_json(written).encode()) == INFO


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'"x"', b'{"message": "Internal"}', b"<html>"])
def test_information_that_says_nothing_is_refused(body):
    with pytest.raises(WireError):
        read_info(body)


def test_the_rate_has_its_voltage_where_it_has_one():
    assert customer.rate_name(INFO) == "EV2AS"
    assert customer.rate_name({**INFO, "rateCodeHasVoltageClass": False}) == "EV2A"
    assert customer.rate_name({**INFO, "voltageClass": "quaternary"}) is None
    assert customer.rate_name({}) is None


def test_usage_is_read_by_its_types_with_gaps_where_nothing_is_known():
    found, doubts = read(
        report([
            interval(0, NOON, {"CONSUMPTION": Decimal("1.230"), "GENERATION": 0, "baseline_consumption": Decimal("0.98")}),
            interval(1, NOON + HOUR, {"CONSUMPTION": None, "GENERATION": "0.5"}),
            {"id": 2, "intervalPeriod": {"start": "2026-07-01T14:00:00-0700", "duration": "PT15M"},
             "payloads": [{"type": "CONSUMPTION", "values": []}, {"type": "GENERATION", "values": [2]}]},
            interval(3, NOON + 4 * HOUR, {"SOMETHING_NEW": 7}),
        ])
    )  # fmt: skip
    assert found == [
        Said("CONSUMPTION", "KWH", [at(NOON, 1230, -3)]),
        Said("GENERATION", "KWH", [at(NOON, 0), at(NOON + HOUR, 5, -1), at(NOON + 2 * HOUR, 2, length=HOUR / 4)]),
        Said("BASELINE_CONSUMPTION", "KWH", [at(NOON, 98, -2)]),
        Said("SOMETHING_NEW", "", [at(NOON + 4 * HOUR, 7)]),
    ]  # fmt: skip
    assert doubts == []


def plain(number, value):
    return {"id": number, "payloads": [{"type": "CONSUMPTION", "values": [value]}]}


def test_intervals_may_lie_one_after_the_other_from_a_common_start():
    period = {"start": "2024-07-01T07:00:00Z", "duration": "PT1H"}
    begin = datetime(2024, 7, 1, 7, tzinfo=UTC)
    for ids in ((0, 1, 2), (5, 6, 7), ("0", "1", "2"), (None, None, None)):
        said = [plain(number, n) for n, number in enumerate(ids)]
        (found,), doubts = read(report(said, intervalPeriod=period))
        assert found.readings == [at(begin + n * HOUR, n) for n in range(3)]
        assert doubts == []
    mixed = [plain(0, 1), {**plain(1, 2), "intervalPeriod": {"start": "2024-07-02T07:00:00Z"}}]
    (found,), _ = read(report(mixed, intervalPeriod=period))
    assert found.readings == [at(begin, 1), at(begin + 24 * HOUR, 2)]


def test_where_some_are_missing_the_places_of_the_others_are_not_guessed():
    period = {"start": "2024-07-01T07:00:00Z", "duration": "PT1H"}
    for ids in ((0, 1, 3), ("0", "1", "3"), ("a", "b", "c"), (0, None, 2)):
        found, doubts = read(report([plain(n, 1) for n in ids], intervalPeriod=period))
        assert found == []
        assert doubts == ["3 left out: others are missing, and it is not said when it is"]


def test_reports_may_be_wrapped_and_may_be_several():
    one, two = (report([interval(0, NOON + n * HOUR, {"CONSUMPTION": n})]) for n in (0, 1))
    for document in (
        [one, two],
        {"meta": {"code": 200}, "data": [one, two]},
        {
            "payloadDescriptors": DESCRIPTORS,
            "resources": [{"intervals": r["intervals"]} for r in (one, two)],
        },
    ):
        found, doubts = read(document)
        assert found == [Said("CONSUMPTION", "KWH", [at(NOON, 0), at(NOON + HOUR, 1)])]
        assert doubts == []


@pytest.mark.parametrize("document", [[], {}, {"data": [report([])]}, report([])])
def test_an_answer_without_usage_is_none(document):
    assert read(document) == ([], [])


@pytest.mark.parametrize("document", [{"message": "no"}, {"data": None}, "x", 7, [1]])
def test_what_is_no_report_is_refused(document):
    with pytest.raises(WireError, match="no intervals"):
        read(document)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ({"intervalPeriod": None}, "it is not said when it is"),
        ({"intervalPeriod": {"duration": "PT1H"}}, "its time cannot be read"),
        ({"intervalPeriod": {"start": "2026-07-01T12:00:00", "duration": "PT1H"}}, "its time cannot be read"),
        ({"intervalPeriod": {"start": "2026-07-01T12:00:00Z"}}, "it is not said how long it is"),
        ({"intervalPeriod": {"start": "2026-07-01T12:00:00Z", "duration": "P1M"}}, "it does not end within 25 hours"),
        ({"intervalPeriod": {"start": "2026-07-01T12:00:00Z", "duration": "-PT1H"}}, "it does not end within 25 hours"),
        ({"intervalPeriod": {"start": "2026-07-01T12:00:00Z", "duration": f"P{'9' * 40}D"}}, "its time cannot be read"),
        ({"payloads": [{"type": "CONSUMPTION", "values": ["much"]}]}, "its value is not an amount"),
        ({"payloads": [{"type": "CONSUMPTION", "values": [1, 2]}]}, "it is not one value of one type"),
        ({"payloads": [{"values": [1]}]}, "it is not one value of one type"),
        ({"payloads": [{"type": "CONSUMPTION", "values": [1]}, {"type": "CONSUMPTION", "values": [2]}]}, "there is another value of the same time"),
    ],
)  # fmt: skip
def test_an_interval_that_makes_no_sense_is_left_out_and_told(broken, why):
    good = interval(0, NOON + 9 * HOUR, {"GENERATION": 1})
    found, doubts = read(report([{**interval(1, NOON, {"CONSUMPTION": 1}), **broken}, good]))
    assert [s for s in found if s.payload_type == "GENERATION"] == [
        Said("GENERATION", "KWH", [at(NOON + 9 * HOUR, 1)])
    ]
    assert doubts == [f"1 left out: {why}"]


def test_units_are_scaled_exactly():
    descriptors = [{"payloadType": "CONSUMPTION", "units": "Wh"}]
    (found,), _ = read(
        {"payloadDescriptors": descriptors, "intervals": [interval(0, NOON, {"CONSUMPTION": 1234})]}
    )
    assert (found.unit, found.readings) == ("KWH", [at(NOON, 1234, -3)])


def test_types_are_streams_and_streams_types():
    assert customer.stream_of("CONSUMPTION", ahead=False) == ("import", "usage")
    assert customer.stream_of("BASELINE_GENERATION", ahead=True) == ("export", "subscription_pre")
    assert customer.stream_of("BASELINE_CONSUMPTION", ahead=False) == (
        "import",
        "subscription_post",
    )
    assert customer.stream_of("SOMETHING_NEW", ahead=False) == ("net", "something_new")
    for name in customer.PAYLOADS:
        for ahead in (True, False):
            assert customer.payload_type(*customer.stream_of(name, ahead=ahead)) == name
    assert customer.payload_type("net", "demand") is None


def bucket(start, end, value, covered=None):
    return Bucket(start, end, value, end - start if covered is None else covered)


@pytest.mark.parametrize("day", ["2026-03-08", "2026-11-01", "2026-07-01"])
def test_what_is_written_is_read_again_on_days_of_any_length(day):
    begin, end = day_span(datetime.fromisoformat(day).date(), "America/Los_Angeles")
    hours = [begin + n * HOUR for n in range((end - begin) // HOUR)]
    used = [bucket(h, h + HOUR, Decimal(n) / 1000) for n, h in enumerate(hours)]
    made = [bucket(h, h + HOUR, Decimal(0)) for h in hours[6:]]
    written = write_usage({"CONSUMPTION": used, "GENERATION": made})
    assert [i["id"] for i in written["intervals"]] == list(range(len(hours)))
    found, doubts = read(written)
    assert doubts == []
    assert {s.payload_type: (s.unit, len(s.readings)) for s in found} == {
        "CONSUMPTION": ("KWH", len(hours)), "GENERATION": ("KWH", len(hours) - 6),
    }  # fmt: skip
    read_back = [Decimal(r.value).scaleb(r.exponent) for r in found[0].readings]
    assert read_back == [b.value for b in used]


def test_what_is_not_known_all_through_is_not_written():
    known = [
        bucket(NOON, NOON + HOUR, None, timedelta(0)),
        bucket(NOON + HOUR, NOON + 2 * HOUR, Decimal(1), HOUR / 2),
        bucket(NOON + 2 * HOUR, NOON + 3 * HOUR, Decimal(0)),
    ]
    written = from_json(to_json(write_usage({"CONSUMPTION": known, "GENERATION": known[:2]})))
    assert written == {
        "payloadDescriptors": [{"objectType": "REPORT_PAYLOAD_DESCRIPTOR", "payloadType": "CONSUMPTION", "units": "KWH"}],
        "intervals": [{
            "id": 0, "intervalPeriod": {"start": "2026-07-01T21:00:00Z", "duration": "PT1H"},
            "payloads": [{"type": "CONSUMPTION", "values": [0]}],
        }],
    }  # fmt: skip
    assert write_usage({}) == {"payloadDescriptors": [], "intervals": []}


# Whatever comes

GOOD = to_json(
    report(
        [
            interval(n, NOON + n * HOUR, {"CONSUMPTION": n, "BASELINE_CONSUMPTION": 1})
            for n in range(3)
        ]
    )
).encode()


@settings(max_examples=150, deadline=None)
@given(cuts_of(GOOD))
def test_a_damaged_answer_is_refused_or_read(cuts):
    for read_it in (read_usage, read_info, read_token):
        assert outcome(read_it, damaged(GOOD, cuts))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_part_that_is_something_else_is_survived(data):
    document = json.loads(GOOD) | {
        "intervalPeriod": {"start": "2026-07-01T12:00:00Z", "duration": "PT1H"}
    }
    change_a_part(data, document)
    for read_it in (read_usage, read_info):
        assert outcome(read_it, json.dumps(document).encode())
