"""A moment at noon, and a source of usage on a store of its own."""

import pytest

from tests.peers import SimClock
from tests.sources.collecting import NOON, scene_of


@pytest.fixture
def clock():
    return SimClock(NOON)


@pytest.fixture
async def scene(tmp_path, clock):
    async with scene_of(tmp_path / "bridge.db", clock) as found:
        yield found
