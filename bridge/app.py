"""Puts the bridge together. Read this file first: it names every part once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from ssl import SSLContext
from typing import Protocol

from aiohttp import ClientSession, DummyCookieJar, TCPConnector, web

from bridge.admin import Api, HealthPages, MeterPages, Metrics, Vitals
from bridge.clock import Clock, WallClock
from bridge.config import Settings
from bridge.deliver import FanOut, Notifications, Publisher, Workers
from bridge.devices import Subscribers
from bridge.ingest import ingest
from bridge.intake import take_in as taken
from bridge.interfaces import DeviceSurroundings
from bridge.model import Document
from bridge.notation import ZERO
from bridge.parties import Caller
from bridge.scheduler import Scheduler
from bridge.sections import Address, Vens
from bridge.sources import AnySource, UtilityAPI
from bridge.store import Store, open_store
from bridge.supervise import Health, Job, keep_running, stop
from bridge.upkeep import Upkeep
from bridge.vtn.customer import Customer
from bridge.vtn.desk import Desk
from bridge.vtn.discovery import Announced, Announcement
from bridge.vtn.gridx import GetPricing
from bridge.vtn.hooks import Hooks
from bridge.vtn.intake import Intake
from bridge.vtn.openadr2 import Board, Endpoint, Identity, Offering, Outs, Services
from bridge.vtn.openadr3 import Auth, Callbacks, Notifiers, Objects
from bridge.vtn.pricing import Pricing
from bridge.vtn.usage import Usage
from bridge.web import OpenApi, RateLimit, Route, make_site, serving

Work = Callable[[], Awaitable[None]]
LARGEST_BODY = 1024 * 1024  # of an OpenADR 3 client's request
# Who reads without a token, where the settings allow it: what is aimed at nobody
ANONYMOUS = Caller("anonymous", frozenset({"read_targets"}))
CONNECTIONS = 1000  # to devices, at once


class HasRoutes(Protocol):
    """Answers clients."""

    def routes(self) -> list[Route]:
        """Return what it answers."""


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
        await _settle(settings, store, clock)
        http = await stack.enter_async_context(_http())
        parts = _Parts(settings, store, clock, health, DeviceSurroundings(http, clock))
        addresses = await _serve(stack, parts)
        jobs = parts.jobs(addresses)
        for name, work in jobs.items():
            task = asyncio.create_task(keep_running(name, work, health, clock), name=name)
            stack.push_async_callback(stop, task)
        yield Bridge(addresses, health, store)


async def _settle(settings: Settings, store: Store, clock: Clock) -> None:
    """Make the kept sources, devices and clients those of the settings."""
    now = clock.now()
    await store.sources.sync([s.name for s in settings.sources], now)
    followed = {pattern for d in settings.devices for pattern in d.receiver.audience.programs}
    meters = {pattern for d in settings.devices for pattern in d.receiver.meters}
    kinds = {d.receiver.name: d.kind for d in settings.devices}
    await store.devices.sync(kinds, now, followed, meters)
    await store.meters.settle_zone(settings.site.timezone)
    await store.contracts.sync([c.contract for c in settings.contracts])
    if settings.openadr2 is None:
        await store.offers.stop()
    await store.access.sync({c.id: (c.granted, c.secret()) for c in settings.clients}, now)


class _Parts:
    """The parts that work, and what each of them is given."""

    def __init__(
        self, settings: Settings, store: Store, clock: Clock, health: Health,
        around: DeviceSurroundings,
    ) -> None:  # fmt: skip
        self.settings, self.store, self.clock, self.health = settings, store, clock, health
        receivers = [device.receiver for device in settings.devices]
        subscribers = Subscribers(store.subscriptions, settings.vtn.callbacks.policy)
        self.workers = Workers(store.deliveries, settings.devices, around, [subscribers])
        self.scheduler = Scheduler(
            store.moments,
            store.sources,
            clock,
            leads={r.lead for r in receivers},
            limits={r.stale_after for r in receivers},
            opt_defaults={s.name: s.opt_policy.default for s in settings.sources},
        )
        self.fan_out = FanOut(
            store.deliveries, receivers, clock, lambda: self.scheduler.clock_is_right
        )
        self.vens = _Vens(settings.openadr2, self) if settings.openadr2 else None
        broker = settings.mqtt
        self.notifications = Notifications(
            store.subscriptions,
            clock,
            "none" if broker is None else "private" if broker.private_topics else "shared",
        )

    def jobs(self, addresses: Mapping[str, str]) -> Mapping[str, Work]:
        """Return everything that is kept running."""
        jobs: dict[str, Callable[[Job], Awaitable[None]]] = {
            "scheduler": self.scheduler.run,
            "fan-out": self.fan_out.run,
            "notifications": self.notifications.run,
            "workers": self.workers.run,
        }
        jobs["upkeep"] = Upkeep(
            self.store.meters.refresh,
            self.store.meters.compact,
            self.settings.usage.keep_native,
            self.clock,
        ).run
        if self.vens:
            jobs["offering"] = self.vens.offering.run
        if self.settings.mqtt:
            name = f"openadr-bridge-{self.store.id[:8]}"
            jobs["mqtt"] = Publisher(
                self.store.subscriptions, self.settings.mqtt.broker, self.clock, name
            ).run
        if self.settings.mdns.enabled:
            jobs["mdns"] = self._announcement(addresses["vtn"]).run
        for source in self.settings.sources:
            jobs[f"source:{source.name}"] = partial(self._ingest, source)
        return {name: partial(work, self.health.job(name)) for name, work in jobs.items()}

    async def _ingest(self, source: AnySource, job: Job) -> None:
        store = self.store
        await ingest(
            source, store.events, store.sources, store.prices, self.clock, job,
            self.settings.adders, store.reports,
        )  # fmt: skip

    def _announcement(self, address: str) -> Announcement:
        mdns = self.settings.mdns
        what = Announced(
            mdns.name, mdns.hostname, mdns.base_path_style == "slash",
            requires_auth=not self.settings.vtn.anonymous_read,
        )  # fmt: skip
        return Announcement(what, address, self.store.catalog.open_programs, self.clock)

    def vitals(self) -> Vitals:
        """Return what the health pages look at."""
        settings = self.settings
        return Vitals(
            health=self.health,
            sources=[s.name for s in settings.sources],
            certificates=_certificates(settings),
            audiences=[d.receiver.audience for d in settings.devices],
            store_path=self.store.path,
            clock_held_since=lambda: self.scheduler.held_since,
            failing_devices=lambda: self.workers.failing,
            ven_silence=self.ven_silence,
            ven_owed=self.ven_owed,
            identity_problem=lambda: self.vens.identity.problem if self.vens else None,
        )

    async def ven_owed(self) -> Mapping[str, int]:
        """Return how many events each VEN has still to answer."""
        return await self.vens.board.owed(self.clock.now()) if self.vens else {}

    @property
    def ven_silence(self) -> timedelta:
        """Return after how long a VEN's silence is told: a few polls, and a minute at least."""
        vens = self.settings.openadr2
        return max(timedelta(minutes=1), 3 * vens.poll_interval if vens else ZERO)

    def client_routes(self) -> list[Route]:
        """Return what clients may ask: OpenADR 3, prices, and the utility's API."""
        settings, store = self.settings, self.store
        callbacks = Callbacks(settings.vtn.callbacks.policy, settings.vtn.callbacks.echo)
        desk = Desk(store.access, self.clock)
        parts: list[HasRoutes] = [
            Objects(store.catalog, callbacks, settings.site.zone, self.clock),
            Auth(desk),
            Hooks({s.name: s.received for s in settings.sources if isinstance(s, UtilityAPI)}),
            Notifiers(store.catalog, settings.mqtt.told if settings.mqtt else None),
        ]
        public = settings.vtn.open_prices
        routes = [route for part in parts for route in part.routes()]
        routes += Pricing(store.prices, settings.site.zone, self.clock).routes(public=public)
        routes += GetPricing(store.prices).routes(public=public)
        routes += Customer(desk, store.meters, store.contracts, self.clock).routes()
        routes += self._intake().routes()
        routes += Usage(store.meters, store.contracts, store.prices, self.clock).routes()
        return [*routes, *OpenApi("openadr-bridge", routes).routes()]

    def _intake(self) -> Intake:
        store, zone = self.store, self.settings.site.timezone

        async def take_in(path: Path, name: str, meter: str | None) -> Document:
            files = [(name, path)]
            return (await taken(files, store.meters, self.clock, meter=meter, zone=zone)).document

        return Intake(
            store.meters,
            take_in,
            self.settings.usage.largest_upload,
            store.path.with_name(f"{store.path.name}.uploads"),
            self.clock,
        )

    def admin_routes(self) -> list[Route]:
        """Return what the admin endpoint is asked."""
        vitals, overview = self.vitals(), self.store.overview
        pages = HealthPages(vitals, overview, self.clock)
        api = Api(overview, self.health, self.clock, self.ven_silence)
        metrics = Metrics(vitals, overview)
        meters = MeterPages(self.store.meters, self.store.contracts, self.store.reports)
        return [*pages.routes(), *metrics.routes(), *api.routes(), *meters.routes()]


class _Vens:
    """The VTN for OpenADR 2.0b devices."""

    def __init__(self, settings: Vens, parts: _Parts) -> None:
        store, clock = parts.store, parts.clock
        self.identity = Identity(settings.files)
        self.board = board = Board(store.vens, clock)
        passing = [s.name for s in parts.settings.sources if getattr(s, "pass_opts", False)]
        audiences = [d.receiver.audience for d in parts.settings.devices]
        outs = Outs(store.vens, board, passing, audiences)
        services = Services(
            settings.vtn_id, settings.poll_interval, settings.wishes, store.vens, board, outs
        )
        self.endpoint = Endpoint(settings.terms, self.identity, services, board, store.vens, clock)
        self.offering = Offering(
            store.offers, store.vens, board, outs, settings.mains, settings.wishes, clock
        )


async def _serve(stack: AsyncExitStack, parts: _Parts) -> dict[str, str]:
    """Open the listeners; return their base addresses."""
    settings, access, clock = parts.settings, parts.store.access, parts.clock

    async def authorize(token: str, patient: bool) -> Caller | None:
        return await access.caller(token, clock.now(), patient=patient)

    anonymous = ANONYMOUS if settings.vtn.anonymous_read else None
    sites: list[tuple[str, Address, SSLContext | None, web.Application]] = [
        (
            "vtn",
            settings.vtn,
            settings.vtn.tls(),
            make_site(
                parts.client_routes(),
                authorize,
                largest_body=LARGEST_BODY,
                anonymous=anonymous,
                limit=RateLimit(settings.vtn.rate_limit),
            ),
        )
    ]
    if settings.openadr2 and parts.vens:
        tls = parts.vens.identity.context
        sites.append(("openadr2", settings.openadr2, tls, parts.vens.endpoint.site()))
    if settings.admin:
        site = make_site(parts.admin_routes(), authorize)
        sites.append(("admin", settings.admin, settings.admin.tls(), site))
    return {
        name: await stack.enter_async_context(serving(site, listener.host, listener.port, tls))
        for name, listener, tls, site in sites
    }


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
    for n, path in enumerate(settings.openadr2.cert if settings.openadr2 else ()):
        found["openadr2" if n == 0 else f"openadr2 {n + 1}"] = path
    return {name: path for name, path in found.items() if path}
