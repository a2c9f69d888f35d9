"""What any HTTP API does: methods, media types, malformed bodies, compression, validators."""

import pytest

from tests.conformance.bodies import UNKNOWN, name, program
from tests.conformance.making import KINDS

TOPICS = "/notifiers/mqtt/topics"
LOOK_UPS = ["/programs", "/events", "/reports", "/subscriptions", "/vens", "/resources"]
LOOK_UPS += [f"/programs/{UNKNOWN}", f"/programs/{UNKNOWN}/events", f"/vens/{UNKNOWN}"]
LOOK_UPS += [f"/vens/{UNKNOWN}/{kind}" for kind in ("events", "programs", "resources")]
SERVED = {
    **{f"/{kind}": {"GET", "POST"} for kind in KINDS},
    **{f"/{kind}/{UNKNOWN}": {"GET", "PUT", "DELETE"} for kind in KINDS},
    "/auth/server": {"GET"},
    "/notifiers": {"GET"},
    **{TOPICS + path: {"GET"} for path in LOOK_UPS},
}
NOT_SERVED = [
    pytest.param(method, path, id=f"{method}-{path}")
    for path, methods in SERVED.items()
    for method in ("POST", "PUT", "DELETE", "PATCH")
    if method not in methods
]


@pytest.mark.parametrize(("method", "path"), NOT_SERVED)
async def test_a_method_that_is_not_served_is_refused(method, path, bl, mqtt):
    """RFC 9110, 15.5.6: 405, and Allow says what is served."""
    if path.startswith(TOPICS) and not mqtt:
        pytest.skip("no MQTT")
    answer = await bl.ask(method, path, {} if method != "DELETE" else None)
    assert answer.status == 405
    allowed = {word.strip() for word in answer.headers["Allow"].split(",")}
    assert SERVED[path] <= allowed
    assert method not in allowed


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_tokens_are_posted_for(method, bl):
    answer = await bl.ask(method, "/auth/token", {} if method in {"PUT", "PATCH"} else None)
    if answer.status in {404, 501}:
        pytest.skip("tokens come from elsewhere")
    assert (answer.status, "POST" in answer.headers["Allow"]) == (405, True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sent", ["{", '{"a": 1,}', "[1, 2", "nope", "{'a': 1}", '{"a": NaN}', ""])
async def test_a_body_that_is_not_json_is_refused(kind, sent, bl, ven1):
    writer = bl if kind in {"programs", "events"} else ven1
    assert (await writer.post(f"/{kind}", sent)).status == 400


@pytest.mark.parametrize("kind", KINDS)
async def test_an_update_that_is_not_json_is_refused(kind, make):
    one = await make.one(kind)
    assert (await one.writer.put(one.path, "{")).status == 400
    assert (await one.writer.get(one.path)).json == one.object


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sent", ["null", "[]", '"text"', "5", "true"])
async def test_a_body_that_is_no_object_is_refused(kind, sent, bl, ven1):
    writer = bl if kind in {"programs", "events"} else ven1
    assert (await writer.post(f"/{kind}", sent)).status == 400


@pytest.mark.parametrize("sent", [
    "text/plain", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data",
])  # fmt: skip
async def test_a_body_of_another_media_type_is_refused(sent, bl):
    answer = await bl.ask("POST", "/programs", program(), headers={"Content-Type": sent})
    assert answer.status == 415


@pytest.mark.parametrize("kind", KINDS)
async def test_no_kind_is_made_from_another_media_type(kind, make):
    one, sent = await make.one(kind), {"Content-Type": "text/plain"}
    assert (await one.writer.ask("POST", f"/{kind}", one.body, headers=sent)).status == 415
    assert (await one.writer.ask("PUT", one.path, one.body, headers=sent)).status == 415


@pytest.mark.parametrize("sent", ["application/json; charset=utf-8", "APPLICATION/JSON"])
async def test_json_may_be_called_json_in_other_ways(sent, bl, make):
    answer = await bl.ask("POST", "/programs", program(), headers={"Content-Type": sent})
    assert answer.status == 201
    await bl.delete(f"/programs/{answer.json['id']}")


async def test_text_beyond_ascii_comes_back(bl, make):
    called = name("été-💡")
    made = await make.program(programName=called)
    assert (await bl.get(f"/programs/{made['id']}")).json["programName"] == called


async def test_a_long_request_line_is_refused_with_a_problem(bl):
    """The client checks the form of the answer; a parser's plain text would not do."""
    answer = await bl.get("/programs", targets="a" * 9000)
    assert answer.status in {400, 414, 431}


async def test_answers_are_compressed_when_asked(bl, make):
    """Definition, Compression: optional, "although gzip is encouraged"."""
    made = await make.event(intervals=[{"id": n, "payloads": []} for n in range(200)])
    found = await bl.get(f"/events/{made['id']}", headers={"Accept-Encoding": "gzip"})
    if "Content-Encoding" not in found.headers:
        pytest.skip("this VTN does not compress")
    assert found.headers["Content-Encoding"] == "gzip"
    plain = await bl.get(f"/events/{made['id']}", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    assert plain.json == found.json


async def test_what_has_not_changed_is_not_sent_again(bl, make):
    """RFC 9110, 13.1.2: recommended, not asked for."""
    made = await make.event()
    for path, query in (
        (f"/events/{made['id']}", {}),
        ("/events", {"programID": made["programID"]}),
    ):
        seen = await bl.get(path, **query)
        if "ETag" not in seen.headers:
            pytest.skip("this VTN gives no ETag")
        kept = {"If-None-Match": seen.headers["ETag"]}
        again = await bl.get(path, headers=kept, **query)
        assert (again.status, again.text) == (304, "")
    await bl.put(f"/events/{made['id']}", {"programID": made["programID"], "eventName": "new"})
    assert (await bl.get(path, headers=kept, **query)).json[0]["eventName"] == "new"


async def test_an_etag_is_of_what_one_client_may_see(bl, ven1, ven2, make):
    """A VEN cannot learn by its ETag what another client was shown."""
    await make.granted(ven1, "kit-a")
    await make.granted(ven2, "kit-b")
    made = await make.event(targets=["kit-a", "kit-b"])
    seen = await ven1.get(f"/events/{made['id']}")
    if "ETag" not in seen.headers:
        pytest.skip("this VTN gives no ETag")
    other = await ven2.get(f"/events/{made['id']}", headers={"If-None-Match": seen.headers["ETag"]})
    assert other.status == 200
