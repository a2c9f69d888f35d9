"""A VEN sees nothing that is not its own or granted, by any route; hidden and unknown are alike."""

import json

import pytest

from tests.openadr3.clients import prices, subscription
from tests.peers import Device, eventually, started

START = "2027-03-14T19:00:00Z"
SECRET = "secret-group"


@pytest.fixture
def scene(vtn):
    """Make objects of ven2 and of nobody, and return what ven1 must not learn of."""

    async def make(call, callback="http://127.0.0.1:9/"):
        bl, other = call("bl"), call("ven2")
        ven = await bl.made(
            "/vens",
            {
                "objectType": "BL_VEN_REQUEST",
                "clientID": "ven2",
                "venName": "other",
                "targets": [SECRET],
            },
        )
        hidden = {
            "vens": ven,
            "programs": await bl.made("/programs", {"programName": "hidden", "targets": [SECRET]}),
            "resources": await other.made("/resources", {"resourceName": "theirs", "venID": ven["id"]}),
            "subscriptions": await other.made("/subscriptions", subscription(callback, "EVENT")),
        }  # fmt: skip
        hidden["events"] = await bl.made(
            "/events", prices(hidden["programs"]["id"], START, 1, targets=[SECRET])
        )
        hidden["reports"] = await other.made(
            "/reports", {"eventID": hidden["events"]["id"], "clientName": "c", "resources": []}
        )
        return hidden

    return make


def same(one, two, name_one, name_two):
    """Whether two answers differ in nothing but the id that was asked for and the instance."""

    def bare(answer, name):
        body = {k: v for k, v in answer.json.items() if k != "instance"}
        headers = {k: v for k, v in answer.headers.items() if k not in {"Date", "Content-Length"}}
        return answer.status, json.dumps(body).replace(name, "ID"), headers

    return bare(one, name_one) == bare(two, name_two)


@pytest.mark.parametrize("granted", [False, True], ids=["no ven", "a ven of its own"])
async def test_by_list_by_id_by_filter_by_error_by_etag(vtn, scene, granted):
    async with vtn() as call:
        hidden = await scene(call)
        ven = call("ven1")
        if granted:
            await ven.made("/vens", {"objectType": "VEN_VEN_REQUEST", "venName": "mine"})
        program, event = hidden["programs"]["id"], hidden["events"]["id"]
        bodies = {
            "programs": {"programName": "x"}, "events": prices(program, START, 1),
            "reports": {"eventID": event, "clientName": "c", "resources": []},
            "subscriptions": subscription("http://127.0.0.1:9/", "EVENT"),
            "vens": {"objectType": "VEN_VEN_REQUEST", "venName": "y"},
            "resources": {"objectType": "VEN_RESOURCE_REQUEST", "resourceName": "z", "venID": hidden["vens"]["id"]},
        }  # fmt: skip
        for kind, thing in hidden.items():
            listed = (await ven.get(f"/{kind}")).json
            assert thing["id"] not in {o["id"] for o in listed}, kind
            unknown = "0" * 36
            for method, body in (("GET", None), ("PUT", bodies[kind]), ("DELETE", None)):
                answers = [
                    await ven.call(method, f"/{kind}/{i}", body) for i in (thing["id"], unknown)
                ]
                assert same(*answers, thing["id"], unknown), (kind, method)
                assert answers[0].status in {403, 404}
            shown = await call("bl").get(f"/{kind}/{thing['id']}")
            answer = await ven.get(
                f"/{kind}/{thing['id']}", headers={"If-None-Match": shown.headers["ETag"]}
            )
            assert answer.status == 404
        for kind, query in (
            ("programs", {"targets": SECRET}), ("programs", {"programName": "hidden"}),
            ("events", {"targets": SECRET}), ("events", {"programID": program}), ("events", {"programName": "hidden"}),
            ("reports", {"eventID": event}), ("reports", {"programID": program}), ("reports", {"clientName": "c"}),
            ("subscriptions", {"clientName": "test"}), ("vens", {"venName": "other"}),
            ("resources", {"venID": hidden["vens"]["id"]}), ("resources", {"resourceName": "theirs"}),
        ):  # fmt: skip
            assert (await ven.get(f"/{kind}", params=query)).json == [], (kind, query)


async def test_writing_tells_nothing_of_what_is_hidden(vtn, scene):
    async with vtn() as call:
        hidden, ven = await scene(call), call("ven1")
        unknown = "0" * 36
        for path, body, name in (
            ("/reports", {"clientName": "c", "resources": []}, ("eventID", hidden["events"]["id"])),
            (
                "/subscriptions",
                subscription("http://127.0.0.1:9/", "EVENT"),
                ("programID", hidden["programs"]["id"]),
            ),
            ("/resources", {"resourceName": "r"}, ("venID", hidden["vens"]["id"])),
        ):
            answers = [await ven.post(path, {**body, name[0]: i}) for i in (name[1], unknown)]
            assert same(*answers, name[1], unknown), path
            assert answers[0].status in {404, 409}


async def test_targets_are_hidden_that_were_not_granted(vtn, scene):
    async with vtn() as call:
        bl, ven = call("bl"), call("ven1")
        mine = await ven.made(
            "/vens", {"objectType": "VEN_VEN_REQUEST", "venName": "mine", "targets": [SECRET]}
        )
        assert "targets" not in mine  # nobody grants himself anything
        program = await bl.made(
            "/programs", {"programName": "P", "targets": ["a", mine["id"], SECRET]}
        )
        (shown,) = (await ven.get("/programs")).json
        assert shown["targets"] == [mine["id"]]
        resource = await bl.made(
            "/resources",
            {
                "objectType": "BL_RESOURCE_REQUEST",
                "clientID": "ven1",
                "venID": mine["id"],
                "resourceName": "r",
                "targets": ["a"],
            },
        )
        assert (await ven.get(f"/programs/{program['id']}")).json["targets"] == ["a", mine["id"]]
        # what it writes leaves the grants as they are, and adds none
        again = await ven.put(
            f"/resources/{resource['id']}",
            {"resourceName": "r2", "venID": mine["id"], "targets": [SECRET]},
        )
        assert (again.json["resourceName"], again.json["targets"]) == ("r2", ["a"])
        await bl.delete(f"/resources/{resource['id']}")
        assert (await ven.get(f"/programs/{program['id']}")).json["targets"] == [mine["id"]]
        assert (await bl.get(f"/programs/{program['id']}")).json["targets"] == [
            "a",
            mine["id"],
            SECRET,
        ]
        assert (await ven.get("/programs", params={"targets": SECRET})).json == []
        assert len((await ven.get("/programs", params={"targets": f"x,{mine['id']}"})).json) == 1


async def test_by_webhook(vtn, scene):
    mine, theirs, everything = Device(), Device(), Device()
    async with started(mine, theirs, everything), vtn() as call:
        bl = call("bl")
        every = ("PROGRAM", "EVENT", "REPORT", "SUBSCRIPTION", "VEN", "RESOURCE")
        await call("ven1").made("/vens", {"objectType": "VEN_VEN_REQUEST", "venName": "mine"})
        for client, device in (("ven1", mine), ("ven2", theirs), ("bl", everything)):
            await call(client).made("/subscriptions", subscription(device.url, *every))
        hidden = await scene(call)
        await bl.put(
            f"/events/{hidden['events']['id']}",
            prices(hidden["programs"]["id"], START, 2, targets=[SECRET, "b"]),
        )
        await bl.delete(f"/programs/{hidden['programs']['id']}")
        last = await bl.made("/programs", {"programName": "for all"})
        for device in (mine, theirs, everything):
            await eventually(lambda d=device: last["id"] in {b["object"]["id"] for b in d.bodies})
        told = {b["object"]["id"] for b in mine.bodies}
        assert not told & {o["id"] for o in hidden.values()}
        assert SECRET not in json.dumps(mine.bodies, default=str)
        told = [
            (b["objectType"], b["operation"])
            for b in theirs.bodies
            if b["object"]["id"] == hidden["events"]["id"]
        ]
        assert told == [("EVENT", "CREATE"), ("EVENT", "UPDATE"), ("EVENT", "DELETE")]
        assert all(
            b["object"]["targets"] == [SECRET] for b in theirs.bodies if b["objectType"] == "EVENT"
        )
        assert {o["id"] for o in hidden.values()} <= {b["object"]["id"] for b in everything.bodies}
        assert "test-token" not in json.dumps(everything.bodies, default=str)


async def test_what_comes_into_sight_is_new_and_what_leaves_it_is_gone(vtn):
    mine = Device()
    async with started(mine), vtn() as call:
        bl = call("bl")
        ven = await call("ven1").made("/vens", {"objectType": "VEN_VEN_REQUEST", "venName": "mine"})
        await call("ven1").made("/subscriptions", subscription(mine.url, "PROGRAM"))
        program = await bl.made("/programs", {"programName": "P", "targets": ["a"]})
        for targets in (["a", ven["id"]], [ven["id"]], ["a"], ["b"]):
            await bl.put(f"/programs/{program['id']}", {"programName": "P", "targets": targets})
        await bl.made("/programs", {"programName": "Q"})
        await eventually(lambda: "Q" in {b["object"]["programName"] for b in mine.bodies})
        assert [b["operation"] for b in mine.bodies] == ["CREATE", "UPDATE", "DELETE", "CREATE"]
