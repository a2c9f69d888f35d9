"""Runs a source of usage on a real store, and remembers what it said."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from bridge.ingest import ingest
from bridge.notation import from_millis
from bridge.store import open_store
from bridge.supervise import Health, keep_running, stop

SECOND = timedelta(seconds=1)
NOON = datetime(2026, 7, 1, 19, tzinfo=UTC)


class Scene:
    """A source that runs as in the bridge: its batches are kept, then it goes on."""

    def __init__(self, store, clock):
        self.store, self.clock, self.health = store, clock, Health()
        self.readings = {}  # stream → {start: (end, value, quality, cost)}
        self.origins, self.said = set(), []
        self.states, self.contracts, self.batches = {}, {}, []
        self.job = self.health.job("source")

    async def save(self, source, batch, at):
        """Keep a batch as the store does, and what it says."""
        self.batches.append(batch)
        for measured in batch.measured:
            known = self.readings.setdefault(measured.stream, {})
            for r in measured.readings:
                value = Decimal(r.value).scaleb(r.exponent)
                end = from_millis(r.start + r.length)
                known[from_millis(r.start)] = (end, value, r.quality, r.cost)
            self.origins.add(measured.origin)
            self.said.append(measured.said)
        self.states.update((state.meter, state) for state in batch.meters)
        self.contracts.update((contract.id, contract) for contract in batch.contracts)
        return await self.store.events.save(source, batch, at)

    @asynccontextmanager
    async def running(self, source):
        async def work():
            store = self.store
            await ingest(source, self, store.sources, store.prices, self.clock, self.job)

        await self.store.sources.sync([source.name], self.clock.now())
        task = asyncio.create_task(keep_running("source", work, self.health, self.clock))
        try:
            yield self
        finally:
            await stop(task)
            # Who was stopped does not wait any more, though the clock remembers it.
            self.clock._naps.clear()
            self.clock._sleepers.clear()

    async def idle(self):
        """Return once the source waits for time to pass."""
        for n in range(10_000):
            if waits(self.clock):
                return
            await asyncio.sleep(0 if n < 100 else 0.001)
        raise AssertionError(f"it does not come to rest: {self.job}")

    async def passing(self, length):
        """Let time pass from one thing that is due to the next."""
        until = self.clock.now() + length
        await self.idle()
        while self.clock.now() < until:
            self.clock.set(min(next_due(self.clock), until))
            await self.idle()

    async def until(self, condition, within=timedelta(hours=1)):
        """Let time pass until something is so."""
        end = self.clock.now() + within
        await self.idle()
        while not condition():
            assert self.clock.now() < end, self.job
            self.clock.set(min(next_due(self.clock), end))
            await self.idle()

    def values(self, stream):
        """Return what was measured, in order."""
        known = self.readings.get(stream, {})
        return [(start, known[start][1]) for start in sorted(known)]

    def state(self, meter):
        return self.states[meter].state


def waits(clock):
    """Whether somebody waits for the clock."""
    return bool(clock._naps or clock._sleepers)


def next_due(clock):
    """Return when the clock wakes somebody next."""
    due = [clock._sleepers[0][0]] if clock._sleepers else []
    due += [clock.now() + clock._naps[0][0] - clock._passed] if clock._naps else []
    return min(due)


@asynccontextmanager
async def scene_of(path, clock):
    async with open_store(path) as store:
        yield Scene(store, clock)
