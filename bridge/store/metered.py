"""Readings of one stream and one UTC day, packed into one value of a row, as prices are."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import msgpack

from bridge.store.packing import DAY, column, runs, spread, unrun


class Metered(NamedTuple):
    """A reading, who said it (a number), when, and when the bridge learnt it: milliseconds.

    Of an hour that was made of finer readings the number is negative.
    """

    start: int
    length: int
    value: int | str
    exponent: int
    quality: str | None
    cost: int | None
    origin: int
    said: int
    since: int

    @property
    def end(self) -> int:
        """Return when it ends."""
        return self.start + self.length

    @property
    def key(self) -> tuple[int, int]:
        """Return what it is a reading of: said again, it takes the other's place."""
        return self[:2]

    @property
    def made(self) -> bool:
        """Whether it is an hour that was made of finer readings, which are forgotten."""
        return self.origin < 0


def pack(readings: Sequence[Metered], day: int) -> bytes:
    """Pack readings that start in a UTC day, in order."""
    starts, lengths, values, exponents, qualities, costs, origins, said, since = zip(
        *readings, strict=True
    )
    packed: bytes = msgpack.packb(
        [
            len(readings),
            starts[0] - day * DAY,
            column([b - a for a, b in pairwise(starts)]),
            column(lengths),
            column(values),
            column(exponents),
            runs(qualities),
            column(costs),
            runs(origins),
            runs(said),
            runs(since),
        ]
    )
    return packed


def unpack(data: bytes, day: int) -> list[Metered]:
    """Return what `pack` packed."""
    n, first, deltas, lengths, values, exponents, qualities, costs, origins, said, since = (
        msgpack.unpackb(data)
    )
    starts = accumulate(spread(deltas, n - 1), initial=first + day * DAY)
    return list(
        map(
            Metered, starts, spread(lengths, n), spread(values, n), spread(exponents, n),
            unrun(qualities, n), spread(costs, n), unrun(origins, n), unrun(said, n),
            unrun(since, n),
        )
    )  # fmt: skip
