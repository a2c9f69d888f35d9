"""Notifications by MQTT: the same as by webhook, on topics that the VTN names (Appendix A: M)."""

import pytest

from tests.conformance.bodies import (
    event,
    program,
    report,
    resource_by_bl,
    resource_by_ven,
    ven_by_ven,
)
from tests.conformance.listening import listening, topics


async def test_vens_are_told_of_programs(bl, ven1, make):
    """M1, M2, M3."""
    at = await topics(ven1, "programs")
    async with listening(ven1, at["CREATE"], at["UPDATE"], at["DELETE"]) as ear:
        made = await make.program()
        said = await ear.about(made, "CREATE")
        assert (said["objectType"], said["object"]["objectType"]) == ("PROGRAM", "PROGRAM")
        assert said["object"]["programName"] == made["programName"]
        await bl.put(f"/programs/{made['id']}", program(programName=made["programName"]))
        await ear.about(made, "UPDATE")
        await bl.delete(f"/programs/{made['id']}")
        await ear.about(made, "DELETE")


async def test_vens_are_told_of_one_program(bl, ven1, make):
    made = await make.program()
    at = await topics(ven1, f"programs/{made['id']}")
    async with listening(ven1, at["UPDATE"], at["DELETE"]) as ear:
        await bl.put(f"/programs/{made['id']}", program(programName=made["programName"]))
        await ear.about(made, "UPDATE")
        await bl.delete(f"/programs/{made['id']}")
        await ear.about(made, "DELETE")


async def test_vens_are_told_of_the_events_of_a_program(bl, ven1, make):
    """M4, M5, M6."""
    wanted = await make.program()
    at = await topics(ven1, f"programs/{wanted['id']}/events")
    async with listening(ven1, at["CREATE"], at["UPDATE"], at["DELETE"]) as ear:
        made = await make.event(wanted)
        said = await ear.about(made, "CREATE")
        assert (said["objectType"], said["object"]["programID"]) == ("EVENT", wanted["id"])
        await bl.put(f"/events/{made['id']}", event(wanted["id"], eventName="updated"))
        assert (await ear.about(made, "UPDATE"))["object"]["eventName"] == "updated"
        await bl.delete(f"/events/{made['id']}")
        await ear.about(made, "DELETE")


async def test_all_operations_can_be_heard_at_once(bl, ven1, make):
    """The YAML: ALL, "if supported by VTN"."""
    wanted = await make.program()
    at = await topics(ven1, f"programs/{wanted['id']}/events")
    if "ALL" not in at:
        pytest.skip("no topic for ALL")
    async with listening(ven1, at["ALL"]) as ear:
        made = await make.event(wanted)
        await bl.delete(f"/events/{made['id']}")
        await ear.about(made, "CREATE")
        await ear.about(made, "DELETE")


async def test_bl_is_told_of_a_vens_update(bl, ven1, make):
    """M7."""
    made = await make.registered(ven1)
    for client in (ven1, bl):
        at = await topics(client, f"vens/{made['id']}")
        async with listening(client, at["UPDATE"]) as ear:
            await ven1.put(f"/vens/{made['id']}", ven_by_ven(venName=made["venName"]))
            assert (await ear.about(made, "UPDATE"))["objectType"] == "VEN"


async def test_a_ven_is_told_of_its_resources(bl, ven1, make):
    """M8, M9, M10."""
    ven = await make.registered(ven1)
    at = await topics(ven1, f"vens/{ven['id']}/resources")
    async with listening(ven1, at["CREATE"], at["UPDATE"], at["DELETE"]) as ear:
        made = await make.made(ven1, "resources", resource_by_ven(ven))
        assert (await ear.about(made, "CREATE"))["objectType"] == "RESOURCE"
        await bl.put(f"/resources/{made['id']}", resource_by_bl(ven))
        await ear.about(made, "UPDATE")
        await bl.delete(f"/resources/{made['id']}")
        await ear.about(made, "DELETE")


async def test_bl_is_told_of_reports(bl, ven1, make):
    """M11, M12, M13."""
    on, at = await make.event(), await topics(bl, "reports")
    async with listening(bl, at["CREATE"], at["UPDATE"], at["DELETE"]) as ear:
        made = await make.report(ven1, on)
        assert (await ear.about(made, "CREATE"))["objectType"] == "REPORT"
        await ven1.put(f"/reports/{made['id']}", report(on["id"], reportName="updated"))
        assert (await ear.about(made, "UPDATE"))["object"]["reportName"] == "updated"
        await ven1.delete(f"/reports/{made['id']}")
        await ear.about(made, "DELETE")


async def test_bl_is_told_of_subscriptions(bl, ven1, make):
    """M14, M15."""
    at = await topics(bl, "subscriptions")
    async with listening(bl, at["CREATE"], at["DELETE"]) as ear:
        made = await make.subscription(ven1)
        said = await ear.about(made, "CREATE")
        assert said["objectType"] == "SUBSCRIPTION"
        assert "test-token" not in str(said)
        await ven1.delete(f"/subscriptions/{made['id']}")
        await ear.about(made, "DELETE")


@pytest.mark.parametrize("kind", ["programs", "events"])
async def test_a_ven_is_told_of_what_is_targeted_at_it(kind, vtn, ven1, make):
    """M16, M17: its ven's id is a target of its own; and what bears foreign targets hides them."""
    target = "kit-mine"
    ven = await make.granted(ven1, target)
    if vtn.profile.ven_id_is_target:
        target = ven["id"]
    at = await topics(ven1, f"vens/{ven['id']}/{kind}")
    async with listening(ven1, at["CREATE"]) as ear:
        making = make.program if kind == "programs" else make.event
        made = await making(targets=["kit-foreign", target])
        assert (await ear.about(made, "CREATE"))["object"]["targets"] == [target]


async def test_what_is_targeted_is_not_told_to_all(ven1, ven2, make):
    """What a client could not read by id must not reach it on a topic for everyone."""
    await make.granted(ven1, "kit-a")
    await make.granted(ven2, "kit-b")
    at = await topics(ven2, "programs")
    async with listening(ven2, at["CREATE"]) as ear:
        hidden = await make.program(targets=["kit-a"])
        await ear.about(await make.program(), "CREATE")
        assert hidden["id"] not in {said["object"]["id"] for said in ear.heard}
