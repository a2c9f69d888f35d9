"""What OpenADR 2.0b VENs are offered: events as frozen 2.0b documents, kept up with the change log.

An event that came as 2.0b is offered as it came; any other is translated. What is offered is
worked out on a reader's thread, and only written by the writer.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import structlog
from lxml import etree
from sqlite_utils import Database

from bridge.model import Document, Event
from bridge.notation import from_json, from_millis, millis, to_json
from bridge.store import event_rows, offer_rows, price_days, vens
from bridge.store.publications import NEAR
from bridge.store.sqlite import Sqlite, one, rows
from bridge.vens import Offer
from bridge.wire import openadr3, openleadr
from bridge.wire.openadr2 import read_event
from bridge.wire.openadr2_offers import canonical
from bridge.wire.openadr2_translated import Mains, translate
from bridge.wire.openadr2_writer import write_event

log = structlog.get_logger()

CURSOR = "offers"
VENS = "vens"  # by whom an event is opted out of: it is offered still, they may opt in again
AT_ONCE = 200  # changes in one pass
_STAMPS = {"createdDateTime", "modificationDateTime"}


class Offers:
    """Turns changes of events and prices into what VENs are offered."""

    def __init__(self, file: Sqlite) -> None:
        self._file = file

    async def follow(
        self, mains: Mains, at: datetime, *, days: bool = False, anew: bool = False
    ) -> tuple[bool, datetime | None]:
        """Bring what is offered up to what is known.

        With `days` the price days that have come near are looked for, with `anew` all events,
        too. Returns whether more is left, and when an endless event is to be released.
        """
        plan = await self._file.read(lambda db: _planned(db, mains, at, days=days, anew=anew))
        if plan.moves or days:
            await self._file.write(
                lambda db: _save(db, plan, at, prune=days), durable=False, tell=False
            )
        return plan.more, await self._file.read(offer_rows.next_due)

    async def stop(self) -> None:
        """Forget how far the change log was followed, so that it need not be kept for this."""
        sql = "SELECT 1 FROM cursors WHERE name = ?"
        if await self._file.read(lambda db: one(db, sql, (CURSOR,))):
            await self._file.write(
                lambda db: db.conn.execute("DELETE FROM cursors WHERE name = ?", (CURSOR,))
            )


@dataclass
class _Plan:
    """What one pass will write."""

    cursor: int
    moves: bool  # whether anything happened since the last pass
    more: bool = False
    offered: list[tuple[str, list[Offer], str]] = field(default_factory=list)  # thing, …, meaning
    withdrawn: list[tuple[str, int]] = field(default_factory=list)  # thing, modification


def _planned(db: Any, mains: Mains, at: datetime, *, days: bool, anew: bool) -> _Plan:
    row = one(db, "SELECT seq FROM cursors WHERE name = ?", (CURSOR,))
    newest = (one(db, "SELECT max(seq) AS seq FROM changes") or {}).get("seq") or 0
    sql = "SELECT * FROM changes WHERE seq > ? ORDER BY seq LIMIT ?"
    found = rows(db, sql, (row["seq"], AT_ONCE)) if row and row["seq"] < newest else []
    plan = _Plan(found[-1]["seq"] if found else newest, bool(found) or row is None or anew)
    plan.more = len(found) == AT_ONCE
    planning = _Planning(db, mains, at, plan)
    for released in offer_rows.due(db, at):
        plan.withdrawn.append((released["thing"].partition("#")[0], 0))
        plan.moves = True
    touched = _touched(db, found, at)
    afresh = row is None or anew
    if afresh:
        touched |= _live(db, at)
    for origin in sorted(touched):
        planning.origin(origin)
    afresh = afresh or any(c["object_type"] in {"ENROLMENT", "PROGRAM"} for c in found)
    if days or afresh:
        for about in rows(db, price_days.TARIFF):
            planning.days(about, known_too=afresh)
    for name in () if afresh else _repriced(found):
        for about in rows(db, f"{price_days.TARIFF} WHERE p.name = ?", (name,)):
            planning.days(about, known_too=True)
    plan.moves = plan.moves or bool(plan.offered or plan.withdrawn)
    return plan


def _touched(db: Any, found: Collection[Document], at: datetime) -> set[int]:
    """Return the origins of the events that changes are about, be it by their program.

    Of a program these are those that are not over: what is over is offered no more.
    """
    touched: set[int] = set()
    for change in found:
        if change["operation"] == "MOMENT" or change["object_type"] not in {"EVENT", "PROGRAM"}:
            continue
        sql, values = "SELECT origin FROM events WHERE id = ?", [change["object_id"]]
        if change["object_type"] == "PROGRAM":
            sql = "SELECT origin FROM events WHERE program = ? AND active_to > ?"
            values.append(millis(at))
        touched |= {r["origin"] for r in rows(db, sql, values)}
    return touched


def _live(db: Any, at: datetime) -> set[int]:
    """Return the origins of events that are not over, or are offered as if they were not."""
    stamp = (millis(at),)
    found = {r["id"] for r in rows(db, "SELECT id FROM origins WHERE active_to > ?", stamp)}
    sql = "SELECT thing FROM ven_offers WHERE thing LIKE 'origin:%' AND ends > ? AND NOT cancelled"
    offered = (r["thing"] for r in rows(db, sql, stamp))
    return found | {int(thing.removeprefix("origin:").partition("#")[0]) for thing in offered}


def _repriced(found: Collection[Document]) -> set[str]:
    """Return the programs whose prices are others than before."""
    return {
        from_json(change["after"])["program"]
        for change in found
        if change["object_type"] == "PRICES" and change["after"]
    }


def _save(db: Database, plan: _Plan, at: datetime, *, prune: bool) -> None:
    changed = [
        offer_rows.cancel(db, row, modification, at)
        for thing, modification in plan.withdrawn
        for row in offer_rows.of(db, thing)
    ]
    changed += [offer_rows.offer(db, *said, at) for said in plan.offered]
    if prune:
        offer_rows.prune(db, at)
    db.conn.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", (CURSOR, plan.cursor))
    if any(changed):
        vens.touch(db)


@dataclass
class _Planning:
    """Works out what is offered, in one snapshot."""

    db: Any
    mains: Mains
    at: datetime
    plan: _Plan

    @cached_property
    def _patterns(self) -> set[str]:
        return vens.patterns(self.db)

    def origin(self, number: int) -> None:
        """Offer an event with all its signals, or withdraw it."""
        about = one(self.db, "SELECT * FROM origins WHERE id = ?", (number,)) or {}
        events = event_rows.event_rows(self.db, "e.origin = ? ORDER BY e.part", (number,))
        thing = f"origin:{number}"
        counts = bool(events) and (
            all(e.priced for e in events) or about["opt"] == "optIn" or about["opt_by"] == VENS
        )
        over = not events or from_millis(about["active_to"]) <= self.at
        if over or not counts or about["cancelled_at"] is not None:
            self.plan.withdrawn.append((thing, about.get("modification", 0)))
            return
        try:
            offers = list(self._passed(about, events) if about["message"] else self._said(events))
        except Exception as error:  # noqa: BLE001 -- one event must not keep the others from VENs
            log.warning("event cannot be said as 2.0b", source=about["source"],
                        event_id=about["foreign_id"], problem=str(error))  # fmt: skip
            offers = []
        offers = [
            replace(o, source=about["source"], foreign_id=about["foreign_id"],
                    modification=about["modification"])
            for o in offers
        ]  # fmt: skip
        said = [about["modification"], *((o.program, o.context, o.xml) for o in offers)]
        self.plan.offered.append((thing, offers, _digest(said)))

    def days(self, about: Document, *, known_too: bool) -> None:
        """Offer a program's price days that are near and new, or now others than before, too."""
        if not any(fnmatchcase(about["name"], pattern) for pattern in self._patterns):
            return
        lo, hi = millis(self.at), millis(self.at + NEAR)
        known = set(offer_rows.days(self.db, about["program"], self.at))
        there = {
            f"day:{price_days.day_id(about['program'], day)}": day
            for day in price_days.dates(self.db, about, lo, hi)
        }
        self.plan.withdrawn += [(thing, 0) for thing in known - there.keys()]
        for thing, day in there.items():
            if known_too or thing not in known:
                self._day(thing, about, day)

    def _day(self, thing: str, about: Document, day: date) -> None:
        event = price_days.of_date(self.db, about, day)
        if event is None:
            return
        document = from_json(event.document)
        meaning = _digest([about["name"], {k: v for k, v in document.items() if k not in _STAMPS}])
        if offer_rows.stands(offer_rows.of(self.db, thing), meaning):
            return
        try:
            offers = [replace(o, foreign_id=document["id"]) for o in self._said([event])]
        except Exception as error:  # noqa: BLE001 -- one day must not keep the others from VENs
            log.warning("price day cannot be said as 2.0b", day=event.name, problem=str(error))
            offers = []
        self.plan.offered.append((thing, offers, meaning))

    def _passed(self, about: Document, events: list[Event]) -> Iterator[Offer]:
        """Return a 2.0b event as it came."""
        origin = read_event(etree.fromstring(about["message"])).origin
        first, xml = events[0], canonical(about["message"])
        openleadr.check_event(xml)
        yield Offer(
            event=origin.foreign_id,
            modification=about["modification"],
            program=first.program,
            context=origin.context,
            source=about["source"],
            foreign_id=about["foreign_id"],
            start=first.start,
            end=first.end,
            released=first.end if origin.active_to is None else None,
            priority=origin.priority or 0,
            test=first.test,
            priced=all(e.priced for e in events),
            required=origin.response_required,
            cancelled=False,
            audiences=tuple(e.audiences for e in events),
            xml=xml,
        )

    def _said(self, events: list[Event]) -> Iterator[Offer]:
        """Return 2.0b events that say what an event of another kind says."""
        for event in events:
            row = one(self.db, "SELECT endless FROM events WHERE id = ?", (event.id,))
            endless = bool(row and row["endless"])
            whole = replace(event, units=self._units(event))
            for dispatch in translate(whole, endless=endless, mains=self.mains):
                origin = dispatch.origin
                xml = etree.tostring(write_event(dispatch), method="c14n", exclusive=True).decode()
                openleadr.check_event(xml)
                yield Offer(
                    event=origin.foreign_id,
                    modification=0,
                    program=event.program,
                    context=origin.context,
                    source=event.source,
                    foreign_id=event.name,
                    start=origin.active_from,
                    end=origin.active_to or event.end,
                    released=event.end if origin.active_to is None else None,
                    priority=origin.priority or 0,
                    test=event.test,
                    priced=event.priced,
                    required=True,
                    cancelled=False,
                    audiences=dispatch.audiences,
                    xml=xml,
                )

    def _units(self, event: Event) -> Mapping[str, tuple[str | None, str | None]]:
        """Return an event's units; where it says none, its program may (Definition, program)."""
        row = one(self.db, "SELECT document FROM programs WHERE name = ?", (event.program,))
        usual = openadr3.units(from_json(row["document"])) if row and row["document"] else {}
        return {k: u if any(u) else usual.get(k, u) for k, u in event.units.items()}


def _digest(said: object) -> str:
    return hashlib.sha256(to_json(said).encode()).hexdigest()
