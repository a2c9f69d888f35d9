"""How far the data of a meter at UtilityAPI were asked for, kept as a mark."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta

from bridge.notation import from_json, to_json

Span = tuple[int, int]  # from, to, in milliseconds
FOREVER = 2**62
METER_MARK = "meter "  # what the mark of a meter is called, before its uid


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


@dataclass(frozen=True, slots=True)
class Progress:
    """Of which time there are data, and which of it was asked for and answered."""

    covered: tuple[Span, ...] = ()
    asked: tuple[Span, ...] = ()

    def left(self, since: int) -> tuple[Span, ...]:
        """Return what is there and was not asked for, from `since` on."""
        return without(within(self.covered, since, FOREVER), self.asked)

    def answered(self, span: Span) -> "Progress":
        """Return what holds after something was asked for and answered."""
        return replace(self, asked=joined([*self.asked, span]))

    def news(self, covered: Sequence[Span], back: timedelta, *, said: bool) -> "Progress":
        """Return what holds where there may be more: the last of it is asked for once more.

        Data that come late and corrections are ordinary.
        """
        covered = joined(covered)
        if covered == self.covered and not said:
            return self
        before = back // timedelta(milliseconds=1)
        again = ((self.covered[-1][1] - before, FOREVER),) if self.covered else ()
        return Progress(covered, without(self.asked, again))


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a meter from one run to the next."""

    authorization: str
    stopped: bool = False  # it may not be asked for any more
    several: bool = False  # it is several meters, told apart by their numbers
    turn: int = 0  # how often there was news of it
    intervals: Progress = field(default_factory=Progress)
    bills: Progress = field(default_factory=Progress)

    def write(self) -> str:
        """Return it as the text of a mark."""
        return to_json(asdict(self))

    @classmethod
    def read(cls, text: str) -> "Record":
        """Return what `write` wrote."""
        said = from_json(text)
        parts = {
            name: Progress(*(tuple(map(tuple, said[name][k])) for k in ("covered", "asked")))
            for name in ("intervals", "bills")
        }
        return cls(**{**said, **parts})
