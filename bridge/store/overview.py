"""What the admin endpoint asks of the store."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from bridge.model import Document
from bridge.store.deliveries import Deliveries
from bridge.store.devices import Devices
from bridge.store.events import Events
from bridge.store.sources import Sources
from bridge.store.standing import Vens
from bridge.store.subscriptions import Subscriptions


class Overview:
    """Looks at every noun for the admin endpoint."""

    def __init__(
        self,
        sources: Sources,
        devices: Devices,
        events: Events,
        deliveries: Deliveries,
        subscriptions: Subscriptions,
        vens: Vens,
    ) -> None:
        self._sources, self._devices = sources, devices
        self._events, self._deliveries = events, deliveries
        self._subscriptions, self._vens = subscriptions, vens

    async def list_sources(self) -> list[Document]:
        """Return all sources by name."""
        return await self._sources.list()

    async def list_devices(self) -> list[Document]:
        """Return all devices by name, with what each is owed."""
        return await self._devices.list()

    async def list_subscriptions(self) -> list[Document]:
        """Return all subscriptions, with what each is owed and how it did last."""
        return await self._subscriptions.listing()

    async def list_vens(self, at: datetime | None = None) -> list[Document]:
        """Return all 2.0b VENs; with a time, also what each is owed then, said, asked for."""
        return await self._vens.listing(at)

    async def answers(self, events: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], Any]:
        """Return what VENs answered to events: (source, foreign id) → answers."""
        return await self._vens.answers(events)

    async def list_events(
        self, after: str | None, limit: int, live: datetime | None
    ) -> list[Document]:
        """Return events with their origin, the latest start first."""
        return await self._events.list(after, limit, live=live)

    async def list_deliveries(
        self, after: int | None, limit: int, device: str | None, outcome: str | None
    ) -> list[Document]:
        """Return deliveries, the newest first."""
        return await self._deliveries.list(after, limit, device, outcome)

    async def retry(self, delivery_id: str, at: datetime) -> Document | None:
        """Owe a settled delivery again; return its row, or None when there is none."""
        return await self._deliveries.retry(delivery_id, at)

    async def counts(self) -> Document:
        """Return how many deliveries are owed, and when the oldest of them was made."""
        return await self._deliveries.counts()

    async def outcomes(self) -> Mapping[str, int]:
        """Return how many kept deliveries ended how."""
        return await self._deliveries.outcomes()
