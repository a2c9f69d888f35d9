"""Lists come in pages: `skip` and `limit` (Definition, Response Filtering).

Appendix A: P23, V21, E23, R20, RP19, S19.
"""

import pytest

from tests.conformance.bodies import name, resource_by_bl
from tests.conformance.making import KINDS


async def three_programs(make, bl, ven1):
    target = name("target")
    return {"targets": target}, [(await make.program(targets=[target]))["id"] for _ in range(3)]


async def three_vens(make, bl, ven1):
    target = name("target")
    return {"targets": target}, [(await make.ven(target))["id"] for _ in range(3)]


async def three_events(make, bl, ven1):
    program = await make.program()
    made = [(await make.event(program))["id"] for _ in range(3)]
    return {"programID": program["id"]}, made


async def three_resources(make, bl, ven1):
    ven = await make.ven()
    made = [(await make.made(bl, "resources", resource_by_bl(ven)))["id"] for _ in range(3)]
    return {"venID": ven["id"]}, made


async def three_reports(make, bl, ven1):
    event = await make.event()
    made = [(await make.report(ven1, event))["id"] for _ in range(3)]
    return {"eventID": event["id"]}, made


async def three_subscriptions(make, bl, ven1):
    called = name("client")
    made = [(await make.subscription(bl, clientName=called))["id"] for _ in range(3)]
    return {"clientName": called}, made


THREE = [
    pytest.param("/programs", three_programs, id="P23-programs"),
    pytest.param("/vens", three_vens, id="V21-vens"),
    pytest.param("/events", three_events, id="E23-events"),
    pytest.param("/resources", three_resources, id="R20-resources"),
    pytest.param("/reports", three_reports, id="RP19-reports"),
    pytest.param("/subscriptions", three_subscriptions, id="S19-subscriptions"),
]


@pytest.mark.parametrize(("path", "three"), THREE)
async def test_a_list_comes_in_pages(path, three, make, bl, ven1):
    found, made = await three(make, bl, ven1)

    async def page(**query):
        answer = await bl.get(path, **found, **query)
        assert answer.status == 200, answer.text
        return [o["id"] for o in answer.json]

    whole = await page()
    assert sorted(whole) == sorted(made)
    assert await page(limit=1) == whole[:1]
    assert await page(skip=1) == whole[1:]
    assert await page(skip=1, limit=1) == whole[1:2]
    assert await page(limit=50) == whole
    assert await page(skip=1000) == []
    assert await page(limit=0) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("query", [
    "limit=51", "limit=-1", "limit=x", "limit=1.5", "limit=",
    "skip=-1", "skip=x", "skip=1.5", "skip=2147483648",
])  # fmt: skip
async def test_a_page_that_cannot_be_is_refused(kind, query, bl):
    name, value = query.split("=")
    assert (await bl.get(f"/{kind}", **{name: value})).status == 400


@pytest.mark.parametrize("kind", KINDS)
async def test_the_last_page_is_far_away(kind, bl):
    answer = await bl.get(f"/{kind}", skip=2147483647)
    assert (answer.status, answer.json) == (200, [])


@pytest.mark.parametrize("query", [
    "programID=a b", "programID=", f"programID={'a' * 129}",
    "targets=", f"targets={'a' * 129}", "active=maybe",
])  # fmt: skip
async def test_a_filter_that_cannot_be_is_refused(query, bl):
    """The YAML's objectID, target and boolean."""
    name, value = query.split("=")
    assert (await bl.get("/events", **{name: value})).status == 400
