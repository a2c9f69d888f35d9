"""Green Button files that are put into a folder: read when they are new or were changed.

What is found at one look is read together, for a download may come in parts.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Literal

from bridge.errors import SettingsError, WireError
from bridge.interfaces import Batch, Surroundings
from bridge.notation import SomeTime, Zone
from bridge.sources import watched
from bridge.sources.asking import QuietSource
from bridge.wire.greenbutton import Files

SUFFIXES = {".xml"}


class GreenButton(QuietSource):
    """A folder, and whose meters its files are of."""

    kind: Literal["greenbutton"]
    folder: Path
    meter: str | None = None
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
                async with aclosing(self._read(new)) as batches:
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
        return there, [
            path for path in there
            if watched.stamp_in(marks, str(path)) != watched.stamp(path)
            and watched.lies_still(path, now)
        ]  # fmt: skip

    async def _read(self, paths: Sequence[Path]) -> AsyncGenerator[Batch, None]:
        """Yield what files say together; where one is none, what each says by itself."""
        stamps = {path: watched.stamp(path) for path in paths}
        reading = Files(meter=self.meter, zone=self.timezone)
        problems: list[str] = []
        try:
            pieces = reading.read([(path.name, _opened(path)) for path in paths])
            # Off the event loop: a piece of a large file would hold it up.
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                yield Batch(measured=[piece], history=True)
        except (WireError, OSError) as error:
            if len(paths) > 1:
                for path in paths:
                    async with aclosing(self._read([path])) as batches:
                        async for batch in batches:
                            yield batch
                return
            problems = [str(error)]
        left_out = [f"{count} left out: {why}" for why, count in reading.dropped.items()]
        problems += [*reading.problems, *left_out]
        # Whatever is wrong with one of several, it is told once, with the first.
        marks = {str(p): watched.mark(stamps[p], problems if p == paths[0] else []) for p in paths}
        yield Batch(marks=marks, history=True)


def _opened(path: Path) -> Callable[[], BinaryIO]:
    return lambda: path.open("rb")
