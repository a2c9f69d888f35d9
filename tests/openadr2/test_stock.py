"""The stock, unpatched OpenLEADR VEN against the bridge, each in a process of its own."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from bridge.certificates import short_fingerprint, write_development_set
from bridge.notation import millis
from tests.openadr2.site import REPORTS, Site, issue
from tests.openadr3.clients import prices, until
from tests.peers import LONG, RawVtn, event, eventually, signal, started

HOUR = timedelta(hours=1)
NOON = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + 2 * HOUR
LOCAL = [float(f"{0.1 + n / 1000:.4f}") for n in range(23)] + [-0.015]
UTILITY = [f"0.{2000 + n}1" for n in range(24)]
METER = {"resource": "meter", "values": [1.25, 2.5, 0.001, 3.75], "sampling": [1, 60]}
KINDS = ("unsigned", "rsa", "ec")
in_long = pytest.mark.skipif(not LONG, reason="a long run: BRIDGE_LONG=1")


@pytest.fixture
def site(tmp_path):
    """Make a site whose certificates are of this kind."""

    def make(kind="ec", **about):
        write_development_set(tmp_path / "certs", kind)
        return Site(tmp_path, tmp_path / "certs", **about)

    return make


def intervals(seen):
    """Return (start, seconds, value) of the only signal of an event that a VEN saw."""
    (one,) = seen["signals"]
    return [(datetime.fromisoformat(start), length, v) for start, length, v in one["intervals"]]


def hours(start, values):
    return [(start + n * HOUR, 3600.0, float(v)) for n, v in enumerate(values)]


async def posted(client, name, values, start=NOON, **about):
    """Write a program of this name, if it is new, and an event of hourly prices; return it."""
    known = (await client.get("/programs", params={"limit": 50})).json
    program = next((p for p in known if p["programName"] == name), None)
    unit = {"payloadType": "PRICE", "units": "KWH", "currency": "USD"}
    described = {
        "programName": name,
        "payloadDescriptors": [{"objectType": "EVENT_PAYLOAD_DESCRIPTOR", **unit}],
    }
    program = program or await client.made("/programs", described)
    return await client.made("/events", prices(program["id"], f"{start:%Y-%m-%dT%H:%M:%SZ}", *values, **about))  # fmt: skip


async def id_here(client, name):
    """Return the OpenADR 3 id of an event that the utility calls by this name."""

    async def found():
        listed = (await client.get("/events", params={"limit": 50})).json
        return next((e["id"] for e in listed if e.get("eventName") == name), None)

    return await until(found)


async def answered(site, event_id, *opts):
    """Wait until VENs' answers to an event are these: (VEN, modification, opt)."""

    async def same():
        return await site.opts(event_id) == list(opts)

    await until(same)


def sent_values(ven):
    """Return (start in ms, value) of all that a VEN reported."""
    found = []
    for line in ven.saw("sent", type="oadrUpdateReport"):
        found += re.findall(
            r"<ei:interval><xcal:dtstart><xcal:date-time>([^<]+)<.*?<ei:value>([^<]+)</ei:value>",
            line["xml"],
        )
    return [(millis(datetime.fromisoformat(at)), Decimal(value)) for at, value in found]


async def kept(site, ven, meter="meter", at_least=4):
    """Wait for readings; check that they are what the VEN sent, digit for digit."""

    def enough():
        found = site.readings(meter)
        return found if len(found) >= at_least else None

    readings = await eventually(enough, 30)
    assert {r[2] for r in readings} == {f"openadr2:{ven.settings['name']}"}
    assert {r[:2] for r in readings} <= set(sent_values(ven))
    return readings


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS if LONG else ["rsa"])
async def test_a_price_day_answers_reports_and_a_cancellation(site, kind):
    signed, utility = kind != "unsigned", RawVtn()
    async with started(utility):
        here = site(kind if signed else "ec", upstream=utility.url)
        ven_id = here.enrol("battery", kind=kind)
        ven = here.ven("battery", signed=signed, reports=[METER])
        async with started(here), here.client() as bl, started(ven):
            assert (await ven.until("registered"))["ven_id"] == ven_id

            # a price day of ours, and one of the utility's
            ours = await posted(bl, "EV2A", LOCAL)
            seen = await ven.until("event", id=ours["id"])
            assert intervals(seen) == hours(NOON, LOCAL)
            assert (seen["signals"][0]["name"], seen["signals"][0]["type"]) == (
                "ELECTRICITY_PRICE",
                "price",
            )
            assert seen["signals"][0]["measurement"]["name"] == "currencyPerKWh"
            assert seen["context"].endswith("EV2A")
            assert datetime.fromisoformat(seen["start"]) == NOON
            assert seen["length"] == 24 * 3600
            utility.list(event("UP-1", NOON, signal(UTILITY), context="http://u.example/TOU"))
            theirs = await id_here(bl, "UP-1")
            assert intervals(await ven.until("event", id="UP-1")) == hours(NOON, UTILITY)

            # it answers, and thinks better of it
            await answered(here, ours["id"], ("battery", 0, "optIn"))
            await answered(here, theirs, ("battery", 0, "optIn"))
            await ven.order("created_event", event_id=ours["id"], opt="optOut")
            await answered(here, ours["id"], ("battery", 0, "optOut"))
            await ven.order("created_event", event_id=ours["id"], opt="optIn")
            await answered(here, ours["id"], ("battery", 0, "optIn"))

            # it opts by EiOpt
            opt = await ven.order(
                "create_opt", opt="optOut", event_id=ours["id"], modification=0, resource="meter"
            )
            assert opt
            assert await ven.order("cancel_opt", opt_id=opt) is True
            times = [[NOON.isoformat(), 7200], [(NOON + 5 * HOUR).isoformat(), 3600]]
            opt = await ven.order("create_opt", opt="optOut", available=times)
            assert opt
            assert await ven.order("cancel_opt", opt_id=opt) is True

            readings = await kept(here, ven)
            assert [value for _, value, _ in readings[:4]] == [
                Decimal(str(v)) for v in METER["values"]
            ]

            # both are cancelled
            deleted = await bl.delete(f"/events/{ours['id']}")
            assert deleted.status == 200, deleted.text
            utility.list(
                event("UP-1", NOON, signal(UTILITY), context="http://u.example/TOU",
                      modification=1, status="cancelled")
            )  # fmt: skip
            for event_id in (ours["id"], "UP-1"):
                gone = await ven.until("update", id=event_id)
                assert gone["status"] == "cancelled"
                assert gone["modification"] > 0
            await answered(here, theirs, ("battery", 1, "optIn"))
            polls = len(ven.saw("sent", type="oadrPoll"))
            await ven.until("sent", polls + 3, type="oadrPoll")
            assert not ven.saw("logged", level="ERROR")
            assert len(ven.saw("event")) == 2
            assert await ven.order("cancel_registration") is None


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS if LONG else ["ec"])
async def test_a_restart_of_the_bridge_is_not_noticed(site, kind):
    signed = kind != "unsigned"
    here = site(kind if signed else "ec")
    here.enrol("battery", kind=kind)
    ven = here.ven("battery", signed=signed, reports=[METER])
    await here.start()
    try:
        async with started(ven):
            await ven.until("registered")
            async with here.client() as bl:
                first = await posted(bl, "EV2A", LOCAL)
                unanswered = await posted(bl, "EV2A", LOCAL, NOON + 24 * HOUR)
            await ven.until("event", id=unanswered["id"])
            await answered(here, first["id"], ("battery", 0, "optIn"))
            await kept(here, ven)
            for _ in range(2):
                polls = len(ven.saw("sent", type="oadrPoll"))
                await here.stop()
                await ven.until("sent", polls + 2, type="oadrPoll")  # and nobody there
                before = len(here.readings("meter"))
                await here.start()
                await kept(here, ven, at_least=before + 4)
            async with here.client() as bl:
                last = await posted(bl, "EV2A", LOCAL, NOON + 48 * HOUR)
            await ven.until("event", id=last["id"])
            await answered(here, last["id"], ("battery", 0, "optIn"))
            await answered(here, first["id"], ("battery", 0, "optIn"))
            # Nothing was asked for again, and nothing was new twice.
            for once in ("oadrCreatePartyRegistration", "oadrRegisterReport", "oadrRequestEvent"):
                assert len(ven.saw("sent", type=once)) == 1
            assert [e["id"] for e in ven.saw("event")] == [
                first["id"],
                unanswered["id"],
                last["id"],
            ]
            assert not ven.saw("update")
    finally:
        await here.stop()


async def test_two_vens_have_the_same_event_and_each_its_answer(site):
    here = site()
    for name in ("battery", "charger"):
        here.enrol(name)
    battery = here.ven("battery", reports=[METER])
    charger = here.ven(
        "charger", opts={"*": "optOut"}, reports=[{**METER, "resource": "wallbox", "values": [7.5]}]
    )
    async with started(here), here.client() as bl, started(battery, charger):
        made = await posted(bl, "EV2A", LOCAL)
        for ven in (battery, charger):
            assert intervals(await ven.until("event", id=made["id"])) == hours(NOON, LOCAL)

        async def both():
            return sorted(await here.opts(made["id"])) == [
                ("battery", 0, "optIn"), ("charger", 0, "optOut"),
            ]  # fmt: skip

        await until(both)
        await kept(here, battery)
        await kept(here, charger, "wallbox")
        changed = prices(made["programID"], f"{NOON:%Y-%m-%dT%H:%M:%SZ}", *LOCAL[::-1])
        assert (await bl.put(f"/events/{made['id']}", changed)).status == 200
        for ven in (battery, charger):
            seen = await ven.until("update", id=made["id"])
            assert seen["modification"] == 1
            assert intervals(seen) == hours(NOON, LOCAL[::-1])


async def test_what_is_aimed_at_one_is_not_seen_by_another(site):
    utility = RawVtn()
    async with started(utility):
        here = site(upstream=utility.url, reports="")
        here.enrol("battery", "--resource", "garage", "--group", "east")
        here.enrol("charger", "--resource", "carport", "--group", "east")
        battery, charger = here.ven("battery"), here.ven("charger")
        async with started(here), here.client() as bl, started(battery, charger):
            aimed = await posted(bl, "EV2A", LOCAL, targets=["garage"])
            utility.list(
                event(
                    "UP-1", NOON, signal(UTILITY), targets="<ei:resourceID>garage</ei:resourceID>"
                ),
                event("UP-2", NOON, signal(UTILITY), targets="<ei:groupID>east</ei:groupID>"),
                event(
                    "UP-3", NOON, signal(UTILITY), targets="<ei:resourceID>carport</ei:resourceID>"
                ),
            )
            everyone = await posted(bl, "EV2A", LOCAL)
            for ven, expected in (
                (battery, {aimed["id"], "UP-1", "UP-2", everyone["id"]}),
                (charger, {"UP-2", "UP-3", everyone["id"]}),
            ):
                for event_id in expected:
                    await ven.until("event", id=event_id)
                assert set(await ven.order("request_event")) == expected
                assert {e["id"] for e in ven.saw("event")} == expected


async def test_another_certificate_cannot_speak_for_a_ven(site):
    here = site(reports="")
    ven_id = here.enrol("battery")
    here.enrol("charger")
    async with started(here), here.client() as bl:
        made = await posted(bl, "EV2A", LOCAL)
        thief = here.ven("battery", cert="charger", ven_id=ven_id)
        async with started(thief):
            await thief.until("received", code=463)
            await thief.until("registered", registration_id=None)
        issue(here.certs, "stranger")  # of the same CA, but not enrolled
        stranger = here.ven("stranger")
        async with started(stranger):
            await stranger.until("received", code=463)
            await stranger.until("registered", registration_id=None)
        for ven in (thief, stranger):
            assert not ven.saw("event")
        assert await here.opts(made["id"]) == []


@in_long
async def test_two_sorts_of_reports_each_come_in_time(site):
    """The library mixes up reports that are asked for in one message."""
    here = site(reports=REPORTS + REPORTS.replace("USAGE", "STATUS"))
    here.enrol("battery")
    status = {"resource": "state", "values": [1], "sampling": [1, 60], "name": "TELEMETRY_STATUS"}
    ven = here.ven(
        "battery", reports=[METER, {**METER, "resource": "other", "values": [9.5]}, status]
    )
    async with started(here), started(ven):
        await ven.until("registered")
        for meter in ("meter", "other"):
            await kept(here, ven, meter)
        assert not ven.saw("logged", level="ERROR")


@in_long
async def test_a_ven_that_measures_less_often_reports_all_the_same(site):
    """The library never sends a report that is to hold one measurement and a half."""
    here = site(reports=REPORTS.replace('"2s"', '"3s"'))
    here.enrol("battery")
    ven = here.ven("battery", reports=[{**METER, "sampling": [2, 60]}])
    async with started(here), started(ven):
        await ven.until("registered")
        await kept(here, ven)
        assert not ven.saw("logged", level="ERROR")


@in_long
async def test_a_ven_that_was_removed_and_enrolled_again_finds_its_way_back(site):
    here = site(reports="")
    here.enrol("battery")
    ven = here.ven("battery")
    async with started(here), here.client() as bl, started(ven):
        had = await ven.until("registered")
        here.command("ven", "remove", "battery")
        fingerprint = short_fingerprint((here.certs / "battery.crt").read_bytes())
        words = ("--fingerprint", fingerprint, "--ven-id", had["ven_id"])
        here.command("ven", "add", "battery", *words)
        made = await posted(bl, "EV2A", LOCAL)
        await ven.until("event", id=made["id"])
        await answered(here, made["id"], ("battery", 0, "optIn"))


async def test_nothing_is_opted_out_of_that_was_not(site):
    """The library opts out of all there is when a finished or cancelled event is listed again."""
    here = site(reports="")
    here.enrol("battery")
    ven = here.ven("battery")
    async with started(here), here.client() as bl, started(ven):
        program = await bl.made("/programs", {"programName": "DR"})

        def level(start, length):
            return {
                "programID": program["id"],
                "intervalPeriod": {"start": f"{start:%Y-%m-%dT%H:%M:%SZ}", "duration": length},
                "intervals": [{"id": 0, "payloads": [{"type": "SIMPLE", "values": [1]}]}],
            }

        now = datetime.now(UTC)
        short = await bl.made("/events", level(now, "PT3S"))
        endless = await bl.made("/events", level(NOON, "P9999Y"))
        cancelled = await bl.made("/events", level(NOON + HOUR, "PT1H"))
        for one in (short, endless, cancelled):
            await answered(here, one["id"], ("battery", 0, "optIn"))
        assert (await bl.delete(f"/events/{cancelled['id']}")).status == 200
        await ven.until("update", id=cancelled["id"], status="cancelled")
        for n in range(4):  # some of them after the first is over
            later = await bl.made("/events", level(NOON + n * HOUR, "PT30M"))
            await answered(here, later["id"], ("battery", 0, "optIn"))
            polls = len(ven.saw("sent", type="oadrPoll"))
            await ven.until("sent", polls + 1, type="oadrPoll")
        assert datetime.now(UTC) > now + timedelta(seconds=4)
        assert not ven.saw("logged", level="ERROR")
        assert not [s for s in ven.saw("sent", type="oadrCreatedEvent") if "optOut" in s["xml"]]


@in_long
async def test_a_vtn_id_without_capitals_will_do(site):
    """The library then says 452 beside answers that are good."""
    here = site(reports="")
    here.config.write_text(here.config.read_text().replace('"BRIDGE"', '"bridge"'))
    here.enrol("battery")
    ven = here.ven("battery")
    async with started(here), here.client() as bl, started(ven):
        made = await posted(bl, "EV2A", LOCAL)
        await answered(here, made["id"], ("battery", 0, "optIn"))
        (sent,) = ven.saw("sent", type="oadrCreatedEvent")
        assert ">452<" in sent["xml"]


@in_long
async def test_a_ven_that_starts_again_is_the_same_one(site):
    here = site()
    here.enrol("battery")
    async with started(here), here.client() as bl:
        made = await posted(bl, "EV2A", LOCAL)
        first, second = (here.ven("battery", reports=[METER]) for _ in range(2))
        async with started(first):
            had = await first.until("registered")
            await answered(here, made["id"], ("battery", 0, "optIn"))
            await kept(here, first)
        before = len(here.readings("meter"))
        async with started(second):
            has = await second.until("registered")
            assert {k: has[k] for k in ("ven_id", "registration_id")} == {
                k: had[k] for k in ("ven_id", "registration_id")
            }
            await second.until("event", id=made["id"])  # it asks for all there is
            await eventually(lambda: len(here.readings("meter")) >= before + 4, 30)
            assert not second.saw("logged", level="ERROR")
