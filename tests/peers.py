"""Who the bridge talks to in tests: real servers on loopback, and a clock that can be set."""

import asyncio
import heapq
import itertools
import json
import os
import re
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp import web

from bridge.deliver import FanOut
from bridge.model import PriceQuestion
from bridge.notation import from_json, millis
from bridge.store.packing import from_columns
from bridge.store.usage_rows import day_rows

LONG = os.environ.get("BRIDGE_LONG") == "1"
SHARED = Path(__file__).parent.parent.parent / "shared"
PREFIX = "/OpenADR2/Simple/2.0b"


def kept_readings(path):
    """Return the readings in a store, with their streams and who said them, in order."""
    sql = """
        SELECT s.id, m.name AS meter, s.direction, s.kind, s.unit FROM streams s
        JOIN meters m ON m.id = s.meter ORDER BY m.name, s.id
    """
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        db.execute("BEGIN")  # what is written meanwhile is seen whole or not at all
        origins = {r[0]: r[1:] for r in db.execute("SELECT * FROM usage_origins")}
        return [
            {
                "meter": meter, "direction": direction, "kind": kind, "unit": unit,
                "start": r.start, "length": r.length, "quality": r.quality, "since": r.since,
                "amount": from_columns(r.value, r.exponent),
                "client": ":".join(origins[abs(r.origin)][:2]), "report": origins[abs(r.origin)][2],
            }
            for stream, meter, direction, kind, unit in db.execute(sql)
            for _, found in day_rows(db, stream, 0, 100_000)
            for r in found
        ]  # fmt: skip


async def eventually(condition: Callable[[], Any], within: float = 15.0) -> Any:
    """Return what the condition returns once it is true."""
    end = time.monotonic() + within
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"did not become true within {within} s: {condition}")
        await asyncio.sleep(0.01)


class SimClock:
    """A clock that stands still until a test lets time pass."""

    def __init__(self, start: datetime) -> None:
        self._now = start
        self._sleepers: list[tuple[datetime, int, asyncio.Event]] = []
        self._naps: list[tuple[timedelta, int, asyncio.Event]] = []
        self._passed = timedelta(0)  # as a stopwatch counts, whatever the clock is set to
        self._count = itertools.count()

    def now(self) -> datetime:
        return self._now

    def set(self, at: datetime) -> None:
        self._passed += max(at - self._now, timedelta(0))
        self._now = at
        while self._sleepers and self._sleepers[0][0] <= at:
            heapq.heappop(self._sleepers)[2].set()
        while self._naps and self._naps[0][0] <= self._passed:
            heapq.heappop(self._naps)[2].set()

    def pass_time(self, length: timedelta) -> None:
        self.set(self._now + length)

    async def sleep(self, seconds: float) -> None:
        if seconds > 0:
            alarm = asyncio.Event()
            due = self._passed + timedelta(seconds=seconds)
            heapq.heappush(self._naps, (due, next(self._count), alarm))
            await alarm.wait()

    async def wait(self, bell: asyncio.Event, until: datetime | None) -> bool:
        if until is not None and self._now < until:
            alarm = asyncio.Event()
            heapq.heappush(self._sleepers, (until, next(self._count), alarm))
            waits = [asyncio.ensure_future(e.wait()) for e in (bell, alarm)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
        elif until is None:
            await bell.wait()
        rang = bell.is_set()
        bell.clear()
        return rang


class _Writing:
    """Knows whether a fan-out is between its two transactions: moments first, then states."""

    def __init__(self) -> None:
        self.now, write = 0, FanOut._write

        async def counted(fan_out: FanOut, *about: Any) -> None:
            self.now += 1
            try:
                await write(fan_out, *about)
            finally:
                self.now -= 1

        FanOut._write = counted


_writing = _Writing()


async def quiet(path: Path, clock: SimClock, within: float = 20.0) -> None:
    """Return when a bridge has nothing left to do at the clock's time."""

    def idle() -> bool:
        now = millis(clock.now())
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            db.execute("BEGIN")  # all of it at one instant
            seq = db.execute("SELECT coalesce(max(seq), 0) FROM changes").fetchone()[0]
            row = db.execute("SELECT seq FROM cursors WHERE name = 'deliver'").fetchone()
            due = db.execute("SELECT count(*) FROM tracks WHERE next_at <= ?", (now,)).fetchone()[0]
            owed = db.execute(
                "SELECT count(*) FROM deliveries WHERE outcome IS NULL AND due <= ?", (now,)
            ).fetchone()[0]
        return (row or (0,))[0] == seq and not due and not owed and not _writing.now

    await eventually(idle, within)


async def kept_prices(store, program, start, **about):
    """Return a program's prices from `start` on, as they are kept."""
    return await store.prices.prices(PriceQuestion(program, start, **about))


async def replaced_prices(store, program):
    """Return what a program's prices were once and are no more, in the order of their end."""
    found = await store.prices.prices(
        PriceQuestion(program, datetime(1980, 1, 1, tzinfo=UTC), revisions=True, payload_type="")
    )
    return sorted((r for r in found if r.replaced), key=lambda r: (r.replaced, r.start))


class Served:
    """A server on loopback that can be stopped and started again at the same port."""

    path = "/"

    def __init__(self) -> None:
        self.url = ""
        self._runner: web.AppRunner | None = None
        self._port = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        raise web.HTTPNotImplemented

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        site = web.Application(client_max_size=2**24)
        site.router.add_route("*", self.path, self.answer)
        self._runner = web.AppRunner(site, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=tls).start()
        self._port = self._runner.addresses[0][1]
        host = "localhost" if tls else "127.0.0.1"
        base = self.path.partition("/{")[0]
        self.url = f"{'https' if tls else 'http'}://{host}:{self._port}{base}"

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()
            self._runner = None


class Device(Served):
    """A device that keeps what it is sent and answers as it is told to."""

    path = "/price"

    def __init__(self) -> None:
        super().__init__()
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.status = 204
        self.headers: dict[str, str] = {}
        self.hang = False
        self.calls = 0  # how often it was sent something, whatever it answered

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [from_json(body) for _, body in self.received]

    def types(self, *without: str) -> list[str]:
        return [b["type"] for b in self.bodies if b["type"] not in without]

    def events(self, kind: str) -> list[str]:
        return [b["data"]["event"]["eventName"] for b in self.bodies if b["type"] == kind]

    @property
    def state(self) -> dict[str, Any]:
        return [b["data"]["state"] for b in self.bodies if b["type"] == "state.changed"][-1]

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.calls += 1
        if self.hang:
            await asyncio.sleep(3600)
        if 200 <= self.status < 300:
            self.received.append((dict(request.headers), body))
        return web.Response(status=self.status, headers=self.headers)


NS = (
    'xmlns:oadr="http://openadr.org/oadr-2.0b/2012/07" '
    'xmlns:ei="http://docs.oasis-open.org/ns/energyinterop/201110" '
    'xmlns:pyld="http://docs.oasis-open.org/ns/energyinterop/201110/payloads" '
    'xmlns:emix="http://docs.oasis-open.org/ns/emix/2011/06" '
    'xmlns:power="http://docs.oasis-open.org/ns/emix/2011/06/power" '
    'xmlns:scale="http://docs.oasis-open.org/ns/emix/2011/06/siscale" '
    'xmlns:xcal="urn:ietf:params:xml:ns:icalendar-2.0" '
    'xmlns:strm="urn:ietf:params:xml:ns:icalendar-2.0:stream"'
)


def payload(inner: str) -> str:
    """Wrap a message as the OpenADR 2.0b schema asks for."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><oadr:oadrPayload {NS}>'
        f"<oadr:oadrSignedObject>{inner}</oadr:oadrSignedObject></oadr:oadrPayload>"
    )


OK = (
    "<ei:eiResponse><ei:responseCode>200</ei:responseCode>"
    "<ei:responseDescription>OK</ei:responseDescription>"
    "<pyld:requestID>{}</pyld:requestID></ei:eiResponse>"
)


def response(code: int = 200, request_id: str = "") -> str:
    inner = OK.format(request_id).replace("200", str(code), 1)
    return payload(
        f'<oadr:oadrResponse ei:schemaVersion="2.0b">{inner}<ei:venID>V1</ei:venID></oadr:oadrResponse>'
    )


def distribute(*events: str, request_id: str = "req-1", vtn: str = "utility-vtn") -> str:
    return payload(
        f'<oadr:oadrDistributeEvent ei:schemaVersion="2.0b">{OK.format(request_id)}'
        f"<pyld:requestID>{request_id}</pyld:requestID><ei:vtnID>{vtn}</ei:vtnID>"
        f"{''.join(events)}</oadr:oadrDistributeEvent>"
    )


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def signal(
    values: list[Any],
    name: str = "ELECTRICITY_PRICE",
    kind: str = "price",
    length: str = "PT1H",
    unit: str = "currencyPerKWh",
    scale: str = "none",
    target: str = "",
    signal_id: str = "S1",
) -> str:
    intervals = "".join(
        f"<ei:interval><xcal:duration><xcal:duration>{length}</xcal:duration></xcal:duration>"
        f"<xcal:uid><xcal:text>{n}</xcal:text></xcal:uid><ei:signalPayload><ei:payloadFloat>"
        f"<ei:value>{value}</ei:value></ei:payloadFloat></ei:signalPayload></ei:interval>"
        for n, value in enumerate(values)
    )
    item = {
        "": "",
        "currencyPerKWh": "<oadr:currencyPerKWh><oadr:itemDescription>currencyPerKWh"
        "</oadr:itemDescription><oadr:itemUnits>USD</oadr:itemUnits>"
        f"<scale:siScaleCode>{scale}</scale:siScaleCode></oadr:currencyPerKWh>",
        "powerReal": "<power:powerReal><power:itemDescription>RealPower</power:itemDescription>"
        f"<power:itemUnits>W</power:itemUnits><scale:siScaleCode>{scale}</scale:siScaleCode>"
        "<power:powerAttributes><power:hertz>60</power:hertz><power:voltage>220</power:voltage>"
        "<power:ac>true</power:ac></power:powerAttributes></power:powerReal>",
    }[unit if kind == "price" or unit == "powerReal" else ""]
    return (
        f"<ei:eiEventSignal><strm:intervals>{intervals}</strm:intervals>{target}"
        f"<ei:signalName>{name}</ei:signalName><ei:signalType>{kind}</ei:signalType>"
        f"<ei:signalID>{signal_id}</ei:signalID>{item}"
        "<ei:currentValue><ei:payloadFloat><ei:value>0.0</ei:value></ei:payloadFloat>"
        "</ei:currentValue></ei:eiEventSignal>"
    )


def levels(values: list[Any], length: str = "PT1H") -> str:
    return signal(values, "SIMPLE", "level", length, unit="")


def event(
    event_id: str,
    start: datetime,
    *signals: str,
    modification: int = 0,
    status: str = "far",
    duration: str = "PT24H",
    context: str = "http://utility.example/EV2A",
    priority: int | None = None,
    test: str | None = None,
    targets: str = "",
    required: str = "always",
    start_after: str = "",
    extra: str = "",
    created: str = "2026-01-01T00:00:00Z",
) -> str:
    """Write an oadrEvent as the specification shows it: no times in the intervals."""
    tolerance = (
        f"<xcal:tolerance><xcal:tolerate><xcal:startafter>{start_after}</xcal:startafter>"
        "</xcal:tolerate></xcal:tolerance>"
        if start_after
        else ""
    )
    return (
        "<oadr:oadrEvent><ei:eiEvent><ei:eventDescriptor>"
        f"<ei:eventID>{event_id}</ei:eventID><ei:modificationNumber>{modification}</ei:modificationNumber>"
        + (f"<ei:priority>{priority}</ei:priority>" if priority is not None else "")
        + f"<ei:eiMarketContext><emix:marketContext>{context}</emix:marketContext></ei:eiMarketContext>"
        f"<ei:createdDateTime>{created}</ei:createdDateTime><ei:eventStatus>{status}</ei:eventStatus>"
        + (f"<ei:testEvent>{test}</ei:testEvent>" if test is not None else "")
        + "<ei:vtnComment>007</ei:vtnComment></ei:eventDescriptor>"
        "<ei:eiActivePeriod><xcal:properties><xcal:dtstart>"
        f"<xcal:date-time>{stamp(start)}</xcal:date-time></xcal:dtstart>"
        f"<xcal:duration><xcal:duration>{duration}</xcal:duration></xcal:duration>{tolerance}{extra}"
        "</xcal:properties><xcal:components/></ei:eiActivePeriod>"
        f"<ei:eiEventSignals>{''.join(signals)}</ei:eiEventSignals>"
        f"<ei:eiTarget>{targets}</ei:eiTarget></ei:eiEvent>"
        f"<oadr:oadrResponseRequired>{required}</oadr:oadrResponseRequired></oadr:oadrEvent>"
    )


class RawVtn(Served):
    """A VTN written from the specification, without any library; says what it is told to."""

    path = PREFIX + "/{service}"

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []
        self.fresh = True  # whether the next poll lists the events
        self.say: list[Any] = []  # answers to the next polls, whatever is listed
        self.asked: list[tuple[str, str]] = []  # (message type, XML)
        self.opts: list[tuple[str, int, str]] = []
        self.refuse_registration: list[str] = []  # refuse one that holds this text
        self.fail: Callable[[], Any] | None = None  # answers everything instead
        self.poll = "PT10S"
        self.done = False

    def list(self, *events: str) -> None:
        self.events, self.fresh, self.done = [*events], True, False

    def count(self, kind: str) -> int:
        return sum(1 for k, _ in self.asked if k == kind)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        xml = (await request.read()).decode()
        kind = re.search(r"<oadr:(oadr(?!Payload|SignedObject)\w+)", xml)[1]  # type: ignore[index]
        self.asked.append((kind, xml))
        said = self.fail() if self.fail else self._answer(kind, xml)
        # A VEN that polls and gets nothing has done all there was to do.
        self.done = kind == "oadrPoll" and "<oadr:oadrResponse " in str(said)
        return (
            said
            if isinstance(said, web.StreamResponse)
            else web.Response(text=said, content_type="application/xml")
        )

    def _answer(self, kind: str, xml: str) -> Any:
        if kind in {"oadrQueryRegistration", "oadrCreatePartyRegistration"}:
            return self._register(kind, xml)
        if kind == "oadrRegisterReport":
            return payload(
                f'<oadr:oadrRegisteredReport ei:schemaVersion="2.0b">{OK.format("r")}'
                "<ei:venID>V1</ei:venID></oadr:oadrRegisteredReport>"
            )
        if kind == "oadrCreatedEvent":
            self.opts += [
                (e, int(m), o)
                for e, m, o in re.findall(
                    r"<ei:eventID>(.*?)</ei:eventID>\s*<ei:modificationNumber>(\d+)</ei:modificationNumber>"
                    r"\s*</ei:qualifiedEventID>\s*<ei:optType>(\w+)</ei:optType>",
                    xml,
                )
            ]
            return response()
        if kind == "oadrPoll" and self.say:
            said = self.say.pop(0)
            return said() if callable(said) else said
        if kind == "oadrRequestEvent" or (kind == "oadrPoll" and self.fresh):
            self.fresh = False
            return distribute(*self.events) if self.events or kind == "oadrPoll" else response()
        return response()

    def _register(self, kind: str, xml: str) -> str:
        if any(text in xml for text in self.refuse_registration):
            return response(463)
        ids = "<ei:registrationID>R1</ei:registrationID><ei:venID>V1</ei:venID>"
        ids = ids if kind == "oadrCreatePartyRegistration" else ""
        return payload(
            f'<oadr:oadrCreatedPartyRegistration ei:schemaVersion="2.0b">{OK.format("q")}{ids}'
            "<ei:vtnID>utility-vtn</ei:vtnID><oadr:oadrProfiles><oadr:oadrProfile>"
            "<oadr:oadrProfileName>2.0b</oadr:oadrProfileName><oadr:oadrTransports><oadr:oadrTransport>"
            "<oadr:oadrTransportName>simpleHttp</oadr:oadrTransportName></oadr:oadrTransport>"
            "</oadr:oadrTransports></oadr:oadrProfile></oadr:oadrProfiles>"
            f"<oadr:oadrRequestedOadrPollFreq><xcal:duration>{self.poll}</xcal:duration>"
            "</oadr:oadrRequestedOadrPollFreq></oadr:oadrCreatedPartyRegistration>"
        )


class StockUtility:
    """A stock OpenLEADR VTN in a process of its own, over mutual TLS."""

    def __init__(
        self, certs: Path, *, events: Sequence[Any] = (), sign: bool = False, poll: float = 1
    ) -> None:
        self.about = {
            "cert": str(certs / "vtn.crt"), "key": str(certs / "vtn.key"), "ca": str(certs / "ca.crt"),
            "vens": {"bridge": str(certs / "ven.crt")}, "poll": poll, "sign": sign, "events": events,
        }  # fmt: skip
        self.lines: list[dict[str, Any]] = []
        self.url = ""

    async def start(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bridge.demo.utility", json.dumps({**self.about, "events": []}),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, limit=2**24,
        )  # fmt: skip
        assert self.process.stdout
        self.url = json.loads(await self.process.stdout.readline())["ready"]
        self._reader = asyncio.create_task(self._read())
        for one in self.about["events"]:  # type: ignore[attr-defined]
            await self.order(add=one)

    async def _read(self) -> None:
        assert self.process.stdout
        async for line in self.process.stdout:
            self.lines.append(json.loads(line))

    async def order(self, **about: Any) -> None:
        assert self.process.stdin
        done = sum(1 for line in self.lines if "done" in line)
        self.process.stdin.write(json.dumps(about).encode() + b"\n")
        await self.process.stdin.drain()
        await eventually(lambda: sum(1 for line in self.lines if "done" in line) > done)

    def opts(self, event_id: str) -> list[str]:
        return [line["opt"] for line in self.lines if line.get("event") == event_id]

    async def stop(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        await self.process.wait()
        await self._reader


@asynccontextmanager
async def started(*parts: Any):
    """Start peers and stop them afterwards."""
    begun = []
    try:
        await asyncio.gather(*(part.start() for part in parts))
        begun = list(parts)
        yield parts[0] if len(parts) == 1 else parts
    finally:
        await asyncio.gather(*(part.stop() for part in begun))
