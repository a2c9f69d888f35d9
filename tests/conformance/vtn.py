"""What the kit knows of the VTN under test, and how it speaks to it."""

import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from functools import cached_property
from typing import Any

from aiohttp import ClientSession, TCPConnector

from tests.conformance import schema

PAGE = 50  # the most that `limit` may ask for


@dataclass(frozen=True)
class Profile:
    """Where VTNs may differ: by the specification's leave, or by its silence."""

    bl_writes_reports: bool = False
    """BL's token holds write_reports, which the specification gives to VENs only."""
    unauthorized: frozenset[int] = frozenset({401, 403})
    """How a bad token may be answered; the reference implementation says 403."""
    echo: bool = True
    """Callbacks are challenged before a subscription is made (Definition, Webhooks)."""
    callbacks_http: bool = False
    """Callbacks to http://127.0.0.1 are allowed, as in a test bed."""
    private_topics: bool = True
    """The MQTT topics of BL and of single VENs are served."""
    all_topics: bool = True
    """Topic answers name ALL, "if supported by VTN"."""
    ven_id_is_target: bool = True
    """The id of a VEN's own ven counts as a target that it is granted."""
    discovers_targets: bool = True
    """A VEN that names no targets sees what it is granted (User Guide 8.13)."""
    exact_decimals: bool = True
    """Numbers come back digit for digit, beyond what a double can hold."""
    nulls: bool = False
    """Answers may contain nulls for what is absent."""

    @classmethod
    def from_json(cls, text: str) -> "Profile":
        given = json.loads(text or "{}")
        if "unauthorized" in given:
            given["unauthorized"] = frozenset(given["unauthorized"])
        return cls(**given)

    def to_json(self) -> str:
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return json.dumps({**found, "unauthorized": sorted(self.unauthorized)})


@dataclass(frozen=True)
class Vtn:
    """The VTN under test: its address, and the tokens of four clients of the kit's own."""

    url: str
    bl: str
    ven1: str
    ven2: str
    bad: str = "bad_token"
    ven1_id: str = "ven_client"
    ven2_id: str = "ven_client2"
    bl_id: str = "bl_client"
    """Needed for MQTT only, where the broker wants `{clientID}` as the user's name."""
    client_id: str = ""
    """Credentials of ven1, for the tests of /auth/token."""
    client_secret: str = ""
    ca: str = ""
    """A file of certificates to trust for https and mqtts."""
    profile: Profile = field(default_factory=Profile)

    @classmethod
    def from_environment(cls) -> "Vtn | None":
        given = {name: os.environ[key] for name, key in ENVIRONMENT.items() if os.environ.get(key)}
        if "url" not in given:
            return None
        profile = Profile.from_json(os.environ.get("VTN_PROFILE", ""))
        return cls(**{**given, "url": given["url"].rstrip("/")}, profile=profile)

    def environment(self) -> dict[str, str]:
        """Return the variables that name this VTN to another run of the kit."""
        named = {key: getattr(self, name) for name, key in ENVIRONMENT.items()}
        return {**named, "VTN_PROFILE": self.profile.to_json()}

    @property
    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca or None)


ENVIRONMENT = {
    "url": "VTN_URL",
    "bl": "BL_TOKEN",
    "ven1": "VEN1_TOKEN",
    "ven2": "VEN2_TOKEN",
    "bad": "BAD_TOKEN",
    "ven1_id": "VEN1_ID",
    "ven2_id": "VEN2_ID",
    "bl_id": "BL_ID",
    "client_id": "VTN_CLIENT_ID",
    "client_secret": "VTN_CLIENT_SECRET",
    "ca": "VTN_CA",
}


@dataclass
class Answer:
    """What the VTN answered."""

    status: int
    headers: Mapping[str, str]
    text: str

    @cached_property
    def json(self) -> Any:
        return json.loads(self.text)

    @cached_property
    def exact(self) -> Any:
        """Return the body with its numbers as they were written."""
        return json.loads(self.text, parse_float=Decimal)


class Client:
    """One client of the VTN. Each answer must have the form that is documented for it."""

    def __init__(self, vtn: Vtn, http: ClientSession, token: str, client_id: str = ""):
        self.vtn, self.http, self.token, self.client_id = vtn, http, token, client_id

    async def get(
        self, path: str, headers: Mapping[str, str] | None = None, **query: Any
    ) -> Answer:
        return await self.ask("GET", path, headers=headers, query=query)

    async def post(self, path: str, body: Any) -> Answer:
        return await self.ask("POST", path, body)

    async def put(self, path: str, body: Any) -> Answer:
        return await self.ask("PUT", path, body)

    async def delete(self, path: str) -> Answer:
        return await self.ask("DELETE", path)

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Send a request; a body that is text goes out as it stands, anything else as JSON."""
        sent = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if body is not None:
            sent["Content-Type"] = "application/json"
            body = body if isinstance(body, str) else json.dumps(body)
        async with self.http.request(
            method,
            self.vtn.url + path,
            data=body,
            headers={**sent, **(headers or {})},
            params=[(k, v) for k, vs in (query or {}).items() for v in _each(vs)],
            allow_redirects=False,
        ) as reply:
            answer = Answer(reply.status, reply.headers.copy(), await reply.text())
        schema.check(method, path, answer)
        return answer

    async def all(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """Return a list of whatever length, page by page."""
        found: list[dict[str, Any]] = []
        while True:
            page = await self.get(path, **query, skip=len(found), limit=PAGE)
            assert page.status == 200, page.text
            found += page.json
            if len(page.json) < PAGE:
                return found

    async def ids(self, path: str, **query: Any) -> set[str]:
        return {found["id"] for found in await self.all(path, **query)}


def connection(vtn: Vtn) -> ClientSession:
    """Open what all clients of the kit share."""
    secure = vtn.url.startswith("https:")
    return ClientSession(connector=TCPConnector(ssl=vtn.tls if secure else True))


def _each(value: Any) -> list[str]:
    values = value if isinstance(value, list | tuple) else [value]
    return [str(v).lower() if isinstance(v, bool) else str(v) for v in values]
