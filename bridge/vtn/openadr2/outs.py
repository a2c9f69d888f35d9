"""What upstream is told of VENs that opt out: all, by oadrCreatedEvent, or some, by EiOpt."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from bridge.model import Audience, OptType
from bridge.vens import Offer, Ven, VenStore
from bridge.vtn.openadr2.board import Board

Verdict = tuple[bool, Mapping[str, OptType]]


class Outs:
    """Works out, for events of sources that pass opts on, who of those aimed at is out."""

    def __init__(
        self, store: VenStore, board: Board, sources: Collection[str], devices: Sequence[Audience]
    ) -> None:
        self._store, self._board = store, board
        self._sources, self._devices = frozenset(sources), devices
        self._told: dict[tuple[str, str], Verdict] = {}

    async def settle(self, at: datetime) -> None:
        """Keep what upstreams are to be told now, where it is other than before."""
        if not self._sources:
            return
        found = {
            (offer.source, offer.foreign_id): self._verdict(offer)
            for offer in self._board.outs(self._sources)
            if offer.end > at and not offer.priced
        }
        changed = {key: said for key, said in found.items() if self._told.get(key) != said}
        self._told = found
        await self._store.settle_outs(changed, at)

    def _verdict(self, offer: Offer) -> Verdict:
        """Return whether all are out at whom an event is aimed, and else which resources are."""
        vens = [ven for ven in self._board.vens if offer.signals_for(ven)]
        others = any(
            device.includes(offer.program, groups, test=offer.test)
            for device in self._devices
            for groups in offer.audiences
        )
        aimed = {name for groups in offer.audiences for group in groups for name in group}
        out: dict[str, OptType] = {}
        all_out = bool(vens) and not others
        for ven in vens:
            whole, some = self._is_out(ven, offer)
            own = [r for r in ven.resources if r in aimed] or ven.resources
            for resource in own:
                out[resource] = "optOut" if whole or resource in some else "optIn"
            all_out = all_out and (whole or (bool(own) and some.issuperset(own)))
        return all_out, {} if all_out else out

    def _is_out(self, ven: Ven, offer: Offer) -> tuple[bool, frozenset[str]]:
        """Return whether a VEN is out of an event as a whole, and which of its resources are.

        What was said last counts, be it of the event or of the time in which it lies.
        """
        said = self._board.said(ven).get(offer.event)
        whole, at = (said.opt == "optOut", said.at) if said and said.opt else (False, None)
        some: frozenset[str] = frozenset()
        for opt in self._board.opts(ven):
            if opt.event != offer.event and not opt.covers(offer.start, offer.end):
                continue
            if opt.resources:
                some = some | opt.resources if opt.opt == "optOut" else some - opt.resources
            elif opt.event is None and (at is None or (opt.at is not None and opt.at >= at)):
                whole, at = opt.opt == "optOut", opt.at
        return whole, some
