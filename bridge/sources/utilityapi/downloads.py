"""Downloads what UtilityAPI has collected: intervals and bills, in windows, the newest first.

Downloading costs no money, but is wanted no faster than once a minute.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from bridge.clock import Clock
from bridge.errors import SourceError, WireError
from bridge.interfaces import Batch, Surroundings
from bridge.notation import from_millis, millis, write_time
from bridge.sources.asking import Asking
from bridge.sources.progress import Progress, Span, Window, joined, pieces, within
from bridge.sources.utilityapi.api import Api, PaymentRequired, Trouble
from bridge.sources.utilityapi.records import METER_MARK, Record, Wishes
from bridge.usage import NET, UNKNOWN, Measured, Origin, Stream
from bridge.wire.utilityapi import Page
from bridge.wire.utilityapi_usage import BILL, Bill, Chunk, read_bills, read_intervals

DOWNLOADED = "downloaded"  # the mark of when something was downloaded last
INTERVALS, BILLS = "intervals", "bills"
LONGEST_WINDOW = 31  # days
DAY = 86_400_000  # milliseconds
BESIDE = 25 * 3_600_000  # of both sides, for a chunk of a local day across a window's edge
UNREADY = "{}: not all is ready at UtilityAPI yet"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Download(Window):
    """What is to be downloaded of a meter and a stretch of time."""

    kind: str
    uid: str
    label: str
    turn: int  # of the meter: after news it is another window

    @property
    def of(self) -> str:
        """What is put off together when it fails."""
        return self.uid

    def __str__(self) -> str:
        return f"{self.kind} of {self.label}, {self.days}"


class Downloads:
    """What is still to be downloaded of some meters, and how.

    `failed` is told what went wrong. `unpaid` are the meters whose data were refused until the
    account is paid for.
    """

    def __init__(
        self,
        wishes: Wishes,
        api: Api,
        clock: Clock,
        records: dict[str, Record],
        failed: Callable[[SourceError], None],
    ) -> None:
        self._wishes, self._api, self._clock = wishes, api, clock
        self._records, self._tell = records, failed
        self._failed: dict[str, int] = {}  # how often in a row downloads of a meter failed
        self._days: dict[str, int] = {}  # that are asked for at once, of meters that failed
        self.unpaid: set[str] = set()

    @property
    def name(self) -> str:
        """The source's name."""
        return self._wishes.name

    @property
    def _since(self) -> int:
        """From when on all is wanted: the beginning of a day, so that windows stay the same."""
        since = millis(self._clock.now() - self._wishes.history)
        return since - since % DAY

    async def backlog(self, around: Surroundings) -> list[Download]:
        """Return what is to be downloaded, the newest first; of meters that failed last."""
        since, found = self._since, list[Download]()
        for uid, record in self._records.items():
            if record.stopped:
                continue
            longest = self._days.get(uid, LONGEST_WINDOW) * DAY
            spans = [(INTERVALS, s) for s in pieces(record.intervals.left(since), longest)]
            if self._wishes.bills:
                spans += [(BILLS, s) for s in record.bills.left(since)]
            label = self._wishes.meter_name(uid)
            found += [Download(span, kind, uid, label, record.turn) for kind, span in spans]
        return sorted(found, key=self._urgency)

    def _urgency(self, window: Download) -> tuple[int, int]:
        failed = self._failed.get(window.uid, 0)
        # From the other end every second time: what fails always must not hide the rest for ever.
        return failed, window.span[1] if failed % 2 else -window.span[1]

    async def fill(
        self, ask: Asking, around: Surroundings, piece: Download, doubts: list[str]
    ) -> AsyncGenerator[Batch, None]:
        """Yield what a window holds, and the mark that it was asked for."""
        if not within(self._progress(piece).left(piece.span[0]), *piece.span):
            return  # it was answered with another one
        download = self._bills if piece.kind == BILLS else self._intervals
        try:
            async for batch in download(piece, doubts):
                yield batch
        except SourceError as error:
            self._note(piece.uid, error)
            self._tell(error)
            raise
        self._failed.pop(piece.uid, None)
        self._days.pop(piece.uid, None)
        self.unpaid.discard(piece.uid)

    def _note(self, uid: str, error: SourceError) -> None:
        self._failed[uid] = self._failed.get(uid, 0) + 1
        if isinstance(error, Trouble):
            self._days[uid] = max(1, self._days.get(uid, LONGEST_WINDOW) // 2)
        if isinstance(error, PaymentRequired):
            self.unpaid.add(uid)

    def _progress(self, piece: Download) -> Progress:
        record = self._records[piece.uid]
        return record.bills if piece.kind == BILLS else record.intervals

    async def _intervals(self, piece: Download, doubts: list[str]) -> AsyncGenerator[Batch, None]:
        """Yield the readings of a window.

        It is not said whether a chunk that lies only partly in a window is answered: a day of
        both sides is asked for, too. Where nothing comes of what is said to be there more is
        asked for, and at last everything.
        """
        covered, answered = self._progress(piece).covered, piece.span
        for span in self._widened(piece.span, covered):
            answered, seen = span, list[Span]()
            asked = max(span[0] - BESIDE, covered[0][0]), min(span[1] + BESIDE, covered[-1][1])
            async for page, chunks in self._pages(INTERVALS, read_intervals, piece, asked, doubts):
                for batch in self._measured(piece, chunks, seen, doubts):
                    yield batch
                if page.incomplete:
                    doubts.append(UNREADY.format(piece.label))
                    return  # without a mark: it is asked for again
            if not _missing(covered, piece.span, seen):
                break
        else:
            doubts.append(f"{piece}: UtilityAPI says that there is something, and gives less")
        yield self._done(piece, answered)

    def _widened(self, span: Span, covered: Sequence[Span]) -> Iterator[Span]:
        everything = min(max(self._since, covered[0][0]), span[0]), covered[-1][1]
        more = LONGEST_WINDOW * DAY
        wider = max(span[0] - more, everything[0]), min(span[1] + more, everything[1])
        yield from dict.fromkeys((span, wider, everything))

    def _measured(
        self, piece: Download, chunks: Sequence[Chunk], seen: list[Span], doubts: list[str]
    ) -> Iterator[Batch]:
        """Yield what chunks say; of a service with several meters each by its own name.

        What was said by itself, before others came beside it, keeps the name that it had.
        """
        ours = [chunk for chunk in chunks if chunk.meter == piece.uid]
        self._records[piece.uid] = record = _apart(self._records[piece.uid], ours)
        if record.several and record.alone:
            said = f"{piece.label}: is meter {', '.join(record.alone)}; others are beside it now"
            doubts += {f"{said}, each kept as {piece.label}/NUMBER"} - set(doubts)
        for chunk in ours:
            origin = Origin("utilityapi", self.name, chunk.uid)
            found = []
            for told, readings in chunk.readings.items():
                apart = record.several and told.number not in {"", *record.alone}
                name = f"{piece.label}/{told.number}" if apart else piece.label
                stream = Stream(name, told.direction, told.kind, told.unit)
                found.append(Measured(stream, readings, origin, chunk.said))
                seen.append((readings[0].start, readings[-1].start + readings[-1].length))
            if found:
                yield Batch(measured=found, history=True)

    async def _bills(self, piece: Download, doubts: list[str]) -> AsyncGenerator[Batch, None]:
        async for page, bills in self._pages(BILLS, read_bills, piece, piece.span, doubts):
            ours = [self._billed(piece, bill) for bill in bills if bill.meter == piece.uid]
            if ours:
                yield Batch(measured=ours, history=True)
            if page.incomplete:
                doubts.append(UNREADY.format(piece.label))
                return
        yield self._done(piece, piece.span)

    def _billed(self, piece: Download, bill: Bill) -> Measured:
        stream = Stream(piece.label, NET, BILL, bill.unit, self._wishes.currency or UNKNOWN)
        origin = Origin("utilityapi", self.name, bill.uid)
        return Measured(stream, [bill.reading], origin, bill.said)

    async def _pages(
        self,
        path: str,
        read: Callable[[bytes], tuple[Page, list[T], list[str]]],
        piece: Download,
        span: Span,
        doubts: list[str],
    ) -> AsyncGenerator[tuple[Page, list[T]], None]:
        """Yield pages of what a meter has of some time; each is a download."""
        start, end = (write_time(from_millis(edge)) for edge in span)
        query: Mapping[str, str] | None = {"meters": piece.uid, "start": start, "end": end}
        while query is not None:
            body = await self._api.get(path, query, download=True)
            try:
                # Off the event loop: a large page would hold it up.
                page, found, problems = await asyncio.to_thread(read, body)
            except WireError as error:
                raise SourceError(f"{path}: {error}") from error
            doubts += [f"{piece.label}: {problem}" for problem in problems]
            yield page, found
            query = self._api.after(path, query, page)

    def _done(self, piece: Download, span: Span) -> Batch:
        """Return the mark that a window was asked for and answered."""
        record, progress = self._records[piece.uid], self._progress(piece).answered(span)
        self._records[piece.uid] = record = (
            replace(record, bills=progress)
            if piece.kind == BILLS
            else replace(record, intervals=progress)
        )
        now = str(millis(self._clock.now()))
        marks = {METER_MARK + piece.uid: record.write(), DOWNLOADED: now}
        return Batch(marks=marks, history=True)


def _apart(record: Record, chunks: Sequence[Chunk]) -> Record:
    """Return what is known of the meters of a service after it said more."""
    if record.several:
        return record
    if any(chunk.several for chunk in chunks):
        return replace(record, several=True)
    numbers = {told.number for chunk in chunks for told in chunk.readings} - {""}
    return replace(record, alone=tuple(sorted(numbers | set(record.alone))))


def _missing(covered: Sequence[Span], span: Span, seen: Sequence[Span]) -> bool:
    """Whether nothing came of the first or the last day of what is said to be there."""
    there, came = within(covered, *span), within(joined(seen), *span)
    if not there or not came:
        return bool(there)
    return came[0][0] - there[0][0] > DAY or there[-1][1] - came[-1][1] > DAY
