"""What is done to a good message to make it a bad one; see `mutations`."""

import gzip
import random
import zlib
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from lxml import etree

from tests.openadr2.raw_messages import EI, NAMESPACES, OADR, PYLD, XCAL

DECLARED = '<?xml version="1.0" encoding="UTF-8"?>'
LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


def _declare(text: str, declaration: str) -> str:
    return text.replace(DECLARED, declaration, 1)


def _latin(text: str) -> bytes:
    """Say latin-1 and hold letters that are other bytes there."""
    said = _declare(text, '<?xml version="1.0" encoding="ISO-8859-1"?>')
    return said.replace("requestID>", "requestID>é", 1).encode("latin-1")


ENCODINGS: dict[str, Callable[[str], bytes]] = {
    "utf-16": lambda t: _declare(t, '<?xml version="1.0" encoding="UTF-16"?>').encode("utf-16"),
    "utf-16 that says utf-8": lambda t: t.encode("utf-16"),
    "utf-16 without a mark": lambda t: t.encode("utf-16-le"),
    "utf-32": lambda t: t.encode("utf-32"),
    "utf-8 that says utf-16": lambda t: t.replace("UTF-8", "UTF-16", 1).encode(),
    "utf-8 that says nothing known": lambda t: t.replace("UTF-8", "x-unknown", 1).encode(),
    "utf-8 that says utf-7": lambda t: t.replace("UTF-8", "UTF-7", 1).encode(),
    "ebcdic": lambda t: t.replace("UTF-8", "cp037", 1).encode("cp037"),
    "latin-1": _latin,
    "latin-1 that says utf-8": lambda t: t.replace("ID>", "ID>é", 1).encode("latin-1"),
    "byte order mark": lambda t: b"\xef\xbb\xbf" + t.encode(),
    "two byte order marks": lambda t: b"\xef\xbb\xbf" * 2 + t.encode(),
    "no declaration": lambda t: _declare(t, "").encode(),
    "a space before": lambda t: b" " + t.encode(),
    "xml 1.1": lambda t: t.replace('"1.0"', '"1.1"', 1).encode(),
    "xml 9.9": lambda t: t.replace('"1.0"', '"9.9"', 1).encode(),
    "standalone": lambda t: _declare(t, DECLARED[:-2] + ' standalone="yes"?>').encode(),
    "twice": lambda t: (t + t).encode(),
    "more after it": lambda t: (t + "<more/>").encode(),
    "text after it": lambda t: (t + "more").encode(),
    "zeros after it": lambda t: t.encode() + b"\0" * 100,
    "a zero within": lambda t: t.encode().replace(b"</", b"\0</", 1),
    "lone surrogates": lambda t: t.encode().replace(b"ID>", b"ID>\xed\xa0\x80", 1),
    "control characters": lambda t: t.encode().replace(b"ID>", b"ID>&#1;&#x1f;", 1),
    "overlong utf-8": lambda t: t.encode().replace(b"ID>", b"ID>\xc0\xaf", 1),
}


def _doctype(declared: str, use: str = "") -> Callable[[str], bytes]:
    """Put a document type before the message, and use what it declares where an id stands."""

    def alter(text: str) -> bytes:
        said = text.replace(DECLARED, f"{DECLARED}\n{declared}", 1)
        return said.replace("ID>", f"ID>{use}", 1).encode()

    return alter


def _utf16_doctype(text: str) -> bytes:
    said = _doctype('<!DOCTYPE o [<!ENTITY a "x">]>', "&a;")(text).decode()
    return said.replace('"UTF-8"', '"UTF-16"', 1).encode("utf-16")


_Q = "<!DOCTYPE oadrPayload [{}]>"
DOCTYPES: dict[str, Callable[[str], bytes]] = {
    "internal entity": _doctype(_Q.format('<!ENTITY a "x">'), "&a;"),
    "entity that is not used": _doctype(_Q.format('<!ENTITY a "x">')),
    "empty document type": _doctype("<!DOCTYPE oadrPayload>"),
    "external entity": _doctype(_Q.format('<!ENTITY a SYSTEM "file:///etc/passwd">'), "&a;"),
    "external entity by http": _doctype(
        _Q.format('<!ENTITY a SYSTEM "http://127.0.0.1:9/x">'), "&a;"
    ),
    "external document type": _doctype('<!DOCTYPE oadrPayload SYSTEM "file:///etc/hostname">'),
    "public document type": _doctype('<!DOCTYPE o PUBLIC "-//X//Y" "http://127.0.0.1:9/x">'),
    "billion laughs": _doctype(_Q.format(f'<!ENTITY l0 "ha">{LAUGHS}'), "&l9;"),
    "one long entity": _doctype(_Q.format(f'<!ENTITY a "{"a" * 50_000}">'), "&a;" * 5_000),
    "entity of itself": _doctype(_Q.format('<!ENTITY a "&b;"><!ENTITY b "&a;">'), "&a;"),
    "parameter entity": _doctype(_Q.format('<!ENTITY % a SYSTEM "file:///etc/passwd"> %a;')),
    "parameter entity within": _doctype(_Q.format("<!ENTITY % a \"<!ENTITY b 'x'>\"> %a;"), "&b;"),
    "default attribute": _doctype(_Q.format('<!ATTLIST oadrSignedObject Id ID "x">')),
    "document type in utf-16": _utf16_doctype,
    "document type after a comment": _doctype("<!-- a --><!DOCTYPE o [<!ENTITY a 'x'>]>", "&a;"),
    "element that grows": _doctype(_Q.format('<!ENTITY a "<e:venID>x</e:venID>">'), "&a;"),
}


Sent = tuple[str, str, dict[str, str], bytes]


def _method(name: str) -> Callable[[str, dict[str, str], bytes], Sent]:
    return lambda path, headers, body: (name, path, headers, body)


def _typed(said: str | None) -> Callable[[str, dict[str, str], bytes], Sent]:
    headers = {} if said is None else {"Content-Type": said}
    return lambda path, _, body: ("POST", path, headers, body)


def _coded(
    name: str, make: Callable[[bytes], bytes]
) -> Callable[[str, dict[str, str], bytes], Sent]:
    return lambda path, headers, body: (
        "POST", path, {**headers, "Content-Encoding": name}, make(body),
    )  # fmt: skip


def _at(change: Callable[[str], str]) -> Callable[[str, dict[str, str], bytes], Sent]:
    return lambda path, headers, body: ("POST", change(path), headers, body)


def _elsewhere(service: str) -> Callable[[str, dict[str, str], bytes], Sent]:
    return _at(lambda path: f"{path.rpartition('/')[0]}/{service}")


def _holding(make: Callable[[bytes], bytes]) -> Callable[[str, dict[str, str], bytes], Sent]:
    return lambda path, headers, body: ("POST", path, headers, make(body))


SENT: dict[str, Callable[[str, dict[str, str], bytes], Sent]] = {
    **{f"{m}": _method(m) for m in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "BREW")},
    **{
        f"as {t}": _typed(t)
        for t in (
            None, "text/xml", "text/plain", "application/json", "multipart/form-data",
            "application/x-www-form-urlencoded", "application/xml; charset=utf-16",
            "application/xml; charset=none", "application/xml;;;", "xml", "é", "application/soap+xml",
        )
    },
    **{
        f"at {s}": _elsewhere(s)
        for s in (
            "EiEvent", "EiReport", "EiOpt", "EiRegisterParty", "OadrPoll", "EiQuote", "",
            "eievent", "EiEvent/", "EiEvent/x", "../2.0b/EiEvent", "%00", "EiEvent%2F", "a" * 5000,
        )
    },
    "with a query": _at(lambda path: path + "?venID=x&a[]=%ff"),
    "at the root": _at(lambda path: "/"),
    "under 2.0a": _at(lambda path: path.replace("2.0b", "2.0a")),
    "gzip": _coded("gzip", gzip.compress),
    "gzip that is none": _coded("gzip", lambda body: body),
    "gzip cut short": _coded("gzip", lambda body: gzip.compress(body)[:-12]),
    "gzip garbage": _coded("gzip", lambda body: b"\x1f\x8b\x08\0" + body),
    "gzip of very much": _coded("gzip", lambda body: gzip.compress(b" " * 30_000_000 + body, 1)),
    "deflate": _coded("deflate", zlib.compress),
    "deflate that is none": _coded("deflate", lambda body: body),
    "br that is none": _coded("br", lambda body: body),
    "an encoding nobody knows": _coded("x-none", lambda body: body),
    "nothing": _holding(lambda body: b""),
    "spaces": _holding(lambda body: b" \n" * 100),
    "json": _holding(lambda body: b'{"oadrPoll": {}}'),
    "html": _holding(lambda body: b"<html><body>hello</body></html>"),
    "too much": _holding(lambda body: body + b" " * 3_000_000),
    "one long name": _holding(lambda body: b"<" + b"a" * 900_000 + b"/>"),
    "very many attributes": _holding(
        lambda body: b"<a " + b" ".join(b'a%d=""' % n for n in range(50_000)) + b"/>"
    ),
    "very deep": _holding(lambda body: b"<a>" * 100_000 + b"</a>" * 100_000),
}  # fmt: skip


def _written(root: Any) -> bytes:
    return bytes(etree.tostring(root, xml_declaration=True, encoding="UTF-8"))


def _tree(change: Callable[[Any, random.Random], Any]) -> Callable[[Any, random.Random], bytes]:
    """Make what changes a tree, or some element of it, into what returns the bytes."""

    def alter(root: Any, draw: random.Random) -> bytes:
        change(root, draw)
        return _written(root)

    return alter


def _any(root: Any, draw: random.Random) -> Any:
    """Draw an element within the message."""
    within = [e for e in root.iter("*") if e.getparent() is not None]
    return draw.choice(within[1:] or within or [root])


def _remove(root: Any, draw: random.Random) -> None:
    found = _any(root, draw)
    if found.getparent() is not None:
        found.getparent().remove(found)


def _repeat(times: int) -> Callable[[Any, random.Random], None]:
    def change(root: Any, draw: random.Random) -> None:
        found = _any(root, draw)
        if found.getparent() is not None:
            for _ in range(times if len(found) < 20 else 2):
                found.addnext(deepcopy(found))

    return change


def _shuffle(root: Any, draw: random.Random) -> None:
    found = draw.choice([e for e in root.iter("*") if len(e) > 1] or [root])
    children = list(found)
    draw.shuffle(children)
    found[:] = children


def _move(root: Any, draw: random.Random) -> None:
    found, to = _any(root, draw), _any(root, draw)
    if found not in to.iterancestors() and found is not to:
        to.append(found)


def _rename(name: str) -> Callable[[Any, random.Random], None]:
    def change(root: Any, draw: random.Random) -> None:
        found = _any(root, draw)
        found.tag = (
            name or f"{{{draw.choice(list(NAMESPACES.values()))}}}{etree.QName(found).localname}"
        )

    return change


def _nest(depth: int) -> Callable[[Any, random.Random], None]:
    def change(root: Any, draw: random.Random) -> None:
        found = _any(root, draw)
        for _ in range(depth):
            found = etree.SubElement(found, found.tag)

    return change


def _attribute(name: str, value: str) -> Callable[[Any, random.Random], None]:
    return lambda root, draw: _any(root, draw).set(name, value)


def _add(make: Callable[[], Any]) -> Callable[[Any, random.Random], None]:
    return lambda root, draw: _any(root, draw).insert(0, make())


def _split(root: Any, draw: random.Random) -> None:
    """Put a comment into a text: it still means the same, to those who read the whole of it."""
    leaves = [e for e in root.iter("*") if not len(e) and len(e.text or "") > 1]
    if leaves:
        found = draw.choice(leaves)
        half = len(found.text) // 2
        comment = etree.Comment("")
        comment.tail, found.text = found.text[half:], found.text[:half]
        found.append(comment)


def _version(value: str | None) -> Callable[[Any, random.Random], None]:
    def change(root: Any, draw: random.Random) -> None:
        for element in root.iter("*"):
            if element.attrib.pop(f"{{{EI}}}schemaVersion", None) and value is not None:
                element.set(f"{{{EI}}}schemaVersion", value)

    return change


def _namespace(old: str, new: str) -> Callable[[Any, random.Random], bytes]:
    return lambda root, draw: _written(root).replace(old.encode(), new.encode())


XSI = "http://www.w3.org/2001/XMLSchema-instance"
TREES: dict[str, Callable[[Any, random.Random], bytes]] = {
    "one removed": _tree(_remove),
    "one twice": _tree(_repeat(1)),
    "one very often": _tree(_repeat(1000)),
    "shuffled": _tree(_shuffle),
    "one moved": _tree(_move),
    "one renamed": _tree(_rename("{urn:x}other")),
    "one without a namespace": _tree(_rename("venID")),
    "one in another namespace": _tree(_rename("")),
    "nested": _tree(_nest(50)),
    "deeply nested": _tree(_nest(250)),
    "an attribute more": _tree(_attribute("more", "x")),
    "an Id more": _tree(_attribute("Id", "oadrSignedObject")),
    "nil": _tree(_attribute(f"{{{XSI}}}nil", "true")),
    "of another type": _tree(_attribute(f"{{{XSI}}}type", "x:none")),
    "a schema of its own": _tree(_attribute(f"{{{XSI}}}schemaLocation", f"{OADR} http://127.0.0.1:9/")),
    "a comment": _tree(_add(lambda: etree.Comment("a"))),
    "an instruction": _tree(_add(lambda: etree.ProcessingInstruction("xml-stylesheet", "href='/'"))),
    "an inclusion": _tree(
        _add(lambda: etree.Element("{http://www.w3.org/2001/XInclude}include", href="/etc/passwd"))
    ),
    "an element more": _tree(_add(lambda: etree.Element(f"{{{EI}}}venID"))),
    "a text split by a comment": _tree(_split),
    "schemaVersion 2.0a": _tree(_version("2.0a")),
    "schemaVersion 1.0": _tree(_version("1.0")),
    "schemaVersion x-none": _tree(_version("x-none")),
    "no schemaVersion": _tree(_version(None)),
    "namespace of 2.0a": _namespace("oadr-2.0b", "oadr-2.0a"),
    "namespaces exchanged": _namespace(f'xmlns:e="{EI}"', f'xmlns:e="{PYLD}"'),
    "namespace not declared": _namespace(f'xmlns:c="{XCAL}"', ""),
    "namespace not declared for ei": _namespace(f'xmlns:e="{EI}"', ""),
}  # fmt: skip


def _flip(body: bytes, draw: random.Random) -> bytes:
    altered = bytearray(body)
    for _ in range(draw.randint(1, 8)):
        altered[draw.randrange(len(altered))] ^= 1 << draw.randrange(8)
    return bytes(altered)


def _slices(body: bytes, draw: random.Random) -> tuple[int, int]:
    start = draw.randrange(len(body))
    return start, min(len(body), start + draw.randint(1, 60))


def _insert(body: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(body))
    return body[:at] + draw.randbytes(draw.randint(1, 20)) + body[at:]


def _leave_out(body: bytes, draw: random.Random) -> bytes:
    start, end = _slices(body, draw)
    return body[:start] + body[end:]


def _again(body: bytes, draw: random.Random) -> bytes:
    start, end = _slices(body, draw)
    return body[:end] + body[start:]


BYTES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "cut short": lambda body, draw: body[: draw.randrange(len(body))],
    "begun late": lambda body, draw: body[draw.randrange(len(body)) :],
    "bits flipped": _flip,
    "bytes put in": _insert,
    "bytes left out": _leave_out,
    "bytes twice": _again,
}

VALUES = [
    "", " ", "\n\t", "x", "0", "-1", "1.5", "007", "1e308", "1e999", "-1e999", "NaN", "INF", "-INF",
    "nan", "Infinity", "1_000", "0x10", "٣", "true", "2147483648", "4294967295", "4294967296",
    "9223372036854775808", "18446744073709551616", "1" * 400, "0." + "1" * 400, "1e-400", "None",
    "P", "PT", "PT0S", "-PT1H", "+PT1S", "P1W", "P9999999999Y", "PT99999999999999999S", "P1Y2M3DT4H",
    "PT1.5S", "P-1D", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "10000-01-01T00:00:00Z",
    "-0001-01-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-06-30T23:59:60Z", "2026-01-01T24:00:00Z",
    "2026-01-01T00:00:00", "2026-01-01T00:00:00." + "9" * 60 + "Z", "1970-01-01T00:00:00Z",
    "a" * 10_000, "a" * 200_000, "é" * 5_000, "\u202e", "😀" * 100, "\ufffd",
    "<x/>", "]]>", "&amp;", "'; DROP TABLE events; --", "{{7*7}}", "{% raw %}", "%s%n%x", "${jndi:x}",
    "../../../etc/passwd", "\r\nX-Header: 1", "*", "%", "_", "#", "http://127.0.0.1:9/", "javascript:0",
    "optIn", "2.0a", "xmpp", "x-other", "METADATA_TELEMETRY_USAGE", "TELEMETRY_USAGE", "false",
]  # fmt: skip
