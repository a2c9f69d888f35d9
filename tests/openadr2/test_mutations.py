"""Thousands of mutated requests over one connection: never a 5xx, never slow, nothing else changed.

The short run is 2,400; BRIDGE_LONG=1 makes it 20,000.
"""

import io
import time
from collections import Counter

import pytest
from aiohttp import ClientConnectionError, ClientSession, ClientTimeout, TCPConnector
from yarl import URL

from tests.openadr2.mutations import ANSWERS, fault_of, mutations
from tests.openadr2.raw_faults import FAULTS
from tests.openadr2.raw_site import Process, Site
from tests.openadr2.raw_ven import PREFIX
from tests.openadr2.test_rogue import one_that_has, opted
from tests.peers import LONG

LARGE = 500_000  # bytes that aiohttp does not like to send as they are
COUNT = 20_000 if LONG else 2_400


@pytest.mark.long
@pytest.mark.timeout(1800 if LONG else 300)
async def test_no_mutated_request_does_harm(tmp_path):
    site = Site(tmp_path)
    bridge = Process(site, rate_limit=100_000)
    await bridge.start()
    try:
        ven, own = await one_that_has(site, "mutant")
        _, other = await one_that_has(site, "other")
        other = other._replace(opt="opt-of-the-other", resource="their meter")
        had = untouched(site, own)
        faults, seen = [], Counter()
        connector = TCPConnector(ssl=ven.context(), limit=1)
        async with ClientSession(
            connector=connector, timeout=ClientTimeout(total=20),
            skip_auto_headers=["Content-Type", "User-Agent"],
        ) as http:  # fmt: skip
            for one in mutations(own, other, count=COUNT):
                try:
                    fault, status = await sent(http, site.url, one)
                except ClientConnectionError:  # closed after the answer before; not twice
                    seen["closed"] += 1
                    fault, status = await sent(http, site.url, one)
                seen[status] += 1
                if fault:
                    faults.append(f"{one.name}: {fault}")
                assert bridge.alive, one.name
            for name, make in FAULTS.items():
                for content in make(ven, ven, opted(ven, f"opt-{name}")):
                    answer = await ven.post(content, "EiOpt")
                    assert answer.status < 500, name
        kinds = Counter(fault.partition(": ")[2] for fault in faults)
        assert not faults, f"{len(faults)} of {COUNT}, {seen}:\n" + "\n".join(
            f"{count} × {kind}" for kind, count in kinds.most_common(60)
        )
        assert seen[200] > COUNT / 20, f"nearly nothing was understood: {seen}"
        assert untouched(site, own) == had
        assert (await ven.query()).text("e:registrationID") == own.registration
        assert (await ven.poll()).kind in ANSWERS - {"oadrRequestReregistration"}
    finally:
        await site.close()
        await bridge.stop()


async def sent(http, url, one):
    """Send a mutation; return what is wrong with the answer, and its status."""
    where = URL(url.removesuffix(PREFIX) + one.path, encoded=True)
    body = io.BytesIO(one.body) if len(one.body) > LARGE else one.body or None
    begun = time.monotonic()
    async with http.request(
        one.method, where, data=body, headers=one.headers, allow_redirects=False
    ) as reply:
        content = await reply.read()
        seconds = time.monotonic() - begun
        return fault_of(one, reply.status, reply.content_type, content, seconds), reply.status


def untouched(site, own):
    """Return all that is not the mutating VEN's own."""
    return site.dump("mutant", own.registration)
