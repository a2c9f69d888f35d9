"""Keeps jobs running: starts one again after a failure and remembers what each last said."""

import asyncio
import os
import random
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from bridge.clock import Clock
from bridge.errors import DeviceError, SourceError, StoreError

log = structlog.get_logger()

SHORTEST_WAIT, LONGEST_WAIT = 1.0, 300.0  # seconds
MOST_WARNED = 100  # things that are remembered, so that each is logged once


@dataclass
class Job:
    """What one job last said."""

    name: str
    running: bool = False
    problem: str | None = None
    failing_since: datetime | None = None
    next_attempt: datetime | None = None
    last_success: datetime | None = None
    failures: int = 0
    warning: str | None = None  # what is not well though the job runs
    _warned: set[str] = field(default_factory=set)  # of what, since all was well

    @property
    def well(self) -> bool:
        """Whether there is nothing to complain of."""
        return self.problem is None and self.warning is None

    def warn(self, warning: str | None) -> None:
        """Note what is not well though the job runs, or that it is well again.

        Of several things, said with "; " between them, each is logged once until all is well.
        """
        things = set(warning.split("; ")) if warning else set()
        if things - self._warned:
            log.warning("job is not well", job=self.name, warning=warning)
        if len(self._warned) > MOST_WARNED:
            self._warned = set()
        self._warned = self._warned | things if things else set()
        self.warning = warning

    def succeeded(self, at: datetime) -> None:
        """Note that the job did what it is for."""
        self.last_success = at
        self.problem = self.failing_since = self.next_attempt = None
        self.failures = 0


@dataclass
class Health:
    """What every job last said, for /readyz and the admin page."""

    jobs: dict[str, Job] = field(default_factory=dict)
    broken: asyncio.Event = field(default_factory=asyncio.Event)

    def job(self, name: str) -> Job:
        """Return what a job last said."""
        return self.jobs.setdefault(name, Job(name))


def back_off(failures: int, longest: float = LONGEST_WAIT) -> float:
    """Return how many seconds to wait after so many failures in a row: doubling, with jitter."""
    wait = min(SHORTEST_WAIT * 2.0 ** min(failures - 1, 30), longest)
    return wait * random.uniform(0.75, 1.0)  # noqa: S311 -- spreads load, keeps no secret


async def keep_running(
    name: str, work: Callable[[], Awaitable[None]], health: Health, clock: Clock
) -> None:
    """Run `work` until cancelled, waiting longer after each failure in a row.

    A StoreError is not survived: what cannot be kept must not be acted on, so it is left
    to whoever watches `health.broken` to stop the program.
    """
    job = health.job(name)
    while True:
        asked = 0.0  # seconds to be left alone
        job.running = True
        try:
            await work()
            problem = "stopped by itself"
        except StoreError as error:
            job.problem = str(error)
            log.critical("store failed", job=name, problem=str(error))
            health.broken.set()
            return
        except (SourceError, DeviceError) as error:
            problem, asked = str(error), error.retry_after
        except Exception as error:  # one bad job must not stop the rest
            problem = f"{type(error).__name__}: {error}"
            log.exception("job failed", job=name)
        finally:
            job.running = False
        job.failures += 1
        now, wait = clock.now(), max(back_off(job.failures), asked)
        job.failing_since = job.failing_since or now
        job.next_attempt = now + timedelta(seconds=wait)
        if job.problem != problem:  # one warning and not a thousand
            log.warning("job failed", job=name, problem=problem, next_attempt=job.next_attempt)
        job.problem = problem
        await clock.sleep(wait)


async def stop(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it has cleaned up."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def notify(text: str) -> None:
    """Tell systemd, where it asked to be told (sd_notify)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        name = "\0" + address[1:] if address.startswith("@") else address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, suppress(OSError):
            channel.sendto(text.encode(), name)


async def watchdog(scheduler: Job) -> None:
    """Tell systemd's watchdog that all is well, for as long as the scheduler makes its passes."""
    period = int(os.environ.get("WATCHDOG_USEC") or 0) / 1e6
    seen: datetime | None = None
    while period:
        if scheduler.last_success != seen:
            seen = scheduler.last_success
            notify("WATCHDOG=1")
        await asyncio.sleep(period / 3)
