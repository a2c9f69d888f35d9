"""Which reports an upstream asks for, and which of them takes the place of which."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlite_utils import Database

from bridge.notation import from_millis, millis, to_json
from bridge.reporting import Asked, Plan, Running, Wanted, floored
from bridge.store.sqlite import one, rows, write_many

MOST_ENDED = 50  # reports that are over, and remembered to know a repeated request by


def running(db: Any, source: str) -> Iterator[Running]:
    """Yield the reports that are being told, in the order in which they were asked for."""
    sql = "SELECT * FROM upstream_requests WHERE source = ? AND ended IS NULL ORDER BY id"
    for row in rows(db, sql, (source,)):
        points = rows(db, "SELECT * FROM upstream_points WHERE request = ?", (row["id"],))
        yield Running(
            key=row["id"],
            asked=Asked.read(json.loads(row["request"])),
            plan=Plan.read(json.loads(row["plan"])),
            era=row["era"],
            answered=bool(row["answered"]),
            reach={p["r_id"]: from_millis(p["reach"]) for p in points},
        )


def told(
    db: Database, source: str, digest: str, wanted: Sequence[Wanted],
    offers: Callable[[str, str], bool], at: datetime,
) -> None:  # fmt: skip
    """Keep what an upstream was told can be reported, and what it asked for in answer."""
    db.conn.execute(
        "INSERT INTO upstream_reporting (source, offered, wanted_by, era, alive)"
        " VALUES (?, ?, '', 1, ?) ON CONFLICT (source)"
        " DO UPDATE SET offered = excluded.offered, wanted_by = '', era = era + 1",
        (source, digest, millis(at)),
    )
    for one_running in list(running(db, source)):
        gone = [r for r in one_running.reach if not offers(one_running.asked.specifier, r)]
        if gone:
            sql = "DELETE FROM upstream_points WHERE request = ? AND r_id = ?"
            write_many(db, sql, ((one_running.key, r) for r in gone))
            drop_update(db, one_running.key)
            end_where_done(db, one_running.key, at)
    accept(db, source, wanted, "", at)


def accept(db: Database, source: str, wanted: Sequence[Wanted], said: str, at: datetime) -> None:
    """Keep what an upstream asks for, and forget the oldest of what is over."""
    row = one(db, "SELECT era FROM upstream_reporting WHERE source = ?", (source,))
    era = row["era"] if row else 0
    for asked, plan in wanted:
        if not _is_repeated(db, source, asked, said, era):
            _begin(db, source, Running(0, asked, plan, era, answered=False, reach={}), said, at)
    db.conn.execute(
        "DELETE FROM upstream_requests WHERE source = ? AND ended IS NOT NULL AND id NOT IN"
        " (SELECT id FROM upstream_requests WHERE source = ? AND ended IS NOT NULL"
        " ORDER BY ended DESC, id DESC LIMIT ?)",
        (source, source, MOST_ENDED),
    )


def _is_repeated(db: Database, source: str, asked: Asked, said: str, era: int) -> bool:
    """Whether a request is being told, or was told, already."""
    sql = "SELECT * FROM upstream_requests WHERE source = ? AND request_id = ?"
    row = one(db, sql, (source, asked.request_id))
    if row is None or json.loads(row["request"]) != asked.document:
        return False
    if row["ended"] is not None:
        return bool(row["said"] == said)
    sql = "UPDATE upstream_requests SET era = ?, answered = 0, said = ? WHERE id = ?"
    db.conn.execute(sql, (era, said, row["id"]))
    return True


def _begin(db: Database, source: str, new: Running, said: str, at: datetime) -> None:
    """Begin a report; where it takes another's place it goes on where that one was."""
    before, asked = _before(db, source, new), new.asked
    plan = new.plan
    reach: Mapping[str, datetime] = dict.fromkeys(asked.r_ids, plan.origin)
    gaps: list[tuple[str, int, int]] = []
    if before and not plan.whole and (asked.start is None or asked.start <= at):
        plan, reach = _going_on(before, new, at)
        if plan.step == before.plan.step:
            sql = "SELECT r_id, start, told FROM upstream_gaps WHERE request = ?"
            gaps = [(r["r_id"], r["start"], r["told"]) for r in rows(db, sql, (before.key,))]
    db.conn.execute(
        "DELETE FROM upstream_requests WHERE id = ? OR (source = ? AND request_id = ?)",
        (before.key if before else 0, source, asked.request_id),
    )
    key = db.conn.execute(
        "INSERT INTO upstream_requests (source, request_id, request, plan, said, era, answered)"
        " VALUES (?, ?, ?, ?, ?, ?, 0)",
        (source, asked.request_id, to_json(asked.document), to_json(plan.document), said, new.era),
    ).lastrowid
    sql = "INSERT INTO upstream_points VALUES (?, ?, ?)"
    write_many(db, sql, ((key, r, millis(reached)) for r, reached in reach.items()))
    sql = "INSERT INTO upstream_gaps VALUES (?, ?, ?, ?)"
    write_many(db, sql, ((key, *gap) for gap in gaps if gap[0] in reach))


def _before(db: Database, source: str, new: Running) -> Running | None:
    """Return the report whose place another takes: the same id's, or one of a former era.

    An upstream that was told anew what can be reported may ask for the same under a new id.
    """
    for found in running(db, source):
        same = found.asked.request_id == new.asked.request_id
        if same or (found.era < new.era and found.what == new.what):
            return found if found.plan.whole == new.plan.whole else None
    return None


def _going_on(before: Running, new: Running, at: datetime) -> tuple[Plan, Mapping[str, datetime]]:
    """Return the plan that goes on where another was, and how far it is told by resource."""
    plan, reach = new.plan, before.reach
    origin = before.plan.origin
    if plan.step != before.plan.step:
        origin = floored(min(reach.values(), default=at), plan.step)
    plan = replace(plan, origin=origin)
    if plan.end:
        plan = replace(plan, end=plan.ceiling(plan.end))
    begin = at if new.asked.start is None else new.asked.start
    return plan, {r: plan.floor(min(reach.get(r, begin), begin)) for r in new.asked.r_ids}


def cancel(
    db: Database, source: str, reports: Collection[str], at: datetime, *, to_follow: bool
) -> list[str]:
    """End reports, after a last one where it is `to_follow`; return which are not there."""
    known = {found.asked.request_id: found for found in running(db, source)}
    for name in known.keys() & set(reports):
        found = known[name]
        if not to_follow:
            db.conn.execute("DELETE FROM upstream_requests WHERE id = ?", (found.key,))
        elif not found.plan.whole:
            end = found.plan.floor(at)
            if end <= min(found.reach.values(), default=end):
                end += found.plan.step
            plan = replace(found.plan, end=min(end, found.plan.end or end))
            sql = "UPDATE upstream_requests SET plan = ?, said = NULL WHERE id = ?"
            db.conn.execute(sql, (to_json(plan.document), found.key))
    return [name for name in reports if name not in known]


def end_where_done(db: Database, key: int, at: datetime) -> None:
    """End a report of which all was told, or nothing is left to tell."""
    row = one(db, "SELECT plan FROM upstream_requests WHERE id = ?", (key,))
    end = Plan.read(json.loads(row["plan"])).end if row else None
    points = rows(db, "SELECT reach FROM upstream_points WHERE request = ?", (key,))
    if points and (end is None or any(point["reach"] < millis(end) for point in points)):
        return
    db.conn.execute("UPDATE upstream_requests SET ended = ? WHERE id = ?", (millis(at), key))
    for table in ("upstream_points", "upstream_gaps", "upstream_updates"):
        db.conn.execute(f"DELETE FROM {table} WHERE request = ?", (key,))  # noqa: S608 -- constants


def drop_update(db: Database, key: int) -> None:
    """Forget what was about to be sent."""
    db.conn.execute("DELETE FROM upstream_updates WHERE request = ?", (key,))
