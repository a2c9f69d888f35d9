"""Keeps the sums of local dates, and makes hours of old readings, bit by bit."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from bridge.clock import Clock
from bridge.supervise import Job

OFTEN = timedelta(minutes=10)
BREATH = 0.05  # seconds that others have between two bits

# Does a bit of what is due at a time; returns whether there is more.
Step = Callable[[datetime], Awaitable[bool]]


class Upkeep:
    """Does what can wait, and never much at once."""

    def __init__(
        self, refresh: Step, compact: Step, keep_native: timedelta | None, clock: Clock
    ) -> None:
        self._refresh, self._compact = refresh, compact
        self._keep_native, self._clock = keep_native, clock

    async def run(self, job: Job) -> None:
        """Look every now and then until cancelled."""
        while True:
            now = self._clock.now()
            while await self._refresh(now):
                await self._clock.sleep(BREATH)
            if self._keep_native:
                while await self._compact(now - self._keep_native):
                    await self._clock.sleep(BREATH)
            job.succeeded(now)
            await self._clock.sleep(OFTEN.total_seconds())
