"""Folders of files: which there are, which lie still, and which were read as they are now.

A file is read when it is new or was changed, and lay still for a moment. What was wrong with
it is kept with the mark that it was read, and told for as long as it is there.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from pathlib import Path

from bridge.errors import SourceError

STILL = timedelta(seconds=2)  # for how long a file was not written to
BETWEEN = " | "  # a mark and what was wrong


def files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Return a folder's files of these kinds; raise SourceError where it cannot be read."""
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise SourceError(f"{folder}: cannot be read ({error.strerror})") from error
    return [
        path for path in found
        if not path.name.startswith(".") and path.suffix.lower() in suffixes and path.is_file()
    ]  # fmt: skip


def lies_still(path: Path, now: datetime, since: timedelta = STILL) -> bool:
    """Whether a file is there and was not written to just now."""
    try:
        return abs(now.timestamp() - path.stat().st_mtime) >= since.total_seconds()
    except OSError:
        return False


def stamp(path: Path) -> str:
    """Return what is another one once a file was changed."""
    try:
        about = path.stat()
    except OSError:
        return "gone"
    return f"{about.st_mtime_ns}:{about.st_size}"


def mark(stamped: str, problems: Collection[str]) -> str:
    """Return a mark that a file was read, and what was wrong with it."""
    return f"{stamped}{BETWEEN}{'; '.join(problems)[:500]}"


def stamp_in(marks: Mapping[str, str], place: str) -> str:
    """Return with which stamp a place was read last; nothing where it was not."""
    return marks.get(place, "").partition(BETWEEN)[0]


def problems_in(marks: Mapping[str, str], places: Collection[str]) -> str | None:
    """Return what is wrong with places that are there, as it was when they were read."""
    said = [marks.get(place, "").partition(BETWEEN)[2] for place in places]
    return "; ".join(filter(None, said))[:2000] or None
