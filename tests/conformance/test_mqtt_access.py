"""Who may connect to the broker, and hear what (Definition, MQTT; Appendix A: A)."""

import pytest

from tests.conformance.bodies import UNKNOWN
from tests.conformance.listening import broker, listening, topics

aiomqtt = pytest.importorskip("aiomqtt")


@pytest.fixture
def by_token(mqtt):
    if mqtt.get("authentication", {}).get("method") != "OAUTH2_BEARER_TOKEN":
        pytest.skip("the broker asks for no token")


@pytest.fixture
def by_password(by_token, mqtt):
    """The reference implementation gives each client a password of the broker's own."""
    if "password" not in mqtt["authentication"]:
        pytest.skip("the broker's password is the client's token")


async def authentication(client):
    return (await client.get("/notifiers")).json["MQTT"]["authentication"]


@pytest.mark.usefixtures("by_password")
async def test_a_ven_is_given_credentials_of_its_own(ven1, make):
    """A1."""
    ven = await make.registered(ven1)
    told = await authentication(ven1)
    assert told["username"] == f"ven-{ven['id']}"
    assert isinstance(told["password"], str)


@pytest.mark.usefixtures("by_password")
async def test_bl_is_not_given_the_credentials_of_a_ven(bl, make, ven1):
    """A2."""
    await make.registered(ven1)
    assert not (await authentication(bl))["username"].startswith("ven-")


@pytest.mark.usefixtures("by_token")
async def test_two_vens_have_other_credentials(ven1, ven2, make):
    """A3."""
    pairs = []
    for client in (ven1, ven2):
        await make.registered(client)
        told = await broker(client)
        pairs.append((told["username"], told["password"]))
    assert pairs[0] != pairs[1]


async def test_a_client_connects_as_it_is_told(ven1, make):
    """A4; and A11 where the method is ANONYMOUS."""
    await make.registered(ven1)
    async with listening(ven1):
        pass


async def test_a_method_is_one_that_the_specification_knows(mqtt):
    """A11."""
    if not mqtt:
        pytest.skip("no MQTT")
    assert mqtt["authentication"]["method"] in {"ANONYMOUS", "OAUTH2_BEARER_TOKEN", "CERTIFICATE"}


@pytest.mark.usefixtures("by_token")
async def test_a_wrong_password_is_refused(ven1, make):
    """A5."""
    await make.registered(ven1)
    with pytest.raises(aiomqtt.MqttError):
        async with listening(ven1, password="wrong"):
            pass


@pytest.mark.usefixtures("by_token")
async def test_nobody_connects_without_credentials(ven1, make):
    """A6."""
    await make.registered(ven1)
    with pytest.raises(aiomqtt.MqttError):
        async with listening(ven1, username=None, password=None):
            pass


@pytest.mark.usefixtures("by_token")
async def test_a_ven_hears_what_is_for_all(ven1, make):
    """A7."""
    await make.registered(ven1)
    at = await topics(ven1, "programs")
    async with listening(ven1, at["CREATE"]) as ear:
        await ear.about(await make.program(), "CREATE")


@pytest.mark.usefixtures("by_token")
async def test_a_ven_hears_what_is_targeted_at_it(ven1, make):
    """A8."""
    ven = await make.granted(ven1, "kit-mine")
    at = await topics(ven1, f"vens/{ven['id']}/events")
    async with listening(ven1, at["CREATE"]) as ear:
        await ear.about(await make.event(targets=["kit-mine"]), "CREATE")


@pytest.mark.usefixtures("by_token")
async def test_a_ven_hears_nothing_on_the_topics_of_another(ven1, ven2, make, bl):
    """A9: whether the broker refuses the subscription or delivers nothing."""
    ven = await make.granted(ven1, "kit-a")
    await make.granted(ven2, "kit-b")
    foreign = await topics(bl, f"vens/{ven['id']}/events")
    mine = await topics(ven2, "programs")
    async with listening(ven2, mine["CREATE"]) as ear, listening(ven1, foreign["CREATE"]) as owner:
        try:
            await ear.subscribe(foreign["CREATE"])
        except aiomqtt.MqttError:
            return
        made = await make.event(targets=["kit-a"])
        await owner.about(made, "CREATE")
        await ear.about(await make.program(), "CREATE")
        assert made["id"] not in {said["object"]["id"] for said in ear.heard}


@pytest.mark.usefixtures("by_password")
async def test_credentials_go_with_their_ven(bl, ven1, make):
    """A10."""
    ven = await make.registered(ven1)
    kept = await broker(ven1)
    await bl.delete(f"/vens/{ven['id']}")
    with pytest.raises(aiomqtt.MqttError):
        async with aiomqtt.Client(**kept):
            pass


@pytest.mark.usefixtures("by_token")
async def test_a_client_nobody_knows_is_refused(ven1, make):
    await make.registered(ven1)
    with pytest.raises(aiomqtt.MqttError):
        async with listening(ven1, username=UNKNOWN, password=UNKNOWN):
            pass
