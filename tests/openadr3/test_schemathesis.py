"""Generated requests, thousands of them, against the official schema and against our own."""

import asyncio
import json
import os
import sys
from itertools import product
from pathlib import Path

import pytest

from bridge.web import site
from tests.openadr3.clients import BASE, calling, static, with_clients
from tests.openadr3.schema import official
from tests.peers import LONG

# For each of the four: as many as five minutes hold, or the same few, so that a run tells what changed
EXTENT = ["--max-time", "300", "--max-examples", "100000"] if LONG else ["--max-examples", "3"]
PAIRS = (
    list(product(("official", "own"), ("bl", "ven1")))
    if LONG
    else [("own", "bl"), ("official", "ven1")]
)
BASELINE = Path(__file__).with_name("schemathesis_baseline.json")


@pytest.mark.parametrize(("schema", "who"), PAIRS)
@pytest.mark.long
@pytest.mark.timeout(900 if LONG else 240)
async def test_no_request_gets_an_answer_that_the_schema_does_not_know(
    schema, who, settings, bridge, tmp_path, monkeypatch
):
    monkeypatch.setattr(site, "BAD_TOKENS", 10**9)  # the slowing down has a test of its own
    mqtt = {
        "url": "mqtt://127.0.0.1:1",
        "private_topics": True,
    }  # topics are told, be it there or not
    document = official() if schema == "official" else None
    often = {"rate_limit": 10**6}  # likewise
    async with bridge(settings(**with_clients(tmp_path, **often), mqtt=mqtt)) as running:
        url = running.addresses["vtn"]
        if document is None:
            async with calling(url) as vtn:
                header = {"Authorization": f"Bearer {static(who)}"}
                async with vtn.http.get(f"{url}/openapi.json", headers=header) as reply:
                    document = await reply.json()
        else:
            url += BASE
        file = tmp_path / "schema.json"
        file.write_text(json.dumps(document))
        found = await run_schemathesis(file, url, static(who))
    assert found[0] == 0, "\n".join(line[:400] for line in found[1].splitlines() if line.strip())[
        -9000:
    ]


async def run_schemathesis(file, url, token):
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("schemathesis")), "run", str(file), "--url", url,
        "-H", f"Authorization: Bearer {token}", "--seed", "7", *EXTENT,
        "--baseline", str(BASELINE), "--no-color",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=file.parent,
        env={k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")},
    )  # fmt: skip
    said, _ = await process.communicate()
    return process.returncode, said.decode()


def test_every_accepted_deviation_has_a_reason():
    entries = json.loads(BASELINE.read_text())["entries"]
    assert entries
    assert all(entry["reason"] for entry in entries)
