"""Usage as a Green Button file: as it is kept, piece by piece, however long it is."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby

from bridge.usage import Known, Measured, Origin, StreamInfo, UsageStore
from bridge.wire import greenbutton
from bridge.wire.readings import hundred_thousandths, reading

AT_ONCE = 5_000  # readings
TOLD = Origin("export")
TICK = timedelta(milliseconds=1)


async def green_button(
    store: UsageStore,
    streams: Sequence[StreamInfo],
    start: datetime | None,
    end: datetime | None,
    now: datetime,
    left_out: Counter[str],
) -> AsyncGenerator[bytes, None]:
    """Yield a feed of one meter's streams; `left_out` counts what ESPI cannot say.

    It is written in a thread that asks the store for more as it goes.
    """
    loop = asyncio.get_running_loop()

    def page(stream: StreamInfo, since: datetime, until: datetime) -> list[Known]:
        asked = store.readings(stream, since, until, AT_ONCE, all_=True)
        return asyncio.run_coroutine_threadsafe(asked, loop).result()

    def runs(stream: StreamInfo) -> Iterator[Measured]:
        if stream.first is None or stream.last is None:
            return
        since = max(start or stream.first, stream.first)
        last = stream.last + TICK  # one of no length may stand at its end
        until = min(end or last, last)
        while found := page(stream, since, until):
            last_start = found[-1].start
            # Several may begin together: those of a full page's end come with the next one.
            whole = [r for r in found if r.start < last_start] if len(found) == AT_ONCE else found
            yield from _runs(stream, whole or found)
            since = last_start if len(whole) < len(found) and whole else last_start + TICK

    pieces = greenbutton.write(
        streams[0].meter, [(stream.stream, runs(stream)) for stream in streams],
        now=now, zone=streams[0].zone, left_out=left_out,
    )  # fmt: skip
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece


def _runs(stream: StreamInfo, found: Sequence[Known]) -> Iterator[Measured]:
    for said, group in groupby(found, lambda known: known.said):
        readings = [
            reading(
                known.start, known.end, known.value, 0, known.quality,
                None if known.cost is None else hundred_thousandths(known.cost),
            )
            for known in group
        ]  # fmt: skip
        yield Measured(stream.stream, readings, TOLD, said)
