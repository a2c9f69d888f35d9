"""OpenADR 2.0b: polls beside a stock VTN and a bare echo over the same TLS, and 500 VENs."""

import asyncio
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from bridge.certificates import read_key, short_fingerprint, write_development_set
from bridge.store import vens
from bridge.store.files import beside
from bridge.wire.openleadr import message_writer
from bridge.wire.signatures import Signer
from tests.openadr2.site import free_port, issue
from tests.peers import PREFIX

CONNECTIONS = 8
ROUNDS, UNSIGNED, SIGNED = 3, 6_000, 2_000
# The stock VTN takes a signature for 5 s, so no more than it answers meanwhile
STOCK_EC, STOCK_RSA = 640, 32
VENS, EVERY = 500, 10
SECONDS = 120 if os.environ.get("BRIDGE_LONG") else 20
SERVICES = {
    "oadrPoll": "OadrPoll",
    "oadrCreatePartyRegistration": "EiRegisterParty",
    "oadrRegisterReport": "EiReport",
}
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
rate_limit = 1000000
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
def serving(port, *words):
    """Run a server on its core until the end of the block; yield it once it is ready."""
    on_core(SERVER_CORE)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
    process = subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    on_core(CLIENT_CORE)
    try:
        assert process.stdout.readline(), words
        yield Server(port, process.pid)
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


class Server(NamedTuple):
    port: int
    pid: int

    @property
    def cpu_seconds(self):
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def resident(self):
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(n.split()[1]) for n in lines if n.startswith("VmRSS")) / 1024


class Place:
    """A folder with certificates of one kind, and what is served there."""

    def __init__(self, folder, kind):
        self.folder, self.certs = folder, folder / "certs"
        write_development_set(self.certs, kind)

    def _script(self, code, **more):
        files = {"cert": "vtn.crt", "key": "vtn.key", "ca": "ca.crt"}
        about = {k: str(self.certs / v) for k, v in files.items()} | {"port": free_port(), **more}
        return serving(about["port"], "-c", code, json.dumps(about))

    def echo(self):
        return self._script(ECHO)

    def stock(self, *, signed):
        fingerprint = short_fingerprint((self.certs / "ven.crt").read_bytes())
        return self._script(STOCK, signed=signed, fingerprint=fingerprint)

    def bridge(self):
        config, port = self.folder / "bridge.toml", free_port()
        config.write_text(CONFIG.format(port=port, certs=self.certs))
        return serving(port, "-m", "bridge", "run", "-c", str(config))

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


def writer(certs=None, name="ven"):
    """Return what writes requests, signed by the certificate of this name where there is one."""
    write = message_writer(
        certs and Signer((certs / f"{name}.crt").read_bytes(), read_key(certs / f"{name}.key"))
    )

    def request(kind, **about):
        body = write(kind, **about)
        head = (
            f"POST {PREFIX}/{SERVICES[kind]} HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    return request


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


async def rate(server, context, requests, good):
    """Return answers a second over the connections, after one on each."""
    turn, wrong = iter(requests), []

    async def ask(connection, count):
        for request in islice(turn, count):
            body = await connection.ask(request)
            if not good(body):
                wrong.append(body)

    async with AsyncExitStack() as stack:
        open_ones = [
            await stack.enter_async_context(Connection(server.port, context))
            for _ in range(CONNECTIONS)
        ]
        await asyncio.gather(*(ask(c, 1) for c in open_ones))
        count = len(requests) // CONNECTIONS - 1
        began = time.perf_counter()
        await asyncio.gather(*(ask(c, count) for c in open_ones))
        took = time.perf_counter() - began
    assert not wrong, wrong[0]
    return count * CONNECTIONS / took


# --- what is measured ----------------------------------------------------------------------


class Polls:
    """Polls of one VEN at the bridge, a stock VTN and an echo, by turns; keeps the best of each."""

    def __init__(self, place, *, signed):
        self.place, self.signed, self.best = place, signed, {}
        self.write, self.context = writer(place.certs if signed else None), place.context()

    def requests(self, count, ven_id, *, signed):
        """Return unsigned requests, all the same, or signed ones, each with its own nonce."""
        if signed:
            return [self.write("oadrPoll", ven_id=ven_id) for _ in range(count)]
        return [writer()("oadrPoll", ven_id=ven_id)] * count

    async def measure(self, who, server, count, ven_id, *, echo=False):
        requests = self.requests(count, ven_id, signed=self.signed and not echo)
        found = await rate(server, self.context, requests, (lambda _: True) if echo else fine)
        self.best[who] = max(found, self.best.get(who, 0.0))

    async def register(self, server, ven_id):
        async with Connection(server.port, self.context) as connection:
            asked = self.write("oadrCreatePartyRegistration", ven_id=ven_id, **registration("ven"))
            assert b"registrationID" in await connection.ask(asked)

    async def run(self, count, stocks):
        (ven_id,) = self.place.enrol("ven")
        with (
            self.place.echo() as echo,
            self.place.stock(signed=self.signed) as stock,
            self.place.bridge() as bridge,
        ):
            await self.register(bridge, ven_id)
            for _ in range(ROUNDS):
                await self.measure("bridge", bridge, count, ven_id)
                await self.measure("stock", stock, stocks, "ven-1")
                await self.measure("echo", echo, UNSIGNED, "ven-1", echo=True)
        return self.best


async def throughput(show):
    for what, kind, count, stocks, goal in (
        ("unsigned", "ec", UNSIGNED, UNSIGNED, "≥ 2 × stock, ≥ 0.45 × echo"),
        ("signed, EC", "ec", SIGNED, STOCK_EC, "(no goal)"),
        ("signed, RSA", "rsa", SIGNED, STOCK_RSA, "≥ 60 × stock"),
    ):
        with tempfile.TemporaryDirectory() as name:
            polls = Polls(Place(Path(name), kind), signed=what != "unsigned")
            best = await polls.run(count, stocks)
        ours, stock, echo = best["bridge"], best["stock"], best["echo"]
        show(
            f"oadrPoll, mutual TLS, {what}",
            f"{ours:,.0f}/s = {ours / stock:.1f} × stock ({stock:,.0f}/s)"
            f" = {ours / echo:.2f} × echo ({echo:,.0f}/s)",
            goal,
        )


async def many(show, *, signed):
    """Have many VENs poll, each with its certificate, evenly over the time between polls."""
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), "ec")
        names = [f"ven-{n}" for n in range(VENS)]
        for name in names:
            issue(place.certs, name)
        ids = place.enrol(*names)
        writers = [writer(place.certs if signed else None, name) for name in names]
        with place.bridge() as server:
            empty, times, connected = server.resident, [], asyncio.Event()
            waiting = asyncio.Semaphore(16)
            ready = 0

            async def live(n):
                nonlocal ready
                write, ven_id = writers[n], ids[n]
                async with Connection(server.port, place.context(names[n])) as connection:
                    async with waiting:
                        await connection.ask(
                            write("oadrCreatePartyRegistration", ven_id=ven_id, **registration(names[n]))
                        )  # fmt: skip
                        assert fine(await connection.ask(write("oadrPoll", ven_id=ven_id)))
                    ready += 1
                    if ready == VENS:
                        connected.set()
                    await connected.wait()
                    begin = time.perf_counter() + EVERY * n / VENS
                    for turn in range(SECONDS // EVERY):
                        await asyncio.sleep(begin + turn * EVERY - time.perf_counter())
                        request = write("oadrPoll", ven_id=ven_id)
                        sent = time.perf_counter()
                        assert fine(await connection.ask(request))
                        times.append((time.perf_counter() - sent) * 1000)

            tasks = [asyncio.create_task(live(n)) for n in range(VENS)]
            await connected.wait()
            before, used, began = (
                server.resident,
                server.cpu_seconds,
                time.perf_counter(),
            )
            await asyncio.gather(*tasks)
            share = (server.cpu_seconds - used) / (time.perf_counter() - began)
            after = server.resident
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
