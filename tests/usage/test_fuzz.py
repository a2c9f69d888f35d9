"""Whatever is asked and posted: an answer or a clear refusal, nothing stopped, nothing shown."""

import json
import random
import string
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import WireError
from bridge.usage import Origin
from bridge.wire import posted
from tests.store.test_usage import run
from tests.usage.calls import HOUR, measured
from tests.usage.conftest import NOON
from tests.usage.test_intake import ROW

VALUES = (
    "", "0", "-1", "9" * 40, "\0", "%", "null", "2027-03-01T00:00:00Z", "é" * 300, "1e9", "~~", "true",
    "0001-01-01T00:00:00Z", "9998-12-31T23:59:59Z", "native", "monthly", "import", "usage", "csv",
    "2027-03-01T00:00:00Z~1", "bob-1", "alice-1", "0087654321", "'; DROP TABLE usage; --",
)  # fmt: skip
NAMES = (
    "meter", "contract", "start", "end", "resolution", "direction", "kind", "cost", "revisions", "format",
    "limit", "cursor", "x",
)  # fmt: skip
PATHS = (
    "/api/v1/usage", "/api/v1/usage/coverage", "/api/v1/usage/greenbutton", "/api/v1/meters",
    "/v1/customer/usage", "/v1/customer/info", "/stage/v1/customer/usage",
)  # fmt: skip


async def test_odd_questions_never_get_a_5xx_nor_what_is_hidden(site):
    draw = random.Random(11)
    async with site() as call:
        await call.keep(
            measured("alice-1", run(NOON - 3 * HOUR, HOUR, [1, 2, 3])),
            measured("bob-1", run(NOON - 3 * HOUR, HOUR, ["77.125"] * 3)),
        )
        seen = set()
        for _ in range(500):
            path = draw.choice(PATHS)
            query = {draw.choice(NAMES): draw.choice(VALUES) for _ in range(draw.randrange(4))}
            found = await call("alice").get(path, **query)
            assert found.status < 500, (path, query, found.text)
            assert "77.125" not in found.text
            seen.add(found.status)
        assert {200, 400, 404} <= seen
        assert len((await call("bob").get("/api/v1/usage", resolution="native")).items) == 3


async def test_odd_bodies_never_get_a_5xx(site):
    draw = random.Random(12)
    good = json.dumps([ROW, {**ROW, "direction": "export"}]).encode()
    async with site() as call:
        for n in range(200):
            body = bytearray(good)
            for _ in range(draw.randrange(1, 4)):
                at = draw.randrange(len(body))
                body[at : at + draw.randrange(9)] = draw.randbytes(draw.randrange(6))
            kind = draw.choice(
                ("application/json", "text/csv", "text/plain", "application/json; charset=x")
            )
            for path in ("/api/v1/readings", "/api/v1/usage/import", "/hooks/none")[: 1 + n % 3]:
                found = await call("operate").post(path, bytes(body), kind)
                assert found.status < 500, (path, bytes(body), found.text)
        assert (await call("operate").post("/api/v1/readings", ROW)).status == 200


fields = st.sampled_from([*ROW, "direction", "kind", "quality", "x"])
texts = st.text(string.printable, max_size=12)
values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), texts, st.lists(texts, max_size=2)
)


@given(st.lists(st.dictionaries(fields, values), max_size=3), st.booleans())
@settings(max_examples=200, deadline=None)
def test_rows_are_read_or_refused(rows, spoil):
    for row in ({**ROW, **row} if spoil else row for row in rows):
        with suppress(WireError):
            list(posted.measured([row], Origin("api"), str))


@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
@settings(max_examples=200, deadline=None)
def test_documents_are_read_or_refused(body):
    for read in (posted.read_json, lambda b: posted.read_csv(b.decode("utf-8", "replace"))):
        with suppress(WireError):
            list(posted.measured(read(body), Origin("api"), str))
