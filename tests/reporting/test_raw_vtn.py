"""Reports to a VTN that is written from the specification: what it is told, and when."""

from decimal import Decimal

import pytest
from pydantic import ValidationError

from bridge.notation import write_time
from bridge.sources import OpenADR2
from bridge.store.access import new_token
from bridge.store.files import beside
from tests.reporting.scene import HOUR, MINUTE, NOON, POLL, QUARTER, STATUS, USAGE, all_of, edges
from tests.reporting.upstream import (
    cancel,
    code,
    create,
    pending,
    wanted,
)
from tests.usage.calls import calling


async def test_what_can_be_reported_is_registered(scene):
    async with scene.bridge(USAGE, STATUS, {"resource": "A&B", "every": "1m"}):
        (said,) = scene.vtn.messages("oadrRegisterReport")
        kinds = [k for k, _ in scene.vtn.asked]
        assert kinds.index("oadrRegisterReport") < kinds.index("oadrRequestEvent")
    for name in ("TELEMETRY_USAGE", "HISTORY_USAGE", "TELEMETRY_STATUS"):
        assert said.count(f"<ei:reportName>METADATA_{name}</ei:reportName>") == 1
    assert said.count("<ei:rID>R</ei:rID>") == 3
    assert said.count("<ei:rID>A&amp;B</ei:rID>") == 2
    assert said.count("<oadr:oadrMinPeriod>PT1M</oadr:oadrMinPeriod>") == 2
    assert said.count("<ei:reportRequestID>0</ei:reportRequestID>") == 3


async def test_the_operator_sees_what_is_asked_for_and_how_far_it_is_told(scene):
    scene.vtn.wants = [wanted("one", "R", granularity="PT30M", back="PT1H")]
    async with scene.bridge(USAGE):
        await scene.measure(NOON - HOUR, range(8))
        await scene.passing(HOUR)
        with beside(scene.store.path) as db:
            token = new_token(db, "t", "read", NOON)
        async with calling(scene.found.addresses["admin"]) as call:
            call.tokens["t"] = token
            assert (await call().get("/api/v1/reports")).status == 401
            (one,) = (await call("t").get("/api/v1/reports")).items
            assert (await call("t").get("/api/v1/contracts")).items == []
            (meter,) = (await call("t").get("/api/v1/meters")).items
    assert meter["meter"] == "M"
    assert one == {
        "id": "one", "source": "utility", "report": "TELEMETRY_USAGE", "granularity": "PT30M",
        "every": "PT1H", "until": None, "told_to": {"R": write_time(NOON + HOUR)},
    }  # fmt: skip


async def test_telemetry_asked_for_at_registration_comes_by_the_quarter_hour(scene):
    scene.vtn.wants = [wanted("one", "R")]
    async with scene.bridge(USAGE):
        (created,) = scene.vtn.messages("oadrCreatedReport")
        assert (code(created), pending(created)) == ("200", ["one"])
        for n, value in enumerate(["0.125", "1.5", "0", "-0.25"]):
            await scene.measure(NOON + n * QUARTER, [value])
            await scene.passing(QUARTER)
        assert scene.vtn.values() == {
            start: [Decimal(value)]
            for start, value in zip(edges(NOON, 4), ["0.125", "1.5", "0", "-0.25"], strict=True)
        }
        assert {told.quality for told in scene.vtn.told} == {"Quality Good - Non Specific"}
        assert {told.length for told in scene.vtn.told} == {QUARTER}
        assert len(scene.vtn.updates) == 4
        assert scene.job.warning is None


async def test_what_is_not_known_is_waited_for_then_told_as_a_gap_then_told_late(scene):
    scene.vtn.wants = [wanted("one", "R")]
    async with scene.bridge(USAGE):
        await scene.passing(2 * QUARTER)
        assert scene.vtn.told == []  # both quarters may still come
        await scene.measure(NOON + QUARTER, [2])
        await scene.passing(QUARTER - MINUTE)
        assert scene.vtn.values() == {NOON + QUARTER: [2]}  # a hole keeps nothing waiting
        await scene.passing(2 * MINUTE)
        assert [(t.start, t.value, t.quality) for t in scene.vtn.told] == [
            (NOON + QUARTER, Decimal(2), "Quality Good - Non Specific"),
            (NOON, None, "No Quality - No Value"),
        ]
        await scene.measure(NOON, ["0.5"])
        await scene.passing(HOUR)
        assert scene.vtn.values()[NOON] == [None, Decimal("0.5")]
        assert scene.vtn.values()[NOON + QUARTER] == [2]


async def test_what_comes_in_time_was_never_a_gap(scene):
    scene.vtn.wants = [wanted("one", "R")]
    async with scene.bridge(USAGE):
        await scene.measure(NOON, [None, 2, None, 4, None, 6])
        await scene.passing(QUARTER * 2)
        await scene.measure(NOON, [1])
        await scene.passing(QUARTER * 2)
        await scene.measure(NOON + 2 * QUARTER, [3])
        await scene.passing(QUARTER * 2)
        await scene.measure(NOON + 4 * QUARTER, [5])
        await scene.passing(HOUR)
        found = scene.vtn.values()
        assert [found[start] for start in edges(NOON, 6)] == [[n] for n in range(1, 7)]


async def test_a_part_of_an_interval_is_no_value(scene):
    scene.vtn.wants = [wanted("one", "R", granularity="PT1H", back="PT1H")]
    async with scene.bridge(USAGE):
        await scene.measure(NOON, [1, 1, None, 1])
        await scene.passing(2 * HOUR)
        assert scene.vtn.values() == {NOON: [None]}
        await scene.measure(NOON + 2 * QUARTER, [1])
        await scene.passing(HOUR)
        assert scene.vtn.values()[NOON] == [None, 4]


async def test_intervals_that_no_reading_fills_are_told_as_gaps_and_said_once(scene, logged):
    scene.vtn.wants = [wanted("fine", "R", granularity="PT5M")]
    async with scene.bridge(USAGE):
        await scene.measure(NOON, [1] * 8)
        await scene.passing(2 * HOUR)
        assert set(map(tuple, scene.vtn.values().values())) == {(None,)}
        warnings = [e for e in logged if "no reading fills" in str(e.get("warning"))]
        assert len(warnings) == 1
        assert scene.job.warning is None


async def test_one_meter_that_lacks_does_not_keep_others_waiting_for_long(scene):
    scene.vtn.wants = [wanted("both", "R", "S")]
    async with scene.bridge(USAGE, {"resource": "S"}):
        await scene.measure(NOON, [1] * 8)
        await scene.passing(QUARTER + MINUTE)
        assert scene.vtn.values("R") == {NOON: [1]}
        assert scene.vtn.values("S") == {}
        await scene.measure(NOON, [5] * 8, meter="S")
        await scene.passing(HOUR)
        assert scene.vtn.values("R") == all_of(edges(NOON, 5), 1)
        assert scene.vtn.values("S") == all_of(edges(NOON, 5), 5)


async def test_several_reports_in_several_granularities(scene):
    scene.vtn.wants = [
        wanted("quarters", "R"),
        wanted("hours", "R", "S", granularity="PT1H", back="PT2H"),
        wanted("minutes", "S", granularity="PT1M", back="PT10M"),
    ]
    async with scene.bridge(USAGE, {"resource": "S", "every": "1m"}):
        await scene.measure(NOON, range(1, 30))
        await scene.measure(NOON, ["0.01"] * 300, meter="S", step=MINUTE)
        await scene.passing(4 * HOUR)
    vtn = scene.vtn
    assert vtn.values("R", "quarters") == {s: [n] for n, s in enumerate(edges(NOON, 16), 1)}
    assert vtn.values("R", "hours") == {NOON + n * HOUR: [4 * (4 * n) + 10] for n in range(4)}
    assert vtn.values("S", "hours") == all_of(edges(NOON, 4, HOUR), Decimal("0.6"))
    assert vtn.values("S", "minutes") == all_of(edges(NOON, 240, MINUTE), Decimal("0.01"))
    assert len([1 for _, xml in vtn.updates if ">hours<" in xml]) == 2


async def test_history_is_told_once(scene):
    async with scene.bridge(USAGE):
        begin = NOON - 200 * HOUR
        await scene.measure(begin, ["0.1"] * 100 + [None] * 4 + ["0.2"] * 696)
        request = wanted(
            "past", "R", specifier="history-usage", start=begin, length="P30D", back="PT0S"
        )
        scene.vtn.say = [create(request)] * 2
        await scene.passing(HOUR)
        assert [told.start for told in scene.vtn.told] == edges(begin, 800)
        values = [told.value for told in scene.vtn.told]
        assert values == [Decimal("0.1")] * 100 + [None] * 4 + [Decimal("0.2")] * 696
        assert {xml.count("<ei:interval>") for _, xml in scene.vtn.updates} == {500, 300}
        scene.vtn.say = [create(request, request_id="c")]  # the very same message: a repeat
        await scene.passing(HOUR)
        assert len(scene.vtn.updates) == 2
        scene.vtn.say = [create(request, request_id="d")]
        await scene.passing(HOUR)
        assert len(scene.vtn.updates) == 4


async def test_a_single_report_is_of_the_last_interval(scene):
    async with scene.bridge(USAGE):
        await scene.measure(NOON - HOUR, [1, 2, 3, 4, 5, 6])
        scene.vtn.say = [create(wanted("now", "R", back="PT0S"))]
        await scene.passing(HOUR)
        assert scene.vtn.values() == {NOON - QUARTER: [4]}


async def test_a_report_of_an_interval_ends_with_it(scene):
    async with scene.bridge(USAGE):
        await scene.measure(NOON, range(1, 40))
        request = wanted("one", "R", start=NOON + HOUR, length="PT1H", back="PT30M")
        scene.vtn.say = [create(request)]
        await scene.passing(5 * HOUR)
        assert scene.vtn.values() == {NOON + HOUR + n * QUARTER: [5 + n] for n in range(4)}
        assert len(scene.vtn.updates) == 2
        scene.vtn.say = [cancel("one")]
        await scene.passing(POLL)
        assert code(scene.vtn.messages("oadrCanceledReport")[-1]) == "452"


async def test_a_start_between_two_readings_is_that_of_its_interval(scene):
    async with scene.bridge(USAGE):
        await scene.measure(NOON - 2 * HOUR, range(1, 20))
        odd = NOON - HOUR - 7.5 * MINUTE
        scene.vtn.say = [create(wanted("one", "R", start=odd, back="PT1H"))]
        await scene.passing(POLL)
        assert min(scene.vtn.values()) == NOON - HOUR - QUARTER
        assert {told.quality for told in scene.vtn.told} == {"Quality Good - Non Specific"}


async def test_a_clock_that_is_set_back_tells_nothing_twice(scene):
    scene.vtn.wants = [wanted("one", "R")]
    async with scene.bridge(USAGE):
        await scene.measure(NOON, range(1, 40))
        await scene.passing(2 * HOUR)
        scene.clock.set(NOON + HOUR)
        await scene.settled()
        await scene.passing(2 * HOUR)
        assert scene.vtn.values() == {s: [n] for n, s in enumerate(edges(NOON, 12), 1)}


async def test_a_clock_that_is_set_forward_loses_nothing(scene):
    scene.vtn.wants = [wanted("one", "R")]
    async with scene.bridge(USAGE):
        await scene.passing(QUARTER)
        scene.clock.set(NOON + 6 * HOUR)  # and back again
        await scene.settled()
        await scene.passing(POLL)
        scene.clock.set(NOON + QUARTER)
        await scene.settled()
        await scene.measure(NOON, range(1, 40))
        await scene.passing(8 * HOUR)
    told = scene.vtn.values()
    assert list(told) == sorted(told)
    assert {start: values[-1] for start, values in told.items()} == {
        s: n for n, s in enumerate(edges(NOON, 33), 1)
    }
    assert all(len(values) <= 2 for values in told.values())


async def test_whether_a_meter_is_there(scene):
    scene.vtn.wants = [wanted("state", "R", specifier="telemetry-status")]
    async with scene.bridge(STATUS):
        await scene.live([1, 1, None, None, None, None, None, 1])
        found = scene.vtn.values()
        assert list(found) == edges(NOON, 8)
        assert [values for (values,) in found.values()] == (
            [True, True, True, True, False, False, False, True]
        )


@pytest.mark.parametrize(
    "about", [{"kind": "demand", "unit": "KW"}, {"unit": ""}, {"direction": "generation"}]
)
async def test_a_meter_is_there_whatever_it_measures(scene, about):
    scene.vtn.wants = [wanted("state", "R", specifier="telemetry-status")]
    async with scene.bridge(STATUS):
        await scene.live([1, None, None, None, None], **about)
        await scene.measure(NOON + HOUR, [1] * 9, kind="subscription_pre")  # nobody measures that
        await scene.live([None])
        states = [values for (values,) in scene.vtn.values().values()]
        assert states == [True, True, True, False, False, False]


async def test_states_are_told_of_an_outage_and_not_of_when_nobody_looked(scene):
    scene.vtn.wants = [wanted("state", "R", specifier="telemetry-status")]
    async with scene.bridge(STATUS):
        await scene.measure(NOON - HOUR, [1] * 60)
        await scene.passing(HOUR / 2)
        await scene.vtn.stop()
        scene.vtn.wants = []
        await scene.passing(HOUR)
    scene.clock.set(NOON + 3 * HOUR)
    await scene.back()
    async with scene.bridge(STATUS):
        await scene.passing(HOUR)
    found = scene.vtn.values()
    assert all(values == [True] for values in found.values())
    looked_after = [*edges(NOON, 6), *edges(NOON + 3 * HOUR - QUARTER, 5)]
    assert list(found) == looked_after


async def test_what_is_exported_may_be_told_beside_what_is_imported(scene):
    scene.vtn.wants = [wanted("one", "in", "out")]
    async with scene.bridge(
        {"resource": "in", "meter": "M"},
        {"resource": "out", "meter": "M", "direction": "export"},
    ):
        await scene.measure(NOON, [1])
        await scene.measure(NOON, [7], direction="export")
        await scene.passing(QUARTER)
        assert scene.vtn.values("in") == {NOON: [1]}
        assert scene.vtn.values("out") == {NOON: [7]}


@pytest.mark.parametrize(
    ("reports", "problem"),
    [
        ([USAGE, USAGE], "stands there twice"),
        ([{"resource": " R"}], "resource"),
        ([{"resource": ""}], "resource"),
        ([{"resource": "R", "every": "500ms"}], "whole seconds"),
        ([{"resource": "R", "kind": "other"}], "kind"),
    ],
)
def test_settings_that_make_no_sense(reports, problem):
    about = {"kind": "openadr2", "name": "u", "vtn_url": "http://x", "ven_name": "b"}
    with pytest.raises(ValidationError, match=problem):
        OpenADR2.model_validate({**about, "reports": reports})
