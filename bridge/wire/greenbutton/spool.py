"""What has to wait: in memory while it is little, then in a temporary file."""

from collections.abc import Callable, Iterator
from typing import IO, Any

import msgpack

HELD = 5_000  # readings that wait in memory


class Spool:
    """Tuples that wait, and come out in the order in which they went in."""

    def __init__(self, temporary: Callable[[], IO[bytes]]) -> None:
        self._temporary = temporary
        self._file: IO[bytes] | None = None
        self._held: list[Any] = []
        self._size = 0

    @property
    def empty(self) -> bool:
        """Return whether nothing waits."""
        return not self._held and self._file is None

    def put(self, what: tuple[Any, ...], size: int) -> None:
        """Add a tuple that holds so many readings."""
        self._held.append(what)
        self._size += size
        if self._size > HELD:
            self._file = self._file or self._temporary()
            self._file.writelines(map(msgpack.packb, self._held))
            self._held, self._size = [], 0

    def take(self) -> Iterator[Any]:
        """Yield all that waits, and forget it."""
        held, self._held, self._size = self._held, [], 0
        if self._file:
            self._file.seek(0)
            yield from msgpack.Unpacker(self._file, use_list=False)
            self.close()
        yield from held

    def close(self) -> None:
        """Forget the file."""
        if self._file:
            self._file.close()
            self._file = None
