"""What OpenADR 3.1 says, as OpenADR 2.0b says it: read back, it is the same."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from bridge.model import Event
from bridge.notation import from_json, read_duration, to_json, write_duration, write_time
from bridge.wire import openadr3, openleadr
from bridge.wire.openadr2 import read_event
from bridge.wire.openadr2_offers import canonical, offered
from bridge.wire.openadr2_translated import Mains, context_of, signal_of, translate
from bridge.wire.openadr2_writer import write_event
from tests.peers import distribute, event, levels, signal

NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
LONGEST = timedelta(days=366)


def of(*intervals, units=None, **about):
    """Return an event whose intervals are (hours after noon, hours, {type: values})."""
    document = {
        "id": "E1",
        "objectType": "EVENT",
        "createdDateTime": "2027-02-28T00:00:00Z",
        "modificationDateTime": "2027-02-28T01:00:00Z",
        "programID": "P",
        "intervals": [
            {"id": n, "intervalPeriod": {"start": write_time(NOON + begin * HOUR), "duration": length if isinstance(length, str) else write_duration(length * HOUR)},
             "payloads": [{"type": k, "values": v if isinstance(v, list) else [v]} for k, v in said.items()]}
            for n, (begin, length, said) in enumerate(intervals)
        ],
        **about,
    }  # fmt: skip
    document = from_json(to_json(document))
    start, end = openadr3.span(document, LONGEST, NOON)
    found = openadr3.intervals(document, LONGEST, NOON)
    return Event(
        id="E1", program="EV2A", source="vtn", name="n", modification=0,
        priority=document.get("priority"), test=False, start=start, end=end or start + LONGEST,
        randomize=openadr3.randomization(document), issued=1, opt="optIn", cancelled=False,
        audiences=tuple(frozenset(a) for a in [document.get("targets")] if a),
        intervals=tuple(sorted(found, key=lambda i: i.start)),
        units=openadr3.units(document) | (units or {}), document=to_json(document),
    ), end is None  # fmt: skip


def said(event_and_end, mains=None):
    """Return the 2.0b events as (id, start, end, {(name, type): [(hours, value)]}), read back."""
    event, endless = event_and_end
    found = []
    for dispatch in translate(event, endless=endless, mains=mains or Mains()):
        text = etree.tostring(write_event(dispatch)).decode()
        element = openleadr.read_message(distribute(text).encode()).element  # by the schema
        again = read_event(element.find("{*}oadrEvent"))
        signals = {}
        for about, document in zip(again.origin.signals, again.documents, strict=True):
            signals[about.name, about.type] = [
                (read_duration(i["intervalPeriod"]["duration"]) / HOUR if i["intervalPeriod"]["duration"] != "P9999Y" else None,
                 i["payloads"][0]["values"][0])
                for i in document["intervals"]
            ]  # fmt: skip
        found.append(
            (again.origin.foreign_id, again.origin.active_from, again.origin.active_to, signals)
        )
    return found


def test_prices_become_a_signal_with_their_unit():
    prices = of((0, 1, {"PRICE": Decimal("0.123456")}), (1, 1, {"PRICE": Decimal("-0.01")}),
                units={"PRICE": ("KWH", "USD")})  # fmt: skip
    assert said(prices) == [
        ("E1", NOON, NOON + 2 * HOUR, {("ELECTRICITY_PRICE", "price"): [(1, Decimal("0.123456")), (1, Decimal("-0.01"))]})
    ]  # fmt: skip
    (dispatch,) = translate(prices[0], endless=False)
    item = dispatch.origin.signals[0].item
    assert "currencyPerKWh" in item
    assert ">USD<" in item


@pytest.mark.parametrize(
    ("unit", "currency", "item"),
    [("KW", "EUR", "currencyPerKW"), ("THERMS", "USD", "currencyPerThm"), (None, "USD", "currency"),
     ("GALLONS", "USD", None), ("KWH", None, None)],
)  # fmt: skip
def test_what_a_price_is_per_is_said_where_2_0b_can(unit, currency, item):
    prices = of((0, 1, {"PRICE": 1}), units={"PRICE": (unit, currency)})
    assert said(prices)
    (dispatch,) = translate(prices[0], endless=False)
    found = dispatch.origin.signals[0].item
    assert (etree.QName(etree.fromstring(found)).localname if found else None) == item


@pytest.mark.parametrize("unit", ["KW", "KVA", "KVAR", "KWH", "KVAH", "KVARH", "VOLTS", "AMPS", "THERMS", "CELSIUS", "FAHRENHEIT", "PERCENT"])  # fmt: skip
def test_a_setpoint_keeps_its_amount_and_unit(unit):
    kind = "CHARGE_STATE_SETPOINT" if unit == "PERCENT" else "DISPATCH_SETPOINT"
    value = of((0, 1, {kind: Decimal("2.5")}), units={kind: (unit, None)})
    (event, endless), mains = value, Mains(Decimal(50), Decimal(230))
    (dispatch,) = translate(event, endless=endless, mains=mains)
    text = etree.tostring(write_event(dispatch)).decode()
    again = read_event(openleadr.read_message(distribute(text).encode()).element[2 + 1])
    assert again.documents[0]["intervals"][0]["payloads"][0]["values"] == [Decimal("2.5")]
    assert again.documents[0]["payloadDescriptors"][0]["units"] == unit
    assert (":hertz>50<" in text and ":voltage>230<" in text) or ":hertz" not in text


def test_two_payload_types_are_two_signals_of_one_event():
    both = {"PRICE": Decimal("0.5"), "SIMPLE": 2}
    assert said(of((0, 1, both), (1, 2, both))) == [
        ("E1", NOON, NOON + 3 * HOUR, {
            ("ELECTRICITY_PRICE", "price"): [(1, Decimal("0.5")), (2, Decimal("0.5"))],
            ("SIMPLE", "level"): [(1, 2), (2, 2)],
        })
    ]  # fmt: skip


def test_an_event_with_a_gap_becomes_two():
    found = said(of((0, 1, {"PRICE": 1}), (3, 1, {"PRICE": 2})))
    assert [(f[0], f[1], f[2]) for f in found] == [
        ("E1", NOON, NOON + HOUR), ("E1.2", NOON + 3 * HOUR, NOON + 4 * HOUR),
    ]  # fmt: skip


def test_a_type_that_comes_and_goes_splits_the_event():
    found = said(of((0, 1, {"PRICE": 1}), (1, 1, {"PRICE": 1, "SIMPLE": 1}), (2, 1, {"PRICE": 1})))
    assert [sorted(f[3]) for f in found] == [
        [("ELECTRICITY_PRICE", "price")],
        [("ELECTRICITY_PRICE", "price"), ("SIMPLE", "level")],
        [("ELECTRICITY_PRICE", "price")],
    ]  # fmt: skip


def test_an_interval_over_another_ends_when_the_other_begins():
    assert said(of((0, 3, {"PRICE": 1}), (1, 1, {"PRICE": 2})))[0][3] == {
        ("ELECTRICITY_PRICE", "price"): [(1, 1), (1, 2)]
    }


def test_an_endless_event_lasts_for_ever():
    assert said(of((0, 1, {"SIMPLE": 1}), (1, "P9999Y", {"SIMPLE": 2}))) == [
        ("E1", NOON, None, {("SIMPLE", "level"): [(1, 1), (None, 2)]})
    ]


@pytest.mark.parametrize("value", ["text", True, 4, -1, Decimal("1.5")])
def test_what_is_no_level_is_not_said(value):
    assert said(of((0, 1, {"SIMPLE": value}), (1, 1, {"SIMPLE": 3})))[0][1] == NOON + HOUR


def test_what_is_no_number_is_not_said_at_all():
    assert said(of((0, 1, {"ALERT_GRID_EMERGENCY": "now"}))) == []
    assert said(of()) == []


@pytest.mark.parametrize(
    ("kind", "signal_name"),
    [("PRICE", ("ELECTRICITY_PRICE", "price")), ("ELECTRICITY_PRICE.priceRelative", ("ELECTRICITY_PRICE", "priceRelative")),
     ("EXPORT_PRICE", ("x-EXPORT_PRICE", "price")), ("GHG", ("x-GHG", "setpoint")), ("x-own", ("x-own", "setpoint")),
     ("DISPATCH_SETPOINT", ("LOAD_DISPATCH", "setpoint")), ("LOAD_CONTROL.x-loadControlSetpoint", ("LOAD_CONTROL", "x-loadControlSetpoint")),
     ("OTHER.thing", ("x-OTHER.thing", "setpoint"))],
)  # fmt: skip
def test_names_of_signals(kind, signal_name):
    assert signal_of(kind) == signal_name
    assert said(of((0, 1, {kind: 1})))


@pytest.mark.parametrize(("priority", "theirs"), [(None, 0), (0, 1), (1, 1), (7, 7)])
def test_priority_counts_the_other_way_round_at_one_point(priority, theirs):
    about = {} if priority is None else {"priority": priority}
    (dispatch,) = translate(of((0, 1, {"SIMPLE": 1}), **about)[0], endless=False)
    assert dispatch.origin.priority == theirs


def test_a_drawn_start_and_a_name_are_passed_on():
    event, _ = of((0, 1, {"SIMPLE": 1}), eventName="peak & more",
                  intervalPeriod={"start": write_time(NOON), "randomizeStart": "PT5M"})  # fmt: skip
    (dispatch,) = translate(event, endless=False)
    assert (dispatch.origin.start_after, dispatch.origin.comment) == (
        timedelta(minutes=5),
        "peak & more",
    )


def test_a_program_name_is_a_context():
    assert context_of("EELEC-0135") == "EELEC-0135"
    assert context_of("TOU-PRIME-Eagle Rock") == "TOU-PRIME-Eagle%20Rock"


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(1, 5), st.dictionaries(
            st.sampled_from(["PRICE", "SIMPLE", "GHG", "EXPORT_PRICE"]),
            st.one_of(st.integers(-2, 5), st.decimals(-9, 9, places=4)), min_size=1)),
        min_size=1, max_size=12,
    )
)  # fmt: skip
def test_whatever_is_said_holds_when_and_as_it_did(intervals):
    event, _ = of(*sorted(intervals, key=lambda i: i[0]))
    expected = {}
    ordered = list(event.intervals)
    for n, i in enumerate(ordered):
        end = min(i.end, ordered[n + 1].start) if n + 1 < len(ordered) else i.end
        at = i.start
        while at < end:
            for kind, value in i.values.items():
                if kind != "SIMPLE" or value in range(4):
                    expected[at, signal_of(kind)] = value
            at += HOUR
    found = {}
    for _, start, end, signals in said((event, False)):
        for name, held in signals.items():
            at = start
            for hours, value in held:
                for _ in range(int(hours)):
                    assert (at, name) not in found
                    found[at, name] = value
                    at += HOUR
            assert at == end
    assert found == expected


# --- as a VEN is shown it ----------------------------------------------------------------------


def shown(xml, at, **about):
    known = {"event": "E", "modification": 3, "cancelled": False, "signals": [0], "ven": "V1",
             "groups": [], "resources": [], "aimed": []}  # fmt: skip
    text, until = offered(canonical(inner(xml)), at, **known | about)
    return openleadr.read_message(distribute(text.decode()).encode()).element[3], until


def inner(xml):
    return etree.tostring(openleadr.read_message(distribute(xml).encode()).element[3]).decode()


def text(element, path):
    return element.findtext(f".//{{*}}{path}").strip()


RAMP = "<ei:x-eiRampUp><xcal:duration>PT10M</xcal:duration></ei:x-eiRampUp>"


@pytest.mark.parametrize(
    ("minutes", "status", "current", "until"),
    [(-30, "far", "0.0", -10), (-10, "near", "0.0", 0), (0, "active", "1", 60), (59, "active", "1", 60),
     (60, "active", "2", 120), (120, "completed", "0.0", None)],
)  # fmt: skip
def test_status_and_current_value_follow_the_clock(minutes, status, current, until):
    xml = event("E", NOON, levels([1, 2]), duration="PT2H", extra=RAMP)
    found, holds = shown(xml, NOON + timedelta(minutes=minutes))
    assert (text(found, "eventStatus"), text(found, "currentValue/{*}payloadFloat/{*}value")) == (
        status,
        current,
    )
    assert holds == (None if until is None else NOON + timedelta(minutes=until))
    assert text(found, "modificationNumber") == "3"


def test_an_open_ended_event_stays_active():
    found, until = shown(
        event("E", NOON, levels([2], length="PT0S"), duration="PT0S"), NOON + 99 * HOUR
    )
    assert (text(found, "eventStatus"), until) == ("active", None)
    assert text(found, "currentValue/{*}payloadFloat/{*}value") == "2"


def test_a_cancelled_event_says_so():
    found, until = shown(event("E", NOON, levels([1])), NOON, cancelled=True)
    assert (text(found, "eventStatus"), until) == ("cancelled", None)


def test_only_own_targets_are_shown():
    targets = (
        "<ei:groupID>north</ei:groupID><ei:groupID>south</ei:groupID><ei:resourceID>r1</ei:resourceID>"
        "<ei:resourceID>r2</ei:resourceID><ei:venID>BRIDGE-UPSTREAM</ei:venID>"
    )
    xml = event("E", NOON, levels([1]), targets=targets)
    aimed = {"north", "south", "r1", "r2"}
    found, _ = shown(xml, NOON, groups=["north"], resources=["r2"], aimed=aimed)
    target = found.find("{*}eiEvent/{*}eiTarget")
    assert [(etree.QName(c).localname, c.text) for c in target] == [
        ("groupID", "north"),
        ("resourceID", "r2"),
    ]
    found, _ = shown(xml, NOON, aimed=aimed)
    assert [(etree.QName(c).localname, c.text) for c in found.find("{*}eiEvent/{*}eiTarget")] == [
        ("venID", "V1")
    ]


def test_targets_of_a_3_1_event_are_groups_or_resources_as_the_ven_has_them():
    ((event_, endless), names) = of((0, 1, {"SIMPLE": 1}), targets=["north", "r2"]), {"north", "r2"}
    (dispatch,) = translate(event_, endless=endless)
    xml = etree.tostring(write_event(dispatch)).decode()
    found, _ = shown(xml, NOON, groups=["north", "x"], resources=["r2"], aimed=names)
    assert [(etree.QName(c).localname, c.text) for c in found.find("{*}eiEvent/{*}eiTarget")] == [
        ("groupID", "north"), ("resourceID", "r2"),
    ]  # fmt: skip


def test_signals_that_do_not_concern_a_ven_are_left_out():
    xml = event("E", NOON, signal([1]), levels([2]))
    found, _ = shown(xml, NOON, signals=[1])
    assert [s.findtext("{*}signalName") for s in found.iter("{*}eiEventSignal")] == ["SIMPLE"]


def test_what_came_passes_through_as_it_came():
    values = ["0.10", "-0.05", "1e-05", "0.30000000000000004"]
    xml = event(
        "E-7", NOON, signal(values), duration="PT4H", priority=2, start_after="PT5M", extra=RAMP
    )
    found, _ = shown(xml, NOON - HOUR, event="E-7", modification=0)
    before, after = (read_event(e, "V1") for e in (etree.fromstring(inner(xml)), found))
    assert [
        v.text for v in found.iterfind(".//{*}signalPayload/{*}payloadFloat/{*}value")
    ] == values
    from dataclasses import replace

    drop = {"targets": (), "target_xml": None, "message": "", "status": ""}
    assert replace(before.origin, **drop) == replace(after.origin, **drop)
    assert before.documents == after.documents
