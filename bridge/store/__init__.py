"""What is kept, in one SQLite file, by noun."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from bridge.store.access import Access
from bridge.store.catalog import Catalog
from bridge.store.contracts import Contracts
from bridge.store.deliveries import Deliveries
from bridge.store.devices import Devices
from bridge.store.events import Events
from bridge.store.files import locked, prepare
from bridge.store.meters import Meters
from bridge.store.moments import Moments
from bridge.store.offers import Offers
from bridge.store.overview import Overview
from bridge.store.prices import Prices
from bridge.store.sources import Sources
from bridge.store.sqlite import Sqlite
from bridge.store.standing import Vens
from bridge.store.subscriptions import Subscriptions
from bridge.store.upstream_reports import UpstreamReports
from bridge.store.vault import Vault


@dataclass(frozen=True, slots=True)
class Store:
    """All that is kept, each noun with what can be asked of it."""

    id: str
    path: Path
    access: Access
    catalog: Catalog
    contracts: Contracts
    deliveries: Deliveries
    devices: Devices
    events: Events
    meters: Meters
    moments: Moments
    offers: Offers
    overview: Overview
    prices: Prices
    reports: UpstreamReports
    sources: Sources
    subscriptions: Subscriptions
    vens: Vens


@asynccontextmanager
async def open_store(path: Path, *, beside: bool = False) -> AsyncIterator[Store]:
    """Open the file, bring it up to date, and close it afterwards.

    A bridge opens it for itself alone; a command may work `beside` a bridge that runs.
    """
    with nullcontext() if beside else locked(path):
        store_id = await asyncio.to_thread(prepare, path)
        vault = Vault(path)
        file = Sqlite(path)
        sources, devices, events = Sources(file), Devices(file), Events(file)
        deliveries = Deliveries(file, sources)
        subscriptions, known = Subscriptions(file, vault), Vens(file)
        meters = Meters(file)
        try:
            yield Store(
                id=store_id,
                path=path,
                access=Access(file, vault),
                catalog=Catalog(file, vault),
                contracts=Contracts(file),
                deliveries=deliveries,
                devices=devices,
                events=events,
                meters=meters,
                moments=Moments(file),
                offers=Offers(file),
                overview=Overview(sources, devices, events, deliveries, subscriptions, known),
                prices=Prices(file, sources),
                reports=UpstreamReports(file, meters),
                sources=sources,
                subscriptions=subscriptions,
                vens=known,
            )
        finally:
            await file.close()
