"""The stock OpenLEADR VEN in a process of its own, steered by lines of JSON.

`python stock_ven.py SETTINGS` where SETTINGS is JSON: `url`, `name`, `cert`, `key` and `ca`
(files), and where given `ven_id`, `vtn_fingerprint` (replies must be signed by it),
`disable_signature`, `opts` (event id → answer; `*` for any), and `reports`: a list of
`resource`, `values` (sent in turn), `sampling` (seconds, least and most), `name`, `measurement`.

Each line on stdout says what it `saw`: `started`, `registered`, `event`, `update`, `sent`,
`received`, `logged`, `done`. A line on stdin is an order: `{"do": NAME, "n": NUMBER, …}` with the
name of a method of `Ven` and what it takes; `done` has the same `n` and the `result`.

Nothing of the bridge is imported here, and nothing of the library is changed: only its public
handlers and hooks are used. `StockVen` is how tests start it.
"""

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta
from itertools import cycle
from pathlib import Path

MESSAGE = re.compile(r"<(?:\w+:)?(oadr(?!Payload|SignedObject)\w+)[\s/>]")


# --- the process -----------------------------------------------------------------------------


def plain(value):
    """Return what JSON has no word for: times and lengths as text and seconds."""
    return value.total_seconds() if isinstance(value, timedelta) else str(value)


def say(saw, **about):
    print(json.dumps({"saw": saw, **about}, default=plain), flush=True)


class Log(logging.Handler):
    def emit(self, record):
        say("logged", level=record.levelname, text=record.getMessage())


def seen(event):
    """Return what an event says, as the library hands it to a handler."""
    descriptor, period = event["event_descriptor"], event["active_period"]
    return {
        "id": descriptor["event_id"],
        "modification": descriptor["modification_number"],
        "status": descriptor["event_status"],
        "context": descriptor["market_context"],
        "priority": descriptor.get("priority"),
        "test": descriptor.get("test_event"),
        "start": period["dtstart"],
        "length": period["duration"],
        "targets": event.get("targets"),
        "required": event["response_required"],
        "signals": [signal(s, period["dtstart"]) for s in event["event_signals"]],
    }


def signal(about, start):
    """Return a signal with [start, seconds, value] of each interval."""
    intervals = []
    for one in about["intervals"]:
        start = one.get("dtstart", start)
        intervals.append([start, one["duration"], one["signal_payload"]])
        start += one["duration"]
    return {
        "name": about["signal_name"],
        "type": about["signal_type"],
        "measurement": about.get("measurement"),
        "intervals": intervals,
    }


class Ven:
    """Holds the client; its methods are the orders."""

    def __init__(self, settings):
        from openleadr import OpenADRClient

        self.opts = {"*": "optIn", **settings.get("opts", {})}
        self.client = OpenADRClient(
            ven_name=settings["name"],
            vtn_url=settings["url"],
            cert=settings["cert"],
            key=settings["key"],
            ca_file=settings["ca"],
            ven_id=settings.get("ven_id"),
            vtn_fingerprint=settings.get("vtn_fingerprint"),
            disable_signature=settings.get("disable_signature", False),
            show_fingerprint=False,
        )
        self.client.add_handler("on_event", lambda event: self._answer("event", event))
        self.client.add_handler("on_update_event", lambda event: self._answer("update", event))
        self.client.add_hook("before_send_xml", self._sent)
        self.client.add_hook("after_parse_xml", self._received)
        for report in settings.get("reports", []):
            self._offer(**report)
        self.ended = asyncio.Event()

    def _answer(self, saw, event):
        say(saw, **seen(event))
        return self.opts.get(str(event["event_descriptor"]["event_id"]), self.opts["*"])

    def _sent(self, xml):
        kind = MESSAGE.search(xml)[1]
        say("sent", type=kind, signed="<ds:Signature" in xml, xml="" if kind == "oadrPoll" else xml)

    def _received(self, kind, payload):
        about = payload.get("response") or {}
        say(
            "received", type=kind, code=about.get("response_code"),
            text=about.get("response_description"), reports=payload.get("report_requests"),
            events=[e["event_descriptor"]["event_id"] for e in payload.get("events") or []],
        )  # fmt: skip

    def _offer(self, resource, values, sampling, name="TELEMETRY_USAGE", measurement="ENERGY_REAL"):
        from openleadr import objects

        least, most = (timedelta(seconds=s) for s in sampling)
        turn = cycle(values)
        self.client.add_report(
            lambda: next(turn),
            resource,
            measurement,
            report_name=name,
            report_duration=timedelta(hours=1),
            sampling_rate=objects.SamplingRate(least, most, on_change=False),
        )

    async def run(self):
        await self.client.run()
        self.registered()

    def registered(self):
        say(
            "registered", ven_id=self.client.ven_id, poll=self.client.poll_frequency,
            registration_id=self.client.registration_id,
        )  # fmt: skip

    async def opt(self, event_id, opt):
        """Answer so from now on."""
        self.opts[event_id] = opt

    async def created_event(self, event_id, opt, modification=0):
        await self.client.created_event("changed", event_id, opt, modification)

    async def create_opt(self, opt, event_id=None, modification=None, available=(), resource=None):
        """Opt for an event, or for times of [start, seconds]."""
        from openleadr import objects

        parts = [
            objects.VavailabilityComponent(datetime.fromisoformat(a), timedelta(seconds=s))
            for a, s in available
        ]
        target = {"resource_id": resource} if resource else {"ven_id": self.client.ven_id}
        return await self.client.create_opt(
            opt, "economic", [objects.Target(**target)], event_id=event_id,
            modification_number=modification,
            vavailability=objects.Vavailability(parts) if parts else None,
        )  # fmt: skip

    async def cancel_opt(self, opt_id):
        return await self.client.cancel_opt(opt_id)

    async def request_event(self, limit=None):
        _, said = await self.client.request_event(limit)
        return [e["event_descriptor"]["event_id"] for e in said.get("events") or []]

    async def poll(self):
        """Poll now, and do what the reply asks for, as the client does by itself."""
        await self.client._poll()

    async def cancel_registration(self):
        await self.client.cancel_party_registration()
        return self.client.registration_id

    async def stop(self):
        self.ended.set()


async def obey(ven):
    """Do what the lines on stdin say until they end."""
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while not ven.ended.is_set() and (line := await lines.readline()):
        order = json.loads(line)
        n, do = order.pop("n"), order.pop("do")
        try:
            say("done", n=n, result=await getattr(ven, do)(**order))
        except Exception as error:  # noqa: BLE001 -- who ordered it is told
            say("done", n=n, error=f"{type(error).__name__}: {error}")


async def main(settings):
    ven = Ven(settings)
    logging.getLogger("openleadr").setLevel(logging.WARNING)
    logging.getLogger().addHandler(Log(logging.WARNING))
    say("started", stock=not any(m.partition(".")[0] == "bridge" for m in sys.modules))
    running = asyncio.create_task(ven.run())
    await obey(ven)
    running.cancel()
    await ven.client.stop()


# --- for tests -------------------------------------------------------------------------------


class StockVen:
    """Starts the VEN with `folder`'s certificates of this name, and keeps what it saw."""

    def __init__(self, url, folder, name, *, cert=None, **settings):
        stem = Path(folder) / (cert or name)
        self.settings = {
            "url": url, "name": name, "cert": f"{stem}.crt", "key": f"{stem}.key",
            "ca": str(Path(folder) / "ca.crt"), **settings,
        }  # fmt: skip
        self.lines = []
        self._orders = 0
        self._news = asyncio.Condition()

    async def start(self):
        # UTC: the library wants the computer's time zone by name, which it may not have.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", __file__, json.dumps(self.settings),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**environment, "TZ": "UTC"}, limit=2**24,
        )  # fmt: skip
        self._reader = asyncio.create_task(self._read())
        assert (await self.until("started"))["stock"]

    async def _read(self):
        async for line in self._process.stdout:
            async with self._news:
                self.lines.append(json.loads(line))
                self._news.notify_all()

    def saw(self, what, since=0, **about):
        """Return the lines of this sort, from line number `since`, that say all of `about`."""
        return [
            line
            for line in self.lines[since:]
            if line["saw"] == what and about.items() <= line.items()
        ]

    async def until(self, what, count=1, within=20.0, **about):
        """Return the line that is the `count`-th of its sort, once it is there."""
        try:
            async with asyncio.timeout(within), self._news:
                await self._news.wait_for(lambda: len(self.saw(what, **about)) >= count)
        except TimeoutError:
            last = [{k: v for k, v in n.items() if k != "xml"} for n in self.lines[-12:]]
            raise AssertionError(f"not seen: {count} × {what} {about}; at last: {last}") from None
        return self.saw(what, **about)[count - 1]

    async def order(self, do, **about):
        """Have it do something; return what came of it."""
        self._orders += 1
        n = self._orders
        self._process.stdin.write(json.dumps({"do": do, "n": n, **about}).encode() + b"\n")
        await self._process.stdin.drain()
        done = await self.until("done", n=n)
        assert "error" not in done, done
        return done["result"]

    async def stop(self):
        self._process.stdin.close()
        await self._process.wait()
        await self._reader


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
