"""How clients may be notified, and on which MQTT topics (Definition, Notifications; Appendix A: N, T)."""

import pytest

from tests.conformance.bodies import UNKNOWN

TOPICS = "/notifiers/mqtt/topics"
FOR_BL = ["events", "reports", "subscriptions", "vens", "resources"]
FOR_ALL = ["programs", "programs/{program}", "programs/{program}/events"]
OF_A_VEN = ["vens/{ven}", "vens/{ven}/events", "vens/{ven}/programs", "vens/{ven}/resources"]
OF_ONE = {"programs/{program}", "vens/{ven}"}  # whose creation nobody can wait for


@pytest.fixture
def topics(vtn, mqtt, make):
    """Ask for the topics of a path; skip where the VTN does not serve them."""
    if not mqtt:
        pytest.skip("no MQTT")

    async def ask(client, path, ven=None):
        if not vtn.profile.private_topics and path not in FOR_ALL:
            pytest.skip("no topics of BL or of single VENs")
        if "{program}" in path:
            path = path.replace("{program}", (await make.program())["id"])
        return await client.get(f"{TOPICS}/{path.replace('{ven}', ven or UNKNOWN)}")

    return ask


def well_named(vtn, path, answer):
    """Whether it names a topic for each operation, each of its own; the assertion says which does not."""
    assert answer.status == 200, answer.text
    found = answer.json["topics"]
    wanted = {"UPDATE", "DELETE"} | (set() if path in OF_ONE else {"CREATE"})
    assert wanted <= found.keys() <= wanted | {"ALL"}
    assert len(set(found.values())) == len(found)
    assert not any(set("+#") & set(found[operation]) for operation in wanted)
    if vtn.profile.all_topics:
        assert "ALL" in found
    return True


async def test_webhooks_are_supported(ven1):
    """N1: the YAML says "Currently MUST be true"."""
    answer = await ven1.get("/notifiers")
    assert answer.status == 200
    assert answer.json["WEBHOOK"] is True


async def test_mqtt_says_how_to_connect(mqtt):
    """N1."""
    if not mqtt:
        pytest.skip("no MQTT")
    assert mqtt["URIS"]
    assert mqtt["serialization"] == "JSON"
    assert mqtt["authentication"]["method"] in {"ANONYMOUS", "OAUTH2_BEARER_TOKEN", "CERTIFICATE"}


@pytest.mark.parametrize("path", FOR_ALL)
async def test_vens_are_told_the_topics_for_all(path, vtn, ven1, ven2, topics):
    """T1, T2."""
    for client in (ven1, ven2):
        assert well_named(vtn, path, await topics(client, path))


@pytest.mark.parametrize("path", OF_A_VEN)
async def test_vens_are_told_their_own_topics(path, vtn, ven1, ven2, topics, make):
    """T1, T2."""
    for client in (ven1, ven2):
        ven = await make.registered(client)
        assert well_named(vtn, path, await topics(client, path, ven["id"]))


@pytest.mark.parametrize("path", FOR_BL)
async def test_vens_are_not_told_the_topics_of_bl(path, ven1, ven2, topics):
    """T1, T2."""
    for client in (ven1, ven2):
        assert (await topics(client, path)).status == 403


@pytest.mark.parametrize("path", FOR_ALL + FOR_BL + OF_A_VEN)
async def test_bl_is_told_all_topics(path, vtn, bl, topics, make):
    """T3."""
    assert well_named(vtn, path, await topics(bl, path, (await make.ven())["id"]))


@pytest.mark.parametrize("path", OF_A_VEN)
async def test_vens_are_not_told_the_topics_of_each_other(path, ven1, ven2, topics, make):
    ven = await make.registered(ven1)
    await make.registered(ven2)
    assert (await topics(ven2, path, ven["id"])).status in {403, 404}


@pytest.mark.parametrize("path", OF_A_VEN)
async def test_two_vens_have_topics_of_their_own(path, ven1, ven2, topics, make):
    named = []
    for client in (ven1, ven2):
        ven = await make.registered(client)
        named.append(set((await topics(client, path, ven["id"])).json["topics"].values()))
    assert not named[0] & named[1]


@pytest.mark.parametrize("path", [f"programs/{UNKNOWN}", f"programs/{UNKNOWN}/events"])
async def test_an_unknown_program_has_no_topics(path, bl, ven1, mqtt):
    if not mqtt:
        pytest.skip("no MQTT")
    for client in (bl, ven1):
        assert (await client.get(f"{TOPICS}/{path}")).status == 404


@pytest.mark.parametrize("path", OF_A_VEN)
async def test_an_unknown_ven_has_no_topics(path, bl, topics):
    assert (await topics(bl, path, UNKNOWN)).status == 404


@pytest.mark.parametrize("path", ["programs/{program}", "programs/{program}/events"])
async def test_a_hidden_program_has_no_topics(path, ven1, make, mqtt):
    """What is 404 by id is not told of here either."""
    if not mqtt:
        pytest.skip("no MQTT")
    await make.granted(ven1, "kit-a")
    program = await make.program(targets=["kit-b"])
    answer = await ven1.get(f"{TOPICS}/{path.replace('{program}', program['id'])}")
    assert answer.status == 404
