"""2.0b events as 3.1 events with an origin, and back."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from lxml import etree

from bridge.wire import openadr3
from bridge.wire.openadr2 import payload_type, read_event, read_listing
from bridge.wire.openadr2_writer import write_event
from bridge.wire.openleadr import read_message
from tests.peers import SHARED, distribute, event, levels, signal

BEGIN = datetime(2027, 1, 1, tzinfo=UTC)
NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)
EXTRA = (
    "<ei:x-eiNotification><xcal:duration>PT30M</xcal:duration></ei:x-eiNotification>"
    "<ei:x-eiRampUp><xcal:duration>PT5M</xcal:duration></ei:x-eiRampUp>"
    "<ei:x-eiRecovery><xcal:duration>PT10M</xcal:duration></ei:x-eiRecovery>"
)
TARGETS = "<ei:groupID>g1</ei:groupID><ei:resourceID>r1</ei:resourceID><ei:venID>V1</ei:venID>"
CLASS = "<ei:eiTarget><power:endDeviceAsset><power:mrid>thermostat</power:mrid></power:endDeviceAsset></ei:eiTarget>"


def listing(*events, ven_id="V1"):
    message = read_message(distribute(*events).encode())
    return read_listing(message.element, ven_id)


def one(*signals, **about):
    (dispatch,) = listing(event("E", NOON, *signals, **about)).dispatches
    return dispatch


RECORDED = {
    "a price day": event("DAY", NOON, signal(["0.1", "-0.25", "1e-05"]), duration="PT3H"),
    "levels": event("007", NOON, levels([1, 2, 3]), status="near", priority=1, modification=4),
    "two signals": event("TWO", NOON, signal([1], signal_id="A"), levels([2]), targets=TARGETS),
    "open-ended": event("OPEN", NOON, levels([1], "PT0S"), duration="PT0S"),
    "everything": event(
        "ALL", NOON, signal([5], "LOAD_DISPATCH", "setpoint", unit="powerReal", scale="k", target=CLASS),
        test="true", targets=TARGETS, start_after="PT15M", extra=EXTRA, required="never", priority=0,
    ),
    "an x- signal": event("X", NOON, signal([7], "x-CUSTOM", "level", unit="")),
    "an ampersand": event("A", NOON, levels([1]), context="http://u.example/?a=1&amp;b=2"),
}  # fmt: skip


@pytest.mark.parametrize("recorded", RECORDED.values(), ids=RECORDED)
def test_reading_is_undone_by_writing(recorded):
    (dispatch,) = listing(recorded).dispatches
    written = write_event(dispatch)
    assert read_event(written, "V1") == dispatch
    # and what is written is good OpenADR 2.0b
    read_message(distribute(etree.tostring(written).decode()).encode())


@pytest.mark.parametrize("recorded", RECORDED.values(), ids=RECORDED)
def test_documents_are_openadr_3_1_events(recorded):
    schema = SHARED / "spec" / "openadr-3.1.0.yaml"
    if not schema.exists():
        pytest.skip("the OpenADR 3.1.0 schema is not at hand")
    yaml = pytest.importorskip("yaml")
    text = json.dumps(yaml.safe_load(schema.read_text()), default=str)
    spec = json.loads(text.replace("#/components", "#/$defs/components"))
    shape = {
        "$defs": {"components": spec["components"]},
        "$ref": "#/$defs/components/schemas/eventRequest",
    }
    (dispatch,) = listing(recorded).dispatches
    for document in dispatch.documents:
        plain = json.loads(json.dumps({"programID": "p", **document}, default=float))
        plain = {
            k: v for k, v in plain.items() if k not in {"createdDateTime", "modificationDateTime"}
        }
        errors = [e.message for e in Draft202012Validator(shape).iter_errors(plain)]
        assert not errors


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-10, max_value=10),
        min_size=1,
        max_size=30,
    )
)
def test_every_price_is_exact_both_ways(prices):
    dispatch = one(signal(prices))
    assert [i["payloads"][0]["values"][0] for i in dispatch.documents[0]["intervals"]] == prices
    assert read_event(write_event(dispatch), "V1").documents == dispatch.documents


def test_intervals_follow_each_other_from_the_active_period():
    document = one(signal(["1", "2"], length="PT15M")).documents[0]
    found = openadr3.intervals(document, timedelta(days=1), BEGIN)
    assert [(i.start, i.end) for i in found] == [
        (NOON, NOON + timedelta(minutes=15)),
        (NOON + timedelta(minutes=15), NOON + timedelta(minutes=30)),
    ]


def test_an_open_ended_interval_lasts_as_long_as_is_allowed():
    document = one(levels([1], "PT0S"), duration="PT0S").documents[0]
    assert document["intervals"][0]["intervalPeriod"]["duration"] == "P9999Y"
    (interval,) = openadr3.intervals(document, timedelta(hours=24), BEGIN)
    assert interval.end == NOON + timedelta(hours=24)


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("ELECTRICITY_PRICE", "price", "PRICE"),
        ("ELECTRICITY_PRICE", "priceRelative", "ELECTRICITY_PRICE.priceRelative"),
        ("ELECTRICITY_PRICE", "priceMultiplier", "ELECTRICITY_PRICE.priceMultiplier"),
        ("SIMPLE", "level", "SIMPLE"),
        ("simple", "level", "SIMPLE"),
        ("LOAD_DISPATCH", "setpoint", "DISPATCH_SETPOINT"),
        ("LOAD_CONTROL", "x-loadControlCapacity", "LOAD_CONTROL.x-loadControlCapacity"),
        ("x-OWN", "level", "x-OWN"),
    ],
)
def test_payload_types(name, kind, expected):
    assert payload_type(name, kind) == expected


def test_an_energy_price_is_the_price_unless_the_whole_price_stands_beside_it():
    energy = signal([1], "ENERGY_PRICE")
    assert one(energy).documents[0]["payloadDescriptors"][0]["payloadType"] == "PRICE"
    both = one(energy, signal([2]))
    assert [d["payloadDescriptors"][0]["payloadType"] for d in both.documents] == [
        "ENERGY_PRICE.price",
        "PRICE",
    ]


def test_the_scale_is_applied():
    document = one(signal([5], "LOAD_DISPATCH", "setpoint", unit="powerReal", scale="k")).documents[
        0
    ]
    assert document["payloadDescriptors"][0]["units"] == "KW"
    assert document["intervals"][0]["payloads"][0]["values"] == [5]
    document = one(signal([1500], "LOAD_DISPATCH", "setpoint", unit="powerReal")).documents[0]
    assert document["intervals"][0]["payloads"][0]["values"] == [Decimal("1.5")]
    document = one(signal(["2"], scale="m")).documents[0]
    assert document["intervals"][0]["payloads"][0]["values"] == [Decimal("0.002")]


def test_priority_0_is_none_and_others_stay():
    assert "priority" not in one(levels([1]), priority=0).documents[0]
    assert one(levels([1]), priority=3).documents[0]["priority"] == 3


@pytest.mark.parametrize(
    ("said", "test"), [(None, False), ("false", False), ("true", True), ("yes", True)]
)
def test_whatever_is_not_false_is_a_test_event(said, test):
    assert one(levels([1]), test=said).origin.test is test


def test_our_own_ven_id_narrows_nothing():
    assert one(levels([1]), targets="<ei:venID>V1</ei:venID>").audiences == ((),)
    assert one(levels([1]), targets="<ei:venID>V2</ei:venID>").audiences == ((frozenset({"V2"}),),)
    narrowed = one(levels([1]), targets=TARGETS)
    assert narrowed.audiences == ((frozenset({"g1", "r1"}),),)
    assert narrowed.documents[0]["targets"] == ["g1", "r1"]


def test_a_target_at_the_signal_narrows_the_one_at_the_event():
    both = one(signal([1], target=CLASS), targets="<ei:groupID>g1</ei:groupID>")
    assert both.audiences == ((frozenset({"g1"}), frozenset({"thermostat"})),)
    assert both.documents[0]["targets"] == ["thermostat"]


@pytest.mark.parametrize("text", ["NaN", "INF", "-INF"])
def test_a_value_that_is_no_number_is_not_known(text):
    document = one(signal([text, "1"])).documents[0]
    assert [i["payloads"] for i in document["intervals"]] == [
        [],
        [{"type": "PRICE", "values": [1]}],
    ]


def test_the_original_message_is_kept():
    origin = one(levels([1]), extra=EXTRA).origin
    assert "x-eiRampUp" in origin.message
    assert (origin.ramp_up, origin.recovery) == (timedelta(minutes=5), timedelta(minutes=10))


def test_an_event_that_makes_no_sense_is_named_and_spoils_no_other():
    bad = event("BAD", NOON, levels([1]), duration="P99999999999D")
    found = listing(event("GOOD", NOON, levels([1])), bad)
    assert [d.origin.foreign_id for d in found.dispatches] == ["GOOD"]
    assert "event BAD cannot be read" in found.unreadable[0]


def test_a_listing_says_whose_it_is():
    found = read_listing(read_message(distribute(request_id="r9", vtn="v9").encode()).element)
    assert (found.request_id, found.vtn_id, found.dispatches) == ("r9", "v9", ())
