"""Telling a VTN what meters measure: the EiReport conversation of a VEN.

What the VTN asks for is kept before it is answered; an update is kept before it is sent, and
counts as told once the VTN has taken it. Trouble with reports never keeps events waiting.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal
from uuid import uuid4

import structlog
from pydantic import Field, field_validator

from bridge.clock import Clock
from bridge.errors import SourceError, Unreachable
from bridge.notation import Frozen, SomeTime
from bridge.reporting import (
    LONGEST,
    METADATA,
    Account,
    Asked,
    Offer,
    ReportMemory,
    Resource,
    Running,
    Update,
    Wanted,
)
from bridge.sources.requested import judge, too_fine
from bridge.sources.updates import Updates
from bridge.sources.ven import OK, Status, Ven, code_of
from bridge.supervise import LONGEST_WAIT, back_off
from bridge.wire import openadr2_telemetry as wire
from bridge.wire.openadr2_requests import request_id
from bridge.wire.openadr2_telemetry import INVALID_ID, Cancelled, Refused
from bridge.wire.openleadr import Message

log = structlog.get_logger()

MOST_REQUESTS = 50  # reports that one VTN is told at a time
MOST_TRIES = 3  # to tell what the VTN will not have
LONGEST_TRY = timedelta(days=1)  # to tell what the VTN fails at
# HTTP statuses that speak of the very message; others may be of the moment
_OF_THE_MESSAGE = {400, 413, 415, 422}
# What there may be trouble with, beside single reports, whose keys are positive
_REACH, _OFFER = 0, -1


class Report(Frozen):
    """A resource of which the VTN is told, and the meter that measures it."""

    resource: str = Field(min_length=1, max_length=128)
    meter: str | None = Field(default=None, min_length=1, max_length=128)
    kind: Literal["usage", "status"] = "usage"
    every: SomeTime = timedelta(minutes=15)
    direction: Literal["import", "export", "net", "generation"] | None = None

    @field_validator("resource")
    @classmethod
    def _a_name(cls, value: str) -> str:
        if value != value.strip() or not value.isprintable():
            raise ValueError("must be printable, and begin and end with no space")
        return value

    @field_validator("every")
    @classmethod
    def _whole_seconds(cls, value: timedelta) -> timedelta:
        if value % timedelta(seconds=1) or value > LONGEST:
            raise ValueError('must be of whole seconds, such as "15m"')
        return value

    @property
    def measured(self) -> Resource:
        """Return it as it is reported."""
        return Resource(
            self.resource, self.meter or self.resource, self.kind == "status", self.every,
            self.direction,
        )  # fmt: skip


class Reporting:
    """What one VTN is told of what meters measure."""

    def __init__(
        self, source: str, reports: Sequence[Report], ven: Ven, memory: ReportMemory, clock: Clock
    ) -> None:
        self._source, self._ven, self._memory, self._clock = source, ven, memory, clock
        self._offer = Offer([report.measured for report in reports])
        self._updates = Updates(self._offer, memory)
        self._account = Account()
        self._next: datetime | None = None  # when something is due that no poll brings
        self._failures: Counter[int] = Counter()  # in a row
        self._later: dict[int, datetime] = {}  # what → not before
        self._troubles: dict[int, str] = {}
        self._notices: list[str] = []

    @property
    def active(self) -> bool:
        """Whether there is, or was, anything to report."""
        return bool(self._offer.reports) or self._account.known

    async def begin(self) -> None:
        """Look up how it stands."""
        await self._reload()
        if self.active:
            await self._memory.look(self._source, self._clock.now())
            await self._reload()

    async def tell_anew(self) -> None:
        """Tell the VTN once more what can be reported: it may have forgotten."""
        if self.active:
            await self._memory.tell_anew(self._source)
            await self._reload()

    async def forget(self) -> None:
        """End all reports: the VTN wants nothing more of us."""
        await self._memory.forget(self._source)
        await self.tell_anew()

    def due(self, otherwise: datetime) -> datetime:
        """Return when there is something to do, or `otherwise` where that is before."""
        return min(self._next or otherwise, otherwise)

    def says(self) -> list[str]:
        """Return what is not well with reports; what is to be said once is not said again."""
        said, self._notices = [*self._troubles.values(), *self._notices], []
        return [" ".join(text.replace(";", ",").split())[:300] for text in said]

    async def step(self) -> None:
        """Do what is due: tell what can be reported, confirm requests, send one update."""
        now = self._clock.now()
        await self._memory.look(self._source, now)
        self._next = self._waiting(_REACH, now)
        if self._next:
            return
        try:
            if self._account.offered != self._offer.digest:
                await self._register(now)
            await self._confirm()
            await self._send(now)
            self._is_well(_REACH)
        except SourceError as error:
            if isinstance(error, Unreachable):  # it may be another when it comes back
                await self.tell_anew()
            self._has_failed(_REACH, now, f"reports cannot be told: {error}")

    # --- what is offered, and asked for --------------------------------------------------------

    async def _register(self, now: datetime) -> None:
        """Tell the VTN all that can be reported, and take what it asks for in answer."""
        until = self._waiting(_OFFER, now)
        if until:
            return self._wake(until)
        name = str(uuid4())
        try:
            message = await self._ven.tell_report(
                wire.write_offer(self._offer, self._ven_id, name, now, self._account.wanted_by)
            )
        except Status as error:
            return self._has_failed(_OFFER, now, f"reports cannot be registered: {error}")
        code, said = code_of(message)
        if code != OK or message.type not in {"oadrRegisteredReport", "oadrResponse"}:
            why = f"the VTN answered {message.type} {code}: {said}"
            return self._has_failed(_OFFER, now, f"reports cannot be registered: {why}")
        self._is_well(_OFFER)
        if not self._offer.reports:
            await self._memory.forget(self._source, offer=True)
            return await self._reload()
        wanted, refused, _ = self._sorted(message)
        await self._memory.told(
            self._source, self._offer.digest, wanted,
            lambda specifier, r_id: self._offer.find(specifier, r_id) is not None, now,
        )  # fmt: skip
        await self._reload()
        if wanted or refused:
            await self._confirm(name, refused)
        return None

    async def answer(self, message: Message) -> bool:
        """Do what the VTN asks of reports; return whether it asked for something of them."""
        if not self._offer.reports:
            return False
        if message.type == "oadrCreateReport":
            await self._create(message)
        elif message.type == "oadrCancelReport":
            await self._cancel(wire.read_cancelled(message.element))
        else:
            return False
        return True

    async def _create(self, message: Message) -> None:
        name = request_id(message.element)
        wanted, refused, metadata = self._sorted(message)
        await self._memory.accept(self._source, wanted, name, self._clock.now())
        if metadata:
            await self._memory.tell_anew(self._source, metadata)
        await self._reload()
        await self._confirm(name, refused, asked=True)

    async def _cancel(self, cancelled: Cancelled) -> None:
        unknown = await self._memory.cancel(
            self._source, cancelled.reports, self._clock.now(), to_follow=cancelled.to_follow
        )
        await self._reload()
        refused = [Refused(name, INVALID_ID, "is not told here") for name in unknown]
        await self._say(
            wire.write_cancelled(self._ven_id, cancelled.request_id, self._pending(), refused)
        )

    def _sorted(self, message: Message) -> tuple[list[Wanted], list[Refused], str]:
        """Return what of a message's requests is accepted, what refused, and a METADATA request."""
        wanted: list[Wanted] = []
        refused: list[Refused] = []
        metadata, known = "", set(self._pending())
        for asked in wire.read_requests(message.element):
            if isinstance(asked, Asked) and asked.specifier == METADATA:
                metadata = asked.request_id
                continue
            room = asked.request_id in known or len(known) < MOST_REQUESTS
            judged: Wanted | Refused = (
                asked
                if isinstance(asked, Refused)
                else judge(asked, self._offer, self._clock.now(), room=room)
            )
            if isinstance(judged, Refused):
                refused.append(judged)
            else:
                wanted.append(judged)
                if judged[0].request_id not in known:  # it is said once
                    self._notices += too_fine(judged, self._offer)
                known.add(judged[0].request_id)
        return wanted, refused, metadata

    async def _confirm(
        self, name: str = "", refused: Sequence[Refused] = (), *, asked: bool = False
    ) -> None:
        """Tell the VTN which reports it will have, where it was not told yet."""
        if asked or refused or not all(r.answered for r in self._account.running):
            await self._say(wire.write_created(self._ven_id, name, self._pending(), refused))
            await self._memory.answered(self._source)
            running = [replace(r, answered=True) for r in self._account.running]
            self._account = replace(self._account, running=running)

    async def _say(self, signed_object: str) -> None:
        """Send what the VTN can only take note of."""
        try:
            message = await self._ven.tell_report(signed_object, may_be_empty=True)
        except Status as error:  # stock VTNs fail at what they asked for before a restart
            log.warning("the VTN did not take note", source=self._source, said=str(error))
            return
        code, said = code_of(message)
        if code != OK:
            log.warning("the VTN did not take note", source=self._source, said=f"{code}: {said}")

    def _pending(self) -> list[str]:
        return [running.asked.request_id for running in self._account.running]

    # --- what is told ----------------------------------------------------------------------------

    async def _send(self, now: datetime) -> None:
        """Send one update, of the report whose turn it is; polls go on between two."""
        for running in self._updates.in_turn(self._account.running):
            waiting = self._waiting(running.key, now)
            if waiting:
                self._wake(waiting)
                continue
            update = await self._memory.frozen(running.key)
            if update and update.ven_id != self._ven_id:
                await self._memory.thaw(running.key)
                update = None
            update = update or await self._new(running, now)
            if update:
                await self._deliver(running, update)
                await self._reload()
                self._wake(now)
                return
            for due in self._updates.due(running, now):
                self._wake(due)

    async def _new(self, running: Running, now: datetime) -> Update | None:
        update = await self._updates.next(running, self._account.away, self._ven_id, now)
        if update and update.body:
            await self._memory.freeze(running.key, update)
        return update

    async def _deliver(self, running: Running, update: Update) -> None:
        """Send an update; what the VTN has taken was told, and nothing else."""
        if not update.body:
            return await self._memory.settle(running.key, update, self._clock.now())
        try:
            message = await self._ven.tell_report(update.body)
        except Unreachable:
            self._updates.had_turn(running)  # if it is this very message, others go on
            raise
        except SourceError as error:
            lasting = isinstance(error, Status) and error.status in _OF_THE_MESSAGE
            return await self._not_taken(running, update, str(error), lasting=lasting)
        code, said = code_of(message)
        if code != OK or message.type not in {"oadrUpdatedReport", "oadrResponse"}:
            why = f"the VTN answered {message.type} {code}: {said}"
            return await self._not_taken(running, update, why, lasting=True)
        now = self._clock.now()
        await self._memory.settle(running.key, update, now)
        self._updates.was_told(running, now)
        self._is_well(running.key)
        cancelled = wire.cancelled_with(message.element)
        if cancelled:
            await self._cancel(cancelled)
        return None

    async def _not_taken(
        self, running: Running, update: Update, why: str, *, lasting: bool
    ) -> None:
        """Try an update later; give it up where it will never be taken, so that others go on."""
        now, tries, key = self._clock.now(), update.tries + 1, running.key
        trouble = f"report {running.asked.request_id} is not taken ({why})"
        if tries < MOST_TRIES:
            await self._memory.tried(key)
        elif update.gaps:
            self._updates.leave_gaps_out(running, now)
            await self._memory.thaw(key)
        elif lasting or now - update.made > LONGEST_TRY:
            await self._memory.settle(key, update, now)
            if running.era < self._account.era:  # it was not asked for again
                await self._memory.cancel(
                    self._source, [running.asked.request_id], now, to_follow=False
                )
            trouble = f"report {running.asked.request_id}: an update was given up ({why})"
            log.warning("an update was given up", source=self._source,
                        report=running.asked.request_id, made=update.made, said=why)  # fmt: skip
        else:
            await self._memory.tried(key)
        self._has_failed(key, now, trouble, patient=3)

    # --- when ------------------------------------------------------------------------------------

    def _has_failed(self, what: int, now: datetime, trouble: str, patient: int = 0) -> None:
        """Put something off, longer after each failure in a row, and keep what to say of it."""
        self._failures[what] += 1
        wait = timedelta(seconds=back_off(self._failures[what] + patient))
        self._later[what], self._troubles[what] = now + wait, trouble
        self._wake(now + wait)

    def _is_well(self, what: int) -> None:
        for noted in (self._failures, self._later, self._troubles):
            noted.pop(what, None)

    def _waiting(self, what: int, now: datetime) -> datetime | None:
        """Return until when something is put off; a clock that was set back puts off nothing."""
        until = self._later.get(what)
        longest = timedelta(seconds=2 * LONGEST_WAIT)
        return until if until and now < until <= now + longest else None

    def _wake(self, at: datetime) -> None:
        self._next = min(self._next or at, at)

    async def _reload(self) -> None:
        self._account = await self._memory.account(self._source)
        known = {running.key for running in self._account.running} | {_REACH, _OFFER}
        for gone in self._failures.keys() - known:
            self._is_well(gone)

    @property
    def _ven_id(self) -> str:
        return self._ven.ven_id or ""
