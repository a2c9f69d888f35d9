"""Meters and contracts, for the operator: how each stands, and to whom it is granted."""

from aiohttp import web

from bridge.usage import ContractStore, UsageQuestion, UsageStore
from bridge.web import Route, reply_list


class MeterPages:
    """Shows meters with what sources say of them, and contracts with their grants."""

    def __init__(self, store: UsageStore, contracts: ContractStore) -> None:
        self._store, self._contracts = store, contracts

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("GET", "/api/v1/meters", self.meters, "read",
                  "Meters: what each measures, how its source stands with it, what to do next"),
            Route("GET", "/api/v1/contracts", self.contracts, "read",
                  "Contracts: their meters, and to whom they are granted"),
        ]  # fmt: skip

    async def meters(self, _request: web.Request) -> web.Response:
        """GET /api/v1/meters."""
        return reply_list(await self._store.meters(UsageQuestion()), None)

    async def contracts(self, _request: web.Request) -> web.Response:
        """GET /api/v1/contracts."""
        found = await self._contracts.granted(None)
        return reply_list(
            [
                {
                    "id": c.id, "customer": c.customer, "meters": list(c.meters),
                    "program": c.program, "clients": sorted(c.clients), "about": c.about,
                }
                for c in found
            ],
            None,
        )  # fmt: skip
