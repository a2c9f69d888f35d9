"""UtilityAPI's intervals and bills: what was measured, and what it cost.

An interval object is a chunk of readings. A reading holds data points: what came in, what went
out and their net are said side by side, and are never added.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from bridge.errors import WireError
from bridge.model import Document
from bridge.notation import millis, read_amount, write_time
from bridge.usage import (
    DEMAND,
    EXPORT,
    GENERATION,
    IMPORT,
    NET,
    UNKNOWN,
    USAGE,
    Reading,
    kept_unit,
)
from bridge.wire.readings import hundred_thousandths, read_moment, reading
from bridge.wire.utilityapi import Page, read_page, read_stamp, read_uid

BILL = "bill"  # a kind of reading of its own: a period's amount and cost
LONGEST = timedelta(hours=25)  # a reading of a day, on the day that the clocks go back
LONGEST_BILL = timedelta(days=100)
# What a data point is called → its direction and kind
TYPES: Mapping[str, tuple[str, str]] = {
    "fwd": (IMPORT, USAGE), "rev": (EXPORT, USAGE), "net": (NET, USAGE),
    "gen": (GENERATION, USAGE), "max": (NET, DEMAND),
}  # fmt: skip
POWER = frozenset({"KW", "KVA", "KVAR"})  # units of which no amount is used up
LONGEST_NAME = 64  # characters


class Told(NamedTuple):
    """What a data point is of."""

    number: str  # of the meter, where it is said
    direction: str
    kind: str
    unit: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """What an interval object says."""

    uid: str
    meter: str
    said: datetime | None
    readings: Mapping[Told, list[Reading]]
    several: bool  # whether it is of several meters, side by side


@dataclass(frozen=True, slots=True)
class Bill:
    """What a bill says of its period."""

    uid: str
    meter: str
    said: datetime | None
    unit: str
    reading: Reading


class Point(NamedTuple):
    """A data point that makes sense."""

    told: Told
    amount: Decimal
    power: int


def read_intervals(body: bytes) -> tuple[Page, list[Chunk], list[str]]:
    """Return a page of intervals, what it says, and what of it could not be used.

    Raises WireError where it is no list of intervals.
    """
    page, doubts = read_page(body, "intervals"), list[str]()
    chunks = []
    for document in page.items:
        try:
            chunks.append(_read_chunk(document, doubts))
        except WireError as error:
            doubts.append(f"an interval object was left out: {error}")
    return page, chunks, doubts


def _read_chunk(document: Document, doubts: list[str]) -> Chunk:
    uid, meter = read_uid(document.get("uid")), read_uid(document.get("meter_uid"))
    quality, refused = _quality(document), Counter[str]()
    found: dict[Told, dict[tuple[int, int], Reading]] = {}
    several = False
    said = document.get("readings")
    for item in said if isinstance(said, list) else ():
        try:
            start, end, points = _read_reading(item, refused)
        except (WireError, ValueError) as error:
            refused[str(error)] += 1
            continue
        several = several or len({p.told[1:] for p in points}) < len({p.told for p in points})
        for told, amount, power in points:
            try:
                new = reading(start, end, amount, power, quality)
            except ValueError as error:
                refused[str(error)] += 1
                continue
            _put(found.setdefault(told, {}), new, refused)
    doubts += [f"interval {uid}: {n} left out: {why}" for why, n in sorted(refused.items())[:3]]
    stamp = read_stamp(document.get("updated")) or read_stamp(document.get("created"))
    kept = {told: [known[key] for key in sorted(known)] for told, known in found.items()}
    return Chunk(uid, meter, stamp, kept, several)


def _put(known: dict[tuple[int, int], Reading], new: Reading, refused: Counter[str]) -> None:
    """Keep a reading; of two that contradict each other the first stays."""
    had = known.setdefault((new.start, new.length), new)
    if had != new:
        refused["there is another reading of the same time"] += 1


def _quality(document: Document) -> str | None:
    """Return the quality of a chunk's readings, where it has a single one."""
    base = document.get("base")
    said = base.get("qualities") if isinstance(base, dict) else None
    if isinstance(said, list) and len(said) == 1 and isinstance(said[0], str):
        return said[0][:LONGEST_NAME] or None
    return None


def _read_reading(item: Any, refused: Counter[str]) -> tuple[datetime, datetime, list[Point]]:
    if not isinstance(item, dict):
        raise WireError("it is not an object")
    start, end = _times(item, "start", "end", LONGEST)
    points = item.get("datapoints")
    if not points:  # an old form, which is to go away: what went through the meter, either way
        points = [{"type": "net", "unit": "kwh", "value": item.get("kwh")}]
    if not isinstance(points, list):
        raise WireError("its datapoints are not a list")
    return start, end, list(_read_points(points, refused))


def _times(item: Document, first: str, last: str, longest: timedelta) -> tuple[datetime, datetime]:
    try:
        start, end = read_moment(item.get(first)), read_moment(item.get(last))
    except ValueError as error:
        raise WireError("its times cannot be read") from error
    if not timedelta(0) < end - start <= longest:
        hours = longest // timedelta(hours=1)
        raise WireError(f"it does not end within {hours} hours after its start")
    if millis(end) == millis(start):
        raise WireError("it lasts less than a millisecond")
    return start, end


def _read_points(points: list[Any], refused: Counter[str]) -> Iterator[Point]:
    for point in points:
        if not isinstance(point, dict):
            refused["a datapoint is not an object"] += 1
            continue
        if point.get("value") is None:
            continue  # nothing is known: no zero
        try:
            yield _read_point(point)
        except (WireError, ValueError):
            refused["a datapoint cannot be read"] += 1


def _read_point(point: Document) -> Point:
    amount = read_amount(point["value"])
    said, number = _name(point.get("type")), point.get("meter_number")
    unit, power = kept_unit(_name(point.get("unit")))
    direction, kind = TYPES.get(said.lower(), (NET, said.lower()))
    if kind == USAGE and unit in POWER:
        kind = DEMAND
    return Point(Told(_name(number) if number else "", direction, kind, unit), amount, power)


def _name(said: Any) -> str:
    if said is None:
        return UNKNOWN
    if not isinstance(said, str) or not said.isprintable() or len(said) > LONGEST_NAME:
        raise WireError(f"{said!r:.40} is not a name")
    return said.strip()


def read_bills(body: bytes) -> tuple[Page, list[Bill], list[str]]:
    """Return a page of bills, what they say, and what of them could not be used.

    Raises WireError where it is no list of bills.
    """
    page, doubts = read_page(body, "bills"), list[str]()
    bills = []
    for document in page.items:
        try:
            bill = _read_bill(document, doubts)
        except WireError as error:
            doubts.append(f"bill {document.get('uid')!r:.40} was left out: {error}")
            continue
        bills += [bill] if bill else []
    return page, bills, doubts


def _read_bill(document: Document, doubts: list[str]) -> Bill | None:
    """Return what a bill says; None where it says no amount."""
    uid, meter = read_uid(document.get("uid")), read_uid(document.get("meter_uid"))
    base = document.get("base")
    if not isinstance(base, dict):
        raise WireError("it has no base")
    said, unit = base.get("bill_total_volume"), base.get("bill_total_unit")
    if said is None or unit is None:
        said, unit = base.get("bill_total_kwh"), "kwh"
    if said is None:
        return None
    start, end = _times(base, "bill_start_date", "bill_end_date", LONGEST_BILL)
    try:
        amount = read_amount(said)
    except ValueError as error:
        raise WireError("its amount cannot be read") from error
    kept, power = kept_unit(_name(unit))
    cost = _cost(base.get("bill_total_cost"))
    if cost is None and base.get("bill_total_cost") is not None:
        doubts.append(f"bill {uid} of {write_time(start)}: its cost cannot be kept exactly")
    stamp = read_stamp(document.get("updated")) or read_stamp(document.get("created"))
    try:
        billed = reading(start, end, amount, power, cost=cost)
    except ValueError as error:
        raise WireError(str(error)) from error
    return Bill(uid, meter, stamp, kept, billed)


def _cost(said: Any) -> int | None:
    try:
        return None if said is None else hundred_thousandths(read_amount(said))
    except ValueError:
        return None
