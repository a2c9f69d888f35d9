"""What a request asks, checked before it is used: its query and its body."""

import asyncio
from collections.abc import Collection
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from bridge.errors import WireError
from bridge.model import Document
from bridge.web.site import Problem, Query
from bridge.wire.openadr3_requests import Request, read_request

LARGE = 16 * 1024  # bytes of a body that are read off the event loop


def read_query(request: web.Request, shape: type[Query], lists: Collection[str] = ()) -> Any:
    """Return the query parameters; raise Problem 400 when they do not fit.

    `lists` may be given several times.
    """
    given: dict[str, Any] = {}
    for name in set(request.query):
        values = request.query.getall(name)
        if name in lists:
            given[name] = tuple(values)
        elif len(values) > 1:
            raise Problem(400, f"{name}: is given twice")
        else:
            given[name] = values[0]
    try:
        return shape.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            said = f"is not a parameter here; there are: {', '.join(shape.model_fields)}"
        raise Problem(400, f"{where}: {said}") from error


async def read_json(request: web.Request, shape: type[Request]) -> Document:
    """Return a JSON body as it was written; raise Problem 400 or 415 when it does not fit."""
    body = await request.read()
    if not body.strip():
        raise Problem(400, "the body is empty; write a JSON object")
    if request.content_type != "application/json" and not request.content_type.endswith("+json"):
        raise Problem(415, f"the body is {request.content_type}; write application/json")
    try:
        if len(body) > LARGE:
            return await asyncio.to_thread(read_request, shape, body)
        return read_request(shape, body)
    except WireError as error:
        raise Problem(400, str(error)) from error
