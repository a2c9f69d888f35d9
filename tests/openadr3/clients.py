"""Clients of the bridge's OpenADR 3 VTN for tests: who they are, and one way to call."""

import asyncio
import base64
import json
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import ClientSession

SECRETS = {"bl": "1001-business-logic", "ven1": "999-ven-one", "ven2": "9999-ven-two"}
BASE = "/openadr3/3.1.0"
LAN = {"allow_http": True, "allow_networks": ["127.0.0.0/8"], "echo": "off"}


def with_clients(folder, **vtn: Any) -> dict[str, Any]:
    """Return settings with one business-logic client and two VENs."""
    for name, secret in SECRETS.items():
        (folder / f"{name}.secret").write_text(secret)
    return {
        "vtn": {"listen": "127.0.0.1:0", "callbacks": LAN, **vtn},
        "clients": [
            {"id": name, "role": name.rstrip("12"), "secret_file": folder / f"{name}.secret"}
            for name in SECRETS
        ],
    }


def static(name: str, secret: str | None = None) -> str:
    """Return a static bearer token."""
    return base64.b64encode(f"{name}:{secret or SECRETS[name]}".encode()).decode()


class Answer(NamedTuple):
    status: int
    json: Any
    headers: Any
    text: str


class Vtn:
    """Calls the VTN in somebody's name: `await vtn("bl").post("/programs", {...})`."""

    def __init__(self, http: ClientSession, url: str) -> None:
        self.http, self.url = http, url

    def __call__(self, name: str | None = None, token: str | None = None) -> "Client":
        if token is None and name is not None:
            token = static(name)
        return Client(self, {"Authorization": f"Bearer {token}"} if token else {})


class Client:
    def __init__(self, vtn: Vtn, headers: dict[str, str]) -> None:
        self._vtn, self._headers = vtn, headers

    async def call(self, method: str, path: str, body: Any = None, **more: Any) -> Answer:
        headers = {**self._headers, **more.pop("headers", {})}
        if body is not None:
            more |= {"data": body if isinstance(body, str | bytes) else json.dumps(body)}
            headers.setdefault("Content-Type", "application/json")
        url = self._vtn.url + BASE + path
        async with self._vtn.http.request(method, url, headers=headers, **more) as reply:
            text = await reply.text()
            try:
                said = json.loads(text)
            except ValueError:
                said = None
            return Answer(reply.status, said, reply.headers, text)

    async def get(self, path: str, **more: Any) -> Answer:
        return await self.call("GET", path, **more)

    async def post(self, path: str, body: Any, **more: Any) -> Answer:
        return await self.call("POST", path, body, **more)

    async def put(self, path: str, body: Any, **more: Any) -> Answer:
        return await self.call("PUT", path, body, **more)

    async def delete(self, path: str, **more: Any) -> Answer:
        return await self.call("DELETE", path, **more)

    async def made(self, path: str, body: Any) -> Any:
        """Make an object and return it."""
        answer = await self.post(path, body)
        assert answer.status == 201, answer.text
        return answer.json


@asynccontextmanager
async def calling(url: str):
    async with ClientSession() as http:
        yield Vtn(http, url)


def prices(program: str, start: str, *values: Any, **more: Any) -> dict[str, Any]:
    """Return an event of hourly prices."""
    return {
        "programID": program,
        "intervalPeriod": {"start": start, "duration": "PT1H"},
        "intervals": [
            {"id": n, "payloads": [{"type": "PRICE", "values": [v]}]} for n, v in enumerate(values)
        ],
        **more,
    }


def subscription(url: str, *objects: str, operations=("CREATE", "UPDATE", "DELETE"), **more: Any):
    entry = {
        "objects": list(objects),
        "operations": list(operations),
        "callbackUrl": url,
        "bearerToken": "test-token",
    }
    return {"clientName": "test", "objectOperations": [entry], **more}


async def until(condition: Any, within: float = 15.0) -> Any:
    """Return what an async condition returns once it holds."""
    async with asyncio.timeout(within):
        while True:
            if found := await condition():
                return found
            await asyncio.sleep(0.01)
