"""`/api/v1` of the admin listener: sources, devices, subscriptions, events and deliveries."""

import json
from datetime import datetime, timedelta
from typing import Literal

from aiohttp import web
from pydantic import Field

from bridge.certificates import as_shown
from bridge.clock import Clock
from bridge.interfaces import Overview
from bridge.model import Document
from bridge.notation import from_json, from_millis, write_duration
from bridge.supervise import Health
from bridge.web import Problem, Query, Route, describe, read_query, reply_json, reply_list

LONGEST_CURSOR = 19  # digits


class PageQuery(Query):
    """A page of a list."""

    limit: int = Field(100, ge=1, le=1000)
    cursor: str | None = None


class EventsQuery(PageQuery):
    """What `GET /api/v1/events` can be asked."""

    live: bool = False


class DeliveriesQuery(PageQuery):
    """What `GET /api/v1/deliveries` can be asked."""

    device: str | None = None
    outcome: (
        Literal["owed", "delivered", "expired", "superseded", "given_up", "withheld"] | None
    ) = None


class Api:
    """Shows what the bridge knows, and sends a delivery again."""

    def __init__(
        self, overview: Overview, health: Health, clock: Clock, silence: timedelta
    ) -> None:
        self._overview, self._health, self._clock = overview, health, clock
        self._silence = silence  # of a VEN, after which it is said

    def routes(self) -> list[Route]:
        """Return the routes."""
        base, read = "/api/v1", "read"
        return [
            Route("GET", f"{base}/sources", self.sources, read, "Sources, and how each is doing"),
            Route("GET", f"{base}/devices", self.devices, read, "Devices, and how each is doing"),
            Route(
                "GET", f"{base}/subscriptions", self.subscriptions, read,
                "Subscriptions of OpenADR 3 clients, and how each is doing",
            ),
            Route(
                "GET", f"{base}/vens", self.vens, read,
                "OpenADR 2.0b VENs: registration, what each is owed, said, reports",
            ),
            Route("GET", f"{base}/events", self.events, read, "Events, latest first", EventsQuery),
            Route(
                "GET", f"{base}/deliveries", self.deliveries, read,
                "Deliveries, the newest first", DeliveriesQuery,
            ),
            Route(
                "POST", f"{base}/deliveries/{{id}}/retry", self.retry, "operate",
                "Send a settled delivery again",
            ),
            Route("GET", f"{base}/openapi.json", self.openapi, read, "This API, described"),
        ]  # fmt: skip

    async def sources(self, _request: web.Request) -> web.Response:
        """GET /api/v1/sources."""
        return reply_list([self._source(r) for r in await self._overview.list_sources()], None)

    async def subscriptions(self, _request: web.Request) -> web.Response:
        """GET /api/v1/subscriptions."""
        return reply_list(await self._overview.list_subscriptions(), None)

    async def vens(self, _request: web.Request) -> web.Response:
        """GET /api/v1/vens."""
        now = self._clock.now()
        found = await self._overview.list_vens(now)
        return reply_list([_ven(row, now - self._silence) for row in found], None)

    async def devices(self, _request: web.Request) -> web.Response:
        """GET /api/v1/devices."""
        return reply_list([_device(r) for r in await self._overview.list_devices()], None)

    async def events(self, request: web.Request) -> web.Response:
        """GET /api/v1/events."""
        query: EventsQuery = read_query(request, EventsQuery)
        now = self._clock.now()
        found = await self._overview.list_events(
            _events_cursor(query.cursor), query.limit + 1, now if query.live else None
        )
        page = found[: query.limit]
        more = f"{page[-1]['active_from']}:{page[-1]['id']}" if len(found) > query.limit else None
        answers = await self._overview.answers({(r["source"], r["foreign_id"]) for r in page})
        return reply_list(
            [_event(r, now, answers.get((r["source"], r["foreign_id"]), [])) for r in page], more
        )

    async def deliveries(self, request: web.Request) -> web.Response:
        """GET /api/v1/deliveries."""
        query: DeliveriesQuery = read_query(request, DeliveriesQuery)
        after = _cursor_number(query.cursor) if query.cursor is not None else None
        found = await self._overview.list_deliveries(
            after, query.limit + 1, query.device, query.outcome
        )
        page = found[: query.limit]
        more = str(page[-1]["turn"]) if len(found) > query.limit else None
        return reply_list([_delivery(r) for r in page], more)

    async def retry(self, request: web.Request) -> web.Response:
        """POST /api/v1/deliveries/{id}/retry: owed again, under the same id, with the same body."""
        row = await self._overview.retry(request.match_info["id"], self._clock.now())
        if row is None:
            raise Problem(404, "there is no delivery of this id; it may have been pruned")
        return reply_json(_delivery(row), 202)

    async def openapi(self, _request: web.Request) -> web.Response:
        """GET /api/v1/openapi.json."""
        return reply_json(describe("openadr-bridge admin API", self.routes()))

    def _source(self, row: Document) -> Document:
        job = self._health.job(f"source:{row['name']}")
        return {
            "id": row["name"],
            "ok": job.well and job.last_success is not None,
            "warning": job.warning,
            "problem": job.problem,
            "failing_since": job.failing_since,
            "next_attempt": job.next_attempt,
            "last_success": job.last_success or _time(row["heard"]),
            "registration": json.loads(row["registration"]) if row["registration"] else None,
        }


def _device(row: Document) -> Document:
    return {
        "id": row["name"],
        "kind": row["kind"],
        "disabled": row["disabled"],
        "state": from_json(row["told"]) if row["told"] else None,
        "told_at": _time(row["told_at"]),
        "last_success": _time(row["last_success"]),
        "last_problem": row["last_problem"],
        "owed": row["owed"],
    }


def _ven(row: Document, silent_since: datetime) -> Document:
    registered = row["registration_id"] is not None
    heard = row["heard"]
    return {
        "id": row["name"],
        "ven_id": row["ven_id"],
        "ven_name": row["ven_name"],
        "registered": registered,
        "registered_at": _time(row["registered"]),
        "last_seen": heard,
        "silent": registered and (heard is None or heard < silent_since),
        "signs": row["signs"],
        "test_events": row["test_events"],
        "programs": row["programs"],
        "resources": row["resources"],
        "groups": row["groups"],
        "certificates": [as_shown(c) for c in row["certificates"]],
        "owed": row["owed"],
        "answers": row["answers"],
        "opts": row["opts"],
        "reports": [{**r, "every": write_duration(r["every"])} for r in row["reports"]],
        "messages": row["messages"],
    }


def _event(row: Document, now: datetime, opts: list[Document]) -> Document:
    start, end = from_millis(row["active_from"]), from_millis(row["active_to"])
    status = "cancelled" if row["cancelled_at"] is not None else "completed"
    if status == "completed" and now < end:
        status = "active" if now >= start else "pending"
    return {
        "id": row["id"],
        "program": row["program"],
        "source": row["source"],
        "eventName": row["foreign_id"],
        "modification": row["modification"],
        "status": status,
        "start": start,
        "end": end,
        "test": bool(row["test"]),
        "opt": row["opt"],
        "opt_due": _time(row["opt_due"]),
        "opt_told": row["opt_told"],
        "opts": opts,
        "event": from_json(row["document"]),
    }


def _delivery(row: Document) -> Document:
    return {
        "id": row["id"],
        "device": row["device"],
        "type": row["type"],
        "event": row["event"],
        "modification": row["modification"],
        "instant": from_millis(row["instant"]),
        "created": from_millis(row["created"]),
        "due": from_millis(row["due"]),
        "expires": _time(row["expires"]),
        "attempts": row["attempts"],
        "outcome": row["outcome"],
        "settled": _time(row["settled"]),
        "problem": row["problem"],
        "body": from_json(row["body"]),
    }


def _time(stamp: int | None) -> datetime | None:
    return None if stamp is None else from_millis(stamp)


def _events_cursor(text: str | None) -> str | None:
    if text is not None:
        _cursor_number(text.partition(":")[0].removeprefix("-"))
    return text


def _cursor_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < LONGEST_CURSOR):
        raise Problem(400, "cursor: is not one that was given by this API")
    return int(text)
