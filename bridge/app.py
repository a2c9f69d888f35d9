"""Puts the bridge together. Read this file first: it names every part once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aiohttp import ClientSession, DummyCookieJar, TCPConnector

from bridge.admin import Api, HealthPages, Metrics, Vitals
from bridge.clock import Clock, WallClock
from bridge.config import Listener, Settings
from bridge.deliver import FanOut, Workers
from bridge.ingest import ingest
from bridge.interfaces import DeviceSurroundings
from bridge.scheduler import Scheduler
from bridge.store import Store, open_store
from bridge.supervise import Health, keep_running, stop
from bridge.vtn.gridx import GetPricing
from bridge.vtn.pricing import Pricing
from bridge.web import Route, make_site, serving

CONNECTIONS = 1000  # to devices, at once


@dataclass(frozen=True, slots=True)
class Bridge:
    """A running bridge, as those see it who run it."""

    addresses: dict[str, str]  # listener → base address
    health: Health
    store: Store


@asynccontextmanager
async def running(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Bridge]:
    """Run the bridge until the block is left; then stop everything in reverse order."""
    clock, health = clock or WallClock(), Health()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(settings.store.path))
        now = clock.now()
        await store.sources.sync([s.name for s in settings.sources], now)
        followed = {pattern for d in settings.devices for pattern in d.receiver.audience.programs}
        kinds = {d.receiver.name: d.kind for d in settings.devices}
        await store.devices.sync(kinds, now, followed)
        http = await stack.enter_async_context(_http())
        around = DeviceSurroundings(http, clock)
        receivers = [device.receiver for device in settings.devices]
        workers = Workers(store.deliveries, settings.devices, around)
        scheduler = Scheduler(
            store.moments,
            store.sources,
            clock,
            leads={r.lead for r in receivers},
            limits={r.stale_after for r in receivers},
            opt_defaults={s.name: s.opt_policy.default for s in settings.sources},
        )
        jobs: dict[str, Callable[[], Awaitable[None]]] = {
            "scheduler": partial(scheduler.run, health.job("scheduler")),
            "fan-out": partial(
                FanOut(store.deliveries, receivers, clock, lambda: scheduler.clock_is_right).run,
                health.job("fan-out"),
            ),
            "workers": partial(workers.run, health.job("workers")),
        }
        for source in settings.sources:
            job = health.job(f"source:{source.name}")
            jobs[job.name] = partial(
                ingest, source, store.events, store.sources, store.prices, clock, job,
                settings.adders,
            )  # fmt: skip
        vitals = Vitals(
            health=health,
            sources=[s.name for s in settings.sources],
            certificates=_certificates(settings),
            audiences=[r.audience for r in receivers],
            store_path=store.path,
            clock_held_since=lambda: scheduler.held_since,
            failing_devices=lambda: workers.failing,
        )
        addresses = await _serve(stack, settings, store, health, vitals, clock)
        for name, work in jobs.items():
            task = asyncio.create_task(keep_running(name, work, health, clock), name=name)
            stack.push_async_callback(stop, task)
        yield Bridge(addresses, health, store)


async def _serve(
    stack: AsyncExitStack,
    settings: Settings,
    store: Store,
    health: Health,
    vitals: Vitals,
    clock: Clock,
) -> dict[str, str]:
    """Open the listeners; return their base addresses."""
    pricing = Pricing(store.prices, settings.site.zone, clock)
    listeners: list[tuple[str, Listener, list[Route]]] = [
        (
            "vtn",
            settings.vtn,
            [
                *pricing.routes(public=settings.vtn.open_prices),
                *GetPricing(store.prices).routes(public=settings.vtn.open_prices),
            ],
        )
    ]
    if settings.admin:
        pages = HealthPages(vitals, store.overview, clock)
        api, metrics = Api(store.overview, health, clock), Metrics(vitals, store.overview)
        routes = [*pages.routes(), *metrics.routes(), *api.routes()]
        listeners.append(("admin", settings.admin, routes))
    addresses = {}
    for name, listener, routes in listeners:
        site = make_site(routes, store.access.scope)
        addresses[name] = await stack.enter_async_context(
            serving(site, listener.host, listener.port, listener.tls())
        )
    return addresses


def _http() -> ClientSession:
    return ClientSession(
        connector=TCPConnector(limit=CONNECTIONS, keepalive_timeout=60),
        cookie_jar=DummyCookieJar(),
    )


def _certificates(settings: Settings) -> dict[str, Path]:
    """Return every certificate that the bridge shows to others, by who shows it."""
    listeners = {"vtn": settings.vtn, "admin": settings.admin}
    found = {name: part.cert for name, part in listeners.items() if part}
    found |= {source.name: source.cert for source in settings.sources}
    return {name: path for name, path in found.items() if path}
