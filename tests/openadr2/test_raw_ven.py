"""A VEN without any library does its job: it registers, is told prices, answers, reports, opts."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import ClientConnectionError

from tests.openadr2 import raw_messages as messages
from tests.openadr2.raw_messages import stamp
from tests.openadr2.raw_site import VTN_ID, served
from tests.openadr2.raw_ven import RawVen
from tests.openadr3.clients import until

SIGNS = [False, "rsa", "ec"]


def described(units="KWH"):
    """Return what says in which unit and currency prices are."""
    said = {"payloadType": "PRICE", "currency": "USD", **({"units": units} if units else {})}
    return {"payloadDescriptors": [{"objectType": "EVENT_PAYLOAD_DESCRIPTOR", **said}]}


PRICED = {"programName": "EV2A"}


@pytest.fixture
async def site(tmp_path):
    async with served(tmp_path, ("rsa", "ec")) as found:
        yield found


def hour(n: float = 0) -> datetime:
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=n)


def day(program, start, values, kind="PRICE", **more):
    """Return an OpenADR 3 event of hourly values."""
    return {
        "programID": program, "intervalPeriod": {"start": stamp(start), "duration": "PT1H"},
        "intervals": [
            {"id": n, "payloads": [{"type": kind, "values": [v]}]} for n, v in enumerate(values)
        ], **more,
    }  # fmt: skip


async def told(ven, condition=bool):
    """Return the events that a poll lists, once they are as wanted, and the answer."""

    async def ask():
        answer = await ven.poll()
        found = answer.events() if answer.kind == "oadrDistributeEvent" else []
        return (found, answer) if condition(found) else None

    return await until(ask)


async def owed_nothing(ven):
    async def ask():
        return (await ven.poll()).kind == "oadrResponse"

    assert await until(ask)


@pytest.mark.parametrize("sign", SIGNS)
async def test_a_ven_registers_and_keeps_its_registration(site, sign):
    ven = site.ven(site.enrol("heater", sign or "ec"), sign)
    asked = await ven.query()
    assert (asked.kind, asked.code) == ("oadrCreatedPartyRegistration", 200)
    assert not asked.text("e:registrationID")
    assert not asked.text("e:venID")
    answer = await ven.register()
    assert (answer.kind, answer.code) == ("oadrCreatedPartyRegistration", 200)
    assert ven.ven_id == site.ids["heater"]
    assert ven.registration_id
    assert answer.text("e:vtnID") == VTN_ID
    assert ven.poll_every == 10
    assert "2.0b" in answer.text("o:oadrProfiles/o:oadrProfile/o:oadrProfileName")
    assert bool(answer.signed) == bool(sign)
    assert (b"SignatureValue" in answer.content) == bool(sign)
    had = ven.registration_id
    assert (await ven.query()).text("e:registrationID") == had
    assert (await ven.register()).text("e:registrationID") == had
    ven.registration_id = None  # forgotten, with the venID
    ven.ven_id = None
    assert (await ven.register()).text("e:registrationID") == had
    assert ven.ven_id == site.ids["heater"]


async def test_a_request_is_answered_with_its_own_id(site):
    ven = await site.registered("heater")
    for request_id, body in {
        "ask & tell": messages.query_registration("ask & tell"),
        "007": messages.create_party_registration(ven_id=ven.ven_id, request_id="007"),
        "1.2.3": messages.register_report(ven.ven_id, [], "1.2.3"),
        "<r>": messages.update_report(ven.ven_id, [], "<r>"),
        "10.0.0.1": messages.create_opt(
            ven.ven_id, "o", request_id="10.0.0.1", available=[(hour(2), "PT1H")]
        ),
        "é": messages.cancel_opt(ven.ven_id, "o", "é"),
    }.items():
        answer = await ven.send(body)
        assert answer.good, answer
        assert answer.text("e:eiResponse/p:requestID") == request_id


@pytest.mark.parametrize(
    ("about", "code"),
    [
        ({"pull": False, "address": "https://127.0.0.1:9/x"}, 459),
        ({"profile": "2.0a"}, 459),
        ({"transport": "xmpp"}, 459),
        ({"ven_id": "another"}, 463),
    ],
)
async def test_a_registration_that_cannot_be_is_refused(site, about, code):
    ven = site.ven(site.enrol("heater"))
    answer = await ven.register(**about)
    assert answer.refuses(code), answer
    assert not (await ven.query()).text("e:registrationID")


async def test_a_registration_ends_and_begins_again(site):
    ven = await site.registered("heater")
    assert (await ven.cancel_registration("another")).refuses(452)
    assert (await ven.register(registration_id="another")).refuses(452)
    assert (await ven.poll()).kind == "oadrResponse"
    had = ven.registration_id
    answer = await ven.cancel_registration()
    assert (answer.kind, answer.code) == ("oadrCanceledPartyRegistration", 200)
    assert answer.text("e:registrationID") in {None, had}
    assert not (await ven.query()).text("e:registrationID")
    asked = await ven.poll()
    assert asked.kind == "oadrRequestReregistration"
    assert asked.text("e:venID") == ven.ven_id
    for refused in (
        await ven.request_event(),
        await ven.created_event(("e", 0, "optIn")),
        await ven.register_report(messages.usage_offer()),
        await ven.update_report(),
        await ven.create_opt("o"),
    ):
        assert refused.refuses(463), refused
    assert (await ven.respond()).status == 200
    assert (await ven.register()).good
    assert (await ven.poll()).kind == "oadrResponse"


async def test_a_ven_that_was_forgotten_registers_with_the_id_it_has(site):
    # Asked to register again, a VEN names the registration it had, which is nobody's now.
    ven = await site.registered("heater")
    had = ven.registration_id
    assert (await ven.cancel_registration()).good
    assert (await ven.poll()).kind == "oadrRequestReregistration"
    answer = await ven.register(registration_id=had)
    assert (answer.kind, answer.code) == ("oadrCreatedPartyRegistration", 200)
    assert ven.registration_id
    assert (await ven.poll()).kind == "oadrResponse"


@pytest.mark.parametrize("sign", SIGNS)
async def test_a_day_of_prices_is_told_until_it_is_answered(site, sign):
    ven = await site.registered("heater", sign)
    values = [round(-0.05 + n / 37, 6) for n in range(24)]
    start = hour(1)
    async with site.bl() as bl:
        program = (await bl.made("/programs", PRICED))["id"]
        event = await bl.made("/events", {**day(program, start, values), **described()})
    (one,), answer = await told(ven)
    assert answer.code in {0, 200}
    assert answer.text("e:vtnID") == VTN_ID
    assert (one.id, one.modification, one.required) == (event["id"], 0, "always")
    assert one.context.rpartition("/")[2] == "EV2A"
    assert one.status in {"far", "near"}
    assert (one.start, one.duration) == (start, timedelta(hours=24))
    assert (one.test or "false") == "false"
    (signal,) = one.signals
    assert (signal.name, signal.type) == ("ELECTRICITY_PRICE", "price")
    assert (signal.measure, signal.unit) == ("currencyPerKWh", "USD")
    assert signal.values == pytest.approx(values, abs=1e-9)
    assert [i.start for i in signal.intervals] == [start + timedelta(hours=n) for n in range(24)]
    assert (await told(ven))[0] == [one], "it was not answered, and so comes again"
    assert bool(answer.signed) == bool(sign)
    said = await ven.answer(answer, "optIn")
    assert (said.kind, said.code) == ("oadrResponse", 200)
    await owed_nothing(ven)
    assert [e.version for e in (await ven.request_event()).events()] == [one.version]
    assert await opts(site, event["id"]) == [("heater", 0, "optIn")]
    assert (await ven.created_event((*one.version, "optOut"))).code == 200
    assert await opts(site, event["id"]) == [("heater", 0, "optOut")]


async def opts(site, event):
    """Return who opted how for an event, as the admin endpoint tells it."""
    found = (await site.asked("/api/v1/events"))["items"]
    said = [e for e in found if event in {e.get("id"), e.get("name"), e.get("foreign_id")}]
    assert said, found
    return [(o["ven"], o["modification"], o["opt"]) for o in said[0]["opts"]]


@pytest.mark.parametrize(
    ("units", "measure"),
    [
        ("KWH", "currencyPerKWh"),
        ("KW", "currencyPerKW"),
        ("THERMS", "currencyPerThm"),
        (None, "currency"),
    ],
)
async def test_the_unit_of_a_price_is_told(site, units, measure):
    ven = await site.registered("heater")
    async with site.bl() as bl:
        program = (await bl.made("/programs", PRICED))["id"]
        await bl.made("/events", {**day(program, hour(2), [0.1]), **described(units)})
    (event,), _ = await told(ven)
    assert (event.signals[0].measure, event.signals[0].unit) == (measure, "USD")


async def test_a_unit_that_the_program_describes_is_told(site):
    ven = await site.registered("heater")
    async with site.bl() as bl:
        program = (await bl.made("/programs", {**PRICED, **described()}))["id"]
        await bl.made("/events", day(program, hour(2), [0.1]))
    (event,), _ = await told(ven)
    assert (event.signals[0].measure, event.signals[0].unit) == ("currencyPerKWh", "USD")


async def test_an_event_changes_and_is_cancelled(site):
    one, two = [await site.registered(name) for name in ("one", "two")]
    async with site.bl() as bl:
        program = (await bl.made("/programs", PRICED))["id"]
        event = await bl.made("/events", day(program, hour(2), [0.1, 0.2]))
        await one.answer((await told(one))[1])
        changed = {**event, **day(program, hour(2), [0.1, 0.3])}
        assert (await bl.put(f"/events/{event['id']}", changed)).status == 200
        (now,), answer = await told(one, lambda found: found and found[0].modification)
        assert now.modification == 1
        assert now.signals[0].values == pytest.approx([0.1, 0.3])
        assert (await one.created_event((event["id"], 2, "optIn"))).code == 452
        assert (await told(one))[0] == [now], "a later modification is no answer to this one"
        assert (await one.answer(answer)).code == 200
        await owed_nothing(one)
        (seen,), _ = await told(two)
        assert seen.modification == 1, "who was not there for the first gets the last"
        assert (await bl.delete(f"/events/{event['id']}")).status == 200
        (gone,), answer = await told(one, lambda found: found and found[0].status == "cancelled")
        assert gone.modification > 1
        assert (await one.answer(answer)).code == 200
        await owed_nothing(one)


async def test_bad_answers_are_told_and_good_ones_kept(site):
    ven = await site.registered("heater")
    async with site.bl() as bl:
        program = (await bl.made("/programs", PRICED))["id"]
        event = await bl.made("/events", day(program, hour(2), [0.1]))
    await told(ven)
    answer = await ven.created_event(("none", 0, "optIn"), (event["id"], 0, "optIn"))
    assert answer.refuses(452), answer
    await owed_nothing(ven)
    assert await opts(site, event["id"]) == [("heater", 0, "optIn")]


async def test_levels_are_told_and_the_next_come_first(site):
    ven = await site.registered("heater")
    async with site.bl() as bl:
        program = (await bl.made("/programs", {"programName": "CPP"}))["id"]
        late, soon, now = [
            await bl.made("/events", day(program, hour(n), [1, 2, 3, 0], "SIMPLE"))
            for n in (30, 3, -1)
        ]
    found, _ = await told(ven, lambda events: len(events) == 3)
    assert [e.id for e in found] == [now["id"], soon["id"], late["id"]]
    assert found[0].status == "active"
    assert {(e.signals[0].name, e.signals[0].type) for e in found} == {("SIMPLE", "level")}
    assert found[0].signals[0].values == [1, 2, 3, 0]
    assert found[0].signals[0].current == 2, "the level of the second hour holds"
    assert found[1].signals[0].current in {None, 0}
    for limit in (1, 2, 3, 10):
        listed = (await ven.request_event(limit)).events()
        assert [e.id for e in listed] == [e.id for e in found][:limit]


@pytest.mark.parametrize("sign", SIGNS)
async def test_reports_are_asked_for_and_what_they_say_is_kept(site, sign):
    ven = await site.registered("heater", sign)
    offers = (messages.usage_offer(), messages.status_offer(), messages.history_offer())
    wanted = {w.specifier: w for w in await asked_for(ven, *offers)}
    assert set(wanted) == {"usage", "status", "history"}
    usage = wanted["usage"]
    assert (usage.every, usage.sampling) == (timedelta(minutes=15), timedelta(minutes=1))
    assert set(usage.points) == {"energy", "power"}
    at = hour(-1)
    rows = [
        (at + timedelta(minutes=n), "PT1M", {"energy": n + 0.25, "power": 100 * n}) for n in (0, 1)
    ]
    said = messages.report(usage.id, "usage", "TELEMETRY_USAGE", rows)
    for _ in range(2):  # what is said twice is kept once
        answer = await ven.update_report(said)
        assert (answer.kind, answer.code) == ("oadrUpdatedReport", 200)
    kept = readings(site, "heater")
    assert {r["report"] for r in kept} == {usage.id}
    assert {r["meter"] for r in kept} == {"openadr2:heater:meter"}
    assert {(r["start"], r["length"]) for r in kept} == {
        (int(start.timestamp() * 1000), 60_000) for start, _, _ in rows
    }
    energy = [r for r in kept if "W" in (r["unit"] or "").upper() and "H" in r["unit"].upper()]
    power = [r for r in kept if r not in energy]
    factor = {"KWH": 1, "WH": 1000}[energy[0]["unit"].upper()]
    assert sorted(r["amount"] for r in energy) == pytest.approx([0.25 * factor, 1.25 * factor])
    factor = {"KW": 0.001, "W": 1}[power[0]["unit"].upper()]
    assert sorted(r["amount"] for r in power) == pytest.approx([0, 100 * factor])
    later = [(at + timedelta(minutes=5), "PT1M", {"energy": 9})]
    said = messages.report(usage.id, "usage", "TELEMETRY_USAGE", later)
    assert (await ven.update_report(said)).good
    assert len(readings(site, "heater")) == 5, "what was said before stays"
    state = [(hour(), None, {"state": (True, False, 40)})]
    past = [(hour(-n), "PT15M", {"past": n}) for n in (3, 2)]
    answer = await ven.update_report(
        messages.report(wanted["status"].id, "status", "TELEMETRY_STATUS", state),
        messages.report(wanted["history"].id, "history", "HISTORY_USAGE", past),
    )
    assert (answer.kind, answer.code) == ("oadrUpdatedReport", 200)
    assert len(readings(site, "heater", wanted["history"].id)) == 2
    answer = await ven.register_report()
    assert (answer.kind, answer.code, answer.report_requests()) == ("oadrRegisteredReport", 200, [])


async def asked_for(ven, *offers):
    """Return what a VEN is asked for at once and, one by one, when it polls."""
    answer = await ven.register_report(*offers)
    assert (answer.kind, answer.code) == ("oadrRegisteredReport", 200)
    found = answer.report_requests()
    request_id = answer.text("e:eiResponse/p:requestID")
    while True:
        said = await ven.created_report(*(w.id for w in found), request_id=request_id)
        assert (said.kind, said.code) == ("oadrResponse", 200)
        answer = await ven.poll()
        if answer.kind != "oadrCreateReport":
            return found
        request_id = answer.text("p:requestID")
        assert not {w.id for w in answer.report_requests()} & {w.id for w in found}
        found += answer.report_requests()


def readings(site, ven, report=None):
    return [
        {**r, "amount": float(r["amount"])}
        for r in site.readings()
        if r["client"] == f"openadr2:{ven}" and report in {None, r["report"]}
    ]


@pytest.mark.parametrize("sign", SIGNS)
async def test_opts_are_made_and_cancelled(site, sign):
    ven = await site.registered("heater", sign)
    async with site.bl() as bl:
        program = (await bl.made("/programs", PRICED))["id"]
        event = await bl.made("/events", day(program, hour(2), [0.1]))
    await told(ven)
    times = [(hour(5), "PT2H"), (hour(29), "PT30M")]
    for opt_id, about in {
        "times": {"available": times, "context": "http://example.com/EV2A?a=b&c=d"},
        "event": {"event": (event["id"], 0), "opt": "optOut"},
        "resources": {"available": times[:1], "resources": ["meter", "boiler"], "opt": "optIn"},
        "class": {"available": times[:1], "device_class": "Thermostat", "reason": "x-own"},
    }.items():
        answer = await ven.create_opt(opt_id, **about)
        assert (answer.kind, answer.code) == ("oadrCreatedOpt", 200), opt_id
        assert answer.text("e:optID") == opt_id
    for code in (200, 452):
        answer = await ven.cancel_opt("times")
        assert (answer.kind, answer.code) == ("oadrCanceledOpt", code)
        assert answer.text("e:optID") == "times"


async def test_what_was_just_done_holds_while_others_are_heard(site):
    other = await site.registered("other")

    async def poll():
        while True:
            await other.poll()
            await asyncio.sleep(0.001)

    polling = asyncio.create_task(poll())
    try:
        for n in range(20):
            ven = await site.registered(f"ven{n}")
            assert (await ven.register_report(messages.usage_offer())).good
            assert (await ven.cancel_registration()).good
            assert (await ven.poll()).kind == "oadrRequestReregistration"
    finally:
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)


async def test_a_message_at_another_service_is_told_so(site):
    ven = await site.registered("heater")
    for service in ("EiEvent", "EiReport", "EiOpt", "EiRegisterParty"):
        answer = await ven.send(messages.poll(ven.ven_id), service)
        assert answer.refuses(459), answer


async def test_who_is_not_enrolled_is_told_so_and_who_shows_no_certificate_is_not_heard(site):
    stranger = site.ven(site.authority.issue("stranger"), ven_id="x")
    for answer in (await stranger.query(), await stranger.register(), await stranger.poll()):
        assert answer.refuses(463), answer

    class Bare(RawVen):
        def context(self):
            return ssl.create_default_context(cafile=str(self.ca))

    who = site.authority.issue("bare")
    async with Bare.of(who, site.url, site.authority.ca, ven_id="x") as bare:
        with pytest.raises(ClientConnectionError):
            await bare.poll()


async def test_the_admin_endpoint_knows_a_ven(site):
    who = site.enrol("heater", resources=("meter",), groups=("west",))
    ven = site.ven(who)
    assert (await ven.register()).good
    (found,) = (await site.asked("/api/v1/vens"))["items"]
    assert (found["id"], found["ven_id"]) == ("heater", ven.ven_id)
    assert found["registered"]
    assert (found["resources"], found["groups"]) == (["meter"], ["west"])
    (shown,) = found["certificates"]
    assert who.fingerprint.replace(":", "") in shown["fingerprint"].replace(":", "")
