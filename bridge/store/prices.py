"""Answers what prices were, are and will be, and what was known of them when."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from heapq import merge
from itertools import islice
from typing import Any

from bridge.model import (
    Component,
    Document,
    PriceDay,
    PriceQuestion,
    PriceRow,
    Tariff,
)
from bridge.notation import day_span, from_millis, millis
from bridge.store import series
from bridge.store.packing import LARGEST, Kept, Names, from_columns, unpack
from bridge.store.price_days import to_tariff
from bridge.store.sources import Sources
from bridge.store.sqlite import Sqlite, one, rows

_SERIES = """
SELECT s.id, s.payload_type, s.unit, s.currency, s.longest, p.name
FROM series s JOIN programs p ON p.id = s.program
WHERE (? IS NULL OR s.payload_type = ?) AND (? IS NULL OR p.name = ?)
AND (NOT ? OR (p.audiences = '[]' AND p.deleted IS NULL)) ORDER BY p.name, s.id
"""
_PROGRAMS = """
SELECT p.id, p.name AS programName, p.source, p.context, t.zone, t.basis, t.utility, t.rate,
    t.circuit, t.cca, t.derived_from
FROM programs p LEFT JOIN tariffs t ON t.program = p.id
WHERE (? IS NULL OR p.name = ?) AND (NOT ? OR (p.audiences = '[]' AND p.deleted IS NULL))
ORDER BY p.name
"""
_TARIFF = """
SELECT p.name, p.context, s.id, s.payload_type, s.unit, s.currency, s.longest, t.*
FROM tariffs t JOIN programs p ON p.id = t.program JOIN series s ON s.program = t.program
"""
_BY_CIRCUIT = f"""{_TARIFF}
WHERE t.rate = ? AND t.circuit = ? AND t.utility = ? AND t.cca IS ?
ORDER BY s.payload_type <> 'PRICE', p.created, s.id DESC LIMIT 1
"""


class Prices:
    """Answers from the price series."""

    def __init__(self, file: Sqlite, sources: Sources) -> None:
        self._file, self._sources = file, sources

    async def programs(
        self, at: datetime, name: str | None = None, *, public: bool = False
    ) -> list[Document]:
        """Return all programs, or one, by name: how far prices reach, and when last asked for.

        The `public` ones are those that are there still and aimed at nobody.
        """

        def read(db: Any) -> list[Document]:
            return [_program(db, row, at) for row in rows(db, _PROGRAMS, (name, name, public))]

        heard = await self._sources.answered_at()
        found = await self._file.read(read)
        return [{**row, "last_success": heard.get(row["source"])} for row in found]

    async def prices(self, question: PriceQuestion) -> list[PriceRow]:
        """Return the prices that are asked for, by program, series, start and since."""
        return await self._file.read(lambda db: list(islice(_answer(db, question), question.limit)))

    async def tariffs(self, program: str) -> list[tuple[int, Tariff]]:
        """Return what a pricing source's program is the price of: a tariff for each series."""
        sql = f"{_TARIFF} WHERE p.name = ?"
        found = await self._file.read(lambda db: rows(db, sql, (program,)))
        return [(row["id"], to_tariff(row)) for row in found]

    async def days(
        self, utility: str, rate: str, circuit: str, cca: str | None, first: date, last: date
    ) -> list[PriceDay]:
        """Return local days of a utility's series, the last included; none where none is known."""

        def read(db: Any) -> list[PriceDay]:
            found = one(db, _BY_CIRCUIT, (rate, circuit, utility, cca))
            return list(_days(db, found, first, last)) if found else []

        return await self._file.read(read)


def _program(db: Any, row: Document, at: datetime) -> Document:
    known = series.by_program(db, row["id"])
    reached = [series.covers_until(db, s["id"], millis(at)) for s in known]
    until = max((r for r in reached if r is not None), default=None)
    opens = [
        found[0]
        for s in known
        for found in db.execute(
            "SELECT opens FROM prices WHERE series = ? ORDER BY day LIMIT 1", (s["id"],)
        )
    ]
    return {
        **row,
        "types": sorted(s["payload_type"] for s in known),
        "covers_from": from_millis(min(opens)) if opens else None,
        "covers_until": from_millis(until) if until is not None else None,
    }


def _answer(db: Any, question: PriceQuestion) -> Iterator[PriceRow]:
    names = series.component_names(db)
    kind, program, after = question.payload_type, question.program, question.after
    for about in rows(db, _SERIES, (kind or None, kind, program, program, question.public)):
        place = (about["name"], about["id"])
        if (after and place < after[:2]) or question.series not in {None, about["id"]}:
            continue
        beyond = after[2:] if after and place == after[:2] else None
        start = max(question.start, beyond[0]) if beyond else question.start
        for row in _versions(db, about, start, question, names):
            if beyond is None or (row.start, row.since) > beyond:
                yield row


def _versions(
    db: Any, about: Document, start: datetime, question: PriceQuestion, names: Mapping[int, Names]
) -> Iterator[PriceRow]:
    """Yield a series' prices as they are known, were known at an instant, or ever were."""
    lo = millis(start)
    hi = millis(question.end) if question.end else LARGEST - 1
    past = question.revisions or question.as_of is not None
    seen = None if question.as_of is None else millis(question.as_of)
    for kept, replaced in _by_start(db, about, lo, hi, names, past=past):
        price = kept.price
        if price.start >= hi or price.start + price.length <= lo:
            continue
        if seen is None or (kept.since <= seen and (replaced is None or seen < replaced)):
            yield _row(about, kept, replaced)


def _by_start(
    db: Any, about: Document, lo: int, hi: int, names: Mapping[int, Names], *, past: bool
) -> Iterator[tuple[Kept, int | None]]:
    """Yield what is known, and where asked for what once was, by start and since."""
    now = ((day, None, data) for day, data in series.days(db, about["id"], lo, hi))
    if not past:
        for day, _, data in now:
            for kept in unpack(data, day, names):
                yield kept, None
        return
    once = series.replaced_days(db, about["id"], lo, hi)
    yield from merge(
        ((kept, stamp) for day, stamp, data in now for kept in unpack(data, day, names)),
        _sorted_by_day(once, names),
        key=lambda pair: (pair[0].price.start, pair[0].since),
    )


def _sorted_by_day(
    found: Iterator[tuple[int, int, bytes]], names: Mapping[int, Names]
) -> Iterator[tuple[Kept, int | None]]:
    """Yield what was replaced, by start: a day may have been replaced several times."""
    day, gathered = None, list[tuple[Kept, int | None]]()
    for number, replaced, data in found:
        if number != day:
            yield from sorted(gathered, key=lambda pair: (pair[0].price.start, pair[0].since))
            day, gathered = number, []
        gathered += [(kept, replaced) for kept in unpack(data, number, names)]
    yield from sorted(gathered, key=lambda pair: (pair[0].price.start, pair[0].since))


def _row(about: Document, kept: Kept, replaced: int | None) -> PriceRow:
    price = kept.price
    parts = zip(price.names, price.parts, strict=True)
    return PriceRow(
        about["name"],
        from_millis(price.start),
        from_millis(price.start + price.length),
        from_columns(price.value, price.exponent),
        about["payload_type"],
        about["unit"] or None,
        about["currency"] or None,
        from_millis(kept.since),
        None if replaced is None else from_millis(replaced),
        price.status,
        tuple(Component(*named, from_columns(*amount)) for named, amount in parts),
        about["id"],
    )


def _days(db: Any, found: Document, first: date, last: date) -> Iterator[PriceDay]:
    tariff = to_tariff(found)
    lo, hi = day_span(first, tariff.zone)[0], day_span(last, tariff.zone)[1]
    names = series.component_names(db)
    kept = series.within(db, found["id"], millis(lo), millis(hi), names)
    known = deque(_row(found, k, None) for k in kept)
    day = first
    while known and day <= last:
        start, end = day_span(day, tariff.zone)
        prices = []
        while known and known[0].start < end:
            row = known.popleft()
            if row.end > end:  # it holds on the next day too
                known.appendleft(replace(row, start=end))
                row = replace(row, end=end)
            prices.append(replace(row, start=start) if row.start < start else row)
            if row.end == end:
                break
        if prices:
            yield PriceDay(tariff, start, end, tuple(prices))
        day += timedelta(days=1)
