"""A running bridge with meters, two customers, and clients of every tier."""

from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from bridge.store import clients as kept_clients
from bridge.store.access import new_token
from bridge.store.files import beside
from tests.peers import SimClock
from tests.usage.calls import calling

NOON = datetime(2027, 3, 14, 19, tzinfo=UTC)
ALICE, BOB = ("0012345678", "a1c3-alice"), ("0087654321", "b0b-bob")


@pytest.fixture
def site(settings, bridge, tmp_path):
    """Run a bridge whose clients alice, bob (raw), ann (hourly) and pat (prices) are known."""

    @asynccontextmanager
    async def run(clock=None, **others):
        made = settings(
            **{
                "site": {"timezone": "America/Los_Angeles"},
                "vtn": {"listen": "127.0.0.1:0", "rate_limit": 1000, "public_prices": False},
                "contracts": [
                    {"id": ALICE[0], "customer": ALICE[1], "meters": ["alice-1"], "program": "P", "rate_code": "EELEC", "circuit": "013532223",
                     "clients": ["alice", "ann", "pat"]},
                    {"id": BOB[0], "customer": BOB[1], "meters": ["bob-1", "bob-2"], "clients": ["bob"]},
                ],
                **others,
            }
        )  # fmt: skip
        running_clock = clock or SimClock(NOON)
        async with bridge(made, running_clock) as running:
            secrets, now = {}, datetime.now(UTC)
            with beside(running.store.path) as db:
                for name, scope in {
                    "alice": "usage:raw", "bob": "usage:raw", "ann": "usage:read", "pat": "prices:read",
                    "dev": None,
                }.items():  # fmt: skip
                    granted = kept_clients.scopes_of("ven", [scope] if scope else [])
                    secrets[name] = kept_clients.add(db, name, granted, None, now)
                tokens = {
                    scope: new_token(db, f"t-{scope}", scope, now)
                    for scope in ("read", "operate", "usage:read")
                }
            async with calling(running.addresses["vtn"]) as found:
                found.bridge, found.secrets, found.tokens = running, secrets, tokens
                found.clock = running_clock
                yield found

    return run
