"""Makes the objects that a test needs, and takes them away after it."""

from dataclasses import dataclass
from typing import Any

import pytest

from tests.conformance import bodies
from tests.conformance.bodies import Json
from tests.conformance.vtn import Answer, Client, Vtn

KINDS = ("programs", "events", "reports", "subscriptions", "vens", "resources")

NAMES = {
    "reports": "clientName",
    "subscriptions": "clientName",
    "resources": "resourceName",
    "vens": "venName",
    "programs": "programName",
}


@dataclass
class Made:
    """An object, the request that made it, and the client that may write it."""

    kind: str
    object: Json
    body: Json
    writer: Client

    @property
    def path(self) -> str:
        return f"/{self.kind}/{self.object['id']}"


class Making:
    """Makes objects on behalf of clients, and remembers what is to be deleted."""

    def __init__(self, vtn: Vtn, bl: Client, ven1: Client, ven2: Client, callback: str):
        self.vtn, self.bl, self.ven1, self.ven2, self._callback = vtn, bl, ven1, ven2, callback
        self._left: list[tuple[Client, str]] = []

    async def asked(self, client: Client, kind: str, body: Any) -> Answer:
        """Ask for an object, which is taken away later if it was made."""
        answer = await client.post(f"/{kind}", body)
        if answer.status == 201:
            self._left.append((client, f"/{kind}/{answer.json['id']}"))
        return answer

    async def made(self, client: Client, kind: str, body: Any) -> Json:
        answer = await self.asked(client, kind, body)
        assert answer.status == 201, answer.text
        found: Json = answer.json
        return found

    async def program(self, **more: Any) -> Json:
        return await self.made(self.bl, "programs", bodies.program(**more))

    async def event(self, program: Json | None = None, **more: Any) -> Json:
        of = program or await self.program()
        return await self.made(self.bl, "events", bodies.event(of["id"], **more))

    async def report(self, author: Client, event: Json | None = None, **more: Any) -> Json:
        on = event or await self.event()
        return await self.made(author, "reports", bodies.report(on["id"], **more))

    async def registered(self, client: Client, **more: Any) -> Json:
        """Let a VEN register its ven."""
        await self.forgotten(client)
        return await self.made(client, "vens", bodies.ven_by_ven(**more))

    async def granted(self, client: Client, *targets: str, **more: Any) -> Json:
        """Let BL make the ven of a VEN, with targets."""
        await self.forgotten(client)
        body = bodies.ven_by_bl(client.client_id, targets=list(targets), **more)
        return await self.made(self.bl, "vens", body)

    async def ven(self, *targets: str) -> Json:
        """Let BL make the ven of a client that nobody is."""
        body = bodies.ven_by_bl(bodies.name("nobody"), targets=list(targets))
        return await self.made(self.bl, "vens", body)

    async def forgotten(self, client: Client) -> None:
        """Delete the ven that an earlier run left for a client, which may have only one."""
        for ven in await self.bl.all("/vens"):
            if ven.get("clientID") == client.client_id:
                await self.bl.delete(f"/vens/{ven['id']}")

    async def subscription(
        self, client: Client, objects: str = "EVENT", operations: str = "CREATE", **more: Any
    ) -> Json:
        body = bodies.subscription(self.callback_url(), objects, operations, **more)
        return await self.made(client, "subscriptions", body)

    def callback_url(self) -> str:
        """Return a URL that the VTN takes for a callback."""
        profile = self.vtn.profile
        if profile.callbacks_http:
            return self._callback
        if profile.echo:
            pytest.skip("callbacks are challenged, and the kit's is not https")
        return bodies.UNREACHED

    async def one(self, kind: str) -> Made:
        """Make one object of any kind, by the client whose business it is."""
        writer = self.bl if kind in {"programs", "events"} else self.ven1
        if kind == "vens":
            await self.forgotten(self.ven1)
        body = await self.body(kind)
        return Made(kind, await self.made(writer, kind, body), body, writer)

    async def body(self, kind: str) -> Json:
        """Return a good body for a kind, and make what it refers to."""
        if kind == "programs":
            return bodies.program()
        if kind == "events":
            return bodies.event((await self.program())["id"])
        if kind == "reports":
            return bodies.report((await self.event())["id"])
        if kind == "subscriptions":
            return bodies.subscription(self.callback_url())
        if kind == "vens":
            return bodies.ven_by_ven()
        return bodies.resource_by_ven(await self.registered(self.ven1))

    async def undone(self) -> None:
        for client, path in reversed(self._left):
            answer = await client.delete(path)
            if answer.status == 403:
                answer = await self.bl.delete(path)
            assert answer.status in {200, 404}, answer.text


async def swept(*clients: Client) -> None:
    """Take away what is left of the kit's objects, by whoever may do so."""
    for kind, named in NAMES.items():
        for client in clients:
            for left in await client.all(f"/{kind}"):
                if left[named].startswith("kit-"):
                    await client.delete(f"/{kind}/{left['id']}")
