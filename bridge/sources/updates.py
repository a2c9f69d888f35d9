"""What of a report is due, and is known or was waited for long enough: the next update of it."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    Update,
)
from bridge.wire.openadr2_telemetry import write_update

MOST_CELLS, MOST_STATES = 500, 100  # in one update
QUICKLY = 100  # cells that are written without keeping others waiting
GRACE = timedelta(minutes=1)  # that what is known waits for the rest of what is due
Away = Sequence[tuple[datetime, datetime]]


@dataclass(slots=True)
class _Found:
    """What of a report can be told now."""

    cells: list[Cell] = field(default_factory=list)
    reach: dict[str, datetime] = field(default_factory=dict)
    missing: list[datetime] = field(default_factory=list)  # until when what lacks is waited for


class Updates:
    """Makes the updates of one upstream's reports."""

    def __init__(self, offer: Offer, memory: ReportMemory) -> None:
        self._offer, self._memory = offer, memory
        self._told: dict[int, datetime] = {}  # report → when an update was taken last
        self._turns: dict[int, int] = {}
        self._count = count(1)
        self._looked: dict[int, datetime] = {}  # report → up to what it was due when …
        self._missing: dict[int, datetime] = {}  # report → when it is to be looked at again
        self._without_gaps: set[int] = set()

    def in_turn(self, running: Iterable[Running]) -> list[Running]:
        """Return reports, that first which had no turn for longest."""
        return sorted(running, key=lambda r: self._turns.get(r.key, 0))

    async def next(self, running: Running, away: Away, ven_id: str, now: datetime) -> Update | None:
        """Return the next update of a report, or None where there is nothing to tell yet."""
        self._missing.pop(running.key, None)
        to = running.plan.told_to(now)
        found = await self._due(running, to, away, now)
        if found.reach and self._is_enough(running, found, to, now):
            return await self._written(running, found.cells, found.reach, ven_id, now)
        late = await self._late(running, to)
        return await self._written(running, late, {}, ven_id, now) if late else None

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
        self._turns[running.key] = next(self._count)

    def leave_gaps_out(self, running: Running) -> bool:
        """Leave out of a report what is not known; return whether that is new."""
        new = running.key not in self._without_gaps
        self._without_gaps.add(running.key)
        return new

    def _is_enough(self, running: Running, found: _Found, to: datetime, now: datetime) -> bool:
        """Whether what can be told is told without what lacks: after a while, and not of one."""
        if not found.missing:
            return True
        grace = min(running.plan.back / 2, GRACE)
        since = max(to, min(self._told.get(running.key, to), now)) + grace
        if not running.plan.whole and since > now:
            self._missing[running.key] = min(self._missing[running.key], since)
        return not running.plan.whole and since <= now

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
        if found.missing:
            self._missing[running.key] = min(found.missing)
        return found

    async def _amounts(
        self, resource: Resource, r_id: str, running: Running, span: tuple[datetime, datetime],
        found: _Found, now: datetime,
    ) -> None:  # fmt: skip
        """Add what a resource's meter measured, up to what it may still come to know."""
        step = running.plan.step
        for bucket in await self._memory.measured(resource, *span, step):
            patient_until = bucket.end + resource.patience
            if not bucket.whole and now < patient_until:
                found.missing.append(patient_until)
                return
            value = bucket.value if bucket.whole else None
            found.cells.append(Cell(r_id, bucket.start, step, value))
            found.reach[r_id] = bucket.end

    async def _states(
        self, resource: Resource, r_id: str, running: Running, span: tuple[datetime, datetime],
        away: Away,
    ) -> list[Cell]:  # fmt: skip
        """Return whether a resource was there at the end of each interval that was looked at."""
        cells, (at, until), step = [], span, running.plan.step
        while at < until:
            end = at + step
            if not any(since < end < to for since, to in away):
                lately = end - resource.silence
                (bucket,) = await self._memory.measured(resource, lately, end, resource.silence)
                cells.append(Cell(r_id, at, step, bucket.readings > 0))
            at = end
        return cells

    async def _late(self, running: Running, to: datetime) -> list[Cell]:
        """Return what was told as a gap and is known by now; it is looked at once each time."""
        if running.report == TELEMETRY_STATUS or self._looked.get(running.key) == to:
            return []
        cells: list[Cell] = []
        for r_id, starts in (await self._memory.gaps(running.key)).items():
            resource = self._offer.find(running.asked.specifier, r_id)
            for first, last in _runs(starts, running.plan.step) if resource else ():
                cells += await self._filled(running, r_id, first, last)
                if len(cells) >= MOST_CELLS:
                    return cells[:MOST_CELLS]
        self._looked[running.key] = to
        return cells

    async def _filled(
        self, running: Running, r_id: str, first: datetime, last: datetime
    ) -> list[Cell]:
        resource, step = self._offer.find(running.asked.specifier, r_id), running.plan.step
        if resource is None:
            return []
        buckets = await self._memory.measured(resource, first, last + step, step)
        return [Cell(r_id, b.start, step, b.value) for b in buckets if b.whole]

    async def _written(
        self, running: Running, cells: list[Cell], reach: Mapping[str, datetime],
        ven_id: str, now: datetime,
    ) -> Update:  # fmt: skip
        """Return an update of cells; those without `reach` fill gaps."""
        gaps = [(c.r_id, c.start) for c in cells if c.value is None]
        if running.key in self._without_gaps:
            cells = [c for c in cells if c.value is not None]
        cells = sorted(cells, key=lambda c: (c.start, c.r_id))
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
            reach=reach,
            gaps=gaps,
            filled=() if reach else [(c.r_id, c.start) for c in cells],
        )


def _runs(starts: Sequence[datetime], step: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """Yield the first and the last of starts that follow each other in steps."""
    for _, run in groupby(enumerate(starts), lambda pair: pair[1] - pair[0] * step):
        found = [start for _, start in run]
        yield found[0], found[-1]
