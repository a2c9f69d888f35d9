"""Callback URLs: challenged, guarded, and called only where the policy allows it."""

import asyncio
import socket
from datetime import UTC, datetime

import pytest
from aiohttp import web

from bridge.outbound import Guarded, Policy
from bridge.store.access import new_token
from bridge.store.files import beside
from tests.openadr3.clients import subscription, until
from tests.peers import Device, Served, eventually, started

LAN = {"allow_http": True, "allow_networks": ["127.0.0.0/8"]}


class Echo(Device):
    """A callback that answers the challenge as it is told to."""

    def __init__(self, answer=None):
        super().__init__()
        self.asked = []
        self.reply = answer or (lambda word: web.Response(text=word))

    async def answer(self, request):
        if request.method == "GET":
            self.asked.append(request.query["echo"])
            return self.reply(request.query["echo"])
        return await super().answer(request)


async def test_the_challenge_is_answered_with_its_word(vtn):
    callback = Echo()
    async with started(callback), vtn(vtn={"callbacks": LAN}) as call:
        made = await call("ven1").made("/subscriptions", subscription(callback.url, "PROGRAM"))
        assert (len(callback.asked), len(callback.asked[0]) > 20) == (1, True)
        again = await call("ven1").put(
            f"/subscriptions/{made['id']}", subscription(f"{callback.url}?a=b", "PROGRAM")
        )
        assert again.status == 200
        assert callback.asked[0] != callback.asked[1]  # on update, and another word
        await call("bl").made("/programs", {"programName": "P"})
        await eventually(lambda: callback.bodies)


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: web.Response(text="hello"),
        lambda word: web.Response(text=word, status=201),
        lambda word: web.Response(status=302, headers={"Location": f"/?echo={word}"}),
        lambda _: web.Response(text="x" * 5_000_000),
        lambda _: web.Response(status=500),
    ],
    ids=["another word", "201", "a redirect", "a flood", "500"],
)
async def test_without_the_word_there_is_no_subscription(vtn, answer):
    callback = Echo(answer)
    async with started(callback):
        for echo, status in (("required", 400), ("best_effort", 201), ("off", 201)):
            async with vtn(vtn={"callbacks": {**LAN, "echo": echo}}) as call:
                found = await call("ven1").post(
                    "/subscriptions", subscription(callback.url, "PROGRAM")
                )
                assert found.status == status, (echo, found.text)
                listed = (await call("ven1").get("/subscriptions")).json
                assert bool(listed) == (status == 201)
                for one in listed:
                    await call("ven1").delete(f"/subscriptions/{one['id']}")
    async with vtn(vtn={"callbacks": LAN}) as call:  # nobody is there at all
        found = await call("ven1").post("/subscriptions", subscription(callback.url, "PROGRAM"))
        assert (found.status, "did not answer" in found.json["detail"]) == (400, True)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/", "http://localhost:9/", "http://10.0.0.1/", "http://192.168.1.1/", "http://169.254.169.254/latest",
        "http://[::1]:9/", "http://[::ffff:127.0.0.1]:9/", "http://[fe80::1]/", "http://[64:ff9b::7f00:1]/", "http://0.0.0.0:9/",
        "http://2130706433/", "http://0x7f.1/", "http://127.1/", "http://224.0.0.1/",
    ],
)  # fmt: skip
async def test_what_is_not_public_is_refused_unless_the_policy_allows_it(vtn, url):
    async with vtn(vtn={"callbacks": {"allow_http": True, "echo": "off"}}) as call:
        found = await call("bl").post("/subscriptions", subscription(url, "PROGRAM"))
        assert (found.status, "callbackUrl" in found.json["detail"]) == (400, True), found.text


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "file:///etc/passwd",
        "https://",
        "https:///x",
        "https://u:p@example.com/",
        "http://example.com/",
        "https://[::1",
        "x",
    ],
)
async def test_what_is_no_https_url_is_refused(vtn, url):
    async with vtn(vtn={"callbacks": {"echo": "off"}}) as call:
        found = await call("bl").post("/subscriptions", subscription(url, "PROGRAM"))
        assert (found.status, "callbackUrl" in found.json["detail"]) == (400, True), found.text
        assert (
            await call("bl").post(
                "/subscriptions", subscription("https://example.com/callback", "PROGRAM")
            )
        ).status == 201


async def test_a_name_that_leads_elsewhere_the_second_time_is_refused_then(vtn, monkeypatch):
    """DNS that changes its mind: every connection is judged by the address it is made to."""
    callback, loop = Echo(), asyncio.get_running_loop()
    real, leads_to = loop.getaddrinfo, ["127.0.0.1"]

    async def resolve(host, port, **about):
        if host == "callback.example":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (leads_to[0], port or 0))]
        return await real(host, port, **about)

    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    async with (
        started(callback),
        vtn(
            vtn={
                "callbacks": {"allow_http": True, "allow_networks": ["127.0.0.1/32"], "echo": "off"}
            }
        ) as call,
    ):
        url = callback.url.replace("127.0.0.1", "callback.example")
        made = await call("ven1").made("/subscriptions", subscription(url, "PROGRAM"))
        leads_to[0] = "127.0.0.2"
        await call("bl").made("/programs", {"programName": "P"})

        async def problem():
            (one,) = await call.bridge.store.subscriptions.listing()
            return one["last_problem"]

        assert "127.0.0.2 is not a public address" in await until(problem)
        assert callback.bodies == []
        found = await call("ven1").put(f"/subscriptions/{made['id']}", subscription(url, "PROGRAM"))
        assert found.status == 400  # nor is it taken any more


async def test_redirects_are_not_followed(vtn):
    class Elsewhere(Served):
        async def answer(self, _request):
            return web.Response(status=307, headers={"Location": inside.url})

    inside, outside = Device(), Elsewhere()
    async with started(inside, outside), vtn() as call:
        await call("ven1").made("/subscriptions", subscription(outside.url, "PROGRAM"))
        await call("bl").made("/programs", {"programName": "P"})

        async def problem():
            (one,) = await call.bridge.store.subscriptions.listing()
            return one["last_problem"]

        assert "307" in await until(problem)
        assert inside.received == []


def test_addresses_are_judged_as_what_they_are():
    policy = Policy(networks=())
    public = ("8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8")
    private = (
        "10.1.2.3",
        "127.0.0.1",
        "::1",
        "fd00::1",
        "fe80::1%eth0",
        "100.64.0.1",
        "::127.0.0.1",
        "::ffff:0:127.0.0.1",
        "fec0::1",
        "192.0.2.1",
        "255.255.255.255",
        "2002:7f00:1::1",
        "64:ff9b::a00:1",
        "ff02::1",
        "240.0.0.1",
        "0.0.0.0",  # noqa: S104 -- judged, not bound
    )
    assert [policy.allows(a) for a in public] == [True] * len(public)
    assert [policy.allows(a) for a in private] == [False] * len(private)
    assert "allow_networks" in str(Guarded("10.1.2.3"))


async def test_a_dead_subscriber_delays_no_other_and_410_ends_it(vtn):
    dead, alive = Device(), Device()
    async with started(dead, alive), vtn() as call:
        for device in (dead, alive):
            await call("ven1").made("/subscriptions", subscription(device.url, "PROGRAM"))
        dead.hang = True
        for n in range(5):
            await call("bl").made("/programs", {"programName": f"P{n}"})
        await eventually(lambda: len(alive.bodies) == 5)
        assert [b["object"]["programName"] for b in alive.bodies] == [f"P{n}" for n in range(5)]
        alive.status = 410
        await call("bl").made("/programs", {"programName": "last"})

        async def listing():
            return any(s["disabled"] for s in await call.bridge.store.subscriptions.listing())

        await until(listing)
        alive.status = 204
        await call("bl").made("/programs", {"programName": "never told"})
        with beside(call.bridge.store.path) as db:
            admin = {"Authorization": f"Bearer {new_token(db, 'me', 'read', datetime.now(UTC))}"}
        url = f"{call.bridge.addresses['admin']}/api/v1/subscriptions"

        async def owed():
            async with call.http.get(url, headers=admin) as reply:
                items = (await reply.json())["items"]
            assert [i["disabled"] for i in items] == [None, "answered 410 Gone"]
            return items[0]["owed"] == 7

        await until(owed)
        assert len(alive.bodies) == 5
