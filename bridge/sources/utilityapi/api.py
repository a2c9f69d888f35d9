"""UtilityAPI's own API as it wants to be asked: paces, pages, and what its refusals mean."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from datetime import timedelta
from http import HTTPStatus

from bridge.errors import SourceError, WireError
from bridge.model import Document
from bridge.sources.asking import Answered, Asking
from bridge.wire.utilityapi import Page, read_page, read_problem

# "Avoid requesting bill and interval data more than once per minute"; the rest, once a second.
DOWNLOADS_APART, APART = timedelta(minutes=1), timedelta(seconds=1)
PATIENCE = 60.0  # seconds after which what is not ready is asked for again
MOST_PAGES = 1000


class TokenRefused(SourceError):  # noqa: N818 -- reads as a fact at the raise
    """The token does not hold: asking again with it is of no use."""


class PaymentRequired(SourceError):  # noqa: N818 -- reads as a fact at the raise
    """The account has no money, or is of a kind that may not do this."""


class Refused(SourceError):  # noqa: N818 -- reads as a fact at the raise
    """It will not do it: nothing was done."""


class Trouble(SourceError):  # noqa: N818 -- reads as a fact at the raise
    """It failed at its end; to ask for less may help."""


class Api:
    """Asks UtilityAPI; once a token is refused nothing is asked any more."""

    def __init__(self, base: str, token: str, ask: Asking) -> None:
        self._base, self._token, self._ask = base.rstrip("/"), token, ask
        self._refused = False

    async def get(
        self, path: str, query: Mapping[str, str] | None = None, *, download: bool = False
    ) -> bytes:
        """Return what is answered; raise SourceError for anything but 200."""
        apart = DOWNLOADS_APART if download else None
        return await self._send("GET", path, query, apart=apart)

    async def post(self, path: str, document: Document) -> bytes:
        """Have something done; return what is answered."""
        return await self._send("POST", path, document=document)

    async def pages(
        self, path: str, key: str, query: Mapping[str, str]
    ) -> AsyncGenerator[Page, None]:
        """Yield the pages of a list."""
        following: Mapping[str, str] | None = query
        for _ in range(MOST_PAGES):
            if following is None:
                return
            page = await self._read(path, await self.get(path, following), key)
            yield page
            following = self.after(path, following, page)

    @staticmethod
    async def _read(path: str, body: bytes, key: str) -> Page:
        try:
            # Off the event loop: a page of a thousand meters would hold it up.
            return await asyncio.to_thread(read_page, body, key)
        except WireError as error:
            raise SourceError(f"{path}: {error}") from error

    @staticmethod
    def after(path: str, query: Mapping[str, str], page: Page) -> Mapping[str, str] | None:
        """Return what to ask for the page after this one."""
        if page.next == query:
            raise SourceError(f"{path}: the page after it is the page itself")
        return page.next

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        document: Document | None = None,
        apart: timedelta | None = None,
    ) -> bytes:
        if self._refused:
            raise TokenRefused("the token was refused (401)")
        headers = {"Authorization": f"Bearer {self._token}"}
        if document is not None:
            headers["Content-Type"] = "application/json"
        answer = await self._ask.ask(
            method, f"{self._base}/{path}", query, headers=headers, document=document, apart=apart
        )
        if answer.status != HTTPStatus.OK:
            raise self._error(path, answer)
        return answer.body

    def _error(self, path: str, answer: Answered) -> SourceError:
        wait = answer.retry_after
        match answer.status:
            case HTTPStatus.ACCEPTED:
                return SourceError(f"{path}: is not ready yet (202)", wait or PATIENCE)
            case HTTPStatus.UNAUTHORIZED:
                self._refused = True
                return TokenRefused("the token was refused (401)")
            case HTTPStatus.PAYMENT_REQUIRED:
                return PaymentRequired(f"{path}: the account has to be paid for first (402)")
            case HTTPStatus.NOT_FOUND:
                return Refused(f"{path}: is not there, or not to be seen with this token (404)")
            case HTTPStatus.TOO_MANY_REQUESTS:
                return Refused("was asked too often (429)", wait or PATIENCE)
            case status if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                return Trouble(f"{path}: {answer.error}", wait)
        said = read_problem(answer.body)
        kind = Refused if answer.status >= HTTPStatus.BAD_REQUEST else SourceError
        return kind(f"{path}: {answer.error}{said and f' ({said})'}", wait)
