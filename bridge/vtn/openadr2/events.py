"""EiEvent: every applicable event in each oadrDistributeEvent, and the VENs' answers."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

import structlog

from bridge.model import OptType
from bridge.vens import Offer, Ven
from bridge.vtn.openadr2.board import Board
from bridge.vtn.openadr2.replies import Reply, response
from bridge.wire.openadr2_offers import offered
from bridge.wire.openadr2_requests import EventAnswer

log = structlog.get_logger()

MOST_LISTED = 200  # events in one message; more are told when these are over
AT_ONCE = 4  # that are rendered in about a millisecond
MOST_RENDERED = 1_000
_VEN = "\ufffcVEN"  # stands for the venID in what is the same for all VENs
Pair = tuple[Offer, list[int]]


class Events:
    """Lists events for VENs, and keeps what they answer."""

    def __init__(self, vtn_id: str, board: Board) -> None:
        self._vtn_id, self._board = vtn_id, board
        self._rendered: dict[object, tuple[bytes, datetime | None]] = {}
        self._just_sent: set[str] = set()
        self._crowded: set[str] = set()

    def just_sent(self, ven: Ven) -> bool:
        """Whether events were the last answer to a VEN's poll: other messages have a turn, too."""
        return ven.name in self._just_sent

    def other_turn(self, ven: Ven) -> None:
        """Note that events are not what a VEN's poll is answered with."""
        self._just_sent.discard(ven.name)

    async def distribute(
        self, ven: Ven, at: datetime, request_id: str = "", limit: int | None = None
    ) -> Reply:
        """Return all events that concern a VEN, or the first so many."""
        pairs = sorted(self._board.listed(ven, at), key=lambda pair: _rank(pair[0], at))
        if len(pairs) > MOST_LISTED and ven.name not in self._crowded:
            self._crowded.add(ven.name)
            log.warning("more events concern a VEN than are told at once; name its programs",
                        ven=ven.name, events=len(pairs), told=MOST_LISTED)  # fmt: skip
        pairs = pairs[: min(limit or MOST_LISTED, MOST_LISTED)]
        offers = [offer for offer, _ in pairs]
        await self._board.sending(ven, offers, at)
        self._board.unanswered(ven, offers)
        self._just_sent.add(ven.name)
        missing = sum(1 for pair in pairs if self._known(pair, ven, at) is None)
        render = self._render_all
        events = (
            await asyncio.to_thread(render, pairs, ven, at)
            if missing > AT_ONCE
            else render(pairs, ven, at)
        )
        return Reply(
            "oadrDistributeEvent",
            {
                "response": response(request_id),
                "request_id": request_id or f"{self._vtn_id}-{int(at.timestamp() * 1000)}",
                "vtn_id": self._vtn_id,
                "ven_id": ven.ven_id,
            },
            events,
        )

    async def answered(self, ven: Ven, answers: Sequence[EventAnswer], at: datetime) -> str | None:
        """Keep what a VEN answered; return what is wrong with those that cannot be kept."""
        good: dict[str, tuple[int, OptType | None]] = {}
        unknown = []
        for answer in answers:
            offer = self._board.offer(ven, answer.event)
            told = self._board.said(ven).get(offer.event) if offer else None
            if offer is None or told is None:
                unknown.append(f"event {answer.event!r} was not told to this VEN")
            elif answer.modification > offer.modification:
                unknown.append(
                    f"event {answer.event!r} has no modification {answer.modification}; "
                    f"{offer.modification} is the last"
                )
            else:
                before = good.get(offer.event, (-1, None))
                good[offer.event] = max(
                    before, (answer.modification, answer.opt), key=lambda said: said[0]
                )
        await self._board.answered(ven, good, at)
        return "; ".join(unknown)[:500] or None

    # --- as each is now --------------------------------------------------------------------

    def _render_all(self, pairs: Sequence[Pair], ven: Ven, at: datetime) -> list[bytes]:
        return [self._render(pair, ven, at) for pair in pairs]

    def _known(self, pair: Pair, ven: Ven, at: datetime) -> bytes | None:
        found = self._rendered.get(_key(pair, ven))
        return found[0] if found and (found[1] is None or at < found[1]) else None

    def _render(self, pair: Pair, ven: Ven, at: datetime) -> bytes:
        offer, signals = pair
        known = self._known(pair, ven, at)
        if known is None:
            aimed = _aimed(pair)
            known, until = offered(
                offer.xml, at,
                event=offer.event, modification=offer.modification, cancelled=offer.cancelled,
                signals=signals, ven=_VEN, aimed=aimed,
                groups=[g for g in ven.groups if g in aimed],
                resources=[r for r in ven.resources if r in aimed],
            )  # fmt: skip
            if len(self._rendered) >= MOST_RENDERED:
                self._rendered.clear()
            self._rendered[_key(pair, ven)] = known, until
        return known.replace(_PLACE, _escaped(ven.ven_id))


_PLACE = b"&#65532;VEN"


def _escaped(text: str) -> bytes:
    for plain, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(plain, safe)
    return text.encode("ascii", "xmlcharrefreplace")


def _aimed(pair: Pair) -> frozenset[str]:
    """Return all names at which an event, or a signal of it that concerns a VEN, is aimed."""
    offer, signals = pair
    return frozenset(name for n in signals for group in offer.audiences[n] for name in group)


def _key(pair: Pair, ven: Ven) -> object:
    offer, signals = pair
    aimed = _aimed(pair)
    own = (*(g for g in ven.groups if g in aimed), "", *(r for r in ven.resources if r in aimed))
    return offer.event, offer.modification, offer.cancelled, tuple(signals), own


def _rank(offer: Offer, at: datetime) -> tuple[int, float, datetime]:
    """Return an event's place: active before pending, by priority, then by start.

    The lower the number the higher the priority; 0 is none (OpenADR 2.0b, conformance rule 57).
    """
    active = offer.start <= at < offer.end and not offer.cancelled
    priority = offer.priority or float("inf")
    return (0 if active else 1, priority if active else 0.0, offer.start)
