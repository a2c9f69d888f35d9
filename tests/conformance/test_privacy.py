"""Targets hide programs and events from VENs that are not granted them (Definition, Object Privacy)."""

import json

import pytest

from tests.conformance.bodies import UNKNOWN, name, resource_by_bl


@pytest.fixture
def discovers(vtn):
    """User Guide 8.13: the VTN finds out what a VEN is granted, which need not name targets."""
    if not vtn.profile.discovers_targets:
        pytest.skip("VENs must name targets in their queries")


@pytest.fixture(params=["programs", "events"])
def hidden(request, make):
    """Make a program or an event with targets; return its path, its list and itself."""

    async def targeted(*targets):
        kind, query = request.param, {}
        if kind == "programs":
            made = await make.program(targets=list(targets))
        else:
            made = await make.event(targets=list(targets))
            query = {"programID": made["programID"]}
        return f"/{kind}", query, made

    return targeted


async def seen(client, path, query, made, **more):
    return {o["id"]: o for o in await client.all(path, **query, **more)}.get(made["id"])


async def test_what_has_no_targets_is_for_all(hidden, ven1, ven2, make):
    await make.granted(ven1, "kit-a")
    await make.forgotten(ven2)
    path, query, made = await hidden()
    for client in (ven1, ven2):
        assert (await client.get(f"{path}/{made['id']}")).status == 200
        assert await seen(client, path, query, made)


async def test_what_is_targeted_is_for_those_who_are_granted_it(
    hidden, ven1, ven2, make, discovers
):
    granted = name("target")
    await make.granted(ven1, granted)
    await make.granted(ven2, "kit-elsewhere")
    path, query, made = await hidden(granted)
    assert (await ven1.get(f"{path}/{made['id']}")).status == 200
    assert await seen(ven1, path, query, made)
    assert (await ven2.get(f"{path}/{made['id']}")).status == 404
    assert await seen(ven2, path, query, made) is None


async def test_a_ven_without_a_ven_object_is_granted_nothing(hidden, ven1, make):
    """ "If no ven object exists with the requestor's clientID, [...] an empty set is returned"."""
    await make.forgotten(ven1)
    path, query, made = await hidden(name("target"))
    assert (await ven1.get(f"{path}/{made['id']}")).status == 404
    assert await seen(ven1, path, query, made) is None


async def test_what_is_hidden_looks_like_what_is_unknown(hidden, ven1, make):
    await make.granted(ven1, "kit-a")
    path, _query, made = await hidden(name("target"))
    told = []
    for found in (made["id"], UNKNOWN):
        answer = await ven1.get(f"{path}/{found}")
        body = {key: value for key, value in answer.json.items() if key != "instance"}
        headers = {
            k: v for k, v in answer.headers.items() if k in {"Content-Type", "Allow", "ETag"}
        }
        told.append((answer.status, json.dumps(body).replace(found, "ID"), headers))
    assert told[0][0] == 404
    assert told[0] == told[1]


async def test_bl_sees_all_targets(hidden, bl):
    path, query, made = await hidden("kit-a", "kit-b")
    assert (await bl.get(f"{path}/{made['id']}")).json["targets"] == ["kit-a", "kit-b"]
    assert (await seen(bl, path, query, made))["targets"] == ["kit-a", "kit-b"]


async def test_a_ven_sees_no_targets_but_its_own(hidden, ven1, make, discovers):
    """ "This prevents VENs from learning targets that have not been explicitly assigned to them"."""
    mine, foreign = name("mine"), name("foreign")
    await make.granted(ven1, "kit-other", mine)
    path, query, made = await hidden(foreign, mine)
    one = await ven1.get(f"{path}/{made['id']}")
    assert one.json["targets"] == [mine]
    assert foreign not in one.text
    assert (await seen(ven1, path, query, made))["targets"] == [mine]


async def test_a_ven_sees_no_targets_but_those_it_asks_for(hidden, ven1, make):
    """ "A VTN will only include requested targets in a response"."""
    first, second = name("first"), name("second")
    await make.granted(ven1, first, second)
    path, query, made = await hidden(first, second)
    assert (await seen(ven1, path, query, made, targets=first))["targets"] == [first]


async def test_a_ven_asks_for_one_of_its_targets(hidden, ven1, make):
    first, second = name("first"), name("second")
    await make.granted(ven1, first, second)
    path, query, made = await hidden(first)
    assert await seen(ven1, path, query, made, targets=first)
    assert await seen(ven1, path, query, made, targets=[first, second])
    assert await seen(ven1, path, query, made, targets=second) is None


async def test_a_ven_does_not_get_by_asking_what_it_is_not_granted(hidden, ven1, make):
    mine, foreign = name("mine"), name("foreign")
    await make.granted(ven1, mine)
    path, query, made = await hidden(foreign)
    assert await seen(ven1, path, query, made, targets=foreign) is None
    assert await seen(ven1, path, query, made, targets=[mine, foreign]) is None


async def test_asking_for_a_target_tells_nothing_of_who_else_is_addressed(hidden, ven1, make):
    """A VEN that sees an object cannot guess the other targets of it."""
    mine, foreign = name("mine"), name("foreign")
    await make.granted(ven1, mine)
    path, query, made = await hidden(mine, foreign)
    assert await seen(ven1, path, query, made, targets=foreign) is None
    assert (await seen(ven1, path, query, made, targets=mine))["targets"] == [mine]


async def test_bl_lists_what_has_a_target(hidden, bl):
    wanted = name("target")
    path, _query, made = await hidden(wanted, "kit-b")
    _path, _query, other = await hidden("kit-b")
    assert await bl.ids(path, targets=wanted) == {made["id"]}
    assert await bl.ids(path, targets=name("target")) == set()
    assert other["id"] in await bl.ids(path, targets="kit-b")


async def test_the_targets_of_its_resources_are_granted_to_a_ven(hidden, ven1, bl, make, discovers):
    """User Guide 8.13-6."""
    ven, granted = await make.granted(ven1), name("target")
    await make.made(bl, "resources", resource_by_bl(ven, targets=[granted]))
    path, query, made = await hidden(granted)
    assert (await ven1.get(f"{path}/{made['id']}")).json["targets"] == [granted]
    assert await seen(ven1, path, query, made)


async def test_a_target_is_lost_with_the_resource_that_had_it(hidden, ven1, bl, make, discovers):
    ven, granted = await make.granted(ven1), name("target")
    resource = await make.made(bl, "resources", resource_by_bl(ven, targets=[granted]))
    path, query, made = await hidden(granted)
    assert await seen(ven1, path, query, made)
    await bl.delete(f"/resources/{resource['id']}")
    assert (await ven1.get(f"{path}/{made['id']}")).status == 404
    assert await seen(ven1, path, query, made) is None


async def test_bl_grants_and_takes_away(hidden, ven1, bl, make, discovers):
    """User Guide 8.13: "BL may update targets at any time"."""
    granted = name("target")
    ven = await make.granted(ven1, granted)
    path, query, made = await hidden(granted)
    assert await seen(ven1, path, query, made)
    body = {key: ven[key] for key in ("clientID", "venName")}
    await bl.put(f"/vens/{ven['id']}", {**body, "objectType": "BL_VEN_REQUEST", "targets": []})
    assert (await ven1.get(f"{path}/{made['id']}")).status == 404
    assert await seen(ven1, path, query, made) is None


async def test_the_id_of_its_ven_is_granted_to_a_ven(vtn, hidden, ven1, ven2, make, discovers):
    if not vtn.profile.ven_id_is_target:
        pytest.skip("the id of a ven is no target of its own")
    ven = await make.registered(ven1)
    await make.registered(ven2)
    path, query, made = await hidden(ven["id"])
    assert (await seen(ven1, path, query, made))["targets"] == [ven["id"]]
    assert await seen(ven2, path, query, made) is None


async def test_hidden_objects_do_not_fill_pages(ven1, make):
    """A page that came short would tell how much is hidden."""
    await make.granted(ven1, "kit-a")
    program = await make.program()
    for targets in (["kit-b"], [], ["kit-b"], []):
        await make.event(program, targets=targets)
    found = await ven1.get("/events", programID=program["id"], limit=2)
    assert len(found.json) == 2
    assert (await ven1.get("/events", programID=program["id"], skip=2)).json == []
