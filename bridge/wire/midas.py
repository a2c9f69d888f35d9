"""MIDAS 2.0 documents (California Energy Commission): a rate's values, read and added up.

A rate is named by its RIN, as on every bill. A customer of a CCA has two: one for delivery,
one for generation; the price is their exact sum.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from bridge.errors import WireError
from bridge.model import PRICE, Component, Document, Price
from bridge.notation import exact_sum, from_json, read_amount, to_utc

RIN = r"^[A-Z]{4}-[A-Z0-9]{4}-[A-Z0-9]{4}-[A-Z0-9]{1,10}$"
# Unit → payload type of OpenADR 3.1, its unit, currency
UNITS: Mapping[str, tuple[str, str | None, str | None]] = {
    "$/kwh": (PRICE, "KWH", "USD"),
    "export $/kwh": ("EXPORT_PRICE", "KWH", "USD"),
    "$/kw": ("DEMAND_CHARGE", "KW", "USD"),
    "g/kwh co2": ("GHG", "GHG", None),
    "event": ("ALERT_FLEX_ALERT", None, None),
}
Said = tuple[str, str | None, str | None]


def read_values(text: str | bytes) -> tuple[dict[Said, list[Price]], list[str]]:
    """Return the prices of a rate by what they are, and what could not be read.

    What they are is a payload type of OpenADR 3.1, its unit and its currency.

    Raises WireError where it is no answer with values at all.
    """
    try:
        document = from_json(text)
    except ValueError as error:
        raise WireError(f"the answer is not JSON ({error})") from error
    values = document.get("ValueInformation") if isinstance(document, dict) else None
    if not isinstance(values, list):
        said = document.get("detail") if isinstance(document, dict) else None
        raise WireError(f"the answer has no ValueInformation{f': {said}' if said else ''}")
    found: dict[Said, dict[datetime, Price]] = {}
    problems = []
    for value in values:
        try:
            said, price = _read_value(value)
        except WireError as error:
            problems.append(str(error))
            continue
        if found.setdefault(said, {}).setdefault(price.start, price) != price:
            problems.append(f"there are two values for {price.start:%Y-%m-%dT%H:%MZ}")
    return {said: list(prices.values()) for said, prices in found.items()}, problems


def _read_value(value: Any) -> tuple[Said, Price]:
    if not isinstance(value, dict):
        raise WireError("a value is not an object")
    start, end = _time(value, "Start"), _time(value, "End")
    # Ends are inclusive: 07:59:59, or 07:59 where no seconds are written.
    if end.second:
        end += timedelta(seconds=1)
    elif end.minute % 5:
        end += timedelta(minutes=1)
    if end <= start:
        raise WireError(f"the value of {start:%Y-%m-%dT%H:%MZ} ends before it starts")
    try:
        amount = read_amount(value.get("Value", value.get("value")))
    except ValueError as error:
        raise WireError(f"the value of {start:%Y-%m-%dT%H:%MZ}: {error}") from error
    unit = value.get("Unit")
    if not isinstance(unit, str) or not unit.strip() or not unit.isprintable():
        raise WireError(f"the value of {start:%Y-%m-%dT%H:%MZ} has {unit!r} as its unit")
    return meaning(unit), Price(start, end, amount)


def _time(value: Document, side: str) -> datetime:
    text = f"{value.get(f'Date{side}')}T{value.get(f'Time{side}')}"
    try:
        moment = datetime.fromisoformat(text)
        return to_utc(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError) as error:
        raise WireError(f"{text!r} is not a time such as 2026-06-22T07:00:00") from error


def meaning(unit: str) -> Said:
    """Return payload type, unit and currency; a unit that is not known keeps its name."""
    return UNITS.get(" ".join(unit.lower().split()), (PRICE, unit or None, None))


def add_up(parts: Mapping[str, Sequence[Price]]) -> list[Price]:
    """Return the exact sum of several rates, where all of them are known; each is a component."""
    ordered = {rin: sorted(prices, key=lambda p: p.start) for rin, prices in parts.items()}
    if len(ordered) == 1:
        (only,) = ordered.values()
        return only
    edges = sorted({t for prices in ordered.values() for p in prices for t in (p.start, p.end)})
    walks = {rin: iter(prices) for rin, prices in ordered.items()}
    now = {rin: next(walk, None) for rin, walk in walks.items()}
    found = []
    for start, end in pairwise(edges):
        holding = {}
        for rin, walk in walks.items():
            price = now[rin]
            while price and price.end <= start:
                price = now[rin] = next(walk, None)
            if price and price.start <= start:
                holding[rin] = price.value
        if len(holding) == len(ordered):
            components = tuple(Component(rin, "rate", value) for rin, value in holding.items())
            found.append(Price(start, end, exact_sum(holding.values()), None, components))
    return found
