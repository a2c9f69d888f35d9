"""A utility: a stock OpenLEADR VTN in a process of its own, steered by lines of JSON.

`python -m bridge.demo.utility SETTINGS` where SETTINGS is JSON: `cert`, `key`, `ca` (files),
`port` (0 picks one), `poll` (seconds), `sign`, `vens` (ven_name → certificate file) and
`events`. Lines on stdin: `{"add": EVENT}`, `{"modify": EVENT}`, `{"cancel": ID}`,
`{"drop": ID}`. Lines on stdout: `{"ready": URL}`, `{"registered": NAME}`, `{"opt": …}`.

Nothing of the bridge's own OpenADR code runs here: what the bridge is told, it is told by
the library that others use.
"""

import asyncio
import contextlib
import io
import json
import socket
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from openleadr import OpenADRServer, objects, utils

PREFIX = "/OpenADR2/Simple/2.0b"


def say(**line: Any) -> None:
    """Write a line for whoever steers this utility."""
    print(json.dumps(line), flush=True)  # noqa: T201 -- the way it is steered


class Utility:
    """Holds the VTN and what it knows of its VENs."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._vens = {name: _fingerprint(path) for name, path in settings["vens"].items()}
        self._by_id = {
            f"ven-{n}": {
                "ven_id": f"ven-{n}",
                "ven_name": n,
                "fingerprint": f,
                "registration_id": f"reg-{n}",
            }
            for n, f in self._vens.items()
        }
        self.port = settings.get("port") or _free_port()
        signing = {"cert": settings["cert"], "key": settings["key"]} if settings.get("sign") else {}
        self.vtn = OpenADRServer(
            vtn_id="UTILITY",
            http_port=self.port,
            http_cert=settings["cert"],
            http_key=settings["key"],
            http_ca_file=settings["ca"],
            requested_poll_freq=timedelta(seconds=settings.get("poll", 10)),
            ven_lookup=self._look_up,
            verify_message_signatures=bool(signing),
            show_fingerprint=False,
            **signing,
        )
        self.vtn.add_handler("on_create_party_registration", self._register)
        for event in settings.get("events", []):
            self.add(event)

    def _look_up(self, ven_id: str) -> dict[str, Any] | None:
        # openleadr passes its argument by this name.
        return self._by_id.get(ven_id)

    async def _register(self, payload: dict[str, Any]) -> Any:
        name = payload["ven_name"]
        if self._vens.get(name) != payload.get("fingerprint"):
            return False
        say(
            registered=name,
            ven_id=payload.get("ven_id"),
            registration_id=payload.get("registration_id"),
        )
        return f"ven-{name}", f"reg-{name}"

    def _opt(self, ven_id: str, event_id: str, opt_type: str) -> None:
        say(opt=opt_type, event=event_id, ven=ven_id)

    def add(self, event: dict[str, Any]) -> None:
        """Send an event to every VEN."""
        for ven_id in self._by_id:
            self.vtn.add_raw_event(ven_id, make_event(event, ven_id), callback=self._opt)

    def modify(self, event: dict[str, Any]) -> None:
        """Replace an event by one with a higher modification number."""
        for ven_id in self._by_id:
            had = self._find(ven_id, event["id"])
            new = make_event(event, ven_id)
            new.event_descriptor.modification_number = had.event_descriptor.modification_number + 1
            new.event_descriptor.modification_date_time = datetime.now(UTC)
            events = self.vtn.events[ven_id]
            events[events.index(had)] = new
            self._again(ven_id, new)

    def cancel(self, event_id: str) -> None:
        """Cancel an event."""
        for ven_id in self._by_id:
            self.vtn.cancel_event(ven_id, event_id)
            self._again(ven_id, self._find(ven_id, event_id))

    def drop(self, event_id: str) -> None:
        """Cancel an event by listing it no more."""
        for ven_id in self._by_id:
            self.vtn.events[ven_id].remove(self._find(ven_id, event_id))
            self.vtn.events_updated[ven_id] = True

    def resend(self, _: Any) -> None:
        """Send all events once more as they are."""
        for ven_id in self._by_id:
            self.vtn.events_updated[ven_id] = True

    def _find(self, ven_id: str, event_id: str) -> Any:
        return next(e for e in self.vtn.events[ven_id] if e.event_descriptor.event_id == event_id)

    def _again(self, ven_id: str, event: Any) -> None:
        self.vtn.event_callbacks[event.event_descriptor.event_id] = (event, self._opt)
        self.vtn.events_updated[ven_id] = True


def make_event(event: dict[str, Any], ven_id: str) -> objects.Event:
    """Make an event of `id`, `context`, `start`, `signals`, and `priority`, `test`, `targets`,
    `response_required`, `comment` where given.
    """  # noqa: D205 -- one sentence
    start = datetime.fromisoformat(event["start"])
    targets = [objects.Target(ven_id=ven_id)]
    targets += [objects.Target(**target) for target in event.get("targets", [])]
    return objects.Event(
        event_descriptor=objects.EventDescriptor(
            event_id=event["id"],
            modification_number=0,
            market_context=event["context"],
            event_status="far",
            created_date_time=datetime.now(UTC),
            priority=event.get("priority", 0),
            test_event=event.get("test", False),
            vtn_comment=event.get("comment"),
        ),
        event_signals=[_signal(signal, start, n) for n, signal in enumerate(event["signals"])],
        targets=targets,
        response_required=event.get("response_required", "always"),
    )


def _signal(signal: dict[str, Any], start: datetime, number: int) -> objects.EventSignal:
    length = timedelta(seconds=signal.get("seconds", 3600))
    price = signal["type"] == "price"
    return objects.EventSignal(
        signal_id=f"signal-{number}",
        signal_name=signal["name"],
        signal_type=signal["type"],
        measurement=objects.Measurement("currencyPerKWh", "currencyPerKWh", "USD", scale="none")
        if price
        else None,
        intervals=[
            objects.Interval(dtstart=start + n * length, duration=length, signal_payload=value)
            for n, value in enumerate(signal["values"])
        ],
    )


def _fingerprint(path: str) -> str:
    with open(path) as file:  # noqa: PTH123 -- a script of one's own, as others write it
        return str(utils.certificate_fingerprint(file.read()))


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def serve(settings: dict[str, Any]) -> None:
    """Serve until stdin ends."""
    with contextlib.redirect_stdout(io.StringIO()):  # openleadr prints banners
        utility = Utility(settings)
        await utility.vtn.run()
    say(ready=f"https://localhost:{utility.port}{PREFIX}")
    lines = asyncio.StreamReader(limit=2**24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        for order, about in json.loads(line).items():
            getattr(utility, order)(about)
            say(done=order)
    await utility.vtn.stop()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
