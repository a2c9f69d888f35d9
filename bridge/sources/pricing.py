"""What sources of prices have in common: settings, and asking an upstream over HTTP."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, DummyCookieJar
from pydantic import Field, HttpUrl

from bridge.clock import Clock
from bridge.errors import SourceError
from bridge.interfaces import Batch, Surroundings
from bridge.model import Frozen, OptPolicy
from bridge.notation import Duration, read_retry_after

LARGEST_ANSWER = 64 * 1024 * 1024  # bytes
OK, NO_CONTENT = 200, 204


class PricingSource(Frozen, ABC):
    """A source that says prices and no events.

    Its backlog is what it has to ask for once, piece by piece: history, or files.
    """

    apart: ClassVar[timedelta] = timedelta(0)  # between two requests

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    timeout: Duration = timedelta(seconds=60)

    @abstractmethod
    def batches(self, around: Surroundings) -> AsyncGenerator[Batch, None]:
        """Yield prices as they come; raise SourceError when the upstream fails."""

    @abstractmethod
    async def backlog(self, around: Surroundings) -> Sequence[Any]:
        """Return what was not asked for yet, the oldest first."""

    @abstractmethod
    def fill(self, ask: "Asking", around: Surroundings, piece: Any) -> AsyncGenerator[Batch, None]:
        """Yield what a piece of the backlog says; its last batch marks that it was asked for."""

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
            raise SourceError(f"no answer within {self._http.timeout.total:g} s") from error
        except (ClientError, OSError, ValueError) as error:
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
