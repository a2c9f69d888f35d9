"""EiEvent: every applicable event in each oadrDistributeEvent, and the VENs' answers."""

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime

from bridge.model import OptType
from bridge.vens import Ven
from bridge.vtn.openadr2.board import Board, Pair
from bridge.vtn.openadr2.replies import Reply, response
from bridge.wire.openadr2_offers import offered
from bridge.wire.openadr2_requests import EventAnswer

MOST_TOLD = 10  # of what is wrong with a message
AT_ONCE = 4  # that are rendered in about a millisecond
MOST_RENDERED = 16_000_000  # bytes that are kept
_VEN = "\ufffcVEN"  # stands for the venID in what is the same for all VENs


class Events:
    """Lists events for VENs, and keeps what they answer."""

    def __init__(self, vtn_id: str, board: Board) -> None:
        self._vtn_id, self._board = vtn_id, board
        self._rendered: dict[object, tuple[bytes, datetime, datetime | None]] = {}
        self._size = 0

    async def distribute(
        self, ven: Ven, connection: object, at: datetime, request_id: str = "",
        limit: int | None = None,
    ) -> Reply:  # fmt: skip
        """Return all events that concern a VEN, or the first so many."""
        pairs = self._board.listed(ven, at)[:limit]
        await self._board.sending(ven, [offer for offer, _ in pairs], connection, at)
        missing = sum(1 for pair in pairs if self._known(pair, ven, at) is None)
        events = (
            await asyncio.to_thread(self._render_all, pairs, ven, at)
            if missing > AT_ONCE
            else self._render_all(pairs, ven, at)
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

    async def answered(
        self, ven: Ven, answers: Sequence[EventAnswer], at: datetime
    ) -> tuple[Collection[str], str | None]:
        """Keep what a VEN answered; return to which events, and what is wrong with the rest."""
        good: dict[str, tuple[int, OptType | None]] = {}
        unknown = []
        for answer in answers:
            offer = self._board.offer(ven, answer.event)
            if offer is None:
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
        return good.keys(), "; ".join(unknown[:MOST_TOLD])[:500] or None

    # --- as each is now --------------------------------------------------------------------

    def _render_all(self, pairs: Sequence[Pair], ven: Ven, at: datetime) -> list[bytes]:
        return [self._render(pair, ven, at) for pair in pairs]

    def _known(self, pair: Pair, ven: Ven, at: datetime) -> bytes | None:
        found = self._rendered.get(_key(pair, ven))
        if found and found[1] <= at and (found[2] is None or at < found[2]):
            return found[0]
        return None

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
            self._size += len(known)
            if self._size > MOST_RENDERED:
                self._rendered.clear()
                self._size = len(known)
            self._rendered[_key(pair, ven)] = known, at, until
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
