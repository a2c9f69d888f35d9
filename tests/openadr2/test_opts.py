"""EiOpt: for events and times, of a VEN or its resources; what was said last counts."""

from datetime import UTC, datetime, timedelta

import pytest

from bridge.app import running
from bridge.config import Settings
from bridge.store import event_rows
from bridge.store.files import beside
from tests.openadr2 import raw_messages as messages
from tests.openadr2.raw_site import served
from tests.openadr2.test_passing import GROUPS, between, upstream
from tests.openadr2.test_raw_ven import hour, owed_nothing, told
from tests.openadr3.clients import until
from tests.peers import event, levels

LATER = hour(5)


@pytest.fixture
async def site(tmp_path):
    async with served(tmp_path) as found:
        yield found


async def test_an_opt_for_another_market_context_counts_for_no_other(tmp_path):
    async with between(tmp_path, pass_opts=True) as (site, utility):
        ven = await site.registered("heater", groups=["site"], resources=["r"])
        window = [(LATER - timedelta(hours=1), "PT3H")]
        assert (await ven.create_opt("o", available=window, context="http://other.example/X")).good
        utility.list(event("E", LATER, levels([1]), targets=GROUPS, duration="PT1H"))
        await ven.answer((await told(ven))[1])
        assert upstream(utility) == (["optIn"], [])


async def test_what_was_said_last_of_a_time_counts(tmp_path):
    async with between(tmp_path) as (site, utility):
        ven = await site.registered("heater")
        window = [(LATER - timedelta(hours=1), "PT3H")]
        await ven.create_opt("out", available=window)
        await ven.create_opt("in", opt="optIn", available=window)
        utility.list(event("E", LATER, levels([1]), duration="PT1H"))
        assert (await told(ven))[0][0].id == "E"


async def test_an_opt_by_an_id_that_was_read_as_a_number_is_for_the_right_event(tmp_path):
    async with between(tmp_path) as (site, utility):
        ven = await site.registered("heater")
        utility.list(event("007", LATER, levels([1]), duration="PT1H"))
        await told(ven)
        assert (await ven.created_event(("7", 0, "optIn"))).good
        await owed_nothing(ven)
        assert (await ven.create_opt("o", event=("7", 0))).good
        assert await _opts(site) == [("007", "optOut")]
        assert (await ven.cancel_opt("o")).good
        assert await _opts(site) == [("007", "optIn")]


async def _opts(site):
    (row,) = (await site.asked("/api/v1/events"))["items"]
    return [(o["event"], o["opt"]) for o in row["opts"]]


async def test_a_late_word_changes_nothing_that_was_said_since(tmp_path):
    async with between(tmp_path) as (site, utility):
        ven = await site.registered("heater")
        utility.list(event("E", LATER, levels([1]), duration="PT1H"))
        await ven.answer((await told(ven))[1])
        assert (await ven.create_opt("o", event=("E", 0))).good
        utility.list(event("E", LATER, levels([2]), modification=1, duration="PT1H"))
        await told(ven, lambda e: e and e[0].modification == 1)
        await ven.created_event(("E", 1, "optOut"))
        assert (await ven.cancel_opt("o")).good
        assert (await ven.created_event(("E", 0, "optIn"))).good
        assert await _opts(site) == [("E", "optOut")]


async def test_what_a_person_decides_stands_through_a_restart(tmp_path):
    async with between(tmp_path, pass_opts=True) as (site, utility):
        ven = await site.registered("heater", groups=["site"], resources=["r"])
        utility.list(event("E", LATER, levels([1]), targets=GROUPS, duration="PT1H"))
        await ven.answer((await told(ven))[1], "optOut")
        row = await until(lambda: _event(site, "optOut"))
        with beside(site.path) as db:
            event_rows.set_opt(db, row["id"], "optIn", datetime.now(UTC), by="person")
        settings = site.settings() | {
            "sources": [{"kind": "openadr2", "name": "utility", "vtn_url": utility.url, "ven_name": "bridge", "pass_opts": True}]
        }  # fmt: skip
    async with running(Settings.model_validate(settings)) as bridge:
        site.url, site.admin = bridge.addresses["openadr2"], bridge.addresses["admin"]
        ven.url = site.url + "/OpenADR2/Simple/2.0b"
        assert (await ven.created_event(("E", 0, "optOut"))).good
        assert (await _event(site, "optIn")) is not None
        await ven.close()


async def _event(site, opt):
    found = (await site.asked("/api/v1/events"))["items"]
    return next((e for e in found if e["opt"] == opt), None)


async def test_opts_have_limits(site, monkeypatch):
    from bridge.vtn.openadr2 import services

    monkeypatch.setattr(services, "MOST_TIMES", 2)
    monkeypatch.setattr(services, "MOST_OPTS", 2)
    ven, window = await site.registered("heater"), (LATER, "PT1H")
    assert (await ven.create_opt("o", available=[window] * 3)).refuses(454)
    assert (await ven.create_opt("o", available=[window], event=("E", 0))).refuses(454)
    assert (await ven.create_opt("a", available=[window])).good
    assert (await ven.create_opt("b", available=[window])).good
    assert (await ven.create_opt("b", available=[window])).good  # the same again
    assert (await ven.create_opt("c", available=[window])).refuses(451)


async def test_a_cancelled_opt_leaves_what_else_was_said(tmp_path):
    async with between(tmp_path) as (site, utility):
        ven = await site.registered("heater")
        utility.list(event("E", LATER, levels([1]), duration="PT1H"))
        await ven.answer((await told(ven))[1])
        for opt_id in ("one", "two"):
            assert (await ven.create_opt(opt_id, event=("E", 0))).good
        assert (await ven.cancel_opt("two")).good
        assert await _opts(site) == [("E", "optOut")]
        assert (await ven.cancel_opt("one")).good
        assert await _opts(site) == [("E", "optIn")]
        await ven.create_opt("times", available=[(LATER - timedelta(hours=1), "PT3H")])
        await ven.create_opt("one", event=("E", 0))
        await ven.cancel_opt("one")
        assert await _opts(site) == [("E", "optOut")]


# --- for a part of a VEN ------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["<e:groupID>site</e:groupID>", "<e:resourceID>r</e:resourceID>"])
async def test_an_opt_for_a_part_of_a_ven_keeps_no_event_from_the_whole(tmp_path, part):
    async with between(tmp_path) as (site, utility):
        ven = await site.registered("heater", groups=["site"])
        window = [(LATER - timedelta(hours=1), "PT3H")]
        body = messages.create_opt(ven.ven_id, "o", available=window)
        aimed = body.replace("<e:eiTarget></e:eiTarget>", f"<e:eiTarget>{part}</e:eiTarget>")
        assert aimed != body
        assert (await ven.send(aimed)).good
        assert (await ven.create_opt("p", available=window, device_class="Thermostat")).good
        utility.list(event("E", LATER, levels([1]), duration="PT1H"))
        assert (await told(ven))[0][0].id == "E"
        listed = (await site.asked("/api/v1/vens"))["items"][0]["opts"]
        assert [o["resources"] for o in listed] == [[_name(part)], ["Thermostat"]]


def _name(part):
    return part.partition(">")[2].partition("<")[0]


async def test_an_opt_of_a_class_of_devices_is_not_the_sites(tmp_path):
    async with between(tmp_path, pass_opts=True) as (site, utility):
        ven = await site.registered("heater", groups=["site"], resources=["r", "q"])
        utility.list(event("E", LATER, levels([1]), targets=GROUPS, duration="PT1H"))
        await ven.answer((await told(ven))[1])
        assert (await ven.create_opt("o", event=("E", 0), device_class="Thermostat")).good
        assert (await ven.create_opt("p", event=("E", 0), resources=["r"])).good

        async def passed():
            return upstream(utility)[1]

        await until(passed)
        assert upstream(utility)[0] == ["optIn"]


async def test_an_opt_for_times_that_are_over_is_refused(site):
    ven = await site.registered("heater")
    over = await ven.create_opt("o", available=[(hour(-5), "PT1H")])
    assert over.refuses(454)
    back = await ven.create_opt("p", available=[(hour(5), "-PT1H")])
    assert back.refuses(454)
    assert site.query("SELECT * FROM ven_opts") == []
