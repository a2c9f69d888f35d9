"""An MQTT broker: where it is, and who the bridge is there."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import field_validator

from bridge.errors import SettingsError
from bridge.notation import Frozen

PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where a broker is, and who the bridge is there."""

    url: str
    username: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None

    @property
    def host(self) -> str:
        """Return the broker's host."""
        return urlsplit(self.url).hostname or "127.0.0.1"

    @property
    def port(self) -> int:
        """Return the broker's port."""
        parts = urlsplit(self.url)
        return parts.port or PORTS[parts.scheme]


def a_broker(value: str | None) -> str | None:
    """Return a broker's URL; raise ValueError where it is none."""
    parts = urlsplit(value or "mqtt://x")
    try:
        good = parts.scheme in PORTS and parts.hostname and (parts.port or 1)
    except ValueError:
        good = False
    if not good or parts.username:
        raise ValueError(
            'write mqtt://host:port or mqtts://host:port, such as "mqtt://127.0.0.1:1883"'
        )
    return value


def read_password(file: Path) -> str:
    """Return a secret from its file; raise SettingsError where it holds none."""
    try:
        secret = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: {error}") from error
    if not secret:
        raise SettingsError(f"{file}: is empty; it should hold a secret")
    return secret


class AtBroker(Frozen):
    """The settings that say where a broker is."""

    url: str
    username: str | None = None
    password_file: Path | None = None
    ca: Path | None = None

    @field_validator("url")
    @classmethod
    def _a_broker(cls, value: str) -> str | None:
        return a_broker(value)

    def check_files(self) -> None:
        """Raise SettingsError where a file cannot be used."""
        _ = self.broker

    @property
    def broker(self) -> BrokerAddress:
        """Return where the broker is, and who the bridge is there."""
        password = read_password(self.password_file) if self.password_file else None
        tls = None
        if self.url.startswith("mqtts:"):
            try:
                tls = ssl.create_default_context(cafile=self.ca)
            except OSError as error:
                raise SettingsError(f"{self.ca}: {error}") from error
        return BrokerAddress(self.url, self.username, password, tls)
