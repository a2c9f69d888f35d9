"""A device that is told by HTTP POST, as Standard Webhooks describes it."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Literal

from aiohttp import ClientTimeout
from pydantic import Field, HttpUrl, ValidationInfo, field_validator
from yarl import URL

from bridge.devices.posting import post
from bridge.errors import SettingsError
from bridge.interfaces import DeviceSurroundings, Send
from bridge.model import Audience, Delivery, Receiver
from bridge.notation import Duration, Frozen
from bridge.wire import webhook


class Webhook(Frozen):
    """Posts each delivery as JSON to the device's URL."""

    kind: Literal["webhook"]
    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    url: HttpUrl
    programs: tuple[str, ...] = ("*",)
    resources: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    meters: tuple[str, ...] = ()
    format: Literal["full", "state"] = "full"
    refresh: Duration = timedelta(minutes=5)
    lead: Duration = timedelta(minutes=10)
    stale_after: Duration = timedelta(hours=2)
    on_stale: Literal["hold", "normal"] = "normal"
    test_events: bool = False
    secret_file: Path | None = None
    headers: Mapping[str, str] = {}
    timeout: Duration = timedelta(seconds=5)

    @field_validator("refresh", "stale_after", "timeout")
    @classmethod
    def _positive(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        if value <= timedelta(0):
            raise ValueError(f"{info.field_name} must be longer than nothing")
        return value

    @field_validator("headers")
    @classmethod
    def _good_headers(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for name, text in value.items():
            if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name) or not text.isprintable():
                raise ValueError(f"{name!r} cannot be sent as a header with that value")
        return value

    @cached_property
    def receiver(self) -> Receiver:
        """What the device follows and how it is told."""
        names = frozenset((*self.resources, *self.groups))
        return Receiver(
            self.name,
            Audience(self.programs, names, self.test_events),
            self.format,
            self.refresh,
            self.lead,
            self.stale_after,
            self.on_stale,
            self.meters,
        )

    def secret(self) -> bytes | None:
        """Return the signing secret; raise SettingsError when its file holds none."""
        if self.secret_file is None:
            return None
        try:
            return webhook.read_secret(self.secret_file.read_text())
        except (OSError, ValueError) as error:
            raise SettingsError(f"{self.secret_file}: {error}") from error

    @asynccontextmanager
    async def connect(self, around: DeviceSurroundings) -> AsyncIterator[Send]:
        """Return what posts a delivery; each call is one attempt."""
        secret, url = self.secret(), URL(str(self.url))
        timeout = ClientTimeout(total=self.timeout.total_seconds())

        async def send(delivery: Delivery) -> None:
            now = around.clock.now()
            headers = {
                **self.headers,
                "content-type": "application/json",
                **webhook.headers(delivery.id, now, delivery.body, secret),
            }
            await post(around.http, url, delivery.body, headers, timeout, now)

        yield send
