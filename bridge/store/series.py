"""A price series as rows: read, replaced in a span of time, every revision kept.

What is known is packed by UTC day (`packing.py`), each price with the time it was learnt.
What is replaced goes, packed likewise, into `price_revisions`: at any instant T was known
what was learnt by then and not replaced yet.
"""

import json
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

from sqlite_utils import Database

from bridge.model import Document
from bridge.notation import millis
from bridge.store.packing import DAY, Kept, Names, Painted, pack, unpack
from bridge.store.sqlite import one, rows

Span = tuple[int, int]  # from, to: milliseconds


class Replaced(NamedTuple):
    """What a change to a series put in and took out."""

    new: Sequence[Painted]
    gone: Sequence[Kept]

    @property
    def span(self) -> Span | None:
        """From when until when the series says something else now."""
        touched = [*self.new, *(k.price for k in self.gone)]
        if not touched:
            return None
        return min(p.start for p in touched), max(p.start + p.length for p in touched)


def series_id(db: Database, program: str, kind: str, unit: str, currency: str) -> int:
    """Return the number of a program's series; make it where it is new."""
    key = (program, kind, unit, currency)
    where = "program = ? AND payload_type = ? AND unit = ? AND currency = ?"
    found = one(db, f"SELECT id FROM series WHERE {where}", key)  # noqa: S608 -- a constant
    if found:
        return int(found["id"])
    insert = "INSERT INTO series (program, payload_type, unit, currency) VALUES (?, ?, ?, ?)"
    return db.conn.execute(insert, key).lastrowid or 0


def priced_id(db: Database, program: str, kind: str, unit: str, currency: str) -> int:
    """Return the number of the series that a pricing source feeds; make it where it is new.

    A unit or currency that was not said before, or is not said any more, makes no other series.
    """
    sql = "SELECT id, unit, currency FROM series WHERE program = ? AND payload_type = ?"
    for had in rows(db, f"{sql} ORDER BY id DESC", (program, kind)):
        merged = [had[k] or said for k, said in (("unit", unit), ("currency", currency))]
        if all(said in {"", now} for said, now in zip((unit, currency), merged, strict=True)):
            update = "UPDATE OR IGNORE series SET unit = ?, currency = ? WHERE id = ?"
            db.conn.execute(update, (*merged, had["id"]))
            return int(had["id"])
    return series_id(db, program, kind, unit, currency)


def component_names(db: Any) -> Mapping[int, Names]:
    """Return the names of components by the number that stands for them in packed prices."""
    found = {
        row["id"]: tuple((name, kind) for name, kind in json.loads(row["names"]))
        for row in rows(db, "SELECT id, names FROM component_sets")
    }
    return {0: (), **found}


class _Sets:
    """Numbers for sets of component names; new ones are written as they come."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._ids = {names: number for number, names in component_names(db).items()}

    def __call__(self, names: Names) -> int:
        if names not in self._ids:
            insert = "INSERT INTO component_sets (names) VALUES (?)"
            self._ids[names] = self._db.conn.execute(insert, (json.dumps(names),)).lastrowid or 0
        return self._ids[names]


def days(db: Any, series: int, lo: int, hi: int) -> Iterator[tuple[int, bytes]]:
    """Return the packed days, in order, that may hold something of [lo, hi) milliseconds."""
    # A price that holds at `lo` may have begun long before.
    found = db.execute(
        "SELECT day, data FROM prices WHERE series = ? AND day < ? AND day >="
        " coalesce((SELECT max(day) FROM prices WHERE series = ? AND day <= ? AND opens <= ?), ?)"
        " ORDER BY day",
        (series, -(-hi // DAY), series, lo // DAY, lo, lo // DAY),
    )
    return ((row[0], row[1]) for row in found)


class DayRow(NamedTuple):
    """A packed UTC day, and what is known of it unopened."""

    day: int
    opens: int
    closes: int
    broken: bool
    data: bytes
    longest: int  # of the prices of its series

    def unpacked(self, names: Mapping[int, Names]) -> list[Kept]:
        """Return its prices."""
        return unpack(self.data, self.day, names)


def day_rows(db: Any, series: int, lo: int, hi: int) -> Iterator[DayRow]:
    """Yield the packed days, in order, that hold something of [lo, hi) milliseconds."""
    found = db.execute(
        "SELECT d.day, d.opens, d.closes, d.broken, d.data, s.longest FROM prices d"
        " JOIN series s ON s.id = d.series WHERE d.series = ? AND d.day >= (? - s.longest) / ?"
        " AND d.day <= ? AND d.opens < ? AND d.closes > ? ORDER BY d.day",
        (series, lo, DAY, hi // DAY, hi, lo),
    )
    return (DayRow(*row) for row in found)


def within(db: Any, series: int, lo: int, hi: int, names: Mapping[int, Names]) -> list[Kept]:
    """Return what is known to hold somewhere in [lo, hi) milliseconds, in order."""
    return [
        kept
        for day, data in days(db, series, lo, hi)
        for kept in unpack(data, day, names)
        if kept.price.start < hi and kept.price.start + kept.price.length > lo
    ]


def replace(
    db: Database, series: int, wanted: Sequence[Painted], lo: int, hi: int, at: datetime
) -> Replaced:
    """Make the series say in [lo, hi) what is wanted; keep what it said before."""
    sets = _Sets(db)
    names = {number: found for found, number in sets._ids.items()}
    chunks = {day: unpack(data, day, names) for day, data in days(db.conn, series, lo, hi)}
    still = {clip(p, lo, hi) for p in wanted if p.start < hi and p.start + p.length > lo}
    had = {
        k.price
        for chunk in chunks.values()
        for k in chunk
        if k.price.start < hi and k.price.start + k.price.length > lo
    }
    new, lost = sorted(still - had, key=_start), had - still
    if new:
        db.conn.execute(
            "UPDATE series SET longest = max(longest, ?) WHERE id = ?",
            (max(p.length for p in new), series),
        )
    gone = [k for chunk in chunks.values() for k in chunk if k.price in lost]
    if not (new or gone):
        return Replaced(new, gone)
    touched = {p.start // DAY for p in (*new, *(k.price for k in gone))}
    stamp = _after(db, series, touched, chunks, millis(at))
    coming: dict[int, list[Kept]] = defaultdict(list)
    going: dict[int, list[Kept]] = defaultdict(list)
    for price in new:
        coming[price.start // DAY].append(Kept(price, stamp))
    for kept in gone:
        going[kept.price.start // DAY].append(kept)
    for day in coming.keys() | going.keys():
        rest = [k for k in chunks.get(day, ()) if k.price not in lost]
        write_day(db, series, day, [*rest, *coming[day]], sets)
        if going[day]:
            write_revisions(db, series, day, stamp, going[day], sets)
    return Replaced(new, gone)


def _after(
    db: Database,
    series: int,
    touched: Collection[int],
    chunks: Mapping[int, Sequence[Kept]],
    stamp: int,
) -> int:
    """Return the time of a change, later than that of any other change of these days."""
    found = one(
        db,
        "SELECT max(replaced) AS replaced FROM price_revisions"
        " WHERE series = ? AND day BETWEEN ? AND ?",
        (series, min(touched), max(touched)),
    )
    learnt = max((k.since for chunk in chunks.values() for k in chunk), default=0)
    return max(stamp, learnt + 1, ((found and found["replaced"]) or 0) + 1)


def overlay(known: Sequence[Kept], said: Sequence[Painted]) -> list[Painted]:
    """Return what holds when what is said, in order, replaces whatever it overlaps.

    Of two that are said and overlap, the later one holds.
    """
    overlaps = any(a.start + a.length > b.start for a, b in pairwise(said))
    return flatten([[*said][::-1] if overlaps else said, [k.price for k in known]])


def write_day(
    db: Database, series: int, day: int, kept: Sequence[Kept], set_of: Callable[[Names], int]
) -> None:
    """Write what is known of a day; nothing known is no row."""
    if not kept:
        db.conn.execute("DELETE FROM prices WHERE series = ? AND day = ?", (series, day))
        return
    prices = sorted((k.price for k in kept), key=_start)
    closes = prices[-1].start + prices[-1].length
    broken = any(a.start + a.length != b.start for a, b in pairwise(prices))
    db.conn.execute(
        "INSERT INTO prices (series, day, opens, closes, broken, data) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (series, day) DO UPDATE SET opens = excluded.opens,"
        " closes = excluded.closes, broken = excluded.broken, data = excluded.data",
        (series, day, prices[0].start, closes, int(broken), pack(kept, day, set_of)),
    )


def write_revisions(
    db: Database,
    series: int,
    day: int,
    replaced: int,
    kept: Sequence[Kept],
    set_of: Callable[[Names], int],
) -> None:
    """Write what was known of a day until `replaced` milliseconds."""
    db.conn.execute(
        "INSERT OR REPLACE INTO price_revisions (series, day, replaced, data) VALUES (?, ?, ?, ?)",
        (series, day, replaced, pack(kept, day, set_of)),
    )


def replaced_days(db: Any, series: int, lo: int, hi: int) -> Iterator[tuple[int, int, bytes]]:
    """Return packed days of what was once known of [lo, hi) milliseconds, and until when."""
    found = db.execute(
        "SELECT r.day, r.replaced, r.data FROM price_revisions r JOIN series s ON s.id = r.series"
        " WHERE r.series = ? AND r.day >= (? - s.longest) / ? AND r.day < ?"
        " ORDER BY r.day, r.replaced",
        (series, lo, DAY, -(-hi // DAY)),
    )
    return ((row[0], row[1], row[2]) for row in found)


def covers_until(db: Any, series: int, at: int) -> int | None:
    """Return the end of the unbroken run of prices that holds at an instant.

    Where none holds then, it is how far those before it reached, or None.
    """
    found = db.execute(
        "SELECT day, opens, closes, broken, data FROM prices WHERE series = ? AND day >= coalesce("
        "(SELECT max(day) FROM prices WHERE series = ? AND day <= ? AND opens <= ?), ?)"
        " ORDER BY day",
        (series, series, at // DAY, at, at // DAY),
    )
    reached: int | None = None
    for day, opens, closes, broken, data in found:
        if reached is not None and opens != reached:
            break
        if not broken:
            if reached is None and opens > at:
                break
            reached = closes
            if reached <= at:
                break
            continue
        for start, end in _holding(unpack(data, day, _AnyNames())):
            if start > at and start != reached:
                return reached
            reached = end
        if reached is not None and reached <= at:
            break
    return reached


class _AnyNames(dict[int, Names]):
    """Stands in for the names of components where nobody asks for them."""

    def __missing__(self, _: int) -> Names:
        return ()


def _holding(kept: Iterable[Kept]) -> Iterable[Span]:
    return ((k.price.start, k.price.start + k.price.length) for k in kept)


def clip(piece: Painted, lo: int, hi: int) -> Painted:
    """Return what of a price lies in [lo, hi)."""
    start, end = max(piece.start, lo), min(piece.start + piece.length, hi)
    return piece if end - start == piece.length else piece._replace(start=start, length=end - start)


def flatten(stack: Sequence[Sequence[Painted]]) -> list[Painted]:
    """Lay the layers over each other, the first on top."""
    painted: list[Painted] = []  # in order, and never overlapping
    for layer in stack:
        for piece in layer:
            for part in _uncovered(piece, painted):
                if not painted or part.start > painted[-1].start:
                    painted.append(part)
                else:
                    insort(painted, part, key=_start)
    return painted


def _uncovered(piece: Painted, painted: Sequence[Painted]) -> list[Painted]:
    """Return what of a piece is not painted yet."""
    if not painted or painted[-1].start + painted[-1].length <= piece.start:
        return [piece]
    end = piece.start + piece.length
    first = max(bisect_left(painted, piece.start, key=_start) - 1, 0)
    left, start = [], piece.start
    for cover in painted[first : bisect_left(painted, end, key=_start)]:
        if cover.start > start:
            left.append(piece._replace(start=start, length=cover.start - start))
        start = max(start, cover.start + cover.length)
    if start < end:
        left.append(piece._replace(start=start, length=end - start))
    return left


def _start(piece: Painted) -> int:
    return piece.start


def by_program(db: Any, program: str) -> list[Document]:
    """Return the series of a program (its id)."""
    sql = "SELECT id, payload_type, unit, currency FROM series WHERE program = ?"
    return rows(db, sql, (program,))
