"""Readings: kept by stream and UTC day, what they replace as a trace, sums of local dates.

A sum is kept for a local date once nothing of it was touched for a while: where none is kept
it is worked out from the readings, so that it is right at every moment.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import date, datetime
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import NamedTuple

from sqlite_utils import Database

from bridge.errors import Unfit
from bridge.notation import millis, to_json
from bridge.store import changes
from bridge.store.compaction import filled_again, timely
from bridge.store.dates import date_span, dates_of
from bridge.store.metered import Metered
from bridge.store.overlaps import Merged, amount_of, merge
from bridge.store.packing import DAY, to_columns
from bridge.store.sqlite import one, rows, write_many
from bridge.store.usage_rows import around, day_rows, rewrite, write_trace
from bridge.usage import (
    Kept,
    Measured,
    MeterState,
    Origin,
    Reading,
    Stream,
    out_of_bounds,
)

APART = 3 * DAY  # readings further apart than this are merged by themselves
MOST_OWNED = 1_000  # meters that a client may name


class StreamRow(NamedTuple):
    """A stream as it is kept."""

    id: int
    zone: str
    straddles: bool  # whether a reading of it ever was of more than one local date
    hourly: int  # the last UTC day of which hours were made


def keep(db: Database, measured: Iterable[Measured], at: datetime) -> Kept:
    """Keep what was measured, inside a transaction; say what became of it."""
    said: dict[int, list[Metered]] = defaultdict(list)
    streams: dict[int, tuple[StreamRow, str]] = {}
    known: dict[Stream, StreamRow] = {}
    origins: dict[Origin, int] = {}
    now = millis(at)
    for one_said in measured:
        if not one_said.readings:
            continue
        _check(one_said.readings)
        row = known.get(one_said.stream)
        if row is None:
            row = known[one_said.stream] = stream_row(db, one_said.stream, one_said.zone, at)
        if one_said.origin not in origins:
            origins[one_said.origin] = origin_id(db, one_said.origin)
        origin, stamp = origins[one_said.origin], min(millis(one_said.said or at), now)
        streams[row.id] = row, one_said.stream.meter
        said[row.id] += [Metered(*r, origin, stamp, now) for r in one_said.readings]
    counts, touched = Kept(), dict[str, tuple[int, int]]()
    for number, readings in said.items():
        row, meter = streams[number]
        for run in _runs(readings):
            merged, row = _keep_run(db, row, run, now)
            counts += merged.kept
            _note(touched, meter, merged)
    heard = ((now, meter) for meter in {meter for _, meter in streams.values()})
    write_many(db, "UPDATE meters SET heard = ? WHERE name = ?", heard)
    followed = list(filter(_followed(db), touched))
    for meter in followed:
        about = {"meter": meter, "start": touched[meter][0], "end": touched[meter][1]}
        changes.append(db, at, "UPDATE", "USAGE", meter, after=about)
    return counts + Kept(told=len(followed))


def _check(readings: Sequence[Reading]) -> None:
    """Raise Unfit where a reading is of a time that nothing is measured in."""
    starts, lengths = [r[0] for r in readings], [r[1] for r in readings]
    if out_of_bounds(min(starts), min(lengths)) is None and (
        out_of_bounds(max(starts), max(lengths)) is None
    ):
        return  # all are; of the rest each is looked at
    for start, length in zip(starts, lengths, strict=True):
        if problem := out_of_bounds(start, length):
            raise Unfit(f"readings: one is {problem}")


def withdraw(
    db: Database, stream: Stream, keys: Iterable[tuple[int, int]], origin: Origin, at: datetime
) -> None:
    """Take back those readings (start, length) of a stream that still are this origin's."""
    row, said_by = _find(db, stream), one(db, _ORIGIN, origin)
    if not row or not said_by:
        return
    by_day: dict[int, set[tuple[int, int]]] = defaultdict(set)
    for key in keys:
        by_day[key[0] // DAY].add(key)
    for day, wanted in by_day.items():
        known = dict(day_rows(db, row.id, day, day)).get(day, [])
        gone = [r for r in known if r.key in wanted and r.origin == said_by["id"]]
        if gone:
            lost = {r.key for r in gone}
            rewrite(db, row.id, gone, [r for r in known if r.key not in lost])
            write_trace(db, row.id, gone, millis(at))
            _touch(db, row, gone)


def _runs(said: list[Metered]) -> Iterator[list[Metered]]:
    """Yield readings in the order of their starts, in runs that do not lie far apart."""
    said.sort(key=lambda r: r.start)  # those of one start stay in the order they were said in
    first = 0
    for n, (a, b) in enumerate(pairwise(said), 1):
        if b.start - a.start > APART:
            yield said[first:n]
            first = n
    yield said[first:]


def _keep_run(
    db: Database, row: StreamRow, said: Sequence[Metered], now: int
) -> tuple[Merged, StreamRow]:
    known = around(db, row.id, said)
    late = said[0].start // DAY <= row.hourly  # they are in order: hours may have been made
    in_time = timely(said, known) if late else said
    merged = merge(known, in_time)
    merged = merged._replace(kept=merged.kept + Kept(outdated=len(said) - len(in_time)))
    if late and (overtaken := filled_again(merged.held)):
        held = [r for r in merged.held if r.key not in overtaken]
        merged = merged._replace(held=held, gone=[*merged.gone, *overtaken.values()])
    changed = [*merged.new, *merged.gone]
    rewrite(db, row.id, [*changed, *merged.confirmed], merged.held)
    write_trace(db, row.id, merged.gone, now)
    if changed:
        update = "UPDATE streams SET compacted = min(compacted, ?) WHERE id = ?"
        db.conn.execute(update, (min(r.start for r in changed) // DAY - 1, row.id))
    if _touch(db, row, changed) and not row.straddles:
        row = row._replace(straddles=True)
        db.conn.execute("UPDATE streams SET straddles = 1 WHERE id = ?", (row.id,))
    return merged, row


def _touch(db: Database, row: StreamRow, changed: Sequence[Metered]) -> bool:
    """Forget the sums of dates that changed; return whether a reading is of several dates."""
    by_day: dict[int, list[Metered]] = defaultdict(list)
    for reading in changed:
        by_day[reading.start // DAY].append(reading)
    spans = {day: dates_of(day, row.zone) for day in by_day}
    keys = {(row.id, number) for found in spans.values() for number, _, _ in found}
    write_many(db, "DELETE FROM usage_dates WHERE stream = ? AND date = ?", keys)
    write_many(db, "INSERT OR IGNORE INTO usage_stale (stream, date) VALUES (?, ?)", keys)
    return any(
        reading[0] + reading[1] > end
        for day, readings in by_day.items()
        for _, start, end in spans[day]
        for reading in readings
        if start <= reading[0] < end
    )


def _note(touched: dict[str, tuple[int, int]], meter: str, merged: Merged) -> None:
    changed = [*merged.new, *merged.gone]
    if changed:
        lo, hi = min([r[0] for r in changed]), max([r[0] + r[1] for r in changed])
        had = touched.get(meter, (lo, hi))
        touched[meter] = min(had[0], lo), max(had[1], hi)


def follow(db: Database, patterns: Collection[str]) -> None:
    """Keep of which meters' readings devices are told: others make no changes."""
    text = json.dumps(sorted(patterns))
    db.conn.execute("INSERT OR REPLACE INTO meta VALUES ('followed_meters', ?)", (text,))


def _followed(db: Database) -> Callable[[str], bool]:
    """Return what says of a meter's name whether any device is told of its readings."""
    row = one(db, "SELECT value FROM meta WHERE key = 'followed_meters'")
    patterns = json.loads(row["value"]) if row else []
    return lambda name: any(fnmatchcase(name, pattern) for pattern in patterns)


_STREAM = (
    "SELECT s.id, coalesce(m.zone, (SELECT value FROM meta WHERE key = 'zone'), 'UTC') AS zone,"
    " s.straddles, s.hourly FROM streams s JOIN meters m ON m.id = s.meter"
    " WHERE m.name = ? AND s.direction = ? AND s.kind = ? AND s.unit = ?"
    " AND (s.currency = '' OR ? IN ('', s.currency)) ORDER BY s.currency <> ?, s.id"
)
_OWNED = re.compile(r"openadr[23]:([^:]+):")
_ABOUT = (
    "SELECT s.kind, coalesce(m.zone, (SELECT value FROM meta WHERE key = 'zone'), 'UTC') AS zone"
    " FROM streams s JOIN meters m ON m.id = s.meter WHERE s.id = ?"
)
_ORIGIN = (
    "SELECT id FROM usage_origins WHERE kind = ? AND name = ? AND reference = ?"
    " AND reading_type = ?"
)


def stream_row(db: Database, stream: Stream, zone: str | None, at: datetime) -> StreamRow:
    """Return a stream; make it, and its meter, where they are new.

    A currency that was not said before, or is not said any more, makes no other stream.
    """
    found = _find(db, stream)
    if found is None:
        meter = meter_id(db, stream.meter, zone, at)
        db.conn.execute(
            "INSERT INTO streams (meter, direction, kind, unit, currency, straddles)"
            " VALUES (?, ?, ?, ?, ?, 0)",
            (meter, *stream[1:]),
        )
        return stream_row(db, stream, zone, at)
    if stream.currency:
        update = "UPDATE streams SET currency = ? WHERE id = ? AND currency = ''"
        db.conn.execute(update, (stream.currency, found.id))
    return found


def _find(db: Database, stream: Stream) -> StreamRow | None:
    found = one(db, _STREAM, (*stream, stream.currency))
    if found is None:
        return None
    return StreamRow(found["id"], found["zone"], bool(found["straddles"]), found["hourly"])


def meter_id(db: Database, name: str, zone: str | None, at: datetime) -> int:
    """Return the number of a meter; make it where it is new.

    Raises Unfit where a client has named too many.
    """
    found = one(db, "SELECT id FROM meters WHERE name = ?", (name,))
    if found:
        return int(found["id"])
    if owner := _OWNED.match(name):
        own = "SELECT count(*) AS n FROM meters WHERE name >= ? AND name < ?"
        values = (owner[0], owner[0] + "\U0010ffff")
        if (one(db, own, values) or {})["n"] >= MOST_OWNED:
            raise Unfit(f"meter: there are {MOST_OWNED} of {owner[1]} already; name one of those")
    insert = "INSERT INTO meters (name, zone, created) VALUES (?, ?, ?)"
    return db.conn.execute(insert, (name, zone, millis(at))).lastrowid or 0


def origin_id(db: Database, origin: Origin) -> int:
    """Return the number of an origin; make it where it is new."""
    found = one(db, _ORIGIN, origin)
    if found:
        return int(found["id"])
    insert = "INSERT INTO usage_origins (kind, name, reference, reading_type) VALUES (?, ?, ?, ?)"
    return db.conn.execute(insert, origin).lastrowid or 0


def note_states(db: Database, source: str, states: Iterable[MeterState], at: datetime) -> None:
    """Keep how a source stands with its meters."""
    for said in states:
        number = meter_id(db, said.meter, None, at)
        db.conn.execute(
            "UPDATE meters SET source = ?, state = ?, says = ?, next_step = ?, about = ?"
            " WHERE id = ?",
            (source, said.state, said.says, said.next_step, to_json(said.about), number),
        )


def settle_zone(db: Database, zone: str) -> None:
    """Make dates those of the site's zone: sums by another zone's dates are forgotten."""
    had = one(db, "SELECT value FROM meta WHERE key = 'zone'")
    if had and had["value"] == zone:
        return
    db.conn.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('zone', ?)", (zone,))
    ours = "(SELECT s.id FROM streams s JOIN meters m ON m.id = s.meter WHERE m.zone IS NULL)"
    db.conn.execute(f"DELETE FROM usage_dates WHERE stream IN {ours}")  # noqa: S608 -- a constant
    for days in (-1, 0, 1):  # a local date holds parts of two or three UTC days
        insert = "INSERT OR IGNORE INTO usage_stale SELECT stream, day + ? FROM usage"
        db.conn.execute(f"{insert} WHERE stream IN {ours}", (days,))
    # Whether readings are of several dates now is not looked at: sums are right either way.
    db.conn.execute(f"UPDATE streams SET straddles = 1 WHERE id IN {ours}")  # noqa: S608 -- a constant


def refresh(db: Database, before: date, limit: int = 50) -> bool:
    """Keep the sums of some dates that were touched; say whether there are more."""
    number = (before - date(1970, 1, 1)).days
    sql = "SELECT stream, date FROM usage_stale WHERE date < ? LIMIT ?"
    stale = rows(db, sql, (number, limit))
    for row in stale:
        _refresh(db, row["stream"], row["date"])
    keys = ((row["stream"], row["date"]) for row in stale)
    write_many(db, "DELETE FROM usage_stale WHERE stream = ? AND date = ?", keys)
    return len(stale) == limit


def _refresh(db: Database, stream: int, number: int) -> None:
    about = one(db, _ABOUT, (stream,)) or {}
    start, end = date_span(number, about["zone"])
    days = day_rows(db, stream, start // DAY, end // DAY)
    inside = [r for _, found in days for r in found if start <= r.start < end >= r.end]
    found = amount_of(about["kind"], inside)
    if found.value is not None:
        value = (*to_columns(found.value), found.covered, found.readings)
        insert = "INSERT OR REPLACE INTO usage_dates VALUES (?, ?, ?, ?, ?, ?)"
        db.conn.execute(insert, (stream, number, *value))
