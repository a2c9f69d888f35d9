"""Price series: what a price was, is and will be, with every revision.

A series that events feed is painted from them: of overlapping issues the newest holds, and
a cancelled one counts up to the instant it was cancelled. What a new painting replaces is
kept as a revision.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from sqlite_utils import Database

from bridge.model import Document, PriceRow, is_price
from bridge.notation import from_json, from_millis, millis
from bridge.store.sqlite import Sqlite, one, rows, write_many
from bridge.wire import openadr3

LARGEST = 2**63


class Painted(NamedTuple):
    """A price from `start` on for `length` milliseconds."""

    start: int
    length: int
    value: int | str
    exponent: int


def to_columns(price: Decimal) -> tuple[int | str, int]:
    """Return an amount as `value` and `exponent`, exactly."""
    sign, digits, exponent = price.as_tuple()
    number = int("".join(map(str, digits))) * (-1 if sign else 1)
    return number if abs(number) < LARGEST else str(number), int(exponent)


def from_columns(value: int | str, exponent: int) -> Decimal:
    """Return the amount that `to_columns` took apart, digit for digit."""
    number = Decimal(value)
    sign, digits, _ = number.as_tuple()
    return Decimal((sign, digits, exponent))


def paint(db: Database, program: str, lo: int, hi: int, at: datetime) -> None:
    """Bring a program's series up to what its events say for [lo, hi) milliseconds."""
    known = rows(
        db, "SELECT id, payload_type, unit, currency FROM series WHERE program = ?", (program,)
    )
    lo, hi = _widen(db, [s["id"] for s in known], lo, hi)
    events = rows(
        db,
        "SELECT document, longest, cancelled_at FROM events WHERE program = ? AND test = 0"
        " AND active_to > ? AND active_from < ? ORDER BY issued DESC",
        (program, lo, hi),
    )
    layers: dict[tuple[str, str, str], list[list[Painted]]] = {}
    for row in known:
        layers[row["payload_type"], row["unit"], row["currency"]] = []
    for event in events:
        for key, layer in _layers(event).items():
            layers.setdefault(key, []).append(layer)
    for (kind, unit, currency), stack in layers.items():
        series = _series(db, program, kind, unit, currency)
        _replace(db, series, _flatten(stack), lo, hi, at)


def _widen(db: Database, series: Sequence[int], lo: int, hi: int) -> tuple[int, int]:
    """Widen a window until no kept row reaches out of it: such a row would be cut."""
    while True:
        kept = [
            (r["start"], r["start"] + r["length"]) for s in series for r in _within(db, s, lo, hi)
        ]
        wide = min([lo, *(start for start, _ in kept)]), max([hi, *(end for _, end in kept)])
        if wide == (lo, hi):
            return wide
        lo, hi = wide


def _clip(piece: Painted, lo: int, hi: int) -> Painted:
    start, end = max(piece.start, lo), min(piece.start + piece.length, hi)
    return piece._replace(start=start, length=end - start)


def _layers(event: Document) -> dict[tuple[str, str, str], list[Painted]]:
    document = from_json(event["document"])
    units = openadr3.units(document)
    found: dict[tuple[str, str, str], list[Painted]] = {}
    longest = from_millis(event["longest"]) - from_millis(0)
    for interval in openadr3.intervals(document, longest):
        start, end = millis(interval.start), millis(interval.end)
        if event["cancelled_at"] is not None:
            end = min(end, event["cancelled_at"])
        for kind, value in interval.values.items():
            if is_price(kind) and end > start and not isinstance(value, bool | str):
                unit, currency = units.get(kind, (None, None))
                layer = found.setdefault((kind, unit or "", currency or ""), [])
                layer.append(Painted(start, end - start, *to_columns(Decimal(value))))
    return found


def _flatten(stack: list[list[Painted]]) -> list[Painted]:
    """Lay the layers over each other, the first on top."""
    painted: list[Painted] = []  # in order, and never overlapping
    for layer in stack:
        for piece in layer:
            for part in _uncovered(piece, painted):
                insort(painted, part)
    return painted


def _uncovered(piece: Painted, painted: Sequence[Painted]) -> list[Painted]:
    """Return what of a piece is not painted yet."""
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


def _series(db: Database, program: str, kind: str, unit: str, currency: str) -> int:
    key = (program, kind, unit, currency)
    where = "program = ? AND payload_type = ? AND unit = ? AND currency = ?"
    found = one(db, f"SELECT id FROM series WHERE {where}", key)  # noqa: S608 -- a constant
    if found:
        return int(found["id"])
    insert = "INSERT INTO series (program, payload_type, unit, currency) VALUES (?, ?, ?, ?)"
    return db.conn.execute(insert, key).lastrowid or 0


def _replace(
    db: Database, series: int, wanted: list[Painted], lo: int, hi: int, at: datetime
) -> None:
    """Make the series say in [lo, hi) what is wanted; keep what it said before."""
    now = _within(db, series, lo, hi)
    had = {Painted(r["start"], r["length"], r["value"], r["exponent"]): r["since"] for r in now}
    still = {_clip(p, lo, hi) for p in wanted if p.start < hi and p.start + p.length > lo}
    new = sorted(still - had.keys())
    gone = [(p, since) for p, since in had.items() if p not in still]
    stamp = millis(at)
    write_many(
        db,
        "DELETE FROM prices WHERE series = ? AND start = ?",
        ((series, p.start) for p, _ in gone),
    )
    write_many(
        db,
        "INSERT OR REPLACE INTO price_revisions"
        " (series, start, replaced, length, value, exponent, since) VALUES (?, ?, ?, ?, ?, ?, ?)",
        ((series, p.start, stamp, p.length, p.value, p.exponent, since) for p, since in gone),
    )
    write_many(
        db,
        "INSERT INTO prices (series, start, length, value, exponent, since)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        ((series, *p, stamp) for p in new),
    )


def _within(db: Database, series: int, lo: int, hi: int) -> list[Document]:
    """Return the rows of a series that hold somewhere in [lo, hi)."""
    found = rows(
        db,
        "SELECT start, length, value, exponent, since FROM prices WHERE series = ?"
        " AND start >= coalesce((SELECT max(start) FROM prices WHERE series = ? AND start < ?), ?)"
        " AND start < ?",
        (series, series, lo, lo, hi),
    )
    return [row for row in found if row["start"] + row["length"] > lo]


class Prices:
    """Answers what prices were, are and will be."""

    def __init__(self, file: Sqlite) -> None:
        self._file = file

    async def programs(self) -> list[Document]:
        """Return all programs, by name."""
        return await self._file.read(
            lambda db: rows(
                db,
                "SELECT id, name AS programName, source, context FROM programs ORDER BY name",
            )
        )

    async def prices(
        self,
        program: str | None,
        start: datetime,
        end: datetime | None,
        payload_type: str,
        after: tuple[str, int, datetime] | None,
        limit: int,
    ) -> list[PriceRow]:
        """Return prices that hold in [start, end), by program, series and time.

        `after` is program, series and start of the last row of the page before.
        """

        def read(db: Any) -> list[PriceRow]:
            found: list[PriceRow] = []
            for series in rows(db, _SERIES, (payload_type, program, program)):
                place = (series["name"], series["id"])
                if after and place < after[:2]:
                    continue
                beyond = after[2] if after and place == after[:2] else None
                found += _rows(db, series, start, end, beyond, limit - len(found))
                if len(found) >= limit:
                    break
            return found

        return await self._file.read(read)

    async def revisions(self, program: str) -> list[PriceRow]:
        """Return what a program's series said before and does not any more, by time."""

        def read(db: Any) -> list[PriceRow]:
            return [
                _row(series, row)
                for series in rows(
                    db, _SERIES.replace("s.payload_type = ?", "? = ''"), ("", program, program)
                )
                for row in rows(
                    db,
                    "SELECT * FROM price_revisions WHERE series = ? ORDER BY replaced, start",
                    (series["id"],),
                )
            ]

        return await self._file.read(read)


_SERIES = """
SELECT s.id, s.payload_type, s.unit, s.currency, p.name
FROM series s JOIN programs p ON p.id = s.program
WHERE s.payload_type = ? AND (? IS NULL OR p.name = ?) ORDER BY p.name, s.id
"""


def _rows(
    db: Any,
    series: Document,
    start: datetime,
    end: datetime | None,
    after: datetime | None,
    limit: int,
) -> list[PriceRow]:
    found = rows(
        db,
        "SELECT start, length, value, exponent, since FROM prices WHERE series = ?"
        " AND start >= coalesce((SELECT max(start) FROM prices WHERE series = ? AND start <= ?), ?)"
        " AND start < ? AND start > ? ORDER BY start LIMIT ?",
        (
            series["id"], series["id"], millis(start), millis(start),
            millis(end) if end else LARGEST - 1, millis(after) if after else -LARGEST, limit,
        ),
    )  # fmt: skip
    return [_row(series, r) for r in found if r["start"] + r["length"] > millis(start)]


def _row(series: Document, row: Document) -> PriceRow:
    start = from_millis(row["start"])
    return PriceRow(
        series["name"],
        start,
        from_millis(row["start"] + row["length"]),
        from_columns(row["value"], row["exponent"]),
        series["payload_type"],
        series["unit"] or None,
        series["currency"] or None,
        from_millis(row["since"]),
        series["id"],
    )
