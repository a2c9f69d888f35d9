"""import prices, programs: as a person types them, beside a running bridge too."""

import asyncio
import json
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from bridge.cli import main
from bridge.store import files
from bridge.store.sqlite import connect
from tests.peers import SHARED, SimClock, kept_prices, started
from tests.utilities import GridX

SETTINGS = """
[site]
timezone = "America/Los_Angeles"
[vtn]
listen = "127.0.0.1:0"
"""
SOURCE = """
[[sources]]
kind = "gridx"
name = "pge"
base_url = "{url}"
utility = "PGE"
series = [{{ rate = "EELEC", circuit = "013532223" }}]
backfill_from = "{since}"
"""
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "bridge.toml"
    path.write_text(SETTINGS)

    def invoke(*words, status=0):
        found = CliRunner().invoke(main, [*words, "-c", str(path)])
        assert found.exit_code == status, found.output
        return found.output

    invoke.path, invoke.folder = path, tmp_path
    return invoke


def test_circuits_are_found_by_place_and_number(tmp_path):
    def search(*words, status=0):
        found = CliRunner().invoke(main, ["programs", "search", *words])
        assert found.exit_code == status, found.output
        return found.output

    (found,) = json.loads(search("mountain view", "--json"))
    assert (found["circuit"], found["utility"], found["division"]) == (
        "082031112",
        "PGE",
        "De Anza",
    )
    assert json.loads(search("082031112", "--json")) == [found]
    assert "Eagle Rock" in search("eagle")
    known = json.loads(search("pge", "--json"))
    assert (len(known), sum(c["served"] for c in known)) == (98, 59)
    assert len(json.loads(search("sce", "--json"))) == 46
    assert "no circuit is known for 'atlantis'" in search("atlantis", status=1)
    assert json.loads(search("atlantis", "--json")) == []


def test_the_table_of_circuits_is_that_of_the_filing():
    if not (SHARED / "data").exists():
        pytest.skip("../shared is not here")
    import re

    from bridge.cli.circuits import circuits

    text = (SHARED / "data" / "pge-circuit-locations.edn").read_text()
    pattern = r'"(\d{9})" \{:region "([^"]*)" :division "([^"]*)" :substation "([^"]*)" :feeder "(\d+)"[^}]*enum\? (\w+)'
    wanted = {
        (c, r, d, s.lower(), f, e == "true") for c, r, d, s, f, e in re.findall(pattern, text)
    }
    ours = {
        (
            c["circuit"],
            c["region"],
            c["division"],
            c["substation"].lower(),
            c["feeder"],
            c["served"],
        )
        for c in circuits()
        if c["utility"] == "PGE"
    }
    assert ours == wanted


def test_a_file_is_taken_in_once(run):
    path = run.folder / "prices.json"
    rows = [
        {"start": f"2026-01-01T{h:02}:00", "end": f"2026-01-01T{h + 1:02}:00", "value": h / 8}
        for h in range(20)
    ]
    path.write_text(json.dumps(rows))
    command = ("import", "prices", str(path), "--program", "F", "--currency", "USD", "--json")
    assert json.loads(run(*command)) == {"prices": 20, "changed": 20, "problems": []}
    assert json.loads(run(*command)) == {"prices": 20, "changed": 0, "problems": []}
    (listed,) = json.loads(run("programs", "list", "--json"))
    # times without an offset are the site's
    assert (listed["programName"], listed["covers_from"]) == ("F", "2026-01-01T08:00:00Z")
    assert "2026-01-02T04:00:00Z" in run("programs", "list")


def test_an_import_feeds_what_is_derived_too(run):
    run.path.write_text(SETTINGS + '[[adders]]\nprogram = "F"\nname = "home"\nfixed = "1"\n')
    path = run.folder / "prices.csv"
    path.write_text("start,end,value\n2026-01-01T00:00Z,2026-01-01T01:00Z,0.5\n")
    run("import", "prices", str(path), "--program", "F")
    listed = json.loads(run("programs", "list", "--json"))
    assert [(p["programName"], p["derived_from"]) for p in listed] == [("F", None), ("home", "F")]


def test_each_file_stands_for_itself(run):
    good, empty, bad = (run.folder / name for name in ("good.csv", "empty.csv", "bad.json"))
    good.write_text("start,end,value\n2026-01-01T00:00Z,2026-01-01T01:00Z,0.5\n")
    empty.write_text("start,end,value\n")
    bad.write_text("{")
    said = json.loads(
        run(
            "import",
            "prices",
            str(bad),
            str(good),
            str(empty),
            "--program",
            "F",
            "--json",
            status=1,
        )
    )
    assert said["prices"] == 1
    assert [p.partition(":")[0] for p in said["problems"]] == ["bad.json", "empty.csv"]
    settings = SETTINGS + '[[sources]]\nkind = "feed"\nname = "f"\nfolder = "."\n'
    run.path.write_text(settings)
    assert "the settings say how it is read" in run(
        "import", "prices", str(good), "--source", "f", "--currency", "USD", status=2
    )


def test_history_that_is_not_there_is_said(run):
    async def asked():
        utility = GridX()
        async with started(utility):
            since = datetime.now(UTC).date() - timedelta(days=5)
            run.path.write_text(SETTINGS + SOURCE.format(url=utility.base, since=since))
            return await asyncio.to_thread(run, "import", "prices", "--source", "pge", status=1)

    assert "nothing is published for what was asked" in asyncio.run(asked())


def test_json_on_stdout_is_nothing_but_json(run, tmp_path):
    with closing(connect(tmp_path / "bridge.db")) as db:
        db.conn.execute(f"PRAGMA application_id = {files.APPLICATION_ID}")
        files.migrations.apply(db, stop_before="prices_by_day")
    done = subprocess.run(
        [sys.executable, "-m", "bridge", "programs", "list", "--json", "-c", str(run.path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == []
    assert "backed up before migrating" in done.stderr


def test_what_cannot_be_read_is_said_and_the_rest_is_taken_in(run):
    path = run.folder / "prices.csv"
    path.write_text("start,end,value\n2026-01-01T00:00Z,2026-01-01T01:00Z,1\nx,y,z\n")
    said = run("import", "prices", str(path), "--program", "F", status=1)
    assert "1 prices read, 1 of them new or changed" in said
    assert "prices.csv: row 2: 'x' is not a time" in said
    path.write_text("nothing")
    assert "has no column start" in run("import", "prices", str(path), "--program", "F", status=1)
    path.write_text("start,end,value\n")
    assert "holds no prices" in run("import", "prices", str(path), "--program", "F", status=1)


def test_what_is_asked_for_wrongly_is_said(run):
    path = run.folder / "prices.csv"
    path.write_text("start,end,value\n")
    assert "name FILES" in run("import", "prices", status=2)
    assert "--program" in run("import", "prices", str(path), status=2)
    assert "there is no source 'nope' in the settings; there are: none" in run(
        "import", "prices", "--source", "nope", status=2
    )
    assert "no source 'nope'" in run("programs", "list", "--source", "nope", status=2)
    run.path.write_text(SETTINGS + SOURCE.format(url="http://127.0.0.1:9/v1", since="2026-01-01"))
    assert "'pge' is no feed" in run("import", "prices", str(path), "--source", "pge", status=2)
    assert "no time zone" in run(
        "import", "prices", str(path), "--program", "F", "--timezone", "Mars", status=2
    )
    assert "cannot be asked" in run("import", "prices", "--source", "pge", status=1)


async def test_history_is_fetched_in_the_foreground_beside_a_running_bridge(
    run, settings, bridge, tmp_path
):
    utility, today = GridX(), datetime.now(UTC).date()
    for n in range(1, 20):
        utility.publish(today - n * timedelta(days=1), "0.1")
    async with started(utility):
        since = today - timedelta(days=18)
        run.path.write_text(SETTINGS + SOURCE.format(url=utility.base, since=since))
        command = [
            "-m", "bridge", "import", "prices", "--source", "pge", "--json", "-c", str(run.path)
        ]  # fmt: skip
        # a bridge holds the store meanwhile
        async with bridge(settings(), SimClock(datetime.now(UTC))) as running:
            for changed in (True, False):
                process = await asyncio.create_subprocess_exec(
                    sys.executable, *command, stdout=-1, stderr=-1
                )
                out, err = await asyncio.wait_for(process.communicate(), 60)
                assert process.returncode == 0, err
                assert (json.loads(out)["changed"] > 400) is changed
            rows = await kept_prices(
                running.store, "EELEC-013532223", datetime(2020, 1, 1, tzinfo=UTC)
            )
            assert len(rows) in range(17 * 24 - 1, 18 * 24 + 2)
        assert len({(a["startdate"], a["enddate"]) for a in utility.asked}) == len(utility.asked)
