"""Green Button out: what is exported reads back the same, by the route and by the command."""

import subprocess
import sys

from tests.peers import kept_readings
from tests.store.test_usage import run
from tests.usage.calls import HOUR, measured
from tests.usage.test_api import QUARTER, SPAN, START, filled


def facts(path, meter):
    return sorted(
        (
            r["direction"],
            r["kind"],
            r["unit"],
            r["start"],
            r["length"],
            r["amount"],
            r["quality"] or "",
        )
        for r in kept_readings(path)
        if r["meter"] == meter
    )


async def test_what_is_exported_reads_back_the_same(site, tmp_path):
    async with site() as call:
        await filled(call)
        await call.keep(
            measured(
                "alice-1",
                run(
                    START, QUARTER, ["-0.0005", "12345678901.25"] * 50, quality="estimated", cost=7
                ),
                direction="export",
            ),
            measured("alice-1", run(START, HOUR, [1]), kind="subscription_pre"),
            measured("alice-1", run(START, HOUR, [5, "6.5"]), kind="demand", unit="KW"),
        )
        file = await call("alice").get("/api/v1/usage/greenbutton", meter="alice-1")
        assert (file.status, file.headers["Content-Type"]) == (
            200,
            "application/atom+xml; charset=utf-8",
        )
        part = await call("alice").get(
            "/api/v1/usage/greenbutton",
            meter="alice-1",
            start=SPAN["start"],
            end="2027-03-13T00:30:00-08:00",
        )
        assert part.text.count("<IntervalReading>") == 2 + 2 + 1
        for meter in ("bob-1", "nothing"):
            assert (await call("alice").get("/api/v1/usage/greenbutton", meter=meter)).status == 404
        assert (await call("ann").get("/api/v1/usage/greenbutton", meter="alice-1")).status == 403
        path, had = call.bridge.store.path, facts(call.bridge.store.path, "alice-1")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "bridge.toml").write_text("")
    (tmp_path / "other" / "a.xml").write_text(file.text)
    command(tmp_path / "other", "import", "greenbutton", "a.xml")
    again = facts(tmp_path / "other" / "bridge.db", "alice-1")
    assert again == [fact for fact in had if fact[1] != "subscription_pre"]
    (tmp_path / "bridge.toml").write_text(f'[store]\npath = "{path}"\n')
    said = command(tmp_path, "export", "greenbutton", "alice-1", "-o", "b.xml")
    assert "subscription_pre" in said
    (tmp_path / "other" / "bridge.db").unlink()
    command(tmp_path / "other", "import", "greenbutton", str(tmp_path / "b.xml"))
    assert facts(tmp_path / "other" / "bridge.db", "alice-1") == again
    for meter, file, *more, word in (
        ("nothing", "c.xml", "no meter"),
        ("alice-1", "none/c.xml", "cannot be written"),
        ("alice-1", "c.xml", "--start", "soon", "write a time"),
        ("alice-1", "c.xml", "--start", "2027-01-01T00:00:00Z", "--end", "2026-01-01T00:00:00Z", "must be after"),
    ):  # fmt: skip
        said = command(tmp_path, "export", "greenbutton", meter, "-o", file, *more, status=1)
        assert (word in said, "Traceback" in said) == (True, False)
    said = command(tmp_path / "other", "import", "greenbutton", "a.xml", "--meter", "", status=2)
    assert "write a name" in said


def command(folder, *words, status=0):
    done = subprocess.run(
        [sys.executable, "-m", "bridge", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr
