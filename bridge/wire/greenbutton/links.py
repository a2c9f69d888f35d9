"""How the entries of Green Button files belong together: by their links, or as the only ones.

A path is the part of an address below `resource`. The same path may stand in several files
that have nothing to do with each other, so what a block's own file says goes before what
others say, and what several others say differently is not used.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import quote, unquote

from bridge.wire.greenbutton.codes import ReadingType

POINT, METER_READING = "UsagePoint", "MeterReading"

# Below this stand the usage points of our own files, by the whole name of a meter
_OWN = "RetailCustomer/openadr-bridge/UsagePoint/"

T = TypeVar("T", bound=Hashable)


class Links(NamedTuple):
    """The addresses that an entry gives."""

    own: tuple[str, ...] = ()
    up: tuple[str, ...] = ()
    related: tuple[str, ...] = ()


class Place(NamedTuple):
    """Where a block says that it belongs, by the paths in its links."""

    readings: tuple[str, ...] = ()  # MeterReadings, the surest first
    point: str | None = None
    paths: tuple[str, ...] = ()  # what a MeterReading may know it by


class MeterReading(NamedTuple):
    """A MeterReading: what it names, ReadingTypes among it, and the usage point that it is of."""

    types: tuple[str, ...] = ()
    point: str | None = None


class UsagePoint(NamedTuple):
    """A UsagePoint: a meter, as the utility knows it."""

    path: str | None
    id: str


@dataclass
class Definitions:
    """What one file says of its measurements, by path."""

    types: dict[str, ReadingType | None] = field(default_factory=dict)  # None: cannot be used
    readings: dict[str, MeterReading] = field(default_factory=dict)
    points: dict[str, UsagePoint] = field(default_factory=dict)
    blocks: dict[str, str] = field(default_factory=dict)  # a block's path → its MeterReading

    def add_type(self, links: Links, said: ReadingType | None) -> str | None:
        """Add a ReadingType; return its path if it is there already and says something else."""
        paths = [type_path(href) for href in links.own] or [f"#{len(self.types)}"]
        before = self.types.setdefault(paths[0], said)
        if before == said:
            return None
        if before and said and _counts(before) != _counts(said):
            self.types[paths[0]] = None
        return paths[0]

    def add_reading(self, links: Links) -> None:
        """Add a MeterReading."""
        own = [path_of(href) for href in links.own] or [f"#{len(self.readings)}"]
        around = [*own, *map(path_of, links.up), *map(path_of, links.related)]
        types = tuple(map(type_path, links.related))
        known = (self._near[path] for path in around if path in self._near)
        point = point_of(around) or next(known, None)
        self.readings.setdefault(own[0], MeterReading(types, point))
        for path in map(path_of, links.related):
            self.blocks.setdefault(path, own[0])

    def add_point(self, links: Links, identity: str) -> None:
        """Add a UsagePoint."""
        around = [*map(path_of, links.own), *map(path_of, links.up), *map(path_of, links.related)]
        path = point_of(around)
        key = path or identity or f"#{len(self.points)}"
        self.points.setdefault(key, UsagePoint(path, identity))
        for near in around:
            self._near.setdefault(near, key)

    _near: dict[str, str] = field(default_factory=dict)  # a path → the point that links to it


def _counts(said: ReadingType) -> tuple[str, str, int]:
    return said.direction, said.unit, said.exponent


def path_of(href: str) -> str:
    """Return the part of an address by which entries are told apart."""
    text = href.strip().partition("?")[0]
    _, resource, below = text.rpartition("/resource/")
    if not resource:
        parts = (text.partition("://")[2].partition("/")[2] if "://" in text else text).split("/")
        at = parts.index(POINT) if POINT in parts else 2
        below = "/".join(parts[max(at - 2, 0) :])
    return below.strip("/").removeprefix("Batch/")


def type_path(href: str) -> str:
    """Return the path of a ReadingType: its kind and id, whatever stands before them."""
    return "/".join(path_of(href).split("/")[-2:])


def point_of(paths: Iterable[str]) -> str | None:
    """Return the path of the usage point that one of these paths is at or below."""
    return next((found for path in paths if (found := _down_to(path, POINT))), None)


def _down_to(path: str, kind: str) -> str | None:
    """Return a path as far as the first thing of a kind at or below its usage point."""
    parts = path.split("/")
    start = parts.index(POINT) if POINT in parts else 0
    end = parts.index(kind, start) + 2 if kind in parts[start:] else len(parts) + 1
    return "/".join(parts[:end]) if end <= len(parts) and parts[end - 1] else None


def meter_of(point: str) -> str:
    """Return the name of a meter, by the path of its usage point."""
    name = unquote(point.removeprefix(_OWN))
    return name if name.isprintable() or point.startswith(_OWN) else point


def point_for(meter: str) -> str:
    """Return the path of a usage point by which a meter has this name when it is read again."""
    path = "/".join(quote(part, safe="") for part in meter.split("/"))
    again = point_of([path_of(f"/resource/{path}/")])
    return path if again == path and meter_of(path) == meter else _OWN + quote(meter, safe="")


def place_of(links: Links) -> Place:
    """Return where a block belongs, by its links: up first, then itself, then what it names."""
    paths = tuple(map(path_of, (*links.up, *links.own, *links.related)))
    readings = [found for path in paths if (found := _down_to(path, METER_READING))]
    return Place(tuple(dict.fromkeys(readings)), point_of(paths), paths)


class _Things(Generic[T]):
    """What all files say of one kind of thing, now that they are read."""

    def __init__(self, files: Sequence[Mapping[str, T | None]]) -> None:
        self._files = files
        self._all: dict[str, T | None] = {}  # None: not the same in all files
        for path, value in (item for one in files for item in one.items()):
            self._all[path] = value if self._all.get(path, value) == value else None
        self._only = [_only(one.values()) for one in files]
        self.only = _only(value for one in files for value in one.values())

    def find(self, number: int, path: str) -> T | None:
        """Return what a file says, or else what the others say, if it is the same."""
        own = self._files[number]
        return own[path] if path in own else self._all.get(path)

    def only_in(self, number: int) -> T | None:
        """Return what is the only one in a file."""
        return self._only[number]


class Book:
    """The definitions of all the files that are read together."""

    def __init__(self) -> None:
        self.files: list[Definitions] = []

    def surely(self, number: int, place: Place) -> ReadingType | None:
        """Return what a block is of, where its own file says so by links, as far as it is read."""
        own = self.files[number]
        reading = next((own.readings[p] for p in place.readings if p in own.readings), None)
        named = reading.types if reading else ()
        return next((found for path in named if (found := own.types.get(path))), None)

    def type_of(self, number: int, place: Place) -> ReadingType | None:
        """Return what a block is of, by all that was read, or None where that cannot be told."""
        reading = self._reading(number, place)
        named = reading.types if reading else ()
        found = next((t for path in named if (t := self._types.find(number, path))), None)
        # Another file's only ReadingType is not the one that a link names, and that is missing
        missing = any("ReadingType" in path for path in named)
        return found or self._types.only_in(number) or (None if missing else self._types.only)

    def point_of(self, number: int, place: Place) -> UsagePoint | None:
        """Return the usage point of a block whose links do not name one."""
        reading = self._reading(number, place)
        if reading and reading.point:
            found = self._points.find(number, reading.point)
            return found or UsagePoint(reading.point, "")
        return self._points.only_in(number) or self._points.only

    def _reading(self, number: int, place: Place) -> MeterReading | None:
        known = (self._blocks.find(number, path) for path in place.paths)
        for path in chain(place.readings, filter(None, known)):
            if found := self._readings.find(number, path):
                return found
        # One that names its MeterReading is not of another that happens to be the only one
        only = self._readings.only_in(number) or self._readings.only
        return None if place.readings else only

    @cached_property
    def _types(self) -> _Things[ReadingType]:
        return _Things([d.types for d in self.files])

    @cached_property
    def _readings(self) -> _Things[MeterReading]:
        return _Things([d.readings for d in self.files])

    @cached_property
    def _points(self) -> _Things[UsagePoint]:
        return _Things([d.points for d in self.files])

    @cached_property
    def _blocks(self) -> _Things[str]:
        return _Things([d.blocks for d in self.files])


def _only(values: Iterable[T | None]) -> T | None:
    said = set(values)
    return said.pop() if len(said) == 1 else None
