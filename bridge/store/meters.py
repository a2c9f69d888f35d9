"""Meters: keeps what they measured, and answers what it amounts to."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from heapq import nsmallest
from itertools import chain, groupby, pairwise
from operator import itemgetter
from typing import Any

from bridge.model import Document
from bridge.notation import from_json, from_millis, millis
from bridge.store import compaction, usage
from bridge.store.buckets import buckets, inside
from bridge.store.metered import Metered, unpack
from bridge.store.overlaps import finest
from bridge.store.packing import DAY, from_columns
from bridge.store.sqlite import Sqlite, one, rows
from bridge.store.usage_rows import (
    closes,
    day_rows,
    ends_within,
    known_spans,
    opens,
    reach,
)
from bridge.usage import (
    UNMEASURED,
    Bucket,
    Kept,
    Known,
    Measured,
    StreamInfo,
    Stretch,
    UsageQuestion,
)

EVERYTHING = UsageQuestion()


class Meters:
    """What meters measured."""

    def __init__(self, file: Sqlite) -> None:
        self._file = file

    async def keep(self, measured: Sequence[Measured], at: datetime, *, durable: bool) -> Kept:
        """Keep what was measured, in one transaction; say what became of it."""
        return await self._file.write(lambda db: usage.keep(db, measured, at), durable=durable)

    async def settle_zone(self, zone: str) -> None:
        """Make the dates of meters that have no zone of their own those of the site's."""
        await self._file.write(lambda db: usage.settle_zone(db, zone))

    async def refresh(self, now: datetime) -> bool:
        """Keep the sums of some dates that were touched; say whether there are more."""
        before = now.date() - timedelta(days=1)
        return await self._file.write(
            lambda db: usage.refresh(db, before), durable=False, tell=False
        )

    async def compact(self, before: datetime) -> bool:
        """Make hours of some of what is older; say whether there is more."""
        return await self._file.write(
            lambda db: compaction.compact(db, before), durable=False, tell=False
        )

    async def meters(self, question: UsageQuestion = EVERYTHING) -> list[Document]:
        """Return the meters that are asked for by name, with what each measures."""
        return await self._file.read(lambda db: _meters(db, question))

    async def exists(self, question: UsageQuestion) -> bool:
        """Whether there is a meter that is asked for."""
        where, values = _where(question)
        sql = f"SELECT 1 FROM meters m WHERE {where}"  # noqa: S608 -- constants
        return await self._file.read(lambda db: one(db, sql, values) is not None)

    async def streams(self, question: UsageQuestion) -> list[StreamInfo]:
        """Return the streams that are asked for, by meter, direction, kind and unit."""
        return await self._file.read(lambda db: _streams(db, question))

    async def readings(
        self, stream: StreamInfo, start: datetime, end: datetime, limit: int, *, all_: bool = False
    ) -> list[Known]:
        """Return the first readings that begin in [start, end), the finest there are; or all."""
        read = _every_reading if all_ else _readings
        return await self._file.read(lambda db: read(db, stream, millis(start), millis(end), limit))

    async def begins(
        self, stream: StreamInfo, at: datetime, *, shorts: bool = False
    ) -> datetime | None:
        """Return where, from an instant on, there is something again; None where nothing is.

        With `shorts` readings of more than a day are nothing.
        """
        read = self._file.read(lambda db: opens(db, stream.id, millis(at), shorts=shorts))
        return _moment(await read)

    async def heard(self, meter: str, after: datetime, until: datetime) -> bool:
        """Whether a meter has measured anything that ends in (after, until]."""
        span = millis(after), millis(until)

        def read(db: Any) -> bool:
            streams = _streams(db, UsageQuestion(frozenset({meter})))
            own = (s.id for s in streams if s.kind.partition(".")[0] not in UNMEASURED)
            return any(ends_within(db, number, *span) for number in own)

        return await self._file.read(read)

    async def buckets(self, stream: StreamInfo, edges: Sequence[datetime]) -> list[Bucket]:
        """Return what each span between two edges amounts to."""

        def read(db: Any) -> list[Bucket]:
            spans = [(millis(a), millis(b)) for a, b in pairwise(edges)]
            return list(buckets(db, stream, spans))

        return await self._file.read(read)

    async def parts(
        self, stream: StreamInfo, spans: Sequence[tuple[datetime, datetime]], limit: int
    ) -> list[Sequence[Known]]:
        """Return the readings that the amount of each span, in order, is the sum of.

        The last spans are missing where there are more than `limit` readings.
        """
        wanted = [(millis(start), millis(end)) for start, end in spans]
        return await self._file.read(lambda db: list(_parts(db, stream, wanted, limit)))

    async def coverage(
        self, stream: StreamInfo, start: datetime | None, end: datetime | None, limit: int
    ) -> list[Stretch]:
        """Return the first stretches of time, in order, of which there are readings."""
        lo = -(10**15) if start is None else millis(start)
        hi = 10**15 if end is None else millis(end)
        return await self._file.read(lambda db: _coverage(db, stream, lo, hi, limit))

    async def trace(
        self, stream: StreamInfo, start: datetime, end: datetime, limit: int
    ) -> list[Known]:
        """Return the first readings of [start, end) that do not hold any more.

        In order of their starts, and of when they were learnt.
        """
        span = millis(start), millis(end)
        return await self._file.read(lambda db: _trace(db, stream, *span, limit))


def _meters(db: Any, question: UsageQuestion) -> list[Document]:
    where, values = _where(question)
    found = rows(db, f"SELECT * FROM meters m WHERE {where} ORDER BY name", values)  # noqa: S608 -- constants
    streams: dict[str, list[Document]] = {}
    for stream in _streams(db, question):
        streams.setdefault(stream.meter, []).append(
            {
                "direction": stream.direction, "kind": stream.kind, "unit": stream.unit or None,
                "currency": stream.currency or None,
                "first": stream.first, "last": stream.last,
            }
        )  # fmt: skip
    return [
        {
            "id": row["name"],
            "meter": row["name"],
            "timezone": row["zone"],
            "source": row["source"],
            "state": row["state"],
            "says": row["says"],
            "next_step": row["next_step"],
            "about": from_json(row["about"]) if row["about"] else {},
            "last_heard": from_millis(row["heard"]) if row["heard"] else None,
            "streams": streams.get(row["name"], []),
        }
        for row in found
    ]


def _streams(db: Any, question: UsageQuestion) -> list[StreamInfo]:
    where, values = _where(question)
    for column, wanted in (("direction", question.direction), ("kind", question.kind)):
        if wanted is not None:
            where, values = f"{where} AND s.{column} = ?", [*values, wanted]
    found = rows(
        db,
        "SELECT s.id, m.name AS meter, s.direction, s.kind, s.unit, s.currency, s.straddles,"  # noqa: S608 -- constants
        " coalesce(m.zone, (SELECT value FROM meta WHERE key = 'zone'), 'UTC')"
        f" AS zone FROM streams s JOIN meters m ON m.id = s.meter WHERE {where}"
        " ORDER BY m.name, s.direction, s.kind, s.unit, s.id",
        values,
    )
    return [
        StreamInfo(**{
            **row, "straddles": bool(row["straddles"]),
            "first": _moment(opens(db, row["id"])), "last": _moment(closes(db, row["id"])),
        })
        for row in found
    ]  # fmt: skip


def _moment(at: int | None) -> datetime | None:
    return None if at is None else from_millis(at)


def _where(question: UsageQuestion) -> tuple[str, list[str]]:
    """Return a condition for meters `m`, and its values."""
    if question.meters is None:
        return "1", []
    where, values = f"m.name IN ({', '.join('?' * len(question.meters))})", [*question.meters]
    if question.own:
        where = f"({where} OR (m.name >= ? AND m.name < ?))"
        values += [question.own, question.own + "\U0010ffff"]
    return where, values


def _readings(db: Any, stream: StreamInfo, lo: int, hi: int, limit: int) -> list[Known]:
    """Return the first readings of a span; what lies around them is looked at, too."""
    origins = _Origins(db)
    found: list[Known] = []
    pending: list[Metered] = []
    until = -1
    for _, readings in day_rows(db, stream.id, *reach(db, stream.id, lo, hi)):
        for reading in readings:
            if reading.start > until or (reading.start == until and reading.length):
                found += _shown(pending, lo, hi, origins)
                pending = []
                if len(found) >= limit or reading.start >= hi:
                    return found[:limit]
            pending.append(reading)
            until = max(until, reading.end)
    return [*found, *_shown(pending, lo, hi, origins)][:limit]


def _every_reading(db: Any, stream: StreamInfo, lo: int, hi: int, limit: int) -> list[Known]:
    """Return the first readings of a span, those within others too."""
    origins, found = _Origins(db), list[Known]()
    for _, readings in day_rows(db, stream.id, lo // DAY, (hi - 1) // DAY):
        found += (_known(r, origins) for r in readings if lo <= r.start < hi)
        if len(found) >= limit:
            break
    return found[:limit]


def _shown(readings: Sequence[Metered], lo: int, hi: int, origins: "_Origins") -> Iterator[Known]:
    return (_known(r, origins) for r in finest(readings) if lo <= r.start < hi)


def _known(reading: Metered, origins: "_Origins", replaced: int | None = None) -> Known:
    return Known(
        start=from_millis(reading.start),
        end=from_millis(reading.end),
        value=from_columns(reading.value, reading.exponent),
        quality=reading.quality,
        cost=None if reading.cost is None else Decimal(reading.cost).scaleb(-5),
        origin=origins[abs(reading.origin)],
        said=from_millis(reading.said),
        since=from_millis(reading.since),
        replaced=None if replaced is None else from_millis(replaced),
    )


class _Origins(dict[int, Document]):
    """Who said readings, looked up once each."""

    def __init__(self, db: Any) -> None:
        super().__init__()
        self._db = db

    def __missing__(self, number: int) -> Document:
        sql = "SELECT kind, name, reference, reading_type FROM usage_origins WHERE id = ?"
        found = one(self._db, sql, (number,)) or {}
        self[number] = {name: value for name, value in found.items() if value}
        return self[number]


def _parts(
    db: Any, stream: StreamInfo, spans: Sequence[tuple[int, int]], limit: int
) -> Iterator[Sequence[Known]]:
    """Yield the readings that each span's amount is the sum of."""
    origins = _Origins(db)
    for _, readings in inside(db, stream, spans):
        found = finest([r for r in readings if r.length])
        limit -= len(found)
        if limit < 0:
            return
        yield [_known(r, origins) for r in found]


def _coverage(db: Any, stream: StreamInfo, lo: int, hi: int, limit: int) -> list[Stretch]:
    found: list[list[int]] = []
    for start, end in known_spans(db, stream.id, lo, hi):
        if end <= lo or start >= hi or start == end:
            continue
        if found and start <= found[-1][1]:
            found[-1][1] = max(found[-1][1], end)
        elif len(found) == limit:
            break
        else:
            found.append([start, end])
    clipped = ((max(start, lo), min(end, hi)) for start, end in found)
    return [Stretch(from_millis(a), from_millis(b)) for a, b in clipped]


def _trace(db: Any, stream: StreamInfo, lo: int, hi: int, limit: int) -> list[Known]:
    origins, found = _Origins(db), list[tuple[Metered, int]]()
    sql = (
        "SELECT day, replaced, data FROM usage_revisions WHERE stream = ? AND day BETWEEN ? AND ?"
        " ORDER BY day, replaced"
    )
    packed = db.execute(sql, (stream.id, lo // DAY, (hi - 1) // DAY))
    for day, group in groupby(packed, itemgetter(0)):
        for _, replaced, data in group:
            gone = ((r, replaced) for r in unpack(data, day) if lo <= r.start < hi)
            found = nsmallest(limit, chain(found, gone), key=_by_start)
        if len(found) == limit:
            break  # what comes begins later
    return [_known(reading, origins, replaced) for reading, replaced in found]


def _by_start(gone: tuple[Metered, int]) -> tuple[int, int]:
    return gone[0].start, gone[0].since
