"""Calls to addresses that others chose: only where the policy allows it, wherever DNS leads.

Every connection is judged by the address it is really made to, at the moment it is made: a
name that leads elsewhere the second time is refused the second time. Redirects are not followed.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientSession, DummyCookieJar, TCPConnector
from yarl import URL

from bridge.errors import Unfit

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# Addresses that hold another one: what is behind them cannot be told from here.
_TRANSLATED = [ipaddress.ip_network(n) for n in (
    "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "::/96", "::ffff:0:0:0/96", "fec0::/10",
    "192.88.99.0/24",
)]  # fmt: skip
NOT_PUBLIC = (
    "callbackUrl: leads to an address that is not public; [vtn.callbacks] allow_networks may"
    " allow it"
)
LOOKS_UP = 5.0  # seconds for a name


class Guarded(OSError):  # noqa: N818 -- reads as a fact at the raise
    """The policy forbids a call to this address."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"{address} is not a public address; [vtn.callbacks] allow_networks may allow it"
        )
        self.strerror = str(self.args[0])


@dataclass(frozen=True, slots=True)
class Policy:
    """Whither calls may go: to public addresses by https, and what else is allowed."""

    allow_http: bool = False
    networks: tuple[Network, ...] = ()

    def allows(self, address: str) -> bool:
        """Whether a call to an IP address is allowed."""
        found = ipaddress.ip_address(address.partition("%")[0])
        found = getattr(found, "ipv4_mapped", None) or found
        if any(found in n for n in self.networks if n.version == found.version):
            return True
        translated = any(found in n for n in _TRANSLATED if n.version == found.version)
        return found.is_global and not found.is_multicast and not translated

    async def check(self, text: str) -> URL:
        """Return a callback URL; raise Unfit where it cannot be called.

        A name that is not known now may be known later.
        """
        try:
            url = URL(text)
            host, _ = url.host, url.port
        except ValueError as error:
            raise Unfit(f"callbackUrl: is not a URL ({type(error).__name__})") from error
        if url.user or url.password:
            raise Unfit("callbackUrl: holds a user or a password; use bearerToken")
        schemes = ("https", "http") if self.allow_http else ("https",)
        if url.scheme not in schemes or not host:
            raise Unfit(
                f"callbackUrl: must begin with {' or '.join(f'{s}://' for s in schemes)} and name"
                " a host; [vtn.callbacks] allow_http allows http"
            )
        if not all(self.allows(address) for address in await _addresses(host)):
            raise Unfit(NOT_PUBLIC)
        return url

    def session(self) -> ClientSession:
        """Return a session of which every connection keeps to the policy."""
        connector = TCPConnector(limit=1000, socket_factory=self._socket)
        return ClientSession(connector=connector, cookie_jar=DummyCookieJar())

    def _socket(self, info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, address = info
        if not self.allows(address[0]):
            raise Guarded(address[0])
        return socket.socket(family=family, type=kind, proto=protocol)


async def _addresses(host: str) -> Collection[str]:
    """Return what a name means now; nothing where it is not known."""
    try:
        async with asyncio.timeout(LOOKS_UP):
            found = await asyncio.get_running_loop().getaddrinfo(
                host, None, type=socket.SOCK_STREAM
            )
    except (OSError, TimeoutError, UnicodeError):
        return []
    return {str(info[4][0]) for info in found}
