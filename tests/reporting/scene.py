"""A bridge that tells a raw VTN, over TLS, what meters measure, at a time of the test's choosing."""

import ssl
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from bridge.app import running
from bridge.certificates import server_context
from bridge.config import Settings
from tests.peers import SimClock, eventually
from tests.reporting import measured
from tests.reporting.upstream import Utility

NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)
MINUTE, QUARTER, HOUR = timedelta(minutes=1), timedelta(minutes=15), timedelta(hours=1)
POLL = 5 * MINUTE
USAGE = {"resource": "R", "meter": "M"}
STATUS = {"resource": "R", "meter": "M", "kind": "status"}


def edges(start, count, step=QUARTER):
    """Return the starts of intervals that follow each other."""
    return [start + n * step for n in range(count)]


def all_of(starts, value):
    """Return what `Utility.values` does where the same was told of each start, once."""
    return {start: [value] for start in starts}


def mutual(folder):
    context = server_context([folder / "vtn.crt"], [folder / "vtn.key"])
    context.load_verify_locations(folder / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


class Clock(SimClock):
    """Knows who waits for it, and until when."""

    def __init__(self, start):
        super().__init__(start)
        self.waiting = {}

    async def wait(self, bell, until):
        self.waiting[id(bell)] = until
        try:
            return await super().wait(bell, until)
        finally:
            self.waiting.pop(id(bell), None)


class Scene:
    """A utility, and a bridge that is started and stopped within its life."""

    def __init__(self, folder, certs, poll="PT5M"):
        self.folder, self.certs = folder, certs / "ec"
        self.vtn, self.clock = Utility(), Clock(NOON)
        self.vtn.poll = poll
        self.more = {}  # settings of the source

    async def open(self):
        await self.vtn.start(mutual(self.certs))

    async def back(self):
        """Let the VTN be there again."""
        await self.vtn.start(mutual(self.certs))

    @asynccontextmanager
    async def bridge(self, *reports):
        """Run a bridge with these reports."""
        source = {
            "kind": "openadr2", "ven_name": "bridge", "name": "utility", "vtn_url": self.vtn.url,
            "cert": self.certs / "ven.crt", "key": self.certs / "ven.key",
            "ca": self.certs / "ca.crt", "reports": list(reports), **self.more,
        }  # fmt: skip
        made = Settings.model_validate(
            {
                "store": {"path": self.folder / "bridge.db"},
                "vtn": {"listen": "127.0.0.1:0"},
                "admin": {"listen": "127.0.0.1:0"},
                "sources": [source],
            }
        )
        async with running(made, self.clock) as self.found:
            await self.settled()
            yield self

    @property
    def store(self):
        return self.found.store

    @property
    def job(self):
        return self.found.health.job("source:utility")

    def _idle(self):
        bell, now = self.store.sources.bell("source utility"), self.clock.now()
        if not self.job.running and self.job.next_attempt:
            return self.job.next_attempt > now
        until = self.clock.waiting.get(id(bell))
        return until is not None and until > now and not bell.is_set()

    async def settled(self):
        """Return when the source has done all that there is to do at this time."""
        await eventually(self._idle)

    async def passing(self, length, step=POLL):
        """Let time pass, and all that follows from it."""
        while length > timedelta(0):
            self.clock.pass_time(min(step, length))
            length -= step
            await self.settled()

    async def until(self, condition, step=POLL, most=200):
        """Let time pass until something is so."""
        for _ in range(most):
            if condition():
                return
            await self.passing(step, step)
        assert condition(), (self.job, [k for k, _ in self.vtn.asked][-20:])

    async def measure(self, start, values, meter="M", step=QUARTER, **about):
        """Let a meter measure, and the bridge keep it."""
        await measured.keep(self.store, meter, start, step, values, self.clock.now(), **about)

    async def live(self, values, meter="M", step=QUARTER, **about):
        """Let time pass while a meter measures, and says so as soon as it has."""
        for value in values:
            start = self.clock.now()
            self.clock.pass_time(step - MINUTE)
            await self.settled()
            if value is not None:
                await self.measure(start, [value], meter, step, **about)
            await self.passing(MINUTE)
