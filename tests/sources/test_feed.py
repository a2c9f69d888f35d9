"""Feeds: by URL, from a file, from a watched folder; and the official vintage file, whole."""

import asyncio
import csv
import io
import json
import os
import shutil
import sys
import time
import zipfile
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from aiohttp import web

from bridge.notation import from_json
from tests.peers import (
    LONG,
    SHARED,
    Served,
    SimClock,
    eventually,
    kept_prices,
    replaced_prices,
    started,
)
from tests.sources.test_gridx import Scene

HOUR = timedelta(hours=1)
VINTAGE = SHARED / "data" / "pge-nbt-2025-vintage.csv.zip"


def rows(start, values):
    return [
        {
            "start": (start + n * HOUR).isoformat(),
            "end": (start + (n + 1) * HOUR).isoformat(),
            "value": v,
        }
        for n, v in enumerate(values)
    ]


def write(path, text, age=60):
    path.write_text(text)
    then = time.time() - age
    os.utime(path, (then, then))


class Url(Served):
    path = "/prices.json"

    def __init__(self):
        super().__init__()
        self.text, self.status = "[]", 200

    async def answer(self, request):
        return web.Response(text=self.text, status=self.status, content_type="application/json")


@pytest.fixture
def now():
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


async def test_a_url_is_read_again_and_again(settings, bridge, tmp_path, now):
    peer, clock = Url(), SimClock(now)
    peer.text = json.dumps(rows(now, [0.1, -0.0408]))
    async with started(peer):
        about = {"kind": "feed", "name": "pge", "url": peer.url, "program": "F", "currency": "EUR"}
        async with bridge(settings([about]), clock) as running:
            scene = Scene(peer, None, clock, running, tmp_path / "bridge.db")
            await eventually(lambda: scene.job.last_success)
            assert [str(r.value) for r in await kept_prices(running.store, "F", now)] == [
                "0.1",
                "-0.0408",
            ]
            peer.text = json.dumps(rows(now, [0.1, 0.5]))
            await scene.polled()
            assert [str(r.value) for r in await kept_prices(running.store, "F", now)] == [
                "0.1",
                "0.5",
            ]
            (was,) = await replaced_prices(running.store, "F")
            assert str(was.value) == "-0.0408"
            for text, status, said in (
                ("<html>", 200, "no column start"),
                ("[]", 500, "answered 500"),
            ):
                peer.text, peer.status = text, status
                await scene.passing(lambda s=said: scene.job.problem and s in scene.job.problem)
            assert len(await kept_prices(running.store, "F", now)) == 2
            peer.text, peer.status = json.dumps([*rows(now, [0.1, 0.5]), {"start": "x"}]), 200
            await scene.passing(lambda: scene.job.warning)
            await scene.warned("row 3")
            assert scene.job.problem is None


async def test_a_watched_folder(settings, bridge, tmp_path, now):
    folder, clock = tmp_path / "in", SimClock(now + timedelta(minutes=1))
    folder.mkdir()
    about = {"kind": "feed", "name": "pge", "folder": folder, "fields": {"program": "name"}}
    clock.set(datetime.now(UTC))
    async with bridge(settings([about]), clock) as running:
        scene = Scene(None, None, clock, running, tmp_path / "bridge.db")
        await eventually(lambda: scene.job.last_success)
        write(folder / "a.json", json.dumps([{**r, "name": "A"} for r in rows(now, [1, 2])]))
        write(folder / ".hidden.json", "x")
        await scene.polled()
        await scene.polled()
        assert len(await kept_prices(running.store, "A", now)) == 2
        write(
            folder / "b.csv",
            "name,start,end,value\nB,2026-01-01T00:00:00Z,2026-01-01T01:00:00Z,7\nB,?,,\n",
        )
        write(folder / "c.json", "{")
        await scene.polled()
        await scene.polled()
        start = datetime(2026, 1, 1, tzinfo=UTC)
        assert [str(r.value) for r in await kept_prices(running.store, "B", start)] == ["7"]
        await scene.warned("b.csv: row 2")
        await scene.warned("c.json: is not JSON")
        write(folder / "a.json", json.dumps([{**r, "name": "A"} for r in rows(now, [1, 3])]), 30)
        write(folder / "c.json", "[]")
        await scene.polled()
        await scene.polled()
        assert [str(r.value) for r in await kept_prices(running.store, "A", now)] == ["1", "3"]
        assert "c.json" not in (scene.job.warning or "")


async def test_a_file_that_is_being_written_is_left_alone(settings, bridge, tmp_path, now):
    path, clock = tmp_path / "prices.json", SimClock(datetime.now(UTC))
    path.write_text(json.dumps(rows(now, [1])))
    about = {"kind": "feed", "name": "pge", "path": path}
    async with bridge(settings([about]), clock) as running:
        scene = Scene(None, None, clock, running, tmp_path / "bridge.db")
        await eventually(lambda: scene.job.last_success)
        assert await running.store.prices.programs(clock.now()) == []
        await scene.polled()
        await scene.polled()
        assert len(await kept_prices(running.store, "pge", now)) == 1
        path.unlink()
        await scene.passing(lambda: scene.job.problem)
        assert "is not there" in scene.job.problem


async def test_a_damaged_archive_stops_no_other_file_and_is_told_until_it_is_gone(
    settings, bridge, tmp_path, now
):
    folder, clock = tmp_path / "in", SimClock(datetime.now(UTC))
    folder.mkdir()
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "prices.csv", "start,end,value\n" + "2026-01-01T00:00Z,2026-01-01T01:00Z,1\n" * 5000
        )
    damaged = bytearray((folder / "a.zip").read_bytes())
    damaged[60:90] = bytes(30)
    (folder / "a.zip").write_bytes(damaged)
    write(folder / "b.json", "[" * 100_000)
    write(folder / "notes.pdf", "x")
    write(folder / "z.json", json.dumps(rows(now, [1])))
    os.utime(folder / "a.zip", (time.time() - 60,) * 2)
    about = {"kind": "feed", "name": "pge", "folder": folder}
    for restarted in (False, True):  # it is told after a restart as well
        async with bridge(settings([about]), clock) as running:
            scene = Scene(None, None, clock, running, tmp_path / "bridge.db")
            await eventually(lambda s=scene: s.job.last_success)
            assert len(await kept_prices(running.store, "pge", now)) == 1
            await scene.polled()
            await scene.warned("a.zip: cannot be read")
            await scene.warned("b.json: is not JSON (it is nested too deeply)")
            assert "notes.pdf" not in scene.job.warning
            if restarted:
                (folder / "a.zip").unlink()
                (folder / "b.json").unlink()
                await scene.polled()
                await scene.polled()
                await scene.warned(None)
                shutil.rmtree(folder)
                await scene.passing(lambda s=scene: s.job.problem)
                assert "cannot be read" in scene.job.problem


@pytest.mark.parametrize("place", ["url", "path"])
async def test_settings_that_were_put_right_are_read_by(settings, bridge, tmp_path, now, place):
    peer, path, clock = Url(), tmp_path / "prices.json", SimClock(datetime.now(UTC))
    peer.text = json.dumps(rows(now, [10]))
    write(path, peer.text)
    async with started(peer):
        about = {"kind": "feed", "name": "pge", place: peer.url if place == "url" else path}
        for scale, value in (("1", "10"), ("0.01", "0.10")):
            async with bridge(settings([{**about, "fields": {"scale": scale}}]), clock) as running:
                await eventually(lambda r=running: r.health.job("source:pge").last_success)
                (row,) = await kept_prices(running.store, "pge", now)
                assert str(row.value) == value


async def test_what_was_read_is_not_read_again(settings, bridge, tmp_path, now, monkeypatch):
    path, clock, read = tmp_path / "prices.json", SimClock(datetime.now(UTC)), []
    write(path, json.dumps([*rows(now, [10]), {"start": "?"}]))
    from bridge.wire import feed

    real = feed.rows
    monkeypatch.setattr(feed, "rows", lambda *about: read.append(1) or real(*about))
    for _ in range(2):
        async with bridge(
            settings([{"kind": "feed", "name": "pge", "path": path}]), clock
        ) as running:
            scene = Scene(None, None, clock, running, tmp_path / "bridge.db")
            await eventually(lambda s=scene: s.job.last_success)
            await scene.polled()
            await scene.warned("row 2")
    assert len(read) == 1


async def test_a_feed_with_a_rate_and_a_circuit_is_served_as_the_utility_serves_it(
    settings, bridge, tmp_path, now
):
    path, clock = tmp_path / "prices.json", SimClock(datetime.now(UTC))
    write(path, json.dumps(rows(now, [0.1, 0.2])))
    about = {
        "kind": "feed", "name": "pge", "path": path, "utility": "PGE", "rate": "R", "circuit": "007",
        "currency": "USD",
    }  # fmt: skip
    async with bridge(settings([about]), clock) as running:
        scene = Scene(None, None, clock, running, tmp_path / "bridge.db")
        await eventually(lambda: scene.job.last_success)
        status, body = await scene.get(
            "/v1/getPricing?utility=PGE&market=DAM&program=CalFUSE&ratename=R&representativeCircuitId=007"
            f"&startdate={now:%Y%m%d}&enddate={now + HOUR:%Y%m%d}"
        )
        assert status == 200
        prices = [p["intervalPrice"] for d in from_json(body)["data"] for p in d["priceDetails"]]
        assert prices == ["0.100000", "0.200000"]


def _rows_of(path):
    """Return the rows of the official file; of two years unless BRIDGE_LONG=1."""
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if not n.startswith("__"))
        found = csv.DictReader(io.TextIOWrapper(archive.open(name), "utf-8-sig"))
        return [row for row in found if LONG or row["DateStart"].endswith(("/2025", "/2026"))]


def _cut(rows, path):
    text = io.StringIO()
    table = csv.DictWriter(text, rows[0])
    table.writeheader()
    table.writerows(rows)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("part.csv", text.getvalue())
    return path


async def test_the_official_vintage_file_imports_whole_by_settings_alone(tmp_path):
    if not VINTAGE.exists():
        pytest.skip("../shared is not here")
    from bridge.store import open_store

    (tmp_path / "bridge.toml").write_text(
        """
        [[sources]]
        kind = "feed"
        name = "nbt"
        folder = "."
        payload_type = "EXPORT_PRICE"
        currency = "USD"
        timezone = "America/Los_Angeles"
        [sources.fields]
        program = "RIN"
        start = ["DateStart", "TimeStart"]
        end = ["DateEnd", "TimeEnd"]
        end_inclusive = true
        value = "Value"
        time_format = "%m/%d/%Y %H:%M:%S"
        """
    )
    config = str(tmp_path / "bridge.toml")
    rows = _rows_of(VINTAGE)
    path = VINTAGE if LONG else _cut(rows, tmp_path / "part.zip")
    command = ["-m", "bridge", "import", "prices", str(path), "--source", "nbt", "--json"]
    # counted for coverage, so much work takes minutes; the small files' tests cover it
    bare = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
    said = []
    for _ in range(2):
        child = await asyncio.create_subprocess_exec(
            sys.executable, *command, "-c", config, env=bare, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await child.communicate()
        assert child.returncode == 0
        said.append(json.loads(out))
    assert len(rows) == (350_640 if LONG else 2 * (2 * 8_760 - 8))
    assert said[0] == {"prices": len(rows), "changed": len(rows), "problems": []}
    assert said[1] == {"prices": len(rows), "changed": 0, "problems": []}
    wanted = defaultdict(lambda: defaultdict(Decimal))
    for row in rows:
        wanted[row["RIN"]][row["DateStart"].rsplit("/", 1)[1]] += Decimal(row["Value"])
    async with open_store(tmp_path / "bridge.db") as store:
        for rin, years in wanted.items():
            found = defaultdict(Decimal)
            held = await kept_prices(
                store,
                rin,
                datetime(2024, 1, 1, tzinfo=UTC),
                payload_type="EXPORT_PRICE",
                limit=10**6,
            )
            for price in held:
                found[str(price.start.year)] += price.value
            assert found == years
            assert {p.end - p.start for p in held} == {HOUR}
            assert len(held) == len(rows) / 2
            assert await replaced_prices(store, rin) == []
