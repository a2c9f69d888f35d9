"""`kill -9` at seeded instants while meters measure and a VTN is told: nothing lost, nothing doubled.

The VTN loses answers meanwhile, and updates too. Shortened unless BRIDGE_LONG=1, which makes
it 50 kills.
"""

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from bridge.store import open_store
from tests.peers import LONG, eventually, started
from tests.reporting import measured
from tests.reporting.scene import mutual
from tests.reporting.upstream import Utility, wanted
from tests.test_kill import SETTINGS, launch

KILLS = 50 if LONG else 3
NAMES = ("one", "two")
SECOND = timedelta(seconds=1)
REPORTS = """
reports = [
    {{ resource = "one", meter = "m-one", every = "1s" }},
    {{ resource = "two", meter = "m-two", every = "1s" }},
    {{ resource = "one", meter = "m-one", every = "1s", kind = "status" }},
]
"""


class Forgetful(Utility):
    """Loses some updates, and some of its answers."""

    def __init__(self, draw):
        super().__init__()
        self.draw, self.poll = draw, "PT1S"
        self.take = self._lose
        self.wants = [
            wanted("fine", "one", "two", granularity="PT1S", back="PT2S"),
            wanted("coarse", "two", granularity="PT3S", back="PT3S"),
            wanted("state", "one", specifier="telemetry-status", granularity="PT1S", back="PT1S"),
        ]

    async def start(self, tls=None):
        await super().start(tls or self.tls)

    def _lose(self, _):
        chance = self.draw.random()
        return "never came" if chance < 0.1 else "lost" if chance < 0.25 else None


async def measure(store, meter, number, begin, said, draw):
    """Measure something every second, and say some of it late."""
    late = []
    for n in range(100_000):
        at = begin + n * SECOND
        await asyncio.sleep(max(0.0, (at + SECOND - datetime.now(UTC)).total_seconds()))
        late.append((at, Decimal(number * 100_000 + n) / 1000))
        if draw.random() < 0.7:
            draw.shuffle(late)
            for start, value in late:
                await measured.keep(store, meter, start, SECOND, [value], datetime.now(UTC))
                said[start] = value
            late.clear()


@pytest.mark.long
@pytest.mark.timeout(1800 if LONG else 180)
async def test_killed_again_and_again(certs, tmp_path):
    draw = random.Random(20270314)
    vtn = Forgetful(random.Random(7))
    vtn.tls = mutual(certs / "ec")
    config = tmp_path / "bridge.toml"
    async with started(vtn):
        config.write_text((SETTINGS + REPORTS).format(url=vtn.url, certs=certs / "ec"))
        process = await launch(config)
        await eventually(lambda: vtn.count("oadrCreatedReport"))
        async with open_store(tmp_path / "bridge.db", beside=True) as store:
            begin = datetime.now(UTC).replace(microsecond=0) - 10 * SECOND
            said = {name: {} for name in NAMES}
            meters = [
                asyncio.create_task(
                    measure(store, f"m-{name}", n, begin, said[name], random.Random(n))
                )
                for n, name in enumerate(said, 1)
            ]
            for _ in range(KILLS):
                await asyncio.sleep(draw.uniform(0.05, 2.5))
                process.kill()
                await process.wait()
                await asyncio.sleep(draw.uniform(0, 0.5))
                process = await launch(config)
            vtn.take = lambda _: None
            await asyncio.sleep(3)
            last = min(max(values) for values in said.values())
            await eventually(lambda: told(vtn, last)[1] == wanted_of(vtn, said, last), 60)
            for meter in meters:
                assert not meter.done()
                meter.cancel()
            await asyncio.gather(*meters, return_exceptions=True)
        process.terminate()
        assert await process.wait() == 0
    check(vtn, said, last)


def told(vtn, last):
    """Return since when which of the fine reports was told, and what was told up to `last`."""
    fine = [t for t in vtn.told if t.request == "fine" and t.start <= last]
    first = {name: min((t.start for t in fine if t.r_id == name), default=last) for name in NAMES}
    return first, {(t.r_id, t.start): t.value for t in fine}


def wanted_of(vtn, said, last):
    first, _ = told(vtn, last)
    return {
        (name, start): value
        for name, values in said.items()
        for start, value in values.items()
        if first[name] <= start <= last
    }


def check(vtn, said, last):
    # Of one requestID there is one message, however often it was sent.
    assert len(set(vtn.updates)) == len(dict(vtn.updates))
    assert len(vtn.updates) > len(dict(vtn.updates)), "nothing was ever sent again"
    times = Counter((t.request, t.r_id, t.start) for t in vtn.told)
    assert set(times.values()) == {1}
    first, found = told(vtn, last)
    assert found == wanted_of(vtn, said, last)
    assert len(found) >= 2 * KILLS
    coarse = {t.start: t.value for t in vtn.told if t.request == "coarse"}
    assert len(coarse) >= ((last - first["two"]).total_seconds() - 9) // 3
    for start, value in coarse.items():
        assert value == sum(said["two"][start + n * SECOND] for n in range(3))
    states = [t for t in vtn.told if t.request == "state"]
    assert states
    assert all(t.value is True for t in states)
