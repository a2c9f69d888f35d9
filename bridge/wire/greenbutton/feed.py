"""Green Button files, read piece by piece: no more is held than what is not whole yet."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser
from xml.parsers import expat

from bridge.errors import WireError
from bridge.wire.greenbutton.blocks import BLOCK, Locals

# Bytes that are read at a time: so few elements that the garbage collector sleeps on
PIECE = 8 * 1024
FURTHEST = 1024 * 1024  # bytes in which a feed must begin
LARGEST = 4 * 1024 * 1024  # bytes of anything that can only be looked at as a whole
ARCHIVE = b"PK\x03\x04"
RIGHT = "a Green Button file is XML that begins with <feed>"
# In any encoding; an address, too, may end with it
_BLOCK = re.compile(rb"[<:]\0?I\0?n\0?t\0?e\0?r\0?v\0?a\0?l\0?B\0?l\0?o\0?c\0?k")

Opened = Callable[[], BinaryIO]


class _Begun(Exception):  # noqa: N818 -- no error: the file is what it should be
    pass


def check(name: str, file: BinaryIO) -> None:
    """Raise WireError unless a file begins as a Green Button file does, without a DOCTYPE."""

    def doctype(*_: object) -> None:
        raise WireError(f"{name}: has a DOCTYPE, which no Green Button file needs; take it out")

    def element(tag: str, _: object) -> None:
        local = tag.rpartition("}")[2]
        if local not in {"feed", "entry"}:
            raise WireError(f"{name}: begins with <{local[:40]}>; {RIGHT}")
        raise _Begun

    parser = expat.ParserCreate(namespace_separator="}")
    parser.StartDoctypeDeclHandler, parser.StartElementHandler = doctype, element
    try:
        for _ in range(FURTHEST // PIECE):
            piece = file.read(PIECE)
            if piece.startswith(ARCHIVE):
                raise WireError(f"{name}: is a zip archive; take the file out of it")
            parser.Parse(piece, not piece)
    except _Begun:
        return
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise WireError(f"{name}: is no XML ({error}); {RIGHT}") from error
    raise WireError(f"{name}: has nothing but comments in {FURTHEST} bytes; {RIGHT}")


def refusal(name: str, opened: Opened) -> str | None:
    """Return why a file cannot be read as a Green Button file; None where it can."""
    try:
        with opened() as file:
            check(name, file)
    except WireError as error:
        return str(error)
    except OSError as error:
        return f"{name}: cannot be read ({error.strerror})"
    return None


def in_order(files: Sequence[tuple[str, Opened]]) -> list[tuple[str, Opened]]:
    """Return the files, checked, those without readings first: they say what the others hold."""
    first: list[tuple[str, Opened]] = []
    last: list[tuple[str, Opened]] = []
    for name, opened in files:
        with opened() as file:
            check(name, file)
        (last if len(files) == 1 or _has_blocks(opened) else first).append((name, opened))
    return [*first, *last]


def _has_blocks(opened: Opened) -> bool:
    before = b""
    with opened() as file:
        while piece := file.read(128 * PIECE):
            if _BLOCK.search(before + piece):
                return True
            before = piece[-32:]
    return False


class Growing:
    """The entries of a file, as far as it is read; what is whole is taken out of it."""

    def __init__(self, name: str, file: BinaryIO, local: Locals) -> None:
        self.cut: str | None = None  # how it ends, if it does not end well
        self._name, self._file, self._local = name, file, local
        # What is fed grows below an element of our own, so that it can be seen before its end
        self._builder = TreeBuilder()
        self._top = self._builder.start("", {})
        self._parser = XMLParser(target=self._builder)  # noqa: S314 -- no DOCTYPE, see check
        self._unused = 0  # bytes since something was taken out

    def pieces(self) -> Iterator[tuple[Sequence[Element], Element | None]]:
        """Yield entries that are whole, and the one that is not, after each piece of the file.

        After the last piece all are whole: of a file that is cut off, what was not is taken away.
        """
        while self.cut is None:
            piece = self._file.read(PIECE)
            self._unused += len(piece)
            self._feed(piece)
            if not piece or self.cut:
                yield self._entries()[:], None
                return
            entries = self._entries()
            if len(entries):
                yield entries[:-1], entries[-1]
            if len(entries) > 1:
                del entries[:-1]
                self.used()
            if self._unused > LARGEST:
                raise WireError(f"{self._name}: has something of more than {LARGEST} bytes in it")

    def used(self) -> None:
        """Note that something was taken out."""
        self._unused = 0

    def _feed(self, piece: bytes) -> None:
        try:
            if piece:
                self._parser.feed(piece)
            else:
                self._parser.close()
        except (ParseError, LookupError, ValueError) as error:
            line, column = getattr(error, "position", (1, 0))
            how = "is cut off" if not piece else f"is broken ({str(error).partition(':')[0]})"
            self.cut = f"{self._name}: {how} at line {line}, column {column}"
            self._take_away()

    def _entries(self) -> Element:
        """Return what entries are the children of."""
        if len(self._top) and self._local[self._top[0].tag] == "feed":
            return self._top[0]
        return self._top

    def _take_away(self) -> None:
        """Take away the outermost element that is not whole and is of no use in part."""
        mark = self._builder.start("", {})
        within, element = self._top, self._top[-1]
        while element is not mark and self._local[element.tag] in {
            "feed", "entry", "content", BLOCK,
        }:  # fmt: skip
            within, element = element, element[-1]
        within.remove(element)
