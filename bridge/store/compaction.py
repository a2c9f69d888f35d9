"""What is finer than an hour becomes hours once it is old, where a setting says so.

Only hours that are known all through; sums of days and months stay what they are. What was
replaced in those days is forgotten.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby

from sqlite_utils import Database

from bridge.notation import millis
from bridge.store.dates import dates_of
from bridge.store.metered import Metered
from bridge.store.overlaps import amount_of, finest, tiles
from bridge.store.packing import DAY, LARGEST, to_columns
from bridge.store.sqlite import rows
from bridge.store.usage_rows import long_rows, packed_days, write_day
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
        packed = packed_days(db, number, [(day - 2, day)])
        held = packed.pop(day)
        reaching = long_rows(db, number, day * DAY, (day + 1) * DAY)
        reaching += [r for found in packed.values() for r in found if r.end > day * DAY]
        edges = {edge for _, *span in dates_of(day, row["zone"]) for edge in span}
        hours = held
        if not any(edge % HOUR for edge in edges):  # where hours of the place are hours of UTC
            hours = sorted(_in_hours(row["kind"], held, reaching))
        if hours != held:
            write_day(db, number, day, hours)
            update = "UPDATE streams SET hourly = max(hourly, ?) WHERE id = ?"
            db.conn.execute(update, (day, number))
        gone = "DELETE FROM usage_revisions WHERE stream = ? AND day <= ?"
        db.conn.execute(gone, (number, day))
        db.conn.execute("UPDATE streams SET compacted = ? WHERE id = ?", (day, number))
    return bool(found)


def timely(said: Sequence[Metered], known: Sequence[Metered]) -> Sequence[Metered]:
    """Return what is said without what is too old, or too coarse, for an hour that was made.

    Inside such an hour counts what was said after it, once it fills it: till then the hour
    holds. Of what overlaps it otherwise, and of that very hour, finer readings were known.
    """
    made = {r.start: r.said for r in known if r.made}
    return [r for r in said if _is_timely(r, made)] if made else said


def _is_timely(reading: Metered, made: Mapping[int, int]) -> bool:
    first = reading.start // HOUR * HOUR
    last = max(reading.start, reading.end - 1) // HOUR * HOUR
    if first == last and reading.length < HOUR:
        return first not in made or reading.said > made[first]
    if first == last:
        return first not in made
    return not ((reading.start > first and first in made)
                or (reading.end < last + HOUR and last in made))  # fmt: skip


def filled_again(held: Sequence[Metered]) -> dict[tuple[int, int], Metered]:
    """Return the hours that were made and that finer readings, said since, fill."""
    made = {r.start: r for r in held if r.made}
    if not made:
        return {}
    parts: dict[int, list[Metered]] = defaultdict(list)
    for reading in held:
        if 0 < reading.length < HOUR:
            parts[reading.start // HOUR * HOUR].append(reading)
    return {made[h].key: made[h] for h in made & parts.keys() if _fills(finest(parts[h]), h)}


def _in_hours(
    kind: str, readings: Sequence[Metered], before: Sequence[Metered]
) -> Iterator[Metered]:
    """Yield hours in place of what fills them; all else as it is.

    An hour into which a longer reading reaches part of the way is left as it is, and what was
    measured at an instant.
    """
    countable = kind.partition(".")[0] in {*ADDED_UP, DEMAND}
    longer = [r for r in (*before, *readings) if r.length > 0]
    for hour, group in groupby(readings, lambda r: r.start // HOUR):
        found = list(group)
        inside = [r for r in found if 0 < r.length <= HOUR]
        filling = finest(inside)
        start, end = hour * HOUR, hour * HOUR + HOUR
        made = None
        if (
            countable
            and _fills(filling, start)
            and not any(_crosses(r, start, end) for r in longer)
        ):
            made = _hour(kind, inside, filling)
        if made:
            yield made
            yield from (r for r in found if not 0 < r.length <= HOUR)
        else:
            yield from found


def _crosses(reading: Metered, start: int, end: int) -> bool:
    """Whether a reading overlaps a span without being within or around it."""
    return reading.start < start < reading.end < end or start < reading.start < end < reading.end


def _fills(readings: Sequence[Metered], start: int) -> bool:
    return len(readings) > 1 and tiles(readings, start, start + HOUR)


def _hour(kind: str, inside: Sequence[Metered], readings: Sequence[Metered]) -> Metered | None:
    """Return the hour that readings fill, of all inside it; None where something would be lost."""
    amount = amount_of(kind, inside).value
    qualities, origins = {r.quality for r in readings}, {r.origin for r in readings}
    costs = [r.cost for r in readings if r.cost is not None]
    if amount is None or len(costs) not in {0, len(readings)} or abs(sum(costs)) >= LARGEST:
        return None
    value, exponent = to_columns(amount)
    return Metered(
        start=readings[0].start,
        length=HOUR,
        value=value,
        exponent=exponent,
        quality=qualities.pop() if len(qualities) == 1 else None,
        cost=sum(costs) if costs else None,
        origin=-max(map(abs, origins)),  # of several who said it, one
        said=max(r.said for r in readings),
        since=max(r.since for r in readings),
    )
