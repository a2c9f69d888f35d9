"""OpenADR 3.1 events that began as such, as OpenADR 2.0b says them; what it cannot say is left out.

A 2.0b signal has intervals without gaps, each with one number, and all signals of an event last
as long as it does. So each payload type becomes a signal, and an event with gaps, or with types
that come and go, becomes several 2.0b events (docs/deviations.md).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from urllib.parse import quote

from lxml import etree
from lxml.builder import ElementMaker

from bridge.model import (
    FOREVER,
    SIMPLE,
    Dispatch,
    Document,
    Event,
    Interval,
    Origin,
    SignalOrigin,
    Value,
    is_price,
)
from bridge.notation import from_json, read_time, write_duration, write_time
from bridge.wire.openadr2 import NS, PAYLOAD_TYPES
from bridge.wire.openadr3 import is_amount
from bridge.wire.openleadr import currencies

# The names that OpenADR 2.0b knows (Profile Specification, table of signals)
_NAMES = {
    "SIMPLE", "ELECTRICITY_PRICE", "ENERGY_PRICE", "DEMAND_CHARGE", "BID_PRICE", "BID_LOAD",
    "BID_ENERGY", "CHARGE_STATE", "LOAD_DISPATCH", "LOAD_CONTROL",
}  # fmt: skip
_TYPES = {
    "delta", "level", "multiplier", "price", "priceMultiplier", "priceRelative", "setpoint",
    "x-loadControlCapacity", "x-loadControlLevelOffset", "x-loadControlPercentOffset",
    "x-loadControlSetpoint",
}  # fmt: skip
_SIGNALS = {kind: signal for signal, kind in PAYLOAD_TYPES.items() if signal[0] != "simple"}
# OpenADR 3.1 unit of a price → itemBase
_PRICED = {"KWH": "currencyPerKWh", "KW": "currencyPerKW", "THERMS": "currencyPerThm"}
# OpenADR 3.1 unit → itemBase, prefix of its namespace, description, unit, scale
_MEASURED = {
    "KW": ("powerReal", "power", "RealPower", "W", "k"),
    "KVA": ("powerApparent", "power", "ApparentPower", "VA", "k"),
    "KVAR": ("powerReactive", "power", "ReactivePower", "VAR", "k"),
    "KWH": ("energyReal", "power", "RealEnergy", "Wh", "k"),
    "KVAH": ("energyApparent", "power", "ApparentEnergy", "VAh", "k"),
    "KVARH": ("energyReactive", "power", "ReactiveEnergy", "VARh", "k"),
    "VOLTS": ("voltage", "power", "Voltage", "V", "none"),
    "AMPS": ("current", "oadr", "Current", "A", "none"),
    "THERMS": ("Therm", "oadr", "Therm", "thm", "none"),
    "CELSIUS": ("temperature", "oadr", "temperature", "celsius", "none"),
    "FAHRENHEIT": ("temperature", "oadr", "temperature", "fahrenheit", "none"),
}
_SCALE = "http://docs.oasis-open.org/ns/emix/2011/06/siscale"
_POWER = "http://docs.oasis-open.org/ns/emix/2011/06/power"
_MAKERS = {
    prefix: ElementMaker(namespace=uri, nsmap={prefix: uri, "scale": _SCALE})
    for prefix, uri in (("oadr", NS["oadr"]), ("power", _POWER))
}
_SI = ElementMaker(namespace=_SCALE)
HIGHEST_LEVEL = 3
LOWEST = 2**32 - 1  # priority there is


@dataclass(frozen=True, slots=True)
class Mains:
    """What 2.0b wants to be told of alternating current beside each power."""

    hertz: Decimal = Decimal(60)
    voltage: Decimal = Decimal(120)


def translate(event: Event, *, endless: bool, mains: Mains = Mains()) -> list[Dispatch]:
    """Return the 2.0b events that say what a 3.1 event says; none where they could say nothing.

    Their ids are the 3.1 object's: `ID`, then `ID.2`, `ID.3` after gaps.
    """
    document = from_json(event.document)
    origin = Origin(
        foreign_id=document["id"],
        modification=0,
        status="none",
        context=context_of(event.program),
        created=read_time(document["createdDateTime"]),
        active_from=event.start,
        active_to=event.end,
        test=event.test,
        modified=read_time(document["modificationDateTime"]),
        comment=document.get("eventName"),
        priority=_priority(document.get("priority")),
        start_after=timedelta(seconds=event.randomize // timedelta(seconds=1)),
        test_text="true" if event.test else "false",
    )
    runs = list(_runs(event.intervals))
    found = []
    for n, run in enumerate(runs):
        lasts = endless and n == len(runs) - 1
        about = replace(
            origin,
            foreign_id=origin.foreign_id if n == 0 else f"{origin.foreign_id}.{n + 1}",
            active_from=run[0].start,
            active_to=None if lasts else run[-1].end,
        )
        found.append(_dispatch(about, run, event, mains))
    return found


def context_of(program: str) -> str:
    """Return the market context of a program that has none of its own: its name, as a URI."""
    return quote(program, safe="")


def _priority(said: int | None) -> int:
    """Return 2.0b's priority: its 0 is "none", where 3.1's is the highest."""
    return 0 if said is None else min(max(said, 1), LOWEST)


def _runs(intervals: Sequence[Interval]) -> Iterator[list[Interval]]:
    """Yield stretches without gaps in which the same payload types have numbers."""
    cut = [replace(a, end=min(a.end, b.start)) for a, b in pairwise(intervals)]
    said = (
        replace(i, values={k: v for k, v in i.values.items() if _sayable(k, v)})
        for i in [*cut, *intervals[-1:]]
        if i.end > i.start
    )
    run: list[Interval] = []
    for interval in said:
        if run and (
            interval.start != run[-1].end or interval.values.keys() != run[-1].values.keys()
        ):
            yield run
            run = []
        if interval.values:
            run.append(interval)
    if run:
        yield run


def _sayable(kind: str, value: Value) -> bool:
    if kind == SIMPLE:
        return is_amount(value) and value in range(HIGHEST_LEVEL + 1)
    return is_amount(value)


def _dispatch(origin: Origin, run: list[Interval], event: Event, mains: Mains) -> Dispatch:
    signals, documents = [], []
    for n, kind in enumerate(sorted(run[0].values)):
        name, said = signal_of(kind)
        unit, currency = event.units.get(kind, (None, None))
        item = _item(kind, unit, currency, mains)
        signals.append(SignalOrigin(f"{n}", name, said, "0.0", item))
        documents.append({"intervals": list(_intervals(run, kind, origin.active_to is None))})
    audiences = tuple(event.audiences for _ in signals)
    return Dispatch(replace(origin, signals=tuple(signals)), tuple(documents), audiences)


def signal_of(kind: str) -> tuple[str, str]:
    """Return signal name and type of a payload type; those of 3.1 alone get a name with x-."""
    if kind in _SIGNALS:
        return _SIGNALS[kind]
    name, _, said = kind.partition(".")
    if said in _TYPES and (name in _NAMES or name.startswith("x-")):
        return name, said
    return (kind if kind.startswith("x-") else f"x-{kind}"), "price" if is_price(
        kind
    ) else "setpoint"


def _intervals(run: Sequence[Interval], kind: str, endless: bool) -> Iterator[Document]:
    for n, interval in enumerate(run):
        length = write_duration(interval.end - interval.start)
        lasts = endless and n == len(run) - 1
        yield {
            "id": n,
            "intervalPeriod": {
                "start": write_time(interval.start),
                "duration": FOREVER if lasts else length,
            },
            "payloads": [{"type": kind, "values": [interval.values[kind]]}],
        }


def _item(kind: str, unit: str | None, currency: str | None, mains: Mains) -> str | None:
    """Return the itemBase that says a value's unit, where there is one to be said."""
    if currency and currency.upper() in currencies():
        currency = currency.upper()
        if unit not in _PRICED and unit is not None:
            return None
        name = _PRICED[unit] if unit else "currency"
        described = "currency" if name == "currencyPerThm" else name  # the schema has no other
        return _text("oadr", name, described, currency, "none")
    if currency or is_price(kind) or kind == SIMPLE or unit is None:
        return None
    if unit not in _MEASURED:
        return _text("oadr", "customUnit", unit, unit, "none")
    name, prefix, description, said, scale = _MEASURED[unit]
    attributes = _attributes(mains) if name.startswith("power") else None
    return _text(prefix, name, description, said, scale, attributes)


def _text(
    prefix: str, name: str, description: str, unit: str, scale: str,
    more: etree._Element | None = None,
) -> str:  # fmt: skip
    make = _MAKERS[prefix]
    item = make(
        name, make.itemDescription(description), make.itemUnits(unit), _SI.siScaleCode(scale)
    )
    if more is not None:
        item.append(more)
    return etree.tostring(item, method="c14n", exclusive=True).decode()


def _attributes(mains: Mains) -> etree._Element:
    make = _MAKERS["power"]
    return make.powerAttributes(
        make.hertz(str(mains.hertz)), make.voltage(str(mains.voltage)), make.ac("true")
    )
