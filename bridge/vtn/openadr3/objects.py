"""Thirty operations: list, create, read, replace and delete each of six kinds of objects."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, tzinfo

from aiohttp import web

from bridge.clock import Clock
from bridge.errors import Conflict, Forbidden, ObjectError, Unfit, Unknown
from bridge.model import Document
from bridge.parties import Objects as Catalog
from bridge.vtn.openadr3.callbacks import Callbacks
from bridge.vtn.openadr3.kinds import BASE, KINDS, Kind, to_wanted
from bridge.vtn.openadr3.rendered import Rendered
from bridge.web import (
    CALLER,
    Problem,
    Representation,
    Route,
    read_json,
    read_query,
    reply_with,
    represent,
)
from bridge.wire.openadr3_requests import OBJECT_ID

STATUS = {Unknown: 404, Conflict: 409, Forbidden: 403, Unfit: 400}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Objects:
    """Answers for all six kinds from the store."""

    def __init__(self, catalog: Catalog, callbacks: Callbacks, zone: tzinfo, clock: Clock) -> None:
        self._catalog, self._callbacks = catalog, callbacks
        self._zone, self._clock = zone, clock
        self._rendered = Rendered(catalog)

    def routes(self) -> list[Route]:
        """Return the routes of all kinds."""
        return [route for kind in KINDS for route in self._routes(kind)]

    def _routes(self, kind: Kind) -> Iterator[Route]:
        many, one = f"{BASE}/{kind.collection}", f"{BASE}/{kind.collection}/{{{kind.id}}}"
        noun, open_to_all = kind.name.lower(), kind.aimed
        yield Route("GET", many, self._lister(kind), kind.read, f"{noun}s that match",
                    kind.query, anonymous=open_to_all)  # fmt: skip
        yield Route("POST", many, self._creator(kind), kind.write, f"Make a {noun}",
                    body=kind.request, answers=(201, 404, 409))  # fmt: skip
        yield Route("GET", one, self._reader(kind), kind.read, f"One {noun}",
                    answers=(200, 404), anonymous=open_to_all)  # fmt: skip
        yield Route("PUT", one, self._replacer(kind), kind.write, f"Replace a {noun}",
                    body=kind.request, answers=(200, 404, 409))  # fmt: skip
        yield Route("DELETE", one, self._deleter(kind), kind.write, f"Delete a {noun}",
                    answers=(200, 404))  # fmt: skip

    def _lister(self, kind: Kind) -> Handler:
        async def list_objects(request: web.Request) -> web.StreamResponse:
            caller, asked, now = request[CALLER], request.raw_path, self._clock.now()
            if shown := self._rendered.at_hand(caller, asked, now):
                return reply_with(request, shown)
            query = read_query(request, kind.query, ("targets", "objects"))
            wanted = to_wanted(kind.name, query, self._zone)

            async def render() -> tuple[Representation, datetime | None]:
                documents, until = await self._catalog.list(caller, wanted, now)
                return await represent(f"[{','.join(documents)}]".encode()), until

            what = (wanted, None if kind.aimed else caller.client)
            return reply_with(
                request, await self._rendered.look_up(caller, what, asked, render, now)
            )

        return list_objects

    def _reader(self, kind: Kind) -> Handler:
        async def read(request: web.Request) -> web.StreamResponse:
            object_id, caller = _id(request, kind), request[CALLER]

            async def render() -> tuple[Representation, datetime | None]:
                document = await self._catalog.read(kind.name, object_id, caller)
                return await represent(document.encode()), None

            what = (kind.name, object_id, None if kind.aimed else caller.client)
            with _problems():
                shown = await self._rendered.look_up(
                    caller, what, request.raw_path, render, self._clock.now()
                )
            return reply_with(request, shown)

        return read

    def _creator(self, kind: Kind) -> Handler:
        async def create(request: web.Request) -> web.StreamResponse:
            document = await self._read(request, kind)
            with _problems():
                made = await self._catalog.create(
                    kind.name, request[CALLER], document, self._clock.now()
                )
            return web.Response(text=made, status=201, content_type="application/json")

        return create

    def _replacer(self, kind: Kind) -> Handler:
        async def replace(request: web.Request) -> web.StreamResponse:
            object_id = _id(request, kind)
            with _problems():  # what is not there is not there, whatever is said of it
                await self._catalog.read(kind.name, object_id, request[CALLER])
            document = await self._read(request, kind)
            with _problems():
                made = await self._catalog.replace(
                    kind.name, object_id, request[CALLER], document, self._clock.now()
                )
            return web.Response(text=made, content_type="application/json")

        return replace

    def _deleter(self, kind: Kind) -> Handler:
        async def delete(request: web.Request) -> web.StreamResponse:
            object_id = _id(request, kind)
            with _problems():
                gone = await self._catalog.delete(
                    kind.name, object_id, request[CALLER], self._clock.now()
                )
            return web.Response(text=gone, content_type="application/json")

        return delete

    async def _read(self, request: web.Request, kind: Kind) -> Document:
        document = await read_json(request, kind.request)
        if kind.name == "SUBSCRIPTION":
            with _problems():
                await self._callbacks.check(document)
        return document


def _id(request: web.Request, kind: Kind) -> str:
    said = request.match_info[kind.id]
    if not OBJECT_ID.fullmatch(said):
        raise Problem(400, f"{kind.id}: is not an id; ids are letters, digits, - and _")
    return said


@contextmanager
def _problems() -> Iterator[None]:
    try:
        yield
    except ObjectError as error:
        raise Problem(STATUS[type(error)], str(error)) from error
