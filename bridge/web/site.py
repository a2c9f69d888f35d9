"""Routes with scopes, authorization, limits and problems: shared by `vtn` and `admin`.

One table of routes is what is served, what asks for which scope, and what the OpenAPI
document says.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from ssl import SSLContext
from typing import Any
from uuid import uuid4

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from aiohttp.web_protocol import RequestHandler
from pydantic import BaseModel, ConfigDict

from bridge.errors import SettingsError, StoreError
from bridge.notation import to_json
from bridge.parties import Caller
from bridge.web.limits import Patience, RateLimit

log = structlog.get_logger()

LARGEST_BODY = 64 * 1024
PLAIN, PROBLEM = "/openadr3/", "application/problem+json"
BAD_TOKENS = 20  # from one address in a minute; then it is told to wait
NOBODY = Caller("nobody", frozenset())
MOST_HOSTS = 1_000  # by which the bridge is called, and which were found to be good
SHUTDOWN = 1.0  # seconds for a request that is under way when the bridge stops

# Returns who holds a bearer token, or None; a guess that takes long is made only if allowed.
Authorize = Callable[[str, bool], Awaitable[Caller | None]]
# Lets a request pass, with its caller noted, or raises a Problem.
Authorized = Callable[[web.Request], Awaitable[None]]
CALLER = web.RequestKey("caller", Caller)
LIMITS = web.RequestKey("limits", dict[str, str])


class Query(BaseModel):
    """Query parameters of a route."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Route:
    """One operation: what it answers to, which scope it asks for, what it does.

    `scope` is one, or several of which any will do, or () for whoever is known, or None: open.
    `anonymous` operations are there for those without a token too, where the settings allow it.
    """

    method: str
    path: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    scope: str | tuple[str, ...] | None
    summary: str
    query: type[Query] | None = None
    body: type[BaseModel] | None = None
    answers: tuple[int, ...] = (200,)
    anonymous: bool = False

    @property
    def scopes(self) -> tuple[str, ...]:
        """Return the scopes of which any will do."""
        return (self.scope,) if isinstance(self.scope, str) else self.scope or ()


class Problem(Exception):  # noqa: N818 -- RFC 9457's word
    """An answer that says what is wrong, and what would be right."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers or {}


def make_site(
    routes: Sequence[Route],
    authorize: Authorize,
    *,
    largest_body: int = LARGEST_BODY,
    anonymous: Caller | None = None,
    limit: RateLimit | None = None,
) -> web.Application:
    """Return the application of a listener; `anonymous` is who calls without a token.

    The limit is for all but OpenADR 3, which has none.
    """
    by_handler = {route.handler: route for route in routes}
    site = web.Application(
        client_max_size=largest_body,
        middlewares=[_guarded(_authorized(by_handler, authorize, anonymous), limit)],
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
    runner = _Runner(
        site,
        access_log=None,
        shutdown_timeout=SHUTDOWN,
        auto_decompress=False,  # see _check_encoding; what is refused is not unpacked either
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


class _Protocol(RequestHandler):
    """Answers what is no HTTP request with a problem, too."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Say what is wrong with a request that could not be read."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer had begun already")
        said = " ".join((message or "").split()) or "it is no HTTP request that can be read"
        detail = said[:200] if status < HTTPStatus.INTERNAL_SERVER_ERROR else "a mistake here"
        reply = _problem(request, Problem(status, detail))
        reply.content_type = "application/json"  # what was asked for is not known
        reply.force_close()
        return reply


class _Runner(web.AppRunner):
    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        make = partial(_Protocol, server, loop=server._loop, **server._kwargs)
        server.__class__ = type("Server", (web.Server,), {"__call__": lambda _: make()})
        return server


def _guarded(authorize: Authorized, limit: RateLimit | None) -> Middleware:
    """Return what stands around every handler: who may call it, and what goes wrong in it."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            _check_host(request)
            await authorize(request)
            _check_encoding(request)
            if limit and not request.path.startswith(PLAIN):
                _count(request, limit)
            reply = await handler(request)
        except Problem as problem:
            reply = _problem(request, problem)
        except web.HTTPException as error:
            if error.status < HTTPStatus.BAD_REQUEST:
                raise
            allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
            reply = _problem(request, Problem(error.status, _explain(error, request), allow))
        except ConnectionResetError:
            raise  # whoever asked is gone
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
        if LIMITS in request:
            reply.headers.update(request[LIMITS])
        return reply

    return guard


def _check_encoding(request: web.Request) -> None:
    """Refuse a packed body: a small one may be a large one, and would be unpacked here."""
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise Problem(415, "Content-Encoding: send the body as it is, not packed")


def _count(request: web.Request, limit: RateLimit) -> None:
    """Count a request of whoever asks; refuse it where it is one too many."""
    caller = request.get(CALLER)
    known = caller and caller is not NOBODY and (caller.client or "", caller.name)
    left = limit.take(known or ("", "", request.remote))
    request[LIMITS] = {
        "X-RateLimit-Limit": str(limit.rate), "X-RateLimit-Remaining": str(left or 0),
    }  # fmt: skip
    if left is None:
        said = f"more than {limit.rate} requests in a second; wait for one"
        raise Problem(429, said, {"Retry-After": "1"})


_good_hosts: set[str] = set()


def _check_host(request: web.Request) -> None:
    """Refuse a Host of which no address can be made, before anything makes one of it."""
    host = request.headers.get("Host", "")
    if host in _good_hosts:
        return
    try:
        _ = request.url  # it is made when it is looked at
    except ValueError as error:
        raise Problem(400, "Host: is not a host with a port") from error
    if len(_good_hosts) < MOST_HOSTS:
        _good_hosts.add(host)


def _explain(error: web.HTTPException, request: web.Request) -> str:
    return {
        404: f"there is nothing at {request.path}",
        405: f"{request.method} is not for {request.path}; see Allow",
        413: f"the body is larger than {request.client_max_size} bytes",
    }.get(error.status, error.reason)


def _problem(request: web.BaseRequest, problem: Problem) -> web.Response:
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
        content_type=_problem_type(request),
        headers=problem.headers,
    )


def _problem_type(request: web.BaseRequest) -> str:
    """Return the media type of problems: OpenADR 3 knows only application/json."""
    plain = request.path.startswith(PLAIN) and PROBLEM not in request.headers.get("Accept", "")
    return "application/json" if plain else PROBLEM


def _authorized(
    by_handler: dict[Any, Route], authorize: Authorize, anonymous: Caller | None
) -> Authorized:
    patience = Patience()

    async def check(request: web.Request) -> None:
        # Before anything of the request is looked at, be it the path's parameters.
        route = by_handler.get(request.match_info.handler)
        if route and route.scope is None:  # whoever it is may; some answers depend on it
            if "Authorization" in request.headers:
                request[CALLER] = await _caller(request, authorize, False) or NOBODY
            return
        if route and route.anonymous and anonymous and "Authorization" not in request.headers:
            request[CALLER] = anonymous
            return
        lasts = patience.lasts(request.remote, BAD_TOKENS)
        caller = await _caller(request, authorize, lasts)
        if caller is None:
            if "Authorization" in request.headers:  # a guess
                if not lasts:
                    raise Problem(
                        429, "too many requests without a good token", {"Retry-After": "60"}
                    )
                patience.note(request.remote)
            raise Problem(
                401,
                "a bearer token is needed; make one with `openadr-bridge token create NAME`, or "
                "as an OpenADR client ask /auth/token",
                {"WWW-Authenticate": 'Bearer realm="openadr-bridge"'},
            )
        if route and route.scopes and caller.scopes.isdisjoint(route.scopes):
            needed, had = " or ".join(route.scopes), ", ".join(sorted(caller.scopes)) or "none"
            raise Problem(403, f"this needs scope {needed}; yours has {had}")
        request[CALLER] = caller

    return check


async def _caller(request: web.Request, authorize: Authorize, patient: bool) -> Caller | None:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return await authorize(token.strip(), patient) if kind.lower() == "bearer" else None
