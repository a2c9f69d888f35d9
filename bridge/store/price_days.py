"""Price days: OpenADR 3.1 events rendered from a price series, never stored as documents.

A price day is `<program>-YYYY-MM-DD`, a local day of its tariff's zone, with all series of
the program; its intervals have explicit periods, and ids that count from the day's start.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any
from zoneinfo import ZoneInfo

from sqlite_utils import Database

from bridge.model import Document, Event, Interval, Tariff
from bridge.notation import day_span, from_millis, millis, to_json
from bridge.store import series
from bridge.store.packing import Kept, Names, from_columns, unpack
from bridge.store.sqlite import one, rows
from bridge.wire import openadr3

TARIFF = "SELECT t.*, p.name, p.source FROM tariffs t JOIN programs p ON p.id = t.program"
FACTS = (
    "zone", "basis", "utility", "rate", "circuit", "cca", "curve", "market", "settlement_unit",
    "derived_from",
)  # fmt: skip
_NAME = re.compile(r"(.+)-(\d{4}-\d\d-\d\d)", re.DOTALL)
Said = tuple[Document, Kept]  # a series, and a price of it


def to_tariff(row: Document) -> Tariff:
    """Return what a program with its tariff and its series is the price of."""
    return Tariff(
        program=row["name"],
        context=row["context"],
        payload_type=row["payload_type"],
        unit=row["unit"] or None,
        currency=row["currency"] or None,
        **{name: row[name] for name in FACTS},
    )


def render(db: Any, about: Document, lo: int, hi: int) -> Iterator[Event]:
    """Yield a program's price days that hold something of [lo, hi) milliseconds."""
    names = series.component_names(db)
    known = series.by_program(db, about["program"])
    zone = ZoneInfo(about["zone"])
    # A price that holds at `lo` may have begun on an earlier day.
    under_way = [k for s in known for k in series.within(db, s["id"], lo, lo + 1, names)]
    earliest = min([lo, *(k.price.start for k in under_way)])
    first, last = (from_millis(t).astimezone(zone).date() for t in (earliest, hi - 1))
    begin, end = millis(day_span(first, about["zone"])[0]), millis(day_span(last, about["zone"])[1])
    days: dict[date, list[Said]] = {}
    for one_series in known:
        for kept in series.within(db, one_series["id"], begin, end, names):
            day = from_millis(kept.price.start).astimezone(zone).date()
            days.setdefault(day, []).append((one_series, kept))
    first_known = _first_known(db, known, begin, end, zone, names) if days else {}
    for day in sorted(days):
        if max(k.price.start + k.price.length for _, k in days[day]) > lo:
            yield _event(about, day, days[day], first_known.get(day))


def _first_known(
    db: Any, known: Sequence[Document], begin: int, end: int, zone: ZoneInfo,
    names: Mapping[int, Names],
) -> Mapping[date, int]:  # fmt: skip
    """Return since when the first of days was known of which something was replaced since."""
    found: dict[date, int] = {}
    for one_series in known:
        for day, _, data in series.replaced_days(db, one_series["id"], begin, end):
            for kept in unpack(data, day, names):
                local = from_millis(kept.price.start).astimezone(zone).date()
                found[local] = min(kept.since, found.get(local, kept.since))
    return found


def dates(db: Any, about: Document, lo: int, hi: int) -> Iterator[date]:
    """Yield, in order, a program's local days that hold something of [lo, hi) milliseconds.

    Rows are opened only where they have holes, or where not all of them is asked for.
    """
    zone, names = ZoneInfo(about["zone"]), series.component_names(db)
    found: set[date] = set()
    for one_series in series.by_program(db, about["program"]):
        for row in series.day_rows(db, one_series["id"], lo, hi):
            certain = None if row.broken or row.opens < lo or row.closes > hi else _dates(row, zone)
            if certain is None:
                certain = {
                    from_millis(k.price.start).astimezone(zone).date()
                    for k in row.unpacked(names)
                    if k.price.start < hi and k.price.start + k.price.length > lo
                }
            found |= certain
    yield from sorted(found)


def _dates(row: series.DayRow, zone: ZoneInfo) -> set[date] | None:
    """Return the local days in which prices of an unbroken row begin; None where it is unsure."""
    first, last = (from_millis(t).astimezone(zone).date() for t in (row.opens, row.closes - 1))
    days = {first + timedelta(days=n) for n in range((last - first).days + 1)}
    begins = (millis(day_span(day, zone.key)[0]) for day in days - {first})
    return days if all(row.closes - begin > row.longest for begin in begins) else None


def of_date(db: Any, about: Document, day: date) -> Event | None:
    """Return a program's price day by its date, if there is one."""
    try:
        begin, end = day_span(day, about["zone"])
    except OverflowError:
        return None
    found = render(db, about, millis(begin), millis(end))
    return next((e for e in found if e.id == _name(about, day)), None)


def follow(db: Database, patterns: Collection[str], at: datetime) -> None:
    """Keep which programs devices follow: price days of others have no moments."""
    text = json.dumps(sorted(patterns))
    row = one(db, "SELECT value FROM meta WHERE key = 'followed'")
    if (row or {}).get("value") != text:
        db.conn.execute("INSERT OR REPLACE INTO meta VALUES ('followed', ?)", (text,))
        # Those that are followed from now on are armed anew (`publications.nearer`).
        db.conn.execute("UPDATE tariffs SET near_to = min(near_to, ?)", (millis(at),))


def followed(db: Any) -> Callable[[str], bool]:
    """Return what says of a program's name whether any device follows it."""
    row = one(db, "SELECT value FROM meta WHERE key = 'followed'")
    patterns = json.loads(row["value"]) if row else []
    return lambda name: any(fnmatchcase(name, pattern) for pattern in patterns)


def names(about: Document, lo: int, hi: int) -> list[str]:
    """Return the names of a program's days between two instants, be there prices or not."""
    zone = ZoneInfo(about["zone"])
    first, last = (from_millis(t).astimezone(zone).date() for t in (lo, hi - 1))
    return [_name(about, first + timedelta(days=n)) for n in range((last - first).days + 1)]


def near(db: Any, at: datetime, programs: Collection[str] | None = None) -> list[Event]:
    """Return followed price days that are under way or armed: of some programs, or all."""
    found = (
        rows(db, TARIFF)
        if programs is None
        else [row for p in programs for row in rows(db, f"{TARIFF} WHERE t.program = ?", (p,))]
    )
    wanted = followed(db)
    return [
        day
        for about in found
        if wanted(about["name"])
        for day in render(db, about, millis(at), about["near_to"])
    ]


def by_name(db: Any, wanted: Collection[str]) -> Iterator[Event]:
    """Yield price days by their names; those that are not there (any more) are left out."""
    follows = followed(db) if wanted else None
    for name in wanted:
        parts = _NAME.fullmatch(name)
        about = rows(db, f"{TARIFF} WHERE p.name = ?", (parts[1],)) if parts else []
        if parts and about and follows and follows(parts[1]):
            span = day_span(date.fromisoformat(parts[2]), about[0]["zone"])
            found = render(db, about[0], millis(span[0]), millis(span[1]))
            yield from (day for day in found if day.id == name)


def day_id(program: str, day: date) -> str:
    """Return the id of a program's price day: a name may hold what an id may not."""
    return f"{program}-{day.isoformat()}"


def _name(about: Document, day: date) -> str:
    return f"{about['name']}-{day.isoformat()}"


def _event(about: Document, day: date, said: list[Said], first_known: int | None) -> Event:
    name, begin = _name(about, day), day_span(day, about["zone"])[0]
    intervals = _intervals(said, millis(begin))
    known = [k.since for _, k in said]
    units = {s["payload_type"]: (s["unit"] or None, s["currency"] or None) for s, _ in said}
    return Event(
        id=name,
        program=about["name"],
        source=about["source"],
        name=name,
        modification=max(known),
        priority=None,
        test=False,
        start=intervals[0].start,
        end=max(i.end for i in intervals),
        randomize=timedelta(0),
        issued=about["issued"],
        opt="optIn",
        cancelled=False,
        audiences=(),
        intervals=intervals,
        units=units,
        document=to_json(
            openadr3.price_day(
                (day_id(about["program"], day), name),
                about["program"],
                intervals,
                units,
                (from_millis(min([*known, first_known or known[0]])), from_millis(max(known))),
            )
        ),
        price_day=True,
    )


def _intervals(said: list[Said], begin: int) -> tuple[Interval, ...]:
    """Return intervals in order; the ids count from the day's start, gaps included."""
    values: dict[tuple[int, int], dict[str, Any]] = {}
    for one_series, kept in said:
        price = kept.price
        amount = from_columns(price.value, price.exponent)
        values.setdefault((price.start, price.length), {})[one_series["payload_type"]] = amount
    lengths = {length for _, length in values}
    step = lengths.pop() if len(lengths) == 1 else 0
    even = step and all((start - begin) % step == 0 for start, _ in values)
    return tuple(
        Interval(
            (start - begin) // step if even else n,
            from_millis(start),
            from_millis(start + length),
            values[start, length],
        )
        for n, (start, length) in enumerate(sorted(values))
    )
