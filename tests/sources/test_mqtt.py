"""Readings by MQTT: kept before they are acknowledged, through a broker and a bridge that go away."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import aiomqtt

from bridge.usage import Measured, Origin, Stream, UsageQuestion
from bridge.wire.readings import reading
from tests.peers import eventually, kept_readings

NOON = datetime(2027, 3, 14, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def message(n, **more):
    start = NOON + n * MINUTE
    return json.dumps(
        {"meter": "m", "start": start.isoformat(), "end": (start + MINUTE).isoformat(),
         "value": n / 8, "unit": "kWh", "direction": "import", **more}
    )  # fmt: skip


async def publish(broker, *messages):
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        for one in messages:
            await client.publish("meters/m", one, qos=1)


def source(broker):
    return {"kind": "mqtt", "name": "meters", "url": broker.url, "topics": ["meters/#"]}


async def subscribed(running):
    await eventually(lambda: running.health.job("source:meters").last_success)


async def test_what_is_published_is_kept_whoever_was_away(settings, bridge, mosquitto, tmp_path):
    broker, path = mosquitto(), tmp_path / "bridge.db"
    await broker.start()
    made = settings([source(broker)])
    async with bridge(made) as running:
        await subscribed(running)
        await publish(broker, *(message(n) for n in range(20)))
        await eventually(lambda: len(kept_readings(path)) == 20)
    await publish(broker, *(message(n) for n in range(20, 30)))  # while the bridge is away
    async with bridge(made) as running:
        await eventually(lambda: len(kept_readings(path)) == 30)
        await broker.kill()  # and with it what it knew of sessions
        job = running.health.job("source:meters")
        await eventually(lambda: job.problem)
        await broker.start()
        await eventually(lambda: not job.problem)
        await publish(broker, *(message(n) for n in range(30, 40)))
        await eventually(lambda: len(kept_readings(path)) == 40, 30)
    found = kept_readings(path)
    assert [float(r["amount"]) for r in found] == [n / 8 for n in range(40)]
    assert {(r["meter"], r["direction"], r["unit"], r["client"]) for r in found} == {
        ("m", "import", "KWH", "mqtt:meters")
    }
    await broker.stop()


async def test_what_is_no_reading_is_told_and_stops_nothing(
    settings, bridge, mosquitto, tmp_path, logged
):
    broker, path = mosquitto(), tmp_path / "bridge.db"
    await broker.start()
    async with bridge(settings([source(broker)])) as running:
        await subscribed(running)
        bad = ["", "{", "[1]", message(0, value="much"), message(1, start="noon"), b"\xff\xfe",
               message(1, start="0001-01-01T00:00:00Z", end="0001-01-01T00:01:00Z")]  # fmt: skip
        await publish(broker, *bad, message(2))
        await eventually(lambda: len(kept_readings(path)) == 1)
        told = [e["problem"] for e in logged if e["event"] == "a message is no reading"]
        assert len(told) == len(bad)
        assert any("value: is not an amount" in t for t in told)
    await broker.stop()


async def test_a_retained_message_holds_where_nothing_else_is_known(
    settings, bridge, mosquitto, tmp_path
):
    broker = mosquitto()
    await broker.start()
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.publish("meters/m", message(8), qos=1, retain=True)
    made = settings([source(broker)])

    async def amount(running):
        (stream,) = await running.store.meters.streams(UsageQuestion())
        (found,) = await running.store.meters.readings(stream, NOON, NOON + 60 * MINUTE, 10)
        return found.value

    async with bridge(made) as running:
        await eventually(lambda: kept_readings(running.store.path))
        assert await amount(running) == 1
        start = NOON + 8 * MINUTE
        corrected = reading(start, start + MINUTE, Decimal(2))
        said = Measured(Stream("m", "import"), [corrected], Origin("api"))
        await running.store.meters.keep([said], datetime.now(UTC), durable=True)
    async with bridge(made) as running:  # the broker says it again
        await subscribed(running)
        await publish(broker, message(9))
        await eventually(lambda: len(kept_readings(running.store.path)) == 2)
        (stream,) = await running.store.meters.streams(UsageQuestion())
        found = await running.store.meters.readings(stream, NOON, NOON + 60 * MINUTE, 10)
        assert [r.value for r in found] == [2, Decimal("1.125")]
    await broker.stop()
