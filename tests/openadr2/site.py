"""A site with devices that speak OpenADR 2.0b: certificates, and a bridge in a process."""

import asyncio
import json
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import ClientSession
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from bridge.certificates import short_fingerprint
from bridge.cli import main
from tests.openadr2.stock_ven import StockVen
from tests.openadr3.clients import SECRETS, calling
from tests.peers import PREFIX, kept_readings

SETTINGS = """
[store]
path = "bridge.db"
[vtn]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[openadr2]
listen = "127.0.0.1:{port}"
vtn_id = "BRIDGE"
cert = "{certs}/vtn.crt"
key = "{certs}/vtn.key"
ca = "{certs}/ca.crt"
{vtn}
[[clients]]
id = "bl"
role = "bl"
secret_file = "bl.secret"
{more}
"""
POLLED = 'poll_interval = "1s"'
REPORTS = """
[[openadr2.reports]]
report = "TELEMETRY_USAGE"
ven = "*"
every = "2s"
sampling = "1s"
"""
SOURCE = """
[[sources]]
kind = "openadr2"
name = "utility"
vtn_url = "{url}"
ven_name = "bridge"
"""


def issue(folder, name, kind="ec"):
    """Write a certificate of the folder's CA, and its key."""
    authority = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    signer = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    key = (
        rsa.generate_private_key(65537, 2048)
        if kind == "rsa"
        else ec.generate_private_key(ec.SECP256R1())
    )
    now = datetime.now(UTC)
    usage = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH])
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(usage, False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False
        )
        .sign(signer, hashes.SHA256())
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    (folder / f"{name}.key").write_bytes(key.private_bytes(*form, serialization.NoEncryption()))
    pem = made.public_bytes(serialization.Encoding.PEM)
    (folder / f"{name}.crt").write_bytes(pem)
    return short_fingerprint(pem)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Site:
    """A bridge on a database and a port of its own; stopped and started, it has the same."""

    def __init__(self, folder: Path, certs: Path, *, upstream="", vtn=POLLED, reports=REPORTS):
        self.folder, self.certs = folder, certs
        self.config, self.database = folder / "bridge.toml", folder / "bridge.db"
        self.log, port = folder / "bridge.log", free_port()
        more = reports + (SOURCE.format(url=upstream) if upstream else "")
        (folder / "bl.secret").write_text(SECRETS["bl"])
        self.config.write_text(SETTINGS.format(port=port, certs=certs, vtn=vtn, more=more))
        self.url = f"https://localhost:{port}{PREFIX}"
        self.vtn_fingerprint = short_fingerprint((certs / "vtn.crt").read_bytes())
        self.token = self.command("token", "create", "tests", "--scope", "read")["token"]

    def command(self, *words):
        """Run a command of the program; return what it says."""
        found = CliRunner().invoke(main, [*words, "-c", str(self.config), "--json"])
        assert found.exit_code == 0, found.output
        return json.loads(found.output) if found.output.strip() else None

    def enrol(self, name, *words, kind="ec"):
        """Enrol a VEN with a certificate of its own; return its venID."""
        fingerprint = issue(self.certs, name, kind)
        self.command("ven", "add", name, "--fingerprint", fingerprint, *words)
        return self.command("ven", "show", name)["ven_id"]

    def ven(self, name, *, signed=False, **settings):
        """Return the stock VEN of this name, that asks for signed replies where it signs."""
        pinned = (
            {"vtn_fingerprint": self.vtn_fingerprint} if signed else {"disable_signature": True}
        )
        return StockVen(self.url, self.certs, name, **pinned, **settings)

    async def start(self):
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bridge", "run", "-c", str(self.config),
                stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        line = await asyncio.wait_for(self._process.stdout.readline(), 30)
        assert line, self.log.read_text()[-3000:]
        self.ready = json.loads(line)
        assert self.ready["event"] == "ready"

    async def stop(self):
        self._process.terminate()
        await asyncio.wait_for(self._process.communicate(), 10)
        assert self._process.returncode == 0, self.log.read_text()[-3000:]

    @asynccontextmanager
    async def client(self):
        """Yield business logic that is connected."""
        async with calling(self.ready["vtn"]) as vtn:
            yield vtn("bl")

    async def admin(self, path):
        """Return what the admin endpoint lists."""
        headers = {"Authorization": f"Bearer {self.token}"}
        async with (
            ClientSession(headers=headers) as http,
            http.get(f"{self.ready['admin']}/api/v1/{path}", params={"limit": 1000}) as reply,
        ):
            said = await reply.json()
            assert reply.status == 200, said
            return said["items"]

    async def opts(self, event_id):
        """Return what VENs said to an event, in turn: (VEN, modification, opt)."""
        (about,) = [e for e in await self.admin("events") if e["id"] == event_id]
        said = sorted(about["opts"], key=lambda o: o["at"])
        return [(o["ven"], o["modification"], o["opt"]) for o in said]

    def readings(self, meter):
        """Return what is kept of a meter in the order of time: (start in ms, value, client).

        Energy is in Wh, as the VENs here measure it.
        """
        return sorted(
            (r["start"], r["amount"] * (1000 if r["unit"] == "KWH" else 1), r["client"])
            for r in kept_readings(self.database)
            if r["meter"].endswith(f":{meter}")
        )
