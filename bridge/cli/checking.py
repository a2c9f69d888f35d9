"""What can be said of settings without starting the bridge."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

from bridge.broker import BrokerAddress
from bridge.certificates import check_validity, explain_handshake, fingerprint_matches
from bridge.config import Settings
from bridge.errors import BridgeError
from bridge.model import Document
from bridge.sources import AnySource, Mqtt, OpenADR2
from bridge.store import files

TIMEOUT = 5.0  # seconds for each peer


async def check_all(settings: Settings) -> list[Document]:
    """Return what was looked at, whether it is well, and what there is to say."""
    return [{"check": name, "ok": ok, "says": says} async for name, ok, says in _checks(settings)]


async def _checks(settings: Settings) -> AsyncIterator[tuple[str, bool, str]]:
    parts = ("sources", "devices", "clients")
    yield "settings", True, ", ".join(f"{len(getattr(settings, p))} {p}" for p in parts)
    yield _store(settings)
    for source in settings.sources:
        if source.cert:
            yield _certificate(f"source {source.name} certificate", source.cert)
        yield await _reach(source)
    for path in settings.openadr2.cert if settings.openadr2 else ():
        yield _certificate(f"openadr2 certificate {path.name}", path)
    if settings.mqtt:
        yield await _reach_broker("mqtt broker", settings.mqtt.broker)
    for device in settings.devices:
        host, port = device.url.host or "", device.url.port or 80
        says = await _connect(host, port, None)
        name = f"device {device.name}"
        yield (
            name,
            True,
            f"{host}:{port} {'answers' if not says else 'does not answer now: ' + says}",
        )


def _store(settings: Settings) -> tuple[str, bool, str]:
    path = settings.store.path
    if not path.exists():
        folder = next(p for p in path.parents if p.exists())
        if not os.access(folder, os.W_OK):
            return "store", False, f"{path} cannot be made: {folder} cannot be written to"
        return "store", True, f"{path} will be made"
    try:
        return "store", True, f"{path}, store_id {files.check(path)['store_id']}"
    except BridgeError as error:
        return "store", False, str(error)


def _certificate(name: str, path: Path) -> tuple[str, bool, str]:
    try:
        found = check_validity(path)
    except BridgeError as error:
        return name, False, str(error)
    return name, True, f"fingerprint {found.fingerprint}, valid to {found.not_after:%Y-%m-%d}"


async def _reach(source: AnySource) -> tuple[str, bool, str]:
    if isinstance(source, OpenADR2):
        return await _reach_vtn(source)
    if isinstance(source, Mqtt):
        return await _reach_broker(f"source {source.name}", source.broker)
    address = source.address
    if address is None:
        return f"source {source.name}", True, "asks nobody"
    tls = ssl.create_default_context() if address.scheme == "https" else None
    host, port = address.host or "", address.port or 443
    says = await _connect(host, port, tls)
    return f"source {source.name}", not says, says or f"{host}:{port} answers"


async def _reach_broker(name: str, broker: BrokerAddress) -> tuple[str, bool, str]:
    says = await _connect(broker.host, broker.port, broker.tls)
    return name, not says, says or f"{broker.host}:{broker.port} answers"


async def _reach_vtn(source: OpenADR2) -> tuple[str, bool, str]:
    host, port = source.vtn_url.host or "", source.vtn_url.port or 443
    if source.proxy:
        return (
            f"source {source.name}",
            True,
            f"{host}:{port} is asked through {source.proxy.host}",
        )
    says = await _connect(host, port, source.tls(), source.vtn_fingerprint)
    return f"source {source.name}", not says, says or f"{host}:{port} answers"


async def _connect(
    host: str, port: int, tls: ssl.SSLContext | None, fingerprint: str | None = None
) -> str:
    """Return what is wrong with connecting, or nothing."""
    try:
        async with asyncio.timeout(TIMEOUT):
            _, writer = await asyncio.open_connection(host.strip("[]"), port, ssl=tls)
    except TimeoutError:
        return f"no connection within {TIMEOUT:g} s"
    except OSError as error:  # an SSLError is one too
        return explain_handshake(error) or str(error)
    peer = writer.get_extra_info("ssl_object")
    writer.close()
    der = peer.getpeercert(binary_form=True) if peer else None
    if fingerprint and der and not fingerprint_matches(fingerprint, der):
        return "its certificate has another fingerprint than vtn_fingerprint says"
    return ""
