"""How far something was asked for: stretches of time, and pieces of them to be asked next."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Self

from bridge.notation import from_millis

Span = tuple[int, int]  # from, to, in milliseconds
FOREVER = 2**62


def joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Return stretches of time in order, those that touch as one."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return tuple(found)


def without(spans: Iterable[Span], gone: Iterable[Span]) -> tuple[Span, ...]:
    """Return what of some stretches of time is not in others."""
    left = list(spans)
    for lo, hi in gone:
        left = [
            piece
            for start, end in left
            for piece in ((start, min(end, lo)), (max(start, hi), end))
            if piece[0] < piece[1]
        ]
    return tuple(left)


def within(spans: Iterable[Span], lo: int, hi: int) -> tuple[Span, ...]:
    """Return what of some stretches of time is in [lo, hi)."""
    cut = ((max(start, lo), min(end, hi)) for start, end in spans)
    return tuple((start, end) for start, end in cut if start < end)


def pieces(spans: Iterable[Span], longest: int) -> Iterator[Span]:
    """Yield pieces of stretches of time, none longer than that."""
    for start, end in spans:
        for begin in range(start, end, longest):
            yield begin, min(begin + longest, end)


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time of which something is to be asked for."""

    span: Span

    @property
    def first(self) -> datetime:
        """When it begins."""
        return from_millis(self.span[0])

    @property
    def last(self) -> datetime:
        """When it ends."""
        return from_millis(self.span[1])

    @property
    def days(self) -> str:
        """Return from when to when, for messages."""
        return f"{self.first:%Y-%m-%d} to {self.last:%Y-%m-%d}"


@dataclass(frozen=True, slots=True)
class Progress:
    """Of which time there are data, and which of it was asked for and answered."""

    covered: tuple[Span, ...] = ()
    asked: tuple[Span, ...] = ()

    def left(self, since: int) -> tuple[Span, ...]:
        """Return what is there and was not asked for, from `since` on."""
        return without(within(self.covered, since, FOREVER), self.asked)

    def answered(self, span: Span) -> Self:
        """Return what holds after something was asked for and answered.

        Where nothing was said to be there, there may be something later.
        """
        return replace(self, asked=joined([*self.asked, *within(self.covered, *span)]))

    def news(self, covered: Sequence[Span], back: timedelta, *, said: bool) -> Self:
        """Return what holds where there may be more: the last of it is asked for once more.

        Data that come late and corrections are ordinary.
        """
        covered = joined(covered)
        if covered == self.covered and not said:
            return self
        before = back // timedelta(milliseconds=1)
        again = ((self.covered[-1][1] - before, FOREVER),) if self.covered else ()
        return replace(self, covered=covered, asked=without(self.asked, again))

    @classmethod
    def read(cls, said: Any) -> Self:
        """Return what was kept as JSON."""
        return cls(*(tuple((lo, hi) for lo, hi in said[name]) for name in ("covered", "asked")))
