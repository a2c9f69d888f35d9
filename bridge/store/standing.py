"""What passed between VENs and us: all that polls are answered from, and what VENs answered."""

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlite_utils import Database

from bridge.model import Document, OptType
from bridge.notation import from_millis, millis
from bridge.store import event_rows, offer_rows, offers, ven_reports, vens
from bridge.store.heard import Heard
from bridge.store.sqlite import Sqlite, one, rows, write_many
from bridge.vens import (
    Answers,
    Message,
    Offered,
    Opt,
    Point,
    Reading,
    Request,
    Said,
    Standing,
    Wish,
)

# Being heard of is kept in memory and written this seldom: flash memory wears out.
GRACE = timedelta(minutes=5)  # after its end an event can still be answered
Outs = Mapping[tuple[str, str], tuple[bool, Mapping[str, OptType]]]


class Vens:
    """Keeps what is said between VENs and us."""

    def __init__(self, file: Sqlite) -> None:
        self._file = file
        self._heard = Heard(file, "vens")

    @property
    def commits(self) -> int:
        """Return a number that moves with every commit that may concern a reader."""
        return self._file.commits

    @property
    def version(self) -> int:
        """Return a number that moves when something of a `Standing` was changed by others."""
        return int(self._file.peek("SELECT value FROM meta WHERE key = 'vens'"))

    def bell(self, name: str) -> asyncio.Event:
        """Return an event of one's own that is set after each change."""
        return self._file.bell(name)

    async def standing(self, at: datetime, since: int | None = None) -> Standing:
        """Return all that polls are answered from, or where it does what changed `since`."""
        return await self._file.read(lambda db: _standing(db, at, since))

    async def recognised(self, fingerprint: str, sha256: str, at: datetime, ends: datetime) -> None:
        """Note that an enrolled certificate was seen, whole, and when it ends."""
        await self._file.write(lambda db: vens.recognised(db, fingerprint, sha256, at, ends))

    async def register(
        self, ven: str, ven_name: str, *, signs: bool, knows: bool, at: datetime
    ) -> str:
        """Register a VEN, or again, where it `knows` its registrationID; return that."""
        return await self._file.write(
            lambda db: vens.register(db, ven, ven_name, signs=signs, knows=knows, at=at)
        )

    async def deregister(self, ven: str, *, if_asked: bool = False) -> bool:
        """Forget a VEN's registration, and what hangs on it; `if_asked` only where it was told so.

        Returns whether it was done.
        """

        def work(db: Database) -> bool:
            if if_asked and not vens.answered(db, ven, "oadrCancelPartyRegistration", {None}):
                return False
            vens.deregister(db, ven)
            return True

        return await self._file.write(work)

    # --- events ---------------------------------------------------------------------------

    async def note_sent(
        self, ven: str, sent: Mapping[str, tuple[int, int | None]], at: datetime
    ) -> None:
        """Note which modifications of events a VEN is being sent, and which took one back."""
        values = [(event, number, back, millis(at), ven) for event, (number, back) in sent.items()]
        await self._file.write(
            lambda db: write_many(
                db,
                "INSERT INTO ven_events (ven, event, sent, taken_back, at)"
                " SELECT name, ?, ?, ?, ? FROM vens WHERE name = ?"
                " ON CONFLICT DO UPDATE SET sent = max(sent, excluded.sent),"
                " taken_back = excluded.taken_back",
                values,
            ),
            tell=False,
        )

    async def note_answers(self, ven: str, answers: Answers, at: datetime) -> None:
        """Keep a VEN's answers: eventID → modification and opt."""
        await self._file.write(lambda db: _answer(db, ven, answers, at), tell=False)

    async def add_opt(self, ven: str, opt: Opt, answers: Answers, at: datetime) -> None:
        """Keep an EiOpt, and what it answers."""
        ends = max((end for _, end in opt.times), default=None)
        times = [[millis(begin), millis(end)] for begin, end in opt.times]
        values = (
            ven, opt.opt_id, opt.opt, opt.reason, opt.context, opt.event, opt.modification,
            json.dumps(times), json.dumps(sorted(opt.resources)), millis(at),
            millis(ends) if ends else None,
        )  # fmt: skip

        def work(db: Database) -> None:
            marks = ", ".join("?" * len(values))
            db.conn.execute(f"INSERT OR REPLACE INTO ven_opts VALUES ({marks})", values)  # noqa: S608 -- marks
            _answer(db, ven, answers, at)
            vens.touch(db, ven)

        await self._file.write(work)

    async def drop_opt(self, ven: str, opt_id: str, answers: Answers, at: datetime) -> bool:
        """Forget an EiOpt, and keep what that answers; return whether there was one."""

        def work(db: Database) -> bool:
            sql = "DELETE FROM ven_opts WHERE ven = ? AND opt_id = ?"
            gone = db.conn.execute(sql, (ven, opt_id)).rowcount
            if gone:
                _answer(db, ven, answers, at)
                vens.touch(db, ven)
            return bool(gone)

        return await self._file.write(work)

    async def settle_outs(self, outs: Outs, at: datetime) -> None:
        """Keep what upstreams are to be told: (source, foreign id) → all out; resources' opts.

        That a resource is in is told only where it was told that it is out.
        """
        if outs:
            await self._file.write(lambda db: _settle_outs(db, outs, at))

    # --- messages and reports --------------------------------------------------------------

    async def message_done(self, ven: str, kind: str, requests: Collection[str | None]) -> bool:
        """Note that a VEN answered messages, by their requests; return whether there were any."""
        return await self._file.write(lambda db: vens.answered(db, ven, kind, requests))

    async def save_reports(
        self, ven: str, offered: Sequence[Offered], wishes: Collection[Wish], at: datetime
    ) -> list[Request]:
        """Keep what reports a VEN can give; return what it is asked for of them."""
        return await self._file.write(lambda db: ven_reports.save(db, ven, offered, wishes, at))

    async def reconcile(self, wishes: Collection[Wish], at: datetime) -> None:
        """Ask registered VENs for what the settings wish now, and no more for what they do not."""
        await self._file.write(lambda db: ven_reports.reconcile(db, wishes, at))

    async def points(self, ven: str, specifier: str) -> Mapping[str, Point]:
        """Return what a VEN can measure, by rID; nothing where it did not say."""
        return await self._file.read(lambda db: ven_reports.points(db, ven, specifier))

    async def samplings(self, ven: str, requests: Collection[str]) -> Mapping[str, timedelta]:
        """Return how long the intervals are that a VEN was asked for, by request id."""
        return await self._file.read(lambda db: ven_reports.samplings(db, ven, requests))

    async def save_readings(
        self, ven: str, readings: Sequence[Reading], requests: Collection[str], at: datetime
    ) -> set[str]:
        """Keep what a VEN measured; return those request ids under which nothing is asked for."""
        unknown, told = await self._file.write(
            lambda db: ven_reports.keep(db, ven, readings, requests, at), tell=False
        )
        if told:
            self._file.ring()
        return unknown

    # --- for the admin endpoint ---------------------------------------------------------------

    async def heard_from(self, ven: str, at: datetime) -> None:
        """Note that a VEN is there."""
        self._heard.note(ven, at)

    async def listing(self, at: datetime | None = None) -> list[Document]:
        """Return all VENs by name; with a time, also what each is owed then, said, asked for."""

        def read(db: Any) -> list[Document]:
            known = vens.listing(db)
            if at is None:
                return known
            standing = _standing(db, at)
            asked = ven_reports.listing(db)
            return [{**row, **_passed(standing, row["name"]), "reports": asked.get(row["name"], [])}
                    for row in known]  # fmt: skip

        found = await self._file.read(read)
        for row in found:
            heard = self._heard.at.get(row["name"])
            if heard is None or heard < from_millis(row["created"]):  # of one that had its name
                heard = from_millis(row["heard"]) if row["heard"] else None
            row["heard"] = heard
        return found

    async def answers(self, events: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], Any]:
        """Return what VENs answered to events: (source, foreign id) → answers."""

        def read(db: Any) -> Mapping[tuple[str, str], Any]:
            sql = (
                "SELECT e.* FROM ven_offers o JOIN ven_events e ON e.event = o.event"
                " WHERE o.source = ? AND o.foreign_id = ? AND e.answered IS NOT NULL"
                " ORDER BY e.ven, e.event"
            )
            return {
                key: [
                    {
                        "ven": row["ven"],
                        "event": row["event"],
                        "modification": row["answered"],
                        "opt": row["opt"],
                        "at": from_millis(row["at"]),
                    }
                    for row in rows(db, sql, key)
                ]
                for key in events
            }

        return await self._file.read(read)


def _standing(db: Any, at: datetime, since: int | None = None) -> Standing:
    sql = (
        "SELECT key, CAST(value AS INTEGER) AS value FROM meta WHERE key IN ('vens', 'vens_whole')"
    )
    versions = {row["key"]: row["value"] for row in rows(db, sql)}
    partial = since is not None and versions["vens_whole"] <= since
    sql = "SELECT name FROM vens WHERE version > ?"
    names = [row["name"] for row in rows(db, sql, (since,))] if partial else None
    known = [vens.to_ven(row) for row in vens.listing(db, names)]
    found = Standing(
        version=versions["vens"],
        at=at,
        partial=partial,
        vens={ven.name: ven for ven in known},
        by_certificate={c: ven.name for ven in known for c in ven.certificates},
    )
    just_over = millis(at - GRACE)
    if not partial:
        sql = "SELECT * FROM ven_offers WHERE ends > ?"
        found.offers = [offer_rows.to_offer(row) for row in rows(db, sql, (just_over,))]
    of_ven = "" if names is None else f" AND {{}}.ven IN ({', '.join('?' * len(names))})"
    sql = "SELECT e.* FROM ven_events e JOIN ven_offers o ON o.event = e.event WHERE o.ends > ?"
    for row in rows(db, sql + of_ven.format("e"), (just_over, *(names or ()))):
        said = Said(
            row["sent"], row["answered"], row["opt"], from_millis(row["at"]), row["taken_back"]
        )
        found.said.setdefault(row["ven"], {})[row["event"]] = said
    # One for an event lasts as long as that does, however long that is by now.
    sql = (
        "SELECT t.* FROM ven_opts t LEFT JOIN ven_offers o ON o.event = t.event"
        " WHERE iif(t.event IS NULL, t.ends, o.ends) > ?"
    )
    for row in rows(db, sql + of_ven.format("t") + " ORDER BY t.at", (just_over, *(names or ()))):
        found.opts.setdefault(row["ven"], []).append(_opt(row))
    sql = "SELECT * FROM ven_messages t WHERE 1"
    for row in rows(db, sql + of_ven.format("t") + " ORDER BY t.turn", names or ()):
        message = Message(row["turn"], row["kind"], json.loads(row["payload"]))
        found.messages.setdefault(row["ven"], []).append(message)
    return found


def _answer(db: Database, ven: str, answers: Answers, at: datetime) -> None:
    """Keep what a VEN answers, unless it answered a later modification before."""
    write_many(
        db,
        "INSERT INTO ven_events (ven, event, sent, answered, opt, at)"
        " SELECT name, ?, ?, ?, ?, ? FROM vens WHERE name = ?"
        " ON CONFLICT DO UPDATE SET sent = max(sent, excluded.sent),"
        " answered = excluded.answered, opt = coalesce(excluded.opt, opt),"
        " at = iif(excluded.opt IS NULL, at, excluded.at)"
        " WHERE coalesce(answered, -1) <= excluded.answered",
        ((event, number, number, opt, millis(at), ven) for event, (number, opt) in answers.items()),
    )


def _opt(row: Document) -> Opt:
    times = ((from_millis(begin), from_millis(end)) for begin, end in json.loads(row["times"]))
    return Opt(
        opt_id=row["opt_id"],
        opt=row["opt"],
        reason=row["reason"],
        context=row["context"],
        event=row["event"],
        modification=row["modification"],
        times=tuple(times),
        resources=frozenset(json.loads(row["resources"])),
        at=from_millis(row["at"]),
    )


def _passed(standing: Standing, name: str) -> Document:
    """Return what a VEN was sent and said, for a person to read."""
    said = standing.said.get(name, {})
    ven = standing.vens[name]
    live = (o for o in standing.offers if standing.at and o.end > standing.at and not o.cancelled)
    known = [o for o in live if o.signals_for(ven)]
    return {
        "owed": [o.event for o in known if o.event not in said or said[o.event].owed(o)],
        "answers": [
            {"event": event, "modification": s.answered, "opt": s.opt, "at": s.at}
            for event, s in sorted(said.items())
            if s.answered is not None
        ],
        "opts": [
            {"id": o.opt_id, "opt": o.opt, "reason": o.reason, "event": o.event,
             "market_context": o.context, "times": o.times, "resources": sorted(o.resources)}
            for o in standing.opts.get(name, [])
        ],
    }  # fmt: skip


def _settle_outs(db: Database, outs: Outs, at: datetime) -> None:
    for (source, foreign_id), (all_out, resources) in outs.items():
        sql = "SELECT e.id, o.opt, o.opt_by FROM origins o JOIN events e ON e.origin = o.id"
        where = " WHERE o.source = ? AND o.foreign_id = ? ORDER BY e.part LIMIT 1"
        row = one(db, sql + where, (source, foreign_id))
        if row is None:
            continue
        if all_out and row["opt"] == "optIn" and row["opt_by"] is None:
            event_rows.set_opt(db, row["id"], "optOut", at, by=offers.VENS)
        elif not all_out and row["opt_by"] == offers.VENS:
            event_rows.set_opt(db, row["id"], "optIn", at)
        out = ((source, foreign_id, name) for name, opt in resources.items() if opt == "optOut")
        back = ((source, foreign_id, name) for name, opt in resources.items() if opt == "optIn")
        upsert = "INSERT INTO upstream_opts (source, foreign_id, resource, opt)"
        upsert += " VALUES (?, ?, ?, 'optOut') ON CONFLICT DO UPDATE SET opt = 'optOut'"
        where = "source = ? AND foreign_id = ? AND resource = ?"
        write_many(db, upsert, out)
        write_many(db, f"UPDATE upstream_opts SET opt = 'optIn' WHERE {where}", back)  # noqa: S608 -- a constant
