"""A newcomer who follows the README with the stock OpenLEADR VEN succeeds."""

import asyncio
import json
import os
import re
import sys
from pathlib import Path

from click.testing import CliRunner

from bridge.cli import main
from tests.openadr2.site import free_port
from tests.openadr3.clients import SECRETS, calling, prices

README = (Path(__file__).parents[2] / "README.md").read_text()
SETTINGS = """
[vtn]
listen = "127.0.0.1:0"
[openadr2]
listen = "127.0.0.1:{port}"
cert = "certs/vtn.crt"
key = "certs/vtn.key"
ca = "certs/ca.crt"
[[clients]]
id = "bl"
role = "bl"
secret_file = "bl.secret"
"""


def lines_of(section):
    """Return the commands that a section tells a newcomer to run."""
    text = README.partition(f"## {section}\n")[2].partition("\n## ")[0]
    return [
        line.partition("#")[0].strip()
        for line in re.findall(r"^    (.+)", text.partition("```python")[0], re.MULTILINE)
    ]


async def test_a_2_0b_device_connects_in_ten_lines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    port = free_port()
    (tmp_path / "bridge.toml").write_text(SETTINGS.format(port=port))
    (tmp_path / "bl.secret").write_text(SECRETS["bl"])

    def command(line):
        found = CliRunner().invoke(main, line.removeprefix("openadr-bridge ").split())
        assert found.exit_code == 0, (line, found.output)
        return found.stdout.strip()

    make, look, enrol, export = lines_of("A device that speaks OpenADR 2.0b")
    command(make)
    enrolled = re.sub(r"AA:BB\S*", command(look), enrol)
    assert "thermostat" in command(enrolled)
    (code,) = [
        c for c in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "OpenADRClient" in c
    ]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    fingerprint = command(re.search(r"\$\((.*?)\)", export)[1])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
    bridge = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge", "run", env=environment | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    ready = json.loads(await bridge.stdout.readline())
    assert ready["openadr2"] == f"https://127.0.0.1:{port}"
    ven = await asyncio.create_subprocess_exec(
        sys.executable, "-u", "-c", code.replace("localhost:8081", f"localhost:{port}"),
        env=environment | {"VTN_FINGERPRINT": fingerprint, "TZ": "UTC"}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with calling(ready["vtn"]) as vtn:
            program = await vtn("bl").made("/programs", {"programName": "P"})
            await vtn("bl").made(
                "/events", prices(program["id"], "2090-01-01T00:00:00Z", 0.25, 0.5)
            )
        async with asyncio.timeout(40):
            async for line in ven.stdout:
                if b"ELECTRICITY_PRICE" in line:
                    break
        assert (b"0.25" in line, b"0.5" in line) == (True, True)
    finally:
        for process in (ven, bridge):
            process.terminate()
            await process.wait()
    said = README.partition("## A device that speaks OpenADR 2.0b")[2].partition("\n## ")[0]
    assert "not certified by the OpenADR Alliance" in said
