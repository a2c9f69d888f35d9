"""utilityapi: meters and their prices; nothing that costs money without a person's yes."""

import asyncio
import json
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from aiohttp import web
from click.testing import CliRunner

from bridge.cli import main
from bridge.cli.utilityapi import estimate
from tests.peers import SimClock, started
from tests.utilityapi import TOKEN, UtilityApi

NOON = datetime(2026, 7, 1, 19, tzinfo=UTC)
SETTINGS = """
[vtn]
listen = "127.0.0.1:0"
[[sources]]
kind = "utilityapi"
name = "solar"
base_url = "{url}"
token_file = "token"
names = {{ m1 = "house" }}
"""


@pytest.fixture
async def peer(tmp_path):
    found = UtilityApi(SimClock(NOON))
    async with started(found):
        (tmp_path / "token").write_text(TOKEN)
        (tmp_path / "bridge.toml").write_text(SETTINGS.format(url=found.url))
        yield found


@pytest.fixture
def run(tmp_path):
    async def invoke(*words, status=0):
        words = ["utilityapi", *words, "-c", str(tmp_path / "bridge.toml")]
        found = await asyncio.to_thread(CliRunner().invoke, main, words)
        assert found.exit_code == status, found.output
        assert TOKEN not in found.output
        return found.stdout if status in {0, 1} and found.stdout else found.stderr

    return invoke


async def test_meters_are_listed_with_what_to_do_next_and_its_price(peer, run):
    peer.install("m1", is_activated=False)
    peer.install("m2")
    rows = {r["uid"]: r for r in json.loads(await run("meters", "solar", "--json"))["meters"]}
    assert (rows["m1"]["meter"], rows["m1"]["state"], rows["m1"]["price"]) == (
        "house", "needs_activation", "about $12.00",
    )  # fmt: skip
    assert (rows["m2"]["meter"], rows["m2"]["state"], rows["m2"]["price"]) == (
        "solar/m2",
        "ok",
        None,
    )
    shown = await run("meters", "solar")
    assert "utilityapi collect solar m1" in shown
    assert "own bill decides" in shown
    assert peer.paid == []


def test_prices_are_those_that_are_published():
    assert [estimate(n) for n in (1, 7, 8, 12, 13, 36)] == [
        Decimal("1.50"), Decimal("10.50"), 12, 12, Decimal("13.50"), 48,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "price"),
    [
        (["house"], "12 months of history of 1 meter: about $12.00"),
        (["house", "m2", "--months", "3"], "3 months of history of 2 meters: about $9.00"),
        (
            ["m1", "m1", "house", "--monitor", "daily"],
            "monitoring of 1 meter: daily: about $30.00 a month",
        ),
    ],
)
async def test_without_a_yes_the_price_is_said_and_nobody_is_asked(peer, run, words, price):
    peer.install("m1")
    said = await run("collect", "solar", *words, status=1)
    assert price in said
    assert "about" in said
    assert "own bill decides" in said
    assert "--pay" in said
    shown = json.loads(await run("collect", "solar", *words, "--json", status=1))
    assert (shown["agreed"], shown["done"]) == (False, [])
    assert peer.asked == []


async def test_with_a_yes_it_is_asked_for_once(peer, run):
    peer.install("m1", is_activated=False)
    peer.install("m2", is_activated=False)
    said = await run("collect", "solar", "house", "solar/m2", "--months", "6", "--pay")
    assert "asked for m1, m2" in said
    assert peer.paid == [
        ("meters/historical-collection", {"meters": ["m1", "m2"], "collection_duration": 6})
    ]
    assert peer.meters["m1"]["status"] == "pending"
    await run("collect", "solar", "house", "--months", "1", "--monitor", "weekly", "--pay")
    assert [path for path, _ in peer.paid[1:]] == [
        "meters/historical-collection", "meters/ongoing-monitoring",
    ]  # fmt: skip
    assert peer.paid[-1][1] == {"meters": ["m1"], "frequency": "weekly"}


async def test_to_end_monitoring_costs_nothing_and_needs_no_yes(peer, run):
    peer.install("m1")
    await run("collect", "solar", "house", "--monitor", "off")
    assert peer.paid == [("meters/ongoing-monitoring", {"meters": ["m1"], "frequency": "off"})]


async def test_a_meter_that_is_left_out_silently_is_told(peer, run):
    peer.install("m1")
    peer.authorize("a2", is_revoked=True)
    peer.install("m2", "a2")
    said = await run("collect", "solar", "m1", "m2", "--pay", status=1)
    assert "asked for m1" in said
    assert "left out m2: revoked or expired" in said
    (done,) = json.loads(await run("collect", "solar", "m1", "m2", "--pay", "--json", status=1))[
        "done"
    ]
    assert (done["started"], done["dropped"]) == (["m1"], ["m2"])


async def test_an_empty_account_is_told_and_not_asked_again(peer, run):
    peer.install("m1")
    peer.balance = 0
    said = await run(
        "collect", "solar", "m1", "--monitor", "daily", "--months", "1", "--pay", status=1
    )
    assert "(402)" in said
    assert "prepaid balance" in said
    assert len(peer.paid) == 1


async def test_where_it_is_not_known_whether_it_was_done_that_is_said(peer, run):
    peer.install("m1")
    peer.fail = lambda path, _: web.Response(status=504, text="<html>")
    said = await run("collect", "solar", "m1", "--pay", status=1)
    assert "It may have been done all the same" in said
    assert len(peer.asked) == 1
    await peer.stop()
    assert "It may have been done" in await run("collect", "solar", "m1", "--pay", status=1)


@pytest.mark.parametrize("how", ["cut", 201, 202])
async def test_an_order_whose_answer_is_odd_may_have_been_done(peer, run, how):
    peer.install("m1", is_activated=False)

    async def odd(request, done):
        if how == "cut":
            reply = web.StreamResponse(headers={"Content-Length": "2000"})
            await reply.prepare(request)
            await reply.write(b'{"suc')
            request.transport.close()
            return reply
        return web.Response(status=how, text=done.text)

    peer.odd = odd
    said = await run("collect", "solar", "house", "--pay", status=1)
    assert "may have been done all the same" in said
    assert len(peer.paid) == 1


async def test_mistakes_are_said_before_anything_is_asked(peer, run, tmp_path):
    assert "there are: solar" in await run("collect", "lunar", "m1", "--pay", status=2)
    assert "neither the name nor the uid" in await run(
        "collect", "solar", "../x", "--pay", status=1
    )
    assert "is not a uid" in await run("test-submit", "solar", "--form", "f1/../f2", status=1)
    (tmp_path / "token").write_text("")
    assert "is empty" in await run("collect", "solar", "m1", "--pay", status=2)
    assert peer.asked == []


async def test_a_bad_token_is_told(peer, run):
    peer.token = "another"
    assert "401" in await run("meters", "solar", status=1)


async def test_a_test_submission_says_the_referral_and_what_came_of_it(peer, run):
    shown = json.loads(await run("test-submit", "solar", "--form", "f1", "--json"))
    assert shown["referral"] == "ref0"
    (found,) = shown["authorizations"]
    assert (found["uid"], found["meters"]) == ("t0", ["m0"])
    said = await run("test-submit", "solar", "--form", "f1", "--scenario", "badlogin")
    assert "referral ref1" in said
    assert "authorization t1" in said
    peer.fail = lambda path, _: (
        web.json_response({"authorizations": [], "next": None})
        if path == "authorizations"
        else None
    )
    said = await run("test-submit", "solar", "--form", "f1", "--wait", "0")
    assert "no authorization has come of it yet" in said
    assert peer.paid == []


@pytest.mark.parametrize(("answer", "paid"), [("n", 0), ("y", 1)])
async def test_at_a_terminal_a_person_is_asked(peer, tmp_path, answer, paid):
    peer.install("m1")
    theirs, ours = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bridge", "utilityapi", "collect", "solar", "house",
            "-c", str(tmp_path / "bridge.toml"),
            stdin=ours, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        os.write(theirs, f"{answer}\n".encode())
        out, err = await process.communicate()
    finally:
        os.close(theirs)
        os.close(ours)
    assert "about $12.00" in err.decode()
    assert len(peer.paid) == paid
    assert process.returncode == (0 if paid else 1)
    assert (b"asked for m1" in out) == bool(paid)


def test_only_the_command_line_knows_how_to_spend_money():
    from pathlib import Path

    import bridge

    for path in Path(bridge.__file__).parent.rglob("*.py"):
        spends = any(
            word in path.read_text() for word in ("historical-collection", "ongoing-monitoring")
        )
        assert spends == (path.name == "utilityapi.py" and path.parent.name == "cli"), path
