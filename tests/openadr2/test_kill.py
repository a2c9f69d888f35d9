"""The bridge is killed at seeded instants while fifty VENs poll, answer and report.

None misses an event or is told two things by one version of it, no report that was
acknowledged is lost, and none has to register again. Shortened unless BRIDGE_LONG=1, which
makes it 100 kills.
"""

import asyncio
import random
from contextlib import suppress
from datetime import UTC, timedelta

import pytest
from aiohttp import ClientError

from tests.openadr2.raw_messages import usage_offer
from tests.openadr2.raw_site import Process, Site
from tests.openadr2.test_raw_ven import PRICED, asked_for, day, hour, readings
from tests.openadr3.clients import until
from tests.peers import LONG

KILLS = 100 if LONG else 5
VENS = 50
POLL = 0.2  # seconds
KEPT = 12  # events at a time; older ones are deleted


class Home:
    """A VEN and what it was told and promised."""

    def __init__(self, ven, number):
        self.ven, self.number = ven, number
        self.opt = "optOut" if number % 3 == 0 else "optIn"
        self.registration = ven.registration_id
        self.request = ""
        self.begin = hour(-48)
        self.reported = {}  # start → value, once it was acknowledged
        self.events = {}  # (eventID, modification) → what it said
        self.latest = {}  # eventID → the event, of the highest modification
        self.answered = set()
        self.wrong = []
        self.quiet = False

    async def live(self, ended):
        """Poll, answer and report until the end; be patient with a VTN that is down."""
        turn = 0
        await asyncio.sleep(POLL * self.number / VENS)
        while not ended.is_set():
            turn += 1
            with suppress(ClientError, OSError, TimeoutError):
                await self._poll()
                if turn % 4 == self.number % 4:
                    await self._report()
                if turn % 20 == self.number % 20:
                    self._same((await self.ven.query()).text("e:registrationID"))
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), POLL)

    async def _poll(self):
        answer = await self.ven.poll()
        self.quiet = answer.kind == "oadrResponse" and answer.good
        if answer.kind == "oadrDistributeEvent":
            for event in answer.events():
                self._note(event)
                self.answered.add(event.version)  # heard or not: then it is listed again
            said = await self.ven.answer(answer, self.opt)
            if said is not None:
                self._good(said, "oadrResponse")
        elif not self.quiet:
            self.wrong.append(answer)

    def _note(self, event):
        said = (event.start, event.status == "cancelled", *(s.values for s in event.signals))
        if self.events.setdefault(event.version, said) != said:
            self.wrong.append(f"{event.version} says {said} and said {self.events[event.version]}")
        if event.id not in self.latest or self.latest[event.id].version <= event.version:
            self.latest[event.id] = event
        else:
            self.wrong.append(f"{event.version} after {self.latest[event.id].version}")

    async def _report(self):
        start = self.begin + timedelta(minutes=len(self.reported))
        value = self.number + len(self.reported) / 1000
        answer = await self.ven.usage(self.request, start, {"energy": value})
        self._good(answer, "oadrUpdatedReport")
        self.reported[start] = value

    def _good(self, answer, kind):
        if not answer.good or answer.kind != kind:
            self.wrong.append(answer)

    def _same(self, registration):
        if registration != self.registration:
            self.wrong.append(f"the registration is {registration} and was {self.registration}")


class Writer:
    """Writes events by OpenADR 3, and knows which of them it was promised."""

    def __init__(self, site, program):
        self.site, self.program = site, program
        self.live = {}  # id → (value, how often it was changed)
        self.gone = set()
        self.unknown = set()  # what was being done to these when the bridge was killed
        self.number = 0

    async def write(self, draw):
        """Make events, change some and delete old ones until the bridge is gone."""
        with suppress(ClientError, OSError, TimeoutError):
            async with self.site.bl() as bl:
                for _ in range(draw.randint(1, 3)):
                    await self._make(bl)
                    await asyncio.sleep(draw.uniform(0, 0.3))
                    if draw.random() < 0.5:
                        await self._change(bl, draw)
                    while len(self.live) > KEPT:
                        await self._delete(bl)

    async def _make(self, bl):
        self.number += 1
        answer = await bl.post("/events", self._document())
        assert answer.status == 201, answer
        self.live[answer.json["id"]] = self.number / 1000

    def _document(self):
        return day(self.program, hour(24), [self.number / 1000, 0.5])

    async def _change(self, bl, draw):
        event = draw.choice(sorted(self.live))
        self.number += 1
        self.unknown.add(event)
        answer = await bl.put(f"/events/{event}", self._document())
        assert answer.status == 200, answer
        self.live[event] = self.number / 1000
        self.unknown.discard(event)

    async def _delete(self, bl):
        event = next(iter(self.live))
        self.unknown.add(event)
        del self.live[event]
        answer = await bl.delete(f"/events/{event}")
        assert answer.status == 200, answer
        self.gone.add(event)
        self.unknown.discard(event)


@pytest.mark.long
@pytest.mark.timeout(3600 if LONG else 300)
async def test_killed_again_and_again(tmp_path):
    draw = random.Random(20270314)
    site = Site(tmp_path)
    bridge = Process(site)
    await bridge.start()
    ended = asyncio.Event()
    lives = []
    try:
        homes = await asyncio.gather(*(home(site, n) for n in range(VENS)))
        async with site.bl() as bl:
            program = (await bl.made("/programs", PRICED))["id"]
        writer = Writer(site, program)
        lives = [asyncio.create_task(one.live(ended)) for one in homes]
        for n in range(KILLS):
            writing = asyncio.create_task(writer.write(random.Random(n)))
            await asyncio.sleep(draw.uniform(0.1, 1.5))
            await bridge.kill()
            await writing
            await asyncio.sleep(draw.uniform(0, 0.3))
            await bridge.start()
        await until(lambda: settled(homes, writer, lives), 120)
        ended.set()
        await asyncio.gather(*lives)
        for one in homes:
            check(site, one, writer)
        await check_opts(site, homes, writer)
        assert all(one.ven.registration_id == one.registration for one in homes)
    finally:
        ended.set()
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)
        await site.close()
        await bridge.stop()


async def home(site, number):
    """Return a VEN that is registered and was asked for a report."""
    ven = await site.registered(f"ven{number:02}")
    one = Home(ven, number)
    (wanted,) = await asked_for(ven, usage_offer(resource=f"meter-{number}"))
    one.request = wanted.id
    return one


async def settled(homes, writer, lives):
    """Whether every VEN has what was promised and is owed nothing."""
    for life in lives:
        if life.done():
            life.result()
    return all(
        one.quiet
        and all(_says(one, *said) for said in writer.live.items() if said[0] not in writer.unknown)
        and all(one.latest[e].status == "cancelled" for e in writer.gone if e in one.latest)
        for one in homes
    )


def _says(one, event, value):
    found = one.latest.get(event)
    return found is not None and found.signals[0].values[0] == pytest.approx(value)


def check(site, one, writer):
    assert not one.wrong, one.wrong[:5]
    for event, value in writer.live.items():
        if event not in writer.unknown:
            assert _says(one, event, value), event
            assert one.latest[event].status != "cancelled"
    assert all(event.version in one.answered for event in one.latest.values())
    kept = {r["start"]: r["amount"] for r in readings(site, one.ven.name, one.request)}
    # What was said last may have been kept without anybody hearing of it.
    assert len(one.reported) <= len(kept) <= len(one.reported) + 1
    for start, value in one.reported.items():
        said = kept[int(start.astimezone(UTC).timestamp() * 1000)]
        assert said == pytest.approx(value) or said == pytest.approx(value * 1000)


async def check_opts(site, homes, writer):
    """See that the bridge knows how each VEN has opted."""
    opts = {one.ven.name: one.opt for one in homes}
    path, items = "/api/v1/events?limit=1000", []
    items = (await site.asked(path))["items"]
    found = {key: e for e in items for key in (e.get("id"), e.get("name"), e.get("foreign_id"))}
    for event in set(writer.live) - writer.unknown:
        assert {o["ven"]: o["opt"] for o in found[event]["opts"]} == opts
