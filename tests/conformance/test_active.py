"""`active=true` leaves out events that have transpired (User Guide, 7.3)."""

import pytest

from tests.conformance.bodies import BEGINNING, FOREVER, intervals, moment, payload


def period(start, duration="PT1H"):
    return {"start": start, "duration": duration}


def each(*periods):
    return [
        {"id": n, "intervalPeriod": given, "payloads": [payload(1)]}
        for n, given in enumerate(periods)
    ]


TRANSPIRED = {
    "an hour, two days ago": {"intervalPeriod": period(moment(days=-2))},
    "three hours, until an hour ago": {
        "intervalPeriod": period(moment(hours=-4)), "intervals": intervals(1, 2, 3)
    },
    "each interval on its own": {"intervalPeriod": None, "intervals": each(
        period(moment(hours=-9)), period(moment(hours=-5))
    )},
    "cut short by its own duration": {
        "intervalPeriod": period(moment(hours=-4)), "intervals": intervals(*range(24)),
        "duration": "PT2H",
    },
    "cancelled": {"intervalPeriod": period(BEGINNING, "PT0S")},
}  # fmt: skip
NOT_TRANSPIRED = {
    "now": {"intervalPeriod": period(moment(minutes=-30))},
    "the second of two hours": {
        "intervalPeriod": period(moment(minutes=-90)), "intervals": intervals(1, 2)
    },
    "tomorrow": {"intervalPeriod": period(moment(days=1))},
    "for ever": {"intervalPeriod": period(BEGINNING, FOREVER)},
    "since long ago, for ever": {"intervalPeriod": period("2020-01-01T00:00:00Z", FOREVER)},
    "looped by its own duration": {
        "intervalPeriod": period(moment(days=-2)), "intervals": intervals(1, 2), "duration": FOREVER
    },
    "a past interval and one to come": {"intervalPeriod": None, "intervals": each(
        period(moment(hours=-9)), period(moment(hours=3))
    )},
    "a longer interval than the others": {
        "intervalPeriod": period(moment(hours=-2)),
        "intervals": [*intervals(1), *each({"duration": "PT3H"})],
    },
    "in another zone": {"intervalPeriod": period("2099-01-01T00:00:00-10:00")},
}  # fmt: skip


@pytest.mark.parametrize("about", TRANSPIRED)
async def test_a_transpired_event_is_not_active(about, ven1, make):
    made = await make.event(**TRANSPIRED[about])
    assert await ven1.ids("/events", programID=made["programID"], active=True) == set()


@pytest.mark.parametrize("about", NOT_TRANSPIRED)
async def test_current_and_future_events_are_active(about, ven1, make):
    made = await make.event(**NOT_TRANSPIRED[about])
    assert await ven1.ids("/events", programID=made["programID"], active=True) == {made["id"]}


async def test_an_event_without_any_time_does_not_transpire(bl, make):
    program = await make.program()
    made = await make.made(bl, "events", {"programID": program["id"]})
    assert await bl.ids("/events", programID=program["id"], active=True) == {made["id"]}


@pytest.mark.parametrize("query", [{}, {"active": False}])
async def test_transpired_events_are_listed_unless_asked_otherwise(query, bl, ven1, make):
    made = await make.event(intervalPeriod=period(moment(days=-2)))
    for client in (bl, ven1):
        assert await client.ids("/events", programID=made["programID"], **query) == {made["id"]}


async def test_pages_are_of_what_is_active(bl, make):
    """What is filtered out does not fill a page."""
    program = await make.program()
    await make.event(program, intervalPeriod=period(moment(days=-2)))
    made = await make.event(program)
    found = await bl.get("/events", programID=program["id"], active=True, limit=1)
    assert [e["id"] for e in found.json] == [made["id"]]
