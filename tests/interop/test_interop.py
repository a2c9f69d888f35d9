"""OpenADR 3.1 client libraries that others wrote, each in an environment of its own.

Two of them are imported by the same name, so they can share none. Environments are made once and
kept beside pytest's temporary folders, or in $BRIDGE_INTEROP_ENVS. `smoke_test.py` of
python-oa3-client is in no package; $BRIDGE_OA3_SMOKE says where it is.
"""

import asyncio
import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import ClientSession

from tests.peers import RawVtn, event, eventually, signal, started
from tests.sources.test_feed import Url, rows

HERE = Path(__file__).parent
BASE = "/openadr3/3.1.0"
PRICES = [f"0.{n:02}37" for n in range(1, 25)]
PROGRAMS = ("EV2A", "FEED")
SECRETS = {"bl_client": "1001", "ven_client": "999"}
# The versions of Python (3.x to 3.y) that a library is made for, and what it needs
OA3 = ((11, 14), (
    "openadr3==0.5.0", "python-oa3-client==0.5.0", "ebus-mqtt-client==0.8.0", "paho-mqtt==2.2.0",
    "flask==3.1.3", "zeroconf==0.154.0", "httpx==0.28.1", "pydantic==2.14.3", "pendulum==3.3.0",
))  # fmt: skip
ELAAD = ((12, 14), (
    "openadr3-client==2.4.2", "paho-mqtt==2.2.0", "requests==2.34.2", "requests-oauthlib==2.0.0",
    "oauthlib==4.0.1", "pydantic==2.14.3", "pydantic-extra-types==2.11.1", "pycountry==26.2.16",
))  # fmt: skip
EVENTS = ["CREATE EVENT", "DELETE EVENT", "UPDATE EVENT"]


# --- environments ----------------------------------------------------------------------------


def interpreter(first, last):
    """Return a Python from 3.first to 3.last, this one if it will do; skip where there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    minors = range(last, first - 1, -1)
    places = [sys.executable, *(shutil.which(f"python3.{n}") for n in minors)]
    places += [p for n in minors for p in sorted(pyenv.glob(f"3.{n}.*/bin/python3"))]
    for place in filter(None, places):
        said = run(place, "-c", "import sys, venv, ensurepip; print(sys.version_info[1])")
        if said.returncode == 0 and first <= int(said.stdout) <= last:
            return place, int(said.stdout)
    return pytest.skip(f"there is no Python from 3.{first} to 3.{last} here")


def run(*words):
    return subprocess.run(
        [str(w) for w in words], capture_output=True, text=True, check=False, timeout=110
    )


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """Make an environment that holds these packages; return its Python."""
    kept = os.environ.get("BRIDGE_INTEROP_ENVS") or (
        tmp_path_factory.getbasetemp().parent / "interop-envs"
    )

    def make(versions, packages):
        python, minor = interpreter(*versions)
        name = hashlib.sha256("\n".join(packages).encode()).hexdigest()[:16]
        folder = Path(kept) / f"3.{minor}-{name}"
        if not folder.exists():
            made = Path(kept) / f"{folder.name}.{os.getpid()}"  # whole or not at all
            try:
                fill(made, python, packages)
                made.rename(folder)
            except OSError:
                if not folder.exists():
                    raise  # or else another session was faster
            finally:
                shutil.rmtree(made, ignore_errors=True)
        return folder / "bin" / "python"

    return make


def fill(folder, python, packages):
    pip = (folder / "bin" / "python", "-m", "pip", "install", "-q", "--no-input",
           "--disable-pip-version-check", "--retries", "1", "--only-binary", ":all:")  # fmt: skip
    for words in ((python, "-m", "venv", folder), (*pip, *packages)):
        done = run(*words)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            pytest.skip(f"{packages[0]} cannot be had: {said[-1] if said else words}")


# --- a bridge, its utility and its broker ----------------------------------------------------


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@asynccontextmanager
async def broker(folder):
    """Run Mosquitto, open to all on loopback; yield its address."""
    mosquitto = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if not mosquitto:
        pytest.skip("mosquitto is not at hand")
    port, conf = free_port(), folder / "mosquitto.conf"
    conf.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    process = await asyncio.create_subprocess_exec(
        mosquitto, "-c", str(conf), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        await eventually(lambda: is_open(port))
        yield f"mqtt://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


@pytest.fixture
def served(settings, bridge, tmp_path):
    """Run a bridge whose utilities say prices from this hour on, for a whole day.

    One says them as an OpenADR 2.0b event (program EV2A), one in a feed (program FEED).
    """

    @asynccontextmanager
    async def serve(mqtt=None, echo="best_effort"):
        start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        utility, feed, clients = RawVtn(), Url(), []
        utility.list(event("DAY", start, signal(PRICES)))
        feed.text = json.dumps(rows(start, PRICES))
        for name, secret in SECRETS.items():
            (tmp_path / name).write_text(secret)
            clients.append(
                {"id": name, "role": name.partition("_")[0], "secret_file": tmp_path / name}
            )
        callbacks = {"allow_http": True, "allow_networks": ["127.0.0.0/8"], "echo": echo}
        others = {"mqtt": {"url": mqtt, "private_topics": True}} if mqtt else {}
        async with started(utility, feed):
            made = settings(
                [
                    {"name": "utility", "vtn_url": utility.url},
                    {"kind": "feed", "name": "other", "url": feed.url, "program": "FEED", "currency": "USD"},
                ],
                vtn={"listen": "127.0.0.1:0", "callbacks": callbacks}, clients=clients, **others,
            )  # fmt: skip
            async with bridge(made) as running:
                url = running.addresses["vtn"] + BASE
                await until_priced(url)
                yield url, start

    return serve


async def until_priced(url):
    headers = {"Authorization": f"Bearer {token('bl_client')}"}
    async with ClientSession(headers=headers) as http, asyncio.timeout(20):
        for program in PROGRAMS:
            while True:
                async with http.get(f"{url}/events", params={"programName": program}) as reply:
                    if await reply.json():
                        break
                await asyncio.sleep(0.05)


def token(client):
    return base64.b64encode(f"{client}:{SECRETS[client]}".encode()).decode()


async def work(python, script, *words, **env):
    """Run a script to its end, apart from whatever else is installed; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        str(python), "-I", str(script), *words,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "NO_PROXY": "127.0.0.1", **env},
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            said, wrong = await process.communicate()
    except TimeoutError:
        process.kill()
        said, wrong = await process.communicate()
        raise AssertionError(f"{script} does not end: {said.decode()}{wrong.decode()}") from None
    assert process.returncode == 0, said.decode() + wrong.decode()
    return said.decode()


# --- the clients -----------------------------------------------------------------------------


def check(said, start, *programs):
    """What every client can do: prices to the digit, usage, pages of two, the utilities' day."""
    assert [float(p) for p in said["prices"]] == [0.1, 0.017, -0.0325, 0.123456789, 1e-06, 12]
    assert said["usage"] == "1.234567"
    assert said["pages"] == [2, 2, 1, 0]
    day = [
        [(start + timedelta(hours=n)).isoformat(), price.rstrip("0")]
        for n, price in enumerate(PRICES)
    ]
    assert {p: sorted(said["utilities"][p]) for p in programs} == dict.fromkeys(programs, day)


@asynccontextmanager
async def nothing(_folder):
    yield None


NOTIFIED = pytest.mark.parametrize("by", [nothing, broker], ids=["webhooks", "mqtt"])


@NOTIFIED
async def test_openadr3_and_python_oa3_client(environment, served, tmp_path, by):
    python = environment(*OA3)
    # Its receiver of webhooks answers no challenge, so the bridge must not insist on one.
    async with by(tmp_path) as mqtt, served(mqtt, echo="best_effort") as (url, start):
        said = json.loads(await work(python, HERE / "with_oa3_client.py", url, *PROGRAMS))
        check(said, start, *PROGRAMS)
        assert said["webhook"] == [*EVENTS, "UPDATE PROGRAM"]
        assert said.get("mqtt") == (EVENTS if mqtt else None)
        assert said["told_of_own_program"]


@NOTIFIED
async def test_openadr3_client(environment, served, tmp_path, by):
    python = environment(*ELAAD)
    async with by(tmp_path) as mqtt, served(mqtt, echo="required") as (url, start):
        said = json.loads(await work(python, HERE / "with_openadr3_client.py", url, *PROGRAMS))
        check(said, start, "FEED")
        assert said["webhook"] == ["DELETE EVENT"]  # the one operation that it has a right name for
        assert said.get("mqtt") == (EVENTS if mqtt else None)
        # What it does not understand though it is as OpenADR 3.1.0 says: these and no others
        assert "subscription" not in said
        assert said.get("notifiers") == (None if mqtt else ["MQTT: Field required"])
        check(said, start, *PROGRAMS)


async def test_python_oa3_clients_own_smoke_test(environment, served, tmp_path):
    smoke = os.environ.get("BRIDGE_OA3_SMOKE")
    if not smoke:
        pytest.skip("BRIDGE_OA3_SMOKE names no smoke_test.py of python-oa3-client")
    if is_open(9876):
        pytest.skip("port 9876, at which it is called back, is taken")
    python = environment(*OA3)
    async with broker(tmp_path) as mqtt, served(mqtt) as (url, _):
        tokens = {"BL_TOKEN": token("bl_client"), "VEN_TOKEN": token("ven_client")}
        said = await work(python, smoke, VTN_URL=url, MQTT_BROKER=mqtt, **tokens)
        for line in (
            "Found by name: smoke-test-program", "VEN topics response: 200",
            "Program topics response: 200", "Connected to MQTT broker", "Subscription created: ",
            "get_mqtt_topics_ven(): 200", "get_mqtt_topics_ven_events(): 200",
            "get_mqtt_topics_ven_programs(): 200", "get_mqtt_topics_ven_resources(): 200",
            "SMOKE TEST PASSED",
        ):  # fmt: skip
            assert line in said, said
        assert said.count(": 200\n") == 9, said  # three are what it deletes
        assert "Webhook messages received: 0" not in said
