"""What Green Button files say of the local clock: looked at, and never used to count time."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from bridge.usage import Reading

FURTHEST = 14 * 3600  # seconds that a clock anywhere is off UTC
MOST_SAVED = 2 * 3600  # seconds that a clock anywhere is put forward in summer
NEVER = "FFFFFFFF"
DAY_LEAST = 24 * 3_600_000  # milliseconds
SURE = 6  # years in which a rule must hold
NORTH_AMERICA = ("360E2000", "B40E2000")


def oddities(said: Mapping[str, str], zone: str | None, year: int) -> Iterator[str]:
    """Yield what looks wrong in LocalTimeParameters, each as the rest of a sentence."""
    offset, saved = _seconds(said.get("tzOffset")), _seconds(said.get("dstOffset"))
    start, end = (said.get(f, "").strip().upper() for f in ("dstStartRule", "dstEndRule"))
    if offset is None or abs(offset) > FURTHEST:
        yield f"has a tzOffset of {said.get('tzOffset', '')[:40]!r}, which no clock has"
        offset = None
    elif offset > 0 and (start, end) == NORTH_AMERICA:
        yield f"has the summer time of North America and a tzOffset of {offset}: its sign is wrong"
    if saved is None or not 0 <= saved <= MOST_SAVED:
        yield f"has a dstOffset of {said.get('dstOffset', '')[:40]!r}, which no clock has"
    for name, rule in (("dstStartRule", start), ("dstEndRule", end)):
        if saved and rule != NEVER and not _is_rule(rule):
            yield f"has a {name} of {rule[:40]!r}, which is no rule"
    if saved and start == end:
        yield "has a summer time that begins when it ends"
    if zone and offset is not None and offset != (standard := _standard(zone, year)):
        yield (
            f"is of a clock {_off(offset)} UTC, but {zone} is {_off(standard)} it: "
            "the times of readings are UTC, and are kept as they are said"
        )


def end_with_the_clock(readings: list[Reading]) -> bool:
    """Let days end where the next begin that reach into those by an hour; say whether any did.

    Some exporters say that every day is of 24 hours, that on which the clocks go forward too.
    """
    if all(r.length < DAY_LEAST for r in readings):
        return False
    found = False
    for n in range(1, len(readings)):
        before, after = n - 1, n
        if readings[after].start < readings[before].start:  # the newest is said first
            before, after = after, before
        day, begin = readings[before], readings[after].start
        over = day.start + day.length - begin
        if day.length >= DAY_LEAST and 0 < over <= MOST_SAVED * 1000 < readings[after].length:
            readings[before] = day._replace(length=begin - day.start)
            found = True
    return found


def local_times(zone: str, year: int) -> dict[str, str] | None:
    """Return LocalTimeParameters of a zone, or None where its summer time fits no rule."""
    standard, saved = _standard(zone, year), 0
    rules = {False: NEVER, True: NEVER}  # by whether summer time begins
    changes = [_changes(ZoneInfo(zone), y) for y in range(year, year + SURE)]
    if any(changes):
        if any(len(two) != 2 or two[0][1] != -two[1][1] for two in changes):
            return None
        saved = abs(changes[0][0][1])
        for n in (0, 1):
            shared = set.intersection(*(_rules(two[n][0]) for two in changes))
            if not shared:
                return None
            rules[changes[0][n][1] > 0] = min(shared)
    return {
        "dstEndRule": rules[False], "dstOffset": str(saved),
        "dstStartRule": rules[True], "tzOffset": str(standard),
    }  # fmt: skip


def _changes(place: ZoneInfo, year: int) -> list[tuple[datetime, int]]:
    """Return when clocks are changed in a year, by the clock before, and by how many seconds."""
    found = []
    quarter = timedelta(minutes=15)
    moment = datetime(year, 1, 1, tzinfo=UTC)
    while moment.year == year:
        if _offset(place, moment + timedelta(days=1)) != (before := _offset(place, moment)):
            late = moment
            while _offset(place, late) == before:
                late += quarter
            by = int((_offset(place, late) - before).total_seconds())
            found.append((late + before, by))
        moment += timedelta(days=1)
    return found


def _rules(moment: datetime) -> set[str]:
    """Return the rules that a change of the clocks follows: the nth of a weekday, or the last."""
    last = (moment + timedelta(days=7)).month != moment.month
    counts = {(moment.day - 1) // 7 + 2, *([7] if last else [])} - {6}
    time = moment.hour << 12 | moment.minute * 60 + moment.second
    day = moment.month << 28 | moment.isoweekday() << 17
    return {f"{day | n << 25 | time:08X}" for n in counts}


def _offset(place: ZoneInfo, moment: datetime) -> timedelta:
    return moment.astimezone(place).utcoffset() or timedelta(0)


def _seconds(text: str | None) -> int | None:
    try:
        return int(text or "0")
    except ValueError:
        return None


def _is_rule(text: str) -> bool:
    """Whether a rule is one: by the bits of month, day, hour and second (ESPI, DstRuleType)."""
    try:
        bits = int(text, 16) if len(text) == 8 and text.isalnum() else 0
    except ValueError:
        return False
    return 1 <= bits >> 28 <= 12 and bits >> 12 & 31 <= 24 and bits & 4095 < 3600


def _standard(zone: str, year: int) -> int:
    """Return how many seconds a zone is off UTC when it has no summer time."""
    place = ZoneInfo(zone)
    offsets = (_offset(place, datetime(year, month, 1, tzinfo=UTC)) for month in (1, 7))
    return int(min(offsets).total_seconds())


def _off(seconds: int) -> str:
    hours = f"{abs(seconds) / 3600:g} h"
    return f"{hours} ahead of" if seconds > 0 else f"{hours} behind" if seconds else "at"
