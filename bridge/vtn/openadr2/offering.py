"""Keeps what VENs are offered, and asked for, up to what is known and wished."""

import asyncio
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Protocol

from bridge.clock import Clock
from bridge.supervise import Job
from bridge.vens import VenStore, Wish
from bridge.vtn.openadr2.board import Board
from bridge.vtn.openadr2.outs import Outs
from bridge.wire.openadr2_translated import Mains

DAYS_EVERY = timedelta(hours=1)  # price days that have come near are looked for
SETTLE = 0.01  # seconds: devices are told first; a VEN asks when it polls
SET_BACK = timedelta(seconds=10)  # a clock that was more ahead is a clock that was wrong


class OfferStore(Protocol):
    """Turns changes into what VENs are offered."""

    async def follow(
        self, mains: Mains, at: datetime, *, days: bool = False, anew: bool = False
    ) -> tuple[bool, datetime | None]:
        """Bring what is offered up to what is known; return if more is left, and the next due."""


class Offering:
    """The one job that turns changes into what VENs are offered."""

    def __init__(
        self, offers: OfferStore, store: VenStore, board: Board, outs: Outs,
        mains: Mains, wishes: Collection[Wish], clock: Clock,
    ) -> None:  # fmt: skip
        self._offers, self._store, self._board, self._outs = offers, store, board, outs
        self._mains, self._wishes, self._clock = mains, wishes, clock

    async def run(self, job: Job) -> None:
        """Follow the change log until cancelled."""
        bell = self._store.bell("offers")
        await self._store.reconcile(self._wishes, self._clock.now())
        last = days_at = self._clock.now()
        settled = -1
        anew = True  # events that were passed over while the clock was wrong are looked at again
        while True:
            now = self._clock.now()
            anew = anew or now < last - SET_BACK
            days = anew or now >= days_at
            more, due = await self._offers.follow(self._mains, now, days=days, anew=anew)
            last, anew = now, False
            days_at = now + DAYS_EVERY if days else days_at
            job.succeeded(now)
            if more:
                continue
            self._board.look_again()
            await self._board.refresh()
            if self._board.version != settled:
                settled = self._board.version
                await self._outs.settle(now)
            await self._clock.wait(bell, min(days_at, due) if due else days_at)
            await asyncio.sleep(SETTLE)
