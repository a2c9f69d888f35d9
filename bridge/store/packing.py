"""Prices of one series and one UTC day, packed into one value of a row.

MessagePack, by columns; a column that is the same all through is one value. A start is
milliseconds from the day's midnight. A price is `value` times 10^`exponent`; `value` is a
number wherever it fits into 63 bits, else its digits as text, so that none is ever rounded.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import accumulate, groupby, pairwise
from typing import Any, NamedTuple

import msgpack

DAY = 86_400_000  # milliseconds
LARGEST = 2**63

Amount = tuple[int | str, int]  # value, exponent
Names = tuple[tuple[str, str], ...]  # of components, with their types


class Painted(NamedTuple):
    """A price from `start` on for `length` milliseconds."""

    start: int
    length: int
    value: int | str
    exponent: int
    status: str | None = None
    names: Names = ()
    parts: tuple[Amount, ...] = ()  # the components' amounts, in the order of their names


class Kept(NamedTuple):
    """A price and when the bridge learnt it, in milliseconds."""

    price: Painted
    since: int


def to_columns(price: Decimal) -> Amount:
    """Return an amount as `value` and `exponent`, exactly, a negative zero too."""
    sign, digits, exponent = price.as_tuple()
    number = int("".join(map(str, digits)))
    if sign and not number:
        return "-0", int(exponent)
    number = -number if sign else number
    return number if abs(number) < LARGEST else str(number), int(exponent)


def from_columns(value: int | str, exponent: int) -> Decimal:
    """Return the amount that `to_columns` took apart, digit for digit."""
    return (
        Decimal(value).scaleb(exponent) if value.__class__ is int else _from_text(value, exponent)
    )


def _from_text(value: int | str, exponent: int) -> Decimal:
    sign, digits, _ = Decimal(value).as_tuple()
    return Decimal((sign, digits, exponent))


def pack(kept: Iterable[Kept], day: int, set_of: Callable[[Names], int]) -> bytes:
    """Pack prices that start in a UTC day; `set_of` numbers the names of components."""
    ordered = sorted(kept, key=lambda k: (k.price.start, k.since))
    prices = [k.price for k in ordered]
    starts = [p.start - day * DAY for p in prices]
    width = max(len(p.parts) for p in prices)
    parts = [[p.parts[n] if n < len(p.parts) else None for p in prices] for n in range(width)]
    columns = [
        len(prices),
        starts[0],
        column([b - a for a, b in pairwise(starts)]),
        column([p.length for p in prices]),
        column([p.value for p in prices]),
        column([p.exponent for p in prices]),
        runs([k.since for k in ordered]),
        runs([p.status for p in prices]),
        runs([set_of(p.names) for p in prices]),
        [column([a and a[0] for a in part]) for part in parts],
        [column([a and a[1] for a in part]) for part in parts],
    ]
    packed: bytes = msgpack.packb(columns)
    return packed


def unpack(data: bytes, day: int, names_of: Mapping[int, Names]) -> list[Kept]:
    """Return what `pack` packed."""
    n, first, deltas, lengths, values, exponents, since, status, sets, parts, scales = (
        msgpack.unpackb(data)
    )
    starts = accumulate(spread(deltas, n - 1), initial=first + day * DAY)
    amounts: Iterable[tuple[Amount, ...]] = ((),) * n
    if parts:
        columns = [
            zip(spread(part, n), spread(scale, n), strict=True)
            for part, scale in zip(parts, scales, strict=True)
        ]
        amounts = zip(*columns, strict=True)
    sets = [names_of[s] for s in unrun(sets, n)]
    if len(set(map(len, sets))) > 1:
        amounts = [a[: len(s)] for a, s in zip(amounts, sets, strict=True)]
    prices = map(
        Painted, starts, spread(lengths, n), spread(values, n), spread(exponents, n),
        unrun(status, n), sets, amounts,
    )  # fmt: skip
    return list(map(Kept, prices, unrun(since, n)))


def column(values: Sequence[Any]) -> Any:
    """Return one value where all are the same, else all."""
    return values[0] if values and values.count(values[0]) == len(values) else list(values)


def spread(found: Any, n: int) -> Sequence[Any]:
    """Return the values that `column` packed."""
    return found if isinstance(found, list) else (found,) * n


def runs(values: Sequence[Any]) -> Any:
    """Return one value, or each run's value and length in turn."""
    found = [x for value, run in groupby(values) for x in (value, sum(1 for _ in run))]
    return found[0] if len(found) == 2 else found


def unrun(found: Any, n: int) -> Sequence[Any]:
    """Return the values that `runs` packed."""
    if not isinstance(found, list):
        return (found,) * n
    return [v for value, run in zip(*[iter(found)] * 2, strict=True) for v in (value,) * run]
