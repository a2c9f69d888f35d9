"""Readings in: posted, uploaded, put into a folder, imported by command."""

import asyncio
import gzip
import io
import json
import os
import subprocess
import sys
import time
from datetime import timedelta
from decimal import Decimal
from urllib.parse import urlsplit

import pytest

from bridge.store import usage
from tests import greenbutton as espi
from tests.peers import SHARED, eventually, kept_readings

GREEN = SHARED / "data" / "greenbutton"
HOUR = timedelta(hours=1)
ROW = {
    "meter": "m",
    "start": "2027-03-14T10:00:00Z",
    "end": "2027-03-14T11:00:00Z",
    "value": 1.25,
    "unit": "kWh",
}


def green(values, start=espi.START, said=espi.SAID):
    return espi.download(espi.readings(values, start)).replace(espi.SAID.encode(), said.encode())


def kept(call, meter=None):
    return [r for r in kept_readings(call.bridge.store.path) if meter in {None, r["meter"]}]


async def test_readings_are_posted_as_json_and_csv(site):
    async with site() as call:
        one = await call("operate").post("/api/v1/readings", ROW)
        assert (one.status, one.json) == (
            200,
            {"readings": 1, "new": 1, "updated": 0, "duplicates": 0, "outdated": 0},
        )
        again = await call("operate").post(
            "/api/v1/readings", {"readings": [ROW, {**ROW, "value": "7.50", "direction": "export"}]}
        )
        assert (again.json["new"], again.json["duplicates"]) == (1, 1)
        table = "meter,start,end,value,unit,direction\nm,2027-03-14T03:00:00-08:00,2027-03-14T12:00:00Z,2500,Wh,\n"
        text = await call("operate").post("/api/v1/readings", table, "text/csv")
        assert (text.status, text.json["new"]) == (200, 1), text.text
        assert [(r["direction"], r["amount"], r["unit"]) for r in kept(call, "m")] == [
            ("net", Decimal("1.25"), "KWH"), ("net", Decimal("2.500"), "KWH"), ("export", Decimal("7.50"), "KWH"),
        ]  # fmt: skip
        assert kept(call)[0]["client"] == "api:t-operate"


async def test_a_client_names_so_many_meters_and_no_more(site, monkeypatch):
    monkeypatch.setattr(usage, "MOST_OWNED", 3)
    async with site() as call:
        for n in range(3):
            assert (
                await call("alice").post("/api/v1/readings", {**ROW, "meter": f"m{n}"})
            ).status == 200
        more = await call("alice").post("/api/v1/readings", {**ROW, "meter": "m3"})
        assert (more.status, "3 of alice already" in more.json["detail"]) == (400, True)
        for name, meter in (("alice", "m0"), ("bob", "m3"), ("operate", "m3")):
            again = {**ROW, "meter": meter, "value": 7}
            assert (await call(name).post("/api/v1/readings", again)).status == 200
        assert {r["meter"] for r in kept(call)} == {
            "openadr3:alice:m0", "openadr3:alice:m1", "openadr3:alice:m2", "openadr3:bob:m3", "m3",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("", "JSON"), ("{", "JSON"), ([], "no readings"), ([1], "reading"), ([{**ROW, "value": "x"}], "value"),
        ([ROW, {**ROW, "value": True}], "readings.1"), ([{**ROW, "start": "2027-03-14T10:00:00"}], "RFC 3339"),
        ([{**ROW, "end": ROW["start"].replace("10", "09")}], "end"), ([{**ROW, "what": 1}], "what"),
        ([{k: v for k, v in ROW.items() if k != "meter"}], "meter"), ([{**ROW, "direction": "up"}], "import"),
        ([{**ROW, "meter": ["m"]}], "meter"), ([{**ROW, "value": "1e999999"}], "value"),
        ([{**ROW, "end": "9999-12-31T00:00:00Z"}], "end"), ([{**ROW, "start": "0001-01-01T00:00:00Z"}], "start"),
    ],
)  # fmt: skip
async def test_what_cannot_be_read_is_refused_whole(site, body, word):
    async with site() as call:
        found = await call("operate").post("/api/v1/readings", body)
        assert (found.status, word in found.json["detail"]) == (400, True), found.text
        assert kept(call) == []


async def test_packed_bodies_and_too_much_at_once_are_refused(site):
    bomb = gzip.compress(b" " * 30_000_000)
    async with site() as call:
        for path in ("/api/v1/readings", "/api/v1/usage/import", "/hooks/x", "/nothing"):
            for who in (None, "operate"):
                headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
                found = await call(who).call("POST", path, io.BytesIO(bomb), headers)
                assert found.status in {401, 415}, (path, found.text)
        found = await call("operate").post(
            "/api/v1/readings", [{**ROW, "meter": f"m{n}"} for n in range(101)]
        )
        assert (found.status, "meters" in found.json["detail"]) == (400, True)
        assert kept(call) == []


async def test_a_client_writes_meters_of_its_own_and_reads_them(site):
    async with site() as call:
        await call("operate").post("/api/v1/readings", {**ROW, "meter": "alice-1"})
        for meter in ("alice-1", "m", "openadr3:alice:m"):
            assert (
                await call("dev").post("/api/v1/readings", {**ROW, "meter": meter, "value": 9})
            ).status == 200
        assert [r["amount"] for r in kept(call, "alice-1")] == [Decimal("1.25")]
        seen = await call("alice").get(
            "/api/v1/usage", resolution="daily", start="2027-03-14T00:00:00Z"
        )
        assert [(r["meter"], r["value"]) for r in seen.items] == [("alice-1", Decimal("1.25"))]
        assert {r["meter"] for r in kept(call)} == {
            "alice-1",
            "openadr3:dev:alice-1",
            "openadr3:dev:m",
            "openadr3:dev:openadr3:alice:m",
        }
        refused = await call("read").post("/api/v1/readings", ROW)
        assert (refused.status, "operate" in refused.json["detail"]) == (403, True)


async def test_a_file_is_uploaded_under_its_own_limit(site, tmp_path):
    text = green(range(24 * 400))
    assert len(text) > 1_100_000, "larger than other bodies may be"
    async with site(usage={"largest_upload": len(text)}) as call:
        found = await call("operate").post("/api/v1/usage/import", text, "application/xml")
        assert (found.status, found.json["readings"], found.json["new"]) == (200, 9600, 9600), (
            found.text
        )
        again = await call("operate").post("/api/v1/usage/import", text, "application/xml")
        assert (again.json["readings"], again.json["duplicates"], again.json["updated"]) == (
            9600,
            9600,
            0,
        )
        large = await call("operate").post("/api/v1/usage/import", text + b" ", "application/xml")
        assert large.status == 413
        bad = await call("operate").post("/api/v1/usage/import", b"PK\x03\x04", "application/xml")
        assert bad.status == 400
        assert "archive" in bad.json["detail"], bad.text
        named = await call("operate").post(
            "/api/v1/usage/import", green(range(3)), "application/xml", meter="alice-1"
        )
        assert named.json["meters"] == ["alice-1"]
        assert (await call("alice").get("/api/v1/usage", meter="alice-1")).status == 200
        assert (
            await call("alice").post("/api/v1/usage/import", text, "application/xml")
        ).status == 403
        assert list((tmp_path / "bridge.db.uploads").iterdir()) == []


async def test_an_upload_that_stands_still_is_ended(site, monkeypatch, tmp_path):
    monkeypatch.setattr("bridge.vtn.intake.PATIENCE", 0.3)
    async with site() as call:
        url = urlsplit(str(call.url))
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        head = f"POST /api/v1/usage/import HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nAuthorization: Bearer {call.tokens['operate']}\r\n\r\n<feed>"
        writer.write(head.encode())
        status = await asyncio.wait_for(reader.readline(), 30)
        assert b" 408 " in status
        writer.close()
        assert list((tmp_path / "bridge.db.uploads").iterdir()) == []


async def test_files_in_a_folder_are_read_once_each_time_they_change(settings, bridge, tmp_path):
    folder = tmp_path / "inbox"
    folder.mkdir()

    def put(name, text):
        (folder / name).write_bytes(text)
        then = time.time() - 60
        os.utime(folder / name, (then, then))

    put("a.xml", green([1, 2, 3]))
    put("b.txt", b"not looked at")
    source = {
        "kind": "greenbutton",
        "name": "inbox",
        "folder": folder,
        "meter": "m",
        "every": "50ms",
    }
    async with bridge(settings([source])) as running:
        path = running.store.path
        await eventually(lambda: len(kept_readings(path)) == 3)
        put("c.xml", b"<html/>")
        job = running.health.job("source:inbox")
        await eventually(lambda: job.warning and "c.xml" in job.warning)
        put("c.xml", green([9], start=espi.START + 86400))
        await eventually(lambda: len(kept_readings(path)) == 4)
        await eventually(lambda: not job.warning)
        os.utime(folder / "a.xml", (time.time() - 30, time.time() - 30))
        put("a.xml", green([1, 5, 3], said="2026-02-02T00:00:00Z"))
        await eventually(
            lambda: [float(r["amount"]) for r in kept_readings(path)][:3] == [0.001, 0.005, 0.003]
        )


async def test_a_folder_keeps_its_meters_apart_look_by_look(settings, bridge, tmp_path):
    folder = tmp_path / "inbox"
    folder.mkdir()
    source = {
        "kind": "greenbutton",
        "name": "inbox",
        "folder": folder,
        "meter": "house",
        "every": "50ms",
    }
    one, two = (espi.download(espi.readings([n]), path=f"User/1/UsagePoint/{n}") for n in (5, 7))

    def put(name, text, age=60):
        (folder / name).write_bytes(text)
        os.utime(folder / name, (time.time() - age, time.time() - age))

    async with bridge(settings([source])) as running:

        def kept():
            found = kept_readings(running.store.path)
            return {r["meter"]: (r["unit"], float(r["amount"])) for r in found}

        put("one.xml", one)
        await eventually(lambda: kept() == {"house": ("KWH", 0.005)})
        job = running.health.job("source:inbox")
        put("broken.zip", b"PK\x03\x04")
        put("two.xml", two)
        await eventually(lambda: kept() == {"house": ("KWH", 0.005), "house/7": ("KWH", 0.007)})
        await eventually(lambda: job.warning and "is a zip archive" in job.warning)
        # The parts of a download come one after the other, beside what is no file at all.
        nine = "User/1/UsagePoint/9"
        types = espi.feed(espi.point(nine), espi.meter_reading(path=nine), espi.typed())
        blocks = espi.feed(espi.intervals(espi.readings([3]), path=nine))
        put("9-types.xml", types, age=0)
        put("9-blocks.xml", blocks, age=30)
        put("broken.xml", b"<html/>")
        await eventually(lambda: job.warning and "broken.xml" in job.warning)
        assert "house/9" not in kept()
        put("9-types.xml", types, age=30)
        await eventually(lambda: kept().get("house/9") == ("KWH", 0.003))
        assert len(kept()) == 3
        seen = job.last_success
        await eventually(lambda: job.last_success > seen)  # it is noted, too, what was read
    # Under another name in the settings it is another meter.
    put("two.xml", two + b" ", age=50)
    async with bridge(settings([{**source, "meter": "shop"}])) as running:
        await eventually(lambda: kept().get("shop") == ("KWH", 0.007))
        assert len(kept()) == 4


async def test_a_file_that_fails_midway_mixes_no_meters(settings, bridge, tmp_path):
    five, seven = ("User/1/UsagePoint/5", "User/1/UsagePoint/7")
    rows = [espi.readings([n] * 3, espi.START + n * 86400) for n in (5, 7, 9)]
    whole = [espi.point(seven), espi.meter_reading(path=seven), espi.typed()]
    files = {
        "a.xml": espi.feed(espi.intervals(rows[0], path=five), espi.point(five),
                           espi.meter_reading(path=five), espi.typed()),
        "b.xml": espi.feed(*whole, espi.intervals(rows[1], path=seven)),
        "c.xml": espi.feed(*whole, espi.intervals(rows[2], path=seven),
                           f"<entry><title>{'x' * 5_000_000}</title></entry>"),
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).write_bytes(text)
        os.utime(tmp_path / name, (time.time() - 60, time.time() - 60))
    source = {"kind": "greenbutton", "name": "inbox", "folder": tmp_path, "meter": "house"}
    async with bridge(settings([{**source, "every": "50ms"}])) as running:
        job = running.health.job("source:inbox")
        await eventually(lambda: job.warning and "c.xml" in job.warning)
        found = {}
        for row in kept_readings(running.store.path):
            found.setdefault(row["meter"], set()).add(float(row["amount"]))
    assert sorted(found) == ["house", "house/5"]
    assert (found["house"] - {0.009}, found["house/5"]) == ({0.007}, {0.005})


def command(folder, *words, status=0):
    done = subprocess.run(
        [sys.executable, "-m", "bridge", "import", "greenbutton", *map(str, words), "--json"],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout, parse_float=Decimal) if done.stdout else done.stderr


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "bridge.toml").write_text('[site]\ntimezone = "America/Los_Angeles"\n')
    return tmp_path


def test_the_command_says_what_became_of_files(folder):
    (folder / "a.xml").write_bytes(green([1, 2, 3]))
    first = command(folder, "a.xml")
    assert {k: first[k] for k in ("readings", "updated", "duplicates", "dropped", "meters")} == {
        "readings": 3, "updated": 0, "duplicates": 0, "dropped": {}, "meters": [espi.POINT],
    }  # fmt: skip
    assert command(folder, "a.xml")["duplicates"] == 3
    twice = command(folder, "a.xml", "a.xml")
    assert (twice["readings"], twice["duplicates"], twice["updated"]) == (3, 6, 0)
    (folder / "a.xml").write_bytes(green([1, "x", 5]))
    mended = command(folder, "a.xml")
    assert (mended["readings"], mended["updated"], mended["duplicates"]) == (2, 1, 1)
    assert sum(mended["dropped"].values()) == 1
    (folder / "none.xml").write_bytes(espi.feed())
    assert command(folder, "none.xml")["readings"] == 0
    (folder / "cut.xml").write_bytes(green(range(100))[:-900])
    cut = command(folder, "cut.xml", status=1)
    assert (cut["readings"] > 50, "truncated" in cut["dropped"]) == (True, True)
    (folder / "bad.xml").write_bytes(b"hello")
    assert "Green Button" in command(folder, "bad.xml", status=1)
    assert [float(r["amount"]) for r in kept_readings(folder / "bridge.db")][:3] != []


@pytest.mark.skipif(not GREEN.is_dir(), reason="the recorded Green Button files are not at hand")
def test_recorded_files_are_imported_to_the_watt_hour(folder):
    (coastal,) = GREEN.glob("Coastal*")
    found = command(folder, coastal)
    assert (found["readings"], found["dropped"]) == (8760, {})
    assert sum(r["amount"] for r in kept_readings(folder / "bridge.db")) == Decimal("4425.305")
    parts = command(folder, *sorted(GREEN.glob("PGE*")))
    assert (parts["readings"], parts["duplicates"]) == (2280, 276)
    unknown = {
        r["unit"] for r in kept_readings(folder / "bridge.db") if r["meter"].startswith("Sub")
    }
    assert unknown == {""}, "its ReadingType contradicts itself: kept raw"
