"""The utility's Customer Information & Usage API, as far as it is known, over the contracts.

Its token is documented; the bodies of `info` and `usage` are inferred, and experimental.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import reduce

from aiohttp import web

from bridge.clock import Clock
from bridge.errors import WireError
from bridge.notation import exact_sum, to_json
from bridge.resolutions import edges
from bridge.usage import (
    EXPORT,
    IMPORT,
    NET,
    SUBSCRIPTION_POST,
    SUBSCRIPTION_PRE,
    USAGE,
    Bucket,
    Contract,
    ContractStore,
    StreamInfo,
    UsageQuestion,
    UsageStore,
)
from bridge.vtn.desk import FORM, Desk, Refusal
from bridge.vtn.times import Time
from bridge.web import CALLER, Problem, Query, Route, read_query, reply_json
from bridge.wire import customer

BASES = ("/v1", "/stage/v1")
LONGEST = timedelta(days=366)  # in one answer
HIDDEN = "there is no such contract, or it is not yours to see"
# Payload type → direction, and the kind in the past and in the future
PAYLOADS: Mapping[str, tuple[str, str | None, str | None]] = {
    "CONSUMPTION": (IMPORT, USAGE, None),
    "GENERATION": (EXPORT, USAGE, None),
    "BASELINE_CONSUMPTION": (IMPORT, SUBSCRIPTION_POST, SUBSCRIPTION_PRE),
    "BASELINE_GENERATION": (EXPORT, SUBSCRIPTION_POST, SUBSCRIPTION_PRE),
}
Hours = dict[datetime, Bucket]
ZERO = Decimal(0)


class SpanQuery(Query):
    """What `GET /v1/customer/usage` is asked."""

    start: Time
    end: Time


class Customer:
    """Answers as the utility's API does, to each client of its contracts."""

    def __init__(
        self, desk: Desk, store: UsageStore, contracts: ContractStore, clock: Clock
    ) -> None:
        self._desk, self._store, self._contracts, self._clock = desk, store, contracts, clock

    def routes(self) -> list[Route]:
        """Return the routes; the token's are open."""
        trade = "A token for a client's id and secret: bare, or as OAuth has it"
        return [
            route
            for base in BASES
            for route in (
                Route("GET", f"{base}/auth/token", self.token, None, trade,
                      answers=(200, 400, 401, 429)),
                Route("POST", f"{base}/auth/token", self.token, None, trade,
                      answers=(200, 400, 401, 429)),
                Route("GET", f"{base}/customer/info", self.info, "usage:read",
                      "A contract (experimental)", answers=(200, 400, 404)),
                Route("GET", f"{base}/customer/usage", self.usage, "usage:read",
                      "A contract's usage and subscription by hour (experimental)", SpanQuery,
                      answers=(200, 400, 404)),
            )
        ]  # fmt: skip

    async def token(self, request: web.Request) -> web.Response:
        """GET or POST /v1/auth/token: by HTTP Basic, or by a client_credentials form."""
        form = request.content_type == FORM
        try:
            given = await (self._desk.by_form if form else self._desk.by_basic)(request)
        except Refusal as refusal:
            raise Problem(refusal.status, str(refusal), refusal.headers) from refusal
        if form or "json" in request.headers.get("Accept", ""):
            return reply_json(given)
        return web.Response(text=given["access_token"], content_type="text/plain")

    async def info(self, request: web.Request) -> web.Response:
        """GET /v1/customer/info."""
        return reply_json(customer.write_info(await self._contract(request)))

    async def usage(self, request: web.Request) -> web.Response:
        """GET /v1/customer/usage: of what is over what was used, of what is to come the plan.

        An hour that is not known all through, of all meters of the contract, is left out.
        """
        contract = await self._contract(request)
        query: SpanQuery = read_query(request, SpanQuery)
        if not timedelta(0) < query.end - query.start <= LONGEST:
            raise Problem(400, f"end: must be after start, by {LONGEST.days} days at most")
        now = self._clock.now()
        hours = await asyncio.to_thread(
            lambda: list(edges("hourly", "UTC", query.start, query.end))
        )
        found = {name: await self._hours(contract, name, hours, now) for name in PAYLOADS}
        body = await asyncio.to_thread(lambda: to_json(customer.write_usage(found)))
        return web.Response(text=body, content_type="application/json")

    async def _contract(self, request: web.Request) -> Contract:
        """Return the contract that the headers name, if it is this caller's to see."""
        try:
            wanted = customer.read_identity(request.headers)
        except WireError as error:
            raise Problem(400, str(error)) from error
        for contract in await self._contracts.granted(request[CALLER].client):
            if (contract.id, contract.customer) == wanted:
                return contract
        raise Problem(404, HIDDEN)

    async def _hours(
        self, contract: Contract, name: str, hours: Sequence[datetime], now: datetime
    ) -> list[Bucket]:
        """Return what hours amount to that are known of all meters that measure it."""
        direction, past, future = PAYLOADS[name]
        streams = await self._store.streams(UsageQuestion(frozenset(contract.meters)))
        known: list[Hours] = []
        for meter in contract.meters:
            ours = [s for s in streams if s.meter == meter and s.unit == "KWH"]
            found: Hours = {}
            for kind, over in ((past, True), (future, False)):
                if stream := kind and _stream(ours, direction, kind):
                    found |= await self._whole(stream, hours, now, over=over)
            known.append(found)
        if name != "CONSUMPTION":  # not every meter measures it
            known = [found for found in known if found]
        return list(reduce(_sum, known).values()) if known else []

    async def _whole(
        self, stream: StreamInfo, hours: Sequence[datetime], now: datetime, *, over: bool
    ) -> Hours:
        """Return the hours that are over, or are not, and known all through."""
        found = await self._store.buckets(stream, hours)
        return await asyncio.to_thread(_known, found, now, over)  # a year takes its time


def _known(buckets: Sequence[Bucket], now: datetime, over: bool) -> Hours:
    return {b.start: b for b in buckets if b.whole and (b.end <= now) == over}


def _stream(streams: Sequence[StreamInfo], direction: str, kind: str) -> StreamInfo | None:
    """Return the stream of a direction; what was used is a net amount where that is all."""
    by_direction = {s.direction: s for s in streams if s.kind == kind}
    if direction == IMPORT and kind == USAGE:
        return by_direction.get(IMPORT) or by_direction.get(NET)
    return by_direction.get(direction)


def _sum(some: Hours, others: Hours) -> Hours:
    return {
        hour: some[hour]._replace(value=exact_sum(h[hour].value or ZERO for h in (some, others)))
        for hour in some.keys() & others.keys()
    }
