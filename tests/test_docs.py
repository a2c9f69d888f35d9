"""What is written about the program is so."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bridge import sections as config
from bridge.adders import Adder
from bridge.config import read_settings
from bridge.devices import Webhook
from bridge.wire.feed import Fields
from tests.peers import RawVtn, event, eventually, signal, started

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
MAP = README.split("## The map")[1].split("## ")[0]
EXAMPLE = ROOT / "docker" / "bridge.example.toml"


def parts(folder):
    return {
        p.name + "/" * p.is_dir()
        for p in (ROOT / folder).iterdir()
        if not p.name.startswith("_") and p.name != "py.typed" and (p.suffix == ".py" or p.is_dir())
    }


def test_the_map_shows_every_part_and_no_ghost():
    assert set(re.findall(r"^ {6}(\w+(?:\.py|/))", MAP, re.MULTILINE)) == parts("bridge")


@pytest.mark.parametrize("folder", ["sources", "devices", "vtn", "admin", "deliver", "wire"])
def test_the_map_names_what_is_in_a_folder(folder):
    (line,) = re.findall(rf"^ +{folder}/.*(?:\n {{20,}}.*)*$", MAP, re.MULTILINE)
    for module in (ROOT / "bridge" / folder).glob("[!_]*.py"):
        assert module.stem in line, module


def test_the_map_is_in_the_order_of_the_import_contract():
    contract = (ROOT / "pyproject.toml").read_text().split("layers = [")[1].split("]")[0]
    layers = [
        set(re.findall(r"bridge\.(\w+)", line))
        for line in contract.splitlines()
        if "bridge." in line
    ]
    shown = [
        name.rstrip("/").removesuffix(".py")
        for name in re.findall(r"^ {6}(\w+(?:\.py|/))", MAP, re.MULTILINE)
    ]
    order = [next(n for n, layer in enumerate(layers) if name in layer) for name in shown]
    assert order == sorted(order)


@pytest.fixture
def example(tmp_path, certs):
    shutil.copytree(certs / "ec", tmp_path / "certs")
    shutil.copy(EXAMPLE, tmp_path / "bridge.toml")
    return tmp_path / "bridge.toml"


def test_the_example_loads(example):
    found = read_settings(example)
    assert found.sources[0].program_names == {"http://utility.example/EV2A": "EV2A"}
    assert found.devices[0].name == "heatpump"


def switched_on(path):
    """Return the example with its switched-off sections as settings, and their text by kind."""
    text = re.sub(r"^#(?! )", "", path.read_text(), flags=re.MULTILINE)
    for name in ("secrets", "greenbutton"):
        (path.parent / name).mkdir(exist_ok=True)
    for name in ("battery", "utilityapi", "customer"):
        (path.parent / "secrets" / name).write_text("a secret")
    path.write_text(text)
    return read_settings(path), text


def test_the_example_names_every_key_with_its_default(example):
    shown, text = switched_on(example)
    sources = {s.kind: s for s in shown.sources}
    models = {
        "[site]": (config.Site, shown.site), "[store]": (config.StoreFile, None),
        "[vtn]": (config.Vtn, shown.vtn), "[admin]": (config.Admin, shown.admin),
        **{f'[[sources]]\nkind = "{kind}"': (type(found), found) for kind, found in sources.items()},
        "[vtn.callbacks]": (config.Callbacks, shown.vtn.callbacks),
        "[[clients]]": (config.Client, shown.clients[0]), "[mqtt]": (config.Mqtt, shown.mqtt),
        "[mdns]": (config.Mdns, shown.mdns), "[usage]": (config.Usage, shown.usage),
        "[[contracts]]": (config.SettledContract, None),
        "[sources.fields]": (Fields, sources["feed"].fields),
        "[[adders]]": (Adder, shown.adders[0]), "[[devices]]": (Webhook, shown.devices[0]),
    }  # fmt: skip
    assert set(sources) == {
        "openadr2", "gridx", "midas", "feed", "greenbutton", "mqtt", "utilityapi", "customer",
    }  # fmt: skip
    for section, (model, value) in models.items():
        body = text.split(f"\n{section}")[1].split("\n[")[0]
        body = "\n" + section.partition("\n")[2] + body
        if "openadr2" in section:
            body += text.split("[sources.programs]")[1]
        for name, about in model.model_fields.items():
            if (name == "programs" and "openadr2" in section) or name in {"fields", "callbacks"}:
                continue
            assert re.search(rf"^(# )?{name} = ", body, re.MULTILINE), f"{section} {name}"
            commented = re.search(rf"^# {name} = ", body, re.MULTILINE)
            free = {"timezone", "name", "cert", "key", "ca", "url", "time_of_use"}
            if value is not None and not commented and not about.is_required() and name not in free:
                assert getattr(value, name) == about.default, f"{section} {name}"


def test_no_private_key_is_tracked():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, tracked.stdout.split("\0")):
        path = ROOT / name
        if path.is_file():
            assert b"PRIVATE " + b"KEY-----" not in path.read_bytes(), name
            assert path.suffix not in {".key", ".pem", ".p12", ".pfx", ".crt", ".db"}, name


def test_every_key_a_command_writes_is_ignored(tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    for name in (
        "certs/dev/ca.key",
        "certs/ven.key",
        "certs/x.pem",
        "bridge.db",
        "bridge.db-wal",
        "bridge.db.lock",
        "secrets/x",
        "bridge.toml",
    ):
        done = subprocess.run(["git", "check-ignore", "-q", name], cwd=ROOT, check=False)
        assert done.returncode == 0, name


def receivers():
    return re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("number", [0, 1], ids=["plain", "verifying"])
async def test_the_receivers_of_the_readme_work(
    settings, bridge, tmp_path, unused_tcp_port, number
):
    code = re.sub(r"900\d", str(unused_tcp_port), receivers()[number])
    secret = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    (tmp_path / "secret").write_text(secret)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "WEBHOOK_SECRET": secret},
    )  # fmt: skip
    vtn, lines = RawVtn(), []
    vtn.list(event("E", datetime.now(UTC) - timedelta(hours=1), signal(["0.25"] * 24)))

    async def read():
        async for line in process.stdout:
            lines.append(line.decode())

    reading = asyncio.create_task(read())
    try:
        async with started(vtn):
            device = {
                "name": "d",
                "url": f"http://127.0.0.1:{unused_tcp_port}/",
                "secret_file": tmp_path / "secret",
            }
            async with bridge(settings([{"name": "utility", "vtn_url": vtn.url}], [device])):
                wanted = "verified event.started" if number else "price: 0.25"
                await eventually(lambda: any(wanted in line for line in lines), 30)
        if number:
            from aiohttp import ClientSession

            async with ClientSession() as http:
                forged = await http.post(
                    device["url"], data=b'{"type": "event.started", "data": {}}'
                )
                assert forged.status == 401
    finally:
        process.kill()
        await process.wait()
        await reading


def test_relative_links_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "certs" / "README.md"]:
        for target in re.findall(
            r"`((?:docs|docker|certs|bridge|tests)/[\w./-]+)`", page.read_text()
        ):
            if "ven." in target or "config/" in target or "certs/dev" in target:
                continue
            assert (ROOT / target).exists(), f"{page}: {target}"


def test_the_lock_names_no_address():
    for lock in ROOT.glob("*.lock"):
        assert "://" not in lock.read_text()
        assert "--index-url" not in lock.read_text()


def test_the_changelog_has_a_place_for_what_is_new():
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()
