"""run, check, demo, healthcheck; the other commands stand in the files beside this one."""

import asyncio
import json
import logging
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path
from signal import SIGINT, SIGTERM

import click
import structlog

from bridge import __version__
from bridge.app import Bridge, running
from bridge.cli.certs import certs
from bridge.cli.checking import check_all
from bridge.cli.clients import client
from bridge.cli.common import FAILED, command, fail, say
from bridge.cli.keep import add_keeping
from bridge.cli.manage import device, event, token
from bridge.cli.prices import importing, programs
from bridge.cli.usage import contract, exporting, meter
from bridge.cli.utilityapi import utilityapi
from bridge.cli.vens import ven
from bridge.config import Settings, read_settings
from bridge.supervise import notify, watchdog


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="openadr-bridge")
def main() -> None:
    """Take price and demand-response signals from a utility, and hand them to local devices."""
    set_up_logs()


for group in (
    certs, token, client, ven, event, device, importing, exporting, programs, meter, contract,
    utilityapi,
):  # fmt: skip
    main.add_command(group)
add_keeping(main)


def set_up_logs() -> None:
    """Send logs to stderr: JSON lines, or colours on a terminal."""
    show: structlog.typing.Processor = (
        # Not the pretty tracebacks: they show variables, and with them secrets.
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer(default=str)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            show,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        # Looked up each time: stdout is for what a command says, whatever stderr is by then.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")


@command(main, "run", example="openadr-bridge run -c /etc/openadr-bridge/bridge.toml")
def run(config: Path, as_json: bool) -> None:
    """Run the bridge until it is told to stop (SIGTERM or Ctrl-C).

    Prints one JSON line on stdout when everything serves; logs go to stderr.
    """
    settings = read_settings(config)
    if asyncio.run(run_until_stopped(settings)):
        fail("the store failed; see the log", FAILED)


async def run_until_stopped(settings: Settings) -> bool:
    """Run the bridge; return whether it stopped because its store failed."""
    asked = asyncio.Event()
    for signal in (SIGINT, SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signal, asked.set)
    async with running(settings) as bridge:
        announce(bridge)
        beat = asyncio.create_task(watchdog(bridge.health.job("scheduler")))
        waits = [asyncio.create_task(e.wait()) for e in (asked, bridge.health.broken)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        notify("STOPPING=1")
        for task in (beat, *waits):
            task.cancel()
    return bridge.health.broken.is_set()


def announce(bridge: Bridge) -> None:
    """Say on stdout, and to systemd, that everything serves."""
    print(json.dumps({"event": "ready", **bridge.addresses}), flush=True)  # noqa: T201 -- the contract
    notify("READY=1")


@command(main, "check", example="openadr-bridge check -c bridge.toml")
def check(config: Path, as_json: bool) -> None:
    """Say everything that can be said without starting: settings, certificates, reachability.

    Changes nothing. Exits 2 for a mistake in the settings, 1 where something else is wrong.
    """
    found = asyncio.run(check_all(read_settings(config)))
    lines = "\n".join(f"{'ok ' if f['ok'] else 'BAD'}  {f['check']}: {f['says']}" for f in found)
    say(found, lines, as_json=as_json)
    sys.exit(0 if all(f["ok"] for f in found) else FAILED)


@command(main, "healthcheck", example="openadr-bridge healthcheck -c bridge.toml")
def healthcheck(config: Path, as_json: bool) -> None:
    """Ask the running bridge's admin listener whether it lives; exit 1 when not."""
    admin = read_settings(config).admin
    if admin is None or not admin.port:
        fail(f"{config}: [admin] with a fixed port is needed for a health check", FAILED)
        return
    host = f"[{admin.host}]" if ":" in admin.host else admin.host
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 -- compared, not bound
    url = f"{'https' if admin.cert else 'http'}://{host}:{admin.port}/healthz"
    trust = ssl.create_default_context(cafile=admin.cert) if admin.cert else None
    if trust:
        trust.check_hostname = False  # it is asked by address; its very certificate is trusted
        trust.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
    )
    try:
        with opener.open(url, timeout=4) as reply:
            say(json.load(reply), "healthy", as_json=as_json)
    except (OSError, ValueError) as error:
        fail(f"not healthy: {url}: {error}", FAILED)


@command(main, "demo", example="openadr-bridge demo")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to keep the demo's files.")
def demo(config: Path, as_json: bool, folder: Path | None) -> None:
    """Run a simulated utility, the bridge and two example devices, until Ctrl-C.

    Needs nothing: it makes its own certificates, settings and database.
    """
    from bridge.demo.play import play  # noqa: PLC0415 -- only a demo needs it

    asyncio.run(play(folder))
