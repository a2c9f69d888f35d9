"""What reports measured, kept with who said it and in which report."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

from sqlite_utils import Database

from bridge.errors import Unfit
from bridge.model import Document
from bridge.notation import from_millis, millis
from bridge.store.packing import from_columns, to_columns
from bridge.store.sqlite import Sqlite, rows, write_many
from bridge.wire import openadr3

# OpenADR 3.1.0 Definition, Report Enumerations: those that measure an amount
KINDS = {
    "READING", "USAGE", "DEMAND", "DELTA_USAGE", "BASELINE", "STORAGE_CHARGE_LEVEL",
}  # fmt: skip


MOST = 20_000  # readings in one report: they are written while others wait


def keep(db: Database, report: Document, at: datetime) -> None:
    """Keep a report's usage payloads; what the same report said before is gone."""
    said = (one for resource in report["resources"] for one in _readings(report, resource))
    found = list(islice(said, MOST + 1))
    if len(found) > MOST:
        raise Unfit(f"resources: hold more than {MOST} readings; write several reports")
    db.conn.execute("DELETE FROM readings WHERE report = ?", (report["id"],))
    write_many(
        db,
        "INSERT OR REPLACE INTO readings (meter, kind, start, length, value, exponent, unit,"
        " reading_type, quality, client, report, since)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        ((*one, report["clientID"], report["id"], millis(at)) for one in found),
    )


def _readings(report: Document, resource: Document) -> Iterator[tuple[Any, ...]]:
    described = {d["payloadType"]: d for d in report.get("payloadDescriptors") or []}
    for payload in openadr3.reported(resource):
        if payload.kind not in KINDS:
            continue
        about = described.get(payload.kind, {})
        yield (
            resource["resourceName"], payload.kind, millis(payload.start),
            (payload.end - payload.start) // timedelta(milliseconds=1),
            *to_columns(payload.value), about.get("units"), about.get("readingType"),
            payload.quality,
        )  # fmt: skip


class Readings:
    """Answers what was measured."""

    def __init__(self, file: Sqlite) -> None:
        self._file = file

    async def list(self, meter: str) -> list[Document]:
        """Return a meter's readings by kind and start, each with where it comes from."""
        sql = "SELECT * FROM readings WHERE meter = ? ORDER BY kind, start, length, client"
        found = await self._file.read(lambda db: rows(db, sql, (meter,)))
        return [
            {
                **{k: r[k] for k in ("meter", "kind", "unit", "quality", "client", "report")},
                "start": from_millis(r["start"]),
                "end": from_millis(r["start"] + r["length"]),
                "value": Decimal(from_columns(r["value"], r["exponent"])),
            }
            for r in found
        ]
