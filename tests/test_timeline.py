"""What holds at a moment, against an oracle that looks at everything, every time."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import timeline
from bridge.model import PRICE, SIMPLE, Audience, Event, Interval, Moment, Receiver, Track
from bridge.timeline import Silence

NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
DEVICE = Receiver("d", Audience())


def make(
    kind=SIMPLE,
    start=NOON,
    values=(1,),
    length=HOUR,
    priority=None,
    issued=1,
    name="e",
    gap=timedelta(0),
    **other,
):
    intervals = tuple(
        Interval(n, start + n * (length + gap), start + n * (length + gap) + length, {kind: v})
        for n, v in enumerate(values)
    )
    fields = _fields(intervals, kind, start, priority, issued, name)
    return Event(**{**fields, **other})


def _fields(intervals, kind, start, priority, issued, name):
    return {
        "id": f"{name}-{issued}", "program": "P", "source": "s", "name": name, "modification": 0,
        "priority": priority, "test": False, "start": start, "end": intervals[-1].end,
        "randomize": timedelta(0), "issued": issued, "opt": "optIn",
        "cancelled": False, "audiences": (), "intervals": intervals,
        "units": {kind: ("KWH", "USD")}, "document": "{}",
    }  # fmt: skip


def value(events, kind, at):
    found = timeline.holder(events, kind, at)
    return found.value if found else None


def test_the_lowest_priority_number_holds_and_absent_is_last():
    events = [
        make(values=[1], priority=None),
        make(values=[2], priority=5, issued=2),
        make(values=[3], priority=0, issued=3),
    ]
    assert value(events, SIMPLE, NOON) == 3
    assert value(events[:2], SIMPLE, NOON) == 2
    assert value(events[:1], SIMPLE, NOON) == 1


def test_the_later_start_then_the_newer_holds_and_the_loser_resumes():
    early = make(values=[1], length=3 * HOUR)
    late = make(values=[2], start=NOON + HOUR, issued=2)
    assert [value([early, late], SIMPLE, NOON + n * HOUR) for n in range(4)] == [1, 2, 1, None]
    assert value([make(values=[1]), make(values=[2], issued=2)], SIMPLE, NOON) == 2


def test_a_price_beside_a_level_and_negative_and_zero_prices():
    events = [make(PRICE, values=[Decimal("-0.01"), Decimal(0)]), make(values=[0], issued=2)]
    state = timeline.state(events, DEVICE, NOON, {})
    assert (state["price"], state["unit"], state["currency"], state["level"]) == (
        Decimal("-0.01"),
        "KWH",
        "USD",
        0,
    )
    assert state["next"] == {"at": NOON + HOUR, "price": Decimal(0), "level": None}
    assert timeline.state(events, DEVICE, NOON + HOUR, {})["price"] == 0


def test_nothing_known_is_said_as_nothing():
    state = timeline.state([], DEVICE, NOON, {})
    assert {k for k, v in state.items() if v is not None} == {
        "as_of",
        "stale",
        "test",
        "valid_until",
    }
    assert state["valid_until"] == NOON + 15 * MINUTE


def test_a_gap_between_intervals_holds_nothing():
    event = make(PRICE, values=[Decimal(1), Decimal(2)], gap=HOUR)
    assert [value([event], PRICE, NOON + n * HOUR) for n in range(4)] == [1, None, 2, None]
    assert timeline.next_change([event], NOON) == NOON + HOUR
    assert [m.kind for m in timeline.moments(event, ())] == [
        "started",
        "interval",
        "gap",
        "interval",
        "ended",
    ]


def test_moments_are_in_order():
    event = make(values=[1, 2])
    found = timeline.moments(event, {10 * MINUTE, timedelta(0)})
    assert found == [
        Moment("upcoming", NOON - 10 * MINUTE, lead=10 * MINUTE),
        Moment("started", NOON),
        Moment("interval", NOON, 0),
        Moment("interval", NOON + HOUR, 1),
        Moment("ended", NOON + 2 * HOUR),
    ]


def fired(
    event, since, now, *, started=False, fresh=True, leads=(10 * MINUTE,), offset=timedelta(0)
):
    found = timeline.fire(Track(event, "", offset, started, since, fresh), now, leads)
    return [(m.kind, m.interval) for m in found.due], found


def test_an_event_learnt_ahead_fires_each_moment_in_its_time():
    event = make(values=[1, 2])
    kinds, found = fired(event, NOON - HOUR, NOON - HOUR)
    assert (kinds, found.next_at) == ([], NOON - 10 * MINUTE)
    kinds, found = fired(event, NOON - HOUR, NOON, fresh=False)
    assert kinds == [("upcoming", None), ("started", None), ("interval", 0)]
    assert (found.started, found.next_at) == (True, NOON + HOUR)


def test_an_event_learnt_late_starts_at_once_with_the_interval_it_is_in():
    event = make(values=[1, 2, 3])
    assert fired(event, NOON + HOUR + MINUTE, NOON + HOUR + MINUTE)[0] == [
        ("started", None),
        ("interval", 1),
    ]
    assert fired(event, NOON - MINUTE, NOON - MINUTE)[0] == [("upcoming", None)]
    assert fired(event, NOON + 9 * HOUR, NOON + 9 * HOUR)[0] == []


def test_a_change_to_a_started_event_does_not_start_it_again():
    event = make(values=[1, 2, 3])
    assert fired(event, NOON + MINUTE, NOON + MINUTE, started=True)[0] == []
    assert fired(event, NOON + MINUTE, NOON + HOUR, started=True)[0] == [("interval", 1)]


def test_what_was_missed_while_away_fires_in_order():
    kinds, found = fired(make(values=[1, 2, 3]), NOON - HOUR, NOON + 5 * HOUR, fresh=False)
    assert kinds == [
        ("upcoming", None),
        ("started", None),
        ("interval", 0),
        ("interval", 1),
        ("interval", 2),
        ("ended", None),
    ]
    assert found.next_at is None


def test_a_drawn_start_moves_the_whole_event():
    kinds, found = fired(
        make(values=[1]), NOON - HOUR, NOON + MINUTE, fresh=False, offset=5 * MINUTE
    )
    assert kinds == [("upcoming", None)]
    assert found.next_at == NOON + 5 * MINUTE


@pytest.mark.parametrize(("on_stale", "level"), [("normal", None), ("hold", 2)])
def test_a_silent_source_begins_no_dispatch_where_on_stale_is_normal(on_stale, level):
    events = [
        make(values=[1], length=HOUR, issued=1),
        make(values=[2], start=NOON + 2 * HOUR, issued=2),
        make(PRICE, start=NOON + 2 * HOUR, values=[Decimal(1)], issued=3),
    ]
    device = replace(DEVICE, on_stale=on_stale)
    silent = {"s": Silence("s", NOON + MINUTE)}
    begun = timeline.state(events, device, NOON + 30 * MINUTE, silent)
    assert (begun["level"], begun["stale"]) == (1, True)  # it runs to its end
    later = timeline.state(events, device, NOON + 2 * HOUR, silent)
    assert (later["level"], later["price"], later["stale"]) == (level, 1, True)


def oracle(events, kind, at):
    """Look at every interval of every event."""
    found = []
    for e in events:
        for i in e.intervals:
            if i.start <= at < i.end and e.start <= at < e.end and kind in i.values:
                priority = e.priority if e.priority is not None else 10**9
                found.append((priority, -i.start.timestamp(), -e.issued, i.values[kind]))
    return min(found)[3] if found else None


EVENTS = st.lists(
    st.builds(
        lambda kind, start, values, length, priority, gap: (
            kind,
            start,
            values,
            length,
            priority,
            gap,
        ),
        st.sampled_from([PRICE, SIMPLE]),
        st.integers(-300, 300),
        st.lists(st.integers(-3, 3), min_size=1, max_size=5),
        st.integers(1, 200),
        st.none() | st.integers(0, 3),
        st.sampled_from([0, 0, 7]),
    ),
    max_size=7,
)


@settings(max_examples=300, deadline=None)
@given(EVENTS)
def test_the_state_is_right_at_every_instant(plans):
    events = [
        make(k, NOON + s * MINUTE, v, n * MINUTE, p, issued=i, gap=g * MINUTE)
        for i, (k, s, v, n, p, g) in enumerate(plans)
    ]
    edges = sorted({t for e in events for i in e.intervals for t in (i.start, i.end)})
    for at in edges:
        for instant in (at - timedelta(microseconds=1), at):
            state = timeline.state(events, DEVICE, instant, {})
            now = (oracle(events, PRICE, instant), oracle(events, SIMPLE, instant))
            assert (state["price"], state["level"]) == now
            until = state["until"]
            for between in (t for t in edges if instant < t and (until is None or t < until)):
                assert (oracle(events, PRICE, between), oracle(events, SIMPLE, between)) == now
            if until:
                then = (oracle(events, PRICE, until), oracle(events, SIMPLE, until))
                assert (state["next"]["price"], state["next"]["level"]) == then


def test_a_price_holds_beside_finer_values_of_another_kind():
    whole = Interval(0, NOON, NOON + HOUR, {PRICE: Decimal("0.3")})
    finer = [
        Interval(n + 1, NOON + n * HOUR / 4, NOON + (n + 1) * HOUR / 4, {"EXPORT_PRICE": n})
        for n in range(4)
    ]
    one = make(
        end=NOON + HOUR,
        intervals=(whole, *finer),
        units={PRICE: (None, None), "EXPORT_PRICE": (None, None)},
    )
    for minutes in range(0, 60, 5):
        found = timeline.holder([one], PRICE, NOON + timedelta(minutes=minutes))
        assert found.value == Decimal("0.3")
    assert timeline.holder([one], PRICE, NOON + HOUR) is None


def test_a_device_in_a_group_and_one_outside():
    inside = Audience(("EV*",), frozenset({"g1"}), test_events=False)
    assert inside.includes("EV2A", (), test=False)
    assert inside.includes("EV2A", (frozenset({"g1", "g2"}),), test=False)
    assert not inside.includes("EV2A", (frozenset({"g2"}),), test=False)
    assert not inside.includes("EV2A", (frozenset({"g1"}), frozenset({"thermostat"})), test=False)
    assert not inside.includes("TOU", (), test=False)
    assert not inside.includes("EV2A", (), test=True)
