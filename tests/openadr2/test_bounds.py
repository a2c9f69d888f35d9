"""What one VEN may cost the others: memory, the writer, the event loop; and what it may not touch."""

import asyncio
import base64
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bridge.errors import StoreError
from bridge.store import heard, offer_rows, vens
from bridge.store.files import beside
from bridge.vens import Offer, Said, Standing, Ven
from bridge.vtn.openadr2.board import MOST_LISTED, Board
from bridge.vtn.openadr2.outs import Outs
from tests.openadr2 import raw_messages as messages
from tests.openadr2.raw_site import Process, Site, served
from tests.openadr2.test_raw_ven import hour
from tests.openadr3.clients import until
from tests.peers import SimClock

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
async def site(tmp_path):
    async with served(tmp_path) as found:
        yield found


# --- memory -------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Sending a large body")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="/proc says what memory is used")
async def test_what_is_refused_is_not_remembered(tmp_path):
    site = Site(tmp_path)
    bridge = Process(site, rate_limit=1000)
    await bridge.start()
    try:
        ven = await site.registered("a", "ec")
        good = ven.write(messages.poll(ven.ven_id)).decode()

        async def strange(n):
            junk = base64.b64encode(n.to_bytes(4, "big") * 180_000).decode()
            content = re.sub(
                r"(X509Certificate>)[^<]*<", lambda m: m[1] + junk + "<", good, count=1
            )
            assert (await ven.post(content.encode(), "OadrPoll")).refuses(463)
            long = ven.write(messages.poll(ven.ven_id), nonce=f"{n:08d}" * 110_000)
            assert (await ven.post(long, "OadrPoll")).refuses(463)

        for n in range(5):
            await strange(n)
        before = _resident(bridge.process.pid)
        for n in range(5, 65):
            await strange(n)
        assert _resident(bridge.process.pid) - before < 40  # MB; it was 100 and more
    finally:
        await site.close()
        await bridge.stop()


def _resident(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) // 1024


async def test_history_that_was_never_given_is_forgotten_some_time(site):
    ven = await site.registered("v")
    for _ in range(5):
        await ven.register_report(messages.history_offer())
    with beside(site.path) as db:
        offer_rows.prune(db, datetime.now(UTC) + timedelta(days=400))
    assert len(site.query("SELECT * FROM ven_requests")) <= 1


# --- the writer ---------------------------------------------------------------------------------


async def test_answers_to_what_was_never_asked_cost_a_look(site):
    await site.registered("a")
    with beside(site.path) as db:
        for n in range(3):
            vens.say(db, "a", "oadrCreateReport", {}, datetime.now(UTC), f"r{n}")
        said: list[str] = []
        db.conn.set_trace_callback(said.append)
        assert vens.answered(db, "a", "oadrCreateReport", {f"q{n}" for n in range(15_000)}) is False
        assert len(said) <= 2
        assert vens.answered(db, "a", "oadrCreateReport", {"r1", "q"})
        db.conn.set_trace_callback(None)
    assert [m["request_id"] for m in site.query("SELECT * FROM ven_messages")] == ["r0", "r2"]


async def test_a_poll_does_not_wait_for_the_writer(site, monkeypatch):
    monkeypatch.setattr(heard, "WRITTEN_EVERY", timedelta(0))  # as once a minute
    ven = await site.registered("a")
    await ven.poll()
    with beside(site.path):  # a command that writes for a while
        began = time.monotonic()
        answer = await asyncio.wait_for(ven.poll(), 20)
        assert (answer.status, answer.kind) == (200, "oadrResponse")
        assert time.monotonic() - began < 3


async def test_a_cancellation_that_fails_half_way_is_taken_the_second_time(site, monkeypatch):
    ven = await site.registered("a")
    with beside(site.path) as db:
        vens.end_registration(db, "a", datetime.now(UTC))

    async def told():
        answer = await ven.poll()
        return answer.kind == "oadrCancelPartyRegistration"

    await until(told)
    real = vens.deregister

    def fails(db, name):
        monkeypatch.setattr(vens, "deregister", real)
        real(db, name)
        raise StoreError("the disk is full")

    monkeypatch.setattr(vens, "deregister", fails)
    assert (await ven.canceled_registration()).status == 503
    assert (await ven.canceled_registration()).good
    assert (await ven.poll()).kind == "oadrRequestReregistration"


# --- others -------------------------------------------------------------------------------------


async def test_a_report_under_anothers_request_touches_nothing_of_the_others(site):
    ven, other = await site.registered("a"), await site.registered("b")
    offer = [messages.usage_offer(), messages.usage_offer("second")]
    (wanted, *_) = (await other.register_report(*offer)).report_requests()
    waiting = "SELECT ven, kind, request_id FROM ven_messages ORDER BY turn"
    before = site.query(waiting)
    assert [row["ven"] for row in before] == ["b"] * len(before) != []
    at = [(hour(-1), "PT1M", {"energy": 1})]
    for request in {wanted.id, *(row["request_id"] for row in before)}:
        said = messages.report(request, "usage", "TELEMETRY_USAGE", at)
        await ven.update_report(said)
    assert site.query(waiting) == before


async def test_who_has_the_name_of_one_that_was_removed_was_not_heard_of(site):
    ven = await site.registered("a")
    await ven.poll()
    with beside(site.path) as db:
        vens.remove(db, "a", datetime.now(UTC))
    with beside(site.path) as db:
        vens.add(db, "a", datetime.now(UTC), fingerprint="AA" * 10)
    (row,) = (await site.asked("/api/v1/vens"))["items"]
    assert row["last_seen"] is None


async def test_a_length_of_time_is_not_negative(site):
    ven = await site.registered("a")
    (wanted,) = (await ven.register_report(messages.usage_offer())).report_requests()
    at = [(hour(-1), "-PT1M", {"energy": 1})]
    said = messages.report(wanted.id, "usage", "TELEMETRY_USAGE", at)
    assert (await ven.update_report(said)).refuses(454)
    assert site.readings() == []


async def test_more_answers_than_events_are_ever_listed_are_refused(site):
    ven = await site.registered("a")
    many = [(str(n), 0, "optIn") for n in range(3 * MOST_LISTED)]
    assert (await ven.created_event(*many)).refuses(454)


# --- the event loop -----------------------------------------------------------------------------


class Store:
    """Stands in for the file, so that the moment between two steps can be chosen."""

    commits = version = 1

    def __init__(self, standing):
        self.kept, self.written = standing, []

    async def standing(self, at, since=None):
        return self.kept

    async def settle_outs(self, outs, at):
        await asyncio.sleep(0)
        self.written.append({key[1]: all_out for key, (all_out, _) in outs.items()})


def standing(events):
    ven = Ven("v", "V", "r", False, False, ("*",), (), (), {})
    offers = [
        Offer(event=f"E{n}", modification=0, program="P", context="c", source="u",
              foreign_id=f"E{n}", start=NOW + (n + 1) * HOUR, end=NOW + (n + 2) * HOUR,
              released=None, priority=0, test=False, priced=False, required=True,
              cancelled=False, audiences=((),), xml="<x/>")
        for n in range(events)
    ]  # fmt: skip
    said = {o.event: Said(0, 0, "optIn", NOW) for o in offers}
    return Standing(version=1, at=NOW, vens={"v": ven}, offers=offers, said={"v": said}), ven


@pytest.mark.parametrize("events", [MOST_LISTED, 5 * MOST_LISTED])
async def test_who_has_answered_all_is_looked_at_again_only_when_something_begins(
    monkeypatch, events
):
    held, ven = standing(events)
    board = Board(Store(held), SimClock(NOW))
    await board.refresh()
    looked = []
    real = Board._applicable
    monkeypatch.setattr(Board, "_applicable", lambda self, *a: looked.append(a) or real(self, *a))
    for _ in range(50):
        assert not board.is_owed(ven, NOW)
    assert len(looked) == 1
    for _ in range(50):
        assert not board.is_owed(ven, NOW + HOUR)
    assert len(looked) == (1 if events == MOST_LISTED else 2)


async def test_what_upstream_is_told_is_what_was_said_last():
    held, ven = standing(500)
    store = Store(held)
    board = Board(store, SimClock(NOW))
    await board.refresh()
    outs = Outs(store, board, {"u"}, [])
    await outs.settle(NOW)

    async def opts_out():
        await asyncio.sleep(0)
        board.note_answers(ven, {"E0": (0, "optOut")}, NOW)
        await outs.settle(NOW, ["E0"])

    store.written.clear()
    await asyncio.gather(outs.settle(NOW), opts_out())
    assert [said["E0"] for said in store.written if "E0" in said][-1] is True
