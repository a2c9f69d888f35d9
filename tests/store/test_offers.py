"""What VENs are offered follows what is known: numbered, never twice, cancelled when it is gone."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest

from bridge.interfaces import Batch
from bridge.model import Price, Publication, Tariff
from bridge.notation import day_span, write_time
from bridge.parties import Caller
from bridge.sources import Feed
from bridge.store import open_store, vens
from bridge.store.files import beside
from bridge.wire.openadr2_translated import Mains

ZONE = "America/Los_Angeles"
DAY = date(2026, 11, 1)  # 25 hours
BEGIN, END = day_span(DAY, ZONE)
HOUR = timedelta(hours=1)
SOURCE = Feed(kind="feed", name="f", path="x.csv")


def hours(first, last, value, start=BEGIN):
    return [
        Price(start + n * HOUR, start + (n + 1) * HOUR, Decimal(value)) for n in range(first, last)
    ]


class Scene:
    def __init__(self, store, path):
        self.store, self.path, self.now = store, path, BEGIN + 2 * HOUR

    def enrol(self, name, *programs):
        with beside(self.path) as db:
            letters = f"{name.encode().hex():0>20}"[-20:].upper()
            vens.add(db, name, self.now, fingerprint=letters, programs=programs or ("*",))

    async def publish(self, prices, program="P", whole=(), zone=ZONE):
        said = Publication(Tariff(program, program, currency="USD", zone=zone), prices, whole)
        await self.store.events.save(SOURCE, Batch(publications=[said]), self.now)

    async def offered(self, *, days=False):
        """Return (program, day's start, modification, cancelled, hours) of all that is offered."""
        while (await self.store.offers.follow(Mains(), self.now, days=days))[0]:
            pass
        standing = await self.store.vens.standing(self.now)
        return sorted(
            (o.program, o.start, o.modification, o.cancelled, o.xml.count("<ei:interval>"))
            for o in standing.offers
        )


@pytest.fixture
async def scene(tmp_path):
    path = tmp_path / "bridge.db"
    async with open_store(path) as store:
        yield Scene(store, path)


async def test_a_price_day_is_offered_from_its_first_hour_to_its_last(scene):
    scene.enrol("v")
    await scene.publish(hours(0, 25, "0.1"))
    assert await scene.offered() == [("P", BEGIN, 0, False, 25)]
    assert await scene.offered(days=True) == [("P", BEGIN, 0, False, 25)]
    (offer,) = (await scene.store.vens.standing(scene.now)).offers
    assert (offer.end, offer.priced, offer.required) == (END, True, True)
    scene.now = END + HOUR
    assert await scene.offered() == []


async def test_a_correction_is_a_modification_and_the_same_again_is_none(scene):
    scene.enrol("v")
    await scene.publish(hours(0, 25, "0.1"))
    await scene.offered()
    await scene.publish(hours(3, 5, "0.2"))
    assert await scene.offered() == [("P", BEGIN, 1, False, 25)]
    scene.now += HOUR
    await scene.publish(hours(3, 5, "0.2"))
    assert await scene.offered(days=True) == [("P", BEGIN, 1, False, 25)]


async def test_a_day_with_a_gap_is_two_events_and_one_again_once_it_is_filled(scene):
    scene.enrol("v")
    await scene.publish(hours(0, 3, "0.1") + hours(5, 25, "0.3"))
    assert await scene.offered() == [
        ("P", BEGIN, 0, False, 3),
        ("P", BEGIN + 5 * HOUR, 0, False, 20),
    ]
    await scene.publish(hours(3, 5, "0.2"))
    assert await scene.offered() == [
        ("P", BEGIN, 1, False, 25),
        ("P", BEGIN + 5 * HOUR, 1, True, 20),
    ]


async def test_a_day_whose_prices_are_withdrawn_is_cancelled_and_may_come_back(scene):
    scene.enrol("v")
    await scene.publish(hours(0, 25, "0.1"))
    await scene.offered()
    await scene.publish([], whole=[(BEGIN, END)])
    assert await scene.offered() == [("P", BEGIN, 1, True, 25)]
    await scene.publish(hours(0, 25, "0.1"))
    assert await scene.offered() == [("P", BEGIN, 2, False, 25)]


async def test_days_come_near_with_time(scene):
    scene.enrol("v")
    far = BEGIN + timedelta(days=10)
    await scene.publish(hours(0, 24, "0.1", far + HOUR))
    assert await scene.offered() == []
    scene.now = far - timedelta(days=1)
    assert await scene.offered() == []
    assert len(await scene.offered(days=True)) == 1


async def test_only_what_some_ven_follows_is_offered(scene):
    for program in ("EV2A", "OTHER"):
        await scene.publish(hours(0, 25, "0.1"), program)
    scene.enrol("v", "EV*")
    assert [o[0] for o in await scene.offered()] == ["EV2A"]
    scene.enrol("w", "OTHER")
    assert [o[0] for o in await scene.offered()] == ["EV2A", "OTHER"]


async def test_what_was_known_before_anyone_asked_is_offered_and_costs_no_change_log(scene):
    await scene.publish(hours(0, 25, "0.1"))
    with closing(sqlite3.connect(scene.path)) as db:
        db.execute("DELETE FROM changes")
        db.commit()
    scene.enrol("v")
    assert len(await scene.offered(days=True)) == 1
    await scene.store.offers.stop()
    with closing(sqlite3.connect(scene.path)) as db:
        assert db.execute("SELECT count(*) FROM cursors WHERE name = 'offers'").fetchone() == (0,)
    assert await scene.offered(days=True) == [("P", BEGIN, 0, False, 25)]


async def test_what_is_long_over_is_forgotten(scene):
    scene.enrol("v")
    await scene.publish(hours(0, 25, "0.1"))
    await scene.offered()
    await scene.store.vens.note_sent("v", {"x": (1, None)}, scene.now)
    scene.now = END + timedelta(days=40)
    await scene.offered(days=True)
    with closing(sqlite3.connect(scene.path)) as db:
        for table in ("ven_offers", "ven_events"):
            assert not db.execute(f"SELECT 1 FROM {table}").fetchone(), table  # noqa: S608


async def test_a_standing_holds_only_what_is_live(scene):
    scene.enrol("v")
    await scene.publish(hours(0, 25, "0.1"))
    await scene.offered()
    (offer,) = (await scene.store.vens.standing(scene.now)).offers
    await scene.store.vens.note_answers("v", {offer.event: (0, "optIn")}, scene.now)
    standing = await scene.store.vens.standing(scene.now)
    assert not standing.said["v"][offer.event].owed(offer)
    assert standing.said["v"][offer.event].owed(replace(offer, modification=1))
    assert (await scene.store.vens.standing(END + HOUR)).said == {}


async def test_an_endless_event_is_cancelled_in_the_end_and_so_told(scene):
    scene.enrol("v")
    bl = Caller("bl", frozenset({"read_all"}), "bl")
    catalog = scene.store.catalog
    program = json.loads(await catalog.create("PROGRAM", bl, {"programName": "DR"}, scene.now))
    endless = {"id": 0, "payloads": [{"type": "SIMPLE", "values": [1]}],
               "intervalPeriod": {"start": write_time(scene.now), "duration": "P9999Y"}}  # fmt: skip
    said = {"programID": program["id"], "intervals": [endless]}
    made = json.loads(await catalog.create("EVENT", bl, said, scene.now))
    assert await scene.offered() == [("DR", scene.now, 0, False, 1)]
    (offer,) = (await scene.store.vens.standing(scene.now)).offers
    assert offer.released == scene.now + timedelta(days=366)
    _, due = await scene.store.offers.follow(Mains(), scene.now)
    assert due == offer.released
    start, scene.now = scene.now, offer.released
    assert await scene.offered() == [("DR", start, 1, True, 1)]
    scene.now += timedelta(days=20)  # it is still told to who has not answered
    await catalog.delete("EVENT", made["id"], bl, scene.now)
    assert await scene.offered(days=True) == [("DR", start, 1, True, 1)]


async def test_a_correction_far_ahead_in_a_day_that_is_offered_is_told(scene):
    scene.enrol("v")
    begin, _ = day_span(date(2026, 11, 4), ZONE)
    await scene.publish(hours(0, 24, "0.1", begin))
    scene.now = begin - timedelta(days=2, hours=20)  # so that its end is more than 3 days ahead
    assert await scene.offered(days=True) == [("P", begin, 0, False, 24)]
    await scene.publish(hours(20, 22, "0.9", begin))
    assert await scene.offered() == [("P", begin, 1, False, 24)]


async def test_a_correction_of_a_price_that_began_the_day_before_is_told(scene):
    scene.enrol("v")
    block = [Price(BEGIN - 4 * HOUR, BEGIN + 8 * HOUR, Decimal("0.1"))]
    await scene.publish(block)
    before = await scene.offered()
    await scene.publish([replace(block[0], value=Decimal("0.8"))])
    after = await scene.offered()
    assert [(o[0], o[1], o[2] + 1) for o in before] == [o[:3] for o in after]


async def test_what_changed_while_nobody_followed_is_told(scene):
    scene.enrol("v")
    await scene.publish(hours(0, 25, "0.1"))
    await scene.offered()
    with beside(scene.path) as db:
        vens.remove(db, "v", scene.now)
    await scene.publish(hours(0, 25, "0.7"))
    await scene.offered(days=True)
    scene.enrol("w")
    assert await scene.offered() == [("P", BEGIN, 1, False, 25)]
