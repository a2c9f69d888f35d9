"""Asking an upstream over HTTP: settings, manners, secrets."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, ClassVar

from aiohttp import (
    ClientConnectionError,
    ClientError,
    ClientPayloadError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
)
from pydantic import AfterValidator, Field, HttpUrl, PrivateAttr

from bridge.clock import Clock
from bridge.errors import SettingsError, SourceError, Unreachable
from bridge.interfaces import Batch, Surroundings
from bridge.model import Document, OptPolicy
from bridge.notation import Frozen, SomeTime, read_retry_after, to_json

LARGEST_ANSWER = 64 * 1024 * 1024  # bytes
LARGEST_SECRET = 16 * 1024  # characters
OK, NO_CONTENT = 200, 204


def _a_base(value: HttpUrl) -> HttpUrl:
    if value.query or value.fragment:
        raise ValueError("write only what stands before the path of a request, without ? and #")
    return value


def _a_safe_base(value: HttpUrl) -> HttpUrl:
    if value.scheme != "https" and value.host not in {"127.0.0.1", "[::1]", "localhost"}:
        raise ValueError("write an https address: secrets are sent there")
    return _a_base(value)


BaseUrl = Annotated[HttpUrl, AfterValidator(_a_base)]
SafeBaseUrl = Annotated[HttpUrl, AfterValidator(_a_safe_base)]


class QuietSource(Frozen, ABC):
    """A source that says no events."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")

    @abstractmethod
    def batches(self, around: Surroundings) -> AsyncGenerator[Batch, None]:
        """Yield what is said as it comes; raise SourceError when the upstream fails."""

    @property
    def opt_policy(self) -> OptPolicy:
        """It says nothing that is answered."""
        return OptPolicy()

    @property
    def max_open_ended(self) -> timedelta:
        """What it says has an end."""
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


class AskingSource(QuietSource):
    """A source that asks by itself."""

    apart: ClassVar[timedelta] = timedelta(0)  # between two requests

    timeout: SomeTime = timedelta(seconds=60)
    # When it asked last, by the time to be left after it: starting again makes it no faster.
    _asked: dict[timedelta, datetime] = PrivateAttr(default_factory=dict)

    @asynccontextmanager
    async def asking(self, clock: Clock) -> AsyncIterator["Asking"]:
        """Open what asking the upstream needs."""
        async with ClientSession(
            timeout=ClientTimeout(total=self.timeout.total_seconds()),
            cookie_jar=DummyCookieJar(),
            headers={"Accept": "application/json, */*;q=0.5"},
        ) as http:
            yield Asking(http, clock, self.apart, self._asked)


def read_secret(file: Path) -> str:
    """Return the secret that a file holds; raise SettingsError where it holds none.

    What it says stands in a header of a request, and must not be more than that.
    """
    try:
        secret = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError(f"{file}: cannot be read ({said})") from error
    if not secret:
        raise SettingsError(f"{file}: is empty; it should hold a secret")
    if len(secret) > LARGEST_SECRET or not (secret.isascii() and secret.isprintable()):
        raise SettingsError(f"{file}: holds more than one line of plain characters")
    return secret


@dataclass(frozen=True, slots=True)
class Answered:
    """What an upstream answered, whatever it says."""

    status: int
    reason: str
    body: bytes
    retry_after: float  # seconds that it asks to be left alone

    @property
    def error(self) -> SourceError:
        """Return what to raise where this is no answer to what was asked."""
        return SourceError(f"answered {self.status} {self.reason}".strip(), self.retry_after)


class Asking:
    """Asks one upstream, never faster than it may be."""

    def __init__(
        self, http: ClientSession, clock: Clock, apart: timedelta, asked: dict[timedelta, datetime]
    ) -> None:
        self._http, self._clock, self._apart, self._asked = http, clock, apart, asked

    async def get(self, url: str, query: Mapping[str, str] | None = None) -> bytes | None:
        """Return what is answered, or None where that is nothing (204).

        Raises SourceError for anything but a whole answer of 200 or 204.
        """
        answer = await self.ask("GET", url, query, redirects=True)
        if answer.status not in {OK, NO_CONTENT}:
            raise answer.error
        return answer.body if answer.status == OK else None

    async def ask(
        self,
        method: str,
        url: str,
        query: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        document: Document | None = None,
        apart: timedelta | None = None,
        redirects: bool = False,
    ) -> Answered:
        """Return what is answered, whatever it is.

        Requests that say `apart` are at least so long apart. Redirects are not followed with
        secrets. Raises SourceError where no whole answer came.
        """
        await self._wait({self._apart, apart or self._apart})
        try:
            async with self._http.request(
                method, url, params=query, headers=headers, allow_redirects=redirects,
                data=to_json(document).encode() if document is not None else None,
            ) as reply:  # fmt: skip
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

    async def _wait(self, gaps: set[timedelta]) -> None:
        for gap in gaps:
            if gap not in self._asked:
                continue
            left = self._asked[gap] + gap - self._clock.now()
            if timedelta(0) < left <= gap:
                await self._clock.sleep(left.total_seconds())
        self._asked.update(dict.fromkeys(gaps, self._clock.now()))

    async def _read(self, reply: ClientResponse) -> Answered:
        body = bytearray()
        async for piece in reply.content.iter_chunked(65536):
            body += piece
            if len(body) > LARGEST_ANSWER:
                raise SourceError(f"answered more than {LARGEST_ANSWER} bytes")
        wait = read_retry_after(reply.headers.get("Retry-After"), self._clock.now())
        return Answered(reply.status, reply.reason or "", bytes(body), wait)
