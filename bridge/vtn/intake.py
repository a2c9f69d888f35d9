"""Readings in over HTTP: a few as JSON or CSV, and Green Button files of any size."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from bridge.clock import Clock
from bridge.errors import Unfit, WireError
from bridge.model import Document
from bridge.parties import Caller
from bridge.usage import Measured, Origin, UsageStore, owned
from bridge.vtn.times import Time
from bridge.web import CALLER, Problem, Query, Route, read_query, reply_json
from bridge.wire import posted

WRITE = ("operate", "write_reports")
PIECE = 256 * 1024  # bytes of an upload that are held in memory
PATIENCE, SLOWEST = 60.0, 10_000  # seconds that an upload may stand still; bytes a second

Word = Annotated[str, Field(max_length=256, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
# Takes in a file: where it lies, what it is called, whose meter it is (if that is said)
TakeIn = Callable[[Path, str, str | None], Awaitable[Document]]


class PostedReading(BaseModel):
    """A reading; `value` is a number, or its digits as text."""

    model_config = ConfigDict(extra="forbid")

    meter: Annotated[Word, Field(min_length=1)]
    start: Time
    end: Time
    value: int | float | Annotated[str, Field(pattern=r"^-?[0-9]{1,20}(\.[0-9]{1,20})?$")]
    unit: Word | None = None
    direction: Literal["import", "export", "net", "generation"] | None = None
    kind: Word | None = None
    quality: Word | None = None


class UploadQuery(Query):
    """What `POST /api/v1/usage/import` can be told."""

    meter: Annotated[Word, Field(min_length=1)] | None = None
    name: str = "upload"


class Intake:
    """Takes readings in."""

    def __init__(
        self, store: UsageStore, take_in: TakeIn, largest: int, folder: Path, clock: Clock
    ) -> None:
        self._store, self._take_in, self._clock = store, take_in, clock
        self._largest, self._folder = largest, folder
        shutil.rmtree(folder, ignore_errors=True)  # of a bridge that was killed
        self._turn = asyncio.Lock()  # one upload at a time is read: each takes a core

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("POST", "/api/v1/readings", self.readings, WRITE,
                  "Readings, as JSON or CSV: all are kept, or none", body=PostedReading,
                  answers=(200, 400, 415)),
            Route("POST", "/api/v1/usage/import", self.upload, "operate",
                  "A Green Button file (ESPI XML)", UploadQuery, answers=(200, 400, 408, 413)),
        ]  # fmt: skip

    async def readings(self, request: web.Request) -> web.Response:
        """POST /api/v1/readings: a client's meters are its own, and no other's."""
        body = await request.read()
        caller = request[CALLER]
        try:
            found = await asyncio.to_thread(_read, request.content_type, body, caller)
        except WireError as error:
            raise Problem(400, str(error)) from error
        try:
            kept = await self._store.keep(found, self._clock.now(), durable=True)
        except Unfit as error:
            raise Problem(400, str(error)) from error
        return reply_json(
            {
                "readings": len(found),
                "new": kept.new,
                "updated": kept.updated,
                "duplicates": kept.duplicates,
                "outdated": kept.outdated,
            }
        )

    async def upload(self, request: web.Request) -> web.Response:
        """POST /api/v1/usage/import: spooled to the disk, then read as the command reads it."""
        query: UploadQuery = read_query(request, UploadQuery)
        self._folder.mkdir(exist_ok=True)
        with TemporaryDirectory(dir=self._folder) as folder:
            path = Path(folder) / "upload.xml"
            await self._spool(request, path)
            try:
                async with self._turn:
                    result = await self._take_in(path, query.name, query.meter)
            except (WireError, Unfit) as error:
                raise Problem(400, str(error)) from error
        return reply_json(result)

    async def _spool(self, request: web.Request, path: Path) -> None:
        too_large = Problem(
            413, f"the file is larger than {self._largest} bytes; [usage] largest_upload says so"
        )
        if (request.content_length or 0) > self._largest:
            raise too_large
        size, began = 0, asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(PATIENCE) as limit:
                with path.open("wb") as file:
                    async for piece in request.content.iter_chunked(PIECE):
                        size += len(piece)
                        if size > self._largest:
                            raise too_large
                        await asyncio.to_thread(file.write, piece)
                        limit.reschedule(began + PATIENCE + size / SLOWEST)
        except TimeoutError as error:
            raise Problem(408, "the file comes too slowly, or not at all") from error


def _read(content_type: str, body: bytes, caller: Caller) -> list[Measured]:
    def meter(name: str) -> str:
        return name if caller.client is None else owned("openadr3", caller.client, name)

    if content_type == "text/csv":
        try:
            rows = posted.read_csv(body.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise WireError(f"is not UTF-8: {error.reason}") from error
    elif content_type == "application/json":
        rows = posted.read_json(body)
    else:
        raise Problem(415, f"the body is {content_type}; write application/json or text/csv")
    if not rows:
        raise WireError("holds no readings")
    return list(posted.measured(rows, Origin("api", caller.name), meter))
