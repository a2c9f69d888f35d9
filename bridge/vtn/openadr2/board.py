"""What polls are answered from: held in memory, and brought up to the store when that moved."""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from bridge.clock import Clock
from bridge.model import OptType
from bridge.vens import Message, Offer, Opt, Said, Standing, Ven, VenStore

LOOK_EVERY = 0.005  # seconds: asking takes as long as the rest of a poll does
SHORT = 20  # hex digits of OpenADR's fingerprint


class Board:
    """Knows VENs, what each is offered, and what it said, as of now."""

    def __init__(self, store: VenStore, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._standing = Standing()
        self._commits, self._looked, self._moves = -1, 0.0, 0
        self._loading = asyncio.Lock()
        self._noted: list[tuple[str, str, Said]] = []  # while it is being loaded
        self._concerns: dict[str, list[tuple[Offer, list[int]]]] = {}
        self._quiet: set[str] = set()  # those who are known to be owed nothing
        self._unconfirmed: dict[str, dict[str, int]] = {}
        self._told: dict[str, int] = {}  # name → the turn of the message it was told last

    async def refresh(self) -> None:
        """Take in what was changed by others, if anything was."""
        if time.monotonic() - self._looked < LOOK_EVERY:
            return
        moves, commits = self._moves, self._store.commits
        if commits != self._commits:
            async with self._loading:
                if self._store.version != self._standing.version:
                    await self._load()
            self._commits = commits
        if moves == self._moves:
            self._looked = time.monotonic()

    def look_again(self) -> None:
        """Take in at the next refresh what was just changed here."""
        self._moves += 1
        self._looked = 0.0

    async def _load(self) -> None:
        self._noted = []
        self._standing = await self._store.standing(self._clock.now())
        for ven, event, said in self._noted:  # kept after what was loaded was read
            self._standing.said.setdefault(ven, {})[event] = said
        self._concerns.clear()
        self._quiet.clear()

    # --- who ------------------------------------------------------------------------------

    def ven_of(self, sha256: str) -> tuple[Ven, str] | None:
        """Return whose certificate this is, and by which fingerprint it was enrolled."""
        for fingerprint in (sha256, sha256[-SHORT:]):
            name = self._standing.by_certificate.get(fingerprint)
            if name is not None:
                return self._standing.vens[name], fingerprint
        return None

    @property
    def vens(self) -> Iterable[Ven]:
        """Return all VENs that are enrolled."""
        return self._standing.vens.values()

    # --- what each is offered -----------------------------------------------------------------

    def concerning(self, ven: Ven) -> list[tuple[Offer, list[int]]]:
        """Return the events that concern a VEN, each with those of its signals that do."""
        found = self._concerns.get(ven.name)
        if found is None:
            pairs = ((offer, offer.signals_for(ven)) for offer in self._standing.offers)
            found = self._concerns[ven.name] = [(o, signals) for o, signals in pairs if signals]
        return found

    def offer(self, ven: Ven, event: str) -> Offer | None:
        """Return an event that concerns a VEN, by its id."""
        known = [o for o, _ in self.concerning(ven)]
        exact = next((o for o in known if o.event == event), None)
        if exact is None and event.isdigit():  # stock clients take 007 for 7
            alike = [o for o in known if o.event.lstrip("0") == event]
            return alike[0] if len(alike) == 1 else None
        return exact

    def said(self, ven: Ven) -> Mapping[str, Said]:
        """Return what passed between a VEN and us, by eventID."""
        return self._standing.said.get(ven.name, {})

    def opts(self, ven: Ven) -> list[Opt]:
        """Return a VEN's EiOpts, the oldest first."""
        return self._standing.opts.get(ven.name, [])

    def listed(self, ven: Ven, at: datetime) -> list[tuple[Offer, list[int]]]:
        """Return the events that are in each oadrDistributeEvent to a VEN now."""
        return [pair for pair in self.concerning(ven) if self._is_listed(ven, pair[0], at)]

    def _is_listed(self, ven: Ven, offer: Offer, at: datetime) -> bool:
        said = self.said(ven).get(offer.event)
        if offer.end <= at:
            return False
        if offer.cancelled:  # told to those who were told of it, until they say so
            return said is not None and said.owed(offer)
        return said is not None or not self._is_out_by_schedule(ven, offer)

    def _is_out_by_schedule(self, ven: Ven, offer: Offer) -> bool:
        """Whether a dispatch lies in a time for which the whole VEN has opted out before."""
        return not offer.priced and any(
            opt.opt == "optOut" and not opt.resources and opt.covers(offer.start, offer.end)
            for opt in self.opts(ven)
        )

    def is_owed(self, ven: Ven, at: datetime) -> bool:
        """Whether a VEN has still to answer an event, or was not yet sent one."""
        if ven.name in self._quiet:
            return False
        for offer, _ in self.listed(ven, at):
            said = self.said(ven).get(offer.event)
            if said is None or said.owed(offer):
                return True
        self._quiet.add(ven.name)
        return False

    # --- what passed ----------------------------------------------------------------------------

    async def sending(self, ven: Ven, offers: Iterable[Offer], at: datetime) -> None:
        """Note, before they are sent, which modifications of events a VEN is sent."""
        said = self.said(ven)
        fresh = {
            o.event: o.modification
            for o in offers
            if o.event not in said or said[o.event].sent < o.modification
        }
        if fresh:
            await self._store.note_sent(ven.name, fresh, at)
        for event, number in fresh.items():
            before = self.said(ven).get(event)
            self._note(ven, event, Said(number, *((before.answered, before.opt, before.at)
                                                  if before else ())))  # fmt: skip

    def unanswered(self, ven: Ven, offers: Iterable[Offer]) -> None:
        """Note events for which no answer is asked: the VEN's next message will do for one."""
        for offer in offers:
            if not offer.required:
                self._unconfirmed.setdefault(ven.name, {})[offer.event] = offer.modification

    async def confirm(self, ven: Ven, at: datetime) -> None:
        """Take any message of a VEN as the answer to what asks for none."""
        if taken := self._unconfirmed.pop(ven.name, None):
            await self.answered(ven, {event: (number, None) for event, number in taken.items()}, at)

    async def answered(
        self, ven: Ven, answers: Mapping[str, tuple[int, OptType | None]], at: datetime
    ) -> None:
        """Keep a VEN's answers."""
        if not answers:
            return
        await self._store.note_answers(ven.name, answers, at)
        for event, (number, opt) in answers.items():
            said = self.said(ven).get(event)
            before = said or Said(number)
            last, sent = max(number, before.answered or 0), max(number, before.sent)
            self._note(ven, event, Said(sent, last, opt or before.opt, at))

    def _note(self, ven: Ven, event: str, said: Said) -> None:
        self._standing.said.setdefault(ven.name, {})[event] = said
        self._quiet.discard(ven.name)
        if self._loading.locked():
            self._noted.append((ven.name, event, said))

    # --- messages -------------------------------------------------------------------------------

    def next_message(self, ven: Ven) -> Message | None:
        """Return what a VEN is to be told next, beside events: each in its turn, over and over."""
        waiting = self._standing.messages.get(ven.name, [])
        last = self._told.get(ven.name, 0)
        after = next((m for m in waiting if m.turn > last), None)
        if after is None:
            self._told.pop(ven.name, None)  # events come first next time, then all again
            return None
        self._told[ven.name] = after.turn
        return after

    def outs(self, sources: Collection[str]) -> Iterable[Offer]:
        """Return events of these sources that hold."""
        return (o for o in self._standing.offers if o.source in sources and not o.cancelled)
