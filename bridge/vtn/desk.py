"""Where clients trade an id and a secret for a token (RFC 6749), however they ask for it."""

import base64
from collections.abc import Sequence
from urllib.parse import unquote_plus

from aiohttp import web
from multidict import MultiMapping

from bridge.clock import Clock
from bridge.model import Document
from bridge.parties import Credentials
from bridge.web import Patience, Problem

WRONG, WRONG_IN_ALL = 10, 60  # secrets, of one client and in all, from one address in a minute
FORM = "application/x-www-form-urlencoded"
Pair = tuple[str, str]  # id, secret


class Refusal(Exception):  # noqa: N818 -- RFC 6749 calls it an error response
    """An error response of the token endpoint (RFC 6749, section 5.2)."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error, self.status = error, status

    @property
    def headers(self) -> dict[str, str]:
        """Return what is said beside it."""
        return {"WWW-Authenticate": 'Basic realm="openadr-bridge"'} if self.status == 401 else {}


class Desk:
    """Gives out access tokens; those who guess have to wait, wherever they ask."""

    def __init__(self, credentials: Credentials, clock: Clock) -> None:
        self._credentials, self._clock = credentials, clock
        self._patience = Patience()

    async def by_form(self, request: web.Request) -> Document:
        """Return a token for a client_credentials form; the id and secret may be HTTP Basic."""
        if request.content_type != FORM:
            raise Refusal("invalid_request", f"write the request as {FORM}")
        try:
            form = await request.post()
        except (LookupError, ValueError) as error:
            raise Refusal("invalid_request", "the form cannot be read") from error
        pairs = _basic(request) or [(_text(form, "client_id"), _text(form, "client_secret"))]
        if _text(form, "grant_type") != "client_credentials":
            raise Refusal("unsupported_grant_type", "grant_type must be client_credentials")
        return await self._grant(request, pairs, _text(form, "scope", "").split())

    async def by_basic(self, request: web.Request) -> Document:
        """Return a token, with all that the client may do, for HTTP Basic."""
        pairs = _basic(request)
        if not pairs:
            raise Refusal("invalid_client", "say the client's id and secret by HTTP Basic", 401)
        return await self._grant(request, pairs, [])

    async def _grant(
        self, request: web.Request, pairs: Sequence[Pair], asked: Sequence[str]
    ) -> Document:
        client = await self._check(request.remote or "", pairs)
        scopes = self._credentials.narrow(client, asked)
        if scopes is None:
            raise Refusal("invalid_scope", f"this client has {' '.join(sorted(client['scopes']))}")
        token, lasts = self._credentials.issue(client, scopes, self._clock.now())
        return {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": int(lasts.total_seconds()),
            "scope": " ".join(sorted(scopes)),
        }

    async def _check(self, remote: str, pairs: Sequence[Pair]) -> Document:
        """Return the client; those who guess have to wait, be it one client or many."""
        keys = [(remote, ""), (remote, pairs[0][0])]
        for key, most in zip(keys, (WRONG_IN_ALL, WRONG), strict=True):
            if not self._patience.lasts(key, most):
                raise Problem(429, "too many wrong secrets", {"Retry-After": "60"})
        for key in keys:  # counted before it is known, so that many at once are counted, too
            self._patience.note(key)
        for client_id, secret in pairs:
            if client := await self._credentials.check(client_id, secret):
                for key in keys:
                    self._patience.forget(key)
                return client
        raise Refusal("invalid_client", "no such client, or another secret", 401)


def _basic(request: web.Request) -> list[Pair]:
    """Return the id and secret of HTTP Basic, as they are and as RFC 6749 encodes them."""
    kind, _, said = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "basic":
        return []
    try:
        client_id, colon, secret = base64.b64decode(said, validate=True).decode().partition(":")
    except ValueError as error:
        raise Refusal("invalid_request", "HTTP Basic cannot be read") from error
    pairs = [(client_id, secret), (unquote_plus(client_id), unquote_plus(secret))] if colon else []
    return list(dict.fromkeys(pairs))


def _text(form: MultiMapping[object], name: str, default: str | None = None) -> str:
    values = form.getall(name, [])
    if len(values) > 1:
        raise Refusal("invalid_request", f"{name} is given twice")
    value = values[0] if values else default
    if not isinstance(value, str) or (default is None and not value) or len(value) > 4096:
        raise Refusal("invalid_request", f"{name} is missing, or is no text of at most 4096")
    return value
