"""What reports VENs can give, which of them we ask for, and what they measured."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any
from uuid import uuid4

from sqlite_utils import Database

from bridge.errors import Unfit
from bridge.model import Document
from bridge.notation import ZERO, from_millis, millis
from bridge.store import reported, vens
from bridge.store.sqlite import one, rows
from bridge.vens import Offered, Point, Reading, Request, Wish

HISTORY = "HISTORY_"
MOST_POINTS = 1_000  # that one report of a VEN may measure


def save(
    db: Database, ven: str, offered: Sequence[Offered], wishes: Collection[Wish], at: datetime
) -> list[Request]:
    """Keep what reports a VEN can give; return what it is asked for at once, the rest by poll.

    A VEN says this when it begins anew: what it was asked for before is over.
    """
    db.conn.execute("DELETE FROM ven_points WHERE ven = ?", (ven,))
    for report in offered:
        said = json.dumps([_document(point) for point in report.points])
        db.conn.execute(
            "INSERT OR REPLACE INTO ven_points VALUES (?, ?, ?, ?)",
            (ven, report.specifier, report.name, said),
        )
    db.conn.execute(
        "UPDATE ven_requests SET ended = ? WHERE ven = ? AND ended IS NULL", (millis(at), ven)
    )
    for report in offered:
        if len(report.points) > MOST_POINTS:
            raise Unfit(f"a report describes more than {MOST_POINTS} measurements")
    reports = ("oadrCreateReport", "oadrCancelReport")
    db.conn.execute("DELETE FROM ven_messages WHERE ven = ? AND kind IN (?, ?)", (ven, *reports))
    wanted = list(_wanted(db, ven, offered, wishes, at))
    for request in wanted:
        _ask(db, ven, request, at)
    for request in wanted:  # each by itself: some VENs mix up what is asked for in one message
        payload = {"request": request.document}
        vens.say(db, ven, "oadrCreateReport", payload, at, request.request_id)
    return wanted[:1]


def reconcile(db: Database, wishes: Collection[Wish], at: datetime) -> None:
    """Ask registered VENs for what the settings wish now, and no more for what they do not."""
    for row in rows(db, "SELECT name FROM vens WHERE registration_id IS NOT NULL"):
        ven = row["name"]
        asked = {
            _what(request): request
            for request in map(Request.read, _open(db, ven))
            if not request.name.startswith(HISTORY)
        }
        wanted = {_what(r): r for r in _wanted(db, ven, offered(db, ven), wishes, at)}
        for what, request in asked.items():
            if what not in wanted:
                _cancel(db, ven, request.request_id, at)
        for what, request in wanted.items():
            if what not in asked:
                _ask(db, ven, request, at)
                payload = {"request": request.document}
                vens.say(db, ven, "oadrCreateReport", payload, at, request.request_id)


def offered(db: Any, ven: str) -> list[Offered]:
    """Return what reports a VEN said it can give."""
    return [
        Offered(r["specifier"], r["name"], tuple(map(_point, json.loads(r["points"]))))
        for r in rows(db, "SELECT * FROM ven_points WHERE ven = ? ORDER BY specifier", (ven,))
    ]


def points(db: Any, ven: str, specifier: str) -> Mapping[str, Point]:
    """Return what a VEN can measure, by rID; nothing where it did not say."""
    sql = "SELECT points FROM ven_points WHERE ven = ? AND specifier = ?"
    row = one(db, sql, (ven, specifier))
    return {p.r_id: p for p in map(_point, json.loads(row["points"]))} if row else {}


def samplings(db: Any, ven: str, requests: Collection[str]) -> Mapping[str, timedelta]:
    """Return how long the intervals are that a VEN was asked for, by request id."""
    sql = "SELECT request FROM ven_requests WHERE request_id = ? AND ven = ?"
    known = (one(db, sql, (request, ven)) for request in requests)
    found = (Request.read(json.loads(row["request"])) for row in known if row)
    return {request.request_id: request.sampling for request in found}


def keep(
    db: Database, ven: str, readings: Sequence[Reading], requests: Collection[str], at: datetime
) -> tuple[set[str], bool]:
    """Keep what a VEN measured; return those request ids under which nothing is asked for.

    And whether there is something to tell devices of.
    """
    told = reported.keep_ven(db, ven, readings, at).told
    unknown = set()
    for request in requests:
        done = db.conn.execute(
            "UPDATE ven_requests SET heard = ?,"
            " ended = iif(name LIKE 'HISTORY%', ?, ended)"
            " WHERE request_id = ? AND ven = ? AND (ended IS NULL OR name LIKE 'HISTORY%')",
            (millis(at), millis(at), request, ven),
        )
        if not done.rowcount:
            unknown.add(request)
    vens.answered(db, ven, "oadrCreateReport", requests)  # it was told, whatever it answered
    return unknown, bool(told)


def listing(db: Any) -> dict[str, list[Document]]:
    """Return, by VEN, what each is asked for and when it last reported."""
    found: dict[str, list[Document]] = {}
    for row in rows(db, "SELECT * FROM ven_requests WHERE ended IS NULL ORDER BY asked, name"):
        request = Request.read(json.loads(row["request"]))
        due = request.every or request.sampling
        found.setdefault(row["ven"], []).append(
            {
                "id": row["request_id"],
                "report": row["name"],
                "points": [r_id for r_id, _ in request.points],
                "every": due,
                "asked": from_millis(row["asked"]),
                "last": from_millis(row["heard"]) if row["heard"] else None,
            }
        )
    return found


def _open(db: Any, ven: str) -> Iterator[Document]:
    sql = "SELECT request FROM ven_requests WHERE ven = ? AND ended IS NULL"
    return (json.loads(row["request"]) for row in rows(db, sql, (ven,)))


def _wanted(
    db: Any, ven: str, given: Sequence[Offered], wishes: Collection[Wish], at: datetime
) -> Iterator[Request]:
    """Yield what the settings wish of what a VEN can give; history that was asked for only once."""
    for report in given:
        taken = _asked_before(db, ven, report) if report.name.startswith(HISTORY) else set()
        for wish in wishes:
            if wish.report != report.name or not fnmatchcase(ven, wish.ven):
                continue
            matching = [p for p in report.points if _matches(p, wish) and p.r_id not in taken]
            taken |= {p.r_id for p in matching}  # the first wish that fits is the one
            if not matching:
                continue
            history = wish.history if report.name.startswith(HISTORY) else None
            sampling = _within(wish.sampling, matching)
            yield Request(
                request_id=uuid4().hex,
                specifier=report.specifier,
                name=report.name,
                points=tuple((p.r_id, p.reading_type) for p in matching),
                sampling=sampling,
                every=ZERO if history else _whole(wish.every, sampling),
                start=at.replace(microsecond=0) - history if history else None,
                length=history,
            )


def _whole(every: timedelta, sampling: timedelta) -> timedelta:
    """Return the wished period as a multiple of the sampling: some VENs know no other."""
    times = every // sampling if sampling else 0
    return sampling * times if times > 1 else min(every, sampling) or every


def _asked_before(db: Any, ven: str, report: Offered) -> set[str]:
    """Return of which measurements of a report history was given, or is still asked for."""
    sql = "SELECT request FROM ven_requests WHERE ven = ? AND specifier = ?"
    sql += " AND (heard IS NOT NULL OR ended IS NULL)"
    found = rows(db, sql, (ven, report.specifier))
    asked = (Request.read(json.loads(row["request"])) for row in found)
    return {r_id for request in asked for r_id, _ in request.points}


def _matches(point: Point, wish: Wish) -> bool:
    return any(fnmatchcase(name, wish.resource) for name in (point.resource, point.r_id) if name)


def _within(sampling: timedelta, measured: Sequence[Point]) -> timedelta:
    """Return the wished sampling, as far as all measurements can keep to it."""
    shortest = max((p.shortest for p in measured if p.shortest), default=sampling)
    longest = min((p.longest for p in measured if p.longest), default=sampling)
    return max(min(sampling, longest), shortest)


def _what(request: Request) -> tuple[Any, ...]:
    return request.specifier, request.name, request.points, request.sampling, request.every


def _ask(db: Database, ven: str, request: Request, at: datetime) -> None:
    db.conn.execute(
        "INSERT INTO ven_requests (request_id, ven, specifier, name, request, asked)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (request.request_id, ven, request.specifier, request.name,
         json.dumps(request.document), millis(at)),
    )  # fmt: skip


def _cancel(db: Database, ven: str, request_id: str, at: datetime) -> None:
    db.conn.execute(
        "UPDATE ven_requests SET ended = ? WHERE request_id = ?", (millis(at), request_id)
    )
    if vens.answered(db, ven, "oadrCreateReport", {request_id}):
        return  # it was never asked
    vens.say(db, ven, "oadrCancelReport", {"report": request_id}, at, request_id)


def _document(point: Point) -> Document:
    return {
        "rID": point.r_id, "resource": point.resource, "reportType": point.report_type,
        "readingType": point.reading_type, "unit": point.unit, "currency": point.currency,
        "exponent": point.exponent,
        "shortest": point.shortest.total_seconds() if point.shortest else None,
        "longest": point.longest.total_seconds() if point.longest else None,
    }  # fmt: skip


def _point(said: Document) -> Point:
    return Point(
        r_id=said["rID"],
        resource=said["resource"],
        report_type=said["reportType"],
        reading_type=said["readingType"],
        unit=said["unit"],
        currency=said["currency"],
        exponent=said["exponent"],
        shortest=timedelta(seconds=said["shortest"]) if said["shortest"] else None,
        longest=timedelta(seconds=said["longest"]) if said["longest"] else None,
    )
