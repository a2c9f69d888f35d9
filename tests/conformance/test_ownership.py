"""What a VEN makes is for it and BL alone (Definition, VEN created object privacy)."""

import json

import pytest

from tests.conformance.bodies import (
    UNKNOWN,
    name,
    resource_by_bl,
    resource_by_ven,
    ven_by_bl,
    ven_by_ven,
)

OWNED = ("vens", "resources", "reports", "subscriptions")
FILTERS = {
    "vens": "venName",
    "resources": "resourceName",
    "reports": "clientName",
    "subscriptions": "clientName",
}
owned = pytest.mark.parametrize("kind", OWNED)


@owned
async def test_another_ven_does_not_find_it(kind, make, ven2):
    one = await make.one(kind)
    assert (await ven2.get(one.path)).status == 404


@owned
async def test_another_ven_does_not_list_it(kind, make, ven2):
    one = await make.one(kind)
    assert one.object["id"] not in await ven2.ids(f"/{kind}")
    found = await ven2.get(f"/{kind}", **{FILTERS[kind]: one.body[FILTERS[kind]]})
    assert (found.status, found.json) == (200, [])


@owned
async def test_another_ven_does_not_change_it(kind, make, bl, ven2):
    one = await make.one(kind)
    assert (await ven2.put(one.path, one.body)).status == 404
    assert (await ven2.delete(one.path)).status == 404
    assert (await one.writer.get(one.path)).json == one.object


@owned
async def test_what_is_anothers_looks_like_what_is_unknown(kind, make, ven2):
    one, told = await make.one(kind), []
    for found in (one.object["id"], UNKNOWN):
        answer = await ven2.get(f"/{kind}/{found}")
        body = {key: value for key, value in answer.json.items() if key != "instance"}
        told.append((answer.status, json.dumps(body).replace(found, "ID")))
    assert told[0] == told[1]


@owned
async def test_bl_finds_and_lists_it(kind, make, bl):
    """ "BL has unrestricted read access to all objects"."""
    one = await make.one(kind)
    assert (await bl.get(one.path)).status == 200
    found = await bl.ids(f"/{kind}", **{FILTERS[kind]: one.body[FILTERS[kind]]})
    assert found == {one.object["id"]}


@owned
async def test_its_client_id_is_that_of_the_token(kind, make, ven1):
    assert (await make.one(kind)).object["clientID"] == ven1.client_id


@owned
async def test_a_ven_does_not_say_who_it_is(kind, make, ven1, ven2):
    """The clientID comes from the token, whatever the body says."""
    body = {**await make.body(kind), "clientID": ven2.client_id}
    if kind == "vens":
        await make.forgotten(ven1)
    answer = await make.asked(ven1, kind, body)
    assert answer.status in {400, 403} or answer.json["clientID"] == ven1.client_id
    if answer.status == 201:
        changed = await ven1.put(f"/{kind}/{answer.json['id']}", body)
        assert changed.status in {400, 403} or changed.json["clientID"] == ven1.client_id


async def test_a_ven_does_not_speak_for_bl(make, ven1, ven2):
    await make.forgotten(ven1)
    await make.forgotten(ven2)
    answer = await make.asked(ven1, "vens", ven_by_bl(ven2.client_id, targets=["kit-mine"]))
    if answer.status == 201:
        assert answer.json["clientID"] == ven1.client_id
        assert not answer.json.get("targets")
    else:
        assert answer.status in {400, 403}


async def test_a_ven_does_not_grant_itself_targets(make, bl, ven1):
    """ "Only BL clients may write targets to ven and resource objects"."""
    await make.forgotten(ven1)
    answer = await make.asked(ven1, "vens", ven_by_ven(targets=["kit-mine"]))
    if answer.status == 201:
        assert not (await bl.get(f"/vens/{answer.json['id']}")).json.get("targets")
    else:
        assert answer.status in {400, 403}


async def test_a_ven_does_not_grant_its_resource_targets(make, bl, ven1):
    ven = await make.registered(ven1)
    answer = await make.asked(ven1, "resources", resource_by_ven(ven, targets=["kit-mine"]))
    if answer.status == 201:
        assert not (await bl.get(f"/resources/{answer.json['id']}")).json.get("targets")
    else:
        assert answer.status in {400, 403}


@pytest.mark.parametrize(
    "sent", [{}, {"targets": []}, {"targets": ["kit-mine"]}, {"targets": None}]
)
async def test_a_vens_update_leaves_the_targets_of_its_ven(sent, make, bl, ven1):
    ven = await make.granted(ven1, "kit-a", "kit-b")
    answer = await ven1.put(f"/vens/{ven['id']}", ven_by_ven(venName=ven["venName"], **sent))
    assert answer.status == 200 or (sent and answer.status in {400, 403})
    assert (await bl.get(f"/vens/{ven['id']}")).json["targets"] == ["kit-a", "kit-b"]


@pytest.mark.parametrize(
    "sent", [{}, {"targets": []}, {"targets": ["kit-mine"]}, {"targets": None}]
)
async def test_a_vens_update_leaves_the_targets_of_its_resource(sent, make, bl, ven1):
    ven = await make.registered(ven1)
    made = await make.made(bl, "resources", resource_by_bl(ven, targets=["kit-a"]))
    path = f"/resources/{made['id']}"
    answer = await ven1.put(path, resource_by_ven(ven, resourceName=made["resourceName"], **sent))
    assert answer.status == 200 or (sent and answer.status in {400, 403})
    assert (await bl.get(path)).json["targets"] == ["kit-a"]


async def test_a_ven_adds_no_resource_to_the_ven_of_another(make, bl, ven1, ven2):
    await make.registered(ven1)
    other = await make.registered(ven2)
    answer = await make.asked(ven1, "resources", resource_by_ven(other))
    assert answer.status in {400, 403, 404, 409}
    assert await bl.ids("/resources", venID=other["id"]) == set()


async def test_a_ven_moves_no_resource_to_the_ven_of_another(make, bl, ven1, ven2):
    one, other = await make.one("resources"), await make.registered(ven2)
    answer = await ven1.put(one.path, resource_by_ven(other))
    assert answer.status in {200, 400, 403, 404, 409}
    assert (await bl.get(one.path)).json["venID"] == one.object["venID"]


async def test_a_resource_that_bl_made_is_its_vens(make, bl, ven1, ven2):
    ven = await make.granted(ven1)
    made = await make.made(bl, "resources", resource_by_bl(ven, resourceName=name("meter")))
    assert (await ven1.get(f"/resources/{made['id']}")).status == 200
    assert (await ven2.get(f"/resources/{made['id']}")).status == 404


async def test_a_ven_does_not_touch_what_bl_subscribed_to(make, bl, ven1):
    made = await make.subscription(bl)
    assert (await ven1.get(f"/subscriptions/{made['id']}")).status == 404
    assert (await ven1.delete(f"/subscriptions/{made['id']}")).status == 404
    assert (await bl.get(f"/subscriptions/{made['id']}")).status == 200
