"""Meters, contracts and reports upstream, for the operator: how each stands, who is told."""

from aiohttp import web

from bridge.notation import write_duration
from bridge.reporting import ReportMemory
from bridge.usage import ContractStore, UsageQuestion, UsageStore
from bridge.web import Route, reply_list


class MeterPages:
    """Shows meters with what sources say of them, contracts with their grants, and reports."""

    def __init__(self, store: UsageStore, contracts: ContractStore, reports: ReportMemory) -> None:
        self._store, self._contracts, self._reports = store, contracts, reports

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("GET", "/api/v1/meters", self.meters, "read",
                  "Meters: what each measures, how its source stands with it, what to do next"),
            Route("GET", "/api/v1/contracts", self.contracts, "read",
                  "Contracts: their meters, and to whom they are granted"),
            Route("GET", "/api/v1/reports", self.reports, "read",
                  "Reports that utilities ask for, and how far each is told"),
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

    async def reports(self, _request: web.Request) -> web.Response:
        """GET /api/v1/reports."""
        return reply_list(
            [
                {
                    "id": running.asked.request_id, "source": source, "report": running.report,
                    "granularity": write_duration(running.plan.step),
                    "every": write_duration(running.asked.back) if running.asked.back else None,
                    "until": running.plan.end,
                    "told_to": dict(running.reach),
                }
                for source, running in await self._reports.asked_for()
            ],
            None,
        )  # fmt: skip
