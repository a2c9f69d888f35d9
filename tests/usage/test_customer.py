"""The utility's Customer API as it is served: tokens, whose contract it is, what is past and to come."""

import asyncio
import base64
import json
from datetime import timedelta

import jwt
import pytest

from bridge.store import clients
from bridge.store.files import beside
from bridge.wire import customer
from tests.store.test_usage import run
from tests.usage.calls import HOUR, basic, measured
from tests.usage.conftest import ALICE, BOB, NOON

SPAN = {"start": "2027-03-14T16:00:00Z", "end": "2027-03-14T22:00:00Z"}


def headers(contract=ALICE[0], uuid=ALICE[1]):
    return {
        "X-Contract-Id": base64.b64encode(contract.encode()).decode(),
        "X-Customer-Uuid": base64.b64encode(uuid.encode()).decode(),
    }


async def token(call, name, method="GET", **more):
    auth = {"Authorization": f"Basic {basic(name, call.secrets[name])}"}
    return await call().call(
        method, "/v1/auth/token", headers={**auth, **more.pop("headers", {})}, **more
    )


async def asked(call, bearer, path="/v1/customer/usage", said=None, **query):
    return await call().call(
        "GET", path, headers={"Authorization": f"Bearer {bearer}", **(said if said is not None else headers())},
        **(query or (SPAN if path.endswith("usage") else {})),
    )  # fmt: skip


async def test_a_token_is_bare_or_as_oauth_has_it(site):
    async with site() as call:
        bare = await token(call, "alice")
        assert (bare.status, bare.headers["Content-Type"].split(";")[0]) == (200, "text/plain")
        claims = jwt.decode(bare.text, options={"verify_signature": False})
        assert (claims["sub"], claims["exp"] - claims["iat"]) == ("alice", 3600)
        for found in (
            await token(call, "alice", headers={"Accept": "application/json"}),
            await token(call, "alice", "POST", headers={"Accept": "application/json"}),
            await call().call("POST", "/v1/auth/token", {
                "grant_type": "client_credentials", "client_id": "alice",
                "client_secret": call.secrets["alice"],
            }),
        ):  # fmt: skip
            assert (found.status, found.json["token_type"], found.json["expires_in"]) == (
                200,
                "Bearer",
                3600,
            )
            assert (await asked(call, found.json["access_token"])).status == 200
        assert (await token(call, "alice", "POST")).text.count(".") == 2
        for said in (
            {},
            {"Authorization": "Basic !"},
            {"Authorization": f"Basic {basic('alice', 'x')}"},
        ):
            wrong = await call().call("GET", "/v1/auth/token", headers=said)
            assert wrong.status in {400, 401}
            assert call.secrets["alice"] not in wrong.text


async def test_a_token_is_over_after_an_hour_and_when_its_client_is_gone(site):
    async with site() as call:
        bearer = (await token(call, "alice")).text
        assert (await asked(call, bearer)).status == 200
        call.clock.set(NOON + timedelta(minutes=59))
        assert (await asked(call, bearer)).status == 200
        call.clock.set(NOON + timedelta(minutes=61))
        assert (await asked(call, bearer)).status == 401
        bearer = (await token(call, "alice")).text
        assert (await asked(call, bearer)).status == 200
        with beside(call.bridge.store.path) as db:
            clients.revoke(db, "alice", NOON)
        assert (await asked(call, bearer)).status == 401
        assert (await token(call, "alice")).status == 401


@pytest.mark.parametrize("change", [0, 1, 2])
async def test_a_token_that_was_tampered_with_is_none(site, change):
    async with site() as call:
        parts = (await token(call, "alice")).text.split(".")
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=="))
        claims["sub"] = "bob"
        forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
        wrong = [
            [parts[0], forged, parts[2]],
            [none, forged, ""],
            [parts[0], parts[1], parts[2][::-1]],
        ][change]
        assert (await asked(call, ".".join(wrong))).status == 401


async def test_the_past_is_what_was_used_and_the_future_the_plan(site):
    async with site() as call:
        begin = NOON - 3 * HOUR
        await call.keep(
            measured("alice-1", run(begin, HOUR / 4, ["0.25"] * 12)),
            measured("alice-1", run(begin, HOUR, [2, 0, 1]), direction="export"),
            measured("alice-1", run(begin, HOUR, [3] * 6), kind="subscription_pre"),
            measured("alice-1", run(begin, HOUR, [4] * 2), kind="subscription_post"),
        )
        bearer = (await token(call, "alice")).text
        found = await asked(call, bearer)
        assert found.status == 200, found.text
        said, doubts = customer.read_usage(found.text.encode())
        assert doubts == []
        amounts = {
            s.payload_type: [(r.start, r.value * 10**r.exponent) for r in s.readings] for s in said
        }
        at = [int((begin + n * HOUR).timestamp() * 1000) for n in range(6)]
        assert amounts == {
            "CONSUMPTION": [(t, 1) for t in at[:3]],
            "GENERATION": [(at[0], 2), (at[1], 0), (at[2], 1)],
            "BASELINE_CONSUMPTION": [(at[0], 4), (at[1], 4), *((t, 3) for t in at[3:])],
        }


async def test_an_hour_that_is_not_whole_is_left_out_and_of_meters_all_count(site):
    async with site() as call:
        begin = NOON - 3 * HOUR
        await call.keep(
            measured("bob-1", run(begin, HOUR, [1, 1, 1])),
            measured(
                "bob-2",
                [*run(begin, HOUR, [2]), *run(begin + HOUR, HOUR / 4, [1] * 3)],
                direction="net",
            ),
        )
        bearer = (await token(call, "bob")).text
        found = await asked(call, bearer, said=headers(*BOB))
        (said,), _ = customer.read_usage(found.text.encode())
        assert [r.value for r in said.readings] == [3]


async def test_info_says_what_is_known(site):
    async with site() as call:
        bearer = (await token(call, "ann")).text
        found = await asked(call, bearer, "/v1/customer/info")
        assert found.json == {
            "contractId": ALICE[0], "customerUuid": ALICE[1], "rateCode": "EELEC", "circuitId": "013532223",
        }  # fmt: skip
        assert (await asked(call, bearer, "/stage/v1/customer/info")).json == found.json


async def test_hidden_and_unknown_contracts_are_the_same(site):
    async with site() as call:
        await call.keep(measured("bob-1", run(NOON - 3 * HOUR, HOUR, [1])))
        bearer = (await token(call, "alice")).text
        for path in ("/v1/customer/usage", "/v1/customer/info"):
            answers = [
                await asked(call, bearer, path, headers(*pair))
                for pair in (BOB, (BOB[0], ALICE[1]), (ALICE[0], BOB[1]), ("0000000000", "nobody"))
            ]
            assert {a.status for a in answers} == {404}
            assert len({json.dumps({**a.json, "instance": ""}) for a in answers}) == 1
            seen = {tuple(sorted((k, v) for k, v in a.headers.items()
                                 if k not in {"Date", "X-RateLimit-Remaining"})) for a in answers}  # fmt: skip
            assert len(seen) == 1


async def test_what_is_missing_is_said(site):
    async with site() as call:
        bearer = (await token(call, "alice")).text
        assert (await call().get("/v1/customer/info")).status == 401
        assert (await asked(call, bearer, "/v1/customer/info", {})).status == 400
        assert (await asked(call, bearer, said={**headers(), "X-Contract-Id": "%%%"})).status == 400
        for query in (
            {"start": SPAN["start"]},
            {**SPAN, "end": SPAN["start"]},
            {"start": "2020-01-01T00:00:00Z", "end": SPAN["end"]},
        ):
            assert (await asked(call, bearer, **query)).status == 400
        poor = (await token(call, "pat")).text
        refused = await asked(call, poor)
        assert (refused.status, "usage:read" in refused.json["detail"]) == (403, True)


async def test_secrets_and_contract_ids_are_not_in_the_log(site, logged):
    async with site() as call:
        bearer = (await token(call, "alice")).text
        for pair in (ALICE, BOB, ("0000000000", "x")):
            await asked(call, bearer, said=headers(*pair))
            await call("alice").get("/api/v1/usage", contract=pair[0])
            await call("alice").get("/api/v1/usage", contract=pair[0], start="nonsense")
        await call().call(
            "GET", "/v1/auth/token", headers={"Authorization": f"Basic {basic('alice', 'guess')}"}
        )
        await asyncio.sleep(0)
        text = json.dumps(logged, default=str)
        for secret in (ALICE[0], BOB[0], "0000000000", ALICE[1], bearer, call.secrets["alice"], "guess",
                       *headers().values(), *headers(*BOB).values()):  # fmt: skip
            assert secret not in text
