"""Resources: the devices of a ven (Appendix A: R)."""

from tests.conformance.bodies import UNKNOWN, name, payload, resource_by_bl, resource_by_ven

ATTRIBUTE = payload("a value", kind="SOME_ATTR")


async def test_a_ven_creates_a_resource(make, ven1):
    """R1."""
    ven = await make.registered(ven1)
    made = await make.made(ven1, "resources", resource_by_ven(ven))
    assert (made["venID"], made["clientID"]) == (ven["id"], ven1.client_id)


async def test_bl_creates_a_resource_for_another_client(make, bl):
    """R2."""
    ven = await make.ven()
    made = await make.made(bl, "resources", resource_by_bl(ven))
    assert (made["venID"], made["clientID"]) == (ven["id"], ven["clientID"])


async def test_a_resource_name_is_unique_within_its_ven(make, ven1):
    """R3."""
    ven, wanted = await make.registered(ven1), name("resource")
    body = resource_by_ven(ven, resourceName=wanted)
    assert (await make.asked(ven1, "resources", body)).status == 201
    assert (await make.asked(ven1, "resources", body)).status == 409


async def test_two_vens_may_name_their_resources_alike(make, bl):
    wanted = name("resource")
    for _ in range(2):
        ven = await make.ven()
        made = await make.made(bl, "resources", resource_by_bl(ven, resourceName=wanted))
        assert (made["resourceName"], made["venID"]) == (wanted, ven["id"])


async def test_a_resource_needs_a_ven_that_exists(make, bl):
    nowhere = {"id": UNKNOWN, "clientID": name("client")}
    answer = await make.asked(bl, "resources", resource_by_bl(nowhere))
    assert answer.status in {400, 404, 409}


async def test_bl_lists_the_resources_of_a_ven(bl, make):
    """R4."""
    one, other = await make.one("resources"), await make.ven()
    await make.made(bl, "resources", resource_by_bl(other))
    assert await bl.ids("/resources", venID=one.object["venID"]) == {one.object["id"]}


async def test_a_ven_lists_its_resources(ven1, make):
    """R5."""
    one = await make.one("resources")
    assert await ven1.ids("/resources") == {one.object["id"]}


async def test_bl_reads_a_resource(bl, make):
    """R6."""
    one = await make.one("resources")
    found = await bl.get(one.path)
    assert (found.status, found.json["resourceName"]) == (200, one.body["resourceName"])


async def test_a_ven_reads_its_resource(ven1, make):
    """R7."""
    one = await make.one("resources")
    found = await ven1.get(one.path)
    assert (found.status, found.json["resourceName"]) == (200, one.body["resourceName"])


async def test_bl_updates_a_resource(bl, make):
    """R8."""
    ven = await make.ven()
    made = await make.made(bl, "resources", resource_by_bl(ven))
    body = resource_by_bl(ven, attributes=[ATTRIBUTE])
    answer = await bl.put(f"/resources/{made['id']}", body)
    assert (answer.status, answer.json["attributes"][0]["type"]) == (200, "SOME_ATTR")


async def test_a_ven_updates_its_resource(ven1, make):
    """R9."""
    one = await make.one("resources")
    assert (await ven1.put(one.path, {**one.body, "attributes": [ATTRIBUTE]})).status == 200
    assert (await ven1.get(one.path)).json["attributes"] == [ATTRIBUTE]


async def test_bl_deletes_a_resource(bl, make):
    """R10."""
    made = await make.made(bl, "resources", resource_by_bl(await make.ven()))
    assert (await bl.delete(f"/resources/{made['id']}")).status == 200
    assert (await bl.get(f"/resources/{made['id']}")).status == 404


async def test_a_ven_deletes_its_resource(ven1, make):
    """R11."""
    one = await make.one("resources")
    assert (await ven1.delete(one.path)).status == 200
    assert (await ven1.get(one.path)).status == 404


async def test_a_resource_is_found_by_its_name(bl, make):
    one = await make.one("resources")
    found = await bl.ids("/resources", resourceName=one.body["resourceName"])
    assert found == {one.object["id"]}


async def test_resources_are_listed_by_target(bl, make):
    ven, target = await make.ven(), name("target")
    made = await make.made(bl, "resources", resource_by_bl(ven, targets=[target]))
    await make.made(bl, "resources", resource_by_bl(ven))
    assert await bl.ids("/resources", targets=target) == {made["id"]}
