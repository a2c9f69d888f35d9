"""Subscriptions: BL and VENs ask to be told of changes (Appendix A: S)."""

import pytest

from tests.conformance.bodies import subscription

NOT_CALLBACKS = ["ftp://example.com/callback", "not a URL", "javascript:alert(1)", "/callback", ""]


async def test_bl_subscribes(make, bl):
    """S1: where callbacks are not challenged, the callback need not be reached."""
    made = await make.subscription(bl)
    assert made["id"]


async def test_a_ven_subscribes(make, ven1):
    """S2."""
    assert (await make.subscription(ven1))["clientID"] == ven1.client_id


async def test_bl_lists_subscriptions(bl, ven1, make):
    """S3."""
    made = {(await make.subscription(bl))["id"], (await make.subscription(ven1))["id"]}
    assert made <= await bl.ids("/subscriptions")


async def test_a_ven_lists_its_subscriptions(ven1, make):
    """S4."""
    made = await make.subscription(ven1)
    assert made["id"] in await ven1.ids("/subscriptions")


async def test_bl_reads_a_subscription(bl, make):
    """S5."""
    made = await make.subscription(bl)
    found = await bl.get(f"/subscriptions/{made['id']}")
    assert (found.status, found.json["clientName"]) == (200, made["clientName"])


async def test_a_ven_reads_its_subscription(ven1, make):
    """S6."""
    made = await make.subscription(ven1)
    found = await ven1.get(f"/subscriptions/{made['id']}")
    assert (found.status, found.json["clientName"]) == (200, made["clientName"])


async def test_bl_updates_its_subscription(bl, make):
    """S7."""
    made = await make.subscription(bl)
    body = subscription(make.callback_url(), clientName="UpdatedBL")
    answer = await bl.put(f"/subscriptions/{made['id']}", body)
    assert (answer.status, answer.json["clientName"]) == (200, "UpdatedBL")
    assert (await bl.get(f"/subscriptions/{made['id']}")).json["clientName"] == "UpdatedBL"


async def test_a_ven_updates_its_subscription(ven1, make):
    """S8."""
    made = await make.subscription(ven1)
    body = subscription(make.callback_url(), operations="CREATE DELETE")
    assert (await ven1.put(f"/subscriptions/{made['id']}", body)).status == 200
    (wanted,) = (await ven1.get(f"/subscriptions/{made['id']}")).json["objectOperations"]
    assert wanted["operations"] == ["CREATE", "DELETE"]


async def test_bl_deletes_its_subscription(bl, make):
    """S9."""
    made = await make.subscription(bl)
    assert (await bl.delete(f"/subscriptions/{made['id']}")).status == 200
    assert (await bl.get(f"/subscriptions/{made['id']}")).status == 404


async def test_a_ven_deletes_its_subscription(ven1, make):
    """S10."""
    made = await make.subscription(ven1)
    assert (await ven1.delete(f"/subscriptions/{made['id']}")).status == 200
    assert (await ven1.get(f"/subscriptions/{made['id']}")).status == 404


async def test_subscriptions_are_listed_by_program(bl, make):
    """S20."""
    program = await make.program()
    made = await make.subscription(bl, programID=program["id"])
    await make.subscription(bl)
    assert await bl.ids("/subscriptions", programID=program["id"]) == {made["id"]}


async def test_subscriptions_are_listed_by_client_name(bl, make):
    """S21."""
    made, _other = await make.subscription(bl), await make.subscription(bl)
    assert await bl.ids("/subscriptions", clientName=made["clientName"]) == {made["id"]}


async def test_subscriptions_are_listed_by_the_kinds_they_are_for(bl, make):
    events, reports = await make.subscription(bl, "EVENT"), await make.subscription(bl, "REPORT")
    found = await bl.ids("/subscriptions", objects="EVENT")
    assert events["id"] in found
    assert reports["id"] not in found


async def test_a_kind_that_is_none_is_refused_as_a_filter(bl):
    assert (await bl.get("/subscriptions", objects="CAT")).status == 400


@pytest.mark.parametrize("url", NOT_CALLBACKS)
async def test_a_callback_is_a_url_of_the_web(url, bl, make):
    assert (await make.asked(bl, "subscriptions", subscription(url))).status == 400


@pytest.mark.parametrize("url", NOT_CALLBACKS)
async def test_a_callback_does_not_become_anything_else(url, bl, make):
    made = await make.subscription(bl)
    assert (await bl.put(f"/subscriptions/{made['id']}", subscription(url))).status == 400
    found = (await bl.get(f"/subscriptions/{made['id']}")).json["objectOperations"]
    assert found[0]["callbackUrl"] == made["objectOperations"][0]["callbackUrl"]


async def test_a_callback_must_be_https(vtn, bl, make):
    """Definition, Webhooks: "The VTN MUST validate that an HTTPS schema is used"."""
    if vtn.profile.callbacks_http:
        pytest.skip("this VTN allows http")
    body = subscription("http://example.com/callback")
    assert (await make.asked(bl, "subscriptions", body)).status == 400


async def test_a_bearer_token_is_shown_to_no_other_client(bl, ven1, make):
    made = await make.subscription(ven1)
    one = await bl.get(f"/subscriptions/{made['id']}")
    many = await bl.get("/subscriptions", clientName=made["clientName"])
    assert (one.status, many.status) == (200, 200)
    assert "test-token" not in one.text + many.text
