"""From a utility's 2.0b VTN, through the bridge, to 2.0b devices; and their opts back."""

import re
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from bridge.app import running
from bridge.config import Settings
from bridge.store import event_rows, vens
from bridge.store.files import beside
from tests.openadr2.raw_site import Site
from tests.openadr2.test_raw_ven import owed_nothing, told
from tests.openadr3.clients import until
from tests.peers import Device, RawVtn, event, levels, signal

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
LATER = NOW + timedelta(hours=5)


@asynccontextmanager
async def between(folder, *names, devices=(), **source):
    """Run a bridge between utilities and VENs; yield the site and the utilities."""
    site, utilities = Site(folder), []
    for _ in names or ("utility",):
        utility = RawVtn()
        utility.poll = "PT1S"
        await utility.start()
        utilities.append(utility)
    settings = site.settings() | {
        "sources": [
            {"kind": "openadr2", "name": name, "vtn_url": utility.url, "ven_name": "bridge", **source}
            for name, utility in zip(names or ("utility",), utilities, strict=True)
        ],
        "devices": list(devices),
    }  # fmt: skip
    try:
        async with running(Settings.model_validate(settings)) as bridge:
            site.url, site.vtn, site.admin = (
                bridge.addresses[k] for k in ("openadr2", "vtn", "admin")
            )
            yield site, *utilities
    finally:
        await site.close()
        for utility in utilities:
            await utility.stop()


def xml_of(answer, event_id):
    for found in answer.element.iter("{*}oadrEvent"):
        if found.findtext(".//{*}eventID") == event_id:
            return found
    raise AssertionError(event_id)


async def test_ids_signals_and_values_pass_through(tmp_path):
    values = ["0.123456", "-0.05", "0.30000000000000004", "1e-05"]
    async with between(tmp_path) as (site, utility):
        ven = await site.registered("heater")
        sent = event("DR-007", LATER, signal(values, signal_id="price-1"), levels([1, 2, 3, 0]), modification=4,
                     duration="PT4H", context="http://utility.example/EV2A?a=1&amp;b=2", priority=3,
                     start_after="PT5M", extra="<ei:x-eiRampUp><xcal:duration>PT10M</xcal:duration></ei:x-eiRampUp>")  # fmt: skip
        utility.list(sent)
        (found,), answer = await told(ven)
        assert (found.id, found.modification, found.status, found.context, found.priority) == (
            "DR-007", 4, "far", "http://utility.example/EV2A?a=1&b=2", 3)  # fmt: skip
        assert [(s.name, s.type) for s in found.signals] == [
            ("ELECTRICITY_PRICE", "price"),
            ("SIMPLE", "level"),
        ]
        raw = xml_of(answer, "DR-007")
        assert [
            v.text for v in raw.iterfind(".//{*}interval/{*}signalPayload/{*}payloadFloat/{*}value")
        ][:4] == values
        assert raw.findtext(".//{*}signalID") == "price-1"
        assert raw.findtext(".//{*}startafter") == "PT5M"
        assert raw.findtext(".//{*}x-eiRampUp/{*}duration") == "PT10M"
        assert (await ven.answer(answer)).good
        await owed_nothing(ven)


async def test_modifications_cancellation_and_completion_pass_through(tmp_path):
    async with between(tmp_path) as (site, utility):
        ven = await site.registered("heater")
        utility.list(event("E", LATER, levels([1]), duration="PT1H"))
        _, answer = await told(ven)
        await ven.answer(answer)
        utility.list(event("E", LATER, levels([2]), modification=3, duration="PT1H"))
        (found,), answer = await told(ven, lambda e: e and e[0].modification == 3)
        assert found.signals[0].values == [2]
        await ven.answer(answer, "optOut")
        utility.list(
            event("E", LATER, levels([2]), modification=4, status="cancelled", duration="PT1H")
        )
        (found,), answer = await told(ven, lambda e: e and e[0].status == "cancelled")
        assert found.modification == 4
        await ven.answer(answer)
        await owed_nothing(ven)
        assert (await ven.request_event()).events() == []


async def test_what_a_utility_drops_is_cancelled_outright_and_comes_back_higher(tmp_path):
    async with between(tmp_path) as (site, utility):
        ven = await site.registered("heater")
        one, two = (
            event("ONE", LATER, levels([1]), duration="PT1H"),
            event("TWO", LATER, levels([2]), duration="PT1H"),
        )
        utility.list(one, two)
        _, answer = await told(ven, lambda e: len(e) == 2)
        await ven.answer(answer)
        utility.list(two)  # ONE is gone, and is gone when it is asked for again
        found, answer = await told(ven, lambda e: any(x.status == "cancelled" for x in e))
        gone = next(e for e in found if e.id == "ONE")
        assert gone.modification == 1
        await ven.answer(answer)
        await owed_nothing(ven)
        utility.list(one, two)
        found, answer = await told(
            ven, lambda e: any(x.id == "ONE" and x.status != "cancelled" for x in e)
        )
        assert next(e.modification for e in found if e.id == "ONE") == 2


async def test_two_utilities_may_use_one_id(tmp_path):
    async with between(tmp_path, "north", "south") as (site, north, south):
        ven = await site.registered("heater")
        north.list(event("E", LATER, levels([1]), duration="PT1H", context="http://n/A"))
        _, answer = await told(ven)
        await ven.answer(answer)
        south.list(event("E", LATER, levels([3]), duration="PT1H", context="http://s/B"))
        found, answer = await told(ven, lambda e: len(e) == 2)
        assert {e.id: e.signals[0].values for e in found} == {"E": [1], "south:E": [3]}
        assert (await ven.answer(answer)).good
        await owed_nothing(ven)


async def test_one_that_is_told_of_tests_sees_them_and_another_does_not(tmp_path):
    async with between(tmp_path) as (site, utility):
        plain, testing = (
            await site.registered("plain"),
            await site.registered("testing", test_events=True),
        )
        utility.list(event("T", LATER, levels([1]), test="true", duration="PT1H"))
        (found,), _ = await told(testing)
        assert found.test == "true"
        assert (await plain.poll()).kind == "oadrResponse"


async def test_an_event_nobody_has_answered_yet_is_told_once_it_is(tmp_path):
    async with between(tmp_path, opt="manual") as (site, utility):
        ven = await site.registered("heater")
        utility.list(event("E", LATER, levels([1]), duration="PT1H"))
        (row,) = (await until(lambda: _asked(site)))["items"]
        assert (await ven.poll()).kind == "oadrResponse"
        with beside(site.path) as db:
            event_rows.set_opt(db, row["id"], "optIn", datetime.now(UTC))
        assert (await told(ven))[0][0].id == "E"
        with beside(site.path) as db:
            event_rows.set_opt(db, row["id"], "optOut", datetime.now(UTC))
        assert (await told(ven, lambda e: e and e[0].status == "cancelled"))[0][0].modification == 1


async def _asked(site):
    found = await site.asked("/api/v1/events")
    return found if found["items"] else None


async def test_what_asks_for_no_answer_is_told_once(tmp_path):
    async with between(tmp_path) as (site, utility):
        ven = await site.registered("heater")
        utility.list(event("N", LATER, levels([1]), required="never", duration="PT1H"))
        (found,), _ = await told(ven)
        assert found.required == "never"
        await owed_nothing(ven)
        assert [e.id for e in (await ven.request_event()).events()] == ["N"]


# --- opts ---------------------------------------------------------------------------------------

GROUPS = "<ei:groupID>site</ei:groupID>"


def upstream(utility):
    """Return what a utility was told: answers to events, and (optType, resource) of EiOpts."""
    parts = [
        (re.search(r"<ei:optType>(\w+)", xml)[1], re.search(r"<ei:resourceID>(\w+)", xml)[1])
        for kind, xml in utility.asked
        if kind == "oadrCreateOpt"
    ]
    return [o for _, _, o in utility.opts], parts


async def both(site, utility):
    """Return two VENs that have opted into an event that is aimed at both."""
    pair = [await site.registered(n, groups=["site"], resources=[n]) for n in ("heater", "pump")]
    utility.list(event("E", LATER, levels([2]), targets=GROUPS, duration="PT1H"))
    for ven in pair:
        assert (await ven.answer((await told(ven))[1])).good
    assert upstream(utility) == (["optIn"], [])
    return pair


async def test_a_utility_is_told_optout_only_when_all_are_out(tmp_path):
    async with between(tmp_path, pass_opts=True) as (site, utility):
        heater, pump = await both(site, utility)
        await heater.created_event(("E", 0, "optOut"))
        await until(lambda: _is(lambda: upstream(utility) == (["optIn"], [("optOut", "heater")])))
        await pump.created_event(("E", 0, "optOut"))
        await until(lambda: _is(lambda: upstream(utility)[0] == ["optIn", "optOut"]))
        # It is still listed, with nothing owed: they may change their minds.
        assert [e.id for e in (await pump.request_event()).events()] == ["E"]
        await pump.created_event(("E", 0, "optIn"))
        await until(lambda: _is(lambda: upstream(utility)[0] == ["optIn", "optOut", "optIn"]))
        await heater.created_event(("E", 0, "optIn"))
        await until(lambda: _is(lambda: upstream(utility)[1][-1] == ("optIn", "heater")))


async def _is(condition):
    return condition()


async def test_a_device_that_is_told_keeps_a_utility_from_hearing_optout(tmp_path):
    device = Device()
    await device.start()
    about = {"kind": "webhook", "name": "d", "url": device.url, "groups": ["site"]}
    async with between(tmp_path, devices=[about], pass_opts=True) as (site, utility):
        for ven in await both(site, utility):
            await ven.created_event(("E", 0, "optOut"))
        await until(lambda: _is(lambda: len(upstream(utility)[1]) == 2))
        assert upstream(utility) == (["optIn"], [("optOut", "heater"), ("optOut", "pump")])
    await device.stop()


async def test_opts_stay_here_where_the_source_does_not_pass_them(tmp_path):
    async with between(tmp_path) as (site, utility):
        for ven in await both(site, utility):
            await ven.created_event(("E", 0, "optOut"))
        (row,) = (await site.asked("/api/v1/events"))["items"]
        assert [(o["ven"], o["opt"]) for o in row["opts"]] == [
            ("heater", "optOut"),
            ("pump", "optOut"),
        ]
        assert row["opt"] == "optIn"
        assert upstream(utility) == (["optIn"], [])


async def test_a_schedule_of_opting_out_counts(tmp_path):
    async with between(tmp_path, pass_opts=True) as (site, utility):
        heater, pump = await both(site, utility)
        for ven in (heater, pump):
            window = [(LATER - timedelta(hours=1), "PT3H")]
            assert (await ven.create_opt(f"o-{ven.name}", available=window)).good
        await until(lambda: _is(lambda: upstream(utility)[0] == ["optIn", "optOut"]))
        assert (await pump.cancel_opt("o-pump")).good
        await until(lambda: _is(lambda: upstream(utility)[0] == ["optIn", "optOut", "optIn"]))


async def test_a_dispatch_in_a_time_that_was_opted_out_of_is_not_told_but_prices_are(tmp_path):
    async with between(tmp_path) as (site, utility):
        ven = await site.registered("heater")
        window = [(LATER - timedelta(hours=1), "PT3H")]
        assert (await ven.create_opt("o", available=window)).good
        utility.list(
            event("L", LATER, levels([2]), duration="PT1H"),
            event("P", LATER, signal(["0.1"]), duration="PT1H"),
        )
        found, answer = await told(ven)
        assert [e.id for e in found] == ["P"]
        await ven.answer(answer)
        await owed_nothing(ven)
        assert (await ven.cancel_opt("o")).good
        assert {e.id for e in (await told(ven))[0]} == {"L", "P"}


@pytest.mark.parametrize("removed", [False, True])
async def test_who_is_there_no_more_counts_no_more(tmp_path, removed):
    async with between(tmp_path, pass_opts=True) as (site, utility):
        heater, pump = await both(site, utility)
        if removed:
            with beside(site.path) as db:
                vens.remove(db, "pump", datetime.now(UTC))
        await heater.created_event(("E", 0, "optOut"))
        expected = ["optIn", "optOut"] if removed else ["optIn"]
        await until(lambda: _is(lambda: upstream(utility)[0] == expected))
        assert (await pump.poll()).code == (463 if removed else 200)
