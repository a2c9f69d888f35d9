"""How durations, times, zones, settings and JSON are written, and how they are read exactly."""

import email.utils
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import simplejson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

ZERO = timedelta(0)
LAST_YEAR = 9000
MOST_DIGITS = 40  # of an amount, before and after the point
LONGEST_RETRY_AFTER = 3600.0  # seconds that a peer may ask to be left alone
LONGEST_SETTING = 100 * 365 * 86400  # seconds that a setting may say

_DURATION = re.compile(
    r"(?P<sign>[+-])?P(?!$)(?:(?P<years>\d+)Y)?(?:(?P<months>\d+)M)?(?:(?P<weeks>\d+)W)?"
    r"(?:(?P<days>\d+)D)?(?:T?(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?"
    r"(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?"
)
_SHORT = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_UNIT = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Frozen(BaseModel):
    """Settings: immutable, and unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def read_duration(text: str) -> timedelta:
    """Read an RFC 5545 / ISO 8601 duration; a month is 30 days, a year 365.

    A bare "P", which openleadr writes for none at all, is zero.
    """
    if text.strip() == "P":
        return ZERO
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is not a duration such as PT1H")
    part = {k: float(v or 0) for k, v in found.groupdict().items() if k != "sign"}
    days = part["years"] * 365 + part["months"] * 30 + part["weeks"] * 7 + part["days"]
    length = timedelta(
        days=days, hours=part["hours"], minutes=part["minutes"], seconds=part["seconds"]
    )
    return -length if found["sign"] == "-" else length


def write_duration(length: timedelta) -> str:
    """Write an ISO 8601 duration: days, hours, minutes, seconds."""
    if length < ZERO:
        return "-" + write_duration(-length)
    hours, rest = divmod(length.seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    exact = f"{seconds}.{length.microseconds:06d}".rstrip("0").rstrip(".")
    date = f"{length.days}D" if length.days else ""
    time = "".join(f"{n}{u}" for n, u in ((hours, "H"), (minutes, "M")) if n)
    time += f"{exact}S" if exact != "0" else ""
    return f"P{date}T{time}" if time else f"P{date}" if date else "PT0S"


def _short_duration(value: object) -> object:
    found = _SHORT.fullmatch(value.strip()) if isinstance(value, str) else None
    if found and float(found[1]) * _UNIT[found[2]] < LONGEST_SETTING:
        return timedelta(seconds=float(found[1]) * _UNIT[found[2]])
    if isinstance(value, timedelta) or (isinstance(value, str) and value.startswith("P")):
        return value
    raise ValueError('write it as a number with a unit, such as "30s", "5m", "2h" or "1d"')


def _some_time(value: timedelta) -> timedelta:
    if value <= ZERO:
        raise ValueError('must be longer than nothing, such as "30s"')
    return value


Duration = Annotated[timedelta, BeforeValidator(_short_duration)]
SomeTime = Annotated[Duration, AfterValidator(_some_time)]


def _a_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f'{value!r} is no time zone; write one such as "America/Los_Angeles"'
        ) from error
    return value


Zone = Annotated[str, AfterValidator(_a_zone)]


def read_time(text: str) -> datetime:
    """Read an RFC 3339 time; one without an offset is UTC."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def read_amount(said: Any) -> Decimal:
    """Read an amount exactly, from text or a number; raise ValueError where it is none."""
    try:
        if isinstance(said, bool):
            raise TypeError(said)
        amount = Decimal(said.strip() if isinstance(said, str) else said)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ValueError(f"{said!r} is not an amount") from error
    _, digits, exponent = amount.as_tuple()
    if not amount.is_finite() or len(digits) > MOST_DIGITS or abs(int(exponent)) > MOST_DIGITS:
        raise ValueError(f"{str(said)[:40]!r} is not an amount")
    return amount


EXACT = Context(prec=200, Emax=999_999, Emin=-999_999)


def exact_sum(amounts: Iterable[Decimal]) -> Decimal:
    """Return a sum of which no digit is rounded away."""
    total = Decimal(0)
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total


def to_utc(moment: datetime) -> datetime:
    """Return an aware time in UTC; raise ValueError for one at the end of all days."""
    if moment.year > LAST_YEAR:
        raise ValueError(f"{moment.year} is not a year that is planned for")
    return moment.astimezone(UTC)


def write_time(moment: datetime) -> str:
    """Write a time as RFC 3339 in UTC, with fractions only where there are some."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def millis(moment: datetime) -> int:
    """Return a time as whole milliseconds since 1970, as the store keeps it."""
    return (moment - _EPOCH) // _MILLISECOND


def from_millis(count: int) -> datetime:
    """Return the time that `millis` made a number of."""
    return _EPOCH + timedelta(milliseconds=count)


def day_span(day: date, zone: str) -> tuple[datetime, datetime]:
    """Return when a local day begins and when the next one does: 23, 24 or 25 hours later."""
    place = ZoneInfo(zone)
    begin, end = (
        datetime.combine(day + timedelta(days=n), time(), place).astimezone(UTC) for n in (0, 1)
    )
    return begin, end


def read_retry_after(text: str | None, now: datetime) -> float:
    """Return the wait in seconds that a Retry-After asks for (RFC 9110, section 10.2.3)."""
    if not text:
        return 0.0
    try:
        wait = float(text) if text.strip().isdigit() else _until(text, now)
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(wait, 0.0), LONGEST_RETRY_AFTER)


def _until(text: str, now: datetime) -> float:
    moment = email.utils.parsedate_to_datetime(text)
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds()


_EPOCH, _MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)


def to_json(value: object) -> str:
    """Write JSON: decimals exactly, times as RFC 3339, no spaces."""
    return simplejson.dumps(
        value, use_decimal=True, default=_plain, separators=(",", ":"), allow_nan=False
    )


def from_json(text: str | bytes) -> Any:
    """Read JSON with decimals kept exact; raise ValueError where it is none."""
    try:
        return simplejson.loads(text, use_decimal=True)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return write_time(value)
    raise TypeError(f"{type(value).__name__} does not go into JSON")
