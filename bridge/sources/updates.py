"""What of a report is due, and is known or was waited for long enough: the next update of it."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count, groupby
from uuid import uuid4

from bridge.reporting import (
    LONGEST,
    TELEMETRY_STATUS,
    Cell,
    Offer,
    ReportMemory,
    Resource,
    Running,
    Spot,
    Update,
)
from bridge.wire.openadr2_telemetry import write_update

MOST_CELLS, MOST_STATES = 500, 100  # in one update
QUICKLY = 100  # cells that are written without keeping others waiting
WITHOUT_GAPS = timedelta(hours=1)  # that a VTN is told none, after it would not have them
RARELY = timedelta(minutes=5)  # is looked for what was told as a gap, and there may be much of
# How long what is known waits for the rest of what is due, and how often that is looked for
SHORTEST_WAIT, LONGEST_WAIT = timedelta(seconds=1), timedelta(minutes=1)
Away = Sequence[tuple[datetime, datetime]]


@dataclass(slots=True)
class _Found:
    """What of a report can be told now."""

    cells: list[Cell] = field(default_factory=list)
    reach: dict[str, datetime] = field(default_factory=dict)
    held: list[Spot] = field(default_factory=list)  # what lacks between what is known
    missing: list[datetime] = field(default_factory=list)  # until when what lacks is waited for


class Updates:
    """Makes the updates of one upstream's reports."""

    def __init__(self, offer: Offer, memory: ReportMemory) -> None:
        self._offer, self._memory = offer, memory
        self._told: dict[int, datetime] = {}  # report → when an update was taken last
        self._turns: dict[int, int] = {}
        self._count = count(1)
        # report → up to when it was due, and when it was, as gaps were looked at last
        self._looked: dict[int, tuple[datetime, datetime]] = {}
        self._missing: dict[int, datetime] = {}  # report → when it is to be looked at again
        self._without_gaps: dict[int, datetime] = {}  # report → until when

    def in_turn(self, running: Sequence[Running]) -> list[Running]:
        """Return the reports there are, that first which had no turn for longest."""
        keys = {r.key for r in running}
        for noted in (self._told, self._turns, self._looked, self._missing, self._without_gaps):
            for gone in noted.keys() - keys:
                del noted[gone]
        return sorted(running, key=lambda r: self._turns.get(r.key, 0))

    async def next(self, running: Running, away: Away, ven_id: str, now: datetime) -> Update | None:
        """Return the next update of a report, or None where there is nothing to tell yet."""
        self._missing.pop(running.key, None)
        to = running.plan.told_to(now)
        found = await self._due(running, to, away, now)
        if not self._is_enough(running, found, to, now):
            found = await self._late(running, to, now)
        if found.cells or found.reach:
            return await self._written(running, found, ven_id, now)
        return None

    def due(self, running: Running, now: datetime) -> Iterator[datetime]:
        """Yield when there may be more to tell, after `next` found nothing."""
        due = running.plan.next_due(now)
        if due:
            yield due
        if running.key in self._missing:
            yield self._missing[running.key]

    def was_told(self, running: Running, at: datetime) -> None:
        """Note that an update was taken."""
        self._told[running.key] = at
        self.had_turn(running)

    def had_turn(self, running: Running) -> None:
        """Note that the turn is another report's."""
        self._turns[running.key] = next(self._count)

    def leave_gaps_out(self, running: Running, now: datetime) -> None:
        """Tell for a while only what is known of a report: some VTNs choke on a value that is none.

        What is left out is told later, or once it is known.
        """
        self._without_gaps[running.key] = now + WITHOUT_GAPS
        self._looked.pop(running.key, None)

    def _tells_gaps(self, running: Running, now: datetime) -> bool:
        until = self._without_gaps.get(running.key)
        return until is None or not until - WITHOUT_GAPS <= now < until

    def _is_enough(self, running: Running, found: _Found, to: datetime, now: datetime) -> bool:
        """Whether what can be told is told without what lacks: after a while, and not of one."""
        if not found.missing:
            return bool(found.reach)
        back = running.plan.back
        wait = min(max(back / 2, SHORTEST_WAIT), LONGEST_WAIT) if back else LONGEST_WAIT
        self._missing[running.key] = min(*found.missing, now + wait)
        since = max(to, min(self._told.get(running.key, to), now))
        return bool(found.reach) and not running.plan.whole and since + wait <= now

    async def _due(self, running: Running, to: datetime, away: Away, now: datetime) -> _Found:
        """Return what is due: no more than goes into one update, the oldest first."""
        found, plan = _Found(), running.plan
        oldest = plan.floor(to - LONGEST) if plan.end is None else plan.origin
        behind = {r: max(at, oldest) for r, at in running.reach.items() if at < to}
        if not behind:
            return found
        status = running.report == TELEMETRY_STATUS
        most = max(1, (MOST_STATES if status else MOST_CELLS) // len(behind))
        until = min(to, min(behind.values()) + most * plan.step)
        for r_id, at in sorted(behind.items(), key=lambda one: one[1])[:MOST_CELLS]:
            resource = self._offer.find(running.asked.specifier, r_id)
            if resource is None or at >= until:
                continue
            if status:
                cells = await self._states(resource, r_id, running, (at, until), away)
                found.cells += cells
                found.reach[r_id] = until
            else:
                await self._amounts(resource, r_id, running, (at, until), found, now)
        return found

    async def _amounts(
        self, resource: Resource, r_id: str, running: Running, span: tuple[datetime, datetime],
        found: _Found, now: datetime,
    ) -> None:  # fmt: skip
        """Add what a resource's meter measured, up to what it may still come to know.

        In a report without an end a hole in what is known keeps nothing waiting.
        """
        plan, missing = running.plan, found.missing
        buckets = await self._memory.measured(resource, *span, plan.step)
        waits = [not b.whole and now < b.end + resource.patience for b in buckets]
        last = len(waits) - waits[::-1].index(False) if False in waits else 0
        if plan.end is not None and True in waits:
            last = waits.index(True)
        tells_gaps = self._tells_gaps(running, now)
        for bucket, waited_for in zip(buckets[:last], waits, strict=False):
            value = bucket.value if bucket.whole else None
            if waited_for or (value is None and not tells_gaps):
                found.held.append((r_id, bucket.start))
            else:
                found.cells.append(Cell(r_id, bucket.start, plan.step, value))
            found.reach[r_id] = bucket.end
        missing += [b.end + resource.patience for b in buckets[last : last + 1]]

    async def _states(
        self, resource: Resource, r_id: str, running: Running, span: tuple[datetime, datetime],
        away: Away,
    ) -> list[Cell]:  # fmt: skip
        """Return whether a resource was there at the end of each interval that was looked at."""
        cells, (at, until), step = [], span, running.plan.step
        while at < until:
            end = at + step
            if not any(since < end < to for since, to in away):
                there = await self._memory.heard(resource, end - resource.silence, end)
                cells.append(Cell(r_id, at, step, there))
            at = end
        return cells

    async def _late(self, running: Running, to: datetime, now: datetime) -> _Found:
        """Return what was not known and is now, and what was waited for long enough.

        It is looked at once each time that something is due; what was told as a gap, of which
        there may be much, less often.
        """
        found = _Found()
        before, at = self._looked.get(running.key, (None, None))
        if running.report == TELEMETRY_STATUS or before == to:
            return found
        rarely = at is None or not at <= now < at + RARELY
        self._looked[running.key] = to, now if rarely or at is None else at
        for told in (False, True) if rarely else (False,):
            for r_id, starts in (await self._memory.gaps(running.key, told=told)).items():
                for first, last in _runs(starts, running.plan.step):
                    span = first, last + running.plan.step
                    found.cells += await self._now_known(running, r_id, span, told, now)
                    if len(found.cells) >= MOST_CELLS:
                        del self._looked[running.key]  # there may be more
                        found.cells = found.cells[:MOST_CELLS]
                        return found
        return found

    async def _now_known(
        self, running: Running, r_id: str, span: tuple[datetime, datetime], told: bool,
        now: datetime,
    ) -> list[Cell]:  # fmt: skip
        resource, step = self._offer.find(running.asked.specifier, r_id), running.plan.step
        if resource is None:
            return []
        overdue = not told and self._tells_gaps(running, now)
        return [
            Cell(r_id, bucket.start, step, bucket.value if bucket.whole else None)
            for bucket in await self._memory.measured(resource, *span, step)
            if bucket.whole or (overdue and now >= bucket.end + resource.patience)
        ]

    async def _written(self, running: Running, found: _Found, ven_id: str, now: datetime) -> Update:
        """Return an update of what was found; what it says beside its reach was not known once."""
        cells = sorted(found.cells, key=lambda c: (c.start, c.r_id))
        update_id, body = str(uuid4()), ""
        if cells:
            about = running.asked, cells, ven_id, update_id, now
            quick = len(cells) <= QUICKLY
            body = write_update(*about) if quick else await asyncio.to_thread(write_update, *about)
        return Update(
            update_id=update_id,
            ven_id=ven_id,
            made=now,
            body=body,
            reach=found.reach,
            gaps=[(c.r_id, c.start) for c in cells if c.value is None],
            filled=[(c.r_id, c.start) for c in cells if c.value is not None and not found.reach],
            held=found.held,
        )


def _runs(starts: Sequence[datetime], step: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """Yield the first and the last of starts that follow each other in steps."""
    for _, run in groupby(enumerate(starts), lambda pair: pair[1] - pair[0] * step):
        found = [start for _, start in run]
        yield found[0], found[-1]
