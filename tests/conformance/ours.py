"""Starts our own VTN for the kit, when no VTN_URL names another: with MQTT where there is a broker."""

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.conformance.vtn import Profile, Vtn
from tests.mosquitto import Mosquitto
from tests.openadr3.clients import BASE, SECRETS, static

PROFILE = Profile(
    bl_writes_reports=False, unauthorized=frozenset({401}), echo=False, callbacks_http=True
)
SETTINGS = """
[store]
path = "bridge.db"
[vtn]
listen = "127.0.0.1:0"
[vtn.callbacks]
allow_http = true
allow_networks = ["127.0.0.0/8"]
echo = "off"
"""
CLIENT = """
[[clients]]
id = "{name}"
role = "{role}"
secret_file = "{name}.secret"
"""
MQTT = """
[mqtt]
url = "{url}"
private_topics = true
"""
# The kit shows some hundred bad tokens; that these are slowed down is tested elsewhere.
PATIENT = (
    "from bridge.web import site; site.BAD_TOKENS = 10**9; from bridge.cli import main; main()"
)


@asynccontextmanager
async def serving() -> AsyncIterator[Vtn]:
    """Yield our VTN, served on loopback by a process of its own for as long as the block lasts."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = SETTINGS
        for name, secret in SECRETS.items():
            (folder / f"{name}.secret").write_text(secret)
            settings += CLIENT.format(name=name, role=name.rstrip("12"))
        if shutil.which("mosquitto"):
            broker = Mosquitto(folder)
            await broker.start()
            stack.push_async_callback(broker.stop)
            settings += MQTT.format(url=broker.url)
        (folder / "bridge.toml").write_text(settings)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PATIENT, "run", "-c", str(folder / "bridge.toml"),
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        stack.push_async_callback(_stop, process)
        assert process.stdout
        ready = json.loads(await asyncio.wait_for(process.stdout.readline(), 30))
        yield Vtn(
            url=ready["vtn"] + BASE,
            bl=static("bl"), ven1=static("ven1"), ven2=static("ven2"),
            bl_id="bl", ven1_id="ven1", ven2_id="ven2",
            client_id="ven1", client_secret=SECRETS["ven1"], profile=PROFILE,
        )  # fmt: skip


async def _stop(process: asyncio.subprocess.Process) -> None:
    process.terminate()
    await process.wait()
