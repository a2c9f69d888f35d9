"""Each defect that is known of stock OpenLEADR's VTN, by its number, is not one of ours.

B2, B4, B6, B7, B8, B11 and B13 stand in test_passing, test_rogue, test_raw_ven, test_reports,
test_kill and wire/test_signatures, too: here each is seen from outside, once.
"""

import asyncio
import gzip
import io
import json
import sys
from datetime import UTC, datetime, timedelta

import pytest

from tests.openadr2 import raw_messages as messages
from tests.openadr2.raw_site import Process, Site, served
from tests.openadr2.test_edges import programs
from tests.openadr2.test_passing import between, xml_of
from tests.openadr2.test_raw_ven import day, hour, owed_nothing, told
from tests.peers import event, levels, signal

LATER = hour(5)


@pytest.fixture
async def site(tmp_path):
    async with served(tmp_path) as found:
        yield found


async def test_b1_an_entity_of_41_bytes_ends_nothing(tmp_path):
    site = Site(tmp_path)
    bridge = Process(site)
    await bridge.start()
    try:
        stranger, ven = site.ven(site.authority.issue("stranger")), site.ven(site.enrol("heater"))
        for one in (stranger, ven):
            for encoding in ("utf-8", "utf-16"):
                content = '<!DOCTYPE l [<!ENTITY a "x">]><l>&a;</l>'.encode(encoding)
                answer = await one.post(content, "OadrPoll")
                assert answer.status in {200, 400}
                assert answer.code in {454, 463}
        assert bridge.alive
    finally:
        await site.close()
        await bridge.stop()


async def test_b2_text_is_escaped_and_nothing_can_be_put_in_between(tmp_path):
    async with between(tmp_path) as (site, utility):
        ven = await site.registered("heater", ven_id="A&B<C>")
        context = "http://utility.example/?a=1&amp;b=%3C"
        utility.list(event("E&amp;1", LATER, levels([1]), context=context, duration="PT1H"))
        (found,), answer = await told(ven)
        assert (found.id, found.context) == ("E&1", "http://utility.example/?a=1&b=%3C")
        assert found.targets["venID"] == ["A&B<C>"]
        assert (await ven.answer(answer)).good
        await owed_nothing(ven)


async def test_b3_two_bridges_in_one_process_keep_apart(tmp_path):
    async with (
        served(tmp_path / "one") as one,
        served(tmp_path / "two", require_signatures=True) as two,
    ):
        ven, other = await one.registered("heater"), await two.registered("pump", "ec")
        assert (await ven.poll()).good
        assert (await other.poll()).signed
        assert one.query("SELECT name FROM vens") == [{"name": "heater"}]


async def test_b5_answers_to_what_is_over_or_unknown_are_no_mistakes_here(tmp_path):
    async with between(tmp_path) as (site, utility):
        ven = await site.registered("heater")
        assert (await ven.created_event(("never", 0, "optIn"))).refuses(452)
        start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
        utility.list(event("OVER", start, levels([1]), status="completed", duration="PT1M"))
        assert (await ven.created_event(("OVER", 0, "optIn"))).refuses(452)
        assert (await ven.poll()).good


async def test_b6_a_lost_answer_is_no_lost_event(site):
    ven = await site.registered("heater")
    async with programs(site, "P") as (bl, program):
        await bl.made("/events", day(program, LATER, [1]))
        for _ in range(3):
            assert len((await told(ven))[0]) == 1


async def test_b9_what_is_no_message_gets_an_answer_that_says_so(site):
    ven = await site.registered("heater")
    content = ven.write(messages.poll(ven.ven_id))
    for kind, status in (
        ("text/xml", 200),
        ("application/xml; charset=utf-8", 200),
        ("text/plain", 415),
        ("", 415),
    ):
        answer = await ven.post(content, "OadrPoll", headers={"Content-Type": kind})
        assert answer.status == status, kind
    assert (await ven.post(io.BytesIO(b"x" * 1_100_000), "OadrPoll")).status == 413
    bomb = gzip.compress(b" " * 50_000_000)
    headers = {"Content-Type": "application/xml", "Content-Encoding": "gzip"}
    assert (await ven.post(bomb, "OadrPoll", headers=headers)).status == 415
    other = site.ven(site.authority.issue("other"), ven_id=ven.ven_id)
    assert (await other.request_event()).refuses(463)
    assert (await other.register()).refuses(463)


async def test_b10_each_opt_is_kept_and_of_each_ven(site):
    heater, pump = await site.registered("heater"), await site.registered("pump")
    async with programs(site, "P") as (bl, program):
        made = await bl.made("/events", day(program, LATER, [1], kind="SIMPLE"))
        for ven in (heater, pump):
            await ven.answer((await told(ven))[1])
        for opt in ("optOut", "optIn", "optOut"):
            assert (await heater.created_event((made["id"], 0, opt))).good
        (row,) = (await site.asked("/api/v1/events"))["items"]
        assert [(o["ven"], o["opt"]) for o in row["opts"]] == [
            ("heater", "optOut"),
            ("pump", "optIn"),
        ]


async def test_b11_all_of_the_active_period_arrives(tmp_path):
    extra = "".join(
        f"<ei:x-ei{name}><xcal:duration>PT{n}M</xcal:duration></ei:x-ei{name}>"
        for n, name in ((5, "Notification"), (10, "RampUp"), (15, "Recovery"))
    )
    async with between(tmp_path) as (site, utility):
        ven = await site.registered("heater")
        utility.list(
            event("E", LATER, levels([1]), duration="PT1H", start_after="PT2M", extra=extra)
        )
        _, answer = await told(ven)
        raw = xml_of(answer, "E")
        found = {n: raw.findtext(f".//{{*}}{n}") or raw.findtext(f".//{{*}}{n}/{{*}}duration") for n in
                 ("startafter", "x-eiNotification", "x-eiRampUp", "x-eiRecovery")}  # fmt: skip
        assert {k: (v or "").strip() or raw.findtext(f".//{{*}}{k}/{{*}}duration") for k, v in found.items()} == {
            "startafter": "PT2M", "x-eiNotification": "PT5M", "x-eiRampUp": "PT10M", "x-eiRecovery": "PT15M",
        }  # fmt: skip


async def test_b12_what_is_over_is_held_by_nobody(tmp_path):
    async with between(tmp_path) as (site, utility):
        ven = await site.registered("heater")
        start = datetime.now(UTC).replace(microsecond=0)
        utility.list(event("S", start, signal(["0.1"], length="PT3S"), duration="PT3S"))
        await told(ven)
        await owed_nothing(ven)
        assert (await ven.request_event()).events() == []


async def test_b14_active_events_come_first_by_priority_then_the_next(tmp_path):
    now = hour()
    async with between(tmp_path) as (site, utility):
        ven = await site.registered("heater")
        utility.list(
            event("later", LATER, levels([1]), duration="PT1H", priority=1),
            event("none", now, levels([1]), duration="PT9H", priority=0),
            event("soon", hour(2), levels([1]), duration="PT1H"),
            event("second", now, levels([1]), duration="PT9H", priority=2),
            event("first", now, levels([1]), duration="PT9H", priority=1),
        )
        found, _ = await told(ven, lambda e: len(e) == 5)
        assert [e.id for e in found] == ["first", "second", "none", "soon", "later"]
        limited = await ven.request_event(limit=2)
        assert [e.id for e in limited.events()] == ["first", "second"]


async def test_b16_and_b17_nothing_is_printed_and_no_message_is_logged(tmp_path):
    site = Site(tmp_path)
    bridge = Process(site)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge", "run", "-c", str(bridge.file),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    first = json.loads(await process.stdout.readline())
    site.url, site.vtn, site.admin = first["openadr2"], first["vtn"], first["admin"]
    ven = await site.registered("heater", "ec")
    assert (await ven.poll()).good
    assert (await ven.post(b"<nonsense/>", "OadrPoll")).status == 400
    await site.close()
    process.terminate()
    rest, logs = await process.communicate()
    assert rest == b""
    assert b"oadrPayload" not in logs
    assert b"PRIVATE" not in logs
    assert ven.registration_id.encode() not in logs
