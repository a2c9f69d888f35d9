"""Which meters UtilityAPI lets one see, how each stands, and whether there is more of it.

Nothing here costs money: to have UtilityAPI collect is left to a person and the command line.
"""

from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from bridge.clock import Clock
from bridge.errors import SourceError, Unreachable, WireError
from bridge.interfaces import Batch
from bridge.model import Document
from bridge.notation import millis
from bridge.sources.pricing import Round
from bridge.sources.progress import Span
from bridge.sources.utilityapi.api import Api, PaymentRequired, TokenRefused, Trouble
from bridge.sources.utilityapi.events import MORE, Feed
from bridge.sources.utilityapi.records import METER_MARK, Record, Wishes
from bridge.sources.utilityapi.states import OK, STOPPED, gone, state_of
from bridge.usage import MeterState
from bridge.wire.utilityapi import Authorization, Event, Meter, read_authorization, read_meter

EVENTS, METERS = "events feed", "list of meters"  # parts of a round
EVENTS_MARK = "events"
DAY = timedelta(days=1)
INTERVALS_BACK, BILLS_BACK = 7 * DAY, 40 * DAY  # what is asked for again where there is more
MOST_NAMED = 100  # uids in one question; of more all are asked for
UNPAID = "payment_required", "Look at the balance at UtilityAPI."
T = TypeVar("T")


async def read_all(
    api: Api, wishes: Wishes, known: Iterable[str], doubts: list[str]
) -> tuple[dict[str, Meter], dict[str, Authorization]]:
    """Return the meters that are to be seen, and their authorizations and other known ones."""
    query = {"is_archived": "false"}
    if wishes.meters:
        query["uids"] = ",".join(wishes.meters)
    if wishes.authorizations:
        query["authorizations"] = ",".join(wishes.authorizations)
    meters = {m.uid: m for m in await _read_list(api, "meters", read_meter, query, doubts)}
    uids = {m.authorization for m in meters.values()} | set(known)
    query = {"uids": ",".join(sorted(uids))} if len(uids) <= MOST_NAMED else {}
    found = (
        await _read_list(api, "authorizations", read_authorization, query, doubts) if uids else []
    )
    return meters, {a.uid: a for a in found}


async def _read_list(
    api: Api, path: str, read: Callable[[Document], T], query: Mapping[str, str], doubts: list[str]
) -> list[T]:
    found = []
    async for page in api.pages(path, path, query):
        for document in page.items:
            try:
                found.append(read(document))
            except WireError as error:
                doubts.append(f"{path}: {error}")
    return found


class Meters:
    """The meters of an account, for as long as a source runs.

    `records` is shared with who downloads what there is of them; `unpaid` are those whose data
    were refused to it until the account is paid for.
    """

    def __init__(
        self,
        wishes: Wishes,
        api: Api,
        clock: Clock,
        feed: Feed,
        records: dict[str, Record],
        unpaid: Collection[str],
    ) -> None:
        self._wishes, self._api, self._clock = wishes, api, clock
        self._feed, self._records, self._unpaid = feed, records, unpaid
        self._said: dict[str, MeterState] = {}
        self._news: list[Event] = []  # events that were not acted on yet
        self._listed: datetime | None = None

    def look_again(self) -> None:
        """List the meters in the next round, whether there is news or not."""
        self._listed = None

    async def poll(self, now_on: Round) -> AsyncGenerator[Batch, None]:
        """Look for events; list the meters each day, and when there are some."""
        for part, look in ((EVENTS, self._look), (METERS, self._list)):
            try:
                batch = await look(now_on)
            except SourceError as error:
                self.look_again()
                yield self._say(self._in_trouble(error))
                if isinstance(error, TokenRefused):
                    raise
                if now_on.fails(part, error):
                    return
                continue
            now_on.answers()
            if batch:
                yield batch

    async def _look(self, now_on: Round) -> Batch | None:
        doubts = now_on.asks(EVENTS)
        news = await self._feed.news(self._api, self._clock.now(), doubts)
        self._news += [event for event in news if self._wishes.concerns(event)]
        return None

    async def _list(self, now_on: Round) -> Batch | None:
        """Return how all meters stand, where it is time to look."""
        now = self._clock.now()
        if self._listed and now - self._listed < DAY and not self._news:
            return None
        doubts, known = now_on.asks(METERS), {r.authorization for r in self._records.values()}
        meters, authorizations = await read_all(self._api, self._wishes, known, doubts)
        unread, states = bool(doubts), []
        for meter in meters.values():
            found = authorizations.get(meter.authorization)
            states.append(self._stands(meter, found, now))
            self._update(meter, doubts, stopped=states[-1].state in STOPPED)
        # One that could not be read is not one that is gone.
        for uid in set() if unread else set(self._records) - set(meters):
            self._records[uid] = record = replace(self._records[uid], stopped=True)
            found = authorizations.get(record.authorization)
            states.append(gone(self._wishes.meter_name(uid), uid, found, now))
        if not meters:
            doubts.append("no meter is to be seen: nobody has authorized, or the settings hide all")
        self._listed, self._news = now, []
        marks = {METER_MARK + uid: record.write() for uid, record in self._records.items()}
        return replace(self._say(states), marks={**marks, EVENTS_MARK: self._feed.write()})

    def _stands(self, meter: Meter, found: Authorization | None, now: datetime) -> MeterState:
        state = state_of(self._wishes.meter_name(meter.uid), self._wishes.name, meter, found, now)
        if meter.uid in self._unpaid and state.state == OK:
            says = "UtilityAPI gives nothing of it until the account is paid for."
            return replace(state, state=UNPAID[0], says=says, next_step=UNPAID[1])
        return state

    def _update(self, meter: Meter, doubts: list[str], *, stopped: bool) -> None:
        """Note what there is of a meter now, and whether the last of it is asked for again."""
        had = self._records.get(meter.uid, Record(meter.authorization))
        more = any(_tells_more(event, meter) for event in self._news)
        if meter.interval_count and not meter.intervals:
            doubts.append(f"meter {meter.uid}: it is not said of when its intervals are")
        new = replace(
            had,
            authorization=meter.authorization,
            stopped=stopped,
            intervals=had.intervals.news(_millis(meter.intervals), INTERVALS_BACK, said=more),
            bills=had.bills.news(_millis(meter.bills), BILLS_BACK, said=more),
        )
        self._records[meter.uid] = replace(new, turn=had.turn + 1) if more or new != had else had

    def _in_trouble(self, error: SourceError) -> list[MeterState]:
        """Return how the meters stand when the upstream fails."""
        match error:
            case TokenRefused():
                state, step = "auth_failed", "Write a token that holds into token_file."
            case PaymentRequired():
                state, step = UNPAID
            case Trouble() | Unreachable():
                state, step = "upstream_down", "Nothing needs to be done: it is asked again."
            case _:
                return []
        names = {
            self._wishes.meter_name(uid): uid
            for uid, record in self._records.items()
            if not record.stopped
        }
        had = [self._said.get(n, MeterState(n, "", about={"uid": u})) for n, u in names.items()]
        says = f"UtilityAPI: {error}."
        return [replace(known, state=state, says=says, next_step=step) for known in had]

    def _say(self, states: Iterable[MeterState]) -> Batch:
        """Return the states that were not said already."""
        new = [state for state in states if self._said.get(state.meter) != state]
        self._said.update((state.meter, state) for state in new)
        return Batch(meters=new)


def _tells_more(event: Event, meter: Meter) -> bool:
    return (
        event.type in MORE
        and event.meter in {None, meter.uid}
        and event.authorization in {None, meter.authorization}
    )


def _millis(spans: Sequence[tuple[datetime, datetime]]) -> list[Span]:
    return [(millis(start), millis(end)) for start, end in spans]
