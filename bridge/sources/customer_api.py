"""Asks the utility's Customer Information & Usage API, with a token that holds for an hour."""

import base64
from datetime import datetime, timedelta
from http import HTTPStatus

from bridge.clock import Clock
from bridge.errors import SourceError, WireError
from bridge.notation import write_time
from bridge.sources.asking import Answered, Asking
from bridge.wire.customer import identity, read_token

LASTS = timedelta(minutes=55)  # a token of an hour is used so long
JUST_NOW = timedelta(minutes=1)  # a token that is refused so soon is not at fault
PATIENCE, LONG_PATIENCE = 60.0, 3600.0  # seconds


class Denied(SourceError):  # noqa: N818 -- reads as a fact at the raise
    """Who asks, or the contract that is asked for, is not accepted; `state` says which way."""

    def __init__(self, problem: str, state: str, retry_after: float = 0) -> None:
        super().__init__(problem, retry_after)
        self.state = state


class ClientDenied(Denied):
    """Who asks is not accepted, whatever is asked for."""


class Down(SourceError):  # noqa: N818 -- reads as a fact at the raise
    """It failed at its end."""


class Api:
    """Asks the utility; what it says in errors names neither contract nor token."""

    def __init__(self, base: str, client: str, secret: str, ask: Asking, clock: Clock) -> None:
        pair = base64.b64encode(f"{client}:{secret}".encode()).decode()
        self._base, self._basic, self._ask, self._clock = base.rstrip("/"), pair, ask, clock
        self._token: str | None = None
        self._got = self._until = clock.now()

    async def info(self, contract: str, customer: str) -> bytes | None:
        """Return what is said of a contract."""
        return await self._get("customer/info", identity(contract, customer), {})

    async def usage(
        self, contract: str, customer: str, start: datetime, end: datetime
    ) -> bytes | None:
        """Return what is said of its usage, or None where that is nothing (204)."""
        query = {"start": write_time(start), "end": write_time(end)}
        return await self._get("customer/usage", identity(contract, customer), query)

    async def _get(self, path: str, headers: dict[str, str], query: dict[str, str]) -> bytes | None:
        answer = await self._ask_with_token(path, headers, query)
        if answer.status == HTTPStatus.UNAUTHORIZED and self._token_is_old():
            self._token = None
            answer = await self._ask_with_token(path, headers, query)
        if answer.status == HTTPStatus.NO_CONTENT:
            return None
        if answer.status != HTTPStatus.OK:
            raise _error(path, answer)
        return answer.body

    async def _ask_with_token(
        self, path: str, headers: dict[str, str], query: dict[str, str]
    ) -> Answered:
        now = self._clock.now()
        if self._token is None or not self._got <= now < self._until:
            await self._get_token()
        said = {**headers, "Authorization": f"Bearer {self._token}"}
        return await self._ask.ask("GET", f"{self._base}/{path}", query, headers=said)

    def _token_is_old(self) -> bool:
        return self._clock.now() - self._got >= JUST_NOW

    async def _get_token(self) -> None:
        headers = {"Authorization": f"Basic {self._basic}"}
        answer = await self._ask.ask("GET", f"{self._base}/auth/token", headers=headers)
        if answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            problem = f"the client id or its secret is refused ({answer.status})"
            raise ClientDenied(problem, "auth_failed", max(answer.retry_after, LONG_PATIENCE))
        if answer.status != HTTPStatus.OK:
            raise _error("auth/token", answer)
        try:
            self._token, lasts = read_token(answer.body)
        except WireError as error:
            raise SourceError(f"auth/token: {error}") from error
        self._got = self._clock.now()
        self._until = self._got + min(lasts or LASTS, LASTS)


def _error(path: str, answer: Answered) -> SourceError:
    wait = answer.retry_after
    match answer.status:
        case HTTPStatus.UNAUTHORIZED:
            return Denied(f"{path}: the token is not accepted (401)", "auth_failed", wait)
        case HTTPStatus.FORBIDDEN:
            return Denied(f"{path}: the contract is not this client's (403)", "forbidden", wait)
        case HTTPStatus.NOT_FOUND:
            return Denied(f"{path}: the contract is not known (404)", "unknown", wait)
        case HTTPStatus.TOO_MANY_REQUESTS:
            return SourceError("was asked too often (429)", wait or PATIENCE)
        case status if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return Down(f"{path}: {answer.error}", wait)
    return SourceError(f"{path}: {answer.error}", wait)
