"""Feeds: any JSON or CSV of start, end and value, read by a mapping of its fields."""

import csv
import io
import re
import zipfile
import zlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import IO, Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, field_validator

from bridge.errors import WireError
from bridge.model import Price
from bridge.notation import EXACT, Frozen, SomeTime, Zone, from_json, read_amount, to_utc

HOUR = timedelta(hours=1)
LARGEST_SCALE = 12  # digits before or after the point
LARGEST_JSON = 256 * 1024 * 1024  # bytes
LONGEST_LINE = 1024 * 1024  # characters
LONGEST_NAME = 128
TOLD = 20  # bad rows that are told one by one
SUFFIXES = (".csv", ".json", ".txt")


def _some(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    if not value or not all(value):
        raise ValueError("name at least one field")
    return value


Names = Annotated[str | tuple[str, ...], AfterValidator(_some)]


class Fields(Frozen):
    """What is called how in a feed, and in which form it is written."""

    items: str = ""
    start: Names = "start"
    end: Names = "end"
    value: Names = ("value", "price")
    program: str | None = None
    time_format: str | None = None
    timezone: Zone = "UTC"
    end_inclusive: bool = False
    length: SomeTime | None = None
    scale: Decimal = Decimal(1)
    delimiter: str = Field(",", min_length=1, max_length=1)

    @field_validator("scale")
    @classmethod
    def _a_factor(cls, value: Decimal) -> Decimal:
        if not value or not value.is_finite() or abs(value.adjusted()) > LARGEST_SCALE:
            raise ValueError("is not a factor such as 0.01")
        return value

    @field_validator("time_format")
    @classmethod
    def _a_form(cls, value: str | None) -> str | None:
        if value not in {None, "unix", "unix_ms"}:
            try:
                datetime.strptime(datetime(2000, 1, 1).strftime(value), value)  # noqa: DTZ001, DTZ007
            except (ValueError, re.error) as error:
                raise ValueError(f"{value!r} is no form of a time ({error})") from error
        return value


@dataclass
class Reading:
    """A feed being read: its prices one by one, and what was wrong with other rows."""

    fields: Fields
    problems: list[str] = field(default_factory=list)
    bad: int = 0
    _twice: dict[tuple[str, datetime], list[int]] = field(default_factory=dict)
    _last: dict[str, datetime] = field(default_factory=dict)

    def prices(self, rows: Iterable[Any]) -> Iterator[tuple[str | None, Price]]:
        """Yield the program (where a field names it) and the price of each good row."""
        for number, row in enumerate(rows, 1):
            try:
                yield self._price(row)
            except (WireError, ValueError, ArithmeticError) as error:
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
        start = self._start(said, program)
        end = start + self.fields.length if self.fields.length else self._end(row, said, start)
        if end <= start:
            raise WireError(f"ends at {end:%Y-%m-%dT%H:%M:%SZ}, not after its start")
        return program or None, Price(start, end, self._value(row))

    def _program(self, row: dict[str, Any]) -> str | None:
        if self.fields.program is None:
            return None
        name = str(_get(row, self.fields.program)).strip()
        if not name or len(name) > LONGEST_NAME or not name.isprintable():
            raise WireError(f"{self.fields.program} is {name[:20]!r}, not a name")
        return name

    def _end(self, row: dict[str, Any], began: datetime, start: datetime) -> datetime:
        said = self._time(row, self.fields.end)
        said += timedelta(seconds=1) if self.fields.end_inclusive else timedelta(0)
        if said.tzinfo is not None:
            return to_utc(said)
        if self.fields.timezone == "UTC":
            return said.replace(tzinfo=UTC)
        zone = ZoneInfo(self.fields.timezone)
        first, second = (to_utc(said.replace(tzinfo=zone, fold=n)) for n in (0, 1))
        odd = first != second or (began.tzinfo is None and _is_odd(began, zone))
        if not odd:
            return first
        # In the hours around a change of the clocks the shortest length that is one is meant.
        ends = [first, second]
        if began.tzinfo is None and said - began <= HOUR:
            ends.append(start + (said - began))
        return min((end for end in ends if end > start), default=first)

    def _start(self, moment: datetime, program: str) -> datetime:
        """Return a start in UTC; of a local time that comes twice, by the order of the rows."""
        if moment.tzinfo is not None:
            return to_utc(moment)
        if self.fields.timezone == "UTC":
            return moment.replace(tzinfo=UTC)
        zone = ZoneInfo(self.fields.timezone)
        before, self._last[program] = self._last.get(program), moment
        if not _is_odd(moment, zone):
            return to_utc(moment.replace(tzinfo=zone))
        if _is_skipped(moment, zone):
            raise WireError(f"{moment} is no time in {self.fields.timezone}: clocks go forward")
        folds = self._twice.setdefault((program, moment), [])
        if len(folds) == 2:
            raise WireError(f"{moment} comes three times; it is there twice")
        # The newest may stand first: then the later of the two comes first.
        backwards = before is not None and before > moment
        folds.append(1 - folds[0] if folds else int(backwards))
        return to_utc(moment.replace(tzinfo=zone, fold=folds[-1]))

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


def _names(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def _is_odd(moment: datetime, zone: ZoneInfo) -> bool:
    """Whether a local time comes twice, or not at all."""
    early, late = (moment.replace(tzinfo=zone, fold=n).utcoffset() for n in (0, 1))
    return early != late


def _is_skipped(moment: datetime, zone: ZoneInfo) -> bool:
    early, late = (moment.replace(tzinfo=zone, fold=n).utcoffset() for n in (0, 1))
    return early is not None and late is not None and early < late


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

    CSV is read piece by piece, JSON as a whole. Raises WireError where it is neither, or
    cannot be read to its end.
    """
    try:
        yield from _rows(text, fields, form)
    except UNREADABLE as error:
        raise WireError(f"cannot be read ({type(error).__name__}: {error})") from error


# What reading a file, or the member of an archive that is damaged or encrypted, may raise
UNREADABLE = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, MemoryError)


def _rows(text: IO[bytes], fields: Fields, form: Literal["json", "csv"] | None) -> Iterator[Any]:
    start = text.read(4096)
    rest = io.BufferedReader(_Chained(start, text))
    looks = start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if form == "json" or (form is None and looks in {b"[", b"{"}):
        whole = rest.read(LARGEST_JSON + 1)
        if len(whole) > LARGEST_JSON:
            raise WireError(f"is more than {LARGEST_JSON} bytes of JSON; write it as CSV")
        yield from _items(whole, fields.items)
        return
    try:
        table = csv.DictReader(_lines(rest), delimiter=fields.delimiter)
        table.fieldnames = [name.strip() for name in table.fieldnames or ()]
        missing = [name for name in _names(fields.start) if name not in table.fieldnames]
        if missing:
            there = ", ".join(table.fieldnames)[:200] or "none"
            raise WireError(f"has no column {missing[0]}; there are: {there}")
        yield from table
    except (UnicodeDecodeError, csv.Error) as error:
        raise WireError(f"is not CSV in UTF-8 ({error})") from error


def _lines(content: Any) -> Iterator[str]:
    lines = io.TextIOWrapper(content, "utf-8-sig", newline="")
    while line := lines.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise WireError(f"has a line of more than {LONGEST_LINE} characters")
        yield line


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
