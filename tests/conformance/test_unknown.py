"""What does not exist is not found (Appendix A: P20-22, V18-20, E18-20, R17-19, RP16-18, S16-18)."""

import pytest

from tests.conformance.bodies import UNKNOWN

GET_DELETE = [
    ("programs", "P20 P21"),
    ("vens", "V18 V19"),
    ("events", "E18 E19"),
    ("resources", "R17 R18"),
    ("reports", "RP16 RP17"),
    ("subscriptions", "S16 S17"),
]
PUT = [
    ("programs", {404}, "P22"),
    ("vens", {400, 404}, "V20"),
    ("events", {404}, "E20"),
    ("resources", {400, 404}, "R19"),
    ("reports", {400, 404}, "RP18"),
    ("subscriptions", {400, 404}, "S18"),
]


def by(client_of, kind):
    """Return the client that may write the kind."""
    return client_of("bl" if kind in {"programs", "events"} else "ven1")


@pytest.fixture
def client_of(bl, ven1):
    return {"bl": bl, "ven1": ven1}.__getitem__


@pytest.mark.parametrize(("method", "kind"), [
    pytest.param(method, kind, id=f"{ids.split()[n]}-{method}-{kind}")
    for kind, ids in GET_DELETE for n, method in enumerate(("GET", "DELETE"))
])  # fmt: skip
async def test_an_unknown_object_is_not_found(method, kind, client_of):
    assert (await by(client_of, kind).ask(method, f"/{kind}/{UNKNOWN}")).status == 404


@pytest.mark.parametrize(("kind", "statuses"), [
    pytest.param(kind, statuses, id=f"{of}-PUT-{kind}") for kind, statuses, of in PUT
])  # fmt: skip
async def test_an_unknown_object_is_not_updated(kind, statuses, client_of, make):
    body = await make.body(kind)
    if kind == "events":
        body["intervals"] = []
    assert (await by(client_of, kind).put(f"/{kind}/{UNKNOWN}", body)).status in statuses


@pytest.mark.parametrize("kind", [kind for kind, _ in GET_DELETE])
async def test_what_was_deleted_is_unknown(kind, make):
    one = await make.one(kind)
    assert (await one.writer.delete(one.path)).status == 200
    assert (await one.writer.get(one.path)).status == 404
    assert (await one.writer.delete(one.path)).status == 404
    assert (await one.writer.put(one.path, one.body)).status in {400, 404}


@pytest.mark.parametrize("kind", [kind for kind, _ in GET_DELETE])
async def test_an_id_that_cannot_be_one_is_refused(kind, bl):
    """The YAML's objectID: ^[a-zA-Z0-9_-]*$, at most 128 characters."""
    assert (await bl.get(f"/{kind}/a%20b")).status in {400, 404}
    assert (await bl.get(f"/{kind}/{'a' * 129}")).status in {400, 404}


@pytest.mark.parametrize("path", ["/", "/cats", "/programs/1/events", "/vens/1/resources/2"])
async def test_an_unknown_path_is_not_found(path, bl):
    assert (await bl.get(path)).status == 404
