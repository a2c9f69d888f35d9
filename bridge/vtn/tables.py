"""Rows of documents, written as JSON, NDJSON or CSV."""

import csv
import io
from collections.abc import Collection, Sequence
from datetime import datetime
from decimal import Decimal

from bridge.model import Document
from bridge.notation import to_json, write_time


def write_rows(
    form: str,
    rows: Sequence[Document],
    columns: Sequence[str],
    omitted: Collection[str],
    envelope: Document,
) -> bytes:
    """Return rows in a form, without what is omitted; the envelope goes with JSON only."""
    if omitted:
        rows = [{k: v for k, v in row.items() if k not in omitted} for row in rows]
        columns = [c for c in columns if c not in omitted]
    if form == "ndjson":
        return "".join(f"{to_json(row)}\n" for row in rows).encode()
    if form == "csv":
        return _csv(rows, columns).encode()
    return to_json({"items": rows, **envelope}).encode()


def _csv(rows: Sequence[Document], columns: Sequence[str]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    for row in rows:
        table.writerow({name: cell(value) for name, value in row.items()})
    return text.getvalue()


def cell(value: object) -> object:
    """Return a value as it is written into a table."""
    if isinstance(value, datetime):
        return write_time(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ":".join(str(v) for v in value.values())
    return value
