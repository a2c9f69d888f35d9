import pytest

from tests.reporting.scene import Scene


@pytest.fixture
async def scene(tmp_path, certs):
    made = Scene(tmp_path, certs)
    await made.open()
    yield made
    await made.vtn.stop()
