"""Green Button files to the store: read together, kept piece by piece, told what became of each.

A command, an upload and a watched folder take files in alike.
"""

import asyncio
import sqlite3
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from bridge.clock import Clock
from bridge.model import Document
from bridge.usage import Kept, Measured, Stream, UsageStore
from bridge.wire.greenbutton import TRUNCATED, Files

AT_ONCE = 5_000  # readings in one transaction
DAY = 86_400_000  # milliseconds


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of files."""

    readings: int  # distinct ones in the files
    kept: Kept
    dropped: dict[str, int]  # reason → how many
    meters: list[str]
    problems: list[str]

    @property
    def cut_off(self) -> bool:
        """Whether a file ends in the middle."""
        return TRUNCATED in self.dropped

    @property
    def document(self) -> Document:
        """Return it as it is shown."""
        return {
            "readings": self.readings,
            "new": self.kept.new,
            "updated": self.kept.updated,
            "duplicates": self.kept.duplicates,
            "outdated": self.kept.outdated,
            "dropped": self.dropped,
            "meters": self.meters,
            "problems": self.problems,
        }


async def take_in(
    files: Sequence[tuple[str, Path]],
    store: UsageStore,
    clock: Clock,
    *,
    meter: str | None = None,
    zone: str | None = None,
    passed: Callable[[int], None] = lambda _: None,
) -> Taken:
    """Take in files (name, where each lies); raise WireError where one is no Green Button file.

    `meter` names the meter, `passed` is told how many readings were kept so far.
    """
    reading, kept, meters = Files(meter=meter, zone=zone), Kept(), set[str]()
    with closing(_Distinct()) as distinct:
        pieces = _together(reading.read([(name, _opened(path)) for name, path in files]))
        while piece := await asyncio.to_thread(next, pieces, None):
            kept += await store.keep(piece, clock.now(), durable=False)
            await asyncio.to_thread(distinct.note, piece)
            meters |= {one.stream.meter for one in piece}
            passed(distinct.count)
        return Taken(
            distinct.count, kept, dict(reading.dropped), sorted(meters), list(reading.problems)
        )


def _opened(path: Path) -> Callable[[], BinaryIO]:
    return lambda: path.open("rb")


def _together(found: Iterator[Measured]) -> Iterator[list[Measured]]:
    """Yield pieces of a size that is worth a transaction, and holds nobody up."""
    piece: list[Measured] = []
    size = 0
    for one in found:
        piece.append(one)
        size += len(one.readings)
        if size >= AT_ONCE:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


class _Distinct:
    """Counts readings of which there may be millions, each once: on the disk, by stream and day."""

    def __init__(self) -> None:
        self.count = 0
        self._streams: dict[Stream, int] = {}
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.execute(
            "CREATE TABLE seen (stream, day, keys BLOB, PRIMARY KEY (stream, day)) WITHOUT ROWID"
        )

    def note(self, piece: Sequence[Measured]) -> None:
        """Count those that were not counted before."""
        self._db.execute("BEGIN")
        for one in piece:
            number = self._streams.setdefault(one.stream, len(self._streams))
            by_day: dict[int, set[tuple[int, int]]] = defaultdict(set)
            for start, length, *_ in one.readings:
                by_day[start // DAY].add((start, length))
            for day, keys in by_day.items():
                self._add(number, day, keys)
        self._db.execute("COMMIT")

    def _add(self, stream: int, day: int, keys: set[tuple[int, int]]) -> None:
        sql = "SELECT keys FROM seen WHERE stream = ? AND day = ?"
        row = self._db.execute(sql, (stream, day)).fetchone()
        if row:
            flat = iter(array("q", row[0]))
            known = set(zip(flat, flat, strict=True))
            self.count -= len(known)
            keys |= known
        self.count += len(keys)
        packed = array("q", chain.from_iterable(keys)).tobytes()
        self._db.execute("INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", (stream, day, packed))

    def close(self) -> None:
        self._db.close()
