"""Answers that are rendered once for each change, visibility and query, and not once a request."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import replace
from datetime import datetime

from bridge.interfaces import Objects as Catalog
from bridge.parties import Caller, View
from bridge.web import Representation

Rendering = Callable[[], Awaitable[tuple[Representation, datetime | None]]]
MOST = 32 * 1024 * 1024  # bytes of representations that are kept


class Rendered:
    """Keeps representations until something they may show has changed."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._kept: OrderedDict[Hashable, tuple[Representation, datetime | None]] = OrderedDict()
        self._views: dict[Hashable, View] = {}
        self._size = 0
        self._commits = self._seq = -1

    async def look_up(
        self, caller: Caller, what: Hashable, render: Rendering, now: datetime, *, aimed: bool
    ) -> Representation:
        """Return what a caller sees of `what`; `aimed` is the same for all of like grants."""
        await self._freshen()
        view = await self._view(caller)
        key = (replace(view, client=None) if aimed else view, what)
        kept = self._kept.get(key)
        if kept and (kept[1] is None or now < kept[1]):
            self._kept.move_to_end(key)
            return kept[0]
        commits = self._commits
        shown, until = await render()
        if commits == self._catalog.commits:  # nothing was written while it was rendered
            self._keep(key, shown, until)
        return shown

    async def _freshen(self) -> None:
        commits = self._catalog.commits
        if commits == self._commits:
            return
        seq = await self._catalog.latest()
        if seq != self._seq:
            self._kept.clear()
            self._views.clear()
            self._size = 0
        self._commits, self._seq = commits, seq

    async def _view(self, caller: Caller) -> View:
        who = (caller.client, caller.sees_all)
        if who not in self._views:
            commits, view = self._catalog.commits, await self._catalog.view(caller)
            if commits != self._catalog.commits:
                return view
            self._views[who] = view
        return self._views[who]

    def _keep(self, key: Hashable, shown: Representation, until: datetime | None) -> None:
        former = self._kept.pop(key, None)
        self._size += shown.size - (former[0].size if former else 0)
        self._kept[key] = shown, until
        while self._size > MOST:
            self._size -= self._kept.popitem(last=False)[1][0].size
