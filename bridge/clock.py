"""The time, and waiting for it: the one way in which the bridge knows either.

Everything that acts on time is given a `Clock`, so that a test can let an hour pass
while its sockets stay real.
"""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol

# A timer is not trusted further ahead than this: the wall clock may be set meanwhile.
LONGEST_NAP = 30.0  # seconds


class Clock(Protocol):
    """Tells the time in aware UTC, and waits."""

    def now(self) -> datetime:
        """Return the present time."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""

    async def wait(self, bell: asyncio.Event, until: datetime | None) -> bool:
        """Return when the bell has rung, or at `until`; say whether it rang, and clear it."""


class WallClock:
    """The computer's clock."""

    def now(self) -> datetime:
        """Return the present time."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        await asyncio.sleep(seconds)

    async def wait(self, bell: asyncio.Event, until: datetime | None) -> bool:
        """Return when the bell has rung, at `until`, or early after a long nap.

        Callers look again at what is due, so that a clock that was set while they
        slept makes nobody late by more than `LONGEST_NAP`.
        """
        left = LONGEST_NAP if until is None else (until - self.now()).total_seconds()
        # Not wait_for: in Python 3.11 it loses a cancellation that comes with the bell.
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, min(left, LONGEST_NAP))):
                await bell.wait()
        rang = bell.is_set()
        bell.clear()
        return rang
