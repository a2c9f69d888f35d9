"""Routes with scopes, authorization, limits and problems: shared by `vtn` and `admin`.

One table of routes is what is served, what asks for which scope, and what the OpenAPI
document says.
"""

import hashlib
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from ssl import SSLContext
from typing import Any
from uuid import uuid4

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from pydantic import BaseModel, ConfigDict, ValidationError

from bridge import __version__
from bridge.errors import SettingsError, StoreError
from bridge.model import Document
from bridge.notation import to_json

log = structlog.get_logger()

SCOPES = ("read", "operate", "admin")  # each includes those before it
LARGEST_BODY = 64 * 1024
BAD_TOKENS = 20  # from one address in a minute; then it is told to wait
SHUTDOWN = 1.0  # seconds for a request that is under way when the bridge stops

# Returns the scope of a bearer token, or None.
Authorize = Callable[[str], Awaitable[str | None]]


class Query(BaseModel):
    """Query parameters of a route."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Route:
    """One operation: what it answers to, which scope it asks for (None: open), what it does."""

    method: str
    path: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    scope: str | None
    summary: str
    query: type[Query] | None = None


class Problem(Exception):  # noqa: N818 -- RFC 9457's word
    """An answer that says what is wrong, and what would be right."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers or {}


def make_site(routes: Sequence[Route], authorize: Authorize) -> web.Application:
    """Return the application of a listener."""
    by_handler = {route.handler: route for route in routes}
    site = web.Application(
        client_max_size=LARGEST_BODY,
        middlewares=[_problems, _authorized(by_handler, authorize)],
    )
    for route in routes:
        if route.method == "GET":
            site.router.add_get(route.path, route.handler)  # HEAD comes with it
        else:
            site.router.add_route(route.method, route.path, route.handler)
    return site


@asynccontextmanager
async def serving(
    site: web.Application, host: str, port: int, tls: SSLContext | None
) -> AsyncIterator[str]:
    """Serve a site and yield its base address."""
    runner = web.AppRunner(
        site,
        access_log=None,
        shutdown_timeout=SHUTDOWN,
        max_line_size=8190,
        max_field_size=8190,
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port, ssl_context=tls).start()
        except OSError as error:
            raise SettingsError(
                f"listen: {host}:{port} cannot be served at ({error.strerror or error}); "
                "choose another port, or 0 for a free one"
            ) from error
        bound = runner.addresses[0][1]
        shown = f"[{host}]" if ":" in host else host
        yield f"{'https' if tls else 'http'}://{shown}:{bound}"
    finally:
        await runner.cleanup()


@web.middleware
async def _problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        _check_host(request)
        reply = await handler(request)
    except Problem as problem:
        reply = _problem(request, problem)
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        reply = _problem(request, Problem(error.status, _explain(error, request), allow))
    except StoreError as error:
        log.critical("store failed", problem=str(error))
        reply = _problem(request, Problem(503, "the store cannot be read now"))
    except Exception:  # whatever else it is, the client learns only that it is ours
        log.exception("request failed", path=request.path)
        reply = _problem(
            request, Problem(500, "a mistake in the bridge; its log has this instance")
        )
    reply.headers["X-Content-Type-Options"] = "nosniff"
    reply.headers.setdefault("Cache-Control", "no-store")
    return reply


def _check_host(request: web.Request) -> None:
    """Refuse a Host of which no address can be made, before anything makes one of it."""
    try:
        assert request.url is not None  # noqa: S101 -- it is made when it is looked at
    except ValueError as error:
        raise Problem(400, "Host: is not a host with a port") from error


def _explain(error: web.HTTPException, request: web.Request) -> str:
    return {
        404: f"there is nothing at {request.path}",
        405: f"{request.method} is not for {request.path}; see Allow",
        413: f"the body is larger than {LARGEST_BODY} bytes",
    }.get(error.status, error.reason)


def _problem(request: web.Request, problem: Problem) -> web.Response:
    instance = f"urn:uuid:{uuid4()}"
    log.info(
        "problem", instance=instance, status=problem.status, detail=problem.detail,
        method=request.method, path=request.path, peer=request.remote,
    )  # fmt: skip
    body = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "instance": instance,
    }
    return web.Response(
        status=problem.status,
        text=to_json(body),
        content_type="application/problem+json",
        headers=problem.headers,
    )


def _authorized(by_handler: dict[Any, Route], authorize: Authorize) -> Middleware:
    refused: defaultdict[str | None, deque[float]] = defaultdict(deque)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        # Before anything of the request is looked at, be it the path's parameters.
        route = by_handler.get(request.match_info.handler)
        if route is None or route.scope is not None:
            scope = await _scope(request, authorize)
            if scope is None:
                _slow_down(refused, request.remote)
                refused[request.remote].append(time.monotonic())
                raise Problem(
                    401,
                    "a bearer token is needed; make one with `openadr-bridge token create NAME`",
                    {"WWW-Authenticate": 'Bearer realm="openadr-bridge"'},
                )
            if route and route.scope and SCOPES.index(scope) < SCOPES.index(route.scope):
                raise Problem(403, f"this needs a token of scope {route.scope}; yours has {scope}")
        return await handler(request)

    return check


async def _scope(request: web.Request, authorize: Authorize) -> str | None:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return await authorize(token.strip()) if kind.lower() == "bearer" else None


def _slow_down(refused: defaultdict[str | None, deque[float]], remote: str | None) -> None:
    times, now = refused[remote], time.monotonic()
    while times and now - times[0] > 60:
        times.popleft()
    if len(times) >= BAD_TOKENS:
        raise Problem(429, "too many requests without a good token", {"Retry-After": "60"})
    if len(refused) > 10_000:
        refused.clear()


def read_query(request: web.Request, shape: type[Query]) -> Any:
    """Return the query parameters; raise Problem 400 when they do not fit."""
    for name in set(request.query):
        if len(request.query.getall(name)) > 1:
            raise Problem(400, f"{name}: is given twice")
    try:
        return shape.model_validate(dict(request.query))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            said = f"is not a parameter here; there are: {', '.join(shape.model_fields)}"
        raise Problem(400, f"{where}: {said}") from error


def reply_json(value: object, status: int = 200) -> web.Response:
    """Answer with JSON, decimals exact."""
    return web.Response(text=to_json(value), content_type="application/json", status=status)


def reply_list(items: Sequence[Document], after: str | None) -> web.Response:
    """Answer with a page of a list."""
    return reply_json({"items": items, "next": after})


def reply_tagged(request: web.Request, body: bytes, content_type: str) -> web.Response:
    """Answer with a body and its digest as ETag, or with 304 when the client has it."""
    tag = hashlib.sha256(content_type.encode() + b"\n" + body).hexdigest()[:32]
    headers = {"ETag": f'"{tag}"', "Cache-Control": "no-cache"}
    if any(t.value in {tag, "*"} for t in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers={**headers, "Content-Type": content_type})


def describe(title: str, routes: Sequence[Route]) -> Document:
    """Return the OpenAPI 3.1 document of a table of routes."""
    paths: dict[str, Document] = defaultdict(dict)
    for route in routes:
        answers: Document = {"200": {"description": "as the summary says"}}
        problems = {"400": "bad request"} if route.query else {}
        problems |= (
            {"401": "no good token", "403": "the token's scope is too small"} if route.scope else {}
        )
        answers |= {
            status: {"description": text, "content": {"application/problem+json": {}}}
            for status, text in problems.items()
        }
        operation: Document = {"summary": route.summary, "responses": answers}
        operation["parameters"] = [*_path_parameters(route), *_query_parameters(route)]
        operation["security"] = [{"bearer": []}] if route.scope else []
        operation["x-scope"] = route.scope
        paths[route.path][route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": __version__},
        "paths": dict(paths),
        "components": {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
    }


def _path_parameters(route: Route) -> list[Document]:
    names = [step[1:-1] for step in route.path.split("/") if step.startswith("{")]
    return [
        {"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names
    ]


def _query_parameters(route: Route) -> list[Document]:
    if route.query is None:
        return []
    schema = route.query.model_json_schema()
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": shape}
        for name, shape in schema["properties"].items()
    ]
