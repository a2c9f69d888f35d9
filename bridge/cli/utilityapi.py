"""utilityapi: which meters there are, and having their data collected, which costs money.

`buy` is the only place in the program that asks for what costs money.
"""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import click

from bridge.cli.common import command, say, table
from bridge.clock import WallClock
from bridge.config import read_settings
from bridge.errors import BridgeError, SettingsError, SourceError, WireError
from bridge.model import Document
from bridge.sources import UtilityAPI
from bridge.sources.asking import read_secret
from bridge.sources.utilityapi.api import Api, PaymentRequired, Refused, TokenRefused
from bridge.sources.utilityapi.meters import read_all
from bridge.sources.utilityapi.states import state_of
from bridge.wire.utilityapi import read_authorization, read_document, read_meter, read_uids

# What UtilityAPI published in 2026, in US dollars for each meter; its bill is what holds.
A_MONTH, A_YEAR = Decimal("1.50"), Decimal(12)  # of history: by the month, or up to twelve
MONITORING = {"off": Decimal(0), "monthly": Decimal(3), "weekly": Decimal(12), "daily": Decimal(30)}
MONTHS, MOST_MONTHS = 12, 36
PRICES = "These are estimates from published prices: UtilityAPI's own bill decides."
OFTEN = 2.0  # seconds between two looks for a test authorization
_UID = re.compile(r"[A-Za-z0-9_-]{1,100}")


@click.group(name="utilityapi")
def utilityapi() -> None:
    """UtilityAPI: meters, and having their data collected (which costs money)."""


@command(utilityapi, "meters", example="openadr-bridge utilityapi meters solar")
@click.argument("source")
def meters(source: str, config: Path, as_json: bool) -> None:
    """List a source's meters: how each stands, what to do next and what that costs. Is free."""
    rows, doubts = asyncio.run(_list_meters(_source(config, source)))
    shown = table(rows, ("meter", "uid", "state", "price", "says"))
    steps = sorted({row["next_step"] for row in rows if row["next_step"]})
    lines = [shown, *steps, *([PRICES] if any(row["price"] for row in rows) else []), *doubts]
    say({"meters": rows, "problems": doubts}, "\n".join(lines), as_json=as_json)


async def _list_meters(source: UtilityAPI) -> tuple[list[Document], list[str]]:
    doubts: list[str] = []
    async with _api(source) as api:
        found, authorizations = await read_all(api, source.wishes, (), doubts)
    now, rows = datetime.now(UTC), []
    for meter in found.values():
        name = source.wishes.meter_name(meter.uid)
        held = authorizations.get(meter.authorization)
        state = state_of(name, source.name, meter, held, now)
        price = f"about ${estimate(MONTHS):.2f}" if state.state == "needs_activation" else None
        rows.append({
            "meter": name, "uid": meter.uid, "state": state.state, "says": state.says,
            "next_step": state.next_step, "price": price, "about": state.about,
        })  # fmt: skip
    return rows, doubts


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be asked for, and about what it costs: a sum, or a sum each month."""

    path: str
    document: Document
    words: str
    price: Decimal
    monthly: bool

    @property
    def cost(self) -> str:
        """Return the price in words."""
        return f"about ${self.price:.2f}{' a month' if self.monthly else ''}"


@command(
    utilityapi, "collect", example="openadr-bridge utilityapi collect solar 123456 --months 12"
)
@click.argument("source")
@click.argument("names", nargs=-1, required=True, metavar="METER...")
@click.option("--months", type=click.IntRange(1, MOST_MONTHS),
              help=f"Of history; else {MONTHS}, or none with --monitor.")  # fmt: skip
@click.option("--monitor", type=click.Choice(list(MONITORING)),
              help="Have new data collected so often from then on; off ends it.")  # fmt: skip
@click.option("--pay", is_flag=True, help="Agree to the price without being asked.")
def collect(
    source: str,
    names: tuple[str, ...],
    months: int | None,
    monitor: str | None,
    pay: bool,
    config: Path,
    as_json: bool,
) -> None:
    """Have UtilityAPI collect the data of METERs (names or uids). This costs money.

    Says the price and asks first. Without a terminal nothing is asked for unless --pay is
    given. What UtilityAPI has collected is then fetched by the running bridge, free of charge.
    """
    wanted = _source(config, source)
    uids = _uids(wanted, names)
    orders = list(_orders(uids, months, monitor))
    quote = [{"what": o.words, "price": o.cost} for o in orders]
    words = [*(f"{o.words}: {o.cost}" for o in orders), PRICES]
    if not pay and any(o.price for o in orders):
        if not sys.stdin.isatty():
            words.append("Nothing was asked for. Say --pay to agree to the price.")
            say({"prices": quote, "agreed": False, "done": []}, "\n".join(words), as_json=as_json)
            raise SystemExit(1)
        click.echo("\n".join(words), err=True)
        if not click.confirm("Have it collected at this price?", err=True):
            raise BridgeError("nothing was asked for")
    done, problems = asyncio.run(_buy_all(wanted, orders))
    lines = [f"{d['what']}: asked for {', '.join(d['started']) or 'none'}" for d in done]
    result = {"prices": quote, "agreed": True, "done": done, "problems": problems}
    say(result, "\n".join([*lines, *problems]), as_json=as_json)
    if problems:
        raise SystemExit(1)


def estimate(months: int) -> Decimal:
    """Return about what so many months of a meter's history cost."""
    if months <= MONTHS:
        return min(months * A_MONTH, A_YEAR)
    return A_YEAR + (months - MONTHS) * A_MONTH


def _orders(uids: list[str], months: int | None, monitor: str | None) -> Iterator[Order]:
    count = f"{len(uids)} meter{'s' if len(uids) > 1 else ''}"
    if months or monitor is None:
        months = months or MONTHS
        document: Document = {"meters": uids, "collection_duration": months}
        yield Order(
            "meters/historical-collection", document, f"{months} months of history of {count}",
            estimate(months) * len(uids), monthly=False,
        )  # fmt: skip
    if monitor:
        yield Order(
            "meters/ongoing-monitoring", {"meters": uids, "frequency": monitor},
            f"monitoring of {count}: {monitor}", MONITORING[monitor] * len(uids), monthly=True,
        )  # fmt: skip


async def _buy_all(source: UtilityAPI, orders: Sequence[Order]) -> tuple[list[Document], list[str]]:
    """Ask for one after the other, up to the first that fails."""
    done, problems = list[Document](), list[str]()
    async with _api(source) as api:
        for order in orders:
            try:
                started = await buy(api, order)
            except BridgeError as error:
                problems.append(f"{order.words}: {error}")
                break
            dropped = [uid for uid in order.document["meters"] if uid not in started]
            done.append({"what": order.words, "started": started, "dropped": dropped})
            if dropped:
                problems.append(
                    f"{order.words}: UtilityAPI left out {', '.join(dropped)}: revoked or expired"
                )
    return done, problems


async def buy(api: Api, order: Order) -> list[str]:
    """Ask UtilityAPI for what costs money; return for which meters it is done."""
    try:
        return read_uids(read_document(await api.post(order.path, order.document)), "meters")
    except PaymentRequired as error:
        raise BridgeError(
            "UtilityAPI wants the account to be paid for first (402), and nothing was done. It"
            " cannot be paid for over the API: see to its prepaid balance at utilityapi.com"
        ) from error
    except (Refused, TokenRefused):
        raise  # nothing was done
    except (SourceError, WireError) as error:
        raise BridgeError(
            f"{error}. It may have been done all the same: look with `openadr-bridge utilityapi"
            " meters` before you ask again"
        ) from error


@command(
    utilityapi, "test-submit", example="openadr-bridge utilityapi test-submit solar --form 1234"
)
@click.argument("source")
@click.option("--form", required=True, help="The uid of a form of the account.")
@click.option("--scenario", default="residential", show_default=True,
              help="Such as commercial, badlogin, badlogin_after, websitedown.")  # fmt: skip
@click.option("--utility", default="DEMO", show_default=True)
@click.option("--wait", type=click.IntRange(0, 600), default=30, show_default=True,
              help="Seconds to look for the authorization that comes of it.")  # fmt: skip
def test_submit(
    source: str, form: str, scenario: str, utility: str, wait: int, config: Path, as_json: bool
) -> None:
    """Authorize as a made-up customer would, to try out the rest. Is free."""
    if not _UID.fullmatch(form):
        raise BridgeError(f"--form: {form!r:.40} is not a uid")
    document = {"utility": utility, "scenario": scenario}
    referral, found = asyncio.run(_submit(_source(config, source), form, document, wait))
    lines = [f"referral {referral}", *(f"authorization {f['uid']}: {f['says']}" for f in found)]
    lines += [] if found else ["no authorization has come of it yet"]
    say({"referral": referral, "authorizations": found}, "\n".join(lines), as_json=as_json)


async def _submit(
    source: UtilityAPI, form: str, document: Document, wait: int
) -> tuple[str, list[Document]]:
    async with _api(source) as api:
        answer = read_document(await api.post(f"forms/{form}/test-submit", document))
        referral = answer.get("referral")
        if not isinstance(referral, str):
            raise WireError("the answer has no referral")
        query = {"referrals": referral, "include": "meters"}
        for look in range(1 + int(wait // OFTEN)):
            if look:
                await asyncio.sleep(OFTEN)
            pages = api.pages("authorizations", "authorizations", query)
            found = [_submitted(d) async for page in pages for d in page.items]
            if found:
                return referral, found
        return referral, []


def _submitted(document: Document) -> Document:
    """Return an authorization that came of a test, with its meters."""
    authorization, included = read_authorization(document), document.get("meters")
    listed = included.get("meters") if isinstance(included, dict) else None
    uids = [read_meter(m).uid for m in listed or () if isinstance(m, dict)]
    said = [note.message for note in authorization.notes[-1:] if note.message]
    says = "; ".join([authorization.status, *said, f"meters: {', '.join(uids) or 'none yet'}"])
    return {"uid": authorization.uid, "status": authorization.status, "meters": uids, "says": says}


def _source(config: Path, name: str) -> UtilityAPI:
    settings = read_settings(config, files=False)
    found = next((s for s in settings.sources if s.name == name), None)
    if not isinstance(found, UtilityAPI):
        names = ", ".join(s.name for s in settings.sources if isinstance(s, UtilityAPI)) or "none"
        raise SettingsError(
            f"there is no source {name!r} of kind utilityapi in the settings; there are: {names}"
        )
    return found


def _uids(source: UtilityAPI, names: Sequence[str]) -> list[str]:
    """Return the uids of meters that are named by what they are called here, or by uid."""
    by_name = {name: uid for uid, name in source.names.items()}
    uids = [by_name.get(name, name.removeprefix(f"{source.name}/")) for name in names]
    for uid in uids:
        if not _UID.fullmatch(uid):
            raise BridgeError(f"{uid!r:.40} is neither the name nor the uid of a meter")
    return list(dict.fromkeys(uids))


@asynccontextmanager
async def _api(source: UtilityAPI) -> AsyncIterator[Api]:
    async with source.asking(WallClock()) as ask:
        yield Api(str(source.base_url), read_secret(source.token_file), ask)
