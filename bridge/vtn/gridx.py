"""`getPricing`, string-exact as the utility's, for every series that has a rate and a circuit."""

import asyncio

from aiohttp import web

from bridge.interfaces import PriceHistory
from bridge.web import Problem, Route, reply_tagged
from bridge.wire import gridx

PATHS = ("/v1/getPricing", "/stage/v1/getPricing")
LONGEST = 366  # days in one answer


class GetPricing:
    """Answers as the utility's Pricing API does."""

    def __init__(self, history: PriceHistory) -> None:
        self._history = history
        self._headers: dict[str, str] = {}

    def routes(self, *, public: bool) -> list[Route]:
        """Return the routes; `public` asks for no token, and any web page may ask then."""
        self._headers = {"Access-Control-Allow-Origin": "*"} if public else {}
        scope = None if public else "prices:read"
        summary = "A utility's dynamic prices by local day; 204 where none are known"
        return [
            Route("GET", PATHS[0], self.pricing, scope, summary, answers=(200, 204, 400)),
            Route("GET", PATHS[1], self.stage, scope, summary, answers=(200, 204, 400)),
        ]

    async def pricing(self, request: web.Request) -> web.Response:
        """GET /v1/getPricing: whatever does not fit is answered with 204, as the utility does."""
        asked = gridx.read_query(request.query)
        if asked is None:
            return web.Response(status=204, headers=self._headers)
        if (asked.last - asked.first).days >= LONGEST:
            raise Problem(400, f"enddate: ask for at most {LONGEST} days at once")
        days = await self._history.days(
            asked.utility, asked.rate, asked.circuit, asked.cca, asked.first, asked.last
        )
        if not days:
            return web.Response(status=204, headers=self._headers)
        url = str(request.url.with_query(None))
        body = await asyncio.to_thread(gridx.write_pricing, asked, days, url)
        reply = await reply_tagged(request, body, "application/json")
        reply.headers.update(self._headers)
        return reply

    async def stage(self, request: web.Request) -> web.Response:
        """GET /stage/v1/getPricing: the same."""
        return await self.pricing(request)
