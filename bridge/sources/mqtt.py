"""Readings that meters publish at an MQTT broker: acknowledged once they are kept.

The session outlives the bridge, so that the broker holds what is published meanwhile. A message
is what `POST /api/v1/readings` takes: JSON of meter, start, end, value and unit.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

import structlog
from pydantic import Field

from bridge.broker import AtBroker
from bridge.errors import SourceError, WireError
from bridge.interfaces import Batch, Surroundings
from bridge.sources.asking import QuietSource
from bridge.usage import Measured, Origin
from bridge.wire import posted

log = structlog.get_logger()

ANSWERS = 30.0  # seconds within which the broker acknowledges
QOS = 1
AT_ONCE = 500  # messages in one transaction
LARGEST = 1024 * 1024  # bytes of a message
EVER = datetime(1970, 1, 1, tzinfo=UTC)


class Mqtt(AtBroker, QuietSource):
    """A broker, and the topics under which meters publish."""

    kind: Literal["mqtt"]
    topics: tuple[str, ...] = Field(min_length=1)

    async def batches(self, around: Surroundings) -> AsyncGenerator[Batch, None]:
        """Yield what meters publish; raise SourceError when the broker fails."""
        import aiomqtt  # noqa: PLC0415 -- loaded only where a broker is configured

        broker = self.broker
        client = aiomqtt.Client(
            broker.host, broker.port, username=broker.username, password=broker.password,
            identifier=f"openadr-bridge-{self.name}", clean_session=False,
            tls_context=broker.tls, timeout=ANSWERS,
        )  # fmt: skip
        # aiomqtt acknowledges what it hands over; we do once it is kept.
        client._client.manual_ack_set(True)
        try:
            async with client:
                for topic in self.topics:
                    await client.subscribe(topic, qos=QOS)
                around.succeeded(around.clock.now())
                async with aclosing(self._said(client, around)) as batches:
                    async for batch in batches:
                        yield batch
        except aiomqtt.MqttError as error:
            raise SourceError(f"the MQTT broker {self.url}: {error}") from error

    async def _said(self, client: Any, around: Surroundings) -> AsyncGenerator[Batch, None]:
        async for first in client.messages:
            messages = [first]
            while len(client.messages) and len(messages) < AT_ONCE:
                messages.append(await anext(client.messages))
            around.warn(None)
            found = [
                one for message in messages
                for one in await asyncio.to_thread(self._read, message, around)
            ]  # fmt: skip
            yield Batch(measured=found, accepted=partial(self._acknowledge, client, messages))
            now = around.clock.now()
            around.succeeded(now)
            await around.memory.heard_from(self.name, now)

    def _read(self, message: Any, around: Surroundings) -> list[Measured]:
        """Return a message's readings; one that holds none is told, and not asked for again."""
        try:
            if len(message.payload) > LARGEST:
                raise WireError(f"is larger than {LARGEST} bytes")
            rows = posted.read_json(message.payload)
            found = list(posted.measured(rows, Origin("mqtt", self.name), str))
            # A retained one is from whenever: it holds where nothing else is known.
            return [replace(one, said=EVER) for one in found] if message.retain else found
        except WireError as error:
            log.warning(
                "a message is no reading", source=self.name, topic=str(message.topic),
                problem=str(error),
            )  # fmt: skip
            around.warn(f"{message.topic}: {error}")
            return []

    async def _acknowledge(self, client: Any, messages: Sequence[Any]) -> None:
        for message in messages:
            client._client.ack(message.mid, message.qos)
