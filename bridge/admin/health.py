"""`/healthz`, `/readyz` and `/metrics`: open to whoever can reach the listener."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from bridge import __version__
from bridge.certificates import read_certificate
from bridge.clock import Clock
from bridge.errors import SettingsError
from bridge.interfaces import Overview
from bridge.model import Audience, Document, from_json, from_millis
from bridge.supervise import Health, Job
from bridge.web import Route, reply_json

STUCK = timedelta(minutes=2)  # a scheduler that has said nothing for so long is stuck
EXPIRY_WARNING = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Vitals:
    """What health is judged by; each part is asked by a callable that `app` passes."""

    health: Health
    sources: Sequence[str]
    certificates: Mapping[str, Path]
    audiences: Sequence[Audience]
    store_path: Path
    clock_held_since: Callable[[], datetime | None]
    failing_devices: Callable[[], Mapping[str, int]]


class HealthPages:
    """Answers whether the bridge lives, is ready, and how it is doing in numbers."""

    def __init__(self, vitals: Vitals, overview: Overview, clock: Clock) -> None:
        self._vitals, self._overview, self._clock = vitals, overview, clock

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route(
                "GET",
                "/healthz",
                self.healthz,
                None,
                "Whether the process lives; reads nothing",
            ),
            Route(
                "GET",
                "/readyz",
                self.readyz,
                None,
                "Named checks: 200 when all are well, else 503",
            ),
            Route("GET", "/metrics", self.metrics, None, "Metrics, as Prometheus reads them"),
        ]

    async def healthz(self, _request: web.Request) -> web.Response:
        """GET /healthz."""
        check = self._scheduler()
        return reply_json({"ok": check["ok"]}, 200 if check["ok"] else 503)

    async def readyz(self, _request: web.Request) -> web.Response:
        """GET /readyz."""
        checks = await self.checks()
        ready = all(check["ok"] for check in checks.values())
        return reply_json({"ok": ready, "checks": checks}, 200 if ready else 503)

    async def checks(self) -> dict[str, Document]:
        """Return each check with `ok` and what there is to say."""
        held, failing = self._vitals.clock_held_since(), self._vitals.failing_devices()
        checks: dict[str, Document] = {
            "store": {"ok": not self._vitals.health.broken.is_set()},
            "scheduler": self._scheduler(),
            "clock": {"ok": held is None, "behind_the_store_since": held},
        }
        for name in self._vitals.sources:
            checks[f"source:{name}"] = _source(self._vitals.health.job(f"source:{name}"))
        for name, path in self._vitals.certificates.items():
            checks[f"certificate:{name}"] = self._certificate(path)
        checks["deliveries"] = {
            "ok": True,
            **await self._deliveries(),
            "failing_devices": failing,
        }
        checks["events"] = {"ok": True, "matching_no_device": await self._unmatched()}
        return checks

    def _scheduler(self) -> Document:
        last = self._vitals.health.job("scheduler").last_success
        well = last is not None and self._clock.now() - last < STUCK
        return {"ok": well and not self._vitals.health.broken.is_set(), "last_pass": last}

    def _certificate(self, path: Path) -> Document:
        try:
            expires = read_certificate(path).not_after
        except SettingsError as error:
            return {"ok": False, "problem": str(error)}
        left = expires - self._clock.now()
        return {
            "ok": left > timedelta(0),
            "not_after": expires,
            "renew_soon": left < EXPIRY_WARNING,
        }

    async def _deliveries(self) -> Document:
        counts = await self._overview.counts()
        oldest = counts.get("oldest")
        return {"owed": counts.get("owed"), "oldest": from_millis(oldest) if oldest else None}

    async def _unmatched(self) -> list[Document]:
        """Return live events that are aimed at nobody whom the settings name."""
        live = await self._overview.list_events(None, 1000, self._clock.now())
        return [
            {"source": e["source"], "event": e["foreign_id"], "program": e["program"]}
            for e in live
            if e["cancelled_at"] is None and not self._matches(e)
        ]

    def _matches(self, row: Document) -> bool:
        aimed = [frozenset(a) for a in from_json(row["audiences"])]
        test = bool(row["test"])
        return any(a.includes(row["program"], aimed, test=test) for a in self._vitals.audiences)

    async def metrics(self, _request: web.Request) -> web.Response:
        """GET /metrics."""
        registry = CollectorRegistry()
        registry.register(_Snapshot(await self._families()))
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    async def _families(self) -> list[Metric]:
        info = InfoMetricFamily("bridge_build", "The program", value={"version": __version__})
        return [
            info,
            *self._source_families(),
            *await self._delivery_families(),
            _gauge(
                "bridge_certificate_not_after_timestamp_seconds",
                "When a certificate ends",
                "certificate",
                {n: _not_after(p) for n, p in self._vitals.certificates.items()},
            ),
            _gauge("bridge_clock_held", "1 while moments are held: the clock is behind the store", None,
                   {"": float(self._vitals.clock_held_since() is not None)}),
            _gauge("bridge_store_bytes", "Size of the database file", None,
                   {"": float(self._vitals.store_path.stat().st_size)}),
        ]  # fmt: skip

    def _source_families(self) -> list[Metric]:
        jobs = {n: self._vitals.health.job(f"source:{n}") for n in self._vitals.sources}
        heard = {n: j.last_success.timestamp() for n, j in jobs.items() if j.last_success}
        return [
            _gauge("bridge_source_last_success_timestamp_seconds", "When a source last answered", "source", heard),
            _gauge("bridge_source_failures", "Failures in a row", "source", {n: float(j.failures) for n, j in jobs.items()}),
        ]  # fmt: skip

    async def _delivery_families(self) -> list[Metric]:
        counts, ended = await self._overview.counts(), await self._overview.outcomes()
        devices = await self._overview.list_devices()
        oldest = counts.get("oldest")
        told = {d["name"]: d["last_success"] / 1000 for d in devices if d["last_success"]}
        failing = self._vitals.failing_devices()
        failures = {d["name"]: float(failing.get(d["name"], 0)) for d in devices}
        return [
            _gauge("bridge_deliveries", "Kept deliveries by outcome", "outcome", {k: float(v) for k, v in ended.items()}),
            _gauge("bridge_outbox_depth", "Deliveries that are owed", None, {"": float(counts.get("owed") or 0)}),
            _gauge("bridge_outbox_oldest_timestamp_seconds", "When the oldest of them was made", None,
                   {"": oldest / 1000} if oldest else {}),
            _gauge("bridge_device_last_success_timestamp_seconds", "When a device last took a delivery", "device", told),
            _gauge("bridge_device_failures", "Failures in a row", "device", failures),
        ]  # fmt: skip


class _Snapshot(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _gauge(name: str, text: str, label: str | None, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label] if label else [])
    for key, value in values.items():
        family.add_metric([key] if label else [], value)
    return family


def _not_after(path: Path) -> float:
    try:
        return read_certificate(path).not_after.timestamp()
    except SettingsError:
        return 0.0


def _source(job: Job) -> Document:
    return {
        "ok": job.problem is None and job.last_success is not None,
        "problem": job.problem or (None if job.last_success else "has not answered yet"),
        "failing_since": job.failing_since,
        "next_attempt": job.next_attempt,
        "last_success": job.last_success,
    }
