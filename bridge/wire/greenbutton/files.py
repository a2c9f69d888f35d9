"""Green Button (ESPI) files: what a utility gives a customer who downloads a meter's usage.

Files that are read together may hold the parts of one download, in any order: what the
readings are may be said in another file than the readings, or after them. What nobody says
stays unknown.
"""

import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from itertools import chain, compress
from operator import lt
from pathlib import PurePath
from typing import IO, Any, NamedTuple
from xml.etree.ElementTree import Element

from bridge.errors import WireError
from bridge.notation import LAST_YEAR, read_time
from bridge.usage import USAGE, Measured, Origin, Reading, Stream
from bridge.wire.greenbutton.blocks import BLOCK, Blocks, Columns, Locals, to_readings
from bridge.wire.greenbutton.codes import UNTYPED, ReadingType, read_reading_type
from bridge.wire.greenbutton.feed import Growing, Opened, in_order
from bridge.wire.greenbutton.links import Book, Definitions, Links, Place, meter_of, place_of
from bridge.wire.greenbutton.spool import Spool
from bridge.wire.greenbutton.times import end_with_the_clock, oddities

MOST = 5_000  # readings in a piece
TOLD, KNOWN = 20, 1_000  # problems that are told one by one, and that are told apart
LONGEST = 2_000  # characters of an address that are looked at
DEFINED, TOGETHER = 100_000, 1_000  # things that may be said of measurements, and in an entry
DEFINING = frozenset({"ReadingType", "MeterReading", "UsagePoint", "LocalTimeParameters"})
PART = 100  # elements in a block from which on it is read before its end
LONG_DAYS = "days reach an hour into the next: they are taken to end where those begin"
EPOCH, RECENT = (datetime(year, 1, 1, tzinfo=UTC) for year in (1970, 2020))
TRUNCATED, TWICE = "truncated", "same time said twice with another value"


class _Known(NamedTuple):
    """What a block is of."""

    stream: Stream
    type: ReadingType


class _Held(NamedTuple):
    """Readings of one stream, said at one time, that wait for more of them."""

    said: datetime | None
    readings: list[Reading]


class Files:
    """What one command or upload reads together.

    `meter` names the usage point that is met first, and what nobody says the usage point of;
    others are `meter/` and the last part of their path. `named` are usage points that have a
    name already. `zone` is the meter's, where it is known, and is compared with what files say.
    """

    def __init__(
        self,
        *,
        meter: str | None = None,
        zone: str | None = None,
        named: Mapping[str, str] | None = None,
        temporary: Callable[[], IO[bytes]] = tempfile.TemporaryFile,
    ) -> None:
        self.dropped: Counter[str] = Counter()  # reason → readings that were left out
        # Path of a usage point → what its readings are kept by
        self.meters: dict[str, str] = dict(named or {})
        self._meter, self._zone = meter, zone
        self._problems: dict[str, None] = {}
        self._untold = 0
        self._waiting: set[tuple[int, Place]] = set()  # whose readings wait for what says more
        self._local = Locals()
        self._blocks = Blocks(self._local, self.dropped)
        self._book = Book()
        self._names: list[str] = []
        self._updated = ""  # when the feed was, for entries that do not say it
        self._number = -1
        self._open, self._later = Spool(temporary), Spool(temporary)
        self._defined = 0
        self._kept = 0  # readings that are held
        self._sure: dict[tuple[str, ...], _Known] = {}
        self._held: dict[tuple[int, Stream], _Held] = {}
        self._ready: list[Measured] = []
        self._details: dict[Stream, tuple[str, ...]] = {}
        self._read_said: tuple[str, datetime | None] = ("", None)

    @property
    def problems(self) -> list[str]:
        """Return what a person should know, in sentences."""
        told, more = list(self._problems), self._untold
        more += len(told[TOLD:])
        return [*told[:TOLD], *([f"and {more} more"] if more else [])]

    def read(self, files: Sequence[tuple[str, Opened]]) -> Iterator[Measured]:
        """Yield what is measured in files, each with its name and a function that opens it.

        Raises WireError where one is no Green Button file at all, before anything is yielded.
        """
        try:
            for name, opened in in_order(files):
                self._begin(name)
                with opened() as file:
                    yield from self._read(Growing(name, file, self._local))
                self._release()
                yield from self._taken()
            for number, place, updated, columns in self._later.take():
                known = self._finally(number, Place(*place))
                self._add(number, known, updated, Columns(*columns))
                yield from self._taken()
            self._release()
            yield from self._taken()
        finally:
            self._open.close()
            self._later.close()

    def _begin(self, name: str) -> None:
        self._number += 1
        self._names.append(name)
        self._book.files.append(Definitions())
        self._sure, self._blocks.rounded, self._updated = {}, False, ""

    def _read(self, growing: Growing) -> Iterator[Measured]:
        for entries, unfinished in growing.pieces():
            for entry in entries:
                links, updated, found = self._entry(entry)
                for columns in chain(self._open.take(), found):
                    self._opened(links, updated, columns)
                    yield from self._taken()
            if unfinished is not None and self._part(unfinished):
                growing.used()
        if growing.cut:
            self._tell(f"{growing.cut}; what came before is read")
            self.dropped[TRUNCATED] += 1
        if self._blocks.rounded:
            self._tell(
                f"{self._names[-1]}: has fractions of a second, which are rounded to thousandths"
            )

    def _entry(self, entry: Element) -> tuple[Links, str, list[Columns]]:
        """Return the links of an entry, when it was said, and its readings; learn the rest."""
        links: dict[str, dict[str, None]] = {"self": {}, "up": {}, "related": {}}
        identity = updated = ""
        if self._local[entry.tag] == "updated":
            self._updated = entry.text or ""
        things: list[Element] = []
        for child in entry:
            name = self._local[child.tag]
            if name == "link":
                known = links.get(child.get("rel", "").strip(), {})
                known[child.get("href", "")[:LONGEST]] = None
            elif name == "updated":
                updated = updated or child.text or ""
            elif name == "id":
                identity = identity or child.text or ""
            elif name == "content":
                things.extend(child)
        where = Links(*map(tuple, links.values()))
        found: list[Columns] = []
        for thing in things:
            if self._local[thing.tag] == BLOCK:
                found.extend(filter(None, [self._blocks.whole(thing)]))
            else:
                self._thing(thing, where, identity.strip(), updated)
        return where, updated if self._said(updated) else self._updated, found

    def _part(self, entry: Element) -> bool:
        """Take what is whole out of a large entry that is not; return whether there was any."""
        content = entry[-1] if len(entry) else entry
        if self._local[content.tag] != "content" or not len(content):
            return False
        large = self._local[content[-1].tag] == BLOCK and len(content[-1]) > PART
        if not large and len(content) <= PART:
            return False
        kinds = [self._local[thing.tag] for thing in content[:-1]]
        for block in compress(content, (kind == BLOCK for kind in kinds)):
            self._wait(self._blocks.whole(block))
        content[:] = [*compress(content, (kind in DEFINING for kind in kinds)), content[-1]]
        if len(content) > TOGETHER:
            raise WireError(f"{self._names[-1]}: has more than {TOGETHER} things in one entry")
        if large:
            self._wait(self._blocks.part(content[-1]))
        return large or BLOCK in kinds

    def _thing(self, thing: Element, links: Links, identity: str, updated: str) -> None:
        kind, mine, name = self._local[thing.tag], self._book.files[-1], self._names[-1]
        self._defined += kind in DEFINING
        if self._defined > DEFINED:
            raise WireError(f"{name}: more than {DEFINED} things are said of measurements")
        if kind == "ReadingType":
            said = read_reading_type(self._fields(thing))
            if said is None:
                self._tell(f"{name}: has a ReadingType whose powerOfTenMultiplier is no number")
            if other := mine.add_type(links, said):
                self._tell(f"{name}: says more than once, and not the same, what {other} is")
        elif kind == "MeterReading":
            mine.add_reading(links)
        elif kind == "UsagePoint":
            mine.add_point(links, identity.removeprefix("urn:uuid:"))
        elif kind == "LocalTimeParameters":
            year = (self._said(updated) or RECENT).year
            for oddity in oddities(self._fields(thing), self._zone, year):
                self._tell(f"{name}: {oddity}")

    def _fields(self, thing: Element) -> dict[str, str]:
        """Return the texts of a thing's parts by their names; of a ratio, both with a slash."""
        return {
            self._local[part.tag]: "/".join((p.text or "").strip() for p in part)
            if len(part)
            else part.text or ""
            for part in thing
        }

    def _wait(self, columns: Columns | None) -> None:
        """Keep readings until it is seen to the end of their entry what they are."""
        if columns:
            self._open.put(columns, len(columns.starts))

    def _opened(self, links: Links, updated: str, columns: Sequence[Sequence[Any]]) -> None:
        """Add readings of an entry, or let them wait until all files are read."""
        known, place = self._sure.get(links.up), Place()
        if known is None:
            place = place_of(links)
            what = self._book.surely(self._number, place) if place.point else None
            if what and place.point:
                known = _Known(self._stream(self._number, place.point, what), what)
                if links.up:
                    self._sure[links.up] = known
        if known:
            self._add(self._number, known, updated, Columns(*columns))
        else:
            self._waiting.add((self._number, place._replace(paths=())))
            self._later.put((self._number, place, updated, columns), len(columns[0]))

    def _finally(self, number: int, place: Place) -> _Known:
        """Return what a block is of, now that everything is read."""
        point = place.point
        if point is None:
            found = self._book.point_of(number, place)
            point = found and (found.path or found.id)
        what = self._book.type_of(number, place)
        if what:
            return _Known(self._stream(number, point, what), what)
        reading = place.readings[0] if place.readings else "a block"
        self._tell(
            f"{self._names[number]}: nothing says what {reading[-99:]} measures: kept as it is"
        )
        alone = len(self._unknown[place.point]) < 2
        kind = USAGE if alone else f"{USAGE}.{reading.rpartition('/')[2]}"
        what = UNTYPED._replace(kind=kind)
        return _Known(self._stream(number, point, what), what)

    @cached_property
    def _unknown(self) -> dict[str | None, set[tuple[str, ...]]]:
        """Return the MeterReadings of each usage point that nobody says the measure of."""
        found: dict[str | None, set[tuple[str, ...]]] = defaultdict(set)
        for number, place in self._waiting:
            if not self._book.type_of(number, place):
                found[place.point].add(place.readings[:1])
        return found

    def _stream(self, number: int, point: str | None, what: ReadingType) -> Stream:
        name = self._names[number]
        if not point and self._meter is not None:
            meter = self._meter
        else:
            point = point or PurePath(name).stem
            meter = self.meters.get(point) or self._named(name, point)
        stream = Stream(meter, what.direction, what.kind, what.unit, what.currency)
        if not stream.unit and what.details:
            self._tell(f"{name}: says no unit of what {meter} measures")
        if self._details.setdefault(stream, what.details) != what.details:
            self._tell(
                f"{name}: measures {stream.direction} {stream.kind} of {meter}"
                " in ways that are not told apart: of one time, what is said last is kept"
            )
        return stream

    def _named(self, file: str, point: str) -> str:
        name = meter_of(point) if self._meter is None else self._meter
        if self._meter is not None and self.meters:
            name = f"{name}/{meter_of(point).rpartition('/')[2]}"
            if name in self.meters.values():
                name = f"{self._meter}/{meter_of(point)}"
            self._tell(f"{file}: has another meter, {point}: kept as {name}")
        self.meters[point] = name
        return name

    def _add(self, number: int, known: _Known, updated: str, columns: Columns) -> None:
        """Keep readings until there are enough of them for a piece."""
        readings, said = to_readings(columns, known.type, self.dropped), self._said(updated)
        key = number, known.stream
        held = self._held.get(key)
        seam = held.readings[-1:] if held else []
        if end_with_the_clock(neighbours := [*seam, *readings]):
            self._tell(f"{self._names[number]}: {LONG_DAYS}")
            readings = neighbours[len(seam) :]
            if held:
                held.readings[-1:] = neighbours[: len(seam)]
        if held and held.said != said:
            self._release(key)
            held = None
        if held is None:
            held = self._held[key] = _Held(said, [])
        held.readings.extend(readings)
        self._kept += len(readings)
        if len(held.readings) >= MOST:
            self._release(key)
        elif self._kept > 4 * MOST or len(self._held) > MOST:
            self._release()

    def _release(self, *keys: tuple[int, Stream]) -> None:
        """Let go of what is kept, of these streams or of all."""
        for key in keys or list(self._held):
            said, readings = self._held.pop(key)
            self._kept -= len(readings)
            readings = self._last_said_of(readings)
            origin = Origin("greenbutton", reference=self._names[key[0]])
            for n in range(0, len(readings), MOST):
                self._ready.append(Measured(key[1], readings[n : n + MOST], origin, said))

    def _taken(self) -> list[Measured]:
        ready, self._ready = self._ready, []
        return ready

    def _last_said_of(self, readings: list[Reading]) -> list[Reading]:
        """Return readings without those that later ones of the same time contradict."""
        starts = [reading[0] for reading in readings]
        if all(map(lt, starts, starts[1:])):
            return readings
        last: dict[tuple[int, int], Decimal] = {}
        kept = []
        for reading in reversed(readings):
            amount = Decimal(reading.value).scaleb(reading.exponent)
            if last.setdefault((reading.start, reading.length), amount) == amount:
                kept.append(reading)
        if len(kept) < len(readings):
            self.dropped[TWICE] += len(readings) - len(kept)
        return kept[::-1]

    def _said(self, updated: str) -> datetime | None:
        if self._read_said[0] != updated:
            self._read_said = updated, _read_said(updated)
        return self._read_said[1]

    def _tell(self, problem: str) -> None:
        if problem in self._problems:
            return
        if len(self._problems) < KNOWN:
            self._problems[problem] = None
        else:
            self._untold += 1


def _read_said(updated: str) -> datetime | None:
    try:
        said = read_time(updated.strip())
    except (ValueError, OverflowError):
        return None
    return said if EPOCH.year <= said.year <= LAST_YEAR else None
