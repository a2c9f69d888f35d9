"""What reports of clients measured: kept as readings of meters that no other client can name."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import islice

from sqlite_utils import Database

from bridge.errors import Unfit
from bridge.model import Document
from bridge.store import usage
from bridge.usage import NET, UNKNOWN, Kept, Measured, Origin, Stream, kept_unit, owned
from bridge.vens import Reading as VenReading
from bridge.wire import openadr3
from bridge.wire.readings import reading

OPENADR3, OPENADR2 = "openadr3", "openadr2"
# OpenADR 3.1.0 Definition, Report Enumerations: those that measure an amount
KINDS = {
    "READING", "USAGE", "DEMAND", "DELTA_USAGE", "BASELINE", "STORAGE_CHARGE_LEVEL",
}  # fmt: skip
MOST = 20_000  # readings in one report: they are written while others wait


def keep(db: Database, report: Document, had: Document | None, at: datetime) -> None:
    """Keep a report's usage payloads; what it said before, and does not now, is taken back."""
    found = list(islice(_measured(report), MOST + 1))
    if len(found) > MOST:
        raise Unfit(f"resources: hold more than {MOST} readings; write several reports")
    still = {_place(one) for one in found}
    gone: dict[tuple[Stream, Origin], list[tuple[int, int]]] = {}
    for one in _measured(had) if had else ():
        if _place(one) not in still:
            gone.setdefault((one.stream, one.origin), []).append(_place(one)[1])
    for (stream, origin), keys in gone.items():
        usage.withdraw(db, stream, keys, origin, at)
    usage.keep(db, found, at)


def keep_ven(db: Database, ven: str, readings: Sequence[VenReading], at: datetime) -> Kept:
    """Keep what a 2.0b VEN measured."""
    return usage.keep(
        db,
        (
            _one(
                owned(OPENADR2, ven, r.meter), r.kind, r.unit, r.start, r.start + r.length,
                r.value, r.quality, Origin(OPENADR2, ven, r.request_id, r.reading_type or ""),
            )
            for r in readings
        ),
        at,
    )  # fmt: skip


def _measured(report: Document) -> Iterator[Measured]:
    described = {d["payloadType"]: d for d in report.get("payloadDescriptors") or []}
    client = report["clientID"]
    for resource in report["resources"]:
        for payload in openadr3.reported(resource):
            if payload.kind in KINDS:
                about = described.get(payload.kind, {})
                origin = Origin(OPENADR3, client, report["id"], about.get("readingType") or "")
                yield _one(
                    owned(OPENADR3, client, resource["resourceName"]), payload.kind,
                    about.get("units"), payload.start, payload.end, payload.value,
                    payload.quality, origin,
                )  # fmt: skip


def _one(
    meter: str,
    kind: str,
    unit: str | None,
    start: datetime,
    end: datetime,
    value: Decimal,
    quality: str | None,
    origin: Origin,
) -> Measured:
    kept, power = kept_unit(unit or UNKNOWN)
    try:
        found = reading(start, end, value, power, quality)
    except ValueError as error:
        raise Unfit(f"a reading of {meter}: {error}") from error
    return Measured(Stream(meter, NET, kind.lower(), kept), (found,), origin)


def _place(one: Measured) -> tuple[Stream, tuple[int, int]]:
    """Return which reading it is: what it is said again for takes its place."""
    return one.stream, one.readings[0][:2]
