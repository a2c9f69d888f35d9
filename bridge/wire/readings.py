"""What readings of every format have in common: amounts as they are kept, times as said."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from bridge.notation import EXACT, millis, to_utc
from bridge.usage import Reading, out_of_bounds

LARGEST = 2**63  # a number below it is kept as such
CENT = 5  # costs are counted in hundred-thousandths


def reading(
    start: datetime,
    end: datetime,
    amount: Decimal,
    power: int = 0,
    quality: str | None = None,
    cost: int | None = None,
) -> Reading:
    """Return `amount` times 10^`power` of [start, end), digit for digit as it was said.

    Raises ValueError where it is of a time of which nothing is kept.
    """
    sign, digits, exponent = amount.as_tuple()
    number = int("".join(map(str, digits)))
    text = f"-{number}" if sign else str(number)
    value = text if number >= LARGEST or (sign and not number) else int(text)
    begin = millis(start)
    length = millis(end) - begin
    if problem := out_of_bounds(begin, length):
        raise ValueError(f"it is {problem}")
    return Reading(begin, length, value, int(exponent) + power, quality, cost)


def hundred_thousandths(amount: Decimal) -> int:
    """Return money as costs are counted; raise ValueError where digits would be lost."""
    scaled = EXACT.scaleb(amount, Decimal(CENT))
    if scaled != scaled.to_integral_value() or abs(scaled) >= LARGEST:
        raise ValueError(f"{amount} is not a whole number of hundred-thousandths")
    return int(scaled)


def read_moment(said: Any) -> datetime:
    """Read a time that says its offset; raise ValueError for anything else."""
    try:
        moment = datetime.fromisoformat(said.strip() if isinstance(said, str) else said)
        if moment.tzinfo is None:
            raise ValueError(f"{said!r:.40} does not say its offset")
        return to_utc(moment)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"{said!r:.40} is not a time") from error
