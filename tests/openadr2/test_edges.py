"""What goes wrong at the edges: events that change whom they are for, odd opts, odd messages."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from bridge.store.files import beside
from tests.openadr2 import raw_messages as messages
from tests.openadr2.raw_site import served
from tests.openadr2.test_passing import between
from tests.openadr2.test_raw_ven import PRICED, day, hour, owed_nothing, told
from tests.openadr3.clients import until
from tests.peers import event, levels, signal

LATER = hour(5)


@pytest.fixture
async def site(tmp_path):
    async with served(tmp_path) as found:
        yield found


@asynccontextmanager
async def programs(site, *names):
    """Yield a business-logic client, and the ids of new programs."""
    async with site.bl() as bl:
        yield bl, *[(await bl.made("/programs", {"programName": n}))["id"] for n in names]


# --- events -----------------------------------------------------------------------------------


async def test_an_event_that_cannot_be_said_keeps_no_other_from_anyone(site, logged):
    ven = await site.registered("heater")
    async with programs(site, "P") as (bl, program):
        await bl.made("/events", day(program, LATER, [1], eventName="A\u0001B"))
        good = await bl.made("/events", day(program, LATER, [2]))
        assert [e.id for e in (await told(ven))[0]] == [good["id"]]
    assert any(line["event"] == "event cannot be said as 2.0b" for line in logged)


@pytest.mark.parametrize(
    "about",
    [
        {"payloadDescriptors": [{"objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": "PRICE", "units": "KWH", "currency": c}]}
        for c in ("usd", "US$", "BITCOIN")
    ]
    + [{"priority": 2**33}, {"intervalPeriod": {"start": "2090-01-01T00:00:00Z", "duration": "PT1M30.5S"}},
       {"intervalPeriod": {"start": "2090-01-01T00:00:00Z", "duration": "PT1H", "randomizeStart": "PT1.5S"}}],
)  # fmt: skip
async def test_what_2_0b_has_no_form_for_spoils_no_list(site, about):
    ven = await site.registered("heater")  # it holds each answer against the schema
    async with programs(site, "::", "P") as (bl, odd, plain):
        await bl.made("/events", day(odd, LATER, [0.1]) | about)
        await bl.made("/events", day(odd, LATER, [1], kind="x-"))
        good = await bl.made("/events", day(plain, LATER, [2]))
        found, _ = await told(ven, lambda e: any(x.id == good["id"] for x in e))
    assert len(found) in {1, 2}


async def test_an_event_that_is_aimed_elsewhere_now_is_taken_back(tmp_path):
    async with between(tmp_path) as (site, utility):
        a, b = await site.registered("a", groups=["ga"]), await site.registered("b", groups=["gb"])
        both = "<ei:groupID>ga</ei:groupID><ei:groupID>gb</ei:groupID>"
        utility.list(event("E", LATER, levels([1]), targets=both, duration="PT1H"))
        for ven in (a, b):
            await ven.answer((await told(ven))[1])
        utility.list(
            event(
                "E",
                LATER,
                levels([1]),
                targets="<ei:groupID>gb</ei:groupID>",
                modification=1,
                duration="PT1H",
            )
        )
        (found,), answer = await told(a, lambda e: e and e[0].modification == 1)
        assert (found.status, found.targets.get("groupID")) == ("cancelled", None)
        assert (await a.answer(answer)).good
        await owed_nothing(a)
        assert (await told(b, lambda e: e and e[0].modification == 1))[0][0].status == "far"


async def test_an_event_that_ended_already_after_all_is_taken_back(site):
    ven = await site.registered("heater")
    async with programs(site, "P") as (bl, program):
        made = await bl.made("/events", day(program, LATER, [1]))
        await ven.answer((await told(ven))[1])
        answer = await bl.put(f"/events/{made['id']}", day(program, hour(-9), [1]))
        assert answer.status == 200
        (found,), _ = await told(ven, lambda e: e and e[0].status == "cancelled")
        assert found.id == made["id"]


async def test_more_events_than_go_into_a_message_come_as_others_are_over(site, monkeypatch):
    from bridge.vtn.openadr2 import board

    monkeypatch.setattr(board, "MOST_LISTED", 3)
    ven = await site.registered("heater")
    async with programs(site, "P") as (bl, program):
        made = [
            await bl.made("/events", day(program, LATER + timedelta(hours=n), [n]))
            for n in range(5)
        ]
        found, answer = await told(ven, lambda e: len(e) == 3)
        assert [e.id for e in found] == [m["id"] for m in made[:3]]
        await ven.answer(answer)
        await owed_nothing(ven)
        assert (await bl.delete(f"/events/{made[0]['id']}")).status == 200
        _, answer = await told(ven, lambda e: any(x.status == "cancelled" for x in e))
        await ven.answer(answer)
        found, _ = await told(ven, lambda e: any(x.id == made[3]["id"] for x in e))
        assert [e.id for e in found] == [m["id"] for m in made[1:4]]


async def test_what_asks_for_no_answer_is_told_again_where_the_reply_was_lost(tmp_path):
    async with between(tmp_path) as (site, utility):
        ven = await site.registered("heater")
        utility.list(event("N", LATER, levels([1]), required="never", duration="PT1H"))
        await told(ven)
        await ven.close()  # another connection: who knows whether the reply arrived
        assert [e.id for e in (await ven.poll()).events()] == ["N"]
        await owed_nothing(ven)


async def test_a_ven_that_begins_anew_is_told_everything_again(site):
    ven = await site.registered("heater")
    async with programs(site, "P") as (bl, program):
        await bl.made("/events", day(program, LATER, [1]))
        await ven.answer((await told(ven))[1])
        await owed_nothing(ven)
        assert (await ven.register()).good  # it knows its registration, and so its events
        await owed_nothing(ven)
        ven.registration_id = None
        assert (await ven.register()).good
        assert len((await told(ven))[0]) == 1


async def test_a_program_that_is_renamed_or_priced_otherwise_is_told(site):
    ven = await site.registered("heater", programs=["OLD", "NEW"])
    async with programs(site, "OLD") as (bl, program):
        await bl.made("/events", day(program, LATER, [0.5]))
        _, answer = await told(ven)
        await ven.answer(answer)
        described = {
            "objectType": "EVENT_PAYLOAD_DESCRIPTOR",
            "payloadType": "PRICE",
            "units": "KWH",
            "currency": "EUR",
        }
        assert (
            await bl.put(
                f"/programs/{program}", {"programName": "NEW", "payloadDescriptors": [described]}
            )
        ).status == 200
        (found,), _ = await told(ven, lambda e: e and e[0].modification == 1)
        assert (found.context, found.signals[0].unit) == ("NEW", "EUR")


# --- messages -------------------------------------------------------------------------------------


async def test_processing_instructions_hide_nothing(site):
    ven = await site.registered("heater", "ec")
    plain = messages.wrap(messages.poll(ven.ven_id))
    inside = plain.replace("<oadrPoll", "<?x y?><oadrPoll", 1).encode()
    assert inside != plain.encode()
    assert (await ven.post(inside, "OadrPoll")).good
    bad = ven.write(messages.poll(ven.ven_id)).replace(b"DigestValue>", b"DigestValue>AAAA", 1)
    before = bad.replace(b"<Signature", b"<?x y?><Signature", 1)
    for content in (bad, before):
        assert (await ven.post(content, "OadrPoll")).refuses(463)


async def test_a_report_that_is_too_much_is_refused_and_stalls_nobody(site):
    ven = await site.registered("heater")
    many = "".join(
        messages._described(f"r{n}", "meter", "usage", messages.ENERGY, "Direct Read")
        for n in range(1001)
    )
    answer = await ven.register_report(messages.offer("TELEMETRY_USAGE", "usage", many))
    assert answer.code == 454
    assert "more than 1000" in answer.description
    assert (await ven.poll()).good


async def test_intervals_without_a_time_are_refused_and_not_kept_one_over_another(tmp_path):
    async with served(tmp_path, reports=[]) as site:
        ven = await site.registered("heater")
        rows = [(hour(-1), None, {"x": 1}), (hour(-1), None, {"x": 2})]
        report = messages.report("r", "s", "TELEMETRY_USAGE", rows)
        head, tail = report.rsplit("<c:dtstart>", 1)
        timeless = head + tail.partition("</c:dtstart>")[2]
        answer = await ven.update_report(timeless)
        assert answer.code == 454
        assert site.readings() == []


async def test_the_first_report_that_is_asked_for_is_asked_again_where_the_reply_was_lost(tmp_path):
    usage = {"report": "TELEMETRY_USAGE", "every": "10m", "sampling": "5m"}
    async with served(tmp_path, reports=[usage]) as site:
        ven = await site.registered("heater")
        (wanted,) = (await ven.register_report(messages.usage_offer())).report_requests()
        again = await ven.poll()  # as if it had never seen the answer
        assert [w.id for w in again.report_requests()] == [wanted.id]
        assert (await ven.created_report(wanted.id)).good
        assert (await ven.poll()).kind == "oadrResponse"


async def test_a_registration_that_is_ended_here_is_told_and_may_begin_anew(site):
    from bridge.store import vens

    ven = await site.registered("heater")
    with beside(site.path) as db:
        vens.end_registration(db, "heater", datetime.now(UTC))

    async def ended():
        answer = await ven.poll()
        return answer if answer.kind == "oadrCancelPartyRegistration" else None

    answer = await until(ended)
    assert answer.text("e:registrationID") == ven.registration_id
    assert (await ven.canceled_registration(answer.text("p:requestID"))).good
    assert (await ven.poll()).kind == "oadrRequestReregistration"
    ven.registration_id = None
    assert (await ven.register()).good


async def test_an_answer_just_after_the_end_is_kept(tmp_path):
    async with between(tmp_path) as (site, utility):
        ven = await site.registered("heater")
        start = datetime.now(UTC).replace(microsecond=0)
        utility.list(
            event(
                "S",
                start,
                signal(["0.1"], length="PT3S"),
                duration="PT3S",
                context=PRICED["programName"],
            )
        )
        await told(ven)
        await until(lambda: _silent(ven))
        assert (await ven.created_event(("S", 0, "optIn"))).good


async def _silent(ven):
    return (await ven.poll()).kind == "oadrResponse"


async def test_a_cancellation_that_says_less_is_told_to_all(tmp_path):
    async with between(tmp_path) as (site, utility):
        x, y = await site.registered("x", groups=["gx"]), await site.registered("y", groups=["gy"])

        def parts(*names):
            return [levels([1]).replace("<ei:signalName>", f"<ei:eiTarget><ei:groupID>{n}</ei:groupID></ei:eiTarget><ei:signalName>")
                    .replace(">S1<", f">{n}<") for n in names]  # fmt: skip

        utility.list(event("E", LATER, *parts("gx", "gy"), duration="PT1H"))
        for ven in (x, y):
            await ven.answer((await told(ven))[1])
        utility.list(
            event("E", LATER, *parts("gx"), status="cancelled", modification=1, duration="PT1H")
        )
        for ven in (x, y):
            (found,), _ = await told(ven, lambda e: e and e[0].status == "cancelled")
            assert len(found.signals) == 1


async def test_what_was_taken_back_is_taken_back_once(tmp_path):
    async with between(tmp_path) as (site, utility):
        a = await site.registered("a", groups=["ga"])
        targets = "<ei:groupID>{}</ei:groupID>".format
        utility.list(event("E", LATER, levels([1]), targets=targets("ga"), duration="PT1H"))
        await a.answer((await told(a))[1])
        utility.list(
            event("E", LATER, levels([1]), targets=targets("gb"), modification=1, duration="PT1H")
        )
        await a.answer((await told(a, lambda e: e and e[0].status == "cancelled"))[1])
        utility.list(
            event("E", LATER, levels([2]), targets=targets("gb"), modification=2, duration="PT1H")
        )
        row = "SELECT modification FROM ven_offers"
        await until(lambda: _is(site, row, 2))
        await owed_nothing(a)
        utility.list(
            event("E", LATER, levels([3]), targets=targets("ga"), modification=3, duration="PT1H")
        )
        (found,), _ = await told(a, lambda e: e and e[0].modification == 3)
        assert found.status == "far"


async def _is(site, sql, value):
    return [v for row in site.query(sql) for v in row.values()] == [value]


async def test_a_signed_message_that_has_no_canonical_form_is_refused(site):
    ven = await site.registered("heater", "ec")
    content = ven.write(messages.poll(ven.ven_id)).replace(
        b"<oadrPayload", b'<oadrPayload xmlns:zz="relative"', 1
    )
    assert b"relative" in content
    assert (await ven.post(content, "OadrPoll")).refuses(463)


async def test_who_is_removed_while_its_message_comes_is_not_served(site):
    from bridge.store import vens

    ven = await site.registered("heater")
    content = ven.write(messages.poll(ven.ven_id))

    async def slowly():
        yield content[:50]
        await asyncio.sleep(0.2)  # by then who asks is known; that it is cannot be seen from here
        with beside(site.path) as db:
            vens.remove(db, "heater", datetime.now(UTC))
        yield content[50:]

    assert (await ven.post(slowly(), "OadrPoll")).refuses(463)


async def test_a_modification_that_asks_for_no_answer_is_told_until_it_is_known_to_be_heard(
    tmp_path,
):
    async with between(tmp_path) as (site, utility):
        ven = await site.registered("heater")
        never = {"required": "never", "duration": "PT1H"}
        utility.list(event("N", LATER, levels([1]), **never))
        await told(ven)
        await ven.close()
        assert [e.id for e in (await ven.poll()).events()] == ["N"]
        await ven.close()
        assert (await ven.created_event(("N", 0, "optIn"))).good  # though it need not
        await owed_nothing(ven)
        utility.list(event("N", LATER, levels([2]), modification=1, **never))
        await told(ven, lambda e: e and e[0].modification == 1)
        await ven.close()  # say that it was lost on its way
        assert [e.modification for e in (await ven.poll()).events()] == [1]


async def test_what_was_taken_back_is_not_taken_back_again_at_a_new_registration(tmp_path):
    async with between(tmp_path) as (site, utility):
        ven = await site.registered("heater", groups=["ga"])
        to = "<ei:groupID>{}</ei:groupID>".format
        utility.list(event("E", LATER, levels([1]), targets=to("ga"), duration="PT1H"))
        await ven.answer((await told(ven))[1])
        utility.list(
            event("E", LATER, levels([1]), targets=to("gb"), modification=1, duration="PT1H")
        )
        (found,), answer = await told(ven, lambda e: e and e[0].modification == 1)
        assert found.status == "cancelled"
        await ven.answer(answer)
        await owed_nothing(ven)
        ven.registration_id = None
        assert (await ven.register()).good
        assert (await ven.poll()).kind == "oadrResponse"
