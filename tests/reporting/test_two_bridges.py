"""One bridge tells another what meters measure: as a VEN, to a VTN that asks in its own way."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from tests.openadr2.raw_site import served
from tests.openadr2.raw_ven import PREFIX
from tests.peers import eventually
from tests.reporting import measured

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
ASKED = [
    {"report": "TELEMETRY_USAGE", "resource": "house", "every": "2s", "sampling": "1s"},
    {"report": "TELEMETRY_STATUS", "every": "2s", "sampling": "1s"},
    {"report": "HISTORY_USAGE", "resource": "cellar", "history": "20m", "sampling": "1m"},
]


def readings(site, kind, length):
    """Return what the VTN keeps of a kind: start → amount in kWh."""
    return {
        datetime.fromtimestamp(r["start"] / 1000, UTC): r["amount"]
        for r in site.readings()
        if (r["kind"].upper(), r["length"]) == (kind, length // timedelta(milliseconds=1))
    }


async def test_what_one_measures_the_other_knows(settings, bridge, tmp_path):
    (tmp_path / "vtn").mkdir()
    async with served(tmp_path / "vtn", poll_interval="1s", reports=ASKED) as site:
        who = site.enrol("house")
        source = {
            "name": "utility", "vtn_url": site.url + PREFIX, "cert": who.cert, "key": who.key,
            "ca": site.authority.ca,
            "reports": [
                {"resource": "house", "meter": "M", "every": "1s"},
                {"resource": "house", "meter": "M", "every": "1s", "kind": "status"},
                {"resource": "cellar", "meter": "N", "every": "1m"},
            ],
        }  # fmt: skip
        async with bridge(settings([source])) as running:
            now = datetime.now(UTC).replace(second=0, microsecond=0)
            past = {now - n * MINUTE: Decimal(n) / 8 for n in range(1, 60)}
            for start, value in past.items():
                await measured.keep(running.store, "N", start, MINUTE, [value], now)
            await eventually(lambda: running.health.job("source:utility").last_success)
            begin = datetime.now(UTC).replace(microsecond=0) - 5 * SECOND
            lately = {begin + n * SECOND: Decimal(n) / 16 for n in range(60)}
            for start, value in lately.items():
                await measured.keep(running.store, "M", start, SECOND, [value], now)
            await eventually(lambda: len(readings(site, "ONLINE", SECOND)) >= 4, 30)
            await eventually(lambda: len(readings(site, "USAGE", SECOND)) >= 6, 30)
            await eventually(lambda: len(readings(site, "USAGE", MINUTE)) >= 18, 30)
            assert running.health.job("source:utility").warning is None
    told = readings(site, "USAGE", MINUTE)
    assert told == {start: value for start, value in past.items() if start in told}
    told = readings(site, "USAGE", SECOND)
    assert told == {s: v for s, v in lately.items() if min(told) <= s <= max(told)}
