"""Whatever arrives: a clear refusal, nothing lost, nothing stopped. Loopback only, bounded."""

import asyncio
import random
from datetime import UTC, datetime

from aiohttp import ClientSession
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import WireError
from bridge.store.access import new_token
from bridge.store.files import beside
from bridge.wire.openadr2 import read_listing
from bridge.wire.openleadr import read_message
from tests.peers import distribute, event, levels, signal

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
