"""Starts our own VTN for the kit, when no VTN_URL names another: with MQTT where there is a broker."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from unittest.mock import patch

from bridge.app import running
from bridge.config import Settings
from bridge.web import site
from tests.conformance.vtn import Profile, Vtn
from tests.openadr3.clients import BASE, SECRETS, static, with_clients
from tests.openadr3.conftest import Mosquitto

PROFILE = Profile(
    bl_writes_reports=False, unauthorized=frozenset({401}), echo=False, callbacks_http=True
)


@asynccontextmanager
async def serving() -> AsyncIterator[Vtn]:
    """Yield our VTN, served on loopback for as long as the block lasts."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # The kit shows some hundred bad tokens; that these are slowed down is tested elsewhere.
        stack.enter_context(patch.object(site, "BAD_TOKENS", 10**9))
        settings = {
            "store": {"path": folder / "bridge.db"}, "admin": {"listen": "127.0.0.1:0"},
            **with_clients(folder),
        }  # fmt: skip
        if shutil.which("mosquitto"):
            broker = Mosquitto(folder)
            await broker.start()
            stack.push_async_callback(broker.stop)
            settings["mqtt"] = {"url": broker.url, "private_topics": True}
        bridge = await stack.enter_async_context(running(Settings.model_validate(settings)))
        yield Vtn(
            url=bridge.addresses["vtn"] + BASE,
            bl=static("bl"), ven1=static("ven1"), ven2=static("ven2"),
            bl_id="bl", ven1_id="ven1", ven2_id="ven2",
            client_id="ven1", client_secret=SECRETS["ven1"], profile=PROFILE,
        )  # fmt: skip
