"""Green Button files that are put into a folder: read when they are new or were changed.

What is found at one look is read together, for a download may come in parts: as long as one is
being written the others wait, though not for ever.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Literal

from pydantic import Field

from bridge.errors import SettingsError, WireError
from bridge.interfaces import Batch, Surroundings
from bridge.notation import SomeTime, Zone, from_json, to_json
from bridge.sources import watched
from bridge.sources.asking import QuietSource
from bridge.wire.greenbutton import Files, refusal

SUFFIXES = {".xml", ".zip"}  # of an archive it is told that it must be taken apart
LONG_STILL = timedelta(minutes=1)  # a file that lay still for so long waits for no other
METERS = "meters"  # the mark of what usage points are called, where the settings name the meter


class GreenButton(QuietSource):
    """A folder, and whose meters its files are of."""

    kind: Literal["greenbutton"]
    folder: Path
    meter: str | None = Field(default=None, min_length=1, max_length=256)
    timezone: Zone | None = None
    every: SomeTime = timedelta(seconds=10)

    def check_files(self) -> None:
        """Look whether the folder is there."""
        if not self.folder.is_dir():
            raise SettingsError(f"{self.folder}: is not a folder")

    async def batches(self, around: Surroundings) -> AsyncGenerator[Batch, None]:
        """Yield what new files say, and that they were read."""
        while True:
            marks = await around.memory.marks(self.name)
            there, new = await asyncio.to_thread(self._look, marks, around.clock.now())
            if new:
                async with aclosing(self._read(new, self._named(marks))) as batches:
                    async for batch in batches:
                        yield batch
                marks = await around.memory.marks(self.name)
            around.warn(watched.problems_in(marks, [str(path) for path in there]))
            now = around.clock.now()
            around.succeeded(now)
            await around.memory.heard_from(self.name, now)
            await around.clock.sleep(self.every.total_seconds())

    def _look(
        self, marks: Mapping[str, str], now: datetime
    ) -> tuple[Sequence[Path], Sequence[Path]]:
        """Return the files that are there, and those that are to be read."""
        there = watched.files(self.folder, SUFFIXES)
        new = [p for p in there if watched.stamp_in(marks, str(p)) != watched.stamp(p)]
        since = watched.STILL
        if not all(watched.lies_still(path, now) for path in new):
            since = LONG_STILL
        return there, [path for path in new if watched.lies_still(path, now, since)]

    def _named(self, marks: Mapping[str, str]) -> dict[str, str]:
        """Return what usage points are called, by this setting of the meter."""
        said = from_json(marks.get(METERS, "{}"))
        return dict(said["points"]) if said and said["meter"] == self.meter else {}

    async def _read(
        self, paths: Sequence[Path], named: dict[str, str]
    ) -> AsyncGenerator[Batch, None]:
        """Yield what files say together, without those that are none, and that they were read."""
        stamps = {path: watched.stamp(path) for path in paths}
        refused = await asyncio.to_thread(_refused, paths)
        if refused:
            marks = {str(p): watched.mark(stamps[p], [why]) for p, why in refused.items()}
            yield Batch(marks=marks, history=True)
        paths = [path for path in paths if path not in refused]
        reading = Files(meter=self.meter, zone=self.timezone, named=named)
        problems: list[str] = []
        try:
            pieces = reading.read([(path.name, _opened(path)) for path in paths])
            # Off the event loop: a piece of a large file would hold it up.
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                yield Batch(measured=[piece], history=True)
        except (WireError, OSError) as error:
            if len(paths) > 1:
                if self.meter is not None:
                    named |= reading.meters  # by which pieces may have been kept already
                for path in paths:
                    async with aclosing(self._read([path], named)) as batches:
                        async for batch in batches:
                            yield batch
                return
            problems = [str(error)]
        left_out = [f"{count} left out: {why}" for why, count in reading.dropped.items()]
        problems += [*reading.problems, *left_out]
        # Whatever is wrong with one of several, it is told once, with the first.
        marks = {str(p): watched.mark(stamps[p], problems if p == paths[0] else []) for p in paths}
        if self.meter is not None:
            named |= reading.meters
            marks[METERS] = to_json({"meter": self.meter, "points": named})
        yield Batch(marks=marks, history=True)


def _refused(paths: Sequence[Path]) -> dict[Path, str]:
    found = ((path, refusal(path.name, _opened(path))) for path in paths)
    return {path: why for path, why in found if why}


def _opened(path: Path) -> Callable[[], BinaryIO]:
    return lambda: path.open("rb")
