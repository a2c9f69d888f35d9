"""GridX pricing documents: `getPricing` as it is asked, read and written.

The forms are those of the GridX developer pages for PG&E and SCE: one curve for each local
day, times with offsets in ISO 8601's basic form, amounts as strings of exact decimals.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from math import gcd
from typing import Any
from zoneinfo import ZoneInfo

from bridge.errors import WireError
from bridge.model import Component, Document, Price, PriceDay, PriceRow, Tariff
from bridge.notation import LAST_YEAR, day_span, from_json, to_utc

FIRST_YEAR = 1970
MINUTE = timedelta(minutes=1)
LONGEST_DAY = 25 * 60  # minutes
LONGEST_NAME = 200
PROGRAM, MARKET = "CalFUSE", "DAM"
FIRST_DAY = {"PGE": date(2024, 6, 1), "SCE": date(2025, 7, 1)}  # of published history
BASIS = {"PGE": "marginal", "SCE": "retail"}
# Rate names that are known to have been served; others may well exist.
RATES = {
    "PGE": """AG-A1 AG-A2 AGBP AGBS AGCP AGCS B6 B10P B10S B19P B19S B20P B20S EELEC BEV1 BEV2P
        BEV2S EV2A EV2AS""",
    "SCE": """TOU-GS-1 TOU-GS-2 TOU-GS-3 TOU-EV-9ST TOU-EV-9P TOU-EV-9S TOU-PRIME TOU-D-49
        TOU-D-58 TOU-EV-8 TOU-PA-2 TOU-PA-3 TOU-8ST TOU-8P TOU-8S""",
}
_AMOUNT = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?")
_DATE = re.compile(r"[0-9]{8}")


@dataclass(frozen=True, slots=True)
class Curve:
    """One day as the utility published it.

    `whole` says that as many prices came as the header counts: there are no others.
    """

    name: str | None
    market: str | None
    currency: str | None
    unit: str | None
    prices: tuple[Price, ...]
    whole: bool

    @property
    def final(self) -> bool:
        """Whether no price of it is preliminary."""
        return all(p.status == "Final" for p in self.prices)

    def day(self, zone: str) -> date:
        """Return the local day that it begins in."""
        return self.prices[0].start.astimezone(ZoneInfo(zone)).date()

    def span(self, zone: str) -> tuple[datetime, datetime]:
        """Return when its local day begins and ends."""
        return day_span(self.day(zone), zone)


@dataclass(frozen=True, slots=True)
class Asked:
    """What `getPricing` was asked for."""

    utility: str
    rate: str
    circuit: str
    cca: str | None
    first: date
    last: date

    def query(self) -> dict[str, str]:
        """Return the query parameters."""
        asked = {
            "utility": self.utility,
            "market": MARKET,
            "program": PROGRAM,
            "startdate": _write_date(self.first),
            "enddate": _write_date(self.last),
            "ratename": self.rate,
            "representativeCircuitId": self.circuit,
        }
        return {**asked, "cca": self.cca} if self.cca else asked


def read_query(query: Mapping[str, str]) -> Asked | None:
    """Return what is asked for, or None where the utility would answer 204."""
    first, last = _read_date(query.get("startdate")), _read_date(query.get("enddate"))
    named = [query.get(k) for k in ("utility", "ratename", "representativeCircuitId")]
    fits = (
        query.get("market") == MARKET
        and (query.get("program") or "").lower() == PROGRAM.lower()
        and all(named)
    )
    if not fits or first is None or last is None or last < first:
        return None
    utility, rate, circuit = (name or "" for name in named)
    return Asked(utility, rate, circuit, query.get("cca") or None, first, last)


def _write_date(day: date) -> str:
    return f"{day.year:04}{day:%m%d}"


def _read_date(text: str | None) -> date | None:
    if not text or not _DATE.fullmatch(text):
        return None
    try:
        day = date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None
    return day if FIRST_YEAR <= day.year <= LAST_YEAR else None


@dataclass(frozen=True, slots=True)
class Answer:
    """What `getPricing` answered: its days, what is doubtful of them, whether one was refused."""

    curves: tuple[Curve, ...]
    doubts: tuple[str, ...]
    refused: bool


def read_pricing(text: str | bytes, zone: str) -> Answer:
    """Read an answer; a day that makes no sense is left out, and told.

    Raises WireError where it is no answer with prices at all.
    """
    try:
        document = from_json(text)
    except ValueError as error:
        raise WireError(f"the answer is not JSON ({error})") from error
    meta = document.get("meta") if isinstance(document, dict) else None
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(meta, dict) or meta.get("code") != 200:
        said = (meta or {}).get("response") if isinstance(meta, dict) else None
        raise WireError(f"the answer says that it failed: {said or 'meta.code is not 200'}")
    if not isinstance(data, list):
        raise WireError("the answer has no list of days in data")
    curves, doubts, refused = [], [], False
    for entry in data:
        try:
            curve, doubtful = _read_curve(entry, zone)
        except WireError as error:
            doubts.append(str(error))
            refused = True
            continue
        doubts += doubtful
        if curve.prices:
            curves.append(curve)
    return Answer(tuple(curves), tuple(doubts), refused)


def _read_curve(entry: Any, zone: str) -> tuple[Curve, list[str]]:
    header = entry.get("priceHeader") if isinstance(entry, dict) else None
    details = entry.get("priceDetails") if isinstance(entry, dict) else None
    if not isinstance(header, dict) or not isinstance(details, list):
        raise WireError("a day has no priceHeader or no priceDetails")
    named = f"the day of {header.get('startTime')}"
    try:
        minutes = int(header["intervalLengthInMinutes"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise WireError(f"{named}: intervalLengthInMinutes is no number") from error
    if not 0 < minutes <= LONGEST_DAY:
        raise WireError(f"{named}: intervalLengthInMinutes is {minutes}, not 15 or 60")
    length = timedelta(minutes=minutes)
    prices, doubts = _unique([_read_price(d, length, zone, named) for d in details], named)
    counted = header.get("recordCount")
    if counted != len(details):
        doubts.append(f"{named}: recordCount is {counted}, but there are {len(details)} prices")
    if len({p.start.astimezone(ZoneInfo(zone)).date() for p in prices}) > 1:
        raise WireError(f"{named}: holds prices of other days of {zone}")
    _check_ends(prices, zone, named)
    curve = Curve(
        _text(header.get("priceCurveName"), named),
        _text(header.get("marketName"), named),
        _text(header.get("settlementCurrency"), named),
        _text(header.get("settlementUnit"), named),
        tuple(prices),
        whole=counted == len(details),
    )
    return curve, doubts


def _check_ends(prices: Sequence[Price], zone: str, named: str) -> None:
    """Refuse a day in which a price would reach over the next one, or out of the day."""
    for price, after in pairwise(prices):
        if price.end > after.start:
            raise WireError(
                f"{named}: prices are {(after.start - price.start) // MINUTE} minutes apart, but"
                f" intervalLengthInMinutes is {(price.end - price.start) // MINUTE}"
            )
    if prices:
        last = prices[-1]
        if last.end > day_span(last.start.astimezone(ZoneInfo(zone)).date(), zone)[1]:
            raise WireError(f"{named}: its last price reaches into the next day")


def _text(value: Any, named: str) -> str | None:
    """Return a name, or None where there is none."""
    if value is not None and not isinstance(value, str):
        raise WireError(f"{named}: {value!r} is not a name")
    if value is not None and (len(value) > LONGEST_NAME or not value.isprintable()):
        raise WireError(f"{named}: {value[:20]!r} is not a name")
    return value


def _unique(prices: Sequence[Price], named: str) -> tuple[list[Price], list[str]]:
    """Return prices in order, each start once; the first of two that differ is taken."""
    found: dict[datetime, Price] = {}
    doubts = [
        f"{named}: there are two prices for {price.start:%Y-%m-%dT%H:%MZ}"
        for price in prices
        if found.setdefault(price.start, price) != price
    ]
    return sorted(found.values(), key=lambda p: p.start), doubts


def _read_price(detail: Any, length: timedelta, zone: str, named: str) -> Price:
    if not isinstance(detail, dict):
        raise WireError(f"{named}: a price is not an object")
    start = _read_start(detail.get("startIntervalTimeStamp"), zone, named)
    components = detail.get("priceComponents") or []
    if not isinstance(components, list) or not all(isinstance(c, dict) for c in components):
        raise WireError(f"{named}: priceComponents is not a list of objects")
    return Price(
        start,
        start + length,
        _read_amount(detail.get("intervalPrice"), named),
        _text(detail.get("priceStatus"), named),
        tuple(
            Component(
                _text(c.get("component"), named) or "",
                _text(c.get("priceType"), named) or "",
                _read_amount(c.get("intervalPrice"), named),
            )
            for c in components
        ),
    )


def _read_start(text: Any, zone: str, named: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        start, local = to_utc(moment), moment.astimezone(ZoneInfo(zone))
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"{named}: {text!r} is not a time with an offset") from error
    if moment.tzinfo is None:
        raise WireError(f"{named}: {text!r} has no offset")
    if moment.utcoffset() != local.utcoffset():
        raise WireError(
            f"{named}: the offset of {text} is not that of {zone}, which is {local:%z} then"
        )
    return start


def _read_amount(text: Any, named: str) -> Decimal:
    written = str(text) if isinstance(text, str | int | Decimal) else ""
    if isinstance(text, bool) or not _AMOUNT.fullmatch(written):
        raise WireError(f"{named}: {text!r} is not an amount such as 0.053046")
    return Decimal(written)


def write_pricing(asked: Asked, days: Sequence[PriceDay], url: str) -> bytes:
    """Write the answer to `getPricing`, as the utility writes it."""
    query = json.dumps(asked.query(), sort_keys=True, separators=(",", ":"))
    meta = {
        "code": 200,
        "requestURL": url,
        "requestBody": query,
        "response": "Request succeeded",
    }
    curves = ",".join(filter(None, map(_write_day, days)))
    return f'{{"meta":{json.dumps(meta, separators=(",", ":"))},"data":[{curves}]}}'.encode()


def _evenly(day: PriceDay) -> tuple[int, Sequence[PriceRow]]:
    """Return one length in minutes, and the day's prices in pieces of it.

    A form with one length for a whole day cannot say prices of different lengths otherwise.
    """
    edges = [t - day.start for p in day.prices for t in (p.start, p.end)]
    step = gcd(*(edge // MINUTE for edge in edges)) * MINUTE
    if any(edge % MINUTE for edge in edges):
        return 0, ()  # the form counts minutes: such a day cannot be said in it
    if all(p.end - p.start == step for p in day.prices):
        return step // MINUTE, day.prices
    return step // MINUTE, [
        replace(p, start=p.start + n * step, end=p.start + (n + 1) * step)
        for p in day.prices
        for n in range((p.end - p.start) // step)
    ]


def _write_day(day: PriceDay) -> str:
    tariff, zone = day.tariff, ZoneInfo(day.tariff.zone)
    minutes, prices = _evenly(day)
    if not prices:
        return ""
    header: Document = {
        "priceCurveName": tariff.curve or f"{tariff.utility}-{PROGRAM}-{tariff.rate}",
        "marketName": tariff.market or f"CAISO-{MARKET}",
        "intervalLengthInMinutes": minutes,
        "settlementCurrency": tariff.currency or "USD",
        "settlementUnit": tariff.settlement_unit or "kWh",
        "startTime": _write_time(day.start, zone),
        "endTime": _write_time(day.end - timedelta(seconds=1), zone),
        "recordCount": len(prices),
    }
    # Amounts as the utility sent them; those of others get its six decimals.
    least = 0 if tariff.curve else 6
    details = ",".join(_write_details(prices, zone, least))
    return (
        f'{{"priceHeader":{json.dumps(header, separators=(",", ":"))},"priceDetails":[{details}]}}'
    )


def _write_details(prices: Sequence[PriceRow], zone: ZoneInfo, least: int) -> Iterator[str]:
    around: dict[tuple[str, str], tuple[str, str]] = {}  # what stands around an amount
    for price in prices:
        parts = []
        for name, kind, amount in price.components:
            before, after = around.get((name, kind)) or _around(around, name, kind)
            parts.append(before + _write_amount(amount, least) + after)
        yield (
            f'{{"startIntervalTimeStamp":"{_write_time(price.start, zone)}",'
            f'"intervalPrice":"{_write_amount(price.value, least)}",'
            f'"priceStatus":{json.dumps(price.status or "Final")},'
            f'"priceComponents":[{",".join(parts)}]}}'
        )


def _around(known: dict[tuple[str, str], tuple[str, str]], name: str, kind: str) -> tuple[str, str]:
    """Return what stands before and after the amount of a component, and remember it."""
    texts = (
        f'{{"component":{json.dumps(name)},"intervalPrice":"',
        f'","priceType":{json.dumps(kind)}}}',
    )
    known[name, kind] = texts
    return texts


def _write_time(moment: datetime, zone: ZoneInfo) -> str:
    """Write a time in a zone, its offset without a colon."""
    text = moment.astimezone(zone).isoformat(timespec="seconds")
    return text[:-3] + text[-2:]


def _write_amount(amount: Decimal, least: int) -> str:
    """Write an amount as it was sent, or with at least so many decimals."""
    written = f"{amount:f}"
    whole, _, decimals = written.partition(".")
    return written if len(decimals) >= least else f"{whole}.{decimals.ljust(least, '0')}"


def tariff(asked: Asked, curve: Curve, zone: str, basis: str | None) -> Tariff:
    """Return what a day of `getPricing` is the price of."""
    unit = "KWH" if (curve.unit or "").lower() == "kwh" else (curve.unit or None)
    return Tariff(
        program=program_name(asked.rate, asked.circuit, asked.cca),
        context=f"{asked.utility}/{asked.rate}/{asked.circuit}/{asked.cca or ''}",
        unit=unit,
        currency=curve.currency,
        zone=zone,
        basis=basis or BASIS.get(asked.utility),
        utility=asked.utility,
        rate=asked.rate,
        circuit=asked.circuit,
        cca=asked.cca,
        curve=curve.name,
        market=curve.market,
        settlement_unit=curve.unit,
    )


def program_name(rate: str, circuit: str, cca: str | None = None) -> str:
    """Return the name of a program, as the public price server names it."""
    return "-".join(filter(None, (rate, circuit, cca)))
