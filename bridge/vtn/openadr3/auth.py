"""`/auth/server` and `/auth/token`: client credentials for a short-lived token (RFC 6749)."""

from aiohttp import web

from bridge.vtn.desk import Desk, Refusal
from bridge.vtn.openadr3.kinds import BASE
from bridge.web import Route, reply_json


class Auth:
    """Gives out access tokens."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> list[Route]:
        """Return the routes; both are open."""
        return [
            Route("GET", f"{BASE}/auth/server", self.server, None, "Where tokens are given out"),
            Route("POST", f"{BASE}/auth/token", self.token, None,
                  "A token for a client's id and secret", answers=(200, 400, 401, 429)),
        ]  # fmt: skip

    async def server(self, request: web.Request) -> web.Response:
        """GET /auth/server."""
        return reply_json({"tokenURL": str(request.url.origin().with_path(f"{BASE}/auth/token"))})

    async def token(self, request: web.Request) -> web.Response:
        """POST /auth/token: the id and secret in the form, or by HTTP Basic."""
        try:
            reply = reply_json(await self._desk.by_form(request))
        except Refusal as refusal:
            said = {"error": refusal.error, "error_description": str(refusal)}
            reply = reply_json(said, refusal.status)
            reply.headers.update(refusal.headers)
        reply.headers["Cache-Control"] = "no-store"
        reply.headers["Pragma"] = "no-cache"
        return reply
