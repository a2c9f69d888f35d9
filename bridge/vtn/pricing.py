"""`/api/v1/programs` and `/api/v1/prices`: prices as they are, were, and were known."""

import asyncio
import csv
import io
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Literal, NamedTuple

from aiohttp import web
from pydantic import Field

from bridge.clock import Clock
from bridge.interfaces import PriceHistory
from bridge.model import PRICE, Document, PriceQuestion, PriceRow
from bridge.notation import read_time, to_json, write_time
from bridge.vtn.tables import cell
from bridge.vtn.times import Time
from bridge.web import CALLER, Problem, Query, Route, read_query, reply_list, reply_tagged

LONGEST_PAGE = 10_000
COLUMNS = ("program", "start", "end", "price", "unit", "currency", "type", "status", "since")
# What is said of the program that is asked for, beside its prices
ABOUT = ("covers_until", "last_success", "basis", "derived_from")
CONTENT_TYPES = {
    "json": "application/json",
    "evcc": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
}


class PricesQuery(Query):
    """What `GET /api/v1/prices` can be asked."""

    program: str | None = None
    start: Time | None = None
    end: Time | None = None
    type: str = PRICE
    as_of: Time | None = None
    revisions: bool = False
    components: bool = True
    format: Literal["json", "csv", "ndjson", "evcc"] = "json"
    limit: int = Field(1000, ge=1, le=LONGEST_PAGE)
    cursor: str | None = None


class Pricing:
    """Answers from the price series."""

    def __init__(self, history: PriceHistory, zone: tzinfo, clock: Clock) -> None:
        self._history, self._zone, self._clock = history, zone, clock

    def routes(self, *, public: bool) -> list[Route]:
        """Return the routes; `public` asks for no token."""
        scope = None if public else "prices:read"
        return [
            Route("GET", "/api/v1/programs", self.programs, scope, "All programs, by name"),
            Route(
                "GET", "/api/v1/prices", self.prices, scope,
                "Prices that hold between two times, by program and time", PricesQuery,
                answers=(200, 404),
            ),
        ]  # fmt: skip

    async def programs(self, request: web.Request) -> web.Response:
        """GET /api/v1/programs."""
        found = await self._history.programs(self._clock.now(), public=_is_public(request))
        return reply_list(found, None)

    async def prices(self, request: web.Request) -> web.Response:
        """GET /api/v1/prices: from the site's today on, where no start is given."""
        query: PricesQuery = read_query(request, PricesQuery)
        public = _is_public(request)
        about = await self._check(query, public)
        found = await self._history.prices(
            PriceQuestion(
                query.program,
                query.start or self._today(),
                query.end,
                query.type,
                query.as_of,
                query.revisions,
                _read_cursor(query.cursor),
                query.limit + 1,
                public=public,
            )
        )
        page, more = found[: query.limit], len(found) > query.limit
        after = _write_cursor(page[-1]) if more else None
        if more and query.format == "evcc":
            raise Problem(
                400, f"limit: there are more than {query.limit} prices; say an earlier end"
            )
        form = Form(page, query, after, about)
        written = await asyncio.to_thread(FORMATS[query.format], form)  # a year takes its time
        reply = await reply_tagged(request, written, CONTENT_TYPES[query.format])
        if after and query.format != "json":
            reply.headers["Link"] = f'<{request.url.update_query(cursor=after)}>; rel="next"'
        return reply

    async def _check(self, query: PricesQuery, public: bool) -> Document | None:
        """Return what there is to say of the program that is asked for."""
        now = self._clock.now()
        if query.start and query.end and query.end <= query.start:
            raise Problem(400, "end: must be after start")
        if query.revisions and (query.as_of or query.format == "evcc"):
            raise Problem(400, "revisions: are all there ever were; not with as_of or evcc")
        if query.program is None and (query.revisions or query.as_of):
            raise Problem(400, "program: name one, to be told what was known of it")
        if query.program is not None:
            found = await self._history.programs(now, query.program, public=public)
            if not found:
                raise Problem(
                    404, f"there is no program {query.program!r}; /api/v1/programs lists them"
                )
            return found[0]
        if query.format == "evcc":
            names = [p["programName"] for p in await self._history.programs(now, public=public)]
            if len(names) > 1:
                raise Problem(
                    400, f"program: this form holds one program; name one of {', '.join(names)}"
                )
        return None

    def _today(self) -> datetime:
        local = self._clock.now().astimezone(self._zone)
        return local.replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)


def _is_public(request: web.Request) -> bool:
    """Whether whoever asks has not shown that it may read everything."""
    caller = request.get(CALLER)
    return caller is None or caller.scopes.isdisjoint(("read", "read_all"))


class Form(NamedTuple):
    """A page of prices, and what else goes into what is written of it."""

    page: Sequence[PriceRow]
    query: PricesQuery
    after: str | None
    about: Document | None

    def rows(self) -> Iterator[Document]:
        """Yield a page's rows as documents."""
        for row in self.page:
            shown = {
                "id": f"{row.program}/{row.payload_type}/{write_time(row.start)}",
                "program": row.program,
                "start": row.start,
                "end": row.end,
                "price": row.value,
                "unit": row.unit,
                "currency": row.currency,
                "type": row.payload_type,
                "status": row.status,
                "since": row.since,
            }
            if self.query.revisions:
                shown |= {"id": f"{shown['id']}/{write_time(row.since)}", "replaced": row.replaced}
            if self.query.components:
                shown["components"] = [
                    {"component": c.name, "type": c.type, "price": c.price} for c in row.components
                ]
            yield shown


def _json(form: Form) -> bytes:
    answer: Document = {"items": list(form.rows()), "next": form.after}
    answer |= {name: form.about[name] for name in ABOUT} if form.about else {}
    return to_json(answer).encode()


def _evcc(form: Form) -> bytes:
    return to_json([{"start": r.start, "end": r.end, "value": r.value} for r in form.page]).encode()


def _ndjson(form: Form) -> bytes:
    return "".join(f"{to_json(row)}\n" for row in form.rows()).encode()


def _csv(form: Form) -> bytes:
    columns = [
        *COLUMNS,
        *(("replaced",) if form.query.revisions else ()),
        *(("components",) if form.query.components else ()),
    ]
    text = io.StringIO()
    table = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    for row in form.rows():
        table.writerow({name: _cell(value) for name, value in row.items()})
    return text.getvalue().encode()


def _cell(value: object) -> object:
    if isinstance(value, list):
        return ";".join(f"{c['component']}={c['price']:f}" for c in value)
    return cell(value)


FORMATS: dict[str, Callable[[Form], bytes]] = {
    "json": _json,
    "evcc": _evcc,
    "ndjson": _ndjson,
    "csv": _csv,
}


def _write_cursor(row: PriceRow) -> str:
    return f"{write_time(row.start)}~{write_time(row.since)}~{row.series}~{row.program}"


def _read_cursor(text: str | None) -> tuple[str, int, datetime, datetime] | None:
    if text is None:
        return None
    try:
        start, since, series, program = text.split("~", 3)
        return program, int(series), read_time(start), read_time(since)
    except (ValueError, OverflowError) as error:
        raise Problem(400, "cursor: is not one that was given by this API") from error
