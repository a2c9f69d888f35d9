"""Clock to moments: writes each due moment as a change, with the mark that it fired."""

import asyncio
from collections.abc import Collection
from datetime import datetime, timedelta

import structlog

from bridge import timeline
from bridge.clock import Clock
from bridge.interfaces import SilenceNotes, Timetable
from bridge.model import OptType
from bridge.supervise import Job

log = structlog.get_logger()

TICK = timedelta(seconds=10)  # silences are noticed this fast
TOLERANCE = timedelta(seconds=2)  # how far the clock may step back without holding moments
PAUSE = timedelta(seconds=0.1)
SETTLE = 0.005  # seconds in which what was just saved is told before it is looked at here
PRUNE_EVERY = timedelta(hours=1)


class Scheduler:
    """Fires moments as the clock reaches them, and holds them while the clock is wrong."""

    def __init__(
        self,
        timetable: Timetable,
        silences: SilenceNotes,
        clock: Clock,
        leads: Collection[timedelta],
        limits: Collection[timedelta],
        opt_defaults: dict[str, OptType],
    ) -> None:
        self._timetable, self._silences, self._clock = timetable, silences, clock
        self._leads, self._limits, self._opt_defaults = set(leads), set(limits), opt_defaults
        self._newest: datetime | None = None
        self._pruned: datetime | None = None
        self.held_since: datetime | None = None
        self.clock_is_right = False  # until the first look at it

    async def run(self, job: Job) -> None:
        """Fire what is due, again and again, until cancelled."""
        bell = self._timetable.bell("scheduler")
        self._newest = max(
            filter(None, (self._newest, await self._timetable.newest())), default=None
        )
        await self._timetable.recheck(self._clock.now())
        while True:
            now = self._clock.now()
            if self._clock_is_behind(now):
                job.succeeded(now)
                await self._clock.wait(bell, now + TICK)
                continue
            await self.pass_once(now)
            job.succeeded(now)
            due = await self._timetable.next_due() or now + TICK
            if due <= now:  # what could not be marked is no reason to run hot
                due = now + PAUSE
            if await self._clock.wait(bell, min(due, now + TICK)):
                await asyncio.sleep(SETTLE)

    async def pass_once(self, now: datetime) -> None:
        """Fire everything that is due at `now`."""
        while tracks := await self._timetable.due(now):
            firings = [(track, timeline.fire(track, now, self._leads)) for track in tracks]
            if not await self._timetable.fired(firings, now):
                break  # all were changed meanwhile: they come again in the next pass
        await self._timetable.bring_nearer(now)
        await self._timetable.expire_opts(now, self._opt_defaults)
        await self._silences.note_silences(now, self._limits)
        if self._pruned is None or now - self._pruned > PRUNE_EVERY:
            # A piece in each pass, so that no moment waits for it.
            self._pruned = None if await self._timetable.prune(now) else now

    def _clock_is_behind(self, now: datetime) -> bool:
        """Whether the clock is behind the newest row: no real-time clock, or a step back."""
        # Rows written since the start carry this clock's time, so its highest will do.
        self._newest = max(now, self._newest) if self._newest else now
        behind = now < self._newest - TOLERANCE
        if behind and self.held_since is None:
            log.warning("the clock is behind what is stored; moments are held", newest=self._newest)
        self.held_since = (self.held_since or now) if behind else None
        if self.clock_is_right == behind:
            self.clock_is_right = not behind
            self._timetable.bell("fan-out").set()
        return behind
