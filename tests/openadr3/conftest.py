"""A running bridge with clients."""

from contextlib import asynccontextmanager

import pytest

from tests.openadr3.clients import calling, with_clients


@pytest.fixture
def vtn(settings, bridge, tmp_path):
    """Run a bridge with clients; yield it with a way to call its VTN."""

    @asynccontextmanager
    async def run(clock=None, sources=None, devices=None, vtn=None, **others):
        made = settings(sources, devices, **{**with_clients(tmp_path, **(vtn or {})), **others})
        async with bridge(made, clock) as running, calling(running.addresses["vtn"]) as found:
            found.bridge = running
            yield found

    return run
