"""Certificates, settings and a running bridge for tests."""

import shutil
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from bridge.app import running
from bridge.certificates import write_development_set
from bridge.config import Settings
from tests.mosquitto import Mosquitto

VEN = {"kind": "openadr2", "ven_name": "bridge"}


@pytest.fixture(scope="session")
def certs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("certs")
    for kind in ("rsa", "ec"):
        write_development_set(folder / kind, kind)
    return folder


@pytest.fixture
def settings(tmp_path):
    """Make settings from parts, with free ports and a store of the test's own."""

    def make(
        sources: list[dict[str, Any]] | None = None,
        devices: list[dict[str, Any]] | None = None,
        **others: Any,
    ) -> Settings:
        return Settings.model_validate(
            {
                "store": {"path": tmp_path / "bridge.db"},
                "vtn": {"listen": "127.0.0.1:0"},
                "admin": {"listen": "127.0.0.1:0"},
                "sources": [s if "kind" in s else {**VEN, **s} for s in sources or []],
                "devices": [{"kind": "webhook", **d} for d in devices or []],
                **others,
            }
        )

    return make


@pytest.fixture
def logged():
    """Return what is logged, wherever logs are sent."""
    with structlog.testing.capture_logs() as entries:
        yield entries


@pytest.fixture
def bridge():
    """Run a bridge for the length of a block."""

    @asynccontextmanager
    async def run(settings: Settings, clock: Any = None):
        async with running(settings, clock) as found:
            yield found

    return run


@pytest.fixture
def tls(certs):
    """Return the settings of a source that uses a development set."""

    def make(kind: str = "ec") -> dict[str, Any]:
        folder = certs / kind
        return {"cert": folder / "ven.crt", "key": folder / "ven.key", "ca": folder / "ca.crt"}

    return make


@pytest.fixture
def mosquitto(tmp_path):
    """Return what makes brokers; skip where there is no Mosquitto."""
    if not shutil.which("mosquitto"):
        pytest.skip("mosquitto is not at hand")
    return lambda *lines: Mosquitto(tmp_path, *lines)
