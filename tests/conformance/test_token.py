"""/auth/server and /auth/token: client credentials for a bearer token (Definition, Security; RFC 6749)."""

from base64 import b64encode
from urllib.parse import quote, urlsplit

import pytest

from tests.conformance.vtn import Client


@pytest.fixture
def ask(vtn, nobody):
    """Post a form to /auth/token; skip where the VTN knows no credentials or has no such path."""
    if not vtn.client_id:
        pytest.skip("no credentials: set VTN_CLIENT_ID and VTN_CLIENT_SECRET")

    async def post(headers=None, **form):
        text = "&".join(f"{key}={quote(value, safe='')}" for key, value in form.items())
        sent = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
        answer = await nobody.ask("POST", "/auth/token", text or " ", headers=sent)
        if answer.status in {404, 501}:
            pytest.skip("tokens come from elsewhere")
        return answer

    return post


def credentials(vtn, **others):
    usual = {
        "grant_type": "client_credentials",
        "client_id": vtn.client_id,
        "client_secret": vtn.client_secret,
    }
    return {key: value for key, value in {**usual, **others}.items() if value is not None}


def basic(client_id, secret):
    pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
    return {"Authorization": "Basic " + b64encode(pair.encode()).decode()}


async def test_everybody_may_ask_where_tokens_come_from(nobody):
    """ "`/auth/server` is a required endpoint"."""
    answer = await nobody.get("/auth/server")
    assert answer.status == 200
    assert urlsplit(answer.json["tokenURL"]).hostname


async def test_a_token_endpoint_that_is_not_there_says_so(nobody):
    """ "MAY be excluded from the implementation or provide" a 501."""
    sent = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await nobody.ask("POST", "/auth/token", "grant_type=x", headers=sent)
    assert answer.status in {400, 401, 404, 501}


async def test_credentials_are_traded_for_a_token(ask, vtn):
    answer = await ask(**credentials(vtn))
    assert (answer.status, answer.json["token_type"]) == (200, "Bearer")


async def test_credentials_may_come_as_http_basic(ask, vtn):
    """RFC 6749, 2.3.1."""
    sent = basic(vtn.client_id, vtn.client_secret)
    assert (await ask(headers=sent, grant_type="client_credentials")).status == 200


async def test_a_token_opens_what_its_client_may_use(ask, vtn, http, make, ven1):
    made = await make.registered(ven1)
    token = (await ask(**credentials(vtn))).json["access_token"]
    found = await Client(vtn, http, token).ids("/vens")
    assert found == {made["id"]}


async def test_a_ven_does_not_write_programs_with_its_token(ask, vtn, http):
    token = (await ask(**credentials(vtn))).json["access_token"]
    answer = await Client(vtn, http, token).post("/programs", {"programName": "kit-not-mine"})
    assert answer.status == 403


async def test_a_token_is_not_kept_by_caches(ask, vtn):
    """RFC 6749, 5.1."""
    answer = await ask(**credentials(vtn))
    assert "no-store" in answer.headers["Cache-Control"].lower()


@pytest.mark.parametrize("wrong", [{"client_secret": "wrong"}, {"client_id": "kit-nobody"}])
async def test_wrong_credentials_are_refused(wrong, ask, vtn):
    answer = await ask(**credentials(vtn, **wrong))
    assert (answer.status, answer.json["error"]) == (401, "invalid_client")


async def test_wrong_http_basic_credentials_are_refused(ask, vtn):
    """RFC 6749, 5.2: a client that used HTTP authentication is challenged."""
    answer = await ask(headers=basic(vtn.client_id, "wrong"), grant_type="client_credentials")
    assert (answer.status, answer.json["error"]) == (401, "invalid_client")
    assert answer.headers["WWW-Authenticate"].lower().startswith("basic")


async def test_another_grant_type_is_refused(ask, vtn):
    answer = await ask(**credentials(vtn, grant_type="password"))
    assert (answer.status, answer.json["error"]) == (400, "unsupported_grant_type")


@pytest.mark.parametrize("gone", ["grant_type", "client_id", "client_secret"])
async def test_nothing_may_be_missing(gone, ask, vtn):
    """A client that names no secret has not authenticated, and RFC 6749 lets both be said."""
    answer = await ask(**credentials(vtn, **{gone: None}))
    if gone == "grant_type":
        assert (answer.status, answer.json["error"]) == (400, "invalid_request")
    else:
        said = {(400, "invalid_request"), (401, "invalid_client")}
        assert (answer.status, answer.json["error"]) in said


async def test_an_empty_form_is_refused(ask):
    answer = await ask()
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")


async def test_a_refusal_does_not_repeat_the_secret(ask, vtn):
    answer = await ask(**credentials(vtn, client_secret="kit-wrong-secret"))
    assert "kit-wrong-secret" not in answer.text
