"""Events: BL writes them into a program, VENs read them (Appendix A: E)."""

from tests.conformance.bodies import UNKNOWN, event, intervals, moment, payload


async def test_bl_creates_an_event_with_a_start_alone(make):
    """E1."""
    made = await make.event(intervalPeriod={"start": moment()}, intervals=intervals(1.5))
    assert made["id"]


async def test_a_ven_creates_no_event(ven1, make):
    """E2."""
    program = await make.program()
    assert (await make.asked(ven1, "events", event(program["id"]))).status == 403


async def test_an_event_needs_a_program_that_exists(bl, make):
    """E3: 400 by the reference implementation, 409 by the YAML's foreign key constraint."""
    assert (await make.asked(bl, "events", event(UNKNOWN))).status in {400, 409}


async def test_an_event_does_not_move_to_a_program_that_does_not_exist(bl, make):
    made = await make.event()
    assert (await bl.put(f"/events/{made['id']}", event(UNKNOWN))).status in {400, 409}
    assert (await bl.get(f"/events/{made['id']}")).json["programID"] == made["programID"]


async def test_bl_lists_events(bl, make):
    """E4."""
    made = await make.event()
    assert made["id"] in await bl.ids("/events")


async def test_a_ven_lists_events(ven1, make):
    """E5."""
    made = await make.event()
    assert made["id"] in await ven1.ids("/events")


async def test_bl_reads_an_event(bl, make):
    """E6."""
    made = await make.event()
    found = await bl.get(f"/events/{made['id']}")
    assert (found.status, found.json["id"]) == (200, made["id"])


async def test_a_ven_reads_an_event(ven1, make):
    """E7."""
    made = await make.event()
    found = await ven1.get(f"/events/{made['id']}")
    assert (found.status, found.json["programID"]) == (200, made["programID"])


async def test_events_are_listed_by_program(bl, ven1, make):
    """E8."""
    made, _other = await make.event(), await make.event()
    assert await bl.ids("/events", programID=made["programID"]) == {made["id"]}
    assert await ven1.ids("/events", programID=made["programID"]) == {made["id"]}


async def test_an_unknown_program_has_no_events(bl, make):
    await make.event()
    found = await bl.get("/events", programID=UNKNOWN)
    assert (found.status, found.json) == (200, [])


async def test_bl_updates_an_event(bl, make):
    """E9."""
    made = await make.event()
    body = event(made["programID"], eventName="updated-event")
    answer = await bl.put(f"/events/{made['id']}", body)
    assert (answer.status, answer.json["eventName"]) == (200, "updated-event")
    assert (await bl.get(f"/events/{made['id']}")).json["eventName"] == "updated-event"


async def test_a_ven_updates_no_event(bl, ven1, make):
    """E10."""
    made = await make.event()
    body = event(made["programID"], eventName="updated-event")
    assert (await ven1.put(f"/events/{made['id']}", body)).status == 403
    assert not (await bl.get(f"/events/{made['id']}")).json.get("eventName")


async def test_bl_deletes_an_event(bl, make):
    """E11."""
    made = await make.event()
    answer = await bl.delete(f"/events/{made['id']}")
    assert (answer.status, answer.json["id"]) == (200, made["id"])
    assert (await bl.get(f"/events/{made['id']}")).status == 404


async def test_a_ven_deletes_no_event(bl, ven1, make):
    """E12."""
    made = await make.event()
    assert (await ven1.delete(f"/events/{made['id']}")).status == 403
    assert (await bl.get(f"/events/{made['id']}")).status == 200


async def test_an_event_carries_prices_of_a_program_that_describes_them(make):
    """E21."""
    described = {"objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": "PRICE", "units": "KWH"}
    program = await make.program(payloadDescriptors=[{**described, "currency": "USD"}])
    made = await make.event(program, intervals=intervals(0.17))
    assert made["intervals"][0]["payloads"] == [payload(0.17)]


async def test_two_intervals_come_back_exactly(bl, make):
    """E22."""
    made = await make.event(intervals=intervals(0.15, 0.25))
    found = (await bl.get(f"/events/{made['id']}")).json["intervals"]
    assert [i["id"] for i in found] == [0, 1]
    assert [i["payloads"] for i in found] == [[payload(0.15)], [payload(0.25)]]


async def test_event_names_need_not_be_unique(make):
    program = await make.program()
    made = [await make.event(program, eventName="day-ahead") for _ in range(2)]
    assert made[0]["id"] != made[1]["id"]
