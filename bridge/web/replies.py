"""Answers: JSON, lists, and representations that a client may have already."""

import asyncio
import gzip
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from bridge.model import Document
from bridge.notation import to_json

WORTH_PACKING = 1_000  # bytes
WORTH_A_THREAD = 50_000


@dataclass(frozen=True, slots=True)
class Representation:
    """A body that is served more than once: as it is, and packed where that is worth it."""

    content_type: str
    body: bytes
    packed: bytes | None
    tag: str

    @property
    def size(self) -> int:
        """Return how much memory it takes."""
        return len(self.body) + len(self.packed or b"")


async def represent(body: bytes, content_type: str = "application/json") -> Representation:
    """Return a body's representation, worked out off the event loop where it is large."""
    if len(body) > WORTH_A_THREAD:
        return await asyncio.to_thread(_represent, body, content_type)
    return _represent(body, content_type)


def _represent(body: bytes, content_type: str) -> Representation:
    tag = hashlib.sha256(content_type.encode() + b"\n" + body).hexdigest()[:32]
    packed = gzip.compress(body, 6, mtime=0) if len(body) > WORTH_PACKING else None
    return Representation(content_type, body, packed, tag)


def reply_with(request: web.Request, shown: Representation) -> web.Response:
    """Answer with a representation and its ETag, or with 304 when the client has it."""
    packs = "gzip" in request.headers.get("Accept-Encoding", "").lower()
    packed = shown.packed if packs else None
    headers = {
        "ETag": f'"{shown.tag}-gzip"' if packed else f'"{shown.tag}"',
        "Cache-Control": "no-cache",
        "Vary": "Accept-Encoding, Authorization",
    }
    had = request.headers.get("If-None-Match", "")
    if shown.tag in had or had.strip() == "*":  # a digest is in it, or it is not
        return web.Response(status=304, headers=headers)
    headers["Content-Type"] = shown.content_type
    if packed:
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=packed or shown.body, headers=headers)


async def reply_tagged(request: web.Request, body: bytes, content_type: str) -> web.Response:
    """Answer with a body and its digest as ETag, or with 304 when the client has it."""
    return reply_with(request, await represent(body, content_type))


def reply_json(value: object, status: int = 200) -> web.Response:
    """Answer with JSON, decimals exact."""
    return web.Response(text=to_json(value), content_type="application/json", status=status)


def reply_list(items: Sequence[Document], after: str | None) -> web.Response:
    """Answer with a page of a list."""
    return reply_json({"items": items, "next": after})
