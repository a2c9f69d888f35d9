"""Whatever arrives: a clear refusal, nothing lost, nothing stopped. Loopback only, bounded."""

import asyncio
import io
import json
import random
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from aiohttp import ClientSession
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import WireError
from bridge.store.access import new_token
from bridge.store.files import beside
from bridge.wire import feed, gridx, midas
from bridge.wire.feed import Fields, Reading
from bridge.wire.openadr2 import read_listing
from bridge.wire.openleadr import read_message
from tests.peers import SimClock, distribute, event, eventually, levels, signal, started
from tests.utilities import GridX, curve, detail, hours_of

NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)
GOOD = distribute(
    event("E", NOON, signal(["0.1"] * 3), targets="<ei:groupID>g</ei:groupID>"),
    event("F", NOON, levels([1])),
).encode()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(GOOD) - 1), st.binary(max_size=6), st.integers(0, 30)),
        min_size=1,
        max_size=4,
    )
)
def test_a_damaged_message_is_refused_or_read(cuts):
    content = GOOD
    for place, put, length in cuts:
        content = content[:place] + put + content[place + length :]
    try:
        message = read_message(content)
        if message.type == "oadrDistributeEvent":
            read_listing(message.element, "V1")
    except WireError:
        return
    assert message.element is not None


async def test_odd_questions_never_get_a_5xx(settings, bridge, tmp_path):
    draw = random.Random(7)
    async with bridge(settings()) as running, ClientSession() as http:
        with beside(tmp_path / "bridge.db") as db:
            token = new_token(db, "fuzz", "admin", NOON)
        values = [
            "",
            "0",
            "-1",
            "9" * 40,
            "\0",
            "%",
            "null",
            "2027-03-01T00:00:00Z",
            "é" * 300,
            "1e9",
            "'; DROP TABLE events; --",
            "~~",
            "1:2:3",
        ]
        for path in (
            "prices",
            "programs",
            "sources",
            "devices",
            "events",
            "deliveries",
            "deliveries/%00/retry",
            "..%2f..",
            "nothing",
        ):
            for listener in ("vtn", "admin"):
                for _ in range(12):
                    names = [
                        "program",
                        "start",
                        "end",
                        "type",
                        "format",
                        "limit",
                        "cursor",
                        "device",
                        "outcome",
                        "live",
                        "as_of",
                        "revisions",
                        "components",
                    ]
                    query = {n: draw.choice(values) for n in draw.sample(names, 2)}
                    reply = await http.request(
                        draw.choice(["GET", "POST", "PUT", "OPTIONS"]),
                        f"{running.addresses[listener]}/api/v1/{path}",
                        params=query, headers={"Authorization": f"Bearer {token}"},
                        data=draw.choice([None, b"\xff" * 100]),
                    )  # fmt: skip
                    assert reply.status < 500, (path, query, await reply.text())
                    reply.release()


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
    | st.sampled_from(["2025-03-01T00:00:00-0800", "9999-12-31T23:59:59-0800", "1e999", "-0", "NaN"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip
DAY = curve([detail(start, "0.1") for start in hours_of(datetime(2025, 3, 1).date())[:2]])  # noqa: DTZ001
PRICING = {"meta": {"code": 200}, "data": [DAY]}
VALUES = {"ValueInformation": [
    {"DateStart": "2026-01-01", "TimeStart": "00:00:00", "DateEnd": "2026-01-01", "TimeEnd": "00:59:59",
     "Value": 0.1, "Unit": "$/kWh"},
]}  # fmt: skip
ROWS = [{"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T01:00:00Z", "value": 0.1}]


def places(document, path=()):
    """Yield the path to every value of a document."""
    yield path
    steps = document.items() if isinstance(document, dict) else ()
    steps = enumerate(document) if isinstance(document, list) else steps
    for step, value in steps:
        yield from places(value, (*path, step))


def changed(document, path, value):
    """Return a copy of a document with another value at a path."""
    if not path:
        return value
    copy = dict(document) if isinstance(document, dict) else list(document)
    copy[path[0]] = changed(copy[path[0]], path[1:], value)
    return copy


def read_feed(text):
    reading = Reading(Fields())
    return list(reading.prices(feed.rows(io.BytesIO(text), reading.fields, "json")))


@pytest.mark.parametrize(
    ("read", "document"),
    [
        (lambda text: gridx.read_pricing(text, "America/Los_Angeles"), PRICING),
        (midas.read_values, VALUES),
        (read_feed, ROWS),
    ],
    ids=["gridx", "midas", "feed"],
)
def test_an_odd_document_of_prices_is_refused_or_read(read, document):
    paths = list(places(document))

    @settings(max_examples=300, deadline=None)
    @given(st.sampled_from(paths), ODD)
    def odd(path, value):
        with suppress(WireError):
            read(json.dumps(changed(document, path, value)).encode())

    odd()
    for text in (
        b"[" * 100_000,
        b'{"data":' * 50_000,
        b"\xff\xfe",
        b"",
        b"1" * 10_000,
        b'"' + b"a" * 99,
    ):
        with pytest.raises(WireError):
            read(text)


async def test_odd_questions_for_prices_never_get_a_5xx(settings, bridge):
    draw, noon = random.Random(9), datetime(2026, 3, 1, 20, tzinfo=UTC)
    peer = GridX()
    peer.publish(noon.date(), "0.1")
    about = {
        "kind": "gridx", "name": "pge", "base_url": "", "utility": "PGE",
        "series": [{"rate": "EELEC", "circuit": "013532223"}],
    }  # fmt: skip
    good = {
        "program": ["EELEC-013532223", "CalFUSE", "x", "\0"], "utility": ["PGE", ""], "market": ["DAM"],
        "startdate": ["20260301", "00010101", "99991231", "2026030\u0661", ""], "enddate": ["20260301", "99991231"],
        "ratename": ["EELEC", "\0"], "representativeCircuitId": ["013532223", "é"], "cca": ["", "PCE"],
        "start": ["2026-03-01T00:00:00Z", "0001-01-01T00:00:00Z", "1900-01-01T00:00:00+14:00"],
        "end": ["9998-12-31T23:59:59Z", "2026-03-02T00:00:00Z"], "as_of": ["2026-03-01T00:00:00Z", "9998-01-01T00:00:00Z"],
        "revisions": ["true", "2"], "components": ["true"], "format": ["csv", "evcc", "json", "ndjson"],
        "cursor": ["2026-03-01T00:00:00Z~2026-03-01T00:00:00Z~1~EELEC-013532223", "~~~", "a~b~c~d"], "limit": ["1", "10000"],
    }  # fmt: skip
    async with started(peer):
        made = settings([{**about, "base_url": peer.base}])
        async with bridge(made, SimClock(noon)) as running, ClientSession() as http:
            await eventually(lambda: running.health.job("source:pge").last_success)
            seen = set()
            for path in ("/v1/getPricing", "/api/v1/prices"):
                for _ in range(250):
                    names = draw.sample(list(good), draw.randint(1, len(good)))
                    query = {n: draw.choice(good[n]) for n in names}
                    async with http.get(running.addresses["vtn"] + path, params=query) as reply:
                        assert reply.status < 500, (path, query, await reply.text())
                        seen.add((path, reply.status))
            assert {s for p, s in seen if p == "/v1/getPricing"} >= {204}
            assert {s for p, s in seen if p == "/api/v1/prices"} >= {400}


async def test_bytes_that_are_no_http_stop_nothing(settings, bridge):
    draw = random.Random(8)
    async with bridge(settings()) as running, ClientSession() as http:
        for listener in ("vtn", "admin"):
            host, port = running.addresses[listener].removeprefix("http://").split(":")
            for start in (
                b"",
                b"GET ",
                b"GET / HTTP/1.1\r\n",
                b"POST /x HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
                b"GET /" + b"a" * 20_000,
            ):
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(start + draw.randbytes(200) + b"\r\n\r\n")
                writer.write_eof()
                async with asyncio.timeout(10):
                    answer = await reader.read()
                assert b" 500 " not in answer.partition(b"\r\n")[0]
                writer.close()
            reply = await http.get(running.addresses["admin"] + "/healthz")
            assert reply.status in {200, 503}
