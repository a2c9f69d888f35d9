"""Publishes notifications at an MQTT broker: QoS 1, in order, many on their way at once.

A row is settled when the broker has acknowledged it; what it has not is published again, with
the same bytes, after either of the two was away.
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any

import structlog

from bridge.broker import BrokerAddress
from bridge.clock import Clock
from bridge.errors import DeviceError
from bridge.model import Delivery, Ended
from bridge.notation import from_json
from bridge.parties import Notebook, View
from bridge.supervise import Job
from bridge.wire import openadr3_topics as topics

log = structlog.get_logger()

AT_ONCE = 200  # messages on their way
ANSWERS = 30.0  # seconds within which the broker acknowledges


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
                owed = await self._notebook.owed_to_broker(AT_ONCE)
                job.succeeded(self._clock.now())
                what = self._publish(client, owed) if owed else self._clock.wait(bell, None)
                await _unless(lost, what)
        finally:
            lost.cancel()
            await asyncio.gather(lost, return_exceptions=True)

    async def _publish(self, client: "aiomqtt.Client", owed: Sequence[Delivery]) -> None:  # type: ignore[name-defined] # noqa: F821
        """Publish rows, and settle each as it is acknowledged, whatever becomes of the others."""
        kept_back = await self._withheld(owed)
        ended = [Ended(d, *why) for d, why in kept_back.items()]
        current = [d for d in owed if d not in kept_back]

        async def publish(delivery: Delivery) -> None:
            await client.publish(delivery.type, delivery.body, qos=1)
            ended.append(Ended(delivery, "delivered", self._clock.now()))

        try:
            sent = await asyncio.gather(*map(publish, current), return_exceptions=True)
        finally:
            await asyncio.shield(self._notebook.settle(ended))
        for failure in sent:
            if isinstance(failure, BaseException):
                raise failure

    async def _withheld(
        self, owed: Sequence[Delivery]
    ) -> Mapping[Delivery, tuple[str, datetime, str]]:
        """Return what is not published, and why: its time is over, or its ven may not see it."""
        now, found = self._clock.now(), {}
        private = {d: topics.ven_of(d.type) for d in owed}
        vens = await self._notebook.vens() if any(private.values()) else {}
        for delivery, ven in private.items():
            if delivery.expires and delivery.expires <= now:
                found[delivery] = ("expired", now, "the broker was away for too long")
            elif ven and not _still_sees(vens.get(ven), delivery):
                found[delivery] = ("withheld", now, "it is not granted to the ven any more")
        return found


def _still_sees(view: View | None, delivery: Delivery) -> bool:
    """Whether a ven may still know of all that a notification is aimed at."""
    said = from_json(delivery.body)
    if said["objectType"] not in {"PROGRAM", "EVENT"}:
        return True  # it is of the ven itself
    aimed = said["object"].get("targets") or []
    return view is not None and len(view.shown(aimed)) == len(aimed)


async def _unless(lost: asyncio.Task[None], what: Coroutine[Any, Any, Any]) -> None:
    """Wait for something, unless the broker is lost: one that is gone acknowledges nothing."""
    task = asyncio.create_task(what)
    try:
        await asyncio.wait({task, lost}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            lost.result()
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _disconnection(client: "aiomqtt.Client") -> None:  # type: ignore[name-defined] # noqa: F821
    """Return, by an exception, when the connection is lost: an idle one would not be noticed."""
    async for _ in client.messages:
        pass
