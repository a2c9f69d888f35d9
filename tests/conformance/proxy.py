"""A proxy before the VTN under test that spoils what passes.

A mutant may change a request before it is sent on, and what came back before it is handed over;
callbacks can be led through the proxy too.
"""

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

from aiohttp import ClientSession, web
from multidict import CIMultiDict, MultiDict

from tests.conformance.vtn import Vtn

CALLBACK = "/-/callback"
HOP_BY_HOP = ("Connection", "Content-Length", "Content-Encoding", "Transfer-Encoding", "Host")


@dataclass
class Exchange:
    """One request on its way to the VTN, and its answer on the way back."""

    vtn: Vtn
    method: str
    path: str
    query: MultiDict[str]
    sent: CIMultiDict[str]
    body: bytes
    proxy: str
    status: int = 0
    headers: CIMultiDict[str] = field(default_factory=CIMultiDict)
    text: str = ""

    @property
    def kind(self) -> str:
        return self.path.strip("/").split("/")[0]

    def by(self, token: str) -> bool:
        return self.sent.get("Authorization", "").endswith(f" {token}")

    def change(self, how: Callable[[dict[str, Any]], None]) -> None:
        """Change each object of the answer, which is left alone when it is an error."""
        if self.status not in {200, 201} or not self.text:
            return
        found = json.loads(self.text)
        for item in found if isinstance(found, list) else [found]:
            how(item)
        self.text = json.dumps(found)


Spoil = Callable[[Exchange], Any]


@dataclass
class Mutant:
    """One way to be wrong, and the tests that must see it."""

    name: str
    seen_by: list[str]
    ask: Spoil | None = None
    answer: Spoil | None = None
    callback: Callable[[str], str | None] | None = None
    """What becomes of a notification's text; None swallows it."""


class Proxy:
    """Passes requests to the VTN and callbacks to the kit, as its mutant has it."""

    def __init__(self, vtn: Vtn, mutant: Mutant, http: ClientSession):
        self.vtn, self.mutant, self.http, self.url = vtn, mutant, http, ""
        self.broken: list[Exception] = []
        """What went wrong in the proxy itself, where nothing may."""

    async def handle(self, request: web.Request) -> web.Response:
        try:
            called = request.path == CALLBACK
            return await (self.call_back(request) if called else self.pass_on(request))
        except Exception as wrong:
            self.broken.append(wrong)
            raise

    async def pass_on(self, request: web.Request) -> web.Response:
        seen = Exchange(
            self.vtn,
            request.method,
            request.raw_path.partition("?")[0],
            MultiDict(request.query),
            without_hops(request.headers),
            await request.read(),
            self.url,
        )
        if self.mutant.ask:
            self.mutant.ask(seen)
        if self.mutant.callback:
            self._lead_callbacks(seen)
        async with self.http.request(
            seen.method,
            self.vtn.url + seen.path,
            params=seen.query,
            headers=seen.sent,
            data=seen.body,
            allow_redirects=False,
        ) as reply:
            seen.status, seen.headers = reply.status, without_hops(reply.headers)
            seen.text = await reply.text()
        led = re.escape(self._led("")) + r'([^"]*)'
        seen.text = re.sub(led, lambda found: unquote(found[1]), seen.text)
        if self.mutant.answer:
            self.mutant.answer(seen)
        return web.Response(status=seen.status, headers=seen.headers, body=seen.text.encode())

    def _led(self, url: str) -> str:
        return f"{self.url}{CALLBACK}?to={quote(url, safe='')}"

    def _lead_callbacks(self, seen: Exchange) -> None:
        if seen.kind == "subscriptions" and seen.method in {"POST", "PUT"}:
            body = json.loads(seen.body)
            for wanted in body["objectOperations"]:
                wanted["callbackUrl"] = self._led(wanted["callbackUrl"])
            seen.body = json.dumps(body).encode()

    async def call_back(self, request: web.Request) -> web.Response:
        to, body = request.query["to"], await request.text()
        query = [(key, value) for key, value in request.query.items() if key != "to"]
        if request.method == "POST":
            assert self.mutant.callback
            spoiled = self.mutant.callback(body)
            if spoiled is None:
                return web.Response()
            body = spoiled
        async with self.http.request(
            request.method, to, params=query, headers=without_hops(request.headers), data=body
        ) as reply:
            return web.Response(status=reply.status, text=await reply.text())


def without_hops(headers: Any) -> CIMultiDict[str]:
    return CIMultiDict((k, v) for k, v in headers.items() if k.title() not in HOP_BY_HOP)


@asynccontextmanager
async def spoiled(vtn: Vtn, mutant: Mutant, http: ClientSession) -> AsyncIterator[Proxy]:
    """Serve a mutant of the VTN."""
    proxy = Proxy(vtn, mutant, http)
    app = web.Application(handler_args={"max_line_size": 16384})
    app.router.add_route("*", "/{rest:.*}", proxy.handle)
    runner = web.AppRunner(app, access_log=None, auto_decompress=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield proxy
    finally:
        await runner.cleanup()
