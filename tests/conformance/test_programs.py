"""Programs: BL writes them, everybody reads them (Definition, EndPoints; Appendix A: P)."""

from tests.conformance.bodies import name, program

DESCRIPTOR = {
    "objectType": "EVENT_PAYLOAD_DESCRIPTOR",
    "payloadType": "PRICE",
    "units": "KWH",
    "currency": "USD",
}


async def test_bl_creates_programs(make):
    """P1, P2."""
    first, second = await make.program(), await make.program()
    assert first["id"] != second["id"]


async def test_a_payload_descriptor_comes_back_as_it_was_given(bl, make):
    """P3, P4."""
    made = await make.program(payloadDescriptors=[DESCRIPTOR])
    (found,) = (await bl.get(f"/programs/{made['id']}")).json["payloadDescriptors"]
    assert {key: found[key] for key in DESCRIPTOR} == DESCRIPTOR


async def test_a_ven_creates_no_program(ven1, make):
    """P5."""
    assert (await make.asked(ven1, "programs", program())).status == 403


async def test_a_program_name_is_unique(bl, make):
    """P6."""
    made = await make.program()
    again = await make.asked(bl, "programs", program(programName=made["programName"]))
    assert again.status == 409


async def test_a_program_does_not_take_the_name_of_another(bl, make):
    taken, made = await make.program(), await make.program()
    answer = await bl.put(f"/programs/{made['id']}", program(programName=taken["programName"]))
    assert answer.status == 409
    assert (await bl.get(f"/programs/{made['id']}")).json["programName"] == made["programName"]


async def test_bl_lists_programs(bl, make):
    """P7."""
    made = {(await make.program())["id"], (await make.program())["id"]}
    assert made <= await bl.ids("/programs")


async def test_a_ven_lists_programs(ven1, make):
    """P8."""
    made = await make.program()
    assert made["id"] in await ven1.ids("/programs")


async def test_bl_reads_a_program(bl, make):
    """P9."""
    made = await make.program()
    found = await bl.get(f"/programs/{made['id']}")
    assert (found.status, found.json["programName"]) == (200, made["programName"])


async def test_a_ven_reads_a_program(ven1, make):
    """P10."""
    made = await make.program()
    found = await ven1.get(f"/programs/{made['id']}")
    assert (found.status, found.json["programName"]) == (200, made["programName"])


async def test_bl_gives_a_program_targets(bl, make):
    """P11."""
    made = await make.program()
    body = program(programName=made["programName"], targets=["group1"])
    answer = await bl.put(f"/programs/{made['id']}", body)
    assert (answer.status, answer.json["targets"][0]) == (200, "group1")
    assert (await bl.get(f"/programs/{made['id']}")).json["targets"] == ["group1"]


async def test_a_ven_updates_no_program(bl, ven1, make):
    """P12."""
    made = await make.program()
    assert (await ven1.put(f"/programs/{made['id']}", program())).status == 403
    assert (await bl.get(f"/programs/{made['id']}")).json["programName"] == made["programName"]


async def test_bl_deletes_a_program(bl, make):
    """P13."""
    made = await make.program()
    answer = await bl.delete(f"/programs/{made['id']}")
    assert (answer.status, answer.json["id"]) == (200, made["id"])
    assert (await bl.get(f"/programs/{made['id']}")).status == 404


async def test_a_ven_deletes_no_program(bl, ven1, make):
    """P14."""
    made = await make.program()
    assert (await ven1.delete(f"/programs/{made['id']}")).status == 403
    assert (await bl.get(f"/programs/{made['id']}")).status == 200


async def test_a_name_is_free_again_once_its_program_is_deleted(bl, make):
    made = await make.program()
    await bl.delete(f"/programs/{made['id']}")
    again = await make.program(programName=made["programName"])
    assert again["id"] != made["id"]


async def test_with_a_program_go_its_events(bl, make):
    program_made = await make.program()
    event = await make.event(program_made)
    await bl.delete(f"/programs/{program_made['id']}")
    assert (await bl.get(f"/events/{event['id']}")).status == 404


async def test_an_update_replaces_the_whole_program(bl, make):
    made = await make.program(programDescriptions=[{"URL": "https://example.com/tariff"}])
    answer = await bl.put(f"/programs/{made['id']}", program(programName=name("program")))
    assert not answer.json.get("programDescriptions")
