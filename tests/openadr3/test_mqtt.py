"""Notifications at a real Mosquitto: what is told where, and that nothing is lost on the way."""

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from datetime import UTC, date, datetime, timedelta

import aiomqtt

from tests.openadr3.clients import prices, subscription, until
from tests.openadr3.test_objects import passing
from tests.peers import Device, RawVtn, SimClock, event, eventually, signal, started
from tests.utilities import GridX

NOON = datetime(2026, 3, 1, 20, tzinfo=UTC)
START = "2027-03-14T19:00:00Z"


class Listener:
    """A client of the broker that keeps what it is told, by topic."""

    def __init__(self, broker, *topics, **about):
        self.broker, self.topics, self.about = broker, topics, about
        self.received = []

    @property
    def bodies(self):
        return [json.loads(payload) for _, payload in self.received]

    async def start(self):
        self._ready = asyncio.Event()
        self._task = asyncio.create_task(self._listen())
        await asyncio.wait_for(self._ready.wait(), 10)

    async def _listen(self):
        while True:
            with suppress(aiomqtt.MqttError):
                async with aiomqtt.Client(
                    "127.0.0.1", self.broker.port, timeout=5, **self.about
                ) as client:
                    for topic in self.topics:
                        await client.subscribe(topic, qos=1)
                    self._ready.set()
                    async for message in client.messages:
                        self.received.append((str(message.topic), message.payload))
            await asyncio.sleep(0.05)

    async def stop(self):
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


def mqtt(broker, **about):
    return {"url": broker.url, "private_topics": True, **about}


@asynccontextmanager
async def topics_of(client, *paths):
    """Return the topics that a client is told of."""
    found = []
    for path in paths:
        answer = await client.get(f"/notifiers/mqtt/topics/{path}")
        assert answer.status == 200, answer.text
        found.append(answer.json["topics"]["ALL"])
    yield found


async def test_topics_are_discovered_and_each_client_hears_what_is_for_it(vtn, mosquitto):
    broker = mosquitto()
    await broker.start()
    try:
        async with vtn(mqtt=mqtt(broker)) as call:
            bl, ven = call("bl"), call("ven1")
            assert (await ven.get("/notifiers")).json["MQTT"]["URIS"] == [broker.url]
            me = await ven.made("/vens", {"objectType": "VEN_VEN_REQUEST", "venName": "me"})
            program = await bl.made("/programs", {"programName": "P"})
            mine = [f"vens/{me['id']}{kind}" for kind in ("", "/events", "/programs", "/resources")]
            open_to_all = [
                "programs",
                f"programs/{program['id']}",
                f"programs/{program['id']}/events",
            ]
            async with (
                topics_of(ven, *mine, *open_to_all) as own,
                topics_of(
                    bl, "events", "reports", "subscriptions", "vens", "resources"
                ) as all_of_it,
            ):
                one, two = Listener(broker, *own), Listener(broker, *all_of_it)
                async with started(one, two):
                    made = await bl.made("/events", prices(program["id"], START, 0.10))
                    await bl.made(
                        "/events", prices(program["id"], START, 1, targets=["x", me["id"]])
                    )
                    await bl.made("/events", prices(program["id"], START, 1, targets=["x"]))
                    await bl.put(f"/programs/{program['id']}", {"programName": "P2"})
                    await ven.made("/resources", {"resourceName": "meter"})
                    await ven.put(
                        f"/vens/{me['id']}", {"objectType": "VEN_VEN_REQUEST", "venName": "me2"}
                    )
                    await ven.made(
                        "/reports", {"eventID": made["id"], "clientName": "c", "resources": []}
                    )
                    await bl.delete(f"/events/{made['id']}")
                    await bl.delete(f"/programs/{program['id']}")
                    await eventually(
                        lambda: (
                            ("PROGRAM", "DELETE")
                            in {(b["objectType"], b["operation"]) for b in one.bodies}
                        )
                    )
                    await eventually(
                        lambda: sum(b["operation"] == "DELETE" for b in two.bodies) == 4
                    )
        prefix = "OpenADR/3.1.0/"
        heard = [
            (t.removeprefix(prefix), b["objectType"])
            for (t, _), b in zip(one.received, one.bodies, strict=True)
        ]
        p, v = f"programs/{program['id']}", f"vens/{me['id']}"
        assert heard == [
            (f"{p}/events/create", "EVENT"), (f"{v}/events/create", "EVENT"),
            ("programs/update", "PROGRAM"), (f"{p}/update", "PROGRAM"),
            (f"{v}/resources/create", "RESOURCE"), (f"{v}/update", "VEN"),
            (f"{p}/events/delete", "EVENT"), (f"{v}/events/delete", "EVENT"),
            ("programs/delete", "PROGRAM"), (f"{p}/delete", "PROGRAM"),
        ]  # fmt: skip
        assert {t for b in one.bodies for t in b["object"].get("targets", ())} == {me["id"]}
        assert (
            sum(b["objectType"] == "EVENT" and b["operation"] == "CREATE" for b in two.bodies) == 3
        )
        assert {b["objectType"] for b in two.bodies} == {"EVENT", "RESOURCE", "VEN", "REPORT"}
    finally:
        await broker.stop()


async def test_a_broker_that_cannot_keep_clients_apart_is_told_only_what_is_for_all(vtn, mosquitto):
    broker = mosquitto()
    await broker.start()
    listener = Listener(broker, "#")
    try:
        async with started(listener), vtn(mqtt={"url": broker.url}) as call:
            bl, ven = call("bl"), call("ven1")
            me = await ven.made("/vens", {"objectType": "VEN_VEN_REQUEST", "venName": "me"})
            await bl.made("/programs", {"programName": "secret", "targets": [me["id"]]})
            program = await bl.made("/programs", {"programName": "P"})
            await ven.made("/subscriptions", subscription("http://127.0.0.1:9/", "EVENT"))
            await bl.made("/events", prices(program["id"], START, 1))
            await eventually(lambda: len(listener.received) == 2)
            assert [b["objectType"] for b in listener.bodies] == ["PROGRAM", "EVENT"]
            assert (await ven.get(f"/notifiers/mqtt/topics/vens/{me['id']}/events")).status == 404
            assert (await bl.get("/notifiers/mqtt/topics/events")).status == 404
            assert (await ven.get("/notifiers/mqtt/topics/programs")).status == 200
    finally:
        await broker.stop()


async def test_a_broker_with_passwords_and_rules_keeps_vens_apart(vtn, mosquitto, tmp_path):
    """As docs/operating.md shows it: a password and a pattern for each ven."""
    users, rules = tmp_path / "passwords", tmp_path / "rules"
    users.write_text("bridge:bridge-secret\n")
    process = await asyncio.create_subprocess_exec("mosquitto_passwd", "-U", str(users))
    assert await process.wait() == 0
    rules.write_text(
        "user bridge\ntopic readwrite OpenADR/#\n\npattern read OpenADR/3.1.0/programs/#\npattern read OpenADR/3.1.0/vens/%u/#\n"
    )
    broker = mosquitto("allow_anonymous false", f"password_file {users}", f"acl_file {rules}")
    (tmp_path / "mqtt.secret").write_text("bridge-secret")
    async with vtn() as call:
        one = await call("ven1").made("/vens", {"objectType": "VEN_VEN_REQUEST", "venName": "one"})
        two = await call("ven2").made("/vens", {"objectType": "VEN_VEN_REQUEST", "venName": "two"})
        for ven in (one, two):
            process = await asyncio.create_subprocess_exec(
                "mosquitto_passwd", "-b", str(users), ven["id"], f"pw-{ven['id']}"
            )
            assert await process.wait() == 0
    await broker.start()
    listeners = [
        Listener(
            broker,
            "#",
            "OpenADR/3.1.0/vens/+/#",
            f"OpenADR/3.1.0/vens/{two['id']}/#",
            username=v["id"],
            password=f"pw-{v['id']}",
        )
        for v in (one, two)
    ]
    try:
        about = mqtt(broker, username="bridge", password_file=tmp_path / "mqtt.secret")
        async with started(*listeners), vtn(mqtt=about) as call:
            program = await call("bl").made("/programs", {"programName": "P"})
            for target in (one["id"], two["id"]):
                await call("bl").made("/events", prices(program["id"], START, 1, targets=[target]))
            await call("bl").made("/events", prices(program["id"], START, 1))
            for listener in listeners:
                await eventually(lambda seen=listener: len({p for _, p in seen.received}) >= 3)
        for ven, listener in zip((one, two), listeners, strict=True):
            targets = {t for b in listener.bodies for t in b["object"].get("targets", ())}
            assert targets == {ven["id"]}
    finally:
        await broker.stop()


async def test_a_2_0b_event_and_a_price_day_reach_webhook_and_mqtt(vtn, mosquitto):
    broker, subscriber = mosquitto(), Device()
    utility, prices_api, clock = RawVtn(), GridX(), SimClock(NOON)
    utility.list(event("E1", NOON, signal([0.1] * 24)))
    prices_api.publish(date(2026, 3, 1), "0.100000")
    await broker.start()
    listener = Listener(broker, "OpenADR/#")
    try:
        async with started(subscriber, listener):
            async with vtn(clock, mqtt=mqtt(broker)) as call:
                await call("ven1").made(
                    "/subscriptions", subscription(subscriber.url, "EVENT", "PROGRAM")
                )
            async with started(utility, prices_api):
                sources = [
                    {"name": "utility", "vtn_url": utility.url},
                    {"kind": "gridx", "name": "pge", "base_url": prices_api.base, "utility": "PGE",
                     "series": [{"rate": "EELEC", "circuit": "013532223"}]},
                ]  # fmt: skip
                async with vtn(clock, sources=sources, mqtt=mqtt(broker)) as call:
                    wanted = {"E1", "EELEC-013532223-2026-03-01"}

                    async def told():
                        heard = [
                            {b["object"].get("eventName") for b in part.bodies}
                            for part in (subscriber, listener)
                        ]
                        return all(wanted <= names for names in heard)

                    await passing(clock, told, timedelta(minutes=1))
                    shown = {e["eventName"]: e for e in (await call("ven1").get("/events")).json}
                    assert set(shown) == wanted
                    for part in (subscriber, listener):
                        created = {
                            b["object"]["eventName"]: b
                            for b in map(plain, part.bodies)
                            if b["objectType"] == "EVENT" and b["operation"] == "CREATE"
                        }
                        assert {n: b["object"] for n, b in created.items()} == shown
                    utility.list(event("E1", NOON, signal([0.2] * 24), modification=1))

                    async def updated():
                        return any(
                            b["operation"] == "UPDATE" and b["object"]["eventName"] in wanted
                            for b in subscriber.bodies
                        )

                    await passing(clock, updated)
    finally:
        await broker.stop()


def plain(body):
    """Return a body without exact decimals, as another client reads it."""
    return json.loads(json.dumps(body, default=float))


async def test_what_was_published_while_the_broker_was_away_comes_when_it_is_back(vtn, mosquitto):
    broker = mosquitto()
    await broker.start()
    await broker.kill()
    async with vtn(mqtt=mqtt(broker)) as call:
        for n in range(3):
            await call("bl").made("/programs", {"programName": f"P{n}"})
        await until(lambda: owed(call))
        await broker.start()
        listener = Listener(broker, "OpenADR/#")
        try:
            async with started(listener):
                await eventually(lambda: len(listener.received) == 3, 30)
            assert [b["object"]["programName"] for b in listener.bodies] == ["P0", "P1", "P2"]
        finally:
            await broker.stop()


async def owed(call):
    found = await call.bridge.store.subscriptions.owed_to_broker(10)
    return len(found) == 3


async def test_check_says_whether_the_broker_answers(settings, mosquitto, tmp_path):
    from bridge.cli.checking import check_all

    broker = mosquitto()
    made = settings(mqtt={"url": broker.url})

    async def said():
        (found,) = [c for c in await check_all(made) if c["check"] == "mqtt broker"]
        return found["ok"]

    assert not await said()
    await broker.start()
    assert await said()
    await broker.stop()
