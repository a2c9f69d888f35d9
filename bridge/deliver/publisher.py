"""Publishes notifications at an MQTT broker: QoS 1, in order, many on their way at once.

A row is settled when the broker has acknowledged it; what it has not is published again, with
the same bytes, after either of the two was away.
"""

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

import structlog

from bridge.clock import Clock
from bridge.errors import DeviceError
from bridge.interfaces import Notebook
from bridge.model import Delivery, Ended
from bridge.supervise import Job

log = structlog.get_logger()

AT_ONCE = 200  # messages on their way
PORTS = {"mqtt": 1883, "mqtts": 8883}
ANSWERS = 30.0  # seconds within which the broker acknowledges


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the broker is, and who the bridge is there."""

    url: str
    username: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None

    @property
    def host(self) -> str:
        """Return the broker's host."""
        return urlsplit(self.url).hostname or "127.0.0.1"

    @property
    def port(self) -> int:
        """Return the broker's port."""
        parts = urlsplit(self.url)
        return parts.port or PORTS[parts.scheme]


class Publisher:
    """The one job that speaks to the broker."""

    def __init__(self, notebook: Notebook, broker: BrokerAddress, clock: Clock, name: str) -> None:
        self._notebook, self._broker, self._clock = notebook, broker, clock
        self._name = name

    async def run(self, job: Job) -> None:
        """Publish what is owed until cancelled; raise DeviceError when the broker fails."""
        import aiomqtt  # noqa: PLC0415 -- loaded only where a broker is configured

        client = aiomqtt.Client(
            self._broker.host,
            self._broker.port,
            username=self._broker.username,
            password=self._broker.password,
            identifier=self._name,
            tls_context=self._broker.tls,
            timeout=ANSWERS,
            max_queued_outgoing_messages=0,
            max_inflight_messages=AT_ONCE,
        )
        try:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(client)
                log.info("publishing at the broker", url=self._broker.url)
                await self._publish_all(client, job)
        except aiomqtt.MqttError as error:
            raise DeviceError(f"the MQTT broker {self._broker.url}: {error}") from error

    async def _publish_all(self, client: "aiomqtt.Client", job: Job) -> None:  # type: ignore[name-defined] # noqa: F821
        bell = self._notebook.bell("publisher")
        lost = asyncio.create_task(_disconnection(client))
        try:
            while True:
                owed = await self._notebook.owed_to_broker(0, AT_ONCE)
                if owed:
                    await self._publish(client, owed)
                job.succeeded(self._clock.now())
                if not owed:
                    waiting = asyncio.create_task(self._clock.wait(bell, None))
                    await asyncio.wait({waiting, lost}, return_when=asyncio.FIRST_COMPLETED)
                    waiting.cancel()
                if lost.done():
                    lost.result()
        finally:
            lost.cancel()

    async def _publish(self, client: "aiomqtt.Client", owed: Sequence[Delivery]) -> None:  # type: ignore[name-defined] # noqa: F821
        now = self._clock.now()
        late = [d for d in owed if d.expires and d.expires <= now]
        ended = [Ended(d, "expired", now, "the broker was away for too long") for d in late]
        current = [d for d in owed if not (d.expires and d.expires <= now)]
        sent = await asyncio.gather(
            *(client.publish(d.type, d.body, qos=1) for d in current), return_exceptions=True
        )
        failures = [error for error in sent if isinstance(error, BaseException)]
        ended += [
            _delivered(d, self._clock.now())
            for d, error in zip(current, sent, strict=True)
            if not isinstance(error, BaseException)
        ]
        await self._notebook.settle(ended)
        if failures:
            raise failures[0]


def _delivered(delivery: Delivery, at: datetime) -> Ended:
    return Ended(delivery, "delivered", at)


async def _disconnection(client: "aiomqtt.Client") -> None:  # type: ignore[name-defined] # noqa: F821
    """Return, by an exception, when the connection is lost: an idle one would not be noticed."""
    async for _ in client.messages:
        pass
