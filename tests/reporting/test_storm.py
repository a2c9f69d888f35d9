"""Everything at once, drawn by a seed: outages, restarts, lost answers, late readings, clocks.

However it went: of each interval its value is told once, perhaps after it was told as a gap, and
what is told as a gap is not known.
"""

import random
from contextlib import AsyncExitStack
from datetime import timedelta
from decimal import Decimal

import pytest
from aiohttp import web

from tests.peers import LONG
from tests.reporting.scene import HOUR, NOON, POLL, QUARTER, STATUS, USAGE
from tests.reporting.upstream import REREGISTER, create, wanted

SEEDS, STEPS_EACH = (range(40), 25) if LONG else (range(2), 12)
WANTS = [
    wanted("fine", "R", "S"),
    wanted("coarse", "R", granularity="PT1H", back="PT1H"),
    wanted("rare", "S", granularity="PT5M", back="PT40M"),
    wanted("state", "R", specifier="telemetry-status"),
]
REPORTS = (USAGE, STATUS, {"resource": "S", "every": "5m"})
STEPS = {"M": QUARTER, "S": POLL}


class Storm:
    """A scene in which anything may happen next."""

    def __init__(self, scene, seed):
        self.scene, self.draw = scene, random.Random(seed)
        self.measured = {"M": {}, "S": {}}  # what is known to the bridge
        self.unsaid = []  # measured, and not said yet
        self.reach = dict.fromkeys(STEPS, NOON)
        self.moods = [None]
        scene.vtn.wants = WANTS
        scene.vtn.take = lambda _: self._mood()

    def _mood(self):
        mood = self.draw.choice(self.moods)
        return web.Response(status=503) if mood == "fails" else mood

    async def start(self):
        self.stack = AsyncExitStack()
        await self.stack.enter_async_context(self.scene.bridge(*REPORTS))

    async def stop(self):
        await self.stack.aclose()

    def measure(self):
        """Let meters measure up to now; some of it is never known."""
        for meter, step in STEPS.items():
            while self.reach[meter] + step <= self.scene.clock.now():
                if self.draw.random() < 0.9:
                    value = Decimal(self.draw.randrange(-999, 9999)) / 1000
                    self.unsaid.append((meter, self.reach[meter], value))
                self.reach[meter] += step

    async def say(self, share):
        """Let the bridge know some of what was measured."""
        self.draw.shuffle(self.unsaid)
        count = round(len(self.unsaid) * share)
        said, self.unsaid = self.unsaid[:count], self.unsaid[count:]
        for meter, start, value in said:
            await self.scene.measure(start, [value], meter, STEPS[meter])
            self.measured[meter][start] = value

    async def step(self):
        scene, draw = self.scene, self.draw
        happens = draw.choice(["time", "time", "time", "away", "mood", "restart", "clock", "anew"])
        if happens == "time":
            for _ in range(draw.randint(1, 6)):
                await scene.passing(timedelta(minutes=draw.randint(1, 20)))
                self.measure()
                await self.say(draw.choice([0.5, 0.9, 1.0]))
        elif happens == "away":
            await scene.vtn.stop()
            await scene.passing(timedelta(minutes=draw.randint(1, 90)))
            self.measure()
            await self.say(draw.random())
            await scene.back()
        elif happens == "mood":
            self.moods = [None, draw.choice([None, "lost", "never came", "fails"])]
        elif happens == "restart":
            await self.stop()
            scene.clock.pass_time(timedelta(minutes=draw.randint(0, 40)))
            await self.start()
        elif happens == "clock":
            scene.clock.set(scene.clock.now() - timedelta(minutes=draw.randint(1, 8)))
            await scene.settled()
        else:
            more = [create(*WANTS, request_id=f"c{draw.random()}"), REREGISTER]
            scene.vtn.say.append(draw.choice(more))
            await scene.passing(POLL)

    async def calm(self):
        """Let all be said and told."""
        self.moods = [None]
        self.measure()
        await self.say(1)
        await self.scene.passing(6 * HOUR)  # what is said late is told, gaps are told


def amount(measured, start, length, step):
    """Return what an interval amounts to, where all of it is known."""
    parts = [measured.get(start + n * step) for n in range(length // step)]
    return None if None in parts or not parts else sum(parts)


@pytest.mark.long
@pytest.mark.parametrize("seed", SEEDS)
async def test_all_is_told_once_whatever_happens(scene, seed):
    storm = Storm(scene, seed)
    await storm.start()
    try:
        for _ in range(STEPS_EACH):
            await storm.step()
        await storm.calm()
        assert scene.job.problem is None
        check(scene.vtn, storm, scene.clock.now() - 4 * HOUR)
    finally:
        await storm.stop()


def check(vtn, storm, until):
    assert len(set(vtn.updates)) == len(dict(vtn.updates))
    for request, r_id, meter in (
        ("fine", "R", "M"), ("fine", "S", "S"), ("coarse", "R", "M"), ("rare", "S", "S")
    ):  # fmt: skip
        (length,) = {t.length for t in vtn.told if (t.request, t.r_id) == (request, r_id)}
        found = vtn.values(r_id, request)
        start = min(found)
        assert start == NOON
        while start < until:
            value = amount(storm.measured[meter], start, length, STEPS[meter])
            assert found.get(start) in ([value], [None, value]), (request, r_id, start)
            start += length
    states = vtn.values("R", "state")
    assert all(len(values) == 1 for values in states.values())
    assert len(states) > 5
