"""Meters from UtilityAPI: what it has collected of customers who authorized it, and how it stands.

Data are downloaded, which is free. To have UtilityAPI collect costs money, and is never done
from here: only `openadr-bridge utilityapi collect` does, after a person agreed to the price.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, HttpUrl, PrivateAttr, field_validator

from bridge.clock import Clock
from bridge.errors import SettingsError, SourceError, WireError
from bridge.interfaces import Batch, Surroundings
from bridge.notation import SomeTime, from_millis
from bridge.sources.asking import AskingSource, SafeBaseUrl, read_secret
from bridge.sources.pricing import NAP, rounds
from bridge.sources.utilityapi.api import APART, DOWNLOADS_APART, Api, TokenRefused
from bridge.sources.utilityapi.downloads import DOWNLOADED, Downloads
from bridge.sources.utilityapi.events import Feed
from bridge.sources.utilityapi.meters import EVENTS_MARK, Meters
from bridge.sources.utilityapi.records import METER_MARK, Record, Wishes
from bridge.wire.utilityapi import read_webhook

Uid = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,100}$")]
Name = Annotated[str, Field(min_length=1, max_length=128)]


class UtilityAPI(AskingSource):
    """An account at UtilityAPI, and which of its meters are wanted: else all."""

    apart = APART

    kind: Literal["utilityapi"]
    base_url: SafeBaseUrl = HttpUrl("https://utilityapi.com/api/v2")
    token_file: Path
    webhook_secret_file: Path | None = None
    authorizations: tuple[Uid, ...] = ()
    meters: tuple[Uid, ...] = ()
    names: Mapping[Uid, Name] = {}  # of meters, by their uids
    every: SomeTime = timedelta(minutes=5)  # events are looked for; meters are listed each day
    history: SomeTime = timedelta(days=1095)
    bills: bool = True
    currency: str | None = Field(None, pattern=r"^[A-Z]{3}$")  # of bills, which do not say it
    timeout: SomeTime = timedelta(seconds=120)
    _bell: asyncio.Event = PrivateAttr(default_factory=asyncio.Event)
    _refused: str | None = PrivateAttr(None)  # the token that does not hold

    @field_validator("names")
    @classmethod
    def _each_its_own(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        names = list(value.values())
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two meters are named {twice[0]!r}; give each its own name")
        return value

    @property
    def address(self) -> HttpUrl:
        """Who is asked."""
        return self.base_url

    @property
    def wishes(self) -> Wishes:
        """Return what is wanted of the account."""
        return Wishes(
            self.name, self.authorizations, self.meters, self.names,
            self.history, self.bills, self.currency,
        )  # fmt: skip

    def check_files(self) -> None:
        """Raise SettingsError where a file holds no secret."""
        for file in filter(None, (self.token_file, self.webhook_secret_file)):
            read_secret(file)

    def received(self, body: bytes, headers: Mapping[str, str]) -> bool:
        """Take in a webhook: return whether it is UtilityAPI's, and look for events at once."""
        try:
            if self.webhook_secret_file is None:
                return False
            read_webhook(body, headers, read_secret(self.webhook_secret_file))
        except (SettingsError, WireError):
            return False
        self._bell.set()
        return True

    async def batches(self, around: Surroundings) -> AsyncGenerator[Batch, None]:
        """Yield how meters stand and what they measured; raise SourceError when it fails."""
        token, clock = await self._token(around.clock), around.clock
        marks = await around.memory.marks(self.name)
        if DOWNLOADED in marks:
            last = from_millis(int(marks[DOWNLOADED]))
            self._asked[DOWNLOADS_APART] = max(self._asked.get(DOWNLOADS_APART, last), last)
        records = {
            name.removeprefix(METER_MARK): Record.read(mark)
            for name, mark in marks.items()
            if name.startswith(METER_MARK)
        }
        async with self.asking(clock) as ask:
            api = Api(str(self.base_url), token, ask)

            def failed(error: SourceError) -> None:
                meters.look_again()
                if isinstance(error, TokenRefused):
                    self._bell.set()  # so that it is told at once

            downloads = Downloads(self.wishes, api, clock, records, failed)
            feed, unpaid = Feed.read(marks.get(EVENTS_MARK)), downloads.unpaid
            meters = Meters(self.wishes, api, clock, feed, records, unpaid)
            found = rounds(
                downloads, ask, around, meters.poll, lambda now: now + self.every, self._bell
            )
            try:
                async with aclosing(found) as batches:
                    async for batch in batches:
                        yield batch
            except TokenRefused as error:
                self._refused = token
                raise TokenRefused(
                    f"{error}; write one that holds into {self.token_file}"
                ) from None

    async def _token(self, clock: Clock) -> str:
        """Return the token once it is another one than that which was refused."""
        try:
            while (token := read_secret(self.token_file)) == self._refused:
                await clock.sleep(NAP)
        except SettingsError as error:
            raise SourceError(str(error)) from error
        return token
