"""What was measured as it is shown: a row for a reading or a bucket, and what is covered."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from bridge.model import Document
from bridge.notation import write_time
from bridge.usage import Bucket, Known, StreamInfo, Stretch

SECOND = timedelta(seconds=1)
COLUMNS = (
    "meter", "direction", "kind", "start", "end", "value", "unit", "complete", "covered_seconds",
    "readings", "quality", "origin", "said", "since", "cost", "currency", "unpriced",
    "subscription", "deviation", "deviation_cost",
)  # fmt: skip


def covered(
    stream: StreamInfo, start: datetime | None, found: Sequence[Stretch], end: datetime | None
) -> Document:
    """Return which stretches between two instants are known of a stream, and the gaps between."""
    seams = [start, *(edge for s in found for edge in s), end]
    gaps = zip(seams[::2], seams[1::2], strict=True)
    return {
        "id": f"{stream.meter}/{stream.direction}/{stream.kind}",
        "meter": stream.meter,
        "direction": stream.direction,
        "kind": stream.kind,
        "unit": stream.unit or None,
        "covered": [{"start": s.start, "end": s.end} for s in found],
        "gaps": [{"start": a, "end": b} for a, b in gaps if a and b and a < b],
    }


def _row(stream: StreamInfo, start: datetime, end: datetime) -> Document:
    return {
        "id": f"{stream.meter}/{stream.direction}/{stream.kind}/{write_time(start)}",
        "meter": stream.meter,
        "direction": stream.direction,
        "kind": stream.kind,
        "start": start,
        "end": end,
    }


def bucket_rows(stream: StreamInfo, buckets: Sequence[Bucket]) -> list[Document]:
    """Return a row for each bucket that there is something in."""
    return [
        _row(stream, bucket.start, bucket.end)
        | {
            "value": bucket.value,
            "unit": stream.unit or None,
            "complete": bucket.whole,
            "covered_seconds": bucket.covered // SECOND,
            "readings": bucket.readings,
        }
        for bucket in buckets
        if bucket.value is not None
    ]


def native_rows(stream: StreamInfo, readings: Sequence[Known]) -> list[Document]:
    """Return a row for each reading."""
    return [_native(stream, reading) for reading in readings]


def _native(stream: StreamInfo, reading: Known) -> Document:
    row = _row(stream, reading.start, reading.end) | {
        "value": reading.value,
        "unit": stream.unit or None,
        "quality": reading.quality,
        "origin": reading.origin,
        "said": reading.said,
        "since": reading.since,
    }
    if reading.cost is not None:
        row["billed"] = {"cost": reading.cost, "currency": stream.currency or None}
    if reading.replaced is not None:
        row |= {"replaced": reading.replaced, "id": f"{row['id']}/{write_time(reading.since)}"}
    return row
