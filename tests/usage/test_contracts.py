"""Contracts by command: who may see what, from now on; what the settings say stands beside it."""

import asyncio
import json
from datetime import timedelta

import pytest
from click.testing import CliRunner

from bridge.cli import main
from bridge.errors import StoreError
from bridge.store import contracts
from bridge.store.files import beside
from bridge.usage import Contract
from tests.store.test_usage import run
from tests.usage.conftest import ALICE, NOON
from tests.usage.test_api import measured

HOUR = timedelta(hours=1)
NEW = ("--customer", "c0ffee", "--meter", "shop-1", "--meter", "shop-2", "--program", "P")


@pytest.fixture
def contract(tmp_path):
    (tmp_path / "other.toml").write_text(f'[store]\npath = "{tmp_path}/bridge.db"\n')

    async def invoke(*words, status=0):
        words = ["contract", *words, "-c", str(tmp_path / "other.toml")]
        found = await asyncio.to_thread(CliRunner().invoke, main, words)
        assert found.exit_code == status, found.output
        return found.output

    return invoke


async def test_a_contract_by_command_is_seen_by_whom_it_is_granted_to(site, contract):
    async with site() as call:
        await call.keep(measured("shop-1", run(NOON - 3 * HOUR, HOUR, [1, 2])))

        async def status(name="bob"):
            return (await call(name).get("/api/v1/usage", contract="77", meter="shop-1")).status

        assert await status() == 404
        await contract("add", "77", *NEW)
        assert await status() == 404
        await contract("grant", "77", "bob")
        await contract("grant", "77", "bob")
        assert (await status(), await status("alice")) == (200, 404)
        (kept,) = [c for c in json.loads(await contract("list", "--json")) if c["id"] == "77"]
        assert kept == {
            "id": "77", "customer": "c0ffee", "meters": ["shop-1", "shop-2"], "program": "P",
            "clients": ["bob"], "source": "command",
        }  # fmt: skip
        await contract("withhold", "77", "bob")
        assert await status() == 404
        await contract("grant", "77", "alice")
        await contract("remove", "77")
        assert (await status("alice"), await status("bob")) == (404, 404)
        assert len(await call.bridge.store.meters.meters()) == 1, "readings stay"


async def test_mistakes_are_said(site, contract):
    async with site():
        for words, why in (
            (("grant", "99", "bob"), "no contract of this id"),
            (("withhold", ALICE[0], "alice"), "the settings may say that it is"),
            (("remove", ALICE[0]), "no such contract that was added by command"),
            (("add", ALICE[0], "--customer", "x"), "is there already"),
        ):
            assert why in await contract(*words, status=1)


async def test_what_the_settings_and_a_command_both_say_is_refused_until_one_is_gone(
    settings, bridge, contract, tmp_path
):
    said = settings(contracts=[{"id": "77", "customer": "c0ffee", "meters": ["shop-1"]}])
    async with bridge(settings()):
        await contract("add", "77", *NEW)
    with pytest.raises(StoreError, match="also added by command"):
        async with bridge(said):
            pass
    await contract("remove", "77")
    async with bridge(said) as running:
        (kept,) = await running.store.contracts.granted(None)
        assert kept.meters == ("shop-1",)


def test_to_look_up_ones_own_contracts_costs_the_same_however_many_there_are(tmp_path):
    with beside(tmp_path / "bridge.db") as db:
        for n in range(300):
            contracts.add(db, Contract(f"c{n}", "x", (f"m{n}",)))
            contracts.grant(db, f"c{n}", f"client{n}")
        asked = []
        db.conn.set_trace_callback(asked.append)
        (found,) = contracts.granted(db, "client7")
        db.conn.set_trace_callback(None)
        assert (found.id, found.meters, len(asked)) == ("c7", ("m7",), 3)
        plans = [row[3] for sql in asked for row in db.execute(f"EXPLAIN QUERY PLAN {sql}")]
        assert not [step for step in plans if step.startswith("SCAN") and "SUBQUERY" not in step]
