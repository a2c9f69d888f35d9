"""Who may come in: nobody without a good token (Definition, Security).

Appendix A: P15-19, V13-17, E13-17, R12-16, RP11-15, S11-15, T4-15.
"""

import pytest

from tests.conformance.bodies import UNKNOWN

FIRST = {
    "programs": ("P", 15),
    "vens": ("V", 13),
    "events": ("E", 13),
    "resources": ("R", 12),
    "reports": ("RP", 11),
    "subscriptions": ("S", 11),
}
TOPICS = [
    "programs",
    f"programs/{UNKNOWN}",
    f"programs/{UNKNOWN}/events",
    "events",
    "reports",
    "subscriptions",
    "vens",
    f"vens/{UNKNOWN}",
    f"vens/{UNKNOWN}/events",
    f"vens/{UNKNOWN}/programs",
    f"vens/{UNKNOWN}/resources",
    "resources",
]
ASKED = [
    *(
        pytest.param(method, f"/{kind}{item}", id=f"{letter}{first + n}-{method}-{kind}")
        for kind, (letter, first) in FIRST.items()
        for n, (method, item) in enumerate(
            [
                ("POST", ""),
                ("GET", ""),
                ("GET", f"/{UNKNOWN}"),
                ("PUT", f"/{UNKNOWN}"),
                ("DELETE", f"/{UNKNOWN}"),
            ]
        )
    ),
    *(
        pytest.param("GET", f"/notifiers/mqtt/topics/{topic}", id=f"T{4 + n}-{topic}")
        for n, topic in enumerate(TOPICS)
    ),
    pytest.param("GET", "/notifiers", id="notifiers"),
]


@pytest.mark.parametrize(("method", "path"), ASKED)
async def test_a_bad_token_is_refused(method, path, vtn, bad, mqtt):
    if "mqtt" in path and not mqtt:
        pytest.skip("no MQTT")
    body = {} if method in {"POST", "PUT"} else None
    answer = await bad.ask(method, path, body)
    assert answer.status in vtn.profile.unauthorized


@pytest.mark.parametrize(("method", "path"), ASKED)
async def test_no_token_is_refused_with_a_challenge(method, path, vtn, nobody, mqtt):
    """RFC 9110, 11.6.1: a 401 says how to authenticate."""
    if "mqtt" in path and not mqtt:
        pytest.skip("no MQTT")
    answer = await nobody.ask(method, path, {} if method in {"POST", "PUT"} else None)
    assert answer.status in vtn.profile.unauthorized
    if 401 in vtn.profile.unauthorized:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].lower().startswith("bearer")


async def test_a_401_of_a_bad_token_comes_with_a_challenge(bad):
    answer = await bad.get("/programs")
    if answer.status == 401:
        assert answer.headers["WWW-Authenticate"].lower().startswith("bearer")


@pytest.mark.parametrize("sent", ["Basic Zm9vOmJhcg==", "Bearer", "Bearer  ", "bogus", ""])
async def test_other_authorization_is_refused(sent, vtn, nobody):
    answer = await nobody.get("/programs", headers={"Authorization": sent})
    assert answer.status in vtn.profile.unauthorized


async def test_the_word_bearer_may_be_written_small(vtn, nobody):
    """RFC 9110, 11.1: the scheme is case-insensitive."""
    answer = await nobody.get("/programs", headers={"Authorization": f"bearer {vtn.bl}"})
    assert answer.status == 200
