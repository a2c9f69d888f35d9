"""The stock VEN that the bridge is tried with, against a stock VTN: what it does by itself."""

import asyncio
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from bridge.certificates import short_fingerprint, write_development_set
from tests.openadr2.site import issue
from tests.openadr2.stock_ven import StockVen
from tests.peers import LONG, StockUtility, eventually, started

START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
PRICES = [round(0.1 + n / 1000, 4) for n in range(24)]
DAY = {
    "id": "DAY-1", "context": "http://utility.example/EV2A", "start": START.isoformat(),
    "signals": [{"name": "ELECTRICITY_PRICE", "type": "price", "values": PRICES}],
}  # fmt: skip
METER = {"resource": "meter", "values": [1.25, 2.5, 3.75], "sampling": [1, 60]}


class StockVtn(StockUtility):
    """A stock VTN that takes reports and opts, and knows VENs whose certificates it is given."""

    def __init__(self, certs, *vens, **about):
        super().__init__(certs, **about)
        self.about |= {"vens": {n: str(certs / f"{n}.crt") for n in vens}, "report": [1, 2]}

    async def start(self):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.openadr2.stock_vtn", json.dumps({**self.about, "events": []}),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=environment, limit=2**24,
        )  # fmt: skip
        self.url = json.loads(await self.process.stdout.readline())["ready"]
        self._reader = asyncio.create_task(self._read())

    def said(self, what):
        return [line for line in self.lines if what in line]


@pytest.mark.skipif(not LONG, reason="a long run: BRIDGE_LONG=1")
@pytest.mark.parametrize("kind", ["unsigned", "rsa", "ec"])
async def test_all_that_it_does(tmp_path, kind):
    certs, signed = tmp_path / "certs", kind != "unsigned"
    write_development_set(certs, kind if signed else "ec")
    issue(certs, "battery", kind)
    pinned = short_fingerprint((certs / "vtn.crt").read_bytes())
    how = {"vtn_fingerprint": pinned} if signed else {"disable_signature": True}
    async with started(StockVtn(certs, "battery", sign=signed)) as vtn:
        ven = StockVen(vtn.url, certs, "battery", reports=[METER], **how)
        async with started(ven):
            assert (await ven.until("registered"))["ven_id"] == "ven-battery"
            sent = (await ven.until("sent", type="oadrCreatePartyRegistration"))["xml"]
            assert ("SignatureValue" in sent) == signed
            await vtn.order(add=DAY)
            event = await ven.until("event", id="DAY-1")
            (signal,) = event["signals"]
            assert [i[2] for i in signal["intervals"]] == PRICES
            assert [i[1] for i in signal["intervals"]] == [3600.0] * 24
            assert signal["intervals"][0][0] == str(START)
            await eventually(lambda: vtn.opts("DAY-1") == ["optIn"])
            await eventually(lambda: len(vtn.said("report")) >= 2)
            values = [v for line in vtn.said("report") for _, v in line["values"]]
            assert values[:4] == [1.25, 2.5, 3.75, 1.25]
            await ven.order("opt", event_id="DAY-1", opt="optOut")
            await vtn.order(modify=DAY)
            assert (await ven.until("update", id="DAY-1"))["modification"] == 1
            await eventually(lambda: vtn.opts("DAY-1") == ["optIn", "optOut"])
            assert await ven.order("request_event") == ["DAY-1"]
            await vtn.order(cancel="DAY-1")
            assert (await ven.until("update", 2, id="DAY-1"))["status"] == "cancelled"
            until = [(START + timedelta(days=1)).isoformat(), 3600]
            opt = await ven.order("create_opt", opt="optOut", available=[until])
            other = await ven.order("create_opt", opt="optIn", event_id="DAY-1", modification=2)
            assert [o["created_opt"]["opt_id"] for o in vtn.said("created_opt")] == [opt, other]
            assert await ven.order("cancel_opt", opt_id=opt) is True
            await ven.order("poll")
            assert not ven.saw("logged", level="ERROR")  # later, a poll may meet the end
            assert await ven.order("cancel_registration") is None
