"""Example devices: small HTTP servers that print, readably, what they are told."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, tzinfo

from aiohttp import web

from bridge.model import Document
from bridge.notation import from_json, read_time

Print = Callable[[str], None]


@asynccontextmanager
async def serve_device(name: str, zone: tzinfo, say: Print) -> AsyncIterator[str]:
    """Serve a device and yield its URL."""

    async def take(request: web.Request) -> web.Response:
        for line in describe(from_json(await request.read()), zone):
            say(f"{datetime.now(zone):%H:%M:%S}  {name:9} {line}")
        return web.Response(status=204)

    site = web.Application()
    site.router.add_post("/price", take)
    runner = web.AppRunner(site, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/price"
    finally:
        await runner.cleanup()


def describe(body: Document, zone: tzinfo) -> list[str]:
    """Return what a delivery says, in lines for a person."""
    data = body["data"]
    if body["type"] == "state.changed":
        return [f"state.changed     {_state(data['state'], zone)}"]
    event = data["event"]
    lines = [f"{body['type']:17} {data['program']} {event['eventName']}{_interval(data, zone)}"]
    if body["type"] in {"event.received", "event.updated"}:
        lines += [f"                  {line}" for line in _values(event, zone)]
    return lines


def _state(state: Document, zone: tzinfo) -> str:
    price, level, then = state["price"], state["level"], state["next"]
    words = [
        f"price {price} {state['currency']}/{state['unit']}" if price is not None else "no price"
    ]
    words.append(f"level {level}" if level is not None else "no event")
    if then:
        following = f"price {then['price']}" if then["price"] is not None else "no price"
        following += f", level {then['level']}" if then["level"] is not None else ""
        words.append(f"until {_clock(then['at'], zone)}, then {following}")
    return ", ".join(words) + (" (stale)" if state["stale"] else "")


def _interval(data: Document, zone: tzinfo) -> str:
    interval = data["interval"]
    if not interval:
        return ""
    values = ", ".join(f"{p['type']} {p['values'][0]}" for p in interval["payloads"])
    start = _clock(interval["intervalPeriod"]["start"], zone)
    return f" interval {interval['id']} from {start}: {values}"


def _values(event: Document, zone: tzinfo) -> list[str]:
    shown = [
        f"{_clock(i['intervalPeriod']['start'], zone)} {i['payloads'][0]['values'][0]:>9}"
        for i in event["intervals"]
        if i["payloads"]
    ]
    return ["  ".join(shown[n : n + 6]) for n in range(0, len(shown), 6)]


def _clock(moment: str, zone: tzinfo) -> str:
    return f"{read_time(moment).astimezone(zone):%H:%M}"
