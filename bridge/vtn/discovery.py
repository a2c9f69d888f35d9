"""Announces the VTN on the local network: `_openadr3._tcp`, with all that a VEN may look for.

OpenADR 3.1.0 Definition, Discovery and Configuration of Local VTNs.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from bridge.clock import Clock
from bridge.supervise import Job
from bridge.vtn.openadr3.kinds import BASE

SERVICE = "_openadr3._tcp.local."
LOOKS = timedelta(minutes=10)  # how often the names of programs are looked at
LONGEST = 255 - len("program_names=")  # bytes of a TXT string

Names = Callable[[], Awaitable[Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Announced:
    """What is announced beside the address."""

    name: str
    hostname: str | None
    slash: bool  # whether base_path begins with one, as some VENs need it
    requires_auth: bool


class Announcement:
    """The job that keeps the announcement up to date."""

    def __init__(self, what: Announced, address: str, programs: Names, clock: Clock) -> None:
        self._what, self._address, self._programs, self._clock = what, address, programs, clock

    async def run(self, job: Job) -> None:
        """Announce until cancelled; withdraw the announcement then."""
        from zeroconf import ServiceInfo  # noqa: PLC0415 -- loaded only where it is on
        from zeroconf.asyncio import AsyncZeroconf  # noqa: PLC0415

        addresses = await asyncio.to_thread(_addresses, urlsplit(self._address).hostname or "")
        beacon = AsyncZeroconf(interfaces=addresses)
        try:
            said: dict[str, str] = {}
            name = f"{self._what.name}.{SERVICE}"
            while True:
                txt = self.properties(await self._programs())
                info = ServiceInfo(
                    SERVICE,
                    name,
                    parsed_addresses=addresses,
                    port=urlsplit(self._address).port,
                    properties=txt,
                    server=f"{self._host}.",
                )
                if not said:
                    await (await beacon.async_register_service(info, allow_name_change=True))
                elif said != txt:
                    await (await beacon.async_update_service(info))
                said, name = txt, info.name  # another one, where this was taken
                job.succeeded(self._clock.now())
                await self._clock.sleep(LOOKS.total_seconds())
        finally:
            await beacon.async_close()

    @property
    def _host(self) -> str:
        host = self._what.hostname or socket.gethostname().partition(".")[0]
        return host if host.endswith(".local") else f"{host}.local"

    def properties(self, programs: Sequence[str]) -> dict[str, str]:
        """Return the TXT record."""
        parts = urlsplit(self._address)
        origin = f"{parts.scheme}://{self._host}:{parts.port}"
        return {
            "version": BASE.rpartition("/")[2],
            "base_path": BASE if self._what.slash else BASE.lstrip("/"),
            "local_url": f"{origin}{BASE}",
            "program_names": _fitting(programs),
            "requires_auth": str(self._what.requires_auth),
            "openapi_url": f"{origin}/openapi.json",
            "role": "vtn",
        }


def _fitting(names: Sequence[str]) -> str:
    """Return as many names as a TXT string holds; none is cut in two, or holds a comma."""
    said = ""
    for name in names:
        longer = f"{said},{name}" if said else name
        if "," not in name and len(longer.encode()) <= LONGEST:
            said = longer
    return said


def _addresses(host: str) -> list[str]:
    """Return the addresses at which the listener is reached."""
    try:
        bound = ipaddress.ip_address(host)
        if not bound.is_unspecified:
            return [host]
    except ValueError:
        pass
    found = socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET, socket.SOCK_STREAM)
    return sorted({str(info[4][0]) for info in found})
