"""The Customer API as a source: hourly usage and subscriptions, exact, late, denied, dead."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from aiohttp import web
from pydantic import ValidationError

from bridge.config import read_settings
from bridge.errors import SettingsError
from bridge.notation import day_span, write_time
from bridge.sources import Customer
from bridge.store import clients
from bridge.store.files import beside
from bridge.usage import Contract, Measured, Origin, Stream
from bridge.wire.readings import reading
from tests.customer import CLIENT, CONTRACT, CUSTOMER, SECRET, CustomerApi, report
from tests.peers import SimClock, started
from tests.sources.collecting import NOON, SECOND, scene_of

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
OTHER, OTHERS = "0087654321", "8c0de1f4-95a5-4a5e-8a0e-4f2c57b3a7d1"
IMPORT, EXPORT = Stream("home", "import"), Stream("home", "export")


@pytest.fixture
async def peer(clock):
    found = CustomerApi(clock)
    found.sign_up()
    async with started(found):
        yield found


@pytest.fixture
def source(tmp_path, peer):
    (tmp_path / "secret").write_text(f"{SECRET}\n")

    def make(**about):
        return Customer.model_validate({
            "kind": "customer", "name": "pge", "base_url": peer.url, "client_id": CLIENT,
            "secret_file": tmp_path / "secret",
            "contracts": [{"id": CONTRACT, "customer": CUSTOMER, "meter": "home"}], **about,
        })  # fmt: skip

    return make


def two():
    return [{"id": i, "customer": c} for i, c in ((CONTRACT, CUSTOMER), (OTHER, OTHERS))]


def used(count, first=0):
    return [{"CONSUMPTION": Decimal(first + n) / 1000} for n in range(count)]


async def test_metered_hours_and_both_subscriptions_are_kept_apart_and_exactly(peer, scene, source):
    start = NOON - 3 * DAY
    values = [
        {"CONSUMPTION": Decimal(n) / 1000, "GENERATION": 0, "BASELINE_CONSUMPTION": Decimal("0.980"), "BASELINE_GENERATION": Decimal("0.1")}
        for n in range(72)
    ]  # fmt: skip
    peer.measure(start, values)
    peer.measure(NOON, [{"BASELINE_CONSUMPTION": Decimal("0.5")}] * 24)
    async with scene.running(source()):
        await scene.passing(MINUTE)
    assert scene.values(IMPORT) == [(start + n * HOUR, Decimal(n) / 1000) for n in range(72)]
    assert scene.values(EXPORT) == [(start + n * HOUR, 0) for n in range(72)]
    kinds = {s: len(known) for s, known in scene.readings.items()}
    assert kinds == {
        IMPORT: 72, EXPORT: 72,
        Stream("home", "import", "subscription_post"): 72,
        Stream("home", "export", "subscription_post"): 72,
        Stream("home", "import", "subscription_pre"): 24,
    }  # fmt: skip
    assert {(o.kind, o.name, o.reference) for o in scene.origins} == {("customer", "pge", "")}
    assert scene.state("home") == "ok"
    assert scene.job.warning is None


async def test_the_contract_is_known_with_what_the_utility_says_of_it(peer, scene, source, clock):
    asked = source(contracts=[{"id": CONTRACT, "customer": CUSTOMER, "program": "EV2A-013532223"}])
    async with scene.running(asked):
        await scene.passing(MINUTE)
        about = {
            "meterAccountId": "SP1", "rateCode": "EV2A", "voltageClass": "secondary",
            "rateCodeHasVoltageClass": True, "circuitId": "013532223", "hasCca": True, "cca": "MCE",
        }  # fmt: skip
        expected = Contract(CONTRACT, CUSTOMER, ("pge/1",), "EV2A-013532223", about)
        assert scene.contracts == {CONTRACT: expected}
        assert sum(len(b.contracts) for b in scene.batches) == 1
        peer.contracts[CONTRACT, CUSTOMER]["rateCode"] = "EELEC"
        await scene.passing(DAY)
        assert scene.contracts[CONTRACT].about["rateCode"] == "EELEC"
        assert sum(len(b.contracts) for b in scene.batches) == 2
        assert peer.count("customer/info") == 2  # once a day
    assert scene.contracts[CONTRACT].program == "EV2A-013532223"


async def test_what_program_a_contract_is_in_is_not_guessed(peer, scene, source):
    async with scene.running(source()):
        await scene.passing(MINUTE)
    assert scene.contracts[CONTRACT].program is None


FORMS = [
    lambda token: f'"{token}"',
    lambda token: {"access_token": token, "token_type": "Bearer", "expires_in": 3600},
    lambda token: {"token": token},
    lambda token: {"id_token": token},
]


@pytest.mark.parametrize("form", FORMS)
async def test_a_token_is_understood_in_every_form(peer, scene, source, form):
    peer.token_form = form
    async with scene.running(source()):
        await scene.passing(MINUTE)
    assert scene.state("home") == "ok"


async def test_a_token_is_renewed_before_its_hour_is_over(peer, scene, source, clock):
    async with scene.running(source(every="10m")):
        await scene.passing(5 * HOUR)
        got = [at for at, path, *_ in peer.asked if path == "auth/token"]
    assert [b - a >= 55 * MINUTE for a, b in pairwise(got)] == [True] * 5
    refused = scene.job.failures, scene.job.warning
    assert refused == (0, None)


async def test_a_token_that_says_how_short_it_holds_is_believed(peer, scene, source):
    peer.lasts = 15 * MINUTE
    peer.token_form = lambda token: {"access_token": token, "expires_in": 600}
    async with scene.running(source(every="5m")):
        await scene.passing(HOUR)
    assert 6 <= peer.count("auth/token") <= 7
    assert scene.job.warning is None


async def test_a_token_that_ended_early_is_renewed_once(peer, scene, source, clock):
    async with scene.running(source(every="10m")):
        await scene.passing(2 * MINUTE)
        peer.tokens.clear()
        peer.tokens["another"] = clock.now()
        await scene.passing(10 * MINUTE)
        assert peer.count("auth/token") == 2
        assert scene.job.warning is None
        assert scene.state("home") == "ok"


async def test_contracts_that_no_token_opens_are_not_tried_with_one_after_the_other(
    peer, scene, source
):
    peer.sign_up(OTHER, OTHERS)
    peer.fail = lambda path, *_: web.Response(status=401) if path == "customer/usage" else None
    async with scene.running(source(contracts=two())):
        await scene.passing(4 * HOUR)
    assert {s.state for s in scene.states.values()} == {"auth_failed"}
    assert peer.count("customer/usage") >= 3 * (peer.count("auth/token") - 1)  # at once one is new
    assert peer.count("customer/usage") < 40
    assert "the token is not accepted (401)" in scene.job.warning
    assert scene.job.problem is None


async def test_a_refused_secret_is_told_and_not_tried_all_the_time(
    peer, scene, source, tmp_path, logged
):
    asked = source(contracts=two())
    (tmp_path / "secret").write_text("wrong")
    async with scene.running(asked):
        await scene.until(lambda: scene.job.problem)
        assert set(scene.states) == {"pge/1", "pge/2"}
        assert {s.state for s in scene.states.values()} == {"auth_failed"}
        await scene.passing(6 * HOUR)
        assert "the client id or its secret is refused (401)" in scene.job.problem
        assert len(peer.asked) <= 7
        (tmp_path / "secret").write_text(SECRET)
        peer.sign_up(OTHER, OTHERS)
        await scene.passing(2 * HOUR)
        assert {s.state for s in scene.states.values()} == {"ok"}


@pytest.mark.parametrize(
    ("setting", "state"),
    [("foreign", "forbidden"), ("unknown", "unknown"), ("down", "upstream_down")],
)
async def test_a_contract_that_fails_stops_no_other(peer, scene, source, setting, state):
    peer.measure(NOON - 2 * DAY, used(48))
    peer.sign_up(OTHER, OTHERS)
    if setting == "foreign":
        peer.foreign.add(OTHER)
    elif setting == "unknown":
        del peer.contracts[OTHER, OTHERS]
    else:
        peer.fail = lambda _, contract, q: web.Response(status=503) if contract == OTHER else None
    async with scene.running(source(contracts=two())):
        await scene.passing(6 * HOUR)
        assert (scene.state("pge/1"), scene.state("pge/2")) == ("ok", state)
        assert scene.states["pge/2"].says.endswith(".")
        assert scene.states["pge/2"].next_step
        assert "pge/2: " in scene.job.warning
        assert setting == "down" or peer.windows(OTHER) == []
        peer.foreign.clear()
        peer.fail = None
        peer.sign_up(OTHER, OTHERS)
        await scene.passing(HOUR + MINUTE)
        assert scene.state("pge/2") == "ok"
        assert scene.job.warning is None
    assert len(scene.values(Stream("pge/1", "import"))) == 48


async def test_without_its_information_a_contract_is_followed_all_the_same(peer, scene, source):
    peer.measure(NOON - 2 * DAY, used(48))
    peer.fail = lambda path, *_: web.Response(status=500) if path == "customer/info" else None
    async with scene.running(source()):
        await scene.passing(5 * MINUTE)
    assert len(scene.values(IMPORT)) == 48
    assert "its information: " in scene.job.warning


async def test_a_contract_is_known_though_its_usage_fails(peer, scene, source):
    peer.fail = lambda path, *_: web.Response(status=500) if path == "customer/usage" else None
    async with scene.running(source()):
        await scene.until(lambda: scene.job.problem)
    assert scene.contracts[CONTRACT].about["rateCode"] == "EV2A"
    assert scene.state("home") == "upstream_down"


async def test_where_nothing_is_subscribed_what_is_past_is_kept(peer, scene, source):
    peer.measure(NOON - 2 * DAY, used(48))
    ahead = lambda path, _, q: path == "customer/usage" and q["start"] >= "2026-07-01T19"  # noqa: E731
    for status in (404, 204):
        peer.fail = lambda *about, s=status: web.Response(status=s) if ahead(*about) else None
        scene.readings.clear()
        async with scene.running(source()):
            await scene.passing(5 * MINUTE)
        assert scene.state("home") == "ok"
        assert len(scene.values(IMPORT)) >= 19 + 24
        assert scene.job.warning is None


async def test_asked_too_often_it_waits_as_long_as_it_is_told_to(peer, scene, source):
    peer.fail = lambda path, *_: (
        web.Response(status=429, headers={"Retry-After": "1800"}, text="<html>")
        if path == "customer/info" and peer.count(path) == 1
        else None
    )
    async with scene.running(source()):
        await scene.passing(HOUR)
    first, second = (at for at, path, *_ in peer.asked if path == "customer/info")
    assert second - first >= 30 * MINUTE
    assert not [at for at, *_ in peer.asked if first < at < first + 30 * MINUTE]


@pytest.mark.parametrize(("day", "hours"), [("2026-03-08", 23), ("2026-11-01", 25)])
async def test_days_of_23_and_25_hours_are_whole(tmp_path, source, peer, day, hours):
    begin, end = day_span(date.fromisoformat(day), "America/Los_Angeles")
    clock = peer.clock = SimClock(end + 2 * HOUR)
    peer.measure(begin, used(hours))
    async with scene_of(tmp_path / "day.db", clock) as scene, scene.running(source()):
        await scene.passing(MINUTE)
    assert scene.values(IMPORT) == [(begin + n * HOUR, Decimal(n) / 1000) for n in range(hours)]
    assert end - begin == hours * HOUR


async def test_gaps_stay_gaps_and_fill_when_they_are_known(peer, scene, source, clock):
    start = NOON - 12 * HOUR
    peer.measure(start, [{"CONSUMPTION": None if n in {3, 4} else 1} for n in range(12)])
    async with scene.running(source()):
        await scene.passing(MINUTE)
        known = dict(scene.values(IMPORT))
        assert len(known) == 10
        assert start + 3 * HOUR not in known
        peer.measure(start + 3 * HOUR, [{"CONSUMPTION": 5}, {"CONSUMPTION": 0}])
        await scene.passing(HOUR)
        known = dict(scene.values(IMPORT))
        assert (known[start + 3 * HOUR], known[start + 4 * HOUR]) == (5, 0)


async def test_what_is_still_to_come_was_not_measured(peer, scene, source):
    peer.measure(NOON - HOUR, [{"CONSUMPTION": 1}, {"CONSUMPTION": 2}, {"CONSUMPTION": 0}])
    async with scene.running(source()):
        await scene.passing(MINUTE)
    assert scene.values(IMPORT) == [(NOON - HOUR, 1)]
    assert "still to come" in scene.job.warning


async def test_what_is_past_is_asked_for_again_for_weeks_day_by_day(peer, scene, source, clock):
    start = NOON.replace(hour=0) - 60 * DAY
    peer.measure(start, used(60 * 24))
    async with scene.running(source(history="60d", every="6h")):
        await scene.passing(2 * MINUTE)
        assert len(scene.values(IMPORT)) == 60 * 24
        first = len(peer.windows())
        peer.measure(NOON - 30 * DAY, [{"CONSUMPTION": Decimal("7.5"), "BASELINE_CONSUMPTION": 1}])
        peer.measure(start, [{"CONSUMPTION": 99}])  # so late nobody corrects any more
        await scene.passing(DAY)
        values = dict(scene.values(IMPORT))
        assert values[NOON - 30 * DAY] == Decimal("7.5")
        assert values[start] == 0
        assert Stream("home", "import", "subscription_post") in scene.readings
        again = peer.windows()[first:]
        assert min(s for s, _ in again) >= NOON - 37 * DAY
        assert max(e - s for s, e in peer.windows()) <= 14 * DAY
        assert len([w for w in again if w[1] - w[0] > 2 * DAY and w[1] < clock.now()]) == 3


async def test_a_restart_goes_on_where_it_was(peer, scene, source, clock):
    start = NOON.replace(hour=0) - 90 * DAY
    peer.measure(start, used(90 * 24))
    asked = {"history": "90d"}
    async with scene.running(source(**asked)):
        await scene.until(lambda: len(peer.windows()) == 4)
    before = {w for w in peer.windows() if w[1] - w[0] > 2 * DAY and w[1] < NOON}
    async with scene.running(source(**asked)):
        await scene.passing(2 * MINUTE)
    assert len(scene.values(IMPORT)) == 90 * 24
    past = [w for w in peer.windows() if w[1] - w[0] > 2 * DAY and w[1] < NOON]
    assert len(past) - len(set(past)) <= 1  # one that was under way may come twice
    assert before <= set(past)
    async with scene.running(source(**asked)):
        await scene.passing(2 * MINUTE)
    assert len([w for w in peer.windows() if w[1] - w[0] > 2 * DAY and w[1] < NOON]) == len(past)


async def test_it_is_asked_once_a_second_at_most(peer, scene, source):
    peer.sign_up(OTHER, OTHERS)
    async with scene.running(source(contracts=two(), history="60d")):
        await scene.passing(5 * MINUTE)
    assert min(b - a for a, b in pairwise([at for at, *_ in peer.asked])) >= SECOND


async def test_a_dead_peer_is_told_and_awaited(peer, scene, source):
    peer.measure(NOON - 2 * DAY, used(48))
    async with scene.running(source()):
        await scene.passing(2 * MINUTE)
        await peer.stop()
        await scene.passing(3 * HOUR)
        assert scene.state("home") == "upstream_down"
        assert "cannot be asked" in scene.job.problem
        await peer.start()
        await scene.passing(HOUR)
        assert scene.state("home") == "ok"
        assert scene.job.problem is None


@pytest.mark.parametrize("body", ["", "<html>", "[1]", '{"message": "Internal server error"}'])
async def test_garbage_is_told_and_harms_nothing(peer, scene, source, body):
    peer.measure(NOON - 2 * DAY, used(48))
    peer.fail = lambda path, *_: web.Response(text=body) if path == "customer/usage" else None
    async with scene.running(source()):
        await scene.until(lambda: scene.job.problem)
        assert "customer/usage: the answer" in scene.job.problem
        peer.fail = None
        await scene.passing(HOUR)
        assert len(scene.values(IMPORT)) == 48


async def test_where_no_unit_is_said_none_is_made_up(peer, scene, source):
    peer.measure(NOON - HOUR, [{"CONSUMPTION": 1}])
    peer.shape = lambda said: {**report(said), "payloadDescriptors": []}
    async with scene.running(source()):
        await scene.passing(MINUTE)
    assert list(scene.readings) == [Stream("home", "import", "usage", "")]
    assert "write the one it is in as unit" in scene.job.warning
    scene.readings.clear()
    async with scene.running(source(unit="KWH")):
        await scene.passing(MINUTE)
    assert list(scene.readings) == [IMPORT]


async def test_neither_secrets_nor_contracts_are_shown(peer, scene, source, logged):
    peer.sign_up(OTHER, OTHERS)
    made = source(contracts=two())
    async with scene.running(made):
        await scene.passing(HOUR)
        peer.foreign |= {CONTRACT, OTHER}
        await scene.passing(3 * HOUR)
        peer.fail = lambda _, contract, q: web.Response(status=500, text=f"{contract} {SECRET}")
        await scene.passing(3 * HOUR)
        await peer.stop()
        await scene.passing(3 * HOUR)
    marks = await scene.store.sources.marks("pge")
    shown = f"{logged} {made!r} {made.model_dump_json()} {scene.job} {scene.states} {marks}"
    for secret in (SECRET, CONTRACT, CUSTOMER, OTHER, OTHERS, *peer.tokens):
        assert secret not in shown


async def test_another_bridge_may_be_asked_as_the_utility_is(
    scene, source, settings, bridge, tmp_path
):
    contract = {"id": CONTRACT, "customer": CUSTOMER, "meters": ["m"], "clients": ["asp"]}
    made = settings(contracts=[contract], store={"path": tmp_path / "upstream.db"})
    begin = NOON - 2 * DAY
    readings = [
        reading(begin + n * HOUR, begin + (n + 1) * HOUR, Decimal(n) / 1000)
        for n in range(48)
        if n != 7
    ]
    planned = [reading(NOON, NOON + HOUR, Decimal("0.25"))]
    async with bridge(made, SimClock(NOON)) as upstream:
        with beside(upstream.store.path) as db:
            scopes = clients.scopes_of("ven", ["usage:raw"])
            secret = clients.add(db, "asp", scopes, None, datetime.now(UTC))
        (tmp_path / "secret").write_text(secret)
        origin = Origin("api", "test")
        said = [
            Measured(Stream("m", "import"), readings, origin),
            Measured(Stream("m", "import", "subscription_pre"), planned, origin),
        ]
        await upstream.store.meters.keep(said, NOON, durable=True)
        asked = source(base_url=f"{upstream.addresses['vtn']}/v1", client_id="asp")
        async with scene.running(asked):
            await scene.until(lambda: scene.job.last_success)
            await scene.passing(MINUTE)
    hours = [begin + n * HOUR for n in range(48) if n != 7]
    assert [start for start, _ in scene.values(IMPORT)] == hours
    assert [value for _, value in scene.values(IMPORT)] == [
        Decimal(n) / 1000 for n in range(48) if n != 7
    ]
    assert scene.values(Stream("home", "import", "subscription_pre")) == [(NOON, Decimal("0.25"))]
    assert scene.state("home") == "ok"


def test_settings_that_cannot_be_meant_are_refused(tmp_path, source):
    with pytest.raises(ValidationError, match="write an https address"):
        source(base_url="http://utility.example/v1")
    same = [{"id": CONTRACT, "customer": CUSTOMER, "meter": m} for m in ("a", "a")]
    with pytest.raises(ValidationError, match="two contracts have the meter 'a'"):
        source(contracts=same)
    with pytest.raises(ValidationError, match="a contract is named twice"):
        source(contracts=[same[0], {**same[1], "meter": "b"}])
    (tmp_path / "secret").write_text(" \n")
    with pytest.raises(SettingsError, match="is empty"):
        source().check_files()


SETTINGS = """
[[sources]]
kind = "customer"
name = "pge"
base_url = "https://utility.example/v1"
client_id = "asp"
secret_file = "secret"
contracts = [{ id = %s, customer = "c" }]
"""


@pytest.mark.parametrize("wrong", ["12345678", f'"{"9" * 200}"', '""'])
def test_a_mistake_in_an_id_is_told_without_showing_it(tmp_path, wrong):
    (tmp_path / "secret").write_text(SECRET)
    settings = tmp_path / "bridge.toml"
    settings.write_text(SETTINGS % wrong)
    with pytest.raises(SettingsError, match=r"contracts\.0\.id: ") as told:
        read_settings(settings)
    assert wrong == '""' or wrong.strip('"') not in str(told.value)
    settings.write_text(SETTINGS % f'"{CONTRACT}"')
    (found,) = read_settings(settings).sources
    assert found.secret_file == tmp_path / "secret"
    assert found.accounts[0].contract == CONTRACT


async def test_days_before_the_contract_are_no_trouble(peer, scene, source, clock):
    peer.sign_up()
    peer.measure(NOON - 10 * DAY, used(240))

    def fail(path, _, query):
        early = path == "customer/usage" and query["end"] < write_time(NOON - 10 * DAY)
        return web.json_response({"message": "Not found"}, status=404) if early else None

    peer.fail = fail
    async with scene.running(source(history="40d")):
        await scene.passing(2 * DAY)
        assert len(scene.values(IMPORT)) == 240
        assert (scene.job.warning, scene.job.problem) == (None, None)
        early = [q for *_, q in peer.asked if q and q.get("end", "9") < write_time(NOON - 10 * DAY)]
        assert 2 <= len(early) <= 2 * 3, "each window once a day"
