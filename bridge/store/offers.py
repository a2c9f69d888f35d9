"""What OpenADR 2.0b VENs are offered: events as frozen 2.0b documents, kept up with the change log.

An event that came as 2.0b is offered as it came; any other is translated. A modification's
number is the source's own, and grows whatever else changes what is offered.
"""

import asyncio
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

import structlog
from lxml import etree
from sqlite_utils import Database

from bridge.errors import WireError
from bridge.model import Document, Event
from bridge.notation import from_json, from_millis, millis, to_json
from bridge.store import event_rows, price_days, vens
from bridge.store.publications import NEAR
from bridge.store.sqlite import Sqlite, one, rows
from bridge.vens import Offer
from bridge.wire import openadr3
from bridge.wire.openadr2 import read_event
from bridge.wire.openadr2_offers import canonical
from bridge.wire.openadr2_translated import Mains, translate
from bridge.wire.openadr2_writer import write_event

log = structlog.get_logger()

CURSOR = "offers"
VENS = "vens"  # by whom an event is opted out of: it is offered still, they may opt in again
AT_ONCE = 200  # changes in one transaction
KEPT = timedelta(days=30)  # after an event is over
_COLUMNS = (
    "event", "thing", "meaning", "modification", "program", "source", "foreign_id", "starts",
    "ends", "priority", "test", "priced", "required", "cancelled", "audiences", "xml",
)  # fmt: skip


class Offers:
    """Turns changes of events and prices into what VENs are offered."""

    def __init__(self, file: Sqlite) -> None:
        self._file = file

    def bell(self, name: str) -> asyncio.Event:
        """Return an event of one's own that is set after each change."""
        return self._file.bell(name)

    async def follow(self, mains: Mains, at: datetime, *, days: bool) -> bool:
        """Bring what is offered up to the change log; return whether more is left.

        With `days` the price days that have come near are looked for, too.
        """
        row = await self._file.read(
            lambda db: one(
                db,
                "SELECT (SELECT max(seq) FROM changes) AS newest,"
                " (SELECT seq FROM cursors WHERE name = ?) AS seq",
                (CURSOR,),
            )
        )
        if not days and row and row["seq"] is not None and row["seq"] >= (row["newest"] or 0):
            return False
        return await self._file.write(
            lambda db: _follow(db, mains, at, days=days), durable=False, tell=False
        )

    async def stop(self) -> None:
        """Forget how far the change log was followed, so that it need not be kept for this."""
        if await self._file.read(
            lambda db: one(db, "SELECT 1 FROM cursors WHERE name = ?", (CURSOR,))
        ):
            await self._file.write(
                lambda db: db.conn.execute("DELETE FROM cursors WHERE name = ?", (CURSOR,))
            )


def _follow(db: Database, mains: Mains, at: datetime, *, days: bool) -> bool:
    row = one(db, "SELECT seq FROM cursors WHERE name = ?", (CURSOR,))
    sql = "SELECT * FROM changes WHERE seq > ? ORDER BY seq LIMIT ?"
    found = rows(db, sql, (row["seq"], AT_ONCE)) if row else []
    origins = (
        _touched(db, found)
        if row
        else {
            r["id"] for r in rows(db, "SELECT id FROM origins WHERE active_to > ?", (millis(at),))
        }
    )
    kinds = {change["object_type"] for change in found}
    repriced = {
        from_json(c["after"])["program"]
        for c in found
        if c["object_type"] == "PRICES" and c["after"]
    }
    saving = _Saving(db, mains, at)
    for origin in sorted(origins):
        saving.origin(origin)
    saving.days(None if days or not row or "ENROLMENT" in kinds else repriced)
    if days:
        saving.prune()
    newest = found[-1]["seq"] if found else (row or {}).get("seq")
    if newest is None:
        newest = (one(db, "SELECT max(seq) AS seq FROM changes") or {}).get("seq") or 0
    db.conn.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", (CURSOR, newest))
    if saving.changed:
        vens.touch(db)
    return len(found) == AT_ONCE


def _touched(db: Database, found: Collection[Document]) -> set[int]:
    """Return the origins of the events that changes are about."""
    events = {
        c["object_id"] for c in found if c["object_type"] == "EVENT" and c["operation"] != "MOMENT"
    }
    told = (one(db, "SELECT origin FROM events WHERE id = ?", (event,)) for event in events)
    return {row["origin"] for row in told if row}


@dataclass
class _Saving:
    """One pass over what changed, inside a transaction."""

    db: Database
    mains: Mains
    at: datetime
    changed: bool = False

    def origin(self, number: int) -> None:
        """Offer an event with all its signals, or withdraw it."""
        about = one(self.db, "SELECT * FROM origins WHERE id = ?", (number,)) or {}
        events = event_rows.event_rows(self.db, "e.origin = ? ORDER BY e.part", (number,))
        prefix = f"origin:{number}"
        if not events or from_millis(about["active_to"]) <= self.at:
            return
        counts = all(e.priced for e in events) or about["opt"] == "optIn" or about["opt_by"] == VENS
        if about["cancelled_at"] is not None or not counts:
            self._withdraw(prefix, about["modification"], about["message"])
            return
        try:
            offers = list(self._passed(about, events) if about["message"] else self._said(events))
        except (ValueError, WireError) as error:
            log.warning("event cannot be said as 2.0b", source=about["source"],
                        event=about["foreign_id"], problem=str(error))  # fmt: skip
            offers = []
        offers = [
            replace(o, source=about["source"], foreign_id=about["foreign_id"],
                    modification=about["modification"])
            for o in offers
        ]  # fmt: skip
        self._offer(prefix, offers, about["meaning"])

    def days(self, programs: Collection[str] | None) -> None:
        """Offer the price days that are near: of some programs, or of all that VENs follow."""
        patterns = vens.patterns(self.db)
        for about in rows(self.db, price_days.TARIFF) if programs is None else self._of(programs):
            if not any(fnmatchcase(about["name"], pattern) for pattern in patterns):
                continue
            horizon = millis(self.at + NEAR)
            things = set()
            for day in price_days.render(self.db, about, millis(self.at), horizon):
                document = from_json(day.document)
                stamps = ("createdDateTime", "modificationDateTime")
                meaning = {k: v for k, v in document.items() if k not in stamps}
                digest = hashlib.sha256(to_json(meaning).encode()).hexdigest()
                things.add(f"day:{document['id']}")
                offers = [replace(o, foreign_id=document["id"]) for o in self._said([day])]
                self._offer(f"day:{document['id']}", offers, digest)
            self._withdraw_days(about["program"], things)

    def prune(self) -> None:
        """Forget some of what was over long ago."""
        for table, where in (
            ("ven_offers", "ends < ?"),
            ("ven_events", "at < ? AND event NOT IN (SELECT event FROM ven_offers)"),
            ("ven_opts", "ends < ?"),
        ):
            stamp = millis(self.at - KEPT)
            self.db.conn.execute(f"DELETE FROM {table} WHERE {where}", (stamp,))  # noqa: S608 -- constants

    def _of(self, programs: Collection[str]) -> Iterator[Document]:
        for name in programs:
            yield from rows(self.db, f"{price_days.TARIFF} WHERE p.name = ?", (name,))

    def _passed(self, about: Document, events: list[Event]) -> Iterator[Offer]:
        """Return a 2.0b event as it came."""
        origin = read_event(etree.fromstring(about["message"])).origin
        first = events[0]
        yield Offer(
            event=origin.foreign_id,
            modification=about["modification"],
            program=first.program,
            source=about["source"],
            foreign_id=about["foreign_id"],
            start=first.start,
            end=first.end,
            priority=origin.priority or 0,
            test=first.test,
            priced=all(e.priced for e in events),
            required=origin.response_required,
            cancelled=False,
            audiences=tuple(e.audiences for e in events),
            xml=canonical(about["message"]),
        )

    def _said(self, events: list[Event]) -> Iterator[Offer]:
        """Return 2.0b events that say what an event of another kind says."""
        for event in events:
            row = one(self.db, "SELECT endless FROM events WHERE id = ?", (event.id,))
            endless = bool(row and row["endless"])
            whole = replace(event, units=self._units(event))
            for dispatch in translate(whole, endless=endless, mains=self.mains):
                origin = dispatch.origin
                yield Offer(
                    event=origin.foreign_id,
                    modification=0,
                    program=event.program,
                    source=event.source,
                    foreign_id=event.name,
                    start=origin.active_from,
                    end=origin.active_to or event.end,
                    priority=origin.priority or 0,
                    test=event.test,
                    priced=event.priced,
                    required=True,
                    cancelled=False,
                    audiences=dispatch.audiences,
                    xml=etree.tostring(
                        write_event(dispatch), method="c14n", exclusive=True
                    ).decode(),
                )

    def _units(self, event: Event) -> Mapping[str, tuple[str | None, str | None]]:
        """Return an event's units; where it says none, its program may (Definition, program)."""
        row = one(self.db, "SELECT document FROM programs WHERE name = ?", (event.program,))
        usual = openadr3.units(from_json(row["document"])) if row and row["document"] else {}
        return {k: u if any(u) else usual.get(k, u) for k, u in event.units.items()}

    def _offer(self, prefix: str, offers: Collection[Offer], meaning: str) -> None:
        """Make these what is offered of a thing; what was and is no more is cancelled."""
        wanted = {f"{prefix}#{n}": offer for n, offer in enumerate(offers)}
        kept = {row["thing"]: row for row in self._kept(prefix)}
        for thing, row in kept.items():
            if thing not in wanted:
                self._cancel(row, 0, None)
        for thing, offer in wanted.items():
            had = kept.get(thing)
            said = f"{meaning}:{offer.start}:{offer.end}"
            if had and had["meaning"] == said and not had["cancelled"]:
                continue
            number = max(offer.modification, had["modification"] + 1) if had else offer.modification
            event = had["event"] if had else self._free(offer)
            self._write(thing, said, replace(offer, modification=number, event=event))

    def _withdraw(self, prefix: str, modification: int, message: str) -> None:
        """Tell VENs that an event which they were offered does not hold any more."""
        for row in self._kept(prefix):
            self._cancel(row, modification, canonical(message) if message else None)

    def _withdraw_days(self, program: str, known: Collection[str]) -> None:
        """Cancel days of a program whose prices were all withdrawn."""
        sql = "SELECT * FROM ven_offers WHERE ends > ? AND thing >= ? AND thing < ?"
        values = (millis(self.at), f"day:{program}-", f"day:{program}.")
        for row in rows(self.db, sql, values):
            if row["thing"].partition("#")[0] not in known:
                self._cancel(row, 0, None)

    def _kept(self, prefix: str) -> list[Document]:
        sql = "SELECT * FROM ven_offers WHERE thing >= ? AND thing < ?"
        return rows(self.db, sql, (f"{prefix}#", f"{prefix}$"))

    def _cancel(self, row: Document, modification: int, xml: str | None) -> None:
        if row["cancelled"] or row["ends"] <= millis(self.at):
            return
        self.db.conn.execute(
            "UPDATE ven_offers SET cancelled = 1, modification = ?, xml = ? WHERE event = ?",
            (max(modification, row["modification"] + 1), xml or row["xml"], row["event"]),
        )
        self.changed = True

    def _free(self, offer: Offer) -> str:
        """Return an eventID that no other event has: ids repeat between utilities."""
        taken = one(self.db, "SELECT 1 FROM ven_offers WHERE event = ?", (offer.event,))
        return f"{offer.source}:{offer.event}" if taken else offer.event

    def _write(self, thing: str, meaning: str, offer: Offer) -> None:
        values = (
            offer.event, thing, meaning, offer.modification, offer.program, offer.source,
            offer.foreign_id, millis(offer.start), millis(offer.end), offer.priority, offer.test,
            offer.priced, offer.required, offer.cancelled,
            to_json([[sorted(g) for g in groups] for groups in offer.audiences]), offer.xml,
        )  # fmt: skip
        self.db.conn.execute(
            f"INSERT OR REPLACE INTO ven_offers ({', '.join(_COLUMNS)})"  # noqa: S608 -- constants
            f" VALUES ({', '.join('?' * len(_COLUMNS))})",
            values,
        )
        self.changed = True


def to_offer(row: Document) -> Offer:
    """Return a row as an Offer."""
    return Offer(
        event=row["event"],
        modification=row["modification"],
        program=row["program"],
        source=row["source"],
        foreign_id=row["foreign_id"],
        start=from_millis(row["starts"]),
        end=from_millis(row["ends"]),
        priority=row["priority"],
        test=bool(row["test"]),
        priced=bool(row["priced"]),
        required=bool(row["required"]),
        cancelled=bool(row["cancelled"]),
        audiences=tuple(
            tuple(frozenset(g) for g in groups) for groups in json.loads(row["audiences"])
        ),
        xml=row["xml"],
    )
