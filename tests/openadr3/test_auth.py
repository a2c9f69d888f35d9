"""Who calls: client credentials, tokens, and what happens to those who guess."""

import asyncio
import base64
import json
import sys
from datetime import UTC, datetime, timedelta

import pytest

from bridge.store import clients
from bridge.store.access import TOKEN_LASTS
from bridge.store.files import beside
from tests.openadr3.clients import SECRETS, prices, static, subscription
from tests.peers import Device, SimClock, eventually, started

NOON = datetime(2027, 3, 14, 19, tzinfo=UTC)
GRANT = {"grant_type": "client_credentials"}


async def ask(call, headers=None, **form):
    async with call.http.post(
        f"{call.url}/openadr3/3.1.0/auth/token", data=form, headers=headers
    ) as reply:
        return reply.status, await reply.json(), reply.headers


def basic(name, secret):
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


async def test_a_secret_is_traded_for_a_token_that_ends(vtn):
    clock = SimClock(NOON)
    async with vtn(clock) as call:
        assert (await call().get("/programs")).status == 401
        async with call.http.post((await call().get("/auth/server")).json["tokenURL"]) as reply:
            assert reply.status == 400
        status, said, headers = await ask(
            call, **GRANT, client_id="ven1", client_secret=SECRETS["ven1"]
        )
        assert (status, said["token_type"], said["expires_in"]) == (200, "Bearer", 3600)
        assert (headers["Cache-Control"], headers["Pragma"]) == ("no-store", "no-cache")
        status, by_header, _ = await ask(call, basic("ven1", SECRETS["ven1"]), **GRANT)
        assert status == 200
        for token in (said["access_token"], by_header["access_token"]):
            assert (await call(token=token).get("/programs")).status == 200
            assert (await call(token=token).post("/programs", {"programName": "x"})).status == 403
        clock.pass_time(TOKEN_LASTS - timedelta(seconds=1))
        assert (await call(token=token).get("/programs")).status == 200
        clock.pass_time(timedelta(seconds=2))
        answer = await call(token=token).get("/programs")
        assert (answer.status, answer.headers["WWW-Authenticate"][:6]) == (401, "Bearer")


async def test_a_token_outlives_a_restart_and_is_narrowed_by_its_scope(vtn):
    async with vtn() as call:
        _, said, _ = await ask(
            call,
            **GRANT,
            client_id="bl",
            client_secret=SECRETS["bl"],
            scope="read_all write_vens_bl",
        )
        assert said["scope"] == "read_all write_vens"
    async with vtn() as call:
        narrow = call(token=said["access_token"])
        assert (await narrow.get("/programs")).status == 200
        assert (await narrow.post("/programs", {"programName": "x"})).status == 403
        # nothing is gained by asking for what one does not have
        _, more, _ = await ask(
            call, **GRANT, client_id="ven1", client_secret=SECRETS["ven1"], scope="write_events"
        )
        assert more["scope"] == ""
        assert (await call(token=more["access_token"]).get("/programs")).status == 403


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({}, 400, "invalid_request"),
        (
            {"grant_type": "password", "client_id": "bl", "client_secret": "x"},
            400,
            "unsupported_grant_type",
        ),
        ({**GRANT, "client_id": "bl"}, 400, "invalid_request"),
        ({**GRANT, "client_secret": "x"}, 400, "invalid_request"),
        ({**GRANT, "client_id": "bl", "client_secret": "wrong"}, 401, "invalid_client"),
        ({**GRANT, "client_id": "nobody", "client_secret": "x"}, 401, "invalid_client"),
        (
            {**GRANT, "client_id": "bl", "client_secret": SECRETS["bl"], "scope": "everything"},
            400,
            "invalid_scope",
        ),
        ({**GRANT, "client_id": "bl", "client_secret": "x" * 5000}, 400, "invalid_request"),
    ],
)
async def test_mistakes_are_named_as_oauth_names_them(vtn, form, status, error):
    async with vtn() as call:
        found = await ask(call, **form)
        assert (found[0], found[1]["error"]) == (status, error)
        if status == 401:
            assert found[2]["WWW-Authenticate"].startswith("Basic")
    # neither a JSON body nor a header that is none gets a 500


async def test_what_is_no_form_is_refused(vtn):
    async with vtn() as call:
        url = f"{call.url}/openadr3/3.1.0/auth/token"
        for body in (
            {"json": GRANT},
            {"data": b"\xff\xfe"},
            {"data": GRANT, "headers": {"Authorization": "Basic !!!"}},
        ):
            async with call.http.post(url, **body) as reply:
                assert (reply.status, (await reply.json())["error"]) == (400, "invalid_request")


async def test_those_who_guess_have_to_wait(vtn):
    async with vtn() as call:
        guesses = [
            (await ask(call, **GRANT, client_id="bl", client_secret=f"guess {n}"))[0]
            for n in range(11)
        ]
        assert guesses == [401] * 10 + [429]
        status, _, _ = await ask(call, **GRANT, client_id="bl", client_secret=SECRETS["bl"])
        assert status == 429  # whoever guesses right at last is not told
        assert (await ask(call, **GRANT, client_id="ven1", client_secret=SECRETS["ven1"]))[0] == 200
        wrong = [(await call(token=f"guess-{n}").get("/programs")).status for n in range(25)]
        assert (wrong[0], wrong[-1]) == (401, 429)
        assert (await call("ven1").get("/programs")).status == 200  # a good token is good
        assert (await call().get("/programs")).status == 401  # and no token is no guess


async def test_a_revoked_client_stops_at_once_and_so_do_its_subscriptions(vtn, tmp_path):
    device = Device()
    async with started(device), vtn() as call:
        with beside(tmp_path / "bridge.db") as db:
            secret = clients.add(db, "battery", clients.scopes_of("ven"), None, NOON)
        _, said, _ = await ask(call, **GRANT, client_id="battery", client_secret=secret)
        tokens = [said["access_token"], static("battery", secret)]
        await call(token=tokens[0]).made("/subscriptions", subscription(device.url, "PROGRAM"))
        await call("bl").made("/programs", {"programName": "P"})
        await eventually(lambda: len(device.bodies) == 1)
        device.status = 500
        await call("bl").made("/programs", {"programName": "Q"})
        await eventually(lambda: call.bridge.health)  # it is owed, and being tried
        with beside(tmp_path / "bridge.db") as db:
            assert clients.revoke(db, "battery", NOON)
        for token in tokens:
            assert (await call(token=token).get("/programs")).status == 401
        assert (await ask(call, **GRANT, client_id="battery", client_secret=secret))[0] == 401
        device.status = 204
        await call("bl").made("/programs", {"programName": "R"})
        with beside(
            tmp_path / "bridge.db"
        ) as db:  # another client of that name does not get its tokens
            clients.add(db, "battery", clients.scopes_of("ven"), secret, datetime.now(UTC))
        assert (await call(token=tokens[0]).get("/programs")).status == 401
        assert (await call(token=tokens[1]).get("/programs")).status == 200
        await asyncio.sleep(0.3)
        assert [
            b["object"]["programName"] for b in device.bodies if b["object"]["programName"] == "R"
        ] == []


async def test_without_a_token_only_what_the_settings_allow_and_nobody_is_aimed_at(vtn):
    async with vtn(vtn={"anonymous_read": True}) as call:
        bl = call("bl")
        program = await bl.made("/programs", {"programName": "public"})
        await bl.made("/programs", {"programName": "private", "targets": ["a"]})
        await bl.made("/events", prices(program["id"], "2027-03-14T19:00:00Z", 1))
        nobody = call()
        assert [p["programName"] for p in (await nobody.get("/programs")).json] == ["public"]
        assert len((await nobody.get("/events")).json) == 1
        assert (await nobody.get("/notifiers")).json == {"WEBHOOK": True}
        for method, path in (
            ("GET", "/reports"),
            ("GET", "/vens"),
            ("POST", "/programs"),
            ("DELETE", f"/programs/{program['id']}"),
        ):
            assert (await nobody.call(method, path, {} if method == "POST" else None)).status == 401
        assert (
            await call(token="nonsense").get("/programs")
        ).status == 401  # who shows a token is judged by it
        async with call.http.get(f"{call.url}/openapi.json") as reply:
            assert reply.status == 401


async def test_nothing_secret_is_logged_or_kept_in_the_clear(vtn, tmp_path, logged):
    device = Device()
    async with started(device), vtn() as call:
        _, said, _ = await ask(call, **GRANT, client_id="ven1", client_secret=SECRETS["ven1"])
        await ask(call, **GRANT, client_id="ven1", client_secret="a wrong secret")
        ven = call(token=said["access_token"])
        made = await ven.made("/subscriptions", subscription(device.url, "PROGRAM"))
        assert made["objectOperations"][0]["bearerToken"] is None
        await call("bl").made("/programs", {"programName": "P"})
        await eventually(lambda: device.received)
        assert device.received[0][0]["Authorization"] == "Bearer test-token"
        await ven.post("/subscriptions", subscription("http://10.0.0.1/", "PROGRAM"))
    assert logged
    told = json.dumps(logged, default=str) + "".join(
        path.read_bytes().decode("latin-1")
        for path in tmp_path.glob("bridge.db*")
        if not path.name.endswith(".key")
    )
    for secret in (
        *SECRETS.values(),
        "a wrong secret",
        "test-token",
        said["access_token"],
        static("bl"),
    ):
        assert secret not in told
    key = tmp_path / "bridge.db.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.read_text() not in told


async def test_the_command_line_adds_lists_and_revokes(vtn, tmp_path):
    config = tmp_path / "bridge.toml"
    config.write_text('[store]\npath = "bridge.db"\n')

    async def command(*words):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bridge", "client", *words, "-c", str(config),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    status, out, _ = await command("add", "battery", "--role", "ven", "--json")
    made = json.loads(out)
    assert (status, made["client_id"], len(made["client_secret"]) > 40) == (0, "battery", True)
    (tmp_path / "secret").write_text("hunter2-hunter2\n")
    status, out, _ = await command(
        "add",
        "office",
        "--role",
        "bl",
        "--scope",
        "write_reports",
        "--secret-file",
        str(tmp_path / "secret"),
        "--json",
    )
    assert json.loads(out)["client_secret"] == "hunter2-hunter2"
    for words, said in (
        (("add", "battery", "--role", "ven"), "is there already"),
        (("add", "x", "--role", "ven", "--scope", "fly"), "there is no scope 'fly'"),
        (("add", "a:b", "--role", "ven"), "cannot be an id"),
        (("revoke", "nobody"), "there is no client"),
    ):
        status, _, err = await command(*words)
        assert (status, said in err) == (1, True), err
    assert (await command("revoke", "battery"))[0] == 0
    _, out, _ = await command("list", "--json")
    assert [(c["id"], bool(c["revoked"])) for c in json.loads(out)] == [
        ("battery", True),
        ("office", False),
    ]
    assert "hunter2" not in out
    async with vtn() as call:
        assert (
            await call(token=static("office", "hunter2-hunter2")).get("/programs")
        ).status == 200


async def test_a_client_of_the_settings_is_that_of_the_settings(vtn, tmp_path):
    async with vtn() as call:
        assert (await call("ven1").get("/programs")).status == 200
    async with vtn(clients=[]) as call:
        assert (await call("ven1").get("/programs")).status == 401  # it was taken out
    async with vtn() as call:
        assert (await call("ven1").get("/programs")).status == 200
