"""The VTN under test, its clients, and what tests make there.

All tests of the kit share one event loop, so that a VTN served by the kit outlives a test.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientSession

from tests.conformance import ours, schema
from tests.conformance import vtn as under_test
from tests.conformance.callback import Callbacks, Inbox
from tests.conformance.making import Making
from tests.conformance.vtn import Client, Vtn

session = pytest_asyncio.fixture(scope="session", loop_scope="session")
each = pytest_asyncio.fixture(loop_scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if schema.document() is None:
        terminalreporter.write_line("conformance: no YAML, so answers were not held against it")


@session
async def vtn() -> AsyncIterator[Vtn]:
    """Name the VTN under test: the one of VTN_URL, or our own."""
    if named := Vtn.from_environment():
        yield named
    else:
        async with ours.serving() as served:
            yield served


@session
async def http(vtn: Vtn) -> AsyncIterator[ClientSession]:
    async with under_test.connection(vtn) as opened:
        yield opened


@session
async def callbacks() -> AsyncIterator[Callbacks]:
    async with Callbacks().served() as served:
        yield served


@each
async def inbox(vtn: Vtn, callbacks: Callbacks) -> Inbox:
    """Return a callback URL, where the VTN takes one that is not https."""
    if not vtn.profile.callbacks_http:
        pytest.skip("the kit's callback is not https")
    return callbacks.inbox()


@pytest.fixture
def bl(vtn: Vtn, http: ClientSession) -> Client:
    return Client(vtn, http, vtn.bl, vtn.bl_id)


@pytest.fixture
def ven1(vtn: Vtn, http: ClientSession) -> Client:
    return Client(vtn, http, vtn.ven1, vtn.ven1_id)


@pytest.fixture
def ven2(vtn: Vtn, http: ClientSession) -> Client:
    return Client(vtn, http, vtn.ven2, vtn.ven2_id)


@pytest.fixture
def bad(vtn: Vtn, http: ClientSession) -> Client:
    """A client whose token is worth nothing."""
    return Client(vtn, http, vtn.bad)


@pytest.fixture
def nobody(vtn: Vtn, http: ClientSession) -> Client:
    """A client without a token."""
    return Client(vtn, http, "")


@each
async def make(
    vtn: Vtn, bl: Client, ven1: Client, ven2: Client, callbacks: Callbacks
) -> AsyncIterator[Making]:
    making = Making(vtn, bl, ven1, ven2, callbacks.inbox().url)
    yield making
    await making.undone()


@each
async def mqtt(bl: Client) -> dict[str, Any]:
    """Return what /notifiers says of MQTT, which is nothing when there is none."""
    found: dict[str, Any] = (await bl.get("/notifiers")).json.get("MQTT") or {}
    return found
