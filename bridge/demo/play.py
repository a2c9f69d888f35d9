"""The demo: a simulated utility, the bridge as it is, and two devices that print."""

import asyncio
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from signal import SIGINT, SIGTERM
from typing import Any
from zoneinfo import ZoneInfo

from bridge.app import Bridge, running
from bridge.certificates import write_development_set
from bridge.config import read_settings
from bridge.demo.devices import serve_device
from bridge.demo.prices import RECORDED
from bridge.model import Document
from bridge.store.access import new_token, revoke_token
from bridge.store.files import beside

ZONE = ZoneInfo("America/Los_Angeles")
CONTEXT = "http://utility.example/"
EVENT_IN = timedelta(minutes=3)  # how far ahead the demand-response event is

SETTINGS = """\
[site]
timezone = "America/Los_Angeles"

[store]
path = "bridge.db"

[vtn]
listen = "127.0.0.1:{vtn}"
anonymous_read = true

[admin]
listen = "127.0.0.1:{admin}"

[[sources]]
kind = "openadr2"
name = "utility"
vtn_url = "{url}"
ven_name = "bridge"
cert = "certs/ven.crt"
key = "certs/ven.key"
ca = "certs/ca.crt"

[[devices]]
kind = "webhook"
name = "heatpump"
url = "{heatpump}"
lead = "2m"

[[devices]]
kind = "webhook"
name = "charger"
url = "{charger}"
format = "state"
"""


async def play(folder: Path | None) -> None:
    """Play the demo until Ctrl-C or SIGTERM."""
    asked = asyncio.Event()
    for signal in (SIGINT, SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signal, asked.set)
    async with AsyncExitStack() as stack:
        if folder is None:
            folder = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="openadr-bridge-"))
            )
        write_development_set(folder / "certs")
        url = await stack.enter_async_context(utility(folder / "certs", events(datetime.now(UTC))))
        devices = {
            name: await stack.enter_async_context(serve_device(name, ZONE, _say))
            for name in ("heatpump", "charger")
        }
        path = folder / "bridge.toml"
        path.write_text(SETTINGS.format(url=url, vtn=_port(8080), admin=_port(8580), **devices))
        settings = read_settings(path)
        token = _fresh_token(settings.store.path)
        bridge = await stack.enter_async_context(running(settings))
        _say(json.dumps({"event": "ready", **bridge.addresses}))
        _say(_guide(bridge, path, token))
        await asked.wait()
        _say("stopping")


@asynccontextmanager
async def utility(certs: Path, planned: list[Document]) -> AsyncIterator[str]:
    """Run the utility in a process of its own; yield its VTN's URL."""
    about: dict[str, Any] = {
        "cert": str(certs / "vtn.crt"),
        "key": str(certs / "vtn.key"),
        "ca": str(certs / "ca.crt"),
        "vens": {"bridge": str(certs / "ven.crt")},
        "poll": 5,
        "events": planned,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge.demo.utility", json.dumps(about),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdin  # noqa: S101 -- a pipe
    assert process.stdout  # noqa: S101 -- likewise
    try:
        yield json.loads(await process.stdout.readline())["ready"]
    finally:
        process.stdin.close()  # it stops when its input ends
        await process.wait()


def events(now: datetime) -> list[Document]:
    """Return the days to replay, from today on, and an event a few minutes ahead."""
    today = now.astimezone(ZONE).date()
    planned = [
        _day(today + timedelta(days=n), values) for n, values in enumerate(RECORDED.values())
    ]
    soon = (now + EVENT_IN).replace(second=0, microsecond=0)
    levels = {"name": "SIMPLE", "type": "level", "values": [1, 2, 1], "seconds": 120}
    shed = {
        "id": f"shed-{soon:%H%M}",
        "context": CONTEXT + "CPP",
        "start": soon.isoformat(),
        "signals": [levels],
    }
    return [*planned, shed]


def _day(day: Any, values: tuple[float, ...]) -> Document:
    start = datetime(day.year, day.month, day.day, tzinfo=ZONE)
    tomorrow = day + timedelta(days=1)
    end = datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=ZONE)
    hours = round((end.astimezone(UTC) - start.astimezone(UTC)) / timedelta(hours=1))
    prices = {"name": "ELECTRICITY_PRICE", "type": "price", "values": values[:hours]}
    return {
        "id": f"EV2A-{day}",
        "context": CONTEXT + "EV2A",
        "start": start.astimezone(UTC).isoformat(),
        "signals": [prices],
    }


def _fresh_token(store: Path) -> str:
    with beside(store) as db:
        revoke_token(db, "demo", datetime.now(UTC))
        return new_token(db, "demo", "operate", datetime.now(UTC))


def _port(wanted: int) -> int:
    """Return the default port, or 0 where something else has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return 0
    return wanted


def _guide(bridge: Bridge, path: Path, token: str) -> str:
    vtn, admin = bridge.addresses["vtn"], bridge.addresses["admin"]
    return f"""
A utility sends four days of recorded prices and, in about three minutes, a SIMPLE event.
Two devices print what the bridge tells them. Try, in another terminal:

  curl {vtn}/api/v1/programs
  curl '{vtn}/api/v1/prices?program=EV2A&format=csv'
  curl '{vtn}/openadr3/3.1.0/events?active=true'
  curl {admin}/readyz
  curl -H 'Authorization: Bearer {token}' {admin}/api/v1/events

The settings are {path}. Ctrl-C stops everything.
"""


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 -- what a demo is for
