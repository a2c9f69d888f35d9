"""Answers that are rendered once for each change, visibility and query, and not once a request."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from datetime import datetime

from bridge.parties import Caller, View
from bridge.parties import Objects as Catalog
from bridge.web import Representation

Rendering = Callable[[], Awaitable[tuple[Representation, datetime | None]]]
OVERHEAD = 4_096  # bytes that an entry takes beside its body
MOST_ASKED = 10_000
MOST = 32 * 1024 * 1024  # bytes of representations that are kept


class Rendered:
    """Keeps representations until something they may show has changed."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._kept: OrderedDict[Hashable, tuple[Representation, datetime | None]] = OrderedDict()
        self._direct: dict[Hashable, Hashable] = {}  # who asks by which path → key
        self._visibility: dict[Hashable, View] = {}
        self._size = 0
        self._commits = self._seq = -1

    def at_hand(self, caller: Caller, asked: str, now: datetime) -> Representation | None:
        """Return what the same caller was shown when it asked the same, if it is so still."""
        if self._commits != self._catalog.commits:
            return None
        kept = self._kept.get(self._direct.get((caller.client, caller.sees_all, asked)))
        return kept[0] if kept and (kept[1] is None or now < kept[1]) else None

    async def look_up(
        self, caller: Caller, what: Hashable, asked: str, render: Rendering, now: datetime
    ) -> Representation:
        """Return what a caller sees of `what`, which it asks for by the path and query `asked`."""
        await self._freshen()
        seq, who = self._seq, (caller.client, caller.sees_all)
        view = self._visibility.get(who) or await self._catalog.visibility(caller)
        kept = self._kept.get((view, what))
        if kept is None or not (kept[1] is None or now < kept[1]):
            kept = await render()
        await self._freshen()
        if seq == self._seq:  # nothing was written meanwhile
            self._keep((view, what), kept)
            if len(self._direct) >= MOST_ASKED:
                self._direct.clear()
            self._direct[*who, asked] = (view, what)
            self._visibility[who] = view
        return kept[0]

    async def _freshen(self) -> None:
        commits = self._catalog.commits
        if commits == self._commits:
            return
        seq = await self._catalog.latest()
        if seq != self._seq:
            self._kept.clear()
            self._direct.clear()
            self._visibility.clear()
            self._size = 0
        self._commits, self._seq = commits, seq

    def _keep(self, key: Hashable, kept: tuple[Representation, datetime | None]) -> None:
        shown, former = kept[0], self._kept.pop(key, None)
        self._size += shown.size + OVERHEAD - (former[0].size + OVERHEAD if former else 0)
        self._kept[key] = kept
        while self._size > MOST:
            self._size -= self._kept.popitem(last=False)[1][0].size + OVERHEAD
