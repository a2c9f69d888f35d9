"""The README's ten lines do what they say."""

import asyncio
import os
import re
import sys
from pathlib import Path

from tests.openadr3.clients import BASE, SECRETS, prices

README = Path(__file__).parents[2] / "README.md"


async def test_a_device_connects_in_ten_lines(vtn):
    (code,) = [
        c
        for c in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
        if "auth/token" in c
    ]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    async with vtn() as call:
        program = await call("bl").made("/programs", {"programName": "P"})
        await call("bl").made(
            "/events",
            prices(program["id"], "2090-01-01T00:00:00Z", 0.25, 0.5, eventName="tomorrow"),
        )
        environment = {
            **os.environ,
            "VTN": call.url + BASE,
            "ID": "ven1",
            "SECRET": SECRETS["ven1"],
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, env=environment, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await process.communicate()
    assert said.decode() == "tomorrow [[0.25], [0.5]]\n"
