"""The events feed of UtilityAPI, read with a cursor of one's own.

Events come newest first, though not strictly, and may be repeated. They are not marked as
delivered: a webhook of the same account may still owe them to somebody.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Self

from bridge.notation import from_json, millis, to_json
from bridge.sources.utilityapi.api import Api
from bridge.wire.utilityapi import Event, read_events

MOST_KNOWN = 2000  # events that are told from new ones
# After these there may be more to download.
MORE = frozenset({
    "meter_intervals_added", "meter_bills_added",
    "meter_historical_collection_finished_successful",
    "meter_historical_collection_finished_errored",
    "authorization_update_finished_successful", "authorization_update_finished_errored",
})  # fmt: skip


class Feed:
    """Knows which events were seen: the last ones, and that older ones are of no concern."""

    def __init__(self, floor: int | None, known: Iterable[tuple[str, int]], *, fresh: bool) -> None:
        self._floor, self._known, self._fresh = floor, dict(known), fresh

    @classmethod
    def read(cls, mark: str | None) -> Self:
        """Return what `write` wrote; one that saw nothing yet where there is none."""
        if not mark:
            return cls(None, (), fresh=True)
        said = from_json(mark)
        return cls(said["floor"], ((uid, at) for uid, at in said["known"]), fresh=False)

    def write(self) -> str:
        """Return it as the text of a mark."""
        return to_json({"floor": self._floor, "known": list(self._known.items())})

    async def news(self, api: Api, now: datetime, doubts: list[str]) -> list[Event]:
        """Return events that were not seen yet; the first time none, as all is looked at then."""
        found: dict[str, Event] = {}
        async for page in api.pages("events", "events", {}):
            events, problems = read_events(page.items)
            doubts += [f"events: {problem}" for problem in problems]
            new = [e for e in events if self._is_new(e)]
            found.update((e.uid, e) for e in new)
            if self._fresh or not new:
                break
        first, self._fresh = self._fresh, False
        if found:
            self._note(found.values(), now, first=first)
        return [] if first else list(found.values())

    def _is_new(self, event: Event) -> bool:
        old = self._floor is not None and event.at is not None and millis(event.at) < self._floor
        return not old and event.uid not in self._known

    def _note(self, events: Iterable[Event], now: datetime, *, first: bool) -> None:
        self._known.update((e.uid, millis(e.at or now)) for e in events)
        latest = sorted(self._known.items(), key=lambda known: known[1])[-MOST_KNOWN:]
        if first or len(latest) < len(self._known):
            self._floor = latest[0][1]
        self._known = dict(latest)
