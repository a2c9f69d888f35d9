"""Local adders: what a site pays beside a utility's price, as a series derived from it.

An adder is fixed, a percentage, or by time of use; the derived price is exact, and lists what
was added among its components.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from bridge.model import PRICE, Component, Price, Publication, Tariff
from bridge.notation import EXACT, Frozen, exact_sum

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY = timedelta(days=1)
MIDNIGHT = time()


class TimeOfUse(Frozen):
    """An amount that is added on some days, between two local times; midnight ends a day."""

    amount: Decimal
    start: time = Field(MIDNIGHT, alias="from")
    end: time = Field(MIDNIGHT, alias="to")
    days: tuple[Weekday, ...] = DAYS
    months: tuple[int, ...] = tuple(range(1, 13))

    @model_validator(mode="after")
    def _within_a_day(self) -> Self:
        if self.end != MIDNIGHT and self.end <= self.start:
            raise ValueError("to: must be after from; write two entries for hours around midnight")
        if not set(self.months) <= set(range(1, 13)):
            raise ValueError("months: are numbers from 1 to 12")
        return self

    def spans(self, day: date, zone: ZoneInfo) -> tuple[datetime, datetime] | None:
        """Return when it holds on a local day, if it does."""
        if day.month not in self.months or DAYS[day.weekday()] not in self.days:
            return None
        until = day + DAY if self.end == MIDNIGHT else day
        begin, end = (
            datetime.combine(*pair, tzinfo=zone).astimezone(UTC)
            for pair in ((day, self.start), (until, self.end))
        )
        return (begin, end) if begin < end else None  # the clock may skip it


class Adder(Frozen):
    """What is added to the prices of a program, and the program that comes of it."""

    program: str = Field(min_length=1, max_length=128)
    name: str = Field(min_length=1, max_length=128)
    basis: Literal["marginal", "retail"] | None = "retail"
    fixed: Decimal = Decimal(0)
    time_of_use: tuple[TimeOfUse, ...] = ()
    percent: Decimal = Decimal(0)  # of the price with all that is added to it

    @model_validator(mode="after")
    def _another_name(self) -> Self:
        if self.name == self.program:
            raise ValueError("name: the derived program needs a name of its own")
        return self


def concerns(tariff: Tariff, adder: Adder) -> bool:
    """Whether an adder is added to these prices: those of a unit, and of no other thing."""
    return tariff.program == adder.program and tariff.payload_type == PRICE


def derive(publication: Publication, adder: Adder) -> Publication:
    """Return what a publication says of the derived program."""
    zone = publication.tariff.zone
    return Publication(
        derived_tariff(publication.tariff, adder),
        list(add(publication.prices, adder, zone)),
        publication.whole,
    )


def derived_tariff(tariff: Tariff, adder: Adder) -> Tariff:
    """Return what the derived prices are the price of: no utility's rate, but the site's."""
    return replace(
        tariff, program=adder.name, context=f"+{adder.name}",
        basis=adder.basis, derived_from=tariff.program, utility=None, rate=None, circuit=None,
        cca=None, curve=None, market=None, settlement_unit=None,
    )  # fmt: skip


def add(prices: Iterable[Price], adder: Adder, zone: str) -> Iterator[Price]:
    """Yield derived prices; one is cut where an amount by time of use begins or ends in it."""
    place = ZoneInfo(zone)
    for price in prices:
        spans = list(_spans(price, adder.time_of_use, place))
        edges = {price.start, price.end}
        edges |= {t for _, begin, end in spans for t in (begin, end)}
        inside = sorted(t for t in edges if price.start <= t <= price.end)
        for start, end in pairwise(inside):
            by_time = exact_sum(a for a, b, e in spans if b <= start < e)
            yield _one(replace(price, start=start, end=end), adder, by_time)


def _spans(
    price: Price, rules: Sequence[TimeOfUse], zone: ZoneInfo
) -> Iterator[tuple[Decimal, datetime, datetime]]:
    day, last = (t.astimezone(zone).date() for t in (price.start, price.end))
    while rules and day <= last:
        for rule in rules:
            span = rule.spans(day, zone)
            if span:
                yield rule.amount, *span
        day += DAY


def _one(price: Price, adder: Adder, by_time: Decimal) -> Price:
    before = exact_sum((price.value, adder.fixed, by_time))
    percent = adder.percent.scaleb(-2, EXACT)
    share = EXACT.multiply(before, percent) if percent else Decimal(0)
    added = (("fixed", adder.fixed), ("time_of_use", by_time), ("percent", share))
    parts = price.components or (Component("base", "price", price.value),)
    return replace(
        price,
        value=exact_sum((before, share)),
        components=(
            *parts,
            *(Component(name, "adder", amount) for name, amount in added if amount),
        ),
    )
