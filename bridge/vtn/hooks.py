"""Webhooks of upstreams: each is verified by the source that it is for."""

from collections.abc import Callable, Mapping

from aiohttp import web

from bridge.web import Patience, Problem, Route

BAD = 20  # from one address in a minute; then it is told to wait

# Takes in a body and its headers; returns whether it is the upstream's.
Received = Callable[[bytes, Mapping[str, str]], bool]


class Hooks:
    """Hands webhooks to sources; of those that are there and those that are not alike."""

    def __init__(self, sources: Mapping[str, Received]) -> None:
        self._sources = sources
        self._patience = Patience()

    def routes(self) -> list[Route]:
        """Return the route; whoever signs may call it."""
        return [
            Route("POST", "/hooks/{source}", self.hook, None, "A webhook of a source's upstream",
                  answers=(200, 401, 413, 429)),
        ]  # fmt: skip

    async def hook(self, request: web.Request) -> web.Response:
        """POST /hooks/{source}."""
        if not self._patience.lasts(request.remote, BAD):
            raise Problem(429, "too many webhooks that are not signed", {"Retry-After": "60"})
        body = await request.read()
        received = self._sources.get(request.match_info["source"])
        if received is None or not received(body, request.headers):
            self._patience.note(request.remote)
            raise Problem(401, "the signature is not this source's")
        return web.Response(status=200)
