"""What BL said is what VENs read: nothing rounded, nothing rewritten (User Guide, 7.3, 8)."""

import json
from decimal import Decimal

import pytest

from tests.conformance.bodies import BEGINNING, FOREVER, event, intervals, name, payload


@pytest.mark.parametrize("start", [BEGINNING, "0001-01-01T00:00:00", "0001-01-01"])
async def test_now_stays_now(start, ven1, make):
    """ "A start of "0001-01-01" or "0001-01-01T00:00:00" may indicate 'now'"."""
    period = {"start": start, "duration": FOREVER}
    made = await make.event(intervalPeriod=period)
    assert (await ven1.get(f"/events/{made['id']}")).json["intervalPeriod"] == period


@pytest.mark.parametrize(
    "duration", [FOREVER, "PT1H", "P1D", "PT90M", "P1Y2M", "P2W", "-PT5M", "PT0.5S"]
)
async def test_a_duration_stays_as_it_was_written(duration, ven1, make):
    period = {"start": "2031-01-01T00:00:00Z", "duration": duration, "randomizeStart": "PT5M"}
    made = await make.event(duration=duration, intervals=[
        {"id": 0, "intervalPeriod": period, "payloads": [payload(1)]},
    ])  # fmt: skip
    found = (await ven1.get(f"/events/{made['id']}")).json
    assert found["duration"] == duration
    assert found["intervals"][0]["intervalPeriod"] == period


async def test_a_period_may_be_a_duration_alone(ven1, make):
    made = await make.event(intervalPeriod={"duration": "PT1H"})
    assert (await ven1.get(f"/events/{made['id']}")).json["intervalPeriod"] == {"duration": "PT1H"}


@pytest.mark.parametrize("number", ["0.10", "0.15", "0.125", "-0.0471", "0", "17", "1234567.891"])
async def test_a_number_stays_what_it_was(number, bl, ven1, make):
    assert await read_back(number, bl, ven1, make) == Decimal(number)


async def test_a_number_stays_what_it_was_beyond_doubles(vtn, bl, ven1, make):
    if not vtn.profile.exact_decimals:
        pytest.skip("this VTN keeps doubles")
    number = "0.123456789012345678"
    assert await read_back(number, bl, ven1, make) == Decimal(number)


async def read_back(number, bl, ven1, make):
    """Return what a VEN reads where BL wrote a number, digit for digit."""
    program = await make.program()
    body = json.dumps(event(program["id"], intervals=intervals("NUMBER")))
    made = await make.made(bl, "events", body.replace('"NUMBER"', number))
    found = await ven1.get(f"/events/{made['id']}")
    (value,) = found.exact["intervals"][0]["payloads"][0]["values"]
    assert type(value) in {int, Decimal}
    return value


@pytest.mark.parametrize("values", [
    pytest.param([0.17, 0.03, 0.11], id="sub-intervals"),
    pytest.param([{"x": 1.0, "y": 0.1}, {"x": 2.5, "y": -0.2}], id="CURVE"),
    pytest.param([True, False], id="truths"),
    pytest.param(["text", ""], id="texts"),
    pytest.param([1, "1", True, 1.5], id="mixed"),
    pytest.param([], id="none"),
])  # fmt: skip
async def test_values_come_back_as_they_were(values, ven1, make):
    payloads = [payload(*values, kind="CURVE")]
    made = await make.event(intervals=[{"id": 7, "payloads": payloads}])
    (found,) = (await ven1.get(f"/events/{made['id']}")).json["intervals"]
    assert (found["id"], json.dumps(found["payloads"])) == (7, json.dumps(payloads))


async def test_interval_ids_are_the_clients_own(ven1, make):
    """The YAML: "A client generated number assigned an interval object. Not a sequence number"."""
    made = await make.event(intervals=[{"id": n, "payloads": []} for n in (5, 5, -1, 0)])
    found = (await ven1.get(f"/events/{made['id']}")).json["intervals"]
    assert [i["id"] for i in found] == [5, 5, -1, 0]


async def test_an_event_may_have_no_intervals(bl, ven1, make):
    program = await make.program()
    made = await make.made(bl, "events", {"programID": program["id"], "eventName": "bare"})
    found = await ven1.get(f"/events/{made['id']}")
    assert (found.status, found.json["eventName"]) == (200, "bare")
    assert not found.json.get("intervals")


async def test_an_event_may_only_ask_for_reports(ven1, make):
    """User Guide 7.5, report-only events."""
    asked = {
        "payloadType": "USAGE",
        "readingType": "DIRECT_READ",
        "startInterval": 0,
        "numIntervals": 24,
        "historical": False,
        "frequency": 1,
        "repeat": -1,
        "reportIntervals": "SUB_INTERVALS",
    }
    made = await make.event(reportDescriptors=[asked], intervals=[{"id": 0, "payloads": []}])
    found = (await ven1.get(f"/events/{made['id']}")).json
    assert found["intervals"] == [{"id": 0, "payloads": []}]
    (descriptor,) = found["reportDescriptors"]
    assert {key: descriptor[key] for key in asked} == asked


async def test_an_events_own_descriptors_come_back(ven1, make):
    described = {
        "objectType": "EVENT_PAYLOAD_DESCRIPTOR",
        "payloadType": "X",
        "units": "a private unit",
    }
    made = await make.event(payloadDescriptors=[described], priority=0)
    found = (await ven1.get(f"/events/{made['id']}")).json
    assert found["priority"] == 0
    assert {key: found["payloadDescriptors"][0][key] for key in described} == described


async def test_attributes_come_back(ven1, make):
    attributes = [
        payload(True, kind="LOCAL"),
        payload("US", kind="COUNTRY"),
        payload(1, 2, kind="MINE"),
    ]
    made = await make.program(attributes=attributes)
    assert (await ven1.get(f"/programs/{made['id']}")).json["attributes"] == attributes


async def test_a_report_comes_back(bl, ven1, make):
    """User Guide 7.7, 7.8: a reading, and how good it is."""
    period = {"start": "2026-06-15T09:30:00Z", "duration": "PT1H"}
    payloads = [payload(0.17, 0.18, kind="USAGE"), payload("OK", "ESTIMATED", kind="DATA_QUALITY")]
    resources = [{
        "resourceName": "AGGREGATED_REPORT",
        "intervalPeriod": period,
        "intervals": [{"id": 0, "intervalPeriod": period, "payloads": payloads}],
    }]  # fmt: skip
    described = {"objectType": "REPORT_PAYLOAD_DESCRIPTOR", "payloadType": "USAGE", "units": "KWH",
                 "readingType": "DIRECT_READ", "accuracy": 0.5, "confidence": 100}  # fmt: skip
    made = await make.report(
        ven1, reportName=name("report"), resources=resources, payloadDescriptors=[described]
    )
    found = (await bl.get(f"/reports/{made['id']}")).json
    assert found["resources"] == resources
    assert {key: found["payloadDescriptors"][0][key] for key in described} == described
