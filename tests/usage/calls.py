"""Calls the bridge's own API in somebody's name, and puts readings and prices where it reads them."""

import base64
import io
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import simplejson
from aiohttp import ClientSession

from bridge.interfaces import Batch
from bridge.model import Price, Publication, Tariff
from bridge.sources import Feed
from bridge.usage import Measured, Origin, Stream

HOUR = timedelta(hours=1)


class Answer(NamedTuple):
    status: int
    json: Any
    headers: Any
    text: str

    @property
    def items(self):
        assert self.status == 200, self.text
        return self.json["items"]


def basic(name, secret):
    return base64.b64encode(f"{name}:{secret}".encode()).decode()


class Site:
    """`await site("alice").get("/api/v1/usage", meter="alice-1")`."""

    def __init__(self, http, url):
        self.http, self.url = http, url
        self.secrets, self.tokens = {}, {}

    def __call__(self, name=None):
        """Call as a client, or by the token of a scope; nobody without a name."""
        token = self.tokens.get(name) or (name and basic(name, self.secrets[name]))
        return Caller(self, {"Authorization": f"Bearer {token}"} if token else {})

    async def keep(self, *measured, at=None):
        return await self.bridge.store.meters.keep(measured, at or self.clock.now(), durable=True)

    async def price(self, start, *values, program="P", currency="USD"):
        """Make hourly prices of a program known."""
        feed = Feed(kind="feed", name="f", path="x")
        prices = [
            Price(start + n * HOUR, start + (n + 1) * HOUR, Decimal(str(v)), None, ())
            for n, v in enumerate(values)
        ]
        tariff = Tariff(program=program, context=program, payload_type="PRICE", unit="KWH",
                        currency=currency, zone="America/Los_Angeles")  # fmt: skip
        await self.bridge.store.events.save(
            feed, Batch(publications=[Publication(tariff, prices)]), self.clock.now()
        )


class Caller:
    def __init__(self, site, headers):
        self._site, self._headers = site, headers

    async def call(self, method, path, body=None, headers=None, **query):
        async with self._site.http.request(
            method, self._site.url + path, params=query, data=body,
            headers={**self._headers, **(headers or {})},
        ) as reply:  # fmt: skip
            text = await reply.text()
            try:
                said = simplejson.loads(text, use_decimal=True)
            except ValueError:
                said = None
            return Answer(reply.status, said, reply.headers, text)

    async def get(self, path, **query):
        return await self.call("GET", path, **query)

    async def post(self, path, body, kind="application/json", **query):
        if not isinstance(body, str | bytes):
            body = simplejson.dumps(body)
        if isinstance(body, bytes):
            body = io.BytesIO(body)  # aiohttp warns of large bytes
        return await self.call("POST", path, body, {"Content-Type": kind}, **query)


@asynccontextmanager
async def calling(url):
    async with ClientSession() as http:
        yield Site(http, url)


def measured(meter, readings, direction="import", kind="usage", unit="KWH", origin=None):
    return Measured(Stream(meter, direction, kind, unit), readings, origin or Origin("api", "test"))
