"""What is finer than an hour becomes hours once it is old, where a setting says so.

Only hours that are known all through; sums of days and months stay what they are. What was
replaced in those days is forgotten.
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from itertools import groupby, pairwise

from sqlite_utils import Database

from bridge.notation import millis
from bridge.store import usage
from bridge.store.metered import Metered
from bridge.store.overlaps import finest
from bridge.store.packing import DAY, to_columns
from bridge.store.sqlite import rows
from bridge.usage import ADDED_UP, DEMAND

HOUR = 3_600_000


def compact(db: Database, before: datetime, limit: int = 10) -> bool:
    """Make hours of some days that lie wholly before a time; say whether there are more."""
    last = millis(before) // DAY - 1
    found = rows(
        db,
        "SELECT * FROM (SELECT s.id AS stream, s.kind,"
        " coalesce(m.zone, (SELECT value FROM meta WHERE key = 'zone'), 'UTC') AS zone,"
        " (SELECT min(u.day) FROM usage u WHERE u.stream = s.id AND u.day > s.compacted) AS day"
        " FROM streams s JOIN meters m ON m.id = s.meter) WHERE day <= ? LIMIT ?",
        (last, limit),
    )
    for row in found:
        number, day = row["stream"], row["day"]
        (held,) = (readings for _, readings in usage.day_rows(db, number, day, day))
        midnights = {start for _, start, _ in usage.dates_of(day, row["zone"])}
        hours = sorted(_in_hours(row["kind"], held, midnights))
        if hours != held:
            usage.write_day(db, number, day, hours)
        gone = "DELETE FROM usage_revisions WHERE stream = ? AND day <= ?"
        db.conn.execute(gone, (number, day))
        db.conn.execute("UPDATE streams SET compacted = ? WHERE id = ?", (day, number))
    return bool(found)


def _in_hours(
    kind: str, readings: Sequence[Metered], midnights: Collection[int]
) -> Iterator[Metered]:
    """Yield hours in place of what fills them; all else as it is."""
    countable = kind.partition(".")[0] in {*ADDED_UP, DEMAND}
    for hour, group in groupby(readings, lambda r: r.start // HOUR):
        found = list(group)
        filling = finest([r for r in found if r.length <= HOUR])
        start = hour * HOUR
        cut = any(start < midnight < start + HOUR for midnight in midnights)
        if countable and not cut and _fills(filling, start):
            yield _hour(kind, filling)
            yield from (r for r in found if r.length > HOUR)
        else:
            yield from found


def _fills(readings: Sequence[Metered], start: int) -> bool:
    return (
        len(readings) > 1
        and readings[0].start == start
        and readings[-1].end == start + HOUR
        and all(a.end == b.start for a, b in pairwise(readings))
    )


def _hour(kind: str, readings: Sequence[Metered]) -> Metered:
    amount = usage.amount_of(kind, readings).value
    qualities, origins = {r.quality for r in readings}, {r.origin for r in readings}
    costs = [r.cost for r in readings]
    value, exponent = to_columns(amount) if amount is not None else (0, 0)
    return Metered(
        start=readings[0].start,
        length=HOUR,
        value=value,
        exponent=exponent,
        quality=qualities.pop() if len(qualities) == 1 else None,
        cost=None if None in costs else sum(c for c in costs if c is not None),
        origin=max(origins),  # of several who said it, one
        said=max(r.said for r in readings),
        since=max(r.since for r in readings),
    )
