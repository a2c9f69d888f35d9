"""`/metrics`: how the bridge is doing, in numbers, as Prometheus reads them."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from bridge import __version__
from bridge.admin.health import Vitals
from bridge.certificates import read_certificate, short_colons
from bridge.errors import SettingsError
from bridge.interfaces import Overview
from bridge.web import Route


class Metrics:
    """Answers with gauges, worked out anew at each scrape."""

    def __init__(self, vitals: Vitals, overview: Overview) -> None:
        self._vitals, self._overview = vitals, overview

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [Route("GET", "/metrics", self.metrics, None, "Metrics, as Prometheus reads them")]

    async def metrics(self, _request: web.Request) -> web.Response:
        """GET /metrics."""
        registry = CollectorRegistry()
        registry.register(
            _Snapshot(
                [
                    *self._program(),
                    *self._sources(),
                    *await self._devices(),
                    *await self._vens(),
                ]
            )
        )
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    def _program(self) -> list[Metric]:
        ends = {n: _not_after(p) for n, p in self._vitals.certificates.items()}
        held = float(self._vitals.clock_held_since() is not None)
        return [
            InfoMetricFamily("bridge_build", "The program", value={"version": __version__}),
            _one("bridge_clock_held", "1 while moments are held for the clock", held),
            _one("bridge_store_bytes", "Size of the database file", _size(self._vitals.store_path)),
            _by(
                "certificate",
                "bridge_certificate_not_after_timestamp_seconds",
                "When a certificate ends",
                ends,
            ),
        ]

    def _sources(self) -> list[Metric]:
        jobs = {n: self._vitals.health.job(f"source:{n}") for n in self._vitals.sources}
        heard = {n: j.last_success.timestamp() for n, j in jobs.items() if j.last_success}
        failures = {n: float(j.failures) for n, j in jobs.items()}
        return [
            _by(
                "source",
                "bridge_source_last_success_timestamp_seconds",
                "When a source last answered",
                heard,
            ),
            _by("source", "bridge_source_failures", "Failures in a row", failures),
        ]

    async def _vens(self) -> list[Metric]:
        vens = await self._overview.list_vens()
        heard = {v["name"]: v["heard"].timestamp() for v in vens if v["heard"]}
        ends = GaugeMetricFamily(
            "bridge_ven_certificate_not_after_timestamp_seconds",
            "When a VEN's certificate ends",
            labels=["ven", "fingerprint"],
        )
        for ven in vens:
            for found in ven["certificates"]:
                if found["ends"]:
                    ends.add_metric(
                        [ven["name"], short_colons(found["sha256"])], found["ends"] / 1000
                    )
        owed = {name: float(n) for name, n in (await self._vitals.ven_owed()).items()}
        return [
            _by("ven", "bridge_ven_last_seen_timestamp_seconds", "When a VEN last spoke", heard),
            _by("ven", "bridge_ven_events_owed", "Events that a VEN has still to answer", owed),
            ends,
        ]

    async def _devices(self) -> list[Metric]:
        owed, ended = await self._overview.counts(), await self._overview.outcomes()
        devices, failing = await self._overview.list_devices(), self._vitals.failing_devices()
        told = {d["name"]: d["last_success"] / 1000 for d in devices if d["last_success"]}
        failures = {d["name"]: float(failing.get(d["name"], 0)) for d in devices}
        kept = {outcome: float(n) for outcome, n in ended.items()}
        return [
            _by("outcome", "bridge_deliveries", "Kept deliveries by outcome", kept),
            _one("bridge_outbox_depth", "Deliveries that are owed", float(owed["owed"] or 0)),
            _one(
                "bridge_outbox_oldest_timestamp_seconds",
                "When the oldest of them was made; 0 when there is none",
                (owed["oldest"] or 0) / 1000,
            ),
            _by(
                "device",
                "bridge_device_last_success_timestamp_seconds",
                "When a device last took a delivery",
                told,
            ),
            _by("device", "bridge_device_failures", "Failures in a row", failures),
        ]


class _Snapshot(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _one(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _by(label: str, name: str, text: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _size(path: Path) -> float:
    return float(path.stat().st_size)


def _not_after(path: Path) -> float:
    try:
        return read_certificate(path).not_after.timestamp()
    except SettingsError:
        return 0.0
