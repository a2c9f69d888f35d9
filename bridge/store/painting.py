"""Prices that events say: of overlapping issues the newest holds.

A cancelled one counts up to the instant it was cancelled. What a new painting replaces is
kept as a revision.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from sqlite_utils import Database

from bridge.model import Document, is_price
from bridge.notation import from_json, from_millis, millis
from bridge.store import series
from bridge.store.packing import Painted, to_columns
from bridge.store.sqlite import rows
from bridge.wire import openadr3


def paint(db: Database, program: str, lo: int, hi: int, at: datetime) -> None:
    """Bring a program's series up to what its events say for [lo, hi) milliseconds."""
    known = series.by_program(db, program)
    lo, hi = _widen(db, [s["id"] for s in known], lo, hi)
    events = rows(
        db,
        # What clients aim at some is not the price of a program that is for all.
        "SELECT e.document, e.longest, e.cancelled_at, e.active_from FROM events e"
        " JOIN origins o ON o.id = e.origin JOIN programs p ON p.id = e.program"
        " WHERE e.program = ? AND e.test = 0 AND e.active_to > ? AND e.active_from < ?"
        " AND NOT (o.source = 'vtn' AND e.audiences <> '[]' AND p.audiences = '[]')"
        " ORDER BY e.issued DESC",
        (program, lo, hi),
    )
    layers: dict[tuple[str, str, str], list[list[Painted]]] = {}
    for row in known:
        layers[row["payload_type"], row["unit"], row["currency"]] = []
    for event in events:
        for key, layer in _layers(event).items():
            layers.setdefault(key, []).append(layer)
    for (kind, unit, currency), stack in layers.items():
        number = series.series_id(db, program, kind, unit, currency)
        series.replace(db, number, series.flatten(stack), lo, hi, at)


def _widen(db: Database, numbers: Sequence[int], lo: int, hi: int) -> tuple[int, int]:
    """Widen a window until no kept price reaches out of it: such a one would be cut."""
    names = series.component_names(db)
    while True:
        kept = [k.price for n in numbers for k in series.within(db, n, lo, hi, names)]
        wide = (
            min([lo, *(p.start for p in kept)]),
            max([hi, *(p.start + p.length for p in kept)]),
        )
        if wide == (lo, hi):
            return wide
        lo, hi = wide


def _layers(event: Document) -> dict[tuple[str, str, str], list[Painted]]:
    document = from_json(event["document"])
    units = openadr3.units(document)
    found: dict[tuple[str, str, str], list[Painted]] = {}
    longest = from_millis(event["longest"]) - from_millis(0)
    for interval in openadr3.intervals(document, longest, from_millis(event["active_from"])):
        start, end = millis(interval.start), millis(interval.end)
        if event["cancelled_at"] is not None:
            end = min(end, event["cancelled_at"])
        for kind, value in interval.values.items():
            if is_price(kind) and end > start and not isinstance(value, bool | str):
                unit, currency = units.get(kind, (None, None))
                layer = found.setdefault((kind, unit or "", currency or ""), [])
                layer.append(Painted(start, end - start, *to_columns(Decimal(value))))
    return found
