"""What holds of readings that overlap, and what they amount to.

Readings may lie within each other: a day beside its hours. Of two that overlap otherwise, and
of two of the very same time, the one that was said later holds; of two said at once, the one
that came later.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import pairwise
from operator import ge, gt
from typing import NamedTuple

from bridge.notation import EXACT
from bridge.store.metered import Metered
from bridge.store.packing import from_columns
from bridge.usage import ADDED_UP, DEMAND, Kept

Key = tuple[int, int]  # start, length
NESTED = 200  # readings near one end of another that are looked at


class Merged(NamedTuple):
    """What holds now, what does not any more, and what became of what was said."""

    held: list[Metered]
    gone: list[Metered]
    new: list[Metered]
    kept: Kept
    confirmed: list[Metered]  # said again later: as new as it was said last


def merge(known: Sequence[Metered], said: Iterable[Metered]) -> Merged:
    """Return what holds when readings are said, in order, beside those that are known."""
    said = list(said)
    if not said:
        return Merged([], [], [], Kept(), [])
    if _stands_apart(known, said):  # as most do that are taken in for the first time
        after = bisect_left(known, said[0].start, key=lambda r: r.start)
        held = [*known[:after], *said, *known[after:]]
        return Merged(held, [], said, Kept(new=len(said)), [])
    merging = _Merging(known)
    for reading in said:
        merging.say(reading)
    return merging.result()


def _stands_apart(known: Sequence[Metered], said: Sequence[Metered]) -> bool:
    """Whether what is said follows one on another, and overlaps nothing that is known."""
    starts = [r.start for r in said]
    ends = [r.start + r.length for r in said]
    if any(map(gt, ends, starts[1:])) or any(map(ge, starts, starts[1:])):
        return False
    lo, hi = starts[0], max(ends)
    if any(r.length == 0 for r in (*said, *known)):  # one of the very same instant is one
        return not any(k.start <= hi and k.start + k.length >= lo for k in known)
    return not any(k.start < hi and k.start + k.length > lo for k in known)


class _Merging:
    def __init__(self, known: Sequence[Metered]) -> None:
        self._held: dict[Key, Metered] = {k.key: k for k in known}
        # By about how long they are, in order: of each a few may cross another reading.
        self._keys: dict[int, list[Key]] = defaultdict(list)
        for key in sorted(self._held):
            self._keys[key[1].bit_length()].append(key)
        self._gone: dict[Key, Metered] = {}  # what was known before, by its key
        self._known = dict(self._held)
        self._confirmed: set[Key] = set()
        self._counts = [0, 0, 0, 0]

    def say(self, reading: Metered) -> None:
        had = self._held.get(reading.key)
        if had is not None:
            self._say_again(had, reading)
            return
        crossed = self._crossed(reading)
        if crossed is None or any(other.said > reading.said for other in crossed):
            self._counts[3] += 1
            return
        for other in crossed:
            self._drop(other)
        self._held[reading.key] = reading
        insort(self._keys[reading.length.bit_length()], reading.key)
        self._counts[1 if crossed else 0] += 1

    def _say_again(self, had: Metered, reading: Metered) -> None:
        same = says_the_same(had, reading)
        if same:
            self._counts[2] += 1
            if reading.said > had.said:
                # Whoever said it last stands for it: another may take back what it said.
                self._held[had.key] = had._replace(said=reading.said, origin=reading.origin)
                self._confirmed.add(had.key)
        elif reading.said < had.said:
            self._counts[3] += 1
        else:
            self._counts[1] += 1
            self._note_gone(had)
            self._held[had.key] = reading

    def _crossed(self, reading: Metered) -> list[Metered] | None:
        """Return what is known and overlaps without lying within, or around.

        None where too many lie within each other: no meter says that.
        """
        start, end = reading.start, reading.end
        found, seen = list[Metered](), 0
        for bits, keys in self._keys.items():
            reach = 1 << bits  # each of these is shorter
            for lo, hi in ((start - reach, start), (max(start + 1, end - reach), end)):
                first, last = bisect_left(keys, (lo, 0)), bisect_left(keys, (hi, 0))
                seen += last - first
                if seen > NESTED:
                    return None
                for key in keys[first:last]:
                    other_end = key[0] + key[1]
                    if (start < other_end < end) if key[0] < start else other_end > end:
                        found.append(self._held[key])
        return found

    def _drop(self, reading: Metered) -> None:
        self._note_gone(reading)
        del self._held[reading.key]
        keys = self._keys[reading.length.bit_length()]
        del keys[bisect_left(keys, reading.key)]

    def _note_gone(self, reading: Metered) -> None:
        if reading.key in self._known:  # what came and went in one go was never known
            self._gone.setdefault(reading.key, self._known[reading.key])

    def result(self) -> Merged:
        held = [self._held[key] for key in sorted(self._held)]
        new = [r for r in held if (k := self._known.get(r.key)) is None or not _is_same(k, r)]
        confirmed = [self._held[k] for k in self._confirmed if k in self._held]
        return Merged(held, list(self._gone.values()), new, Kept(*self._counts), confirmed)


def says_the_same(known: Metered, said: Metered) -> bool:
    """Whether what is said is known already; what it does not say counts for nothing."""
    return (
        (
            (known.value, known.exponent) == (said.value, said.exponent)
            or _amount(known) == _amount(said)
        )
        and said.quality in {None, known.quality}
        and said.cost in {None, known.cost}
    )


def _is_same(known: Metered, held: Metered) -> bool:
    return known.since == held.since and known.origin == held.origin and known[:6] == held[:6]


def _amount(reading: Metered) -> Decimal:
    return from_columns(reading.value, reading.exponent)


class Amount(NamedTuple):
    """What readings amount to: None where there are none; and of how much time it is."""

    value: Decimal | None
    covered: int
    readings: int


NOTHING = Amount(None, 0, 0)


def amount_of(kind: str, readings: Sequence[Metered]) -> Amount:
    """Return what readings of a kind amount to: a sum, of demand the highest."""
    what = kind.partition(".")[0]  # of usage.phase-128: usage
    if what in ADDED_UP:
        return added_up(readings)
    return highest(readings) if what == DEMAND else NOTHING


def added_up(readings: Sequence[Metered]) -> Amount:
    """Return the sum of readings, each time counted once.

    Where some fill a longer one wholly they count, and it does not; else it counts, and they
    do not.
    """
    # What was measured at an instant is of no span of time, and cannot be added.
    counted = finest([r for r in readings if r.length])
    if not counted:
        return NOTHING
    exponents = {r.exponent for r in counted}
    if len(exponents) == 1 and all(r.value.__class__ is int for r in counted):
        total = sum(r.value for r in counted)  # type: ignore[misc]
        value = Decimal(total).scaleb(counted[0].exponent, EXACT)
    else:
        value = Decimal(0)
        for reading in counted:
            value = EXACT.add(value, _amount(reading))
    return Amount(value, sum(r.length for r in counted), len(counted))


def highest(readings: Sequence[Metered]) -> Amount:
    """Return the highest of readings."""
    if not readings:
        return NOTHING
    outer = _outermost(readings)
    return Amount(max(map(_amount, readings)), sum(r.length for r in outer), len(readings))


def finest(readings: Sequence[Metered]) -> Sequence[Metered]:
    """Return those readings, in order, that fill what can be filled without overlapping."""
    if all(a[0] + a[1] <= b[0] for a, b in pairwise(readings)):
        return readings
    open_ones: list[tuple[Metered, list[Metered]]] = []  # each within the one before
    found: list[Metered] = []

    def close() -> None:
        outer, parts = open_ones.pop()
        filled = parts if tiles(parts, outer.start, outer.end) else [outer]
        (open_ones[-1][1] if open_ones else found).extend(filled)

    for reading in sorted(readings, key=lambda r: (r.start, -r.length)):
        while open_ones and open_ones[-1][0].end < max(reading.end, reading.start + 1):
            close()
        open_ones.append((reading, []))
    while open_ones:
        close()
    return found


def tiles(parts: Sequence[Metered], start: int, end: int) -> bool:
    """Whether readings fill a span from end to end."""
    return (
        bool(parts)
        and parts[0].start == start
        and parts[-1].end == end
        and all(a.end == b.start for a, b in pairwise(parts))
    )


def _outermost(readings: Sequence[Metered]) -> list[Metered]:
    found: list[Metered] = []
    for reading in sorted(readings, key=lambda r: (r.start, -r.length)):
        if not found or reading.start >= found[-1].end:
            found.append(reading)
    return found
