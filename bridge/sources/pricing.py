"""What sources of prices have in common, and rounds of asking, as sources of usage ask too."""

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Protocol, TypeVar

from pydantic import AfterValidator

from bridge.clock import Clock
from bridge.errors import SourceError, Unreachable
from bridge.interfaces import Batch, Surroundings
from bridge.sources.asking import Asking, AskingSource

NAP = 30.0  # seconds after which the clock is looked at again: it may have been set
AGAIN = timedelta(minutes=5)  # after which a round is made anew in which a part failed
EARLIEST = 1990  # year
EVERY, PAST = "*", "history of "  # what is doubtful of all parts, and of pieces of the past
SILENT = 3  # of so many in a row that are not answered it is concluded that nobody is there
T = TypeVar("T")


def _within_reason(value: date) -> date:
    if value.year < EARLIEST:
        raise ValueError(f"no prices are published from before {EARLIEST}")
    return value


Day = Annotated[date, AfterValidator(_within_reason)]


class PricingSource(AskingSource, ABC):
    """A source that says prices.

    Its backlog is what it has to ask for once, piece by piece: history, or files.
    """

    @abstractmethod
    async def backlog(self, around: Surroundings) -> Sequence[Any]:
        """Return what was not asked for yet, the oldest first."""

    @abstractmethod
    def fill(
        self, ask: Asking, around: Surroundings, piece: Any, doubts: list[str]
    ) -> AsyncGenerator[Batch, None]:
        """Yield what a piece of the backlog says, and the mark that it was asked for.

        What is wrong with parts of it goes into `doubts`.
        """


class Collector(Protocol):
    """What collects in rounds: a source, or what it has running."""

    @property
    def name(self) -> str:
        """The source's name."""

    async def backlog(self, around: Surroundings) -> Sequence[Any]:
        """Return what was not asked for yet, the first to be asked for first."""

    def fill(
        self, ask: Asking, around: Surroundings, piece: Any, doubts: list[str]
    ) -> AsyncGenerator[Batch, None]:
        """Yield what a piece of the backlog says, and the mark that it was asked for."""


class Part(Protocol):
    """What a source collects one of several of: a series, a rate."""

    @property
    def name(self) -> str:
        """A name for messages."""


@dataclass(frozen=True, slots=True)
class Step:
    """Days of a part to be asked for in one request; steps of one part are put off together."""

    of: Any  # a Part
    first: date
    last: date
    since: date  # from when on everything is asked for

    def __str__(self) -> str:
        return f"{self.of.name}, {self.first} to {self.last}"


def steps(of: Part, first: date, last: date, longest: int, since: date) -> Iterator[Step]:
    """Yield steps of at most so many days, the oldest first."""
    while first <= last:
        end = min(first + timedelta(days=longest - 1), last)
        yield Step(of, first, end, since)
        first = end + timedelta(days=1)


@dataclass
class Round:
    """One round of asking for all that a source collects: one part failing stops no other.

    `said` is what is doubtful of each part. It outlives the round, so that a part that was
    not asked keeps its last word, and the same words are warned of once.
    """

    said: dict[str, list[str]] = field(default_factory=dict)
    failed: list[SourceError] = field(default_factory=list)
    answered: bool = False
    _silent: int = 0

    def asks(self, name: str) -> list[str]:
        """Note that a part is asked; return where to say what is doubtful of it."""
        doubts = self.said[name] = []
        return doubts

    def answers(self) -> None:
        """Note that a part was answered."""
        self.answered, self._silent = True, 0

    def fails(self, name: str, error: SourceError) -> bool:
        """Note that a part failed; return whether to ask for nothing else in this round."""
        self.failed.append(error)
        self._silent = self._silent + 1 if isinstance(error, Unreachable) else 0
        over = error.retry_after > 0 or self._silent >= SILENT
        # Which part it hit that ends the round is chance, and would be other words each time.
        self.said[EVERY if over else name] = [str(error) if over else f"{name}: {error}"]
        return over

    @property
    def retry_after(self) -> float:
        """Return the longest wait that was asked for, in seconds."""
        return max((e.retry_after for e in self.failed), default=0)

    @property
    def warning(self) -> str | None:
        """Return in one line what is wrong, or None."""
        doubts = {doubt for said in self.said.values() for doubt in said}
        return "; ".join(sorted(doubts))[:2000] or None

    async def conclude(self, source: str, around: Surroundings) -> None:
        """Say that the upstream is there; raise SourceError where nothing was answered."""
        if self.failed and not self.answered:
            raise SourceError(min(map(str, self.failed)), self.retry_after)
        now = around.clock.now()
        around.succeeded(now)
        await around.memory.heard_from(source, now)


async def rounds(
    source: Collector,
    ask: Asking,
    around: Surroundings,
    poll: Callable[[Round], AsyncGenerator[Batch, None]],
    next_due: Callable[[datetime], datetime],
    bell: asyncio.Event | None = None,
) -> AsyncGenerator[Batch, None]:
    """Poll for ever, each round when it is due, and work off the backlog in between.

    When the bell rings a round is due at once.
    """
    tried: dict[Any, date] = {}  # pieces that are left though they were answered: a day later
    said: dict[str, list[str]] = {}  # what is doubtful of each part
    unwell = 0  # rounds in a row in which a part failed
    while True:
        said.pop(EVERY, None)
        now_on, began = Round(said), around.clock.now()
        if bell:
            bell.clear()
        async with aclosing(poll(now_on)) as batches:
            async for batch in batches:
                yield batch
        await now_on.conclude(source.name, around)
        due = next_due(began)
        stop = _due(around.clock, due, bell)
        async with aclosing(_work_off(source, ask, around, now_on, stop, tried)) as batches:
            async for batch in batches:
                yield batch
        around.warn(now_on.warning)
        unwell = unwell + 1 if now_on.failed else 0
        if now_on.retry_after:
            due = around.clock.now() + timedelta(seconds=now_on.retry_after)
        elif unwell:  # the part that failed is asked again soon, then less and less
            due = min(due, around.clock.now() + AGAIN * 2 ** min(unwell - 1, 10))
        await _until(around.clock, began, due, bell)


def _due(clock: Clock, due: datetime, bell: asyncio.Event | None) -> Callable[[], bool]:
    return lambda: clock.now() >= due or (bell is not None and bell.is_set())


async def _work_off(
    source: Collector,
    ask: Asking,
    around: Surroundings,
    now_on: Round,
    is_due: Callable[[], bool],
    tried: dict[Any, date],
) -> AsyncGenerator[Batch, None]:
    """Yield the backlog until a round is due; what fails is put off with all that follows it."""
    put_off: set[Any] = set()
    pieces = await source.backlog(around) if not now_on.retry_after else ()
    for old in {piece for piece, day in tried.items() if day != around.clock.now().date()}:
        del tried[old]
    left = {f"{PAST}{piece}" for piece in pieces}
    for name in {n for n in now_on.said if n.startswith(PAST)} - left:
        del now_on.said[name]
    for piece in pieces:
        now = around.clock.now()
        if is_due():
            return
        if tried.get(piece) == now.date() or piece.of in put_off:
            continue
        try:
            doubts = now_on.asks(f"{PAST}{piece}")
            async with aclosing(source.fill(ask, around, piece, doubts)) as batches:
                async for batch in batches:
                    yield batch
            tried[piece] = now.date()
        except SourceError as error:
            del now_on.said[f"{PAST}{piece}"]
            if piece.first == piece.last:  # a day that is bad for itself
                tried[piece] = now.date()
            else:
                put_off.add(piece.of)
            if now_on.fails(f"{PAST}{piece}", error):
                return


async def _until(clock: Clock, began: datetime, due: datetime, bell: asyncio.Event | None) -> None:
    """Wait until a time, until the bell rings, or until the clock shows to have been set."""
    longest = due - began
    while began <= (now := clock.now()) < due and due - now <= longest:
        nap = min((due - now).total_seconds(), NAP)
        if bell is None:
            await clock.sleep(nap)
        elif await clock.wait(bell, now + timedelta(seconds=nap)):
            return


def turned(parts: Sequence[T]) -> list[T]:
    """Return parts from a random one on, so that none is the last one always."""
    start = random.randrange(len(parts)) if len(parts) > 1 else 0  # noqa: S311 -- shares out
    return [*parts[start:], *parts[:start]]
