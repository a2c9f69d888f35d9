"""What upstream is told of VENs that opt out: all, by oadrCreatedEvent, or some, by EiOpt."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from bridge.model import Audience, OptType
from bridge.vens import Offer, VenStore
from bridge.vtn.openadr2.board import Board
from bridge.vtn.openadr2.opted import is_out, resources_out

Verdict = tuple[bool, Mapping[str, OptType]]


class Outs:
    """Works out, for events of sources that pass opts on, who of those aimed at is out."""

    def __init__(
        self, store: VenStore, board: Board, sources: Collection[str], devices: Sequence[Audience]
    ) -> None:
        self._store, self._board = store, board
        self._sources, self._devices = frozenset(sources), devices
        self._told: dict[tuple[str, str], Verdict] = {}
        self._settling = asyncio.Lock()

    async def settle(self, at: datetime, events: Collection[str] | None = None) -> None:
        """Keep what upstreams are to be told now of events, where it is other than before."""
        if self._sources:
            async with self._settling:  # what is worked out is kept before it is anew
                await self._settle(at, events)

    async def _settle(self, at: datetime, events: Collection[str] | None) -> None:
        holding = [
            offer
            for offer in self._board.holding(self._sources)
            if offer.end > at and not offer.priced and (events is None or offer.event in events)
        ]
        verdicts: dict[tuple[str, str], Verdict] = {}
        for offer in holding:
            verdicts[offer.source, offer.foreign_id] = self._verdict(offer)
            await asyncio.sleep(0)  # others have a turn between any two
        changed = {key: said for key, said in verdicts.items() if self._told.get(key) != said}
        await self._store.settle_outs(changed, at)
        self._told = verdicts if events is None else self._told | changed

    def _verdict(self, offer: Offer) -> Verdict:
        """Return whether all are out at whom an event is aimed, and else which resources are."""
        vens = [v for v in self._board.vens if v.registration_id and offer.signals_for(v)]
        others = any(
            device.includes(offer.program, groups, test=offer.test)
            for device in self._devices
            for groups in offer.audiences
        )
        aimed = {name for groups in offer.audiences for group in groups for name in group}
        out: dict[str, OptType] = {}
        all_out = bool(vens) and not others
        for ven in vens:
            opts = self._board.opts(ven)
            whole = is_out(opts, self._board.said(ven).get(offer.event), offer)
            some = resources_out(opts, offer)
            by_another_name = not aimed or aimed & {ven.name, ven.ven_id, *ven.groups}
            own = [r for r in ven.resources if by_another_name or r in aimed]
            for resource in own:
                out[resource] = "optOut" if whole or resource in some else "optIn"
            all_out = all_out and (whole or (bool(own) and some.issuperset(own)))
        return all_out, {} if all_out else out
