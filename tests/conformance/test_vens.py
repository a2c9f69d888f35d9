"""Vens: a VEN registers itself, or BL registers it (Appendix A: V)."""

from tests.conformance.bodies import name, payload, ven_by_bl, ven_by_ven

ATTRIBUTE = payload("a value", kind="SOME_ATTRIBUTE")


async def test_vens_register_themselves(make, ven1, ven2):
    """V1, V2."""
    first, second = await make.registered(ven1), await make.registered(ven2)
    assert first["id"] != second["id"]
    assert (first["clientID"], second["clientID"]) == (ven1.client_id, ven2.client_id)


async def test_bl_registers_a_ven(make, ven1):
    """V3."""
    made = await make.granted(ven1, "group1")
    assert (made["clientID"], made["targets"]) == (ven1.client_id, ["group1"])


async def test_a_ven_registers_once(make, ven1):
    """V4."""
    await make.registered(ven1)
    assert (await make.asked(ven1, "vens", ven_by_ven())).status == 409


async def test_a_client_id_has_one_ven(make, bl):
    """V5."""
    client_id = name("client")
    assert (await make.asked(bl, "vens", ven_by_bl(client_id))).status == 201
    assert (await make.asked(bl, "vens", ven_by_bl(client_id))).status == 409


async def test_a_ven_name_is_unique(make, bl):
    made = await make.ven()
    again = ven_by_bl(name("client"), venName=made["venName"])
    assert (await make.asked(bl, "vens", again)).status == 409


async def test_bl_lists_vens(bl, make):
    """V6."""
    made = {(await make.ven())["id"], (await make.ven())["id"]}
    assert made <= await bl.ids("/vens")


async def test_a_ven_lists_its_ven(ven1, make):
    """V7."""
    made = await make.registered(ven1)
    assert await ven1.ids("/vens") == {made["id"]}


async def test_bl_reads_a_ven(bl, ven1, make):
    """V8."""
    made = await make.registered(ven1)
    found = await bl.get(f"/vens/{made['id']}")
    assert (found.status, found.json["venName"]) == (200, made["venName"])


async def test_a_ven_reads_its_ven(ven1, make):
    """V9."""
    made = await make.registered(ven1)
    found = await ven1.get(f"/vens/{made['id']}")
    assert (found.status, found.json["venName"]) == (200, made["venName"])


async def test_a_ven_reads_the_ven_that_bl_made_for_it(ven1, make):
    made = await make.granted(ven1, "group1")
    assert (await ven1.get(f"/vens/{made['id']}")).json["targets"] == ["group1"]


async def test_bl_updates_a_ven(bl, make):
    """V10."""
    made = await make.ven()
    body = ven_by_bl(made["clientID"], venName=made["venName"], attributes=[ATTRIBUTE])
    answer = await bl.put(f"/vens/{made['id']}", body)
    assert (answer.status, answer.json["attributes"][0]["type"]) == (200, "SOME_ATTRIBUTE")


async def test_a_ven_updates_its_ven(ven1, make):
    """V11."""
    made = await make.registered(ven1)
    body = ven_by_ven(venName=made["venName"], attributes=[ATTRIBUTE])
    assert (await ven1.put(f"/vens/{made['id']}", body)).status == 200
    assert (await ven1.get(f"/vens/{made['id']}")).json["attributes"] == [ATTRIBUTE]


async def test_bl_deletes_a_ven(bl, make):
    """V12."""
    made = await make.ven()
    answer = await bl.delete(f"/vens/{made['id']}")
    assert (answer.status, answer.json["id"]) == (200, made["id"])
    assert (await bl.get(f"/vens/{made['id']}")).status == 404


async def test_a_ven_is_found_by_its_name(bl, make):
    """V21."""
    made, _other = await make.ven(), await make.ven()
    assert await bl.ids("/vens", venName=made["venName"]) == {made["id"]}


async def test_with_a_ven_go_its_resources(bl, ven1, make):
    one = await make.one("resources")
    await bl.delete(f"/vens/{one.object['venID']}")
    assert (await bl.get(one.path)).status == 404


async def test_vens_are_listed_by_target(bl, make):
    target = name("target")
    made, _other = await make.ven(target, "elsewhere"), await make.ven("elsewhere")
    assert await bl.ids("/vens", targets=target) == {made["id"]}
