"""The command line, as a person types it."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from bridge.certificates import read_certificate
from bridge.cli import main
from tests.peers import Device, RawVtn, event, eventually, levels, started
from tests.test_app import CONFIG, start_program

NOW = datetime.now(UTC)


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "bridge.toml"
    path.write_text(CONFIG.format(vtn="http://127.0.0.1:9/x", device="http://127.0.0.1:9/price"))

    def invoke(*words, status=0):
        found = CliRunner().invoke(main, [*words, "-c", str(path)])
        assert found.exit_code == status, found.output
        return found.output

    invoke.path = path
    return invoke


def every_command(group=main, before=()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from every_command(command, (*before, name))
        else:
            yield (*before, name)


@pytest.mark.parametrize("words", list(every_command()), ids=" ".join)
def test_every_command_has_help_with_an_example(words):
    found = CliRunner().invoke(main, [*words, "--help"])
    assert found.exit_code == 0
    assert "Example:\n" in found.output
    assert "openadr-bridge " + " ".join(words) in found.output
    assert "--json" in found.output
    assert "--config" in found.output


def test_tokens(run):
    token = json.loads(run("token", "create", "laptop", "--scope", "operate", "--json"))["token"]
    assert token.startswith("oadrb_")
    assert "laptop" in run("token", "list")
    assert token not in run("token", "list", "--json")
    assert "choose another name" in run("token", "create", "laptop", status=1)
    run("token", "revoke", "laptop")
    assert "no token named" in run("token", "revoke", "laptop", status=1)


def test_certificates(run, tmp_path):
    run("certs", "dev", str(tmp_path / "dev"), "--rsa")
    again = json.loads(run("certs", "dev", str(tmp_path / "dev"), "--json"))
    ven = read_certificate(tmp_path / "dev" / "ven.crt")
    assert [c["fingerprint"] for c in again][2] == ven.fingerprint
    assert run("certs", "fingerprint", str(tmp_path / "dev" / "ven.crt")).strip() == ven.fingerprint
    assert len(ven.fingerprint.split(":")) == 10
    assert ven.sha256.endswith(ven.fingerprint)
    assert "localhost, 127.0.0.1" in run("certs", "show", str(tmp_path / "dev" / "vtn.crt"))
    assert (tmp_path / "dev" / "ven.key").stat().st_mode & 0o777 == 0o600
    assert "cannot be read" in run("certs", "show", "nothing.crt", status=2)
    assert "is not a PEM certificate" in run("certs", "show", str(run.path), status=2)


def test_backup_restore_stats_and_vacuum(run, tmp_path):
    run("token", "create", "a")
    assert "certificates, keys and secret files are not in it" in run(
        "backup", str(tmp_path / "copy.db")
    )
    run("token", "create", "b")
    assert "what stood there is" in run("restore", str(tmp_path / "copy.db"))
    assert json.loads(run("db", "stats", "--json"))["rows"]["tokens"] == 1
    assert "tokens" in run("db", "stats")
    assert "bytes" in run("db", "vacuum")
    (tmp_path / "bad.db").write_bytes(b"nonsense" * 999)
    assert "not a database" in run("restore", str(tmp_path / "bad.db"), status=1)


def test_check_says_what_is_so_and_changes_nothing(run, tmp_path):
    found = json.loads(run("check", "--json", status=1))
    by_name = {f["check"]: f for f in found}
    assert by_name["settings"]["ok"]
    assert not by_name["source utility"]["ok"]
    assert by_name["device d"]["says"].startswith("127.0.0.1:9 does not answer")
    assert not (tmp_path / "bridge.db").exists()
    run("token", "create", "x")
    assert "store_id" in run("check", status=1)
    (tmp_path / "bridge.db").write_bytes(b"nonsense" * 999)
    assert "BAD  store" in run("check", status=1)


async def test_check_names_a_cipher_a_fingerprint_and_an_expiry(certs, tmp_path, tls, monkeypatch):
    import ssl

    from bridge.certificates import write_development_set
    from bridge.cli.checking import check_all
    from bridge.config import Settings
    from tests.sources.test_openadr2 import mutual

    vtn, context = RawVtn(), mutual(certs / "rsa")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA256")
    await vtn.start(context)
    with monkeypatch.context() as patch:
        patch.setattr("bridge.certificates.DEV_DAYS", -1 / 1440)
        write_development_set(tmp_path / "old")
    old = {k: tmp_path / "old" / f for k, f in (("cert", "ven.crt"), ("key", "ven.key"))}
    source = {
        "kind": "openadr2",
        "ven_name": "b",
        "vtn_url": vtn.url,
        **tls("rsa"),
        "legacy_ciphers": True,
    }
    sources = [
        {**source, "name": "modern", "legacy_ciphers": False},
        {
            **source,
            "name": "pinned",
            "vtn_fingerprint": read_certificate(certs / "rsa" / "vtn.crt").sha256,
        },
        {
            **source,
            "name": "other",
            "vtn_fingerprint": read_certificate(certs / "rsa" / "ven.crt").sha256,
        },
        {**source, "name": "old", **old},
        {**source, "name": "proxied", "proxy": "http://127.0.0.1:3128"},
    ]
    made = Settings.model_validate({"store": {"path": tmp_path / "x.db"}, "sources": sources})
    found = {f["check"]: f for f in await check_all(made)}
    await vtn.stop()
    assert "legacy_ciphers" in found["source modern"]["says"]
    assert found["source pinned"]["ok"]
    assert "another fingerprint" in found["source other"]["says"]
    assert "renew it" in found["source old certificate"]["says"]
    assert "asked through 127.0.0.1" in found["source proxied"]["says"]


def test_a_mistake_in_the_settings_is_one_line_and_exit_2(tmp_path):
    (tmp_path / "bridge.toml").write_text("[vtm]\n")
    done = subprocess.run(
        [sys.executable, "-m", "bridge", "run", "-c", str(tmp_path / "bridge.toml")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr == f"{tmp_path / 'bridge.toml'}: vtm: is not a setting; did you mean 'vtn'?\n"
    )


def test_what_is_not_there_is_said(run):
    assert "no event 'x'" in run("event", "opt", "x", "optIn", status=1)
    assert "no device 'x'" in run("device", "enable", "x", status=1)
    assert "fixed port is needed" in run("healthcheck", status=1)


async def test_commands_beside_a_running_bridge(tmp_path, monkeypatch):
    vtn, device = RawVtn(), Device()
    vtn.poll = "PT2S"
    vtn.list(event("E", datetime.now(UTC) + timedelta(hours=2), levels([1])))
    async with started(vtn, device):
        text = CONFIG.format(vtn=vtn.url, device=device.url)
        text = text.replace('ven_name = "bridge"', 'ven_name = "bridge"\nopt = "manual"')
        path = tmp_path / "bridge.toml"
        path.write_text(text)
        process, ready = await start_program(path)
        try:
            await eventually(lambda: vtn.done)

            def invoke(*words):
                found = CliRunner().invoke(main, [*words, "-c", str(path), "--json"])
                assert found.exit_code == 0, found.output
                return json.loads(found.output)

            (listed,) = invoke("event", "list")
            assert listed["opt"] == "undecided"
            invoke("event", "opt", listed["id"], "optOut")
            await eventually(lambda: vtn.opts == [("E", 0, "optOut")])
            (about,) = invoke("device", "list")
            assert about["last_success"]
            port = ready["admin"].rpartition(":")[2]
            monkeypatch.setenv("OPENADR_BRIDGE_ADMIN__LISTEN", f"127.0.0.1:{port}")
            import asyncio

            assert await asyncio.to_thread(invoke, "healthcheck") == {"ok": True}
        finally:
            process.terminate()
            await process.communicate()
        found = CliRunner().invoke(main, ["healthcheck", "-c", str(path)])
        assert found.exit_code == 1


def test_the_lock_keeps_a_second_bridge_out(tmp_path, run):
    import fcntl

    run("token", "create", "x")
    with (tmp_path / "bridge.db.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = subprocess.run(
            [sys.executable, "-m", "bridge", "run", "-c", str(run.path)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "in use by another bridge" in done.stderr
