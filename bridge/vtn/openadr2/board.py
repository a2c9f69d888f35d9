"""What polls are answered from: held in memory, and brought up to the store when that moved."""

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from itertools import accumulate

from bridge.clock import Clock
from bridge.vens import Answers, Message, Offer, Opt, Said, Standing, Ven, VenStore
from bridge.vtn.openadr2.opted import out_by_schedule

LOOK_EVERY = 0.005  # seconds: asking takes as long as the rest of a poll does
SHORT = 20  # hex digits of OpenADR's fingerprint
MOST_LISTED, MOST_BYTES = 200, 2_000_000  # in one message; the rest is told when these are over
TURN = 20  # VENs, or events, that are looked at in a few milliseconds
MOST_TRIES = 3  # to tell what is never answered
FOREVER = datetime.max.replace(tzinfo=UTC)
Pair = tuple[Offer, list[int]]


class Board:
    """Knows VENs, what each is offered, and what it said, as of now."""

    def __init__(self, store: VenStore, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._standing = Standing()
        self._by_event: dict[str, Offer] = {}
        self._commits, self._looked, self._moves = -1, 0.0, 0
        self._loading = asyncio.Lock()
        self._noted: list[tuple[str, str, Said]] = []  # while it is being loaded
        self._concerns: dict[str, list[Pair]] = {}
        self._quiet: dict[str, datetime] = {}  # who is known to be owed nothing, and until when
        # name → eventID → modification, over which connection, how often
        self._unconfirmed: dict[str, dict[str, tuple[int, object, int]]] = {}
        self._told: dict[str, int] = {}  # name → the turn of the message it was told last
        self._tries: Counter[int] = Counter()  # turn → how often it was told
        self._just_sent: set[str] = set()

    async def refresh(self) -> None:
        """Take in what was changed by others, if anything was."""
        if time.monotonic() - self._looked < LOOK_EVERY:
            return
        moves, commits = self._moves, self._store.commits
        set_back = self._standing.at is not None and self._clock.now() < self._standing.at
        if commits != self._commits or set_back:
            async with self._loading:
                if set_back or self._store.version != self._standing.version:
                    await self._load(whole=set_back)
            self._commits = commits
        if moves == self._moves:
            self._looked = time.monotonic()

    def look_again(self) -> None:
        """Take in at the next refresh what was just changed here."""
        self._moves += 1
        self._looked = 0.0

    async def _load(self, *, whole: bool) -> None:
        self._noted = []
        since = None if whole or self._standing.version < 0 else self._standing.version
        found = await self._store.standing(self._clock.now(), since)
        if found.partial:
            self._merge(found)
        else:
            self._standing = found
            self._by_event = {offer.event: offer for offer in found.offers}
            self._concerns.clear()
            self._quiet.clear()
        for name in [*(found.vens if found.partial else self._unconfirmed)]:
            ven_now = self._standing.vens.get(name)
            if ven_now is None or ven_now.registration_id is None:
                self._unconfirmed.pop(name, None)
        for ven, event, said in self._noted:  # kept after what was loaded was read
            self._standing.said.setdefault(ven, {})[event] = said

    def _merge(self, found: Standing) -> None:
        """Take in the VENs of which something was changed."""
        standing = self._standing
        standing.version, standing.at = found.version, found.at
        for name, ven in found.vens.items():
            had = standing.vens.get(name)
            for fingerprint in had.certificates if had else ():
                standing.by_certificate.pop(fingerprint, None)
            standing.vens[name] = ven
            standing.said[name] = found.said.get(name, {})
            standing.opts[name] = found.opts.get(name, [])
            standing.messages[name] = found.messages.get(name, [])
            self._concerns.pop(name, None)
            self._quiet.pop(name, None)
        standing.by_certificate |= found.by_certificate

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

    def _is_current(self, ven: Ven) -> bool:
        """Whether a VEN is as it was when its message came."""
        return self._standing.vens.get(ven.name) is ven

    # --- what each is offered -----------------------------------------------------------------

    def _concerning(self, ven: Ven) -> list[Pair]:
        """Return the events that concern a VEN, each with those of its signals that do."""
        found = self._concerns.get(ven.name) if self._is_current(ven) else None
        if found is None:
            pairs = ((offer, offer.signals_for(ven)) for offer in self._standing.offers)
            found = [(o, signals) for o, signals in pairs if signals]
            if self._is_current(ven):
                self._concerns[ven.name] = found
        return found

    def offer(self, ven: Ven, event: str) -> Offer | None:
        """Return an event that a VEN was told of, by its id."""
        told = self.said(ven)
        if event in told:
            return self._by_event.get(event)
        if event.isdigit():  # stock clients take 007 for 7
            alike = [e for e in told if e.lstrip("0") == event]
            return self._by_event.get(alike[0]) if len(alike) == 1 else None
        return None

    def said(self, ven: Ven) -> Mapping[str, Said]:
        """Return what passed between a VEN and us, by eventID."""
        return self._standing.said.get(ven.name, {})

    def opts(self, ven: Ven) -> list[Opt]:
        """Return a VEN's EiOpts, the oldest first."""
        return self._standing.opts.get(ven.name, [])

    def holding(self, sources: Collection[str]) -> Iterable[Offer]:
        """Return events of these sources that hold."""
        return (o for o in self._standing.offers if o.source in sources and not o.cancelled)

    def listed(self, ven: Ven, at: datetime) -> list[Pair]:
        """Return the events that are in each oadrDistributeEvent to a VEN now, in their order."""
        return _first(self._applicable(ven, at))

    def _applicable(self, ven: Ven, at: datetime) -> list[Pair]:
        concerning = self._concerning(ven)
        here = {offer.event for offer, _ in concerning}
        pairs = [pair for pair in concerning if self._is_listed(ven, pair[0], at)]
        # What it was told of and is aimed elsewhere now is taken back, once.
        gone = (self._by_event.get(e) for e in self.said(ven).keys() - here)
        pairs += [
            (replace(offer, cancelled=True), [0])
            for offer in gone
            if offer and offer.end > at and self._is_to_be_taken_back(ven, offer)
        ]
        return sorted(pairs, key=lambda pair: _rank(pair[0], at))

    def _is_to_be_taken_back(self, ven: Ven, offer: Offer) -> bool:
        said = self.said(ven)[offer.event]
        if said.taken_back is None:
            return said.owed(offer)
        return said.answered is None or said.answered < said.taken_back

    def _is_listed(self, ven: Ven, offer: Offer, at: datetime) -> bool:
        said = self.said(ven).get(offer.event)
        if offer.end <= at:
            return False
        if offer.cancelled:  # told to those who were told of it, until they say so
            return said is not None and said.owed(offer)
        # An opt-out refuses a dispatch that was not told yet, and never a fact.
        withheld = said is None and not offer.priced and out_by_schedule(self.opts(ven), offer)[0]
        return not withheld

    async def owed(self, at: datetime) -> Mapping[str, int]:
        """Return how many events each VEN has still to answer; let others have their turn."""
        counts = {}
        for n, ven in enumerate([*self.vens]):
            lacking = self._applicable(ven, at) if self.is_owed(ven, at) else []
            counts[ven.name] = sum(self._lacks(ven, offer) for offer, _ in lacking)
            if n % TURN == 0:
                await asyncio.sleep(0)
        return counts

    def concerned(self, ven: Ven) -> set[str]:
        """Return the events that concern a VEN."""
        return {offer.event for offer, _ in self._concerning(ven)}

    @property
    def version(self) -> int:
        """Return a number that moves when others changed something."""
        return self._standing.version

    def _lacks(self, ven: Ven, offer: Offer) -> bool:
        said = self.said(ven).get(offer.event)
        return said is None or said.owed(offer)

    def is_owed(self, ven: Ven, at: datetime) -> bool:
        """Whether a VEN has still to answer an event, or was not yet sent one."""
        if ven.name in self._quiet and at < self._quiet[ven.name] and self._is_current(ven):
            return False
        applicable = self._applicable(ven, at)
        listed = _first(applicable)
        if any(self._lacks(ven, offer) for offer, _ in listed):
            return True
        if self._is_current(ven):
            # What does not go into one message is told when others begin or are over.
            more = len(listed) < len(applicable)
            edges = (t for o, _ in applicable for t in (o.start, o.end) if t > at) if more else ()
            self._quiet[ven.name] = min(edges, default=FOREVER)
        return False

    # --- what passed ----------------------------------------------------------------------------

    async def sending(
        self, ven: Ven, offers: Collection[Offer], connection: object, at: datetime
    ) -> None:
        """Note, before they are sent, which modifications of events a VEN is sent."""
        self._just_sent.add(ven.name)
        own = {offer.event for offer, _ in self._concerning(ven)}
        fresh: dict[str, tuple[int, int | None]] = {}
        for offer in offers:
            had = self.said(ven).get(offer.event)
            back = None if offer.event in own else offer.modification
            if had and had.taken_back is not None and back is not None:
                back = had.taken_back  # it was told so before
            if had is None or had.sent < offer.modification or had.taken_back != back:
                fresh[offer.event] = offer.modification, back
        if fresh:
            await self._store.note_sent(ven.name, fresh, at)
        for event, (number, back) in fresh.items():
            before = self.said(ven).get(event) or Said(number)
            sent = max(number, before.sent)
            self._note(ven, event, replace(before, sent=sent, taken_back=back))
        unconfirmed = self._unconfirmed.setdefault(ven.name, {})
        for offer in offers:
            said = self.said(ven).get(offer.event)
            if said and not offer.required and said.owed(offer):
                number, _, tries = unconfirmed.get(offer.event, (-1, None, 0))
                tries = tries + 1 if number == offer.modification else 1
                unconfirmed[offer.event] = offer.modification, connection, tries

    async def confirm(self, ven: Ven, connection: object, at: datetime) -> None:
        """Take a VEN's next message over a connection as the answer to what asks for none."""
        waiting = self._unconfirmed.get(ven.name)
        if not waiting:
            return
        taken: dict[str, tuple[int, None]] = {
            event: (number, None)
            for event, (number, over, tries) in waiting.items()
            if over == connection or tries >= MOST_TRIES
        }
        for event in [e for e in waiting if not self._is_known(e, at)]:
            del waiting[event]
        await self.answered(ven, taken, at)

    def _is_known(self, event: str, at: datetime) -> bool:
        offer = self._by_event.get(event)
        return offer is not None and offer.end > at

    async def answered(self, ven: Ven, answers: Answers, at: datetime) -> None:
        """Keep a VEN's answers."""
        if answers:
            await self._store.note_answers(ven.name, answers, at)
            self.note_answers(ven, answers, at)

    def note_answers(self, ven: Ven, answers: Answers, at: datetime) -> None:
        """Take in a VEN's answers, which are kept."""
        for event, (number, opt) in answers.items():
            before = self.said(ven).get(event) or Said(number)
            if (before.answered if before.answered is not None else -1) <= number:
                sent, said_at = max(number, before.sent), at if opt else before.at
                said = replace(
                    before, sent=sent, answered=number, opt=opt or before.opt, at=said_at
                )
                self._note(ven, event, said)
            waiting = self._unconfirmed.get(ven.name, {})
            if event in waiting and waiting[event][0] <= number:
                del waiting[event]

    def _note(self, ven: Ven, event: str, said: Said) -> None:
        if ven.name in self._standing.vens:
            self._standing.said.setdefault(ven.name, {})[event] = said
        self._quiet.pop(ven.name, None)
        if self._loading.locked():
            self._noted.append((ven.name, event, said))

    # --- messages -------------------------------------------------------------------------------

    def events_first(self, ven: Ven) -> bool:
        """Whether it is the turn of events: a message is told after each list of them."""
        if ven.name in self._just_sent:
            self._just_sent.discard(ven.name)
            return False
        return True

    def next_message(self, ven: Ven) -> Message | None:
        """Return what a VEN is to be told next, beside events: each in its turn, over and over."""
        waiting = self._standing.messages.get(ven.name, [])
        last = self._told.get(ven.name, 0)
        after = next((m for m in waiting if m.turn > last), None)
        if after is None:
            self._told.pop(ven.name, None)  # nothing this time, then all again
            return None
        self._told[ven.name] = after.turn
        return after

    def told_enough(self, message: Message) -> bool:
        """Whether a message that some VENs never answer was told often enough, this time too."""
        self._tries[message.turn] += 1
        enough = self._tries[message.turn] >= MOST_TRIES
        if enough:
            del self._tries[message.turn]
        return enough


def _first(pairs: list[Pair]) -> list[Pair]:
    """Return as many events as go into one message."""
    sizes = accumulate(len(offer.xml) for offer, _ in pairs[:MOST_LISTED])
    return pairs[: max(1, sum(1 for size in sizes if size <= MOST_BYTES))]


def _rank(offer: Offer, at: datetime) -> tuple[int, float, datetime]:
    """Return an event's place: active before pending, by priority, then by start.

    The lower the number the higher the priority; 0 is none (OpenADR 2.0b, conformance rule 57).
    """
    active = offer.start <= at < offer.end and not offer.cancelled
    priority = offer.priority or float("inf")
    return (0 if active else 1, priority if active else 0.0, offer.start)
