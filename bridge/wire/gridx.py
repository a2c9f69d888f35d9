"""GridX pricing documents: `getPricing` as it is asked, read and written.

The forms are those of the GridX developer pages for PG&E and SCE: one curve for each local
day, times with offsets in ISO 8601's basic form, amounts as strings of exact decimals.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from bridge.errors import WireError
from bridge.model import Component, Document, Price, PriceDay, PriceRow, Tariff
from bridge.notation import day_span, from_json, to_utc

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
            "startdate": f"{self.first:%Y%m%d}",
            "enddate": f"{self.last:%Y%m%d}",
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


def _read_date(text: str | None) -> date | None:
    if not text or not _DATE.fullmatch(text):
        return None
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None


def read_pricing(text: str | bytes, zone: str) -> tuple[list[Curve], list[str]]:
    """Return the days of an answer, and what is wrong with those that were left out or doubtful.

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
    curves, problems = [], []
    for entry in data:
        try:
            curve, doubts = _read_curve(entry, zone)
        except WireError as error:
            problems.append(str(error))
            continue
        problems += doubts
        if curve.prices:
            curves.append(curve)
    return curves, problems


def _read_curve(entry: Any, zone: str) -> tuple[Curve, list[str]]:
    header = entry.get("priceHeader") if isinstance(entry, dict) else None
    details = entry.get("priceDetails") if isinstance(entry, dict) else None
    if not isinstance(header, dict) or not isinstance(details, list):
        raise WireError("a day has no priceHeader or no priceDetails")
    named = f"the day of {header.get('startTime')}"
    try:
        length = timedelta(minutes=int(header["intervalLengthInMinutes"]))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise WireError(f"{named}: intervalLengthInMinutes is no number") from error
    if length <= timedelta(0):
        raise WireError(f"{named}: intervalLengthInMinutes is not above 0")
    prices, doubts = _unique([_read_price(d, length, zone, named) for d in details], named)
    counted = header.get("recordCount")
    if counted != len(details):
        doubts.append(f"{named}: recordCount is {counted}, but there are {len(details)} prices")
    if len({p.start.astimezone(ZoneInfo(zone)).date() for p in prices}) > 1:
        raise WireError(f"{named}: holds prices of other days of {zone}")
    curve = Curve(
        header.get("priceCurveName"),
        header.get("marketName"),
        header.get("settlementCurrency"),
        header.get("settlementUnit"),
        tuple(prices),
        whole=counted == len(details),
    )
    return curve, doubts


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
    status = detail.get("priceStatus")
    components = detail.get("priceComponents") or []
    if not isinstance(components, list) or not all(isinstance(c, dict) for c in components):
        raise WireError(f"{named}: priceComponents is not a list of objects")
    return Price(
        start,
        start + length,
        _read_amount(detail.get("intervalPrice"), named),
        str(status) if status is not None else None,
        tuple(
            Component(
                str(c.get("component")),
                str(c.get("priceType")),
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
    curves = ",".join(_write_day(day) for day in days)
    return f'{{"meta":{json.dumps(meta, separators=(",", ":"))},"data":[{curves}]}}'.encode()


def _write_day(day: PriceDay) -> str:
    tariff, first = day.tariff, day.prices[0]
    zone = ZoneInfo(tariff.zone)
    header: Document = {
        "priceCurveName": tariff.curve or f"{tariff.utility}-{PROGRAM}-{tariff.rate}",
        "marketName": tariff.market or f"CAISO-{MARKET}",
        "intervalLengthInMinutes": (first.end - first.start) // timedelta(minutes=1),
        "settlementCurrency": tariff.currency or "USD",
        "settlementUnit": tariff.settlement_unit or "kWh",
        "startTime": _write_time(day.start, zone),
        "endTime": _write_time(day.end - timedelta(seconds=1), zone),
        "recordCount": len(day.prices),
    }
    # Amounts as the utility sent them; those of others get its six decimals.
    least = 0 if tariff.curve else 6
    details = ",".join(_write_details(day.prices, zone, least))
    return (
        f'{{"priceHeader":{json.dumps(header, separators=(",", ":"))},"priceDetails":[{details}]}}'
    )


def _write_details(prices: Sequence[PriceRow], zone: ZoneInfo, least: int) -> Iterator[str]:
    before: dict[str, str] = {}  # names are the same all through, or nearly
    for price in prices:
        parts = ",".join(
            f'{{"component":{_quoted(c.name, before)},'
            f'"intervalPrice":"{_write_amount(c.price, least)}",'
            f'"priceType":{_quoted(c.type, before)}}}'
            for c in price.components
        )
        yield (
            f'{{"startIntervalTimeStamp":"{_write_time(price.start, zone)}",'
            f'"intervalPrice":"{_write_amount(price.value, least)}",'
            f'"priceStatus":{_quoted(price.status or "Final", before)},'
            f'"priceComponents":[{parts}]}}'
        )


def _quoted(text: str, before: dict[str, str]) -> str:
    found = before.get(text)
    if found is None:
        found = before[text] = json.dumps(text)
    return found


def _write_time(moment: datetime, zone: ZoneInfo) -> str:
    return moment.astimezone(zone).strftime("%Y-%m-%dT%H:%M:%S%z")


def _write_amount(amount: Decimal, least: int) -> str:
    """Write an amount with a decimal point and at least so many decimals."""
    written = f"{amount:f}"
    whole, _, decimals = written.partition(".")
    return f"{whole}.{decimals.ljust(max(least, 1), '0')}"


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
