"""What sources of prices have in common: settings, and asking an upstream over HTTP."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, DummyCookieJar
from pydantic import Field, HttpUrl

from bridge.clock import Clock
from bridge.errors import SourceError
from bridge.model import Frozen, OptPolicy
from bridge.notation import Duration, read_retry_after

LARGEST_ANSWER = 64 * 1024 * 1024  # bytes
OK, NO_CONTENT = 200, 204


class PricingSource(Frozen):
    """A source that says prices and no events."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    timeout: Duration = timedelta(seconds=60)

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


@asynccontextmanager
async def asking(
    clock: Clock, timeout: timedelta, apart: timedelta = timedelta(0)
) -> AsyncIterator[Asking]:
    """Open what asking needs; two requests are `apart`."""
    async with ClientSession(
        timeout=ClientTimeout(total=timeout.total_seconds()),
        cookie_jar=DummyCookieJar(),
        headers={"Accept": "application/json, */*;q=0.5"},
    ) as http:
        yield Asking(http, clock, apart)
