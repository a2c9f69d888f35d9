"""What sources of prices have in common: settings, asking over HTTP, rounds of asking."""

import random
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, TypeVar

from aiohttp import (
    ClientConnectionError,
    ClientError,
    ClientPayloadError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
)
from pydantic import AfterValidator, Field, HttpUrl

from bridge.clock import Clock
from bridge.errors import SourceError, Unreachable
from bridge.interfaces import Batch, Surroundings
from bridge.model import Frozen, OptPolicy
from bridge.notation import SomeTime, read_retry_after

LARGEST_ANSWER = 64 * 1024 * 1024  # bytes
OK, NO_CONTENT = 200, 204
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


def _a_base(value: HttpUrl) -> HttpUrl:
    if value.query or value.fragment:
        raise ValueError("write only what stands before the path of a request, without ? and #")
    return value


BaseUrl = Annotated[HttpUrl, AfterValidator(_a_base)]


class PricingSource(Frozen, ABC):
    """A source that says prices and no events.

    Its backlog is what it has to ask for once, piece by piece: history, or files.
    """

    apart: ClassVar[timedelta] = timedelta(0)  # between two requests

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    timeout: SomeTime = timedelta(seconds=60)

    @abstractmethod
    def batches(self, around: Surroundings) -> AsyncGenerator[Batch, None]:
        """Yield prices as they come; raise SourceError when the upstream fails."""

    @abstractmethod
    async def backlog(self, around: Surroundings) -> Sequence[Any]:
        """Return what was not asked for yet, the oldest first."""

    @abstractmethod
    def fill(
        self, ask: "Asking", around: Surroundings, piece: Any, doubts: list[str]
    ) -> AsyncGenerator[Batch, None]:
        """Yield what a piece of the backlog says, and the mark that it was asked for.

        What is wrong with parts of it goes into `doubts`.
        """

    @asynccontextmanager
    async def asking(self, clock: Clock) -> AsyncIterator["Asking"]:
        """Open what asking the upstream needs."""
        async with ClientSession(
            timeout=ClientTimeout(total=self.timeout.total_seconds()),
            cookie_jar=DummyCookieJar(),
            headers={"Accept": "application/json, */*;q=0.5"},
        ) as http:
            yield Asking(http, clock, self.apart)

    @property
    def opt_policy(self) -> OptPolicy:
        """Prices are not answered."""
        return OptPolicy()

    @property
    def max_open_ended(self) -> timedelta:
        """Prices have ends."""
        return timedelta(hours=24)

    @property
    def program_names(self) -> Mapping[str, str]:
        """Programs are named by what they are the price of."""
        return {}

    @property
    def cert(self) -> Path | None:
        """It shows no certificate."""
        return None

    @property
    def address(self) -> HttpUrl | None:
        """Who is asked, where it is somebody."""
        return None

    def check_files(self) -> None:
        """Look at the files that it names: none."""


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
    source: PricingSource,
    ask: "Asking",
    around: Surroundings,
    poll: Callable[[Round], AsyncGenerator[Batch, None]],
    next_due: Callable[[datetime], datetime],
) -> AsyncGenerator[Batch, None]:
    """Poll for ever, each round when it is due, and work off the backlog in between."""
    tried: dict[Any, date] = {}  # pieces that are left though they were answered: a day later
    said: dict[str, list[str]] = {}  # what is doubtful of each part
    unwell = 0  # rounds in a row in which a part failed
    while True:
        said.pop(EVERY, None)
        now_on, began = Round(said), around.clock.now()
        async with aclosing(poll(now_on)) as batches:
            async for batch in batches:
                yield batch
        await now_on.conclude(source.name, around)
        due = next_due(began)
        async with aclosing(_work_off(source, ask, around, now_on, due, tried)) as batches:
            async for batch in batches:
                yield batch
        around.warn(now_on.warning)
        unwell = unwell + 1 if now_on.failed else 0
        if now_on.retry_after:
            due = around.clock.now() + timedelta(seconds=now_on.retry_after)
        elif unwell:  # the part that failed is asked again soon, then less and less
            due = min(due, around.clock.now() + AGAIN * 2 ** min(unwell - 1, 10))
        await _until(around.clock, began, due)


async def _work_off(
    source: PricingSource,
    ask: "Asking",
    around: Surroundings,
    now_on: Round,
    due: datetime,
    tried: dict[Any, date],
) -> AsyncGenerator[Batch, None]:
    """Yield the backlog until a round is due; what fails is put off with all that follows it."""
    put_off: set[Any] = set()
    pieces = await source.backlog(around) if not now_on.retry_after else ()
    left = {f"{PAST}{piece}" for piece in pieces}
    for name in {n for n in now_on.said if n.startswith(PAST)} - left:
        del now_on.said[name]
    for piece in pieces:
        now = around.clock.now()
        if now >= due:
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


async def _until(clock: Clock, began: datetime, due: datetime) -> None:
    """Wait until a time, or until the clock shows to have been set."""
    longest = due - began
    while began <= (now := clock.now()) < due and due - now <= longest:
        await clock.sleep(min((due - now).total_seconds(), NAP))


def turned(parts: Sequence[T]) -> list[T]:
    """Return parts from a random one on, so that none is the last one always."""
    start = random.randrange(len(parts)) if len(parts) > 1 else 0  # noqa: S311 -- shares out
    return [*parts[start:], *parts[:start]]


class Asking:
    """Asks one upstream, never faster than it may be."""

    def __init__(self, http: ClientSession, clock: Clock, apart: timedelta) -> None:
        self._http, self._clock, self._apart = http, clock, apart
        self._asked: datetime | None = None

    async def get(self, url: str, query: Mapping[str, str] | None = None) -> bytes | None:
        """Return what is answered, or None where that is nothing (204).

        Raises SourceError for anything but a whole answer of 200 or 204.
        """
        await self._wait()
        try:
            async with self._http.get(url, params=query) as reply:
                return await self._read(reply)
        except TimeoutError as error:
            raise Unreachable(f"no answer within {self._http.timeout.total:g} s") from error
        except ClientPayloadError as error:
            raise SourceError(f"cannot be asked: {error}") from error
        except (ClientConnectionError, OSError) as error:
            said = str(error) or type(error).__name__
            raise Unreachable(f"cannot be asked: {said}") from error
        except (ClientError, ValueError) as error:
            said = str(error) or type(error).__name__
            raise SourceError(f"cannot be asked: {said}") from error

    async def _wait(self) -> None:
        now = self._clock.now()
        if self._asked is not None:
            left = self._asked + self._apart - now
            if timedelta(0) < left <= self._apart:
                await self._clock.sleep(left.total_seconds())
        self._asked = self._clock.now()

    async def _read(self, reply: ClientResponse) -> bytes | None:
        if reply.status == NO_CONTENT:
            return None
        if reply.status != OK:
            wait = read_retry_after(reply.headers.get("Retry-After"), self._clock.now())
            raise SourceError(f"answered {reply.status} {reply.reason or ''}".strip(), wait)
        body = bytearray()
        async for piece in reply.content.iter_chunked(65536):
            body += piece
            if len(body) > LARGEST_ANSWER:
                raise SourceError(f"answered more than {LARGEST_ANSWER} bytes")
        return bytes(body)
