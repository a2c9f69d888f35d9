"""The sections of the settings file that are neither a source nor a device."""

import ipaddress
import ssl
from datetime import timedelta, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, field_validator, model_validator

from bridge import certificates
from bridge.broker import AtBroker, a_broker, read_password
from bridge.model import Document
from bridge.notation import Frozen, SomeTime, Zone
from bridge.outbound import Network, Policy
from bridge.store.clients import ALIASES, SCOPES, scopes_of
from bridge.usage import Contract
from bridge.vens import Wish
from bridge.vtn.openadr2 import Files, Terms
from bridge.vtn.openadr3 import Broker
from bridge.wire.openadr2_translated import Mains

LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class Site(Frozen):
    """The place."""

    timezone: Zone = "UTC"

    @property
    def zone(self) -> tzinfo:
        """Return the time zone."""
        return ZoneInfo(self.timezone)


class StoreFile(Frozen):
    """Where everything is kept."""

    path: Path = Path("bridge.db")


class Address(Frozen):
    """An address to serve at."""

    listen: str

    @field_validator("listen")
    @classmethod
    def _an_address(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        if not (colon and host and port.isdigit() and int(port) < 65536):
            raise ValueError('write host:port, such as "127.0.0.1:8080" or "[::1]:8080"')
        return value

    @property
    def host(self) -> str:
        """Return the host to listen on."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Return the port to listen on; 0 picks a free one."""
        return int(self.listen.rpartition(":")[2])

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in LOOPBACK


class Listener(Address):
    """An address to serve at, with TLS where a certificate is given."""

    cert: Path | None = None
    key: Path | None = None
    insecure_http: bool = False

    @model_validator(mode="after")
    def _safe(self) -> "Listener":
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key go together")
        if not self.loopback and self.cert is None and not self.insecure_http:
            raise ValueError(
                f"listen = {self.listen!r} is open to the network without TLS; give cert and key, "
                "listen on 127.0.0.1, or set insecure_http = true"
            )
        return self

    def tls(self) -> ssl.SSLContext | None:
        """Return the TLS context where a certificate is given."""
        if not (self.cert and self.key):
            return None
        certificates.check_match(self.cert, self.key)
        return certificates.server_context([self.cert], [self.key])


def _network(value: object) -> object:
    try:
        return ipaddress.ip_network(str(value))
    except ValueError as error:
        raise ValueError(f'{value!r} is no network; write one such as "192.168.0.0/16"') from error


class Callbacks(Frozen):
    """Where subscribers may be called: public addresses by https, and what else is said."""

    allow_http: bool = False
    allow_networks: tuple[Annotated[Network, BeforeValidator(_network)], ...] = ()
    echo: Literal["required", "best_effort", "off"] = "required"

    @property
    def policy(self) -> Policy:
        """Return what outgoing calls keep to."""
        return Policy(self.allow_http, self.allow_networks)


class Vtn(Listener):
    """What clients ask."""

    listen: str = "127.0.0.1:8080"
    public_prices: bool | None = None
    anonymous_read: bool = False
    rate_limit: int = Field(50, ge=1)  # requests of one client in a second
    callbacks: Callbacks = Callbacks()

    @property
    def open_prices(self) -> bool:
        """Whether prices need no token: on loopback unless refused, elsewhere if allowed."""
        return self.loopback if self.public_prices is None else self.public_prices


class Client(Frozen):
    """An OpenADR client that the settings know."""

    id: str = Field(min_length=1, max_length=128, pattern=r"^[^:]*$")
    role: Literal["bl", "ven"]
    scopes: tuple[str, ...] = ()
    secret_file: Path

    @field_validator("scopes")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for scope in value:
            if ALIASES.get(scope, scope) not in SCOPES:
                raise ValueError(f"{scope!r} is no scope; there are: {', '.join(SCOPES)}")
        return value

    @property
    def granted(self) -> list[str]:
        """Return all that it may do."""
        return scopes_of(self.role, self.scopes)

    def secret(self) -> str:
        """Return its secret; raise SettingsError when its file holds none."""
        return read_password(self.secret_file)


class Usage(Frozen):
    """How readings are taken in and kept."""

    largest_upload: int = Field(256 * 1024 * 1024, ge=1024)  # bytes of a Green Button file
    keep_native: SomeTime | None = None  # then only hours are kept of what is finer


class SettledContract(Frozen):
    """A customer's contract: its meters, whose prices hold, and who may see it."""

    id: str = Field(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")
    customer: str = Field(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")
    meters: tuple[str, ...] = ()
    program: str | None = None
    clients: tuple[str, ...] = ()
    rate_code: str | None = None
    voltage_class: str | None = None
    circuit: str | None = None
    cca: str | None = None

    @property
    def contract(self) -> Contract:
        """Return it as it is kept."""
        said = {
            "rateCode": self.rate_code, "voltageClass": self.voltage_class,
            "rateCodeHasVoltageClass": True if self.voltage_class else None,
            "circuitId": self.circuit, "hasCca": True if self.cca else None, "cca": self.cca,
        }  # fmt: skip
        return Contract(
            self.id, self.customer, self.meters, self.program,
            {name: value for name, value in said.items() if value is not None},
            frozenset(self.clients),
        )  # fmt: skip


class Mqtt(AtBroker):
    """The MQTT broker at which notifications are published."""

    client_url: str | None = None  # as clients reach it, where that is another address
    private_topics: bool = False
    authentication: Literal["ANONYMOUS", "OAUTH2_BEARER_TOKEN"] = "ANONYMOUS"

    @field_validator("client_url")
    @classmethod
    def _likewise(cls, value: str | None) -> str | None:
        return a_broker(value)

    @property
    def told(self) -> Broker:
        """Return what clients are told of the broker."""
        authentication: Document = {"method": self.authentication}
        if self.authentication == "OAUTH2_BEARER_TOKEN":
            authentication["username"] = "{clientID}"
        return Broker((self.client_url or self.url,), authentication, self.private_topics)


class Mdns(Frozen):
    """Whether, and as what, the bridge announces itself on the local network."""

    enabled: bool = False
    name: str = Field("openadr-bridge", min_length=1, max_length=63)
    hostname: str | None = None  # default: this machine's, with .local
    base_path_style: Literal["spec", "slash"] = "spec"


# OpenADR 2.0b, reportName: those that measure
REPORTS = ("TELEMETRY_USAGE", "TELEMETRY_STATUS", "HISTORY_USAGE")


class Report(Frozen):
    """A report that VENs are asked for, where they offer it."""

    report: str = "TELEMETRY_USAGE"
    ven: str = "*"
    resource: str = "*"
    every: SomeTime = timedelta(minutes=15)
    sampling: SomeTime = timedelta(minutes=1)
    history: SomeTime = timedelta(days=7)

    @field_validator("report")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in REPORTS and not value.startswith("x-"):
            raise ValueError(f"{value!r} is no report; there are: {', '.join(REPORTS)}, and x-…")
        return value

    @model_validator(mode="after")
    def _in_step(self) -> "Report":
        if self.every < self.sampling:
            raise ValueError("every is shorter than sampling: it is a multiple of it")
        return self

    @property
    def wish(self) -> Wish:
        """Return what is asked for."""
        return Wish(**dict(self))


class Vens(Address):
    """The VTN for OpenADR 2.0b devices: always with TLS and client certificates."""

    listen: str = "127.0.0.1:8081"
    vtn_id: str = Field("BRIDGE", min_length=1, max_length=64)
    cert: tuple[Path, ...]
    key: tuple[Path, ...]
    ca: Path
    legacy_ciphers: bool = False
    poll_interval: SomeTime = timedelta(seconds=10)
    require_signatures: bool | Literal["per-ven"] = False
    replay_window: SomeTime = timedelta(minutes=5)
    clock_skew: SomeTime = timedelta(minutes=1)
    rate_limit: int = Field(100, ge=1)
    mains_hertz: Decimal = Decimal(60)
    mains_voltage: Decimal = Decimal(120)
    reports: tuple[Report, ...] = ()

    @field_validator("cert", "key", mode="before")
    @classmethod
    def _some(cls, value: object) -> object:
        return value if isinstance(value, list | tuple) else (value,)

    @field_validator("poll_interval")
    @classmethod
    def _whole_seconds(cls, value: timedelta) -> timedelta:
        if value % timedelta(seconds=1):
            raise ValueError('2.0b knows whole seconds only; write one such as "10s"')
        return value

    @field_validator("vtn_id")
    @classmethod
    def _an_id(cls, value: str) -> str:
        if not any(c.isalpha() for c in value):
            raise ValueError(f"{value!r} is read as a number by some VENs; write a letter in it")
        return value

    @model_validator(mode="after")
    def _pairs(self) -> "Vens":
        if not self.cert or len(self.cert) != len(self.key):
            raise ValueError("each cert needs its key, in the same order")
        return self

    @property
    def files(self) -> Files:
        """Return where certificates, keys and authorities are."""
        return Files(self.cert, self.key, self.ca, self.legacy_ciphers)

    @property
    def terms(self) -> Terms:
        """Return what is asked of each message."""
        return Terms(
            self.vtn_id, self.require_signatures, self.replay_window, self.clock_skew,
            self.rate_limit,
        )  # fmt: skip

    @property
    def wishes(self) -> tuple[Wish, ...]:
        """Return what reports are asked for."""
        return tuple(report.wish for report in self.reports)

    @property
    def mains(self) -> Mains:
        """Return what is said of alternating current."""
        return Mains(self.mains_hertz, self.mains_voltage)

    def check_files(self) -> None:
        """Raise SettingsError where a file cannot be used."""
        self.files.context()
        self.files.signers()


class Admin(Listener):
    """The admin endpoint."""

    listen: str = "127.0.0.1:8580"
