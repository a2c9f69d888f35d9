"""The OpenAPI document of a table of routes."""

from collections import defaultdict
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from aiohttp import web

from bridge import __version__
from bridge.model import Document
from bridge.web.replies import reply_json
from bridge.web.site import PLAIN, PROBLEM, Route
from bridge.wire.openadr3_requests import OBJECT_ID

SCHEMAS = "#/components/schemas/{model}"


class OpenApi:
    """Serves the document to whoever has any token."""

    def __init__(self, title: str, routes: Sequence[Route]) -> None:
        self._route = Route("GET", "/openapi.json", self.document, (), "This document")
        self._described = describe(title, [*routes, self._route])

    def routes(self) -> list[Route]:
        """Return its route."""
        return [self._route]

    async def document(self, _request: web.Request) -> web.Response:
        """GET /openapi.json."""
        return reply_json(self._described)


def describe(title: str, routes: Sequence[Route]) -> Document:
    """Return the OpenAPI 3.1 document of a table of routes."""
    paths: dict[str, Document] = defaultdict(dict)
    schemas: Document = {}
    for route in routes:
        operation: Document = {"summary": route.summary, "responses": _answers(route)}
        operation["parameters"] = [*_path_parameters(route), *_query_parameters(route)]
        if route.body:
            schema = route.body.model_json_schema(ref_template=SCHEMAS)
            schemas |= schema.pop("$defs", {})
            operation["requestBody"] = {
                "required": True, "content": {"application/json": {"schema": schema}},
            }  # fmt: skip
        operation["security"] = _security(route)
        operation["x-scope"] = route.scope if isinstance(route.scope, str) else list(route.scopes)
        if route.scope is None:
            operation["x-scope"] = None
        paths[route.path][route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": __version__},
        "paths": dict(paths),
        "components": {
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _answers(route: Route) -> Document:
    codes = {str(code): HTTPStatus(code).phrase for code in route.answers}
    if route.query or route.body or "{" in route.path:
        codes["400"] = "what is asked does not fit"
    if route.body:
        codes |= {"413": "the body is too large", "415": "the body is not JSON"}
    if route.scope is not None:
        codes |= {"401": "no good token", "403": "the token's scope is too small"}
    if not route.path.startswith(PLAIN):
        codes["429"] = "too many requests"
    problem = "application/json" if route.path.startswith(PLAIN) else PROBLEM
    return {
        code: {"description": text, **({"content": {problem: {}}} if code >= "400" else {})}
        for code, text in sorted(codes.items())
    }


def _security(route: Route) -> list[Any]:
    if route.scope is None:
        return []
    return [{"bearer": []}, {}] if route.anonymous else [{"bearer": []}]


def _path_parameters(route: Route) -> list[Document]:
    names = [step[1:-1] for step in route.path.split("/") if step.startswith("{")]
    schema: Document = {"type": "string"}
    if route.path.startswith(PLAIN):
        schema |= {"pattern": f"^{OBJECT_ID.pattern}$"}
    return [{"name": n, "in": "path", "required": True, "schema": schema} for n in names]


def _query_parameters(route: Route) -> list[Document]:
    if route.query is None:
        return []
    schema = route.query.model_json_schema()
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _without_null(shape)}
        for name, shape in schema["properties"].items()
    ]


def _without_null(shape: Document) -> Document:
    """Return the schema of a query parameter: it is there or not, but never null."""
    kinds = [kind for kind in shape.get("anyOf", ()) if kind != {"type": "null"}]
    rest = {k: v for k, v in shape.items() if k not in {"anyOf", "default"} or v is not None}
    if not kinds:
        return rest
    del rest["anyOf"]
    return {**rest, **kinds[0]} if len(kinds) == 1 else {**rest, "anyOf": kinds}
