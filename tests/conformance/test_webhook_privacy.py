"""A VEN is told what it could read, and nothing else (Definition, Object Privacy).

"The VTN SHALL use the clientID of a subscription object to discover the associated ven and
resource objects, and process the targets as described above." Each test ends with an event that
all may see: when that is told, what was hidden before it would have been told too.
"""

from tests.conformance.bodies import event, name, report, subscription


async def subscribed(
    make, client, inbox, objects="EVENT", operations="CREATE UPDATE DELETE", **more
):
    await make.made(client, "subscriptions", subscription(inbox.url, objects, operations, **more))


async def test_a_targeted_event_is_told_to_those_who_are_granted_it(
    ven1, ven2, make, inbox, callbacks
):
    granted, other, program = name("target"), callbacks.inbox(), await make.program()
    await make.granted(ven1, granted)
    await make.granted(ven2, "kit-elsewhere")
    await subscribed(make, ven1, inbox, programID=program["id"])
    await subscribed(make, ven2, other, programID=program["id"])
    made, open_to_all = await make.event(program, targets=[granted]), await make.event(program)
    assert (await inbox.about(made)).object["targets"] == [granted]
    await inbox.about(open_to_all)
    await other.about(open_to_all)
    assert made["id"] not in other.ids()


async def test_a_targeted_program_is_told_to_those_who_are_granted_it(
    ven1, ven2, make, inbox, callbacks
):
    granted, other = name("target"), callbacks.inbox()
    await make.granted(ven1, granted)
    await make.forgotten(ven2)
    await subscribed(make, ven1, inbox, "PROGRAM")
    await subscribed(make, ven2, other, "PROGRAM")
    made, open_to_all = await make.program(targets=[granted]), await make.program()
    await inbox.about(made)
    await other.about(open_to_all)
    assert made["id"] not in other.ids()


async def test_a_notification_hides_foreign_targets(bl, ven1, make, inbox):
    mine, foreign, program = name("mine"), name("foreign"), await make.program()
    await make.granted(ven1, mine)
    await subscribed(make, ven1, inbox, programID=program["id"])
    made = await make.event(program, targets=[foreign, mine])
    await bl.put(f"/events/{made['id']}", event(program["id"], targets=[mine, foreign]))
    await bl.delete(f"/events/{made['id']}")
    for operation in ("CREATE", "UPDATE", "DELETE"):
        posted = await inbox.about(made, operation)
        assert posted.object["targets"] == [mine]
        assert foreign not in posted.text


async def test_bl_is_told_of_all_targets(bl, make, inbox):
    program = await make.program()
    await subscribed(make, bl, inbox, programID=program["id"])
    made = await make.event(program, targets=["kit-a", "kit-b"])
    assert (await inbox.about(made)).object["targets"] == ["kit-a", "kit-b"]


async def test_the_targets_of_a_subscription_filter(ven1, make, inbox):
    """ "Used by server to filter notifications"."""
    first, second, program = name("first"), name("second"), await make.program()
    await make.granted(ven1, first, second)
    await subscribed(make, ven1, inbox, programID=program["id"], targets=[first])
    unwanted = await make.event(program, targets=[second])
    wanted = await make.event(program, targets=[first])
    await inbox.about(wanted)
    assert unwanted["id"] not in inbox.ids()


async def test_a_subscription_does_not_grant_what_it_asks_for(ven1, make, inbox):
    mine, foreign, program = name("mine"), name("foreign"), await make.program()
    await make.granted(ven1, mine)
    await subscribed(make, ven1, inbox, programID=program["id"], targets=[mine, foreign])
    hidden = await make.event(program, targets=[foreign])
    await inbox.about(await make.event(program, targets=[mine]))
    assert hidden["id"] not in inbox.ids()


async def test_a_grant_counts_from_the_moment_it_is_made(ven1, make, inbox):
    granted, program = name("target"), await make.program()
    await make.forgotten(ven1)
    await subscribed(make, ven1, inbox, programID=program["id"])
    early = await make.event(program, targets=[granted])
    await make.granted(ven1, granted)
    await inbox.about(await make.event(program, targets=[granted]))
    assert early["id"] not in inbox.ids()


async def test_a_ven_is_told_of_its_own_reports_alone(ven1, ven2, make, inbox):
    made_on = await make.event()
    await subscribed(make, ven2, inbox, "REPORT")
    foreign = await make.report(ven1, made_on)
    mine = await make.report(ven2, made_on)
    await ven1.put(f"/reports/{foreign['id']}", report(made_on["id"]))
    await inbox.about(mine)
    assert foreign["id"] not in inbox.ids()


async def test_a_ven_is_told_of_its_own_ven_and_resources_alone(ven1, ven2, make, inbox):
    await subscribed(make, ven2, inbox, "VEN RESOURCE SUBSCRIPTION")
    foreign = await make.one("resources")
    mine = await make.registered(ven2)
    await inbox.about(mine)
    assert not {foreign.object["id"], foreign.object["venID"]} & set(inbox.ids())
