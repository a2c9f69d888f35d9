"""Sends what is owed: one delivery in flight for each device, in order, all devices at once."""

import asyncio
from collections import deque
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from bridge.deliver.bodies import STATE
from bridge.errors import DeviceError, Gone, Refused
from bridge.interfaces import Crowd, Device, DeviceSurroundings, Outbox, Send
from bridge.model import Delivery, Ended
from bridge.notation import LONGEST_RETRY_AFTER
from bridge.supervise import Job, back_off, stop

log = structlog.get_logger()

# A wait that seems longer was begun before the clock was set back.
LONGEST_WAIT = timedelta(seconds=LONGEST_RETRY_AFTER)
URGENT = {"event.started", "event.cancelled"}  # these end a wait


@dataclass
class Lane:
    """One device's queue, and the task that works on it while there is something in it."""

    send: Send
    queue: deque[Delivery] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    sending: bool = False
    failures: int = 0
    not_before: datetime | None = None  # set after a failure


class Workers:
    """Works on the rows of the outbox until each is settled."""

    def __init__(
        self,
        outbox: Outbox,
        devices: Collection[Device],
        around: DeviceSurroundings,
        crowds: Collection[Crowd] = (),
    ) -> None:
        self._outbox, self._around, self._clock = outbox, around, around.clock
        self._devices, self._crowds = devices, crowds
        self._sends: dict[str, Send] = {}  # by what the names of a crowd begin with
        self._lanes: dict[str, Lane] = {}
        self._ended: list[Ended] = []
        self._problem: BaseException | None = None

    @property
    def failing(self) -> Mapping[str, int]:
        """Return failures in a row by device."""
        return {name: lane.failures for name, lane in self._lanes.items() if lane.failures}

    async def run(self, job: Job) -> None:
        """Send what is owed until cancelled."""
        self._problem = None
        async with AsyncExitStack() as stack:
            for device in self._devices:
                send = await stack.enter_async_context(device.connect(self._around))
                self._lanes[device.receiver.name] = Lane(send)
            for crowd in self._crowds:
                self._sends[crowd.prefix] = await stack.enter_async_context(
                    crowd.connect(self._around)
                )
            stack.push_async_callback(self._note_ended)
            stack.push_async_callback(self._stop)
            noting = asyncio.create_task(self._keep_noting())
            noting.add_done_callback(self._watch)
            stack.push_async_callback(stop, noting)
            await self._follow(job)

    async def _follow(self, job: Job) -> None:
        bell, last = self._outbox.bell("workers"), 0
        while True:
            if self._problem:
                raise self._problem
            for delivery in await self._outbox.owed(last):
                last = delivery.turn
                self._queue(delivery)
            job.succeeded(self._clock.now())
            await self._clock.wait(bell, None)

    async def _stop(self) -> None:
        tasks = [lane.task for lane in self._lanes.values() if lane.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._lanes.clear()

    async def _keep_noting(self) -> None:
        """Write outcomes as they come; those that come while one is written go together."""
        bell = self._outbox.bell("noting")
        while True:
            await self._note_ended()
            await bell.wait()
            bell.clear()

    async def _note_ended(self) -> None:
        while self._ended:
            ended, self._ended = self._ended, []
            await self._outbox.settle(ended)

    def _queue(self, delivery: Delivery) -> None:
        lane = self._lane(delivery.device)
        if lane is None:
            return
        if delivery.type == STATE:
            _drop_states(lane)
        lane.queue.append(delivery)
        if delivery.attempts and len(lane.queue) == 1:
            lane.not_before = delivery.due  # it was put off before a restart
        if delivery.type in URGENT:
            lane.failures, lane.not_before = 0, None
            lane.wake.set()
        if lane.task is None or lane.task.done():
            lane.task = asyncio.create_task(self._work(delivery.device, lane))
            lane.task.add_done_callback(self._watch)

    def _lane(self, name: str) -> Lane | None:
        """Return a device's lane; one of a crowd has one for as long as it is owed something."""
        if name not in self._lanes:
            for prefix, send in self._sends.items():
                if name.startswith(prefix):
                    self._lanes[name] = Lane(send)
        return self._lanes.get(name)

    def _watch(self, task: asyncio.Task[None]) -> None:
        # What a lane does not expect (a store that fails) is the whole job's to report.
        if not task.cancelled() and (problem := task.exception()):
            self._problem = problem
            self._outbox.bell("workers").set()

    async def _work(self, name: str, lane: Lane) -> None:
        while lane.queue:
            delivery, now = lane.queue[0], self._clock.now()
            if delivery.expires and delivery.expires <= now:
                self._settle(lane, delivery, "expired", delivery.problem or "its time was over")
            elif lane.not_before and now < lane.not_before <= now + LONGEST_WAIT:
                await self._clock.wait(lane.wake, lane.not_before)
            else:
                await self._attempt(name, lane, replace(delivery, attempts=delivery.attempts + 1))
        if lane.send in self._sends.values():
            del self._lanes[name]

    async def _attempt(self, name: str, lane: Lane, delivery: Delivery) -> None:
        lane.sending = True
        try:
            await lane.send(delivery)
        except Gone as error:
            log.warning("device is gone; it is sent nothing more", device=name, problem=str(error))
            lane.queue.clear()
            await self._outbox.disable_device(name, str(error), self._clock.now())
        except Refused as error:
            log.warning("delivery given up", device=name, delivery=delivery.id, problem=str(error))
            self._settle(lane, delivery, "given_up", str(error))
        except DeviceError as error:
            await self._postpone(name, lane, delivery, error)
        except Exception as error:  # whatever one device does, it stops no other
            log.exception("delivery failed in an unexpected way", device=name)
            await self._postpone(
                name, lane, delivery, DeviceError(f"{type(error).__name__}: {error}")
            )
        else:
            if lane.failures:
                log.info("device is back", device=name)
            lane.failures, lane.not_before = 0, None
            self._settle(lane, delivery, "delivered", None)
        finally:
            lane.sending = False

    def _settle(self, lane: Lane, delivery: Delivery, outcome: str, problem: str | None) -> None:
        if lane.queue and lane.queue[0].id == delivery.id:
            lane.queue.popleft()
        self._ended.append(Ended(delivery, outcome, self._clock.now(), problem))
        self._outbox.bell("noting").set()

    async def _postpone(
        self, name: str, lane: Lane, delivery: Delivery, error: DeviceError
    ) -> None:
        lane.failures += 1
        wait = max(back_off(lane.failures), error.retry_after)
        due = self._clock.now() + timedelta(seconds=wait)
        if lane.failures == 1:  # one warning and not a thousand
            log.warning("device failed; trying again", device=name, problem=str(error), due=due)
        lane.not_before = due
        lane.queue[0] = replace(delivery, problem=str(error), due=due)
        await self._outbox.postpone(lane.queue[0], str(error), due)
        if delivery.type == STATE and any(d.type == STATE for d in list(lane.queue)[1:]):
            lane.queue.popleft()  # a newer one came while it was being sent


def _drop_states(lane: Lane) -> None:
    """Take out states that a newer one supersedes; one that is being sent stays."""
    head = [lane.queue[0]] if lane.sending and lane.queue else []
    waiting = list(lane.queue)[len(head) :]
    lane.queue = deque([*head, *(d for d in waiting if d.type != STATE)])
