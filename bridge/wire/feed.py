"""Feeds: any JSON or CSV of start, end and value, read by a mapping of its fields."""

import csv
import io
import zipfile
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from pathlib import Path
from typing import IO, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field

from bridge.errors import WireError
from bridge.model import Frozen, Price
from bridge.notation import Duration, Zone, from_json, read_amount, to_utc

EXACT = Context(prec=80)
TOLD = 20  # bad rows that are told one by one
SUFFIXES = (".csv", ".json", ".txt")


class Fields(Frozen):
    """What is called how in a feed, and in which form it is written."""

    items: str = ""
    start: str | tuple[str, ...] = "start"
    end: str | tuple[str, ...] = "end"
    value: str | tuple[str, ...] = ("value", "price")
    program: str | None = None
    time_format: str | None = None
    timezone: Zone = "UTC"
    end_inclusive: bool = False
    length: Duration | None = None
    scale: Decimal = Decimal(1)
    delimiter: str = Field(",", min_length=1, max_length=1)


@dataclass
class Reading:
    """A feed being read: its prices one by one, and what was wrong with other rows."""

    fields: Fields
    problems: list[str] = field(default_factory=list)
    bad: int = 0
    _ambiguous: set[tuple[str, datetime]] = field(default_factory=set)

    def prices(self, rows: Iterable[Any]) -> Iterator[tuple[str | None, Price]]:
        """Yield the program (where a field names it) and the price of each good row."""
        for number, row in enumerate(rows, 1):
            try:
                yield self._price(row)
            except (WireError, ValueError, OverflowError) as error:
                self.bad += 1
                if self.bad <= TOLD:
                    self.problems.append(f"row {number}: {error}")

    @property
    def summary(self) -> str | None:
        """Return in one line what was wrong, or None."""
        if not self.bad:
            return None
        more = f" (and {self.bad - 1} more)" if self.bad > 1 else ""
        return f"{self.problems[0]}{more}"

    def _price(self, row: Any) -> tuple[str | None, Price]:
        if not isinstance(row, dict):
            raise WireError("is not an object with fields")
        program = self._program(row) or ""
        said = self._time(row, self.fields.start)
        start = self._in_zone(said, program)
        end = start + self.fields.length if self.fields.length else self._end(row, said, start)
        if end <= start:
            raise WireError(f"ends at {end:%Y-%m-%dT%H:%M:%SZ}, not after its start")
        return program or None, Price(start, end, self._value(row))

    def _end(self, row: dict[str, Any], began: datetime, start: datetime) -> datetime:
        said = self._time(row, self.fields.end)
        said += timedelta(seconds=1) if self.fields.end_inclusive else timedelta(0)
        if said.tzinfo is None and began.tzinfo is None and self.fields.timezone != "UTC":
            zone = ZoneInfo(self.fields.timezone)
            # In the hours around a change of the clocks only the length is beyond doubt.
            if _offsets(began, zone)[0] != _offsets(began, zone)[1] or _is_skipped(said, zone):
                return start + (said - began)
        return self._in_zone(said, None)

    def _program(self, row: dict[str, Any]) -> str | None:
        if self.fields.program is None:
            return None
        return str(_get(row, self.fields.program)).strip()

    def _value(self, row: dict[str, Any]) -> Decimal:
        names = self.fields.value
        found = next((n for n in ((names,) if isinstance(names, str) else names) if n in row), None)
        if found is None:
            raise WireError(
                f"has no field {' or '.join([names] if isinstance(names, str) else names)}"
            )
        try:
            value = read_amount(row[found])
        except ValueError as error:
            raise WireError(f"{found}: {error}") from error
        return value if self.fields.scale == 1 else EXACT.multiply(value, self.fields.scale)

    def _time(self, row: dict[str, Any], names: str | tuple[str, ...]) -> datetime:
        said = [_get(row, name) for name in _names(names)]
        text = said[0] if len(said) == 1 else " ".join(str(part).strip() for part in said)
        try:
            return _read_time(text, self.fields.time_format)
        except (TypeError, ValueError, ArithmeticError, OSError) as error:
            form = self.fields.time_format or "ISO 8601"
            raise WireError(f"{text!r} is not a time in the form {form}") from error

    def _in_zone(self, moment: datetime, program: str | None) -> datetime:
        """Return a time in UTC; a local one that comes twice is the later the second time."""
        if moment.tzinfo is not None:
            return to_utc(moment)
        if self.fields.timezone == "UTC":
            return moment.replace(tzinfo=UTC)
        zone = ZoneInfo(self.fields.timezone)
        if _is_skipped(moment, zone):
            raise WireError(f"{moment} is no time in {self.fields.timezone}: clocks go forward")
        first, second = _offsets(moment, zone)
        if first != second and program is not None:
            seen = (program, moment) in self._ambiguous
            self._ambiguous.add((program, moment))
            return moment.replace(tzinfo=zone, fold=int(seen)).astimezone(UTC)
        return moment.replace(tzinfo=zone).astimezone(UTC)


def _names(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def _offsets(moment: datetime, zone: ZoneInfo) -> tuple[timedelta | None, timedelta | None]:
    """Return both offsets of a local time: they differ where it comes twice, or not at all."""
    early, late = (moment.replace(tzinfo=zone, fold=n).utcoffset() for n in (0, 1))
    return early, late


def _is_skipped(moment: datetime, zone: ZoneInfo) -> bool:
    first, second = _offsets(moment, zone)
    return first is not None and second is not None and first < second


def _get(row: dict[str, Any], name: str) -> Any:
    if row.get(name) in (None, ""):
        raise WireError(f"has no field {name}; there are: {', '.join(map(str, row))}")
    return row[name]


def _read_time(text: Any, form: str | None) -> datetime:
    if form in {"unix", "unix_ms"}:
        seconds = Decimal(str(text)) / (1000 if form == "unix_ms" else 1)
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(seconds * 1_000_000))
    if not isinstance(text, str):
        raise TypeError(text)
    if form:
        return datetime.strptime(text.strip(), form)  # noqa: DTZ007 -- the zone is looked at after
    return datetime.fromisoformat(text.strip())


def rows(
    text: IO[bytes], fields: Fields, form: Literal["json", "csv"] | None = None
) -> Iterator[Any]:
    """Yield the rows of a document; without `form` its first character tells JSON from CSV.

    CSV is read piece by piece, JSON as a whole. Raises WireError where it is neither.
    """
    start = text.read(4096)
    rest = io.BufferedReader(_Chained(start, text))
    looks = start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if form == "json" or (form is None and looks in {b"[", b"{"}):
        yield from _items(rest.read(), fields.items)
        return
    try:
        lines = io.TextIOWrapper(rest, "utf-8-sig", newline="")
        table = csv.DictReader(lines, delimiter=fields.delimiter)
        table.fieldnames = [name.strip() for name in table.fieldnames or ()]
        missing = [name for name in _names(fields.start) if name not in table.fieldnames]
        if missing:
            there = ", ".join(table.fieldnames)[:200] or "none"
            raise WireError(f"has no column {missing[0]}; there are: {there}")
        yield from table
    except (UnicodeDecodeError, csv.Error) as error:
        raise WireError(f"is not CSV in UTF-8 ({error})") from error


class _Chained(io.RawIOBase):
    """What was read already, and then the rest."""

    def __init__(self, start: bytes, rest: IO[bytes]) -> None:
        self._start, self._rest = start, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._start[: len(buffer)] or self._rest.read(len(buffer))
        self._start = self._start[len(piece) :] if self._start else b""
        buffer[: len(piece)] = piece
        return len(piece)


def _items(text: bytes, path: str) -> Iterator[Any]:
    try:
        found = from_json(text.removeprefix(b"\xef\xbb\xbf"))
    except ValueError as error:
        raise WireError(f"is not JSON ({error})") from error
    for step in filter(None, path.split(".")):
        found = found.get(step) if isinstance(found, dict) else None
    if not isinstance(found, list):
        raise WireError(f"there is no list at {path or 'the top'}; say in `items` where it is")
    yield from found


def open_all(path: Path) -> Generator[tuple[str, IO[bytes], int], None, None]:
    """Yield name, content and size of a file, or of each member of a zip archive that is a feed.

    What archivers add (`__MACOSX`, dot files) and what is no .csv or .json is passed over.
    """
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as file:
                yield path.name, file, path.stat().st_size
            return
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if _is_feed(m)]
            if not members:
                raise WireError(f"{path}: holds no .csv and no .json")
            for member in members:
                with archive.open(member) as file:
                    yield f"{path.name}/{member.filename}", file, member.file_size
    except (OSError, zipfile.BadZipFile) as error:
        raise WireError(f"{path}: cannot be read ({error})") from error


def _is_feed(member: zipfile.ZipInfo) -> bool:
    parts = member.filename.split("/")
    hidden = any(p.startswith(".") or p == "__MACOSX" for p in parts)
    return not hidden and not member.is_dir() and parts[-1].lower().endswith(SUFFIXES)
