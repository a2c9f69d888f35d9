"""Readings as anybody may write them: JSON or CSV of meter, start, end, value, unit."""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from bridge.errors import WireError
from bridge.notation import ZERO, from_json, read_amount
from bridge.usage import (
    DIRECTIONS,
    LONGEST,
    NET,
    UNKNOWN,
    USAGE,
    Measured,
    Origin,
    Stream,
    kept_unit,
)
from bridge.wire.readings import reading

REQUIRED = ("meter", "start", "end", "value")
OPTIONAL = ("unit", "direction", "kind", "quality")
FIRST_YEAR, LAST_YEAR = 1971, 2200
MOST, MOST_METERS = 5_000, 100
LONGEST_READING = timedelta(milliseconds=LONGEST)
_WORD = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{0,256}")


def read_csv(text: str) -> list[Mapping[str, Any]]:
    """Return the rows of a table whose first line names its columns."""
    table = csv.DictReader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    try:
        return [{k: v for k, v in row.items() if v != ""} for row in table]
    except csv.Error as error:
        raise WireError(f"line {table.line_num}: is not CSV: {error}") from error


def read_json(text: bytes | str) -> list[Mapping[str, Any]]:
    """Return readings of JSON: one, a list, or `{"readings": […]}`."""
    try:
        said = from_json(text)
    except ValueError as error:
        raise WireError(f"is not JSON: {error}") from error
    if isinstance(said, dict):
        said = said.get("readings", [said])
    if not isinstance(said, list) or not all(isinstance(row, dict) for row in said):
        raise WireError('write a reading, a list of readings, or {"readings": […]}')
    return said


def measured(
    rows: Sequence[Mapping[str, Any]], origin: Origin, meter: Callable[[str], str]
) -> Iterator[Measured]:
    """Yield readings; raise WireError that names the first row that cannot be read.

    One request holds `MOST` rows at most, of `MOST_METERS` meters. `meter` returns the name under
    which a meter that is named so is kept.
    """
    if len(rows) > MOST:
        raise WireError(f"there are more than {MOST} readings; write them in several requests")
    meters = set()
    for n, row in enumerate(rows):
        meters.add(str(row.get("meter")))
        if len(meters) > MOST_METERS:
            raise WireError(f"there are more than {MOST_METERS} meters; write several requests")
        try:
            yield _one(row, origin, meter)
        except (ValueError, OverflowError) as error:
            raise WireError(f"readings.{n}: {error}") from error


def _one(row: Mapping[str, Any], origin: Origin, meter: Callable[[str], str]) -> Measured:
    if unknown := [str(name) for name in row if name not in {*REQUIRED, *OPTIONAL}]:
        known = ", ".join((*REQUIRED, *OPTIONAL))
        raise ValueError(f"{unknown[0][:40]!r} is not a field; there are: {known}")
    said = {name: _text(row, name) for name in ("meter", *OPTIONAL)}
    if missing := [name for name in REQUIRED if row.get(name) in (None, "")]:
        raise ValueError(f"{missing[0]}: is missing")
    start, end = (_time(row, name) for name in ("start", "end"))
    if not ZERO <= end - start <= LONGEST_READING:
        raise ValueError(f"end: must be after start, by {LONGEST_READING.days} days at most")
    direction = said["direction"] or NET
    if direction not in DIRECTIONS:
        raise ValueError(f"direction: is {direction!r}; write one of {', '.join(DIRECTIONS)}")
    unit, power = kept_unit(said["unit"] or UNKNOWN)
    found = reading(start, end, _amount(row["value"]), power, said["quality"] or None)
    kind = (said["kind"] or USAGE).lower()
    return Measured(Stream(meter(said["meter"]), direction, kind, unit), (found,), origin)


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    text = "" if value is None else value
    if not isinstance(text, str) or not _WORD.fullmatch(text):
        raise ValueError(f"{name}: write text of at most 256 letters, in one line")
    return text


def _time(row: Mapping[str, Any], name: str) -> datetime:
    said = row[name]
    try:
        moment = datetime.fromisoformat(said) if isinstance(said, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"{name}: write a time as RFC 3339, such as 2027-03-14T00:00:00-08:00")
    if not FIRST_YEAR <= moment.year < LAST_YEAR:
        raise ValueError(f"{name}: is not between {FIRST_YEAR} and {LAST_YEAR}")
    return moment.astimezone(UTC)


def _amount(said: Any) -> Decimal:
    try:
        return read_amount(said)
    except ValueError as error:
        raise ValueError("value: is not an amount; write a number such as 1.25") from error
