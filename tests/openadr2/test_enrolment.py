"""Who may connect: enrolled, renewed and removed by a person; certificates renewed while we run."""

import asyncio
import json
import shutil
import ssl
from datetime import UTC, datetime

import pytest
from aiohttp import ClientSession
from click.testing import CliRunner
from cryptography import x509

from bridge.cli import main
from bridge.store import vens
from bridge.store.files import beside
from bridge.vtn.openadr2 import identity
from tests.openadr2 import raw_messages as messages
from tests.openadr2.pki import Authority, Identity
from tests.openadr2.raw_site import served, toml
from tests.openadr3.clients import until


@pytest.fixture
async def site(tmp_path, monkeypatch):
    monkeypatch.setattr(identity, "LOOK_EVERY", 0.0)
    async with served(tmp_path) as found:
        (tmp_path / "bridge.toml").write_text(toml(found.settings()))
        yield found


def run(site, *words, code=0):
    """Run a `ven` command; return what it says as JSON, or as text where it fails."""
    file = ["-c", str(site.folder / "bridge.toml")]
    found = CliRunner().invoke(main, ["ven", *words, *file, "--json"])
    assert found.exit_code == code, found.output
    return json.loads(found.stdout) if code == 0 else found.output


@pytest.mark.parametrize("how", ["short", "whole", "cert"])
async def test_a_person_enrols_a_ven_and_no_other_may_come(site, how):
    who, other = site.authority.issue("heater"), site.authority.issue("other")
    said = {"short": ["--fingerprint", who.fingerprint], "whole": ["--fingerprint", who.sha256.lower().replace(":", "")],
            "cert": ["--cert", str(who.cert)]}[how]  # fmt: skip
    made = run(
        site,
        "add",
        "heater",
        *said,
        "--resource",
        "r1",
        "--group",
        "g",
        "--program",
        "EV*",
        "--test-events",
    )
    assert made["ven_id"].startswith("heater-")
    assert (made["resources"], made["groups"], made["programs"], made["test_events"]) == (
        ["r1"],
        ["g"],
        ["EV*"],
        True,
    )
    assert (await site.ven(other).register()).refuses(463)
    ven = site.ven(who)
    assert (await ven.register()).good
    assert ven.ven_id == made["ven_id"]
    shown = run(site, "show", "heater")
    assert shown["registered"]
    assert shown["certificates"][0]["sha256"] == who.sha256.replace(":", "")
    assert (
        shown["certificates"][0]["not_after"][:10] == f"{who.loaded.not_valid_after_utc:%Y-%m-%d}"
    )
    assert [v["name"] for v in run(site, "list")] == ["heater"]


async def test_a_key_and_certificate_are_issued(site, tmp_path):
    key = ["--ca-key", str(site.authority.folder / "ca.key")]
    made = run(site, "add", "pump", "--issue", "--out", str(tmp_path / "pump"), *key)
    who = Identity("pump", tmp_path / "pump" / "pump.crt", tmp_path / "pump" / "pump.key")
    assert (made["cert"], made["key"]) == (str(who.cert), str(who.key))
    assert who.key.stat().st_mode & 0o777 == 0o600
    assert (await site.ven(who).register()).good
    assert "there already" in run(
        site, "renew", "pump", "--issue", "--out", str(tmp_path / "pump"), *key, code=2
    )
    run(site, "renew", "pump", "--issue", "--rsa", "--out", str(tmp_path / "next"), *key)
    newer = site.ven(
        Identity("pump", tmp_path / "next" / "pump.crt", tmp_path / "next" / "pump.key")
    )
    assert (await newer.query()).text("e:registrationID")


async def test_old_and_new_certificates_hold_together_until_one_is_removed(site):
    old, new = site.authority.issue("heater"), site.authority.issue("heater-new")
    run(site, "add", "heater", "--fingerprint", old.fingerprint)
    before = site.ven(old)
    await before.register()
    run(site, "renew", "heater", "--fingerprint", new.fingerprint)
    after = site.ven(new)
    after.ven_id, after.registration_id = before.ven_id, before.registration_id
    for ven in (before, after, before):
        assert (await ven.poll()).code == 200
    run(site, "remove", "heater", "--fingerprint", old.fingerprint)
    assert (await before.poll()).refuses(463)
    assert (await after.poll()).good
    assert "only certificate" in run(
        site, "remove", "heater", "--fingerprint", new.fingerprint, code=1
    )
    run(site, "remove", "heater")
    assert (await after.poll()).refuses(463)
    assert "no VEN" in run(site, "show", "heater", code=1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["add", "heater", "--fingerprint", "AA:BB"],
            "is no fingerprint; write OpenADR's 10 bytes",
        ),
        (["add", "-x y", "--fingerprint", "A" * 20], "No such option"),
        (["add", "x y", "--fingerprint", "A" * 20], "cannot be a name"),
        (["add", "heater"], "write one of --fingerprint"),
        (["add", "heater", "--fingerprint", "A" * 20, "--issue"], "write one of --fingerprint"),
        (["add", "heater", "--fingerprint", "A" * 20, "--ven-id", "007"], "without as a number"),
        (["add", "pump", "--fingerprint", "B" * 20], "there already; `ven renew`"),
        (["add", "heater", "--fingerprint", "B" * 20], "enrolled already, for the VEN 'pump'"),
        (["add", "heater", "--fingerprint", "B" * 64], "enrolled already, for the VEN 'pump'"),
        (["add", "heater", "--fingerprint", "A" * 20, "--ven-id", "PUMP"], "another VEN's"),
        (["add", "heater", "--cert", "nowhere.crt"], "cannot be read"),
        (["renew", "heater", "--fingerprint", "A" * 20], "there is no VEN 'heater'"),
        (["remove", "pump", "--fingerprint", "A" * 20], "has no certificate"),
        (["reregister", "pump"], "is not registered"),
    ],
)
async def test_mistakes_say_what_would_be_right(site, words, said):
    run(site, "add", "pump", "--fingerprint", "B" * 20, "--ven-id", "PUMP")
    had = site.dump()
    assert said in run(site, *words, code=2 if "No such" in said or said[-4:] == "read" else 1)
    assert site.dump() == had


async def test_one_that_is_asked_registers_again_and_keeps_what_it_has(site):
    ven = await site.registered("heater")
    had = ven.registration_id
    run(site, "reregister", "heater")
    assert await until(_kind(ven, "oadrRequestReregistration"))
    assert (await ven.respond()).good
    assert (await ven.register()).good
    assert ven.registration_id == had
    assert (await ven.poll()).kind == "oadrResponse"


def _kind(ven, kind):
    async def asked():
        answer = await ven.poll()
        return answer if answer.kind == kind else None

    return asked


# --- our own certificates ---------------------------------------------------------------------


def shown(site, ven):
    """Return the certificate that a new connection is shown."""
    host, _, port = site.url.removeprefix("https://").partition(":")
    context = ven.context()
    context.check_hostname = False

    async def look():
        _, writer = await asyncio.open_connection(host, int(port), ssl=context)
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return x509.load_der_x509_certificate(found).serial_number

    return look()


async def test_renewed_certificates_are_shown_without_a_restart(site):
    ven = await site.registered("heater", "ec")
    server, newer = site.servers[0], site.authority.server("vtn-2027", "ec")
    assert await shown(site, ven) == server.loaded.serial_number
    good = server.cert.read_bytes(), server.key.read_bytes()
    server.cert.write_text("nonsense")
    assert await shown(site, ven) == x509.load_pem_x509_certificate(good[0]).serial_number
    checks = await _checks(site)
    assert "former certificates are still in use" in checks["certificate:openadr2"]["problem"]
    shutil.copy(newer.cert, server.cert)
    shutil.copy(newer.key, server.key)
    assert await shown(site, ven) == newer.loaded.serial_number
    assert (await _checks(site))["certificate:openadr2"]["ok"]
    ven.signers = [newer.loaded]  # what signs is the new one, too
    assert (await ven.poll()).good


async def test_an_authority_that_is_taken_away_is_not_trusted_any_more(site, tmp_path):
    other = Authority(tmp_path / "other")
    who = other.issue("guest")
    with beside(site.path) as db:
        vens.add(db, "guest", datetime.now(UTC), fingerprint=who.fingerprint)
    ven, alone = site.ven(who), site.authority.ca.read_bytes()
    with pytest.raises(Exception, match=r"(?i)unknown.ca|closed|reset|disconnected"):
        await ven.register()
    site.authority.ca.write_bytes(alone + other.ca.read_bytes())
    assert (await ven.register()).good
    site.authority.ca.write_bytes(alone)
    await ven.close()
    with pytest.raises(Exception, match=r"(?i)unknown.ca|closed|reset|disconnected"):
        await ven.poll()


async def test_who_shows_no_certificate_is_not_heard(site):
    context = ssl.create_default_context(cafile=str(site.authority.ca))
    context.check_hostname = False
    async with ClientSession() as http:
        with pytest.raises(Exception, match=r"(?i)certificate|closed|reset|disconnected"):
            await http.post(f"{site.url}/OpenADR2/Simple/2.0b/OadrPoll", data=b"", ssl=context)


# --- limits, silence, numbers -------------------------------------------------------------------


async def test_one_that_says_too_much_is_told_to_wait_and_others_are_not(tmp_path):
    async with served(tmp_path, rate_limit=2) as site:
        noisy, quiet = await site.registered("noisy"), await site.registered("quiet")
        content = noisy.write(messages.poll(noisy.ven_id))
        answers = [await noisy.post(content, "OadrPoll") for _ in range(8)]
        assert answers[-1].status == 429
        assert (await quiet.poll()).good


async def test_strangers_are_not_listened_to_for_long(site, logged):
    stranger = site.ven(site.authority.issue("stranger"))
    statuses = [(await stranger.post(b"<x>", "OadrPoll")).status for _ in range(22)]
    assert statuses == [200] * 20 + [429] * 2
    lines = [line for line in logged if line["event"] == "certificate is not enrolled"]
    assert lines[0]["remedy"].startswith("openadr-bridge ven add NAME --fingerprint ")


async def _checks(site):
    async with ClientSession() as http, http.get(f"{site.admin}/readyz") as reply:
        return (await reply.json())["checks"]


async def test_silence_and_the_end_of_certificates_are_visible(site, monkeypatch):
    ven = await site.registered("heater")
    item = (await site.asked("/api/v1/vens"))["items"][0]
    assert (item["id"], item["registered"], item["silent"], item["ven_name"]) == (
        "heater",
        True,
        False,
        "heater",
    )
    assert item["certificates"][0]["not_after"][:10] == f"{ven.shown.not_valid_after_utc:%Y-%m-%d}"
    checks = await _checks(site)
    assert checks["vens"] == {"ok": True, "registered": 1, "silent": [], "renew_soon": []}
    async with ClientSession() as http, http.get(f"{site.admin}/metrics") as reply:
        text = await reply.text()
    assert 'bridge_ven_certificate_not_after_timestamp_seconds{fingerprint="' in text
    assert 'bridge_ven_last_seen_timestamp_seconds{ven="heater"}' in text
    with beside(site.path) as db:
        db.conn.execute("UPDATE vens SET heard = 1, registered = 1")
        vens.touch(db)
    with beside(site.path) as db:
        vens.add(db, "late", datetime.now(UTC), fingerprint="A" * 20)
        db.conn.execute("UPDATE vens SET registration_id = 'r', registered = 1 WHERE name = 'late'")
    assert (await _checks(site))["vens"]["silent"] == ["late"]
    assert [v["silent"] for v in (await site.asked("/api/v1/vens"))["items"]] == [False, True]


async def test_check_says_what_the_bridge_shows_to_vens(site):
    file = ["-c", str(site.folder / "bridge.toml")]
    found = await asyncio.to_thread(CliRunner().invoke, main, ["check", *file, "--json"])
    said = {f["check"]: f["says"] for f in json.loads(found.stdout)}
    assert said["openadr2 certificate vtn-ec.crt"].startswith(
        f"fingerprint {site.servers[0].fingerprint}, valid to "
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"10s"', '"1500ms"', "2.0b knows whole seconds only"),
        ('"BRIDGE"', '"007"', "read as a number"),
        ('"TELEMETRY_USAGE"', '"TELEMETRY_USGE"', "is no report; there are: TELEMETRY_USAGE"),
        ('every = "15m"', 'every = "1s"', "every is shorter than sampling"),
        ("vtn-ec.key", "ca.key", "is not the key of"),
        ("ca.crt", "vtn-ec.key", "holds no CA certificate"),
        ("key = ", "keys = ", "did you mean 'key'?"),
    ],
)
async def test_settings_that_cannot_be_say_what_would_be_right(site, old, new, said):
    file = site.folder / "bridge.toml"
    file.write_text(file.read_text().replace(old, new, 1))
    found = CliRunner().invoke(main, ["check", "-c", str(file)])
    assert found.exit_code == 2
    assert said in found.output


async def test_a_ven_is_told_that_its_registration_ends(site):
    ven = await site.registered("heater")
    run(site, "deregister", "heater")
    assert await until(_kind(ven, "oadrCancelPartyRegistration"))
