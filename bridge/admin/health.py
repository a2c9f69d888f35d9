"""`/healthz` and `/readyz`: open to whoever can reach the listener."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from aiohttp import web

from bridge.certificates import read_certificate
from bridge.clock import Clock
from bridge.errors import SettingsError
from bridge.interfaces import Overview
from bridge.model import Audience, Document
from bridge.notation import from_json, from_millis, millis
from bridge.supervise import Health, Job
from bridge.web import Route, reply_json

STUCK = timedelta(minutes=2)  # a scheduler that has said nothing for so long is stuck
EXPIRY_WARNING = timedelta(days=30)


async def _none_owed() -> Mapping[str, int]:
    return {}


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
    ven_silence: timedelta = timedelta(minutes=1)  # after which a VEN's is told
    ven_owed: Callable[[], Awaitable[Mapping[str, int]]] = _none_owed  # events without an answer
    identity_problem: Callable[[], str | None] = lambda: None  # of renewed certificates


class HealthPages:
    """Answers whether the bridge lives and is ready."""

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
        for name in ("fan-out", "workers"):
            job = self._vitals.health.job(name)
            checks[name] = {"ok": job.problem is None, "problem": job.problem}
        for name in self._vitals.sources:
            checks[f"source:{name}"] = _source(self._vitals.health.job(f"source:{name}"))
        for name, path in self._vitals.certificates.items():
            checks[f"certificate:{name}"] = self._certificate(path)
        if problem := self._vitals.identity_problem():
            checks["certificate:openadr2"] |= {"ok": False, "problem": problem}
        vens = await self._overview.list_vens()
        if vens:
            checks["vens"] = {"ok": True, **self._vens(vens)}
        checks["deliveries"] = {
            "ok": True,
            **await self._deliveries(),
            "failing_devices": failing,
        }
        checks["events"] = {"ok": True, "matching_no_device": await self._unmatched(vens)}
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

    def _vens(self, vens: Sequence[Document]) -> Document:
        """Return which VENs say nothing, and whose certificates end soon."""
        now = self._clock.now()
        registered = [v for v in vens if v["registration_id"] is not None]
        late = now - self._vitals.ven_silence
        soon = millis(now + EXPIRY_WARNING)
        return {
            "registered": len(registered),
            "silent": [v["name"] for v in registered if v["heard"] is None or v["heard"] < late],
            "renew_soon": sorted(
                {v["name"] for v in vens for c in v["certificates"] if (c["ends"] or soon) < soon}
            ),
        }

    async def _unmatched(self, vens: Sequence[Document]) -> list[Document]:
        """Return live events that are aimed at nobody who is known."""
        audiences = [*self._vitals.audiences, *map(_audience, vens)]
        live = await self._overview.list_events(None, 1000, self._clock.now())
        return [
            {"source": e["source"], "event": e["foreign_id"], "program": e["program"]}
            for e in live
            if e["cancelled_at"] is None and not _matches(e, audiences)
        ]


def _matches(row: Document, audiences: Sequence[Audience]) -> bool:
    aimed = [frozenset(a) for a in from_json(row["audiences"])]
    test = bool(row["test"])
    return any(a.includes(row["program"], aimed, test=test) for a in audiences)


def _audience(ven: Document) -> Audience:
    names = frozenset((ven["name"], ven["ven_id"], *ven["resources"], *ven["groups"]))
    return Audience(tuple(ven["programs"]), names, ven["test_events"])


def _source(job: Job) -> Document:
    return {
        "ok": job.well and job.last_success is not None,
        "warning": job.warning,
        "problem": job.problem or (None if job.last_success else "has not answered yet"),
        "failing_since": job.failing_since,
        "next_attempt": job.next_attempt,
        "last_success": job.last_success,
    }
