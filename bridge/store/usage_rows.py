"""The rows that readings lie in: those of a day at most packed by UTC day, each longer by itself.

So what holds at an instant never lies further back than a short reading reaches: a bill of a
quarter beside quarter-hours costs the row it lies in.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from heapq import merge
from itertools import chain, groupby, pairwise
from operator import itemgetter
from typing import Any

from sqlite_utils import Database

from bridge.store.metered import Metered, pack, unpack
from bridge.store.overlaps import finest
from bridge.store.packing import DAY
from bridge.store.sqlite import one, write_many
from bridge.usage import FIRST, LONGEST

SHORT = 25 * 3_600_000  # milliseconds: a day, when the clocks go back
_PACKED = "SELECT day, data FROM usage WHERE stream = ? AND day BETWEEN ? AND ? ORDER BY day"
_LONG = "SELECT start, length, value, exponent, quality, cost, origin, said, since FROM usage_long"


def day_rows(db: Any, stream: int, first: int, last: int) -> Iterator[tuple[int, list[Metered]]]:
    """Yield the readings that start in UTC days, the last included, in order."""
    connection = _connection(db)
    packed = (
        (day, unpack(data, day)) for day, data in connection.execute(_PACKED, (stream, first, last))
    )
    where = "WHERE stream = ? AND start >= ? AND start < ? ORDER BY start, length"
    rows = connection.execute(f"{_LONG} {where}", (stream, first * DAY, (last + 1) * DAY))
    longer = ((day, list(group)) for day, group in groupby(map(Metered._make, rows), _day))
    number = itemgetter(0)
    for day, group in groupby(merge(packed, longer, key=number), number):
        found = [readings for _, readings in group]
        yield day, found[0] if len(found) == 1 else sorted(chain(*found), key=_key)


def packed_days(db: Any, stream: int, spans: Iterable[tuple[int, int]]) -> dict[int, list[Metered]]:
    """Return the short readings that start in spans of UTC days, the last included, by day."""
    found = (_connection(db).execute(_PACKED, (stream, *span)) for span in spans)
    return {row[0]: unpack(row[1], row[0]) for row in chain.from_iterable(found)}


def long_rows(db: Any, stream: int, lo: int, hi: int) -> list[Metered]:
    """Return the long readings that touch a span, in order."""
    where = "WHERE stream = ? AND start >= ? AND start <= ? AND start + length >= ?"
    values = (stream, lo - LONGEST, hi, lo)
    found = _connection(db).execute(f"{_LONG} {where} ORDER BY start, length", values)
    return list(map(Metered._make, found))


def reach(db: Any, stream: int, lo: int, hi: int) -> tuple[int, int]:
    """Return the UTC days in which all starts that is of a span, or around a part of it."""
    before, after = (long_rows(db, stream, at + 1, at - 1) for at in (lo, hi))
    first = min([lo - SHORT, *(r.start for r in before)])
    return first // DAY, max([hi + SHORT, *(r.end for r in after)]) // DAY


_OPENS = """
SELECT min(at) FROM (
    SELECT * FROM (SELECT opens AS at FROM usage
        WHERE stream = :stream AND closes >= :at AND day >= :day ORDER BY day LIMIT 1)
    UNION ALL SELECT * FROM (SELECT start FROM usage_long
        WHERE NOT :shorts AND stream = :stream AND start + length >= :at AND start >= :earliest
        ORDER BY start LIMIT 1)
)
"""
_CLOSES = """
SELECT max(at) FROM (
    SELECT * FROM (SELECT closes AS at FROM usage WHERE stream = :stream ORDER BY day DESC LIMIT 3)
    UNION ALL SELECT max(start + length) FROM usage_long WHERE stream = :stream
        AND start >= (SELECT max(start) FROM usage_long WHERE stream = :stream) - :longest
)
"""


def opens(db: Any, stream: int, at: int = FIRST, *, shorts: bool = False) -> int | None:
    """Return where there is something for the first time, or short ones, from an instant on."""
    values = {"stream": stream, "at": at, "day": (at - SHORT) // DAY, "earliest": at - LONGEST,
              "shorts": shorts}  # fmt: skip
    found = _connection(db).execute(_OPENS, values).fetchone()[0]
    return None if found is None else max(found, at)


def closes(db: Any, stream: int) -> int | None:
    """Return where the last of what there is ends."""
    values = {"stream": stream, "longest": LONGEST}
    found: int | None = _connection(db).execute(_CLOSES, values).fetchone()[0]
    return found


def ends_within(db: Any, stream: int, after: int, until: int) -> bool:
    """Whether a reading ends after an instant, and not after another."""
    sql = (
        "SELECT day, closes, data FROM usage"
        " WHERE stream = ? AND day BETWEEN ? AND ? AND closes > ? AND opens <= ? ORDER BY day DESC"
    )
    span = (after - SHORT) // DAY, until // DAY
    for day, last, data in _connection(db).execute(sql, (stream, *span, after, until)):
        if last <= until or any(after < r.end <= until for r in unpack(data, day)):
            return True
    return any(after < r.end <= until for r in long_rows(db, stream, after, until))


def known_spans(db: Any, stream: int, lo: int, hi: int) -> Iterator[tuple[int, int]]:
    """Yield spans that are known of some part of one, by their starts."""
    sql = (
        "SELECT day, opens, closes, broken, data FROM usage"
        " WHERE stream = ? AND day >= ? AND day <= ? AND closes > ? AND opens < ? ORDER BY day"
    )
    found = db.execute(sql, (stream, (lo - SHORT) // DAY, hi // DAY, lo, hi))
    packed = (
        span
        for day, first, last, broken, data in found
        for span in ([(r.start, r.end) for r in unpack(data, day)] if broken else [(first, last)])
    )
    return merge(packed, ((r.start, r.end) for r in long_rows(db, stream, lo, hi)))


def around(db: Database, stream: int, said: Sequence[Metered]) -> list[Metered]:
    """Return what is known, in order, that is the same as one of what is said, or crosses it.

    What is said is in order, too. Of what lies within a long one only a part is returned.
    """
    short = [r for r in said if r[1] <= SHORT]
    edges = [edge for r in said if r[1] > SHORT for edge in (r.start, r.end)]
    spans = [((edge - SHORT) // DAY, edge // DAY) for edge in edges]
    until = max([r[0] + r[1] for r in short], default=0)
    if short:
        spans.append(((short[0].start - SHORT) // DAY, until // DAY))
    packed = packed_days(db, stream, spans)
    found = list(chain.from_iterable(packed[day] for day in sorted(packed)))
    longer = long_rows(db, stream, said[0].start, max([until, *edges]))
    return sorted([*found, *longer], key=_key) if longer else found


def rewrite(
    db: Database, stream: int, changed: Collection[Metered], held: Sequence[Metered]
) -> None:
    """Write what changed, of what is held now, in order: all of each day that changed."""
    days = {r[0] // DAY for r in changed if r[1] <= SHORT}
    short = [r for r in held if r[1] <= SHORT]
    starts = [r[0] for r in short]
    for day in sorted(days):
        first, last = (bisect_left(starts, number * DAY) for number in (day, day + 1))
        write_day(db, stream, day, short[first:last])
    longer = {r.key for r in changed if r[1] > SHORT}
    kept = [r for r in held if r.key in longer] if longer else []
    sql = "DELETE FROM usage_long WHERE stream = ? AND start = ? AND length = ?"
    write_many(db, sql, ((stream, *key) for key in longer))
    sql = "INSERT INTO usage_long VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    write_many(db, sql, ((stream, *r) for r in kept))


def write_day(db: Database, stream: int, day: int, readings: Sequence[Metered]) -> None:
    """Write a day's short readings, which are in order; none is no row."""
    if not readings:
        db.conn.execute("DELETE FROM usage WHERE stream = ? AND day = ?", (stream, day))
        return
    filled = finest(readings)
    broken = any(a[0] + a[1] != b[0] for a, b in pairwise(filled))
    db.conn.execute(
        "INSERT INTO usage (stream, day, opens, closes, broken, data) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (stream, day) DO UPDATE SET opens = excluded.opens,"
        " closes = excluded.closes, broken = excluded.broken, data = excluded.data",
        (stream, day, readings[0].start, max(r[0] + r[1] for r in readings), int(broken),
         pack(readings, day)),
    )  # fmt: skip


def write_trace(db: Database, stream: int, gone: Sequence[Metered], now: int) -> None:
    """Keep what does not hold any more, and until when it was known."""
    by_day: dict[int, list[Metered]] = defaultdict(list)
    for reading in gone:
        by_day[_day(reading)].append(reading)
    for day, readings in by_day.items():
        sql = "SELECT max(replaced) AS last FROM usage_revisions WHERE stream = ? AND day = ?"
        last = (one(db, sql, (stream, day)) or {})["last"] or 0
        db.conn.execute(
            "INSERT INTO usage_revisions (stream, day, replaced, data) VALUES (?, ?, ?, ?)",
            (stream, day, max(now, last + 1), pack(sorted(readings), day)),
        )


def _connection(db: Any) -> Any:
    return db.conn if isinstance(db, Database) else db


def _day(reading: Metered) -> int:
    return reading.start // DAY


def _key(reading: Metered) -> tuple[int, int]:
    return reading[:2]
