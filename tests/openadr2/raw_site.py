"""A bridge with an OpenADR 2.0b VTN for tests: its certificates, its VENs, what its store holds."""

import asyncio
import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from bridge.app import running
from bridge.config import Settings
from bridge.store import vens
from bridge.store.access import new_token
from bridge.store.files import beside
from tests.openadr2.pki import Authority, Identity
from tests.openadr2.raw_ven import RawVen
from tests.openadr3.clients import SECRETS, Client, calling
from tests.peers import kept_readings

VTN_ID = "BRIDGE"
REPORTS = [
    {"report": "TELEMETRY_USAGE", "ven": "*", "every": "15m", "sampling": "1m"},
    {"report": "TELEMETRY_STATUS", "ven": "*", "every": "15m", "sampling": "1m"},
    {"report": "HISTORY_USAGE", "ven": "*", "every": "1h", "sampling": "15m"},
]
# What says when something was last heard of, which may change without anything being done
HEARD = {"heard", "seen", "ends", "sha256", "last_seen"}
# A log of what was done, how far others have read it, and counters
LOGS = {"changes", "cursors", "meta"}
# What was measured, packed; it is shown by itself
PACKED = {
    "meters", "streams", "usage", "usage_long", "usage_origins", "usage_revisions", "usage_dates",
    "usage_stale",
}  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Site:
    """A folder with certificates and a store; addresses once a bridge runs on it."""

    def __init__(self, folder: Path, kinds: Iterable[str] = ("ec",)) -> None:
        self.folder, self.path = folder, folder / "bridge.db"
        self.authority = Authority(folder / "certs")
        self.servers = [self.authority.server(f"vtn-{kind}", kind) for kind in kinds]
        self.vens: list[RawVen] = []
        self.ids: dict[str, str] = {}
        self.url = self.vtn = self.admin = ""
        (folder / "bl.secret").write_text(SECRETS["bl"])

    def settings(self, port: int = 0, **more: Any) -> dict[str, Any]:
        certs, keys = ([str(getattr(s, part)) for s in self.servers] for part in ("cert", "key"))
        alone = len(certs) == 1
        return {
            "store": {"path": str(self.path)},
            "vtn": {"listen": "127.0.0.1:0"},
            "admin": {"listen": "127.0.0.1:0"},
            "clients": [{"id": "bl", "role": "bl", "secret_file": str(self.folder / "bl.secret")}],
            "openadr2": {
                "listen": f"127.0.0.1:{port}",
                "vtn_id": VTN_ID,
                "cert": certs[0] if alone else certs,
                "key": keys[0] if alone else keys,
                "ca": str(self.authority.ca),
                "poll_interval": "10s",
                "reports": REPORTS,
                **more,
            },
        }

    def enrol(self, name: str, kind: str = "ec", **about: Any) -> Identity:
        """Give a VEN a certificate, and its fingerprint to the bridge."""
        who = self.authority.issue(name, kind)
        with beside(self.path) as db:
            found = vens.add(db, name, datetime.now(UTC), fingerprint=who.fingerprint, **about)
        self.ids[name] = found["ven_id"]
        return who

    def ven(self, who: Identity, sign: bool | str = False, **more: Any) -> RawVen:
        """Return a VEN that speaks with this certificate."""
        signers = [server.loaded for server in self.servers]
        made = RawVen.of(who, self.url, self.authority.ca, sign=sign, signers=signers, **more)
        self.vens.append(made)
        return made

    async def registered(self, name: str, sign: bool | str = False, **about: Any) -> RawVen:
        """Return a new VEN that is enrolled and registered."""
        made = self.ven(self.enrol(name, sign or "ec", **about), sign)
        answer = await made.register()
        assert answer.good, answer
        return made

    @asynccontextmanager
    async def bl(self) -> AsyncIterator[Client]:
        """Yield a client that writes programs and events by OpenADR 3."""
        async with calling(self.vtn) as vtn:
            yield vtn("bl")

    async def asked(self, path: str) -> Any:
        """Ask the admin endpoint."""
        with beside(self.path) as db:
            name = f"test-{datetime.now(UTC).timestamp()}"
            token = new_token(db, name, "read", datetime.now(UTC))
        headers = {"Authorization": f"Bearer {token}"}
        async with ClientSession() as http, http.get(self.admin + path, headers=headers) as reply:
            assert reply.status == 200, await reply.text()
            return await reply.json()

    def query(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as db:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute(sql, values)]

    def readings(self) -> list[dict[str, Any]]:
        """Return what is kept of what was measured."""
        return kept_readings(self.path)

    def dump(self, *without: str) -> dict[str, list[str]]:
        """Return all rows of all tables as text, but for those that mention one of `without`.

        Logs, and times of what was merely heard, are left out.
        """
        names = self.query(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        )
        found = {}
        for name in sorted({n["name"] for n in names} - LOGS - PACKED | {"readings"}):
            rows = self.readings()
            if name != "readings":
                rows = self.query(f"SELECT * FROM {name}")  # noqa: S608 -- our tables
            said = (json.dumps({k: str(v) for k, v in r.items() if k not in HEARD}) for r in rows)
            found[name] = sorted(s for s in said if not any(w in s for w in without))
        return found

    async def close(self) -> None:
        for ven in self.vens:
            await ven.close()


@asynccontextmanager
async def served(folder: Path, kinds: Iterable[str] = ("ec",), **more: Any) -> AsyncIterator[Site]:
    """Run a bridge in this process."""
    site = Site(folder, kinds)
    async with running(Settings.model_validate(site.settings(**more)), None) as bridge:
        site.url, site.vtn = bridge.addresses["openadr2"], bridge.addresses["vtn"]
        site.admin = bridge.addresses["admin"]
        try:
            yield site
        finally:
            await site.close()


class Process:
    """A bridge in a process of its own, at the same port each time it is started."""

    def __init__(self, site: Site, **more: Any) -> None:
        self.site, self.port = site, free_port()
        self.file = site.folder / "bridge.toml"
        self.file.write_text(toml(site.settings(self.port, **more)))
        self.process: Any = None

    async def start(self) -> None:
        with (self.site.folder / "bridge.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bridge", "run", "-c", str(self.file),
                stdout=subprocess.PIPE, stderr=log,
                env={k: v for k, v in os.environ.items() if not k.startswith("COV")},
            )  # fmt: skip
        line = await asyncio.wait_for(self.process.stdout.readline(), 60)
        said = json.loads(line)
        self.site.url, self.site.vtn, self.site.admin = (
            said[key] for key in ("openadr2", "vtn", "admin")
        )

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.returncode is None

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> None:
        if self.alive:
            self.process.terminate()
            await self.process.wait()


def toml(settings: dict[str, Any]) -> str:
    """Write settings as a file: sections, and lists of sections last."""
    lines = []
    for name, section in settings.items():
        for one in section if isinstance(section, list) else [section]:
            lines += [f"[[{name}]]" if isinstance(section, list) else f"[{name}]"]
            lines += [f"{k} = {_value(v)}" for k, v in one.items() if not _is_sections(v)]
            for key, parts in ((k, v) for k, v in one.items() if _is_sections(v)):
                for part in parts:
                    lines += [f"[[{name}.{key}]]", *(f"{k} = {_value(v)}" for k, v in part.items())]
    return "\n".join(lines) + "\n"


def _is_sections(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _value(value: Any) -> str:
    return json.dumps(value)
