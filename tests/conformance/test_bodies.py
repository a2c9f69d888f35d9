"""What a request must, may and must not say (Definition, General Usage)."""

import json

import pytest

from tests.conformance.making import KINDS

LONG = "x" * 129
POINT = {"type": "PRICE", "values": [1]}
MEASURED = {"resourceName": "r", "intervals": []}
WANTED = {"objects": ["EVENT"], "operations": ["CREATE"], "callbackUrl": "https://example.com/c"}
REQUIRED = {
    "programs": ["programName"],
    "events": ["programID"],
    "reports": ["eventID", "clientName", "resources"],
    "subscriptions": ["clientName", "objectOperations"],
    "vens": ["venName"],
    "resources": ["resourceName"],
}
WRONG = {
    "programs": [
        {"programName": 5}, {"programName": ""}, {"programName": LONG}, {"programName": None},
        {"intervalPeriod": "PT1H"}, {"intervalPeriod": {"duration": "an hour"}},
        {"intervalPeriod": {"start": "yesterday"}}, {"intervalPeriod": {"start": 5}},
        {"targets": "group"}, {"targets": [5]}, {"targets": [""]}, {"targets": [LONG]},
        {"programDescriptions": [{}]}, {"programDescriptions": "https://example.com"},
        {"payloadDescriptors": {}}, {"payloadDescriptors": [5]},
        {"attributes": [{"type": "LOCAL"}]}, {"attributes": [{"values": [1]}]},
    ],
    "events": [
        {"programID": 5}, {"programID": "a b"}, {"eventName": 5}, {"duration": "soon"},
        {"priority": -1}, {"priority": "high"}, {"priority": 1.5}, {"targets": {}},
        {"reportDescriptors": [{}]}, {"reportDescriptors": [{"payloadType": "USAGE", "repeat": "x"}]},
        {"reportDescriptors": [{"payloadType": "USAGE", "reportIntervals": "SOME"}]},
        {"intervalPeriod": []}, {"intervals": {}}, {"intervals": [5]},
        {"intervals": [{"payloads": []}]}, {"intervals": [{"id": 0}]},
        {"intervals": [{"id": "zero", "payloads": []}]}, {"intervals": [{"id": 0, "payloads": {}}]},
        {"intervals": [{"id": 0, "payloads": [{"values": [1]}]}]},
        {"intervals": [{"id": 0, "payloads": [{"type": "PRICE"}]}]},
        {"intervals": [{"id": 0, "payloads": [{"type": "PRICE", "values": 1}]}]},
        {"intervals": [{"id": 0, "payloads": [{"type": "CURVE", "values": [{"x": 1}]}]}]},
        {"intervals": [{"id": 0, "payloads": [{"type": LONG, "values": [1]}]}]},
        {"intervals": [{"id": 0, "payloads": [POINT], "intervalPeriod": {"duration": "P"}}]},
    ],
    "reports": [
        {"eventID": 5}, {"clientName": ""}, {"clientName": LONG}, {"reportName": 5},
        {"resources": {}}, {"resources": [{}]}, {"resources": [{"resourceName": "r"}]},
        {"resources": [{"intervals": []}]}, {"resources": [{**MEASURED, "intervals": [{"id": 0}]}]},
        {"payloadDescriptors": [{"objectType": "REPORT_PAYLOAD_DESCRIPTOR"}]},
        {"payloadDescriptors": [
            {"objectType": "REPORT_PAYLOAD_DESCRIPTOR", "payloadType": "USAGE", "confidence": 101},
        ]},
    ],
    "subscriptions": [
        {"clientName": 5}, {"clientName": ""}, {"programID": 5}, {"targets": "group"},
        {"objectOperations": {}}, {"objectOperations": [{}]}, {"objectOperations": [5]},
        {"objectOperations": [{**WANTED, "objects": ["CAT"]}]},
        {"objectOperations": [{**WANTED, "objects": "EVENT"}]},
        {"objectOperations": [{**WANTED, "operations": ["PATCH"]}]},
        {"objectOperations": [{**WANTED, "callbackUrl": 5}]},
        {"objectOperations": [{**WANTED, "bearerToken": 5}]},
        *({"objectOperations": [{k: v for k, v in WANTED.items() if k != gone}]} for gone in WANTED),
    ],
    "vens": [
        {"venName": 5}, {"venName": ""}, {"venName": LONG}, {"attributes": {}},
        {"attributes": [{"type": "X"}]}, {"objectType": "CAT"},
    ],
    "resources": [
        {"resourceName": 5}, {"resourceName": ""}, {"resourceName": LONG}, {"venID": 5},
        {"venID": "a b"}, {"attributes": "x"}, {"objectType": "CAT"},
    ],
}  # fmt: skip
OPTIONAL = {
    "programs": ["programDescriptions", "payloadDescriptors", "attributes", "targets"],
    "events": ["eventName", "priority", "targets", "reportDescriptors", "payloadDescriptors"],
    "reports": ["reportName", "payloadDescriptors"],
    "subscriptions": ["targets"],
    "vens": ["attributes"],
    "resources": ["attributes"],
}


@pytest.mark.parametrize(("kind", "gone"), [(k, n) for k, ns in REQUIRED.items() for n in ns])
async def test_what_is_required_must_be_there(kind, gone, make, bl, ven1):
    """ "A VTN SHALL reject request bodies that do not contain required fields"."""
    one = await make.one(kind)
    body = {name: value for name, value in one.body.items() if name != gone}
    assert (await make.asked(one.writer, kind, body)).status == 400
    assert (await one.writer.put(one.path, body)).status == 400
    assert (await one.writer.get(one.path)).json == one.object


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [pytest.param(k, w, id=f"{k}-{str(w)[:60]}") for k, ws in WRONG.items() for w in ws],
)
async def test_what_is_said_must_be_of_its_type(kind, wrong, make):
    body = {**await make.body(kind), **wrong}
    if kind == "subscriptions":  # or else the challenge would be what is refused
        body = json.loads(json.dumps(body).replace(WANTED["callbackUrl"], make.callback_url()))
    writer = make.bl if kind in {"programs", "events"} else make.ven1
    assert (await make.asked(writer, kind, body)).status == 400


@pytest.mark.parametrize("kind", KINDS)
async def test_an_update_must_be_of_its_types(kind, make):
    one = await make.one(kind)
    for wrong in WRONG[kind][:3]:
        assert (await one.writer.put(one.path, {**one.body, **wrong})).status == 400
    assert (await one.writer.get(one.path)).json == one.object


@pytest.mark.parametrize("kind", KINDS)
async def test_null_means_absent(vtn, kind, make):
    """ "Optional fields are generally nullable and have default values of null"."""
    one = await make.one(kind)
    nulls = dict.fromkeys(OPTIONAL[kind])
    answer = await one.writer.put(one.path, {**one.body, **nulls})
    assert answer.status == 200, answer.text
    assert not any(answer.json.get(name) for name in nulls)
    assert vtn.profile.nulls or None not in answer.json.values()


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_unknown_does_not_matter(kind, make):
    """ "Content that is not described by a message schema MAY be ignored"."""
    one = await make.one(kind)
    answer = await one.writer.put(one.path, {**one.body, "programType": "X", "kit": {"a": [None]}})
    assert answer.status == 200, answer.text


@pytest.mark.parametrize("kind", KINDS)
async def test_the_vtn_stamps_what_it_makes(kind, make):
    one = await make.one(kind)
    assert one.object["objectType"] == kind[:-1].upper()
    assert one.object["id"]
    assert one.object["createdDateTime"] == one.object["modificationDateTime"]


BOGUS = {
    "id": "bogus",
    "createdDateTime": "2001-01-01T00:00:00Z",
    "modificationDateTime": "2001-01-01T00:00:00Z",
}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_client_does_not_stamp(kind, make):
    """ "A VTN SHALL ignore objectID, createdDateTime, modificationDateTime, and objectType"."""
    body = {**await make.body(kind), **BOGUS}
    if kind not in {"vens", "resources"}:  # where objectType tells requests apart
        body["objectType"] = "CAT"
    writer = make.bl if kind in {"programs", "events"} else make.ven1
    made = await make.made(writer, kind, body)
    assert made["objectType"] == kind[:-1].upper()
    assert not BOGUS.items() & made.items()
    updated = (await writer.put(f"/{kind}/{made['id']}", body)).json
    assert updated["objectType"] == kind[:-1].upper()
    assert not BOGUS.items() & updated.items()


@pytest.mark.parametrize("kind", KINDS)
async def test_an_update_keeps_the_id_and_the_moment_of_making(kind, make):
    one = await make.one(kind)
    updated = (await one.writer.put(one.path, one.body)).json
    assert (updated["id"], updated["createdDateTime"]) == (
        one.object["id"],
        one.object["createdDateTime"],
    )
    assert updated["modificationDateTime"] >= one.object["modificationDateTime"]
