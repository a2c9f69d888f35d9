"""The readings of a Green Button IntervalBlock, by columns: a year of them comes at a time.

Readings of one shape are read together: each column of them is a slice of the elements, which
is what makes this fast.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, cast
from xml.etree.ElementTree import Element

from bridge.notation import read_amount
from bridge.usage import LAST as LAST_MILLIS
from bridge.usage import LONGEST as LONGEST_MILLIS
from bridge.usage import Reading, out_of_bounds
from bridge.wire.greenbutton.codes import ReadingType, quality

LARGEST = 2**63 - 1  # that is kept as a number
LATEST, LONGEST = LAST_MILLIS // 1000, LONGEST_MILLIS // 1000  # seconds
NO_VALUE, NO_NUMBER, NO_START = "no value", "value not a number", "no start"
START_OUT_OF_REASON, NEGATIVE = "start out of reason", "negative duration"
TOO_LONG, NO_DURATION, COST = "duration longer than 100 days", "no duration", "cost"
BLOCK, READING = "IntervalBlock", "IntervalReading"
_REMEMBERED = 1024  # shapes, and codes of qualities

Texts = Sequence[str | None]
Row = tuple[int, int | None, int | str, int, str | None, int | None]


class Locals(dict[str, str]):
    """The names of elements without their namespace."""

    def __missing__(self, tag: str) -> str:
        name = self[tag] = tag.rpartition("}")[2]
        return name


class Columns(NamedTuple):
    """Readings as a block says them: times in milliseconds, values not scaled yet."""

    starts: Sequence[int]
    lengths: Sequence[int | None]
    values: Sequence[int | str]
    exponents: Sequence[int]
    qualities: Sequence[str | None]
    costs: Sequence[int | None]


class _Shape(NamedTuple):
    """Where in a reading its parts stand: so many elements after its first."""

    start: int | None
    length: int | None
    value: int | None
    cost: int | None
    qualities: tuple[int, ...]


class _Left(Exception):  # noqa: N818 -- no error: why a reading is left out
    pass


class _Qualities(dict[str | None, str | None]):
    def __missing__(self, text: str | None) -> str | None:
        if len(self) > _REMEMBERED:
            self.clear()
        word = self[text] = quality(text)
        return word


class Blocks:
    """Reads readings, and counts those that are left out."""

    def __init__(self, local: Locals, dropped: Counter[str]) -> None:
        self.rounded = False  # whether times were said finer than they are kept
        self._local, self._dropped = local, dropped
        self._shapes: dict[tuple[str, ...], _Shape] = {}
        self._qualities = _Qualities()
        self._parted = False
        # What stands before the readings of a block, and the shape of them all, as the last had it
        self._usual: tuple[list[str], list[str]] = [], [""]

    def part(self, block: Element) -> Columns | None:
        """Take the readings that are whole out of a block that is not; return None without any."""
        elements = list(block.iter())
        del elements[-sum(1 for _ in block[-1].iter()) :]
        columns, self._parted = self._read(block, elements), True
        block[:] = [c for c in block[:-1] if self._local[c.tag] == "interval"] + block[-1:]
        return columns

    def whole(self, block: Element) -> Columns | None:
        """Return the readings in a block, or what is left of them; None without any."""
        columns, parted, self._parted = self._read(block, list(block.iter())), self._parted, False
        if columns and len(columns.starts) == 1 and columns.lengths[0] is None and not parted:
            names = [self._local[child.tag] for child in block]
            said = next((c for c in block if self._local[c.tag] == "interval"), ())
            text = next((c.text for c in said if self._local[c.tag] == "duration"), None)
            length = self._millis(text or "")
            if names.count(READING) == 1 and length and 0 < length <= LONGEST * 1000:
                return columns._replace(lengths=[length])
        return columns

    def _read(self, block: Element, elements: list[Element]) -> Columns | None:
        groups = self._alike(block, [element.tag for element in elements])
        rows: list[tuple[int, Any]] = []
        for tags, positions in groups:
            shape = self._shape(tags)
            said = (shape.start, shape.length, shape.value, shape.cost)
            parts = [_texts(elements, positions, k) for k in said]
            qualities = self._words(elements, positions, shape.qualities)
            columns = self._at_once(parts, qualities)
            if columns and len(groups) == 1:
                return columns
            found = zip(*columns, strict=True) if columns else self._one_by_one(parts, qualities)
            rows.extend(item for item in zip(positions, found, strict=True) if item[1])
        rows.sort(key=lambda item: item[0])
        return Columns._make(zip(*(row for _, row in rows), strict=True)) if rows else None

    def _alike(
        self, block: Element, tags: list[str]
    ) -> list[tuple[tuple[str, ...], Sequence[int]]]:
        """Return the tags of each shape of readings, and where readings of that shape begin."""
        head, usual = self._usual
        number, rest = divmod(len(tags) - len(head), len(usual))
        if number and not rest and tags == head + usual * number:
            return [(tuple(usual), range(len(head), len(tags), len(usual)))]
        names = {tag for tag in set(tags) if self._local[tag] == READING}
        first = next((n for n, tag in enumerate(tags) if tag in names), len(tags))
        if first == len(tags):
            return []
        head, tail = tags[:first], tags[first:]
        width = tail.index(tail[0], 1) if tail.count(tail[0]) > 1 else len(tail)
        if tail == tail[:width] * (len(tail) // width):
            self._usual = head, tail[:width]
            return [(tuple(tail[:width]), range(first, len(tags), width))]
        parts = {child.tag for child in block}
        cuts = [n for n, tag in enumerate(tags) if tag in parts and n]
        shapes = defaultdict(list)
        for begin, end in pairwise([*cuts, len(tags)]):
            if tags[begin] in names:
                shapes[tuple(tags[begin:end])].append(begin)
        return list(shapes.items())

    def _shape(self, tags: tuple[str, ...]) -> _Shape:
        if tags not in self._shapes:
            if len(self._shapes) > _REMEMBERED:
                self._shapes.clear()
            names = [self._local[tag] for tag in tags]
            at = {name: n for n, name in reversed(list(enumerate(names)))}
            self._shapes[tags] = _Shape(
                at.get("start"), at.get("duration"), at.get("value"), at.get("cost"),
                tuple(n for n, name in enumerate(names) if name == "quality"),
            )  # fmt: skip
        return self._shapes[tags]

    def _words(
        self, elements: list[Element], positions: Sequence[int], at: tuple[int, ...]
    ) -> list[str | None]:
        columns = [map(self._qualities.__getitem__, _texts(elements, positions, k)) for k in at]
        if len(columns) < 2:
            return list(columns[0]) if columns else [None] * len(positions)
        return [",".join(filter(None, words)) or None for words in zip(*columns, strict=True)]

    def _at_once(
        self, parts: list[list[str | None]], qualities: list[str | None]
    ) -> Columns | None:
        """Return the columns where everything is there, a whole number and within reason."""
        none: list[int | None] = [None] * len(qualities)
        starts = _numbers(parts[0], 0, LATEST)
        lengths = _numbers(parts[1], 0, LONGEST) if any(parts[1]) else none
        values = _numbers(parts[2], -LARGEST, LARGEST)
        costs = _numbers(parts[3], -LARGEST, LARGEST) if any(parts[3]) else none
        if starts is None or lengths is None or values is None or costs is None:
            return None
        return Columns(
            [start * 1000 for start in starts], [length and length * 1000 for length in lengths],
            values, [0] * len(values), qualities, costs,
        )  # fmt: skip

    def _one_by_one(
        self, parts: list[list[str | None]], qualities: list[str | None]
    ) -> Iterator[Row | None]:
        """Yield each reading, or None for one that is left out."""
        for start, length, value, cost, said in zip(*parts, qualities, strict=True):
            try:
                yield (
                    self._start(start), self._length(length), *_value(value), said, self._cost(cost)
                )  # fmt: skip
            except _Left as reason:
                self._dropped[str(reason)] += 1
                yield None

    def _start(self, text: str | None) -> int:
        if not (text and text.strip()):
            raise _Left(NO_START)
        start = self._millis(text)
        if start is None or not 0 <= start <= LATEST * 1000:
            raise _Left(START_OUT_OF_REASON)
        return start

    def _length(self, text: str | None) -> int | None:
        length = self._millis(text or "")
        if length is not None and length < 0:
            raise _Left(NEGATIVE)
        if length is not None and length > LONGEST * 1000:
            raise _Left(TOO_LONG)
        return length

    def _millis(self, text: str) -> int | None:
        try:
            millis = _amount(text) * 1000
        except ValueError:
            return None
        self.rounded |= millis != int(millis)
        return round(millis)

    def _cost(self, text: str | None) -> int | None:
        if not (text and text.strip()):
            return None
        try:
            cost = _amount(text)
        except ValueError:
            cost = Decimal("NaN")
        if cost.is_nan() or cost != int(cost) or abs(cost) > LARGEST:
            self._dropped[COST] += 1
            return None
        return int(cost)


def _texts(
    elements: list[Element], positions: Sequence[int], after: int | None
) -> list[str | None]:
    if after is None:
        return [None] * len(positions)
    if isinstance(positions, range):
        return [element.text for element in elements[positions.start + after :: positions.step]]
    return [elements[n + after].text for n in positions]


def _numbers(texts: Texts, least: int, most: int) -> list[int] | None:
    """Return whole numbers within bounds; None where one is something else."""
    try:
        numbers = list(map(int, cast("Sequence[str]", texts)))
        plain = "_" not in "".join(cast("Sequence[str]", texts))
    except (TypeError, ValueError):
        return None
    return numbers if plain and least <= min(numbers) and max(numbers) <= most else None


def _amount(text: str) -> Decimal:
    if "_" in text:
        raise ValueError(f"{text[:40]!r} is not an amount")
    return read_amount(text)


def _value(text: str | None) -> tuple[int | str, int]:
    if not (text and text.strip()):
        raise _Left(NO_VALUE)
    try:
        sign, digits, exponent = _amount(text).as_tuple()
    except ValueError as error:
        raise _Left(NO_NUMBER) from error
    number = int("".join(map(str, digits)))
    number = -number if sign else number
    return number if abs(number) <= LARGEST else str(number), int(exponent)


_reading = partial(tuple.__new__, Reading)


def to_readings(columns: Columns, what: ReadingType, dropped: Counter[str]) -> list[Reading]:
    """Return the readings in columns, scaled, with what their ReadingType says of them all."""
    starts, lengths, values, exponents, qualities, costs = columns
    if None in lengths:
        known = what.length and what.length * 1000
        lengths = [known if length is None else length for length in lengths]
        if missing := lengths.count(None):
            dropped[NO_DURATION] += missing
    if any(exponents) or what.exponent:
        exponents = [exponent + what.exponent for exponent in exponents]
    if what.quality:
        qualities = [said or what.quality for said in qualities]
    rows = zip(starts, lengths, values, exponents, qualities, costs, strict=True)
    found = list(map(_reading, rows))
    longest = LAST_MILLIS if None in lengths else max(cast("Sequence[int]", lengths))
    if longest <= LONGEST_MILLIS and max(starts) + longest <= LAST_MILLIS:
        return found
    kept = []
    for reading in found:
        if reading.length is None:
            continue
        if reading.length > LONGEST_MILLIS:
            dropped[TOO_LONG] += 1
        elif out_of_bounds(reading.start, reading.length):
            dropped[START_OUT_OF_REASON] += 1
        else:
            kept.append(reading)
    return kept
