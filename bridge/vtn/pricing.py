"""Programs and historical prices, from the store."""

import csv
import io
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Annotated, Literal

from aiohttp import web
from pydantic import BeforeValidator, Field

from bridge.clock import Clock
from bridge.interfaces import PriceHistory
from bridge.model import PRICE, Document, PriceRow
from bridge.notation import read_time, to_json, write_time
from bridge.web import Problem, Query, Route, read_query, reply_list, reply_tagged

LONGEST_PAGE = 10_000
FIRST_YEAR, LAST_YEAR = 1900, 9999  # of times that can be asked for
COLUMNS = ("program", "start", "end", "price", "unit", "currency", "type")
CONTENT_TYPES = {
    "json": "application/json",
    "evcc": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
}


def _rfc3339(value: object) -> object:
    # A "+" that was not escaped arrives as a blank.
    text = str(value).replace(" ", "+")
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None and FIRST_YEAR <= moment.year < LAST_YEAR:
            return moment.astimezone(UTC)
    except ValueError:
        pass
    raise ValueError("write a time as RFC 3339, such as 2027-03-14T00:00:00-08:00")


Time = Annotated[datetime, BeforeValidator(_rfc3339)]


class PricesQuery(Query):
    """What `GET /api/v1/prices` can be asked."""

    program: str | None = None
    start: Time | None = None
    end: Time | None = None
    type: str = PRICE
    format: Literal["json", "csv", "ndjson", "evcc"] = "json"
    limit: int = Field(1000, ge=1, le=LONGEST_PAGE)
    cursor: str | None = None


class Pricing:
    """Answers from the price series."""

    def __init__(self, history: PriceHistory, zone: tzinfo, clock: Clock) -> None:
        self._history, self._zone, self._clock = history, zone, clock

    def routes(self, *, public: bool) -> list[Route]:
        """Return the routes; `public` asks for no token."""
        scope = None if public else "read"
        return [
            Route("GET", "/api/v1/programs", self.programs, scope, "All programs, by name"),
            Route(
                "GET", "/api/v1/prices", self.prices, scope,
                "Prices that hold between two times, by program and time", PricesQuery,
            ),
        ]  # fmt: skip

    async def programs(self, _request: web.Request) -> web.Response:
        """GET /api/v1/programs."""
        return reply_list(await self._history.programs(), None)

    async def prices(self, request: web.Request) -> web.Response:
        """GET /api/v1/prices: from the site's today on, where no start is given."""
        query: PricesQuery = read_query(request, PricesQuery)
        await self._check(query)
        found = await self._history.prices(
            query.program,
            query.start or self._today(),
            query.end,
            query.type,
            _read_cursor(query.cursor),
            query.limit + 1,
        )
        page, more = found[: query.limit], len(found) > query.limit
        after = _write_cursor(page[-1]) if more else None
        if query.format == "json":
            return reply_tagged(
                request, to_json({"items": [_row(r) for r in page], "next": after}).encode(),
                CONTENT_TYPES["json"],
            )  # fmt: skip
        if more and query.format == "evcc":
            raise Problem(
                400, f"limit: there are more than {query.limit} prices; say an earlier end"
            )
        reply = reply_tagged(request, FORMATS[query.format](page), CONTENT_TYPES[query.format])
        if after:
            reply.headers["Link"] = f'<{request.url.update_query(cursor=after)}>; rel="next"'
        return reply

    async def _check(self, query: PricesQuery) -> None:
        names = [p["programName"] for p in await self._history.programs()]
        if query.program is not None and query.program not in names:
            raise Problem(
                404, f"there is no program {query.program!r}; /api/v1/programs lists them"
            )
        if query.format == "evcc" and query.program is None and len(names) > 1:
            raise Problem(
                400, f"program: this form holds one program; name one of {', '.join(names)}"
            )
        if query.start and query.end and query.end <= query.start:
            raise Problem(400, "end: must be after start")

    def _today(self) -> datetime:
        local = self._clock.now().astimezone(self._zone)
        return local.replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)


def _row(row: PriceRow) -> Document:
    return {
        "id": f"{row.program}/{row.payload_type}/{write_time(row.start)}",
        "program": row.program,
        "start": row.start,
        "end": row.end,
        "price": row.value,
        "unit": row.unit,
        "currency": row.currency,
        "type": row.payload_type,
    }


def _evcc(rows: Sequence[PriceRow]) -> bytes:
    return to_json([{"start": r.start, "end": r.end, "value": r.value} for r in rows]).encode()


def _ndjson(rows: Sequence[PriceRow]) -> bytes:
    return "".join(f"{to_json(_row(r))}\n" for r in rows).encode()


def _csv(rows: Sequence[PriceRow]) -> bytes:
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    for row in rows:
        shown = {**_row(row), "start": write_time(row.start), "end": write_time(row.end)}
        table.writerow({**shown, "price": f"{row.value:f}"})
    return text.getvalue().encode()


FORMATS: dict[str, Callable[[Sequence[PriceRow]], bytes]] = {
    "evcc": _evcc,
    "ndjson": _ndjson,
    "csv": _csv,
}


def _write_cursor(row: PriceRow) -> str:
    return f"{write_time(row.start)}~{row.series}~{row.program}"


def _read_cursor(text: str | None) -> tuple[str, int, datetime] | None:
    if text is None:
        return None
    start, _, rest = text.partition("~")
    series, _, program = rest.partition("~")
    try:
        return program, int(series), read_time(start)
    except (ValueError, OverflowError) as error:
        raise Problem(400, "cursor: is not one that was given by this API") from error
