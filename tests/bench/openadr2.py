"""OpenADR 2.0b: polls beside a stock VTN and a bare echo over the same TLS, and 500 VENs."""

import asyncio
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from openleadr import messaging
from openleadr.utils import certificate_fingerprint

from bridge.certificates import short_fingerprint, write_development_set
from bridge.store import vens
from bridge.store.files import beside
from tests.openadr2.site import free_port, issue
from tests.peers import PREFIX

CONNECTIONS, REQUESTS, WARM = 8, 4_000, 16
VENS, EVERY = 500, 10
SECONDS = 120 if os.environ.get("BRIDGE_LONG") else 20
SERVER_CORE, CLIENT_CORE = 0, 1
CONFIG = """
[store]
path = "bridge.db"
[vtn]
listen = "127.0.0.1:0"
[openadr2]
listen = "127.0.0.1:{port}"
vtn_id = "BRIDGE"
cert = "{certs}/vtn.crt"
key = "{certs}/vtn.key"
ca = "{certs}/ca.crt"
poll_interval = "10s"
replay_window = "1h"
"""
ECHO = """
import asyncio, json, ssl, sys
from aiohttp import web

about = json.loads(sys.argv[1])

async def echo(request):
    return web.Response(body=await request.read(), content_type="application/xml")

async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(about["ca"])
    context.load_cert_chain(about["cert"], about["key"])
    site = web.Application()
    site.router.add_post("/{tail:.*}", echo)
    runner = web.AppRunner(site, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", about["port"], ssl_context=context).start()
    print("{}", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
STOCK = """
import asyncio, contextlib, io, json, logging, sys
from openleadr import OpenADRServer

about = json.loads(sys.argv[1])
ven = {
    "ven_id": "ven-1", "ven_name": "ven", "registration_id": "reg-1", "fingerprint": about["fingerprint"],
}
signing = {"cert": about["cert"], "key": about["key"]} if about["signed"] else {}

async def main():
    logging.getLogger("openleadr").setLevel(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()):
        vtn = OpenADRServer(
            "UTILITY", http_port=about["port"], http_cert=about["cert"], http_key=about["key"],
            http_ca_file=about["ca"], ven_lookup=lambda ven_id: ven, show_fingerprint=False,
            verify_message_signatures=about["signed"], **signing,
        )
        await vtn.run()
    print("{}", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


# --- servers, each alone on its core -----------------------------------------------------------


def on_core(core):
    """Have this process, and those it starts from now on, run on one core where there are two."""
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {core})


@contextmanager
def serving(*words):
    """Run a server on its core until the end of the block; yield it once it is ready."""
    on_core(SERVER_CORE)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
    process = subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    on_core(CLIENT_CORE)
    try:
        assert json.loads(process.stdout.readline()) is not None
        yield process
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


class Place:
    """A folder with certificates of one kind, and what is served there."""

    def __init__(self, folder, kind):
        self.folder, self.certs, self.port = folder, folder / "certs", free_port()
        write_development_set(self.certs, kind)

    def about(self, **more):
        files = {
            "cert": self.certs / "vtn.crt",
            "key": self.certs / "vtn.key",
            "ca": self.certs / "ca.crt",
        }
        return json.dumps({k: str(v) for k, v in files.items()} | {"port": self.port, **more})

    def echo(self):
        return serving("-c", ECHO, self.about())

    def stock(self, *, signed):
        fingerprint = certificate_fingerprint((self.certs / "ven.crt").read_text())
        return serving("-c", STOCK, self.about(signed=signed, fingerprint=fingerprint))

    def bridge(self):
        config = self.folder / "bridge.toml"
        config.write_text(CONFIG.format(port=self.port, certs=self.certs))
        return serving("-m", "bridge", "run", "-c", str(config))

    def enrol(self, *names):
        """Enrol VENs by the certificates of their names; return their venIDs."""
        with beside(self.folder / "bridge.db") as db:
            return [
                vens.add(
                    db, name, datetime.now(UTC),
                    fingerprint=short_fingerprint((self.certs / f"{name}.crt").read_bytes()),
                )["ven_id"]
                for name in names
            ]  # fmt: skip

    def context(self, name="ven"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.certs / "ca.crt")
        context.load_cert_chain(self.certs / f"{name}.crt", self.certs / f"{name}.key")
        return context


# --- a client as plain as can be ---------------------------------------------------------------


_load = messaging.load_private_key


@lru_cache(maxsize=1024)
def _loaded(key):
    return _load(key)


def message(kind, signer=None, **about):
    """Return the request for a message, signed by (certificate, key) where they are given."""
    # The library reads the key twice for each message, which is not what is measured here.
    messaging.load_private_key = lambda key, _=None: _loaded(key) if isinstance(key, bytes) else key
    cert, key = signer or (None, None)
    body = messaging.create_message(kind, cert=cert, key=_loaded(key) if key else None, **about)
    service = "EiRegisterParty" if "Registration" in kind else kind[0].upper() + kind[1:]
    head = (
        f"POST {PREFIX}/{service} HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/xml\r\nContent-Length: {len(body.encode())}\r\n\r\n"
    )
    return (head + body).encode()


def signer(certs, name="ven"):
    return (certs / f"{name}.crt").read_bytes(), (certs / f"{name}.key").read_bytes()


def registration(name):
    return {
        "request_id": "r", "ven_name": name, "http_pull_model": True, "xml_signature": False,
        "report_only": False, "profile_name": "2.0b", "transport_name": "simpleHttp",
        "transport_address": "",
    }  # fmt: skip


class Connection:
    """A kept-alive connection, one request at a time."""

    def __init__(self, port, context):
        self._where = ("localhost", port, context)

    async def __aenter__(self):
        host, port, context = self._where
        self._in, self._out = await asyncio.open_connection(host, port, ssl=context)
        return self

    async def __aexit__(self, *_):
        self._out.close()

    async def ask(self, request):
        """Send a request; return the body of the reply, which must be good."""
        self._out.write(request)
        head = (await self._in.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        body = await self._in.readexactly(int(length))
        assert head.startswith(b"http/1.1 200"), (head, body)
        return body


def fine(body):
    """Whether a reply is an empty one: nothing is new."""
    return b"oadrResponse" in body and b"responseCode>200<" in body


async def rate(place, requests, *, echo=False):
    """Return answers a second over the connections; the first requests only warm up."""
    context, turn, wrong = place.context(), iter(requests), []

    async def ask(connection, count):
        for request in (next(turn) for _ in range(count)):
            body = await connection.ask(request)
            if not echo and not fine(body):
                wrong.append(body)

    connections = [Connection(place.port, context) for _ in range(CONNECTIONS)]
    try:
        for connection in connections:
            await connection.__aenter__()
        await asyncio.gather(*(ask(c, WARM // CONNECTIONS) for c in connections))
        count = (len(requests) - WARM) // CONNECTIONS
        began = time.perf_counter()
        await asyncio.gather(*(ask(c, count) for c in connections))
        took = time.perf_counter() - began
    finally:
        for connection in connections:
            await connection.__aexit__()
    assert not wrong, wrong[0]
    return count * CONNECTIONS / took


async def registered(place, ven_id, how=None):
    async with Connection(place.port, place.context()) as connection:
        asked = message("oadrCreatePartyRegistration", how, ven_id=ven_id, **registration("ven"))
        assert b"registrationID" in await connection.ask(asked)
        await connection.ask(message("oadrRegisterReport", how, ven_id=ven_id, reports=[], request_id="r"))  # fmt: skip


# --- what is measured ----------------------------------------------------------------------


def polls(count, ven_id, how=None):
    """Return requests: unsigned the same all along, signed each with a nonce of its own."""
    if how is None:
        return [message("oadrPoll", ven_id=ven_id)] * (count + WARM)
    return [message("oadrPoll", how, ven_id=ven_id) for _ in range(count + WARM)]


async def of_stock(place, count, *, signed):
    with place.stock(signed=signed):
        # Signed when all is ready: it takes a signature for 5 s.
        how = signer(place.certs) if signed else None
        return await rate(place, polls(count, "ven-1", how))


async def of_echo(place, count):
    with place.echo():
        return await rate(place, polls(count, "ven-1"), echo=True)


async def of_bridge(place, count, *, signed):
    (ven_id,) = place.enrol("ven")
    with place.bridge():
        how = signer(place.certs) if signed else None
        await registered(place, ven_id, how)
        return await rate(place, polls(count, ven_id, how))


@asynccontextmanager
async def place_of(kind):
    with tempfile.TemporaryDirectory() as name:
        yield Place(Path(name), kind)


async def throughput(show, *, ours=True):
    for what, kind, signed, stocks, goal, beside_echo in (
        ("unsigned", "ec", False, REQUESTS, 2, 0.45),
        ("signed, EC", "ec", True, 800, None, None),
        ("signed, RSA", "rsa", True, 40, 60, None),
    ):
        async with place_of(kind) as place:
            stock = await of_stock(place, stocks, signed=signed)
        async with place_of(kind) as place:
            echo = await of_echo(place, REQUESTS)
        found = f"stock {stock:,.0f}/s = {stock / echo:.3f} × echo {echo:,.0f}/s"
        if ours:
            async with place_of(kind) as place:
                own = await of_bridge(place, REQUESTS, signed=signed)
            found = (
                f"{own:,.0f}/s = {own / stock:.1f} × stock ({stock:,.0f}/s)"
                f" = {own / echo:.2f} × echo ({echo:,.0f}/s)"
            )
        goals = [f"≥ {goal} × stock"] if goal else []
        goals += [f"≥ {beside_echo} × echo"] if beside_echo else []
        show(f"oadrPoll, mutual TLS, {what}", found, ", ".join(goals) or "(no goal)")


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(n.split()[1]) for n in lines if n.startswith("VmRSS")) / 1024


async def many(show, *, signed):
    """Have many VENs poll, each with its certificate, evenly over the time between polls."""
    async with place_of("ec") as place:
        names = [f"ven-{n}" for n in range(VENS)]
        for name in names:
            issue(place.certs, name)
        ids = place.enrol(*names)
        how = [signer(place.certs, name) if signed else None for name in names]
        with place.bridge() as process:
            empty, times, connected = resident(process.pid), [], asyncio.Event()
            waiting = asyncio.Semaphore(16)
            ready = 0

            async def live(n):
                nonlocal ready
                about = {"ven_id": ids[n]}
                async with Connection(place.port, place.context(names[n])) as connection:
                    async with waiting:
                        await connection.ask(
                            message("oadrCreatePartyRegistration", how[n], **about, **registration(names[n]))
                        )  # fmt: skip
                        assert fine(await connection.ask(message("oadrPoll", how[n], **about)))
                    ready += 1
                    if ready == VENS:
                        connected.set()
                    await connected.wait()
                    begin = time.perf_counter() + EVERY * n / VENS
                    for turn in range(SECONDS // EVERY):
                        await asyncio.sleep(begin + turn * EVERY - time.perf_counter())
                        request = message("oadrPoll", how[n], **about)
                        sent = time.perf_counter()
                        assert fine(await connection.ask(request))
                        times.append((time.perf_counter() - sent) * 1000)

            tasks = [asyncio.create_task(live(n)) for n in range(VENS)]
            await connected.wait()
            before, used, began = (
                resident(process.pid),
                cpu_seconds(process.pid),
                time.perf_counter(),
            )
            await asyncio.gather(*tasks)
            share = (cpu_seconds(process.pid) - used) / (time.perf_counter() - began)
            after = resident(process.pid)
    times.sort()
    show(
        f"{VENS} VENs, a poll each {EVERY} s, {SECONDS} s, {'signed, EC' if signed else 'unsigned'}",
        f"{share:.1%} of a core, p50 {times[len(times) // 2]:.1f} p99 {times[int(len(times) * 0.99)]:.1f} ms",
        "(no goal)",
    )  # fmt: skip
    show(
        "the same, memory: idle, all connected, at the end",
        f"{empty:.0f}, {before:.0f}, {after:.0f} MB ({after - before:+.1f})",
        "(no goal)",
    )


async def bench(show):
    had = os.sched_getaffinity(0)
    try:
        await throughput(show)
        for signed in (False, True):
            await many(show, signed=signed)
    finally:
        os.sched_setaffinity(0, had)


if __name__ == "__main__":
    asyncio.run(
        bench(lambda what, found, goal: print(f"{what:52} {found:>60}   goal {goal}", flush=True))
    )
