"""An MQTT client that is told by the VTN where to connect and what to listen to."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conformance.callback import WITHIN, NotToldError, valid_notification
from tests.conformance.vtn import Client

TOPICS = "/notifiers/mqtt/topics"


async def topics(client: Client, path: str) -> dict[str, str]:
    """Return the topics of a path, skipping where there are none to be had."""
    if "MQTT" not in (await client.get("/notifiers")).json:
        pytest.skip("no MQTT")
    answer = await client.get(f"{TOPICS}/{path}")
    if answer.status in {403, 404} and not client.vtn.profile.private_topics:
        pytest.skip("no topics of BL or of single VENs")
    assert answer.status == 200, answer.text
    found: dict[str, str] = answer.json["topics"]
    return found


async def broker(client: Client) -> dict[str, Any]:
    """Return how a client is told to connect, in aiomqtt's words."""
    told = (await client.get("/notifiers")).json.get("MQTT")
    if not told:
        pytest.skip("no MQTT")
    at, auth = urlsplit(told["URIS"][0]), told["authentication"]
    if auth["method"] == "CERTIFICATE":
        pytest.skip("the kit does not connect with certificates")
    secure = at.scheme in {"mqtts", "ssl", "tls"}
    found: dict[str, Any] = {"hostname": at.hostname, "port": at.port or (8883 if secure else 1883)}
    if secure:
        found["tls_context"] = client.vtn.tls
    if auth["method"] == "OAUTH2_BEARER_TOKEN":
        found["username"] = auth["username"].replace("{clientID}", client.client_id)
        found["password"] = auth.get("password") or client.token
    return found


class Ear:
    """What was heard on some topics."""

    def __init__(self, client: Any):
        self._client, self._queue = client, asyncio.Queue[dict[str, Any]]()
        self.heard: list[dict[str, Any]] = []

    async def subscribe(self, topic: str) -> None:
        await self._client.subscribe(topic, qos=1)

    async def listen(self) -> None:
        async for message in self._client.messages:
            if not message.retain and message.payload:
                self._queue.put_nowait(json.loads(message.payload))

    async def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(WITHIN):
                while True:
                    said = await self._queue.get()
                    valid_notification(said)
                    self.heard.append(said)
                    if wanted(said):
                        return said
        except TimeoutError:
            raise NotToldError(f"not told within {WITHIN:g} s, but of {self.heard}") from None

    async def about(self, made: dict[str, Any], operation: str) -> dict[str, Any]:
        return await self.until(
            lambda said: said["object"]["id"] == made["id"] and said["operation"] == operation
        )


@asynccontextmanager
async def listening(client: Client, *wanted: str, **connect: Any) -> AsyncIterator[Ear]:
    """Listen to topics, as a client of the VTN that may be told other credentials."""
    aiomqtt = pytest.importorskip("aiomqtt")
    settings = {**await broker(client), **connect}
    async with aiomqtt.Client(**settings) as connected:
        ear = Ear(connected)
        for topic in wanted:
            await ear.subscribe(topic)
        task = asyncio.ensure_future(ear.listen())
        try:
            yield ear
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
