"""Usage as a Green Button (ESPI) file, which reads back as what was written.

A stream is as many MeterReadings as it takes to write its values as whole numbers: usually
one. What ESPI has no code for is left out, and told: directions such as `generation`, kinds
such as `baseline`, units and currencies that it does not list. A quality that it does not
list is "other".
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import NAMESPACE_URL, uuid5
from xml.sax.saxutils import escape

from bridge.notation import write_time
from bridge.usage import DEMAND, USAGE, Measured, Reading, Stream, kept_unit
from bridge.wire.greenbutton.codes import (
    CURRENCIES,
    DIRECTIONS,
    KINDS,
    QUALITIES,
    REGISTER,
    SUFFIXES,
    UNITS,
    read_reading_type,
)
from bridge.wire.greenbutton.links import point_for
from bridge.wire.greenbutton.times import local_times

BASE = "/espi/1_1/resource/"
DAY = 86_400_000  # milliseconds
MOST = 5_000  # readings in a block
LARGEST = 2**47  # that a value is scaled up to: what ESPI calls Int48
MULTIPLIERS = (0, -3, -6, -9, -12, 3, 6, 9, 12)  # powers of ten that everybody reads
_ELECTRIC = frozenset({"KWH", "KW", "KVAH", "KVA", "KVARH", "KVAR"})
_POWER = frozenset({"KW", "KVA", "KVAR"})
_VOLUMES = frozenset({"FT3", "M3", "GAL", "IMPERIALGAL", "L"})
_GAS = frozenset({"THERM"})
_OTHER = "16"
_CLOCK = "LocalTimeParameters/1"
# In the order in which the schema wants them
_FIELDS = (
    "accumulationBehaviour", "commodity", "consumptionTier", "currency", "dataQualifier",
    "flowDirection", "intervalLength", "kind", "phase", "powerOfTenMultiplier", "tou", "uom",
    "cpp", "interharmonic", "argument",
)  # fmt: skip
_NAMES = {suffix: name for name, suffix in SUFFIXES.items()}
_CODES = {word: code for code, word in QUALITIES.items()}
_FLOWS = {word: code for code, word in DIRECTIONS.items()}
_MONEY = {word: code for code, word in CURRENCIES.items()}
_MEASURED = {word: code for code, word in KINDS.items()}
# Unit as it is kept → its code, and the power of ten from the unit of that code
_UOMS = {kept_unit(unit)[0]: (code, kept_unit(unit)[1]) for code, unit in UNITS.items()}
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def reading_type(stream: Stream) -> dict[str, str] | None:
    """Return the fields of a ReadingType that says what a stream is, or None where none does."""
    kind, *parts = stream.kind.split(".")
    electric = stream.unit in _ELECTRIC
    said = {
        "accumulationBehaviour": {USAGE: "4", REGISTER: "1"}.get(kind, "0"),
        "commodity": "1" if electric else "7" if stream.unit in _GAS else "",
        "currency": _MONEY.get(stream.currency, stream.currency.removeprefix("CURRENCY-")),
        "flowDirection": _FLOWS.get(stream.direction, stream.direction.removeprefix("flow-")),
        "kind": _kind(kind, stream.unit),
        "phase": "0" if electric else "",
        "uom": _UOMS.get(stream.unit, (stream.unit.removeprefix("UOM-"), 0))[0],
    }
    for part in parts:
        suffix, _, code = part.partition("-")
        said[_NAMES.get(suffix, "accumulationBehaviour")] = code
    again = read_reading_type(said)
    same = again and Stream(stream.meter, *again[:4]) == stream
    return said if same else None


def _kind(kind: str, unit: str) -> str:
    if kind == DEMAND:
        return "37" if unit in _POWER else "8"
    energy = "58" if unit in _VOLUMES else "12" if unit in _UOMS else ""
    return energy if kind in {USAGE, REGISTER} else _MEASURED.get(kind, "")


def write(
    meter: str,
    streams: Sequence[tuple[Stream, Iterable[Measured]]],
    *,
    now: datetime,
    zone: str | None = None,
    left_out: Counter[str] | None = None,
) -> Iterator[bytes]:
    """Yield a feed of one usage point, of which each stream comes with its readings in order.

    Entries are as old as their readings were said, those that nobody dated as old as `now`.
    `left_out` counts what ESPI cannot say.
    """
    export = _Export(meter, now, Counter() if left_out is None else left_out)
    yield export.head(zone, [stream for stream, _ in streams])
    for stream, runs in streams:
        fields = reading_type(stream)
        if fields:
            yield from export.stream(stream, fields, runs)
        else:
            what = f"{stream.direction} {stream.kind} in {stream.unit or 'no unit'}"
            export.left_out[f"{what} {stream.currency}".strip() + ": ESPI has no code"] += 1
    yield b"</feed>\n"


@dataclass(eq=False)
class _Series:
    """A MeterReading: where it stands, and the power of ten of its values."""

    path: str
    multiplier: int
    blocks: int = 0  # that were written

    def value(self, reading: Reading, shift: int) -> str | None:
        """Return a reading's value as this MeterReading says it, or None where it cannot."""
        value, power = int(reading.value), reading.exponent - shift - self.multiplier
        if not value or not power:
            return str(value)
        if power > 0:
            value *= 10**power
            return str(value) if abs(value) <= LARGEST else None
        value, rest = divmod(value, 10**-power)
        return None if rest else str(value)


class _Export:
    def __init__(self, meter: str, now: datetime, left_out: Counter[str]) -> None:
        self.left_out = left_out
        self._meter, self._now, self._point = meter, now, point_for(meter)
        self._count = 0  # of MeterReadings that were written
        self._qualities: dict[str, str] = {}

    def head(self, zone: str | None, streams: Sequence[Stream]) -> bytes:
        """Return the feed up to its usage point."""
        times = local_times(zone, self._now.year) if zone else None
        related = [f"{self._point}/MeterReading", *([_CLOCK] if times else [])]
        units = {stream.unit for stream in streams}
        service = "0" if units & _ELECTRIC else "1" if units & _GAS else ""
        category = _element("ServiceCategory", _element("kind", service)) if service else ""
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom">'
            f"<id>{_id('Batch/' + self._point)}</id><title>Usage of {_text(self._meter)}</title>"
            f"<updated>{write_time(self._now)}</updated><author><name>openadr-bridge</name></author>"
            f'<link rel="self" href="{BASE}Batch/{self._point}"/>\n'
        )
        text += _entry(self._point, "UsagePoint", category, self._now, related, self._meter)
        if times:
            text += _entry(_CLOCK, "LocalTimeParameters", _elements(times), self._now)
        return text.encode()

    def stream(
        self, stream: Stream, fields: Mapping[str, str], runs: Iterable[Measured]
    ) -> Iterator[bytes]:
        """Yield the entries of one stream, block by block."""
        shift = _UOMS.get(stream.unit, ("", 0))[1]
        known: list[_Series] = []
        rows: list[tuple[Reading, str]] = []
        of: tuple[_Series, int, datetime] | None = None
        for reading, said in ((r, run.said or self._now) for run in runs for r in run.readings):
            fit = ((series, series.value(reading, shift)) for series in known)
            series, value = next((f for f in fit if f[1] is not None), (None, None))
            if series is None:
                series = self._series(reading, shift)
                known.insert(0, series)
                yield self._definition(series, fields, reading)
                value = series.value(reading, shift)
            this = (series, reading.start // DAY, said)
            if of and (this != of or len(rows) == MOST):
                yield self._block(of[0], of[2], rows)
                rows = []
            of = this
            rows.append((reading, value or "0"))
        if of:
            yield self._block(of[0], of[2], rows)

    def _series(self, reading: Reading, shift: int) -> _Series:
        """Return a new MeterReading, as coarse as is usual and fine enough for a reading."""
        self._count += 1
        exact = reading.exponent - shift
        path = f"{self._point}/MeterReading/{self._count}"
        for multiplier in (*MULTIPLIERS, exact):
            series = _Series(path, multiplier)
            if series.value(reading, shift) is not None:
                break
        return series

    def _definition(self, series: _Series, fields: Mapping[str, str], reading: Reading) -> bytes:
        said = {**fields, "powerOfTenMultiplier": str(series.multiplier)}
        if fields["accumulationBehaviour"] != "1" and reading.length % 1000 == 0:
            said["intervalLength"] = str(reading.length // 1000)
        kind = f"ReadingType/{uuid5(NAMESPACE_URL, series.path)}"
        related = (f"{series.path}/IntervalBlock", kind)
        ordered = {name: said[name] for name in _FIELDS if said.get(name)}
        return (
            _entry(series.path, "MeterReading", "", self._now, related)
            + _entry(kind, "ReadingType", _elements(ordered), self._now)
        ).encode()

    def _block(self, series: _Series, said: datetime, rows: Sequence[tuple[Reading, str]]) -> bytes:
        series.blocks += 1
        start = min(reading.start for reading, _ in rows)
        end = max(reading.start + reading.length for reading, _ in rows)
        content = [f"<interval>{_period(start, end - start)}</interval>\n"]
        for reading, value in rows:
            cost = "" if reading.cost is None else f"<cost>{reading.cost}</cost>"
            quality = self._quality(reading.quality) if reading.quality else ""
            content.append(
                f"<IntervalReading>{cost}{quality}<timePeriod>"
                f"{_period(reading.start, reading.length)}</timePeriod>"
                f"<value>{value}</value></IntervalReading>\n"
            )
        path = f"{series.path}/IntervalBlock/{series.blocks}"
        return _entry(path, "IntervalBlock", "".join(content), said).encode()

    def _quality(self, words: str) -> str:
        if words not in self._qualities:
            codes = []
            for word in words.split(","):
                code = _CODES.get(word) or word.removeprefix("quality-")
                if not (code.isascii() and code.isdigit()):
                    self.left_out[f"quality {word}: ESPI has no code"] += 1
                    code = _OTHER
                codes.append(f"<ReadingQuality><quality>{code}</quality></ReadingQuality>")
            self._qualities[words] = "".join(codes)
        return self._qualities[words]


def _entry(
    path: str,
    kind: str,
    content: str,
    when: datetime,
    related: Sequence[str] = (),
    title: str = "",
) -> str:
    links = "".join(f'<link rel="related" href="{BASE}{other}"/>' for other in related)
    time = write_time(when)
    return (
        f'<entry><id>{_id(path)}</id><link rel="self" href="{BASE}{path}"/>'
        f'<link rel="up" href="{BASE}{path.rpartition("/")[0]}"/>{links}'
        f"<title>{_text(title or kind)}</title>"
        f'<content type="application/xml"><{kind} xmlns="http://naesb.org/espi">{content}</{kind}>'
        f"</content><published>{time}</published><updated>{time}</updated></entry>\n"
    )


def _elements(fields: Mapping[str, str]) -> str:
    return "".join(_element(name, _value(name, text)) for name, text in fields.items())


def _element(name: str, content: str) -> str:
    return f"<{name}>{content}</{name}>"


def _value(name: str, text: str) -> str:
    if name not in {"argument", "interharmonic"}:
        return _text(text)
    over, _, under = text.partition("/")
    return _element("numerator", _text(over)) + _element("denominator", _text(under))


def _period(start: int, length: int) -> str:
    return f"<duration>{_seconds(length)}</duration><start>{_seconds(start)}</start>"


def _seconds(millis: int) -> str:
    whole, rest = divmod(millis, 1000)
    return f"{whole}.{rest:03}" if rest else str(whole)


def _id(path: str) -> str:
    return f"urn:uuid:{uuid5(NAMESPACE_URL, BASE + path)}"


def _text(text: str) -> str:
    return escape(_ILLEGAL.sub("", text))
