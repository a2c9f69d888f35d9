"""A callback server of the kit's own: it passes the echo challenge and keeps what is posted."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from aiohttp import web

from tests.conformance import schema

WITHIN = float(os.environ.get("KIT_WITHIN", "10"))  # seconds until a notification must come


class NotToldError(AssertionError):
    """A notification did not come in time."""


@dataclass
class Posted:
    """One request of the VTN to a callback URL."""

    path: str
    headers: dict[str, str]
    text: str

    @property
    def notification(self) -> dict[str, Any]:
        found = json.loads(self.text)
        assert isinstance(found, dict), f"not one JSON object: {self.text}"
        return found

    @property
    def object(self) -> dict[str, Any]:
        found: dict[str, Any] = self.notification["object"]
        return found


@dataclass
class Inbox:
    """A callback URL for one test, and what came to it."""

    url: str
    echoes: bool = True
    faults: int = 0  # so many notifications are refused first
    posted: list[Posted] = field(default_factory=list)
    challenges: list[str] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, posted: Posted) -> None:
        self.posted.append(posted)
        self._news.set()

    async def until(self, wanted: Callable[[Posted], bool]) -> Posted:
        """Wait for a notification, which must be valid like all that came before it."""
        try:
            async with asyncio.timeout(WITHIN):
                while True:
                    self._news.clear()
                    for found in self.posted:
                        if wanted(found):
                            self.check()
                            return found
                    await self._news.wait()
        except TimeoutError:
            came = [p.text for p in self.posted]
            raise NotToldError(f"not told within {WITHIN:g} s, but of {came}") from None

    async def about(self, made: dict[str, Any], operation: str = "CREATE") -> Posted:
        return await self.until(
            lambda p: p.object["id"] == made["id"] and p.notification["operation"] == operation
        )

    def ids(self) -> list[str]:
        return [p.object["id"] for p in self.posted]

    def check(self) -> None:
        for posted in self.posted:
            valid_notification(posted.notification)


def valid_notification(found: dict[str, Any]) -> None:
    schema.valid(found, "notification")
    schema.valid(found["object"], schema.KINDS[found["objectType"]])
    assert found["object"]["objectType"] == found["objectType"]


class Callbacks:
    """Serves all inboxes."""

    def __init__(self) -> None:
        self.url, self._inboxes = "", {}  # type: str, dict[str, Inbox]

    def inbox(self) -> Inbox:
        path = f"/notifications/{uuid4().hex}"
        return self._inboxes.setdefault(path, Inbox(self.url + path))

    async def _called(self, request: web.Request) -> web.Response:
        inbox = self._inboxes.get(request.path)
        if inbox is None:
            return web.Response(status=404)
        if request.method == "GET":
            challenge = request.query.get("echo", "")
            inbox.challenges.append(challenge)
            return web.Response(text=challenge if inbox.echoes else "hello")
        if inbox.faults:
            inbox.faults -= 1
            return web.Response(status=503)
        headers = {name.lower(): value for name, value in request.headers.items()}
        inbox.put(Posted(request.path, headers, await request.text()))
        return web.Response()

    @asynccontextmanager
    async def served(self) -> AsyncIterator["Callbacks"]:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self._called)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()
