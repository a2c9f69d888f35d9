"""The VEN, against a VTN that is written from the specification and can misbehave."""

import asyncio
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from aiohttp import ClientSession, web

from bridge.certificates import read_certificate, server_context, write_development_set
from bridge.config import Settings
from tests.peers import (
    Device,
    RawVtn,
    SimClock,
    distribute,
    event,
    eventually,
    kept_prices,
    levels,
    payload,
    quiet,
    response,
    signal,
    started,
)

NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Scene:
    """A bridge between a raw VTN and one device, at a time of the test's choosing."""

    def __init__(self, vtn, device, clock, bridge, path):
        self.vtn, self.device, self.clock, self.bridge, self.path = vtn, device, clock, bridge, path

    @property
    def job(self):
        return self.bridge.health.job("source:utility")

    async def poll(self, times=1):
        """Let the bridge poll, and do all that follows."""
        for _ in range(times):
            self.vtn.done = False
            for _ in range(20):  # it may not have begun to wait yet
                self.clock.pass_time(timedelta(seconds=10))
                with suppress(AssertionError):
                    await eventually(lambda: self.vtn.done, within=0.5)
                    break
            assert self.vtn.done, (self.job, [k for k, _ in self.vtn.asked])
            await quiet(self.path, self.clock)

    async def pass_time(self, length, step=timedelta(minutes=30)):
        while length > timedelta(0):
            self.clock.pass_time(min(step, length))
            length -= step
            await quiet(self.path, self.clock)


@pytest.fixture
async def scene(settings, bridge, tmp_path):
    clock, vtn, device = SimClock(NOON), RawVtn(), Device()
    async with started(vtn, device):
        options = getattr(scene, "options", {})
        made = settings(
            [{"name": "utility", "vtn_url": vtn.url, **options}],
            [{"name": "d", "url": device.url}],
        )
        async with bridge(made, clock) as running:
            yield Scene(vtn, device, clock, running, tmp_path / "bridge.db")


async def passing(scene, condition):
    """Let time pass, ten seconds at a time, until something is so."""
    for _ in range(100):
        scene.clock.pass_time(timedelta(seconds=10))
        with suppress(AssertionError):
            return await eventually(condition, within=0.2)
    raise AssertionError(scene.job)


async def recovered(scene):
    """Let time pass until the source is well again."""
    await passing(scene, lambda: scene.job.problem is None)
    await quiet(scene.path, scene.clock)


async def failed(scene):
    """Let time pass until the source has failed."""
    await passing(scene, lambda: scene.job.problem)


async def settled(scene):
    def listed():
        return scene.vtn.done or (not scene.vtn.events and scene.job.last_success)

    with suppress(AssertionError):
        await eventually(listed, within=2)
    if not listed():  # the first poll may have come before there was something to list
        await passing(scene, listed)
    await quiet(scene.path, scene.clock)


async def test_a_price_day_is_kept_exactly_and_told(scene):
    prices = ["0.10", "-0.000831", "1e-05", "0.30000000000000004"]
    scene.vtn.list(event("DAY", NOON + HOUR, signal(prices), duration="PT4H"))
    await settled(scene)
    await scene.poll()
    rows = await kept_prices(scene.bridge.store, "EV2A", NOON)
    assert [str(r.value) for r in rows] == ["0.10", "-0.000831", "0.00001", "0.30000000000000004"]
    assert [r.start for r in rows] == [NOON + n * HOUR for n in (1, 2, 3, 4)]
    assert scene.device.events("event.received") == ["DAY"]
    assert scene.vtn.opts == [("DAY", 0, "optIn")]


async def test_the_opt_is_told_after_the_commit_only(scene):
    await settled(scene)

    async def fail(*_):
        raise RuntimeError("the disk is full")

    save, scene.bridge.store.events.save = scene.bridge.store.events.save, fail
    scene.vtn.list(event("E", NOON + HOUR, levels([1])))
    await failed(scene)
    assert scene.vtn.opts == []
    scene.bridge.store.events.save = save
    await passing(scene, lambda: scene.vtn.opts == [("E", 0, "optIn")])


async def test_an_identical_repeat_reaches_nobody_but_is_answered_again(scene):
    one = event("E", NOON + HOUR, levels([1]))
    scene.vtn.list(one)
    await settled(scene)
    scene.vtn.list(one.replace("2026-01-01T00", "2026-01-01T07").replace(">far<", ">near<"))
    await scene.poll()
    assert scene.device.types("state.changed").count("event.received") == 1
    assert "event.updated" not in scene.device.types()
    await eventually(lambda: scene.vtn.opts == [("E", 0, "optIn")] * 2)


async def test_modification_and_cancellation_reach_a_device_once_each(scene):
    scene.vtn.list(event("E", NOON + HOUR, levels([1])), event("OTHER", NOON + HOUR, levels([2])))
    await settled(scene)
    scene.vtn.list(
        event("E", NOON + HOUR, levels([3]), modification=1),
        event("OTHER", NOON + HOUR, levels([2])),
    )
    await scene.poll()
    gone = event("E", NOON + HOUR, levels([3]), modification=2, status="cancelled")
    for _ in range(3):  # a VTN lists a cancelled event until it is answered, and longer
        scene.vtn.list(gone, event("OTHER", NOON + HOUR, levels([2])))
        await scene.poll()
    kinds = [t for t in scene.device.types() if t in {"event.updated", "event.cancelled"}]
    assert kinds == ["event.updated", "event.cancelled"]
    assert {o for e, _, o in scene.vtn.opts if e == "OTHER"} == {"optIn"}
    assert [m for e, m, _ in scene.vtn.opts if e == "E"][:3] == [0, 1, 2]


async def test_an_event_no_longer_listed_is_cancelled_once_it_is_confirmed(scene):
    scene.vtn.list(event("A", NOON + HOUR, levels([1])), event("B", NOON + HOUR, levels([2])))
    await settled(scene)
    asked = scene.vtn.count("oadrRequestEvent")
    scene.vtn.list(event("B", NOON + HOUR, levels([2])))
    await scene.poll()
    assert scene.vtn.count("oadrRequestEvent") == asked + 1
    assert scene.device.events("event.cancelled") == ["A"]


async def test_a_list_that_was_cut_short_cancels_nothing(scene):
    a, b = event("A", NOON + HOUR, levels([1])), event("B", NOON + HOUR, levels([2]))
    scene.vtn.list(a, b)
    await settled(scene)
    scene.vtn.say = [distribute(b)]  # the poll leaves A out, the request after it does not
    await scene.poll()
    assert "event.cancelled" not in scene.device.types()


async def test_an_empty_response_cancels_nothing(scene):
    scene.vtn.list(event("A", NOON + HOUR, levels([1])))
    await settled(scene)
    scene.vtn.events = []
    await scene.poll(3)
    assert "event.cancelled" not in scene.device.types()


async def test_a_completed_event_that_disappears_is_not_cancelled(scene):
    scene.vtn.list(event("A", NOON, levels([1]), duration="PT1H"))
    await settled(scene)
    await scene.pass_time(2 * HOUR)
    scene.vtn.list(event("B", NOON + 5 * HOUR, levels([2])))
    await scene.poll()
    assert "event.cancelled" not in scene.device.types()


async def test_ids_that_look_like_numbers_stay_as_they_are(scene):
    scene.vtn.list(
        event("007", NOON + HOUR, levels([1])),
        event("1.2.3", NOON + HOUR, levels([1])),
        event("7", NOON + HOUR, levels([1])),
        event("10.0.0.1", NOON + HOUR, levels([1])),
    )
    await settled(scene)
    await scene.poll()
    assert [e for e, _, _ in scene.vtn.opts] == ["007", "1.2.3", "7", "10.0.0.1"] * 2 or [
        e for e, _, _ in scene.vtn.opts
    ] == ["007", "1.2.3", "7", "10.0.0.1"]
    assert sorted(scene.device.events("event.received")) == ["007", "1.2.3", "10.0.0.1", "7"]


async def test_a_lower_case_vtn_id_and_an_x_signal_are_answered_with_200(scene):
    scene.vtn.list(event("X", NOON + HOUR, signal([5], "x-CUSTOM", "level", unit="")))
    await settled(scene)
    answer = next(xml for kind, xml in scene.vtn.asked if kind == "oadrCreatedEvent")
    assert "452" not in answer
    assert "460" not in answer
    assert scene.vtn.opts == [("X", 0, "optIn")]


async def test_response_required_never_is_not_answered(scene):
    scene.vtn.list(event("Q", NOON + HOUR, levels([1]), required="never"))
    await settled(scene)
    assert scene.device.events("event.received") == ["Q"]
    assert scene.vtn.opts == []


async def test_an_ampersand_in_a_market_context(scene):
    scene.vtn.list(event("E", NOON + HOUR, levels([1]), context="http://u.example/P?a=1&amp;b=2"))
    await settled(scene)
    (program,) = await scene.bridge.store.prices.programs(NOON)
    assert program["programName"] == "P"
    assert program["context"] == "http://u.example/P?a=1&b=2"


async def test_events_with_baselines_and_two_signals_and_times_without_z(scene):
    start = NOON + HOUR
    two = event("TWO", start, signal(["0.5"], signal_id="P"), levels([2]))
    scene.vtn.list(two)
    await settled(scene)
    assert scene.device.events("event.received") == ["TWO", "TWO"]
    await scene.pass_time(HOUR + timedelta(minutes=1))
    assert scene.device.state["price"] == Decimal("0.5")
    assert scene.device.state["level"] == 2


async def test_a_vtn_that_asks_for_reports_is_declined_and_followed(scene):
    await settled(scene)
    scene.vtn.say = [
        payload(
            '<oadr:oadrCreateReport ei:schemaVersion="2.0b"><pyld:requestID>rr</pyld:requestID>'
            "<oadr:oadrReportRequest><ei:reportRequestID>1</ei:reportRequestID><ei:reportSpecifier>"
            "<ei:reportSpecifierID>s</ei:reportSpecifierID><xcal:granularity><xcal:duration>PT1M</xcal:duration>"
            "</xcal:granularity><ei:reportBackDuration><xcal:duration>PT1M</xcal:duration></ei:reportBackDuration>"
            "<ei:specifierPayload><ei:rID>r</ei:rID><ei:readingType>Direct Read</ei:readingType>"
            "</ei:specifierPayload></ei:reportSpecifier></oadr:oadrReportRequest>"
            "<ei:venID>V1</ei:venID></oadr:oadrCreateReport>"
        )
    ]
    scene.vtn.list(event("AFTER", NOON + HOUR, levels([1])))
    await scene.poll()
    assert "452" in scene.vtn.asked[-3][1] or any(
        k == "oadrResponse" and "452" in x for k, x in scene.vtn.asked
    )
    await eventually(lambda: scene.device.events("event.received") == ["AFTER"])


async def test_reregistration_says_which_ids_we_had(scene):
    await settled(scene)
    scene.vtn.say = [
        payload(
            '<oadr:oadrRequestReregistration ei:schemaVersion="2.0b"><ei:venID>V1</ei:venID>'
            "</oadr:oadrRequestReregistration>"
        )
    ]
    await scene.poll()
    await eventually(lambda: scene.vtn.count("oadrCreatePartyRegistration") == 2)
    again = [x for k, x in scene.vtn.asked if k == "oadrCreatePartyRegistration"][1]
    assert "<ei:registrationID>R1</ei:registrationID>" in again
    assert "<ei:venID>V1</ei:venID>" in again


async def test_a_vtn_that_forgot_us_is_registered_with_as_for_the_first_time(scene):
    await settled(scene)
    anew = []

    def forgetful():
        kind, xml = scene.vtn.asked[-1]
        if kind == "oadrCreatePartyRegistration" and "R1" not in xml:
            anew.append(xml)
        known = anew or kind == "oadrQueryRegistration"
        return scene.vtn._answer(kind, xml) if known else response(463)

    scene.vtn.fail = forgetful
    await failed(scene)
    await recovered(scene)
    assert len(anew) == 1
    assert "venID" not in anew[0]
    assert scene.vtn.count("oadrCreatePartyRegistration") >= 3  # the first, with the ids, without


async def test_a_cancelled_registration_is_confirmed_and_renewed(scene):
    await settled(scene)
    scene.vtn.say = [
        payload(
            '<oadr:oadrCancelPartyRegistration ei:schemaVersion="2.0b"><pyld:requestID>c1</pyld:requestID>'
            "<ei:registrationID>R1</ei:registrationID><ei:venID>V1</ei:venID></oadr:oadrCancelPartyRegistration>"
        )
    ]
    await passing(scene, lambda: scene.vtn.count("oadrCanceledPartyRegistration") == 1)
    await eventually(lambda: scene.job.problem)
    assert "cancelled the registration" in scene.job.problem
    await recovered(scene)
    assert scene.vtn.count("oadrCreatePartyRegistration") == 2


BOMB = (
    '<!DOCTYPE l [<!ENTITY a "xxxxxxxxxx"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>'
    "<l>&c;</l>"
)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (lambda: web.Response(text="<nope"), "not valid OpenADR 2.0b"),
        (lambda: web.Response(text="<a/>"), "not valid OpenADR 2.0b"),
        (lambda: web.Response(text=""), "empty body"),
        (lambda: web.Response(status=500, text="x"), "HTTP 500"),
        (lambda: web.Response(status=302, headers={"Location": "/"}), "HTTP 302"),
        (lambda: web.Response(status=502, body=b"\xff\xfe\x00"), "HTTP 502"),
        (lambda: web.Response(body=b"\xff\xfe\x00"), "not valid"),
        (lambda: web.Response(text=BOMB), "document type"),
        (lambda: web.Response(body=BOMB.encode("utf-16")), "document type"),
        (lambda: web.Response(text='<!DOCTYPE l [<!ENTITY a "x">]><l>&a;</l>'), "document type"),
        (lambda: web.Response(body=b"<" * 10_000_000), "larger than 8 MB"),
        (lambda: response(463), "463"),
    ],
)
async def test_a_bad_answer_is_said_and_outlived(scene, said, problem):
    scene.vtn.list(event("E", NOON - HOUR, signal(["0.25"] * 24)))
    await settled(scene)
    scene.vtn.fail = said
    await failed(scene)
    assert problem in scene.job.problem
    assert scene.job.next_attempt > scene.clock.now()
    async with ClientSession() as http:
        ready = await (await http.get(scene.bridge.addresses["admin"] + "/readyz")).json()
    assert not ready["checks"]["source:utility"]["ok"]
    assert problem in ready["checks"]["source:utility"]["problem"]
    scene.vtn.fail = None
    await recovered(scene)
    assert scene.device.state["price"] == Decimal("0.25")
    assert "event.cancelled" not in scene.device.types()


async def test_an_hour_away_changes_nothing_for_devices(scene):
    scene.vtn.list(event("E", NOON, signal([f"0.{n}" for n in range(10, 20)]), duration="PT10H"))
    await settled(scene)
    await scene.vtn.stop()
    asked = len(scene.vtn.asked)
    for minute in range(60):
        scene.clock.pass_time(timedelta(minutes=1))
        await quiet(scene.path, scene.clock)
        assert scene.device.state["price"] == Decimal("0.10") if minute < 59 else Decimal("0.11")
    assert len(scene.vtn.asked) == asked
    await eventually(lambda: scene.job.problem)
    assert scene.job.next_attempt - scene.job.failing_since <= timedelta(hours=1, minutes=10)
    assert scene.device.state["stale"] is False
    await scene.vtn.start()
    await recovered(scene)
    assert scene.device.events("event.received") == ["E"]


async def test_a_vtn_that_is_down_at_the_start_is_found_later(settings, bridge, tmp_path):
    clock, vtn, device = SimClock(NOON), RawVtn(), Device()
    async with started(vtn, device):
        url = vtn.url
        await vtn.stop()
        made = settings([{"name": "utility", "vtn_url": url}], [{"name": "d", "url": device.url}])
        async with bridge(made, clock) as running:
            job = running.health.job("source:utility")
            await eventually(lambda: job.problem)
            assert job.problem.startswith("127.0.0.1:")
            assert "cannot be reached: " in job.problem
            assert "0x" not in job.problem
            vtn.list(event("E", NOON + HOUR, levels([1])))
            await vtn.start()
            while not vtn.opts:
                clock.pass_time(timedelta(seconds=1))
                await asyncio.sleep(0.02)
            assert vtn.opts == [("E", 0, "optIn")]


async def test_registration_survives_a_restart(settings, bridge, tmp_path):
    clock, vtn, device = SimClock(NOON), RawVtn(), Device()
    async with started(vtn, device):
        made = settings(
            [{"name": "utility", "vtn_url": vtn.url}], [{"name": "d", "url": device.url}]
        )
        for _ in range(2):
            async with bridge(made, clock) as running:
                await eventually(lambda r=running: r.health.job("source:utility").last_success)
    assert vtn.count("oadrCreatePartyRegistration") == 1
    assert "<ei:venID>V1</ei:venID>" in [x for k, x in vtn.asked if k == "oadrRequestEvent"][-1]


async def test_two_utilities_with_the_same_event_id_and_context(settings, bridge, tmp_path):
    clock, one, two, device = SimClock(NOON), RawVtn(), RawVtn(), Device()
    one.list(event("E", NOON + HOUR, signal(["0.1"] * 24)))
    two.list(event("E", NOON + HOUR, signal(["0.2"] * 24)))
    async with started(one, two, device):
        sources = [{"name": n, "vtn_url": v.url} for n, v in (("one", one), ("two", two))]
        async with bridge(settings(sources, [{"name": "d", "url": device.url}]), clock) as running:
            await eventually(lambda: one.opts and two.opts)
            await quiet(tmp_path / "bridge.db", clock)
            names = [p["programName"] for p in await running.store.prices.programs(NOON)]
            found = {
                n: {str(r.value) for r in await kept_prices(running.store, n, NOON)} for n in names
            }
    assert {frozenset(v) for v in found.values()} == {frozenset({"0.1"}), frozenset({"0.2"})}
    assert sorted(names)[0] == "EV2A"
    assert sorted(names)[1] in {"EV2A-one", "EV2A-two"}
    assert (
        len({b["data"]["event"]["id"] for b in device.bodies if b["type"] == "event.received"}) == 2
    )


async def test_a_manual_opt_waits_for_a_person_or_its_deadline(settings, bridge, tmp_path):
    clock, vtn, device = SimClock(NOON), RawVtn(), Device()
    path = tmp_path / "bridge.db"
    vtn.list(*(event(n, NOON + 5 * HOUR, levels([1])) for n in ("A", "B")))
    async with started(vtn, device):
        source = {"name": "utility", "vtn_url": vtn.url, "opt": "manual", "opt_deadline": "30m"}
        source["opt_default"] = "optOut"
        async with bridge(settings([source], [{"name": "d", "url": device.url}]), clock) as running:
            await eventually(lambda: vtn.done)
            await quiet(path, clock)
            assert vtn.opts == []
            assert device.types("state.changed") == []  # undecided: not in force yet
            rows = {r["foreign_id"]: r["id"] for r in await running.store.events.list(None, 10)}
            await running.store.events.set_opt(rows["A"], "optIn", clock.now())
            await eventually(lambda: vtn.opts == [("A", 0, "optIn")])
            await eventually(lambda: device.events("event.received") == ["A"])
            clock.pass_time(timedelta(minutes=31))
            await eventually(lambda: ("B", 0, "optOut") in vtn.opts)
            await quiet(path, clock)
            assert device.events("event.received") == ["A"]


async def test_opt_never_is_told_and_keeps_the_prices(settings, bridge, tmp_path):
    clock, vtn, device = SimClock(NOON), RawVtn(), Device()
    vtn.list(event("P", NOON, signal(["0.1"] * 24)), event("L", NOON, levels([3])))
    async with started(vtn, device):
        made = settings(
            [{"name": "utility", "vtn_url": vtn.url, "opt": "never"}],
            [{"name": "d", "url": device.url}],
        )
        async with bridge(made, clock):
            await eventually(lambda: len(vtn.opts) == 2)
            await quiet(tmp_path / "bridge.db", clock)
    assert {o for _, _, o in vtn.opts} == {"optOut"}
    assert device.events("event.received") == ["P"]
    assert device.state["price"] == Decimal("0.1")
    assert device.state["level"] is None


# --- TLS -----------------------------------------------------------------------------------


def mutual(folder):
    context = server_context([folder / "vtn.crt"], [folder / "vtn.key"])
    context.load_verify_locations(folder / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def follow(settings: Settings, bridge, vtn):
    """Run a bridge until its source has succeeded or failed; return its job."""
    async with bridge(settings) as running:
        job = running.health.job("source:utility")
        await eventually(lambda: job.problem or job.last_success)
        return job


@pytest.mark.parametrize("kind", ["rsa", "ec"])
@pytest.mark.parametrize("length", [-29, 0])
async def test_a_vtn_with_the_right_fingerprint_is_followed(
    settings, bridge, certs, tls, kind, length
):
    vtn, sha256 = RawVtn(), read_certificate(certs / kind / "vtn.crt").sha256
    await vtn.start(mutual(certs / kind))
    source = {
        "name": "utility",
        "vtn_url": vtn.url,
        **tls(kind),
        "vtn_fingerprint": sha256[length:],
    }
    job = await follow(settings([source]), bridge, vtn)
    await vtn.stop()
    assert job.problem is None
    assert vtn.count("oadrRequestEvent") == 1


async def test_a_vtn_with_another_fingerprint_is_told_nothing(settings, bridge, certs, tls):
    vtn, wrong = RawVtn(), read_certificate(certs / "ec" / "ven.crt").sha256
    await vtn.start(mutual(certs / "ec"))
    source = {"name": "utility", "vtn_url": vtn.url, **tls(), "vtn_fingerprint": wrong}
    job = await follow(settings([source]), bridge, vtn)
    await vtn.stop()
    assert "another fingerprint" in job.problem
    assert vtn.asked == []


@pytest.mark.parametrize("fingerprint", [False, True])
async def test_a_vtn_of_another_ca_is_told_nothing(
    settings, bridge, certs, tls, tmp_path, fingerprint
):
    write_development_set(tmp_path / "other")
    vtn = RawVtn()
    context = server_context([tmp_path / "other" / "vtn.crt"], [tmp_path / "other" / "vtn.key"])
    await vtn.start(context)
    source = {"name": "utility", "vtn_url": vtn.url, **tls()}
    if fingerprint:
        source["vtn_fingerprint"] = read_certificate(tmp_path / "other" / "vtn.crt").sha256
    job = await follow(settings([source]), bridge, vtn)
    await vtn.stop()
    assert "certificate is not good" in job.problem
    assert vtn.asked == []


async def test_an_expired_vtn_certificate_is_named(
    settings, bridge, certs, tls, tmp_path, monkeypatch
):
    monkeypatch.setattr("bridge.certificates.DEV_DAYS", -1 / 1440)
    write_development_set(tmp_path / "old")
    vtn = RawVtn()
    await vtn.start(server_context([tmp_path / "old" / "vtn.crt"], [tmp_path / "old" / "vtn.key"]))
    source = {"name": "utility", "vtn_url": vtn.url, **tls(), "ca": tmp_path / "old" / "ca.crt"}
    job = await follow(settings([source]), bridge, vtn)
    await vtn.stop()
    assert "expired" in job.problem


async def test_an_expired_certificate_of_ours_is_named_and_may_be_renewed(
    settings, bridge, certs, tmp_path, monkeypatch
):
    old = tmp_path / "old"
    with monkeypatch.context() as patch:
        patch.setattr("bridge.certificates.DEV_DAYS", -1 / 1440)
        write_development_set(old)
    source = {
        "name": "utility", "vtn_url": "https://localhost:9/x",
        "cert": old / "ven.crt", "key": old / "ven.key", "ca": old / "ca.crt",
    }  # fmt: skip
    async with bridge(settings([source])) as running:
        job = running.health.job("source:utility")
        await eventually(lambda: job.problem)
        assert "renew it" in job.problem
        for name in ("ven.crt", "ven.key", "ca.crt"):
            (old / name).write_bytes((certs / "ec" / name).read_bytes())
        await eventually(lambda: "renew it" not in (job.problem or ""))


async def test_a_vtn_that_knows_only_a_legacy_cipher(settings, bridge, certs, tls):
    vtn, context = RawVtn(), mutual(certs / "rsa")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA256")
    await vtn.start(context)
    source = {"name": "utility", "vtn_url": vtn.url, **tls("rsa")}
    job = await follow(settings([source]), bridge, vtn)
    assert "legacy_ciphers" in job.problem
    job = await follow(settings([{**source, "legacy_ciphers": True}]), bridge, vtn)
    await vtn.stop()
    assert job.problem is None


async def test_an_unsigned_answer_is_refused_where_signatures_are_asked_for(
    settings, bridge, certs, tls
):
    vtn = RawVtn()
    await vtn.start(mutual(certs / "ec"))
    job = await follow(
        settings([{"name": "utility", "vtn_url": vtn.url, **tls(), "sign": True}]), bridge, vtn
    )
    await vtn.stop()
    assert "not signed" in job.problem
    assert "SignatureValue" in vtn.asked[0][1]


async def test_a_list_with_an_error_code_cancels_nothing(scene):
    scene.vtn.list(event("A", NOON + HOUR, levels([1])))
    await settled(scene)
    scene.vtn.fail = lambda: distribute().replace(">200<", ">463<")
    await failed(scene)
    assert "463" in scene.job.problem
    scene.vtn.fail = None
    await recovered(scene)
    assert "event.cancelled" not in scene.device.types()


async def test_an_event_that_makes_no_sense_spoils_no_other_and_is_shown(scene):
    good, bad = event("GOOD", NOON + HOUR, levels([1])), event("BAD", NOON + 2 * HOUR, levels([1]))
    scene.vtn.list(good, bad.replace("PT24H", "P99999999999D"))
    await settled(scene)
    await scene.poll()
    assert scene.device.events("event.received") == ["GOOD"]
    assert "BAD" in scene.job.warning
    async with ClientSession() as http:
        ready = await (await http.get(scene.bridge.addresses["admin"] + "/readyz")).json()
    assert not ready["checks"]["source:utility"]["ok"]
    scene.vtn.list(good)
    await scene.poll()
    assert scene.job.warning is None


async def test_an_open_end_as_openleadr_writes_it(scene):
    scene.vtn.list(event("OPEN", NOON - HOUR, levels([2], "P"), duration="P"))
    await settled(scene)
    await scene.poll()
    assert scene.device.state["level"] == 2


async def test_a_vtn_that_fails_again_and_again_is_asked_less_and_less(scene):
    await settled(scene)
    scene.vtn.fail = lambda: distribute(request_id="").replace("200", "500")
    waits = []
    for _ in range(6):
        failures = scene.job.failures
        await passing(scene, lambda n=failures: scene.job.failures > n)
        waits.append(scene.job.next_attempt - scene.clock.now())
    assert waits[-1] > timedelta(seconds=15)


async def test_messages_that_never_end_wait_for_the_next_poll_and_none_is_dropped(scene):
    await settled(scene)
    scene.vtn.say = [distribute(event(f"E{n}", NOON + HOUR, levels([1]))) for n in range(45)]
    for n in range(45):
        scene.vtn.events.append(event(f"E{n}", NOON + HOUR, levels([1])))
    await scene.poll(4)
    assert sorted(scene.device.events("event.received")) == sorted(f"E{n}" for n in range(45))
