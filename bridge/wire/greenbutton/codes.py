"""What the codes of a Green Button (ESPI) ReadingType mean, in the bridge's words.

Every list is open: a code that is not here is kept by its number. A measurement that is only
a part of what flows (of one phase, one tariff period or tier, one harmonic), or that is a
minimum, a second highest and the like, is of a kind of its own, `usage.phase-128`, so that it
is never added to the whole.
"""

from collections.abc import Mapping
from typing import NamedTuple

from bridge.notation import MOST_DIGITS
from bridge.usage import DEMAND, EXPORT, IMPORT, NET, UNKNOWN, USAGE, kept_unit

REGISTER = "register"  # what a meter's dial shows: no amount of an interval
TOTAL = "total"  # both ways added up
DIRECTIONS = {"": NET, "0": NET, "1": IMPORT, "4": NET, "19": EXPORT, "20": TOTAL}
UNITS = {
    "72": "WH", "38": "W", "71": "VAH", "61": "VA", "73": "VARH", "63": "VAR",
    "169": "THERM", "132": "BTU", "31": "J", "119": "FT3", "42": "M3", "128": "GAL",
    "130": "IMPERIALGAL", "134": "L", "5": "A", "29": "V", "33": "HZ", "23": "CELSIUS", "6": "K",
}  # fmt: skip
CURRENCIES = {
    "840": "USD", "124": "CAD", "978": "EUR", "826": "GBP", "36": "AUD", "554": "NZD",
    "756": "CHF", "392": "JPY", "156": "CNY", "356": "INR", "484": "MXN", "986": "BRL",
    "410": "KRW", "702": "SGD", "208": "DKK", "578": "NOK", "752": "SEK", "985": "PLN",
    "203": "CZK", "710": "ZAR", "643": "RUB",
}  # fmt: skip
QUALITIES = {
    "0": "valid", "7": "edited", "8": "estimated_from_history", "9": "estimated",
    "10": "questionable", "11": "derived", "12": "projected", "13": "mixed", "14": "raw",
    "15": "weather_normalized", "16": "other", "17": "validated", "18": "verified", "19": "billing",
}  # fmt: skip
_POWER = frozenset({"W", "VA", "VAR"})
# What is measured, where it is neither an amount nor power: by the code, or else by the unit
KINDS = {
    "4": "current", "15": "frequency", "38": "power_factor", "46": "temperature", "54": "voltage",
}  # fmt: skip
_OF_UNIT = {
    "A": "current", "HZ": "frequency", "K": "temperature", "CELSIUS": "temperature", "V": "voltage",
}  # fmt: skip
_DEMANDS, _MAXIMUM = frozenset({"8", "37"}), "8"
_AMOUNTS = frozenset({"", "0", "4", "9", "10"})
_REGISTERS = frozenset({"2", "3", "13", "14"})
# A register by the book; of some exporters the amount of the interval that they say beside it
_BULK = "1"
# Codes that mean all of it
_WHOLE = {
    "phase": frozenset({"", "0", "224", "225", "768", "769", "784"}),
    "tou": frozenset({"", "0"}),
    "consumptionTier": frozenset({"", "0"}),
    "cpp": frozenset({"", "0"}),
    "argument": frozenset({"", "0", "0/0", "0/1", "/"}),
    "interharmonic": frozenset({"", "0", "0/0", "0/1", "/"}),
    "dataQualifier": frozenset({"", "0", "2", "12", "26", _MAXIMUM}),
}
SUFFIXES = {
    "phase": "phase", "tou": "tou", "consumptionTier": "tier", "cpp": "cpp",
    "argument": "argument", "interharmonic": "interharmonic", "dataQualifier": "qualifier",
}  # fmt: skip


class ReadingType(NamedTuple):
    """What readings are of, as a ReadingType says."""

    direction: str = NET
    kind: str = USAGE
    unit: str = UNKNOWN
    currency: str = UNKNOWN
    exponent: int = 0  # of ten, between a value as it is said and as it is kept
    quality: str | None = None  # of readings that say none
    length: int | None = None  # in seconds, of readings that say none
    details: tuple[str, ...] = ()  # what else tells two measurements apart


UNTYPED = ReadingType()  # of readings of which nobody says what they are


def code(text: str | None) -> str:
    """Return a code as it is looked up: without needless spaces and zeros."""
    said = " ".join((text or "").split())[:MOST_DIGITS]
    return str(int(said)) if said.isascii() and said.isdigit() else said


def quality(text: str | None) -> str | None:
    """Return a quality in words, or None where none is said."""
    said = code(text)
    return QUALITIES.get(said) or f"quality-{said}" if said else None


def read_reading_type(said: Mapping[str, str]) -> ReadingType | None:
    """Read the fields of a ReadingType, by their names; None where its multiplier is no number."""
    exponent = _multiplier(said.get("powerOfTenMultiplier", ""))
    if exponent is None:
        return None
    fields = {name: code(text) for name, text in said.items()}
    unit, power = kept_unit(_unit(fields.get("uom", "")))
    length = fields.get("intervalLength", "")
    seconds = int(length) if length.isascii() and length.isdigit() and length != "0" else None
    currency = fields.get("currency", "0") or "0"
    flow = fields.get("flowDirection", "")
    return ReadingType(
        DIRECTIONS.get(flow, f"flow-{flow}"),
        _kind(fields, seconds),
        unit,
        UNKNOWN if currency == "0" else CURRENCIES.get(currency, f"CURRENCY-{currency}"),
        exponent + power,
        quality(fields.get("defaultQuality")),
        seconds,
        tuple(fields.get(f, "") for f in ("commodity", "phase", "dataQualifier", "kind")),
    )


def _multiplier(text: str) -> int | None:
    try:
        power = int(text.strip() or "0")
    except ValueError:
        return None
    return power if abs(power) <= MOST_DIGITS else None


def _unit(uom: str) -> str:
    return UNITS.get(uom, f"UOM-{uom}" if uom not in {"", "0"} else UNKNOWN)


def _kind(fields: Mapping[str, str], length: int | None) -> str:
    unit = _unit(fields.get("uom", ""))
    kind, behaviour = fields.get("kind", ""), fields.get("accumulationBehaviour", "")
    parts = "".join(
        f".{suffix}-{fields[field]}"
        for field, suffix in SUFFIXES.items()
        if fields.get(field, "") not in _WHOLE[field]
    )
    told = f".accumulation-{behaviour}{parts}"
    if unit in _POWER or kind in _DEMANDS or fields.get("dataQualifier") == _MAXIMUM:
        return DEMAND + (told if behaviour in _REGISTERS else parts)
    if word := KINDS.get(kind) or _OF_UNIT.get(unit):
        return word + parts
    if behaviour in _REGISTERS or (behaviour == _BULK and length is None):
        return REGISTER + parts
    return USAGE + (parts if behaviour in _AMOUNTS or behaviour == _BULK else told)
