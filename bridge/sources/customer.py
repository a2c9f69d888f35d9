"""A utility's Customer Information & Usage API: contracts, their usage, and what is subscribed.

Days that are past are metered; a subscription is quantities for days that come, and after
billing for those that are past. Contract ids are kept out of logs, warnings and marks: there a
contract is called by its meter.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, HttpUrl, SecretStr, model_validator

from bridge.errors import SettingsError, SourceError, Unreachable, WireError
from bridge.interfaces import Batch, Surroundings
from bridge.notation import Frozen, SomeTime, from_json, millis, to_json
from bridge.sources.asking import Asking, AskingSource, SafeBaseUrl, read_secret
from bridge.sources.customer_api import Api, ClientDenied, Denied, Down
from bridge.sources.pricing import Round, rounds, turned
from bridge.sources.progress import Progress, Window, pieces
from bridge.usage import UNKNOWN, USAGE, Contract, Measured, MeterState, Origin, Reading, Stream
from bridge.wire.customer import LONGEST_ID, Said, read_info, read_usage, stream_of

DAY = timedelta(days=1)
DAY_MS, HOUR_MS = 86_400_000, 3_600_000
LONGEST_WINDOW = 14 * DAY_MS  # of prices no more than two weeks are to be asked for at once
LATE = timedelta(days=35)  # for how long usage is corrected: subscriptions until they are billed
CONTRACT_MARK = "contract "
STEPS = {
    "auth_failed": "Look at client_id and secret_file.",
    "forbidden": "Have the utility let this client see the contract.",
    "unknown": "Look at the id and the customer of the contract.",
    "upstream_down": "Nothing needs to be done: it is asked again.",
}


def _in_quotes(value: object) -> object:
    if not isinstance(value, str | SecretStr):
        # Not pydantic's own words: they would show it.
        raise ValueError("write it in quotes, with its leading zeros")  # noqa: TRY004
    return value


def _an_id(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not 0 < len(text) <= LONGEST_ID or not text.isprintable():
        raise ValueError("is not an id")
    return value


Id = Annotated[SecretStr, BeforeValidator(_in_quotes), AfterValidator(_an_id)]


class Agreement(Frozen):
    """A contract, and what its meter is called."""

    id: Id
    customer: Id
    meter: str | None = Field(None, min_length=1, max_length=128)
    program: str | None = Field(None, min_length=1, max_length=128)


@dataclass(frozen=True, slots=True)
class Account:
    """A contract as it is asked for."""

    contract: str
    customer: str
    meter: str
    program: str | None

    @property
    def mark(self) -> str:
        """The name of its mark, which does not tell its id."""
        both = f"{self.contract}\n{self.customer}".encode()
        return CONTRACT_MARK + hashlib.sha256(both).hexdigest()[:16]


class Customer(AskingSource):
    """A utility's customers, and which of their contracts are followed."""

    apart = timedelta(seconds=1)

    kind: Literal["customer"]
    base_url: SafeBaseUrl
    client_id: str = Field(min_length=1, max_length=256, pattern=r"^[^:\s]+$", repr=False)
    secret_file: Path
    contracts: tuple[Agreement, ...] = Field(min_length=1)
    every: SomeTime = timedelta(hours=1)
    history: SomeTime = timedelta(days=30)
    ahead: SomeTime = timedelta(days=7)
    unit: str | None = Field(None, pattern=r"^[A-Z0-9]{1,16}$")  # where the utility says none

    @model_validator(mode="after")
    def _each_once(self) -> "Customer":
        meters = [account.meter for account in self.accounts]
        if twice := sorted({m for m in meters if meters.count(m) > 1}):
            raise ValueError(f"two contracts have the meter {twice[0]!r}; give each its own")
        if len({account.mark for account in self.accounts}) < len(self.accounts):
            raise ValueError("a contract is named twice")
        return self

    @property
    def accounts(self) -> list[Account]:
        """Return the contracts, with what their meters are called."""
        return [
            Account(
                c.id.get_secret_value(), c.customer.get_secret_value(),
                c.meter or f"{self.name}/{number}", c.program,
            )
            for number, c in enumerate(self.contracts, 1)
        ]  # fmt: skip

    @property
    def address(self) -> HttpUrl:
        """Who is asked."""
        return self.base_url

    def check_files(self) -> None:
        """Raise SettingsError where the file holds no secret."""
        read_secret(self.secret_file)

    async def batches(self, around: Surroundings) -> AsyncGenerator[Batch, None]:
        """Yield contracts, usage and subscriptions; raise SourceError when it fails."""
        try:
            secret = read_secret(self.secret_file)
        except SettingsError as error:
            raise SourceError(str(error)) from error
        marks = await around.memory.marks(self.name)
        async with self.asking(around.clock) as ask:
            api = Api(str(self.base_url), self.client_id, secret, ask, around.clock)
            following = _Following(self, api, around, marks)
            found = rounds(following, ask, around, following.poll, lambda now: now + self.every)
            async with aclosing(found) as batches:
                async for batch in batches:
                    yield batch


@dataclass(frozen=True, slots=True)
class PastDays(Window):
    """Past days of a contract that are to be asked for."""

    account: Account
    turn: date  # on which day: what is past is asked for again, day by day

    @property
    def of(self) -> str:
        """What is put off together when it fails."""
        return self.account.meter

    def __str__(self) -> str:
        return f"{self.of}, {self.days}"


class _Following:
    """Follows the contracts of a source, for as long as it runs."""

    def __init__(
        self, source: Customer, api: Api, around: Surroundings, marks: Mapping[str, str]
    ) -> None:
        self._source, self._api, self._around = source, api, around
        self._accounts = source.accounts
        self._progress = {
            account.mark: Progress.read(from_json(marks[account.mark]))
            for account in self._accounts
            if account.mark in marks
        }
        self._informed: dict[str, date] = {}  # when a contract was last asked about
        self._contracts: dict[str, Contract] = {}
        self._said: dict[str, MeterState] = {}

    @property
    def name(self) -> str:
        """The source's name."""
        return self._source.name

    async def poll(self, now_on: Round) -> AsyncGenerator[Batch, None]:
        """Ask for the last and the coming days of each contract; one that fails stops no other."""
        for account in turned(self._accounts):
            doubts = now_on.asks(account.meter)
            try:
                contract = await self._inform(account, doubts)
                if contract:
                    yield Batch(contracts=[contract])
                measured = await self._recent(account, doubts)
            except SourceError as error:
                concerned = self._accounts if isinstance(error, ClientDenied) else [account]
                yield Batch(meters=[s for a in concerned for s in self._stands(a, error)])
                if now_on.fails(account.meter, error):
                    return
                if isinstance(error, Denied):
                    now_on.answers()  # with a no, which soon is no other
                continue
            now_on.answers()
            yield Batch(measured=measured, meters=self._stands(account, None))

    async def _inform(self, account: Account, doubts: list[str]) -> Contract | None:
        """Return what is known of a contract, once a day and where it is something else."""
        today = self._around.clock.now().date()
        if self._informed.get(account.mark) == today:
            return None
        try:
            about = read_info(await self._api.info(account.contract, account.customer) or b"{}")
        except (WireError, Down) as error:
            doubts.append(f"{account.meter}: its information: {error}")  # its usage may be had yet
            return None
        # Whose they are stands beside them.
        about = {k: v for k, v in about.items() if k not in {"contractId", "customerUuid"}}
        contract = Contract(
            account.contract, account.customer, (account.meter,), account.program, about
        )
        self._informed[account.mark] = today
        had, self._contracts[account.mark] = self._contracts.get(account.mark), contract
        return None if had == contract else contract

    async def _recent(self, account: Account, doubts: list[str]) -> list[Measured]:
        """Return what was measured since yesterday began, and what is subscribed."""
        now = self._around.clock.now()
        hour = now.replace(minute=0, second=0, microsecond=0)
        yesterday = hour.replace(hour=0) - DAY
        found = await self._ask(account, yesterday, hour, doubts)
        try:
            return found + await self._ask(account, hour, hour + self._source.ahead, doubts)
        except Denied as error:
            if error.state == "unknown":  # nothing is subscribed, it seems
                return found
            raise

    async def _ask(
        self, account: Account, start: datetime, end: datetime, doubts: list[str]
    ) -> list[Measured]:
        body = await self._api.usage(account.contract, account.customer, start, end)
        if body is None:
            return []
        try:
            said, problems = await asyncio.to_thread(read_usage, body)
        except WireError as error:
            raise SourceError(f"customer/usage: {error}") from error
        doubts += [f"{account.meter}: {problem}" for problem in problems]
        return [m for one in said for m in self._measured(account, one, doubts)]

    def _measured(self, account: Account, said: Said, doubts: list[str]) -> Iterator[Measured]:
        """Yield what one payload type says of what is past, and of what comes."""
        unit = said.unit or self._source.unit or UNKNOWN
        if not unit:
            doubts.append(f"{account.meter}: no unit is said; write the one it is in as unit")
        now = millis(self._around.clock.now())
        parts: dict[bool, list[Reading]] = {False: [], True: []}
        for reading in said.readings:
            parts[reading.start + reading.length > now].append(reading)
        for ahead, readings in parts.items():
            direction, kind = stream_of(said.payload_type, ahead=ahead)
            if ahead and kind == USAGE and any(r.value for r in readings):
                doubts.append(f"{account.meter}: usage that is still to come is left out")
            if not readings or (ahead and kind == USAGE):
                continue  # nothing that is not over can have been measured
            stream = Stream(account.meter, direction, kind, unit)
            yield Measured(stream, readings, Origin("customer", self.name))

    def _stands(self, account: Account, error: SourceError | None) -> list[MeterState]:
        """Return how one stands with a contract, where that was not said already."""
        match error:
            case None:
                state = MeterState(account.meter, "ok", "The utility answers.")
            case Denied() | Down() | Unreachable():
                word = error.state if isinstance(error, Denied) else "upstream_down"
                state = MeterState(account.meter, word, f"The utility: {error}.", STEPS[word])
            case _:
                return []
        had, self._said[account.meter] = self._said.get(account.meter), state
        return [] if had == state else [state]

    async def backlog(self, around: Surroundings) -> list[PastDays]:
        """Return which past days are to be asked for, the newest first."""
        now = around.clock.now()
        midnight = millis(now) // DAY_MS * DAY_MS
        history = self._source.history // timedelta(milliseconds=1)
        begin = (midnight - history) // DAY_MS * DAY_MS
        found = []
        for account in self._accounts:
            progress = self._progress.get(account.mark, Progress())
            if begin < midnight - DAY_MS:  # what is later is asked for every time
                progress = progress.news([(begin, midnight - DAY_MS)], LATE, said=False)
            self._progress[account.mark] = progress
            stands = self._said.get(account.meter)
            if stands is None or stands.state != "ok":
                continue
            spans = pieces(progress.left(begin), LONGEST_WINDOW)
            found += [PastDays(span, account, now.date()) for span in spans]
        return sorted(found, key=lambda w: -w.span[1])

    async def fill(
        self, ask: Asking, around: Surroundings, piece: PastDays, doubts: list[str]
    ) -> AsyncGenerator[Batch, None]:
        """Yield what is said of past days, and the mark that they were asked for."""
        try:
            measured = await self._ask(piece.account, piece.first, piece.last, doubts)
        except Denied as error:
            if error.state != "unknown":
                raise
            return  # there was no such contract then, it seems: it is asked again in a day
        mark = piece.account.mark
        self._progress[mark] = progress = self._progress[mark].answered(piece.span)
        yield Batch(measured=measured, marks={mark: to_json(asdict(progress))}, history=True)
