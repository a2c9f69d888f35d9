"""OpenADR 3 clients that subscribed: told by POST of a notification, with their bearer token."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import ClientTimeout

from bridge.devices.posting import post
from bridge.errors import Refused
from bridge.interfaces import DeviceSurroundings, Send
from bridge.model import Delivery
from bridge.notation import from_json
from bridge.outbound import Policy
from bridge.parties import SUBSCRIPTION, Notebook
from bridge.wire import webhook

TIMEOUT = ClientTimeout(total=10)  # Definition, Security, Webhooks: between 10 and 30 seconds


class Subscribers:
    """Posts each notification to its subscription's callback URL."""

    prefix = SUBSCRIPTION

    def __init__(self, notebook: Notebook, policy: Policy) -> None:
        self._notebook, self._policy = notebook, policy

    @asynccontextmanager
    async def connect(self, around: DeviceSurroundings) -> AsyncIterator[Send]:
        """Return what posts a notification; each call is one attempt."""
        async with self._policy.session() as http:

            async def send(delivery: Delivery) -> None:
                now = around.clock.now()
                callback = await self._notebook.callback(delivery, now)
                if callback is None:
                    raise Refused("there is no such subscription any more")
                url, token, seen = callback
                aimed = from_json(delivery.body)["object"].get("targets") or []
                if delivery.type in {"PROGRAM", "EVENT"} and len(seen.shown(aimed)) < len(aimed):
                    raise Refused("what it is aimed at is not granted to the subscriber any more")
                headers = {
                    "content-type": "application/json",
                    **webhook.headers(delivery.id, now, delivery.body, None),
                    **({"authorization": f"Bearer {token}"} if token else {}),
                }
                await post(http, url, delivery.body, headers, TIMEOUT, now)

            yield send
