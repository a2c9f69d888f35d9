"""What a VTN that is written from the specification asks of reports, again and otherwise."""

from tests.peers import payload
from tests.reporting.scene import HOUR, NOON, POLL, QUARTER, USAGE, all_of, edges
from tests.reporting.upstream import (
    REREGISTER,
    cancel,
    cancel_report,
    code,
    create,
    pending,
    wanted,
)


async def test_telemetry_asked_for_by_poll_is_asked_for_once(scene):
    async with scene.bridge(USAGE):
        scene.vtn.say = [create(wanted("one", "R"), request_id="same")] * 3
        await scene.passing(3 * POLL)
        created = scene.vtn.messages("oadrCreatedReport")
        assert [(code(xml), pending(xml)) for xml in created] == [("200", ["one"])] * 3
        assert all("<pyld:requestID>same</pyld:requestID>" in xml for xml in created)
        await scene.measure(NOON, [1, 2])
        await scene.passing(HOUR / 2)
        assert scene.vtn.values() == {NOON: [1], NOON + QUARTER: [2]}


async def test_what_cannot_be_reported_is_refused_and_the_rest_is_told(scene):
    async with scene.bridge(USAGE):
        bad = {
            "specifier": (wanted("specifier", "R", specifier="nothing"), "452"),
            "point": (wanted("point", "R", "Q"), "452"),
            "status": (wanted("status", "R", specifier="telemetry-status"), "452"),
            "interval": (wanted("interval", "R", specifier="history-usage"), "454"),
            "negative": (wanted("negative", "R", granularity="-PT1M"), "454"),
            "endless": (wanted("endless", "R", back="P99999999999D"), "454"),
            "fine": (wanted("fine", "R", granularity="PT1S", start=NOON - 9 * 24 * HOUR), "461"),
        }
        for name, (request, expected) in bad.items():
            scene.vtn.say = [create(request, request_id=name)]
            await scene.passing(POLL)
            said = scene.vtn.messages("oadrCreatedReport")[-1]
            assert (name, code(said), pending(said)) == (name, expected, [])
        requests = [request for request, _ in bad.values()]
        scene.vtn.say = [create(*requests[:3], wanted("good", "R"), *requests[3:])]
        await scene.passing(POLL)
        said = scene.vtn.messages("oadrCreatedReport")[-1]
        assert (code(said), pending(said)) == ("452", ["good"])
        await scene.measure(NOON + HOUR / 2, [1])
        await scene.passing(QUARTER)
        assert scene.vtn.values() == {NOON + HOUR / 2: [1]}


async def test_no_more_than_some_reports_are_told_at_a_time(scene):
    async with scene.bridge(USAGE):
        scene.vtn.say = [create(*(wanted(f"r{n}", "R") for n in range(60)))]
        await scene.passing(POLL)
        (said,) = scene.vtn.messages("oadrCreatedReport")
        assert (code(said), len(pending(said))) == ("451", 50)


async def test_a_cancelled_report_ends_and_may_be_asked_for_again(scene):
    scene.vtn.wants = [wanted("one", "R")]
    async with scene.bridge(USAGE):
        await scene.measure(NOON, range(1, 30))
        await scene.passing(QUARTER)
        scene.vtn.say = [cancel("one", "never")]
        await scene.passing(POLL)
        (said,) = scene.vtn.messages("oadrCanceledReport")
        assert (code(said), pending(said)) == ("452", [])  # of the one that was never told
        await scene.passing(HOUR)
        assert scene.vtn.values() == {NOON: [1]}
        again = scene.clock.now()
        scene.vtn.say = [create(wanted("one", "R"), request_id="again")]
        await scene.passing(HOUR)
        found = scene.vtn.values()
        assert min(found.keys() - {NOON}) == again.replace(minute=15)
        assert all(len(values) == 1 for values in found.values())


async def test_a_last_report_follows_where_it_is_asked_for(scene):
    scene.vtn.wants = [wanted("one", "R", back="PT1H")]
    async with scene.bridge(USAGE):
        await scene.measure(NOON, range(1, 30))
        await scene.passing(2 * QUARTER)
        assert scene.vtn.told == []
        scene.vtn.say = [cancel("one", to_follow=True)]
        await scene.passing(POLL)
        (said,) = scene.vtn.messages("oadrCanceledReport")
        assert code(said) == "200"
        await scene.passing(2 * HOUR)
        assert scene.vtn.values() == {NOON: [1], NOON + QUARTER: [2]}


async def test_a_report_may_be_cancelled_in_the_answer_to_an_update(scene):
    scene.vtn.wants = [wanted("one", "R"), wanted("two", "R")]
    async with scene.bridge(USAGE):
        await scene.measure(NOON, range(1, 30))
        scene.vtn.with_update = cancel_report("one", "two", request_id="enough")
        await scene.passing(HOUR)
        assert len(scene.vtn.updates) == 1
        (said,) = scene.vtn.messages("oadrCanceledReport")
        assert (code(said), pending(said)) == ("200", [])
        assert "<pyld:requestID>enough</pyld:requestID>" in said


async def test_the_description_may_be_asked_for(scene):
    async with scene.bridge(USAGE):
        scene.vtn.say = [create(wanted("about", "METADATA", specifier="METADATA"))]
        await scene.passing(3 * POLL)
        _, again = scene.vtn.messages("oadrRegisterReport")
        assert "<ei:reportRequestID>about</ei:reportRequestID>" in again
        (said,) = scene.vtn.messages("oadrCreatedReport")
        assert code(said) == "200"
        await scene.passing(HOUR)
        assert len(scene.vtn.messages("oadrRegisterReport")) == 2


async def test_changed_settings_are_registered_anew(scene):
    scene.vtn.wants = [wanted("both", "R", "S"), wanted("gone", "S")]
    async with scene.bridge(USAGE, {"resource": "S"}):
        pass
    scene.vtn.wants = []
    async with scene.bridge(USAGE):
        await scene.measure(NOON, [1] * 8)
        await scene.passing(2 * QUARTER)
        assert len(scene.vtn.messages("oadrRegisterReport")) == 2
        assert "<ei:rID>S<" not in scene.vtn.messages("oadrRegisterReport")[-1]
        assert {told.request for told in scene.vtn.told} == {"both"}
        assert scene.vtn.values() == all_of(edges(NOON, 2), 1)
    async with scene.bridge():
        await scene.passing(QUARTER)
        last = scene.vtn.messages("oadrRegisterReport")[-1]
        assert "<oadr:oadrReport>" not in last
        scene.vtn.say = [create(wanted("more", "R"))]
        await scene.passing(POLL)
        assert "452" in scene.vtn.messages("oadrResponse")[-1]
    told = len(scene.vtn.told)
    async with scene.bridge():
        await scene.passing(HOUR)
    assert len(scene.vtn.messages("oadrRegisterReport")) == 3
    assert len(scene.vtn.told) == told


async def test_without_reports_all_is_as_it_was(scene):
    async with scene.bridge():
        (said,) = scene.vtn.messages("oadrRegisterReport")
        assert "oadrReport>" not in said
        scene.vtn.say = [create(wanted("one", "R")), cancel("one")]
        await scene.passing(3 * POLL)
        assert [("452" in xml) for xml in scene.vtn.messages("oadrResponse")] == [True, True]


async def test_the_same_asked_for_anew_goes_on_where_it_was(scene):
    scene.vtn.wants = [
        wanted("old", "R"),
        wanted("old-hours", "R", granularity="PT1H", back="PT1H"),
    ]
    async with scene.bridge(USAGE):
        await scene.measure(NOON, [1, None, *range(3, 40)])
        await scene.passing(HOUR + POLL)
        scene.vtn.wants = [wanted("new", "R", back="PT30M")]
        scene.vtn.say = [REREGISTER]
        await scene.passing(2 * HOUR)
        await scene.measure(NOON + QUARTER, [2])
        await scene.passing(HOUR)
    both = scene.vtn.values(request="old").keys() & scene.vtn.values(request="new").keys()
    assert both == {NOON + QUARTER}  # as a gap, then late
    found = {s: v for s, v in scene.vtn.values().items() if s.minute or len(v) == 1}
    fine = {}
    for name in ("old", "new"):
        for start, values in scene.vtn.values(request=name).items():
            fine.setdefault(start, []).extend(values)
    assert fine == {s: [None, 2] if n == 2 else [n] for n, s in enumerate(edges(NOON, 16), 1)}
    assert scene.vtn.values(request="old-hours").keys() >= {NOON + n * HOUR for n in range(3)}
    assert found


async def test_a_report_asked_for_differently_under_its_name(scene):
    scene.vtn.wants = [wanted("one", "R")]
    async with scene.bridge(USAGE):
        await scene.measure(NOON, [1] * 60)
        await scene.passing(HOUR + QUARTER)
        scene.vtn.say = [
            create(wanted("one", "R", granularity="PT1H", back="PT1H"), request_id="2")
        ]
        await scene.passing(3 * HOUR)
        hours = {t.start: t.value for t in scene.vtn.told if t.length == HOUR}
        assert hours == {NOON + n * HOUR: 4 for n in (1, 2, 3)}
        assert {t.start for t in scene.vtn.told if t.length == QUARTER} == set(edges(NOON, 5))


async def test_a_cancelled_registration_ends_all_reports(scene):
    scene.vtn.wants = [wanted("one", "R")]
    async with scene.bridge(USAGE):
        await scene.measure(NOON, [1] * 60)
        await scene.passing(QUARTER)
        scene.vtn.wants = []
        scene.vtn.say = [
            payload(
                '<oadr:oadrCancelPartyRegistration ei:schemaVersion="2.0b"><pyld:requestID>c</pyld:requestID>'
                "<ei:registrationID>R1</ei:registrationID><ei:venID>V1</ei:venID></oadr:oadrCancelPartyRegistration>"
            )
        ]
        await scene.passing(2 * HOUR)
        assert len(scene.vtn.told) == 1
        assert len(scene.vtn.messages("oadrRegisterReport")) == 2


async def test_stock_vtns_take_007_for_7(scene):
    async with scene.bridge({"resource": "007", "meter": "M"}, {"resource": "00", "meter": "N"}):
        await scene.measure(NOON, [1] * 4)
        scene.vtn.say = [create(wanted("one", "7"))]
        await scene.passing(2 * QUARTER)
        assert scene.vtn.values("7") == all_of(edges(NOON, 2), 1)


async def test_a_restart_registers_nothing_anew(scene):
    scene.vtn.wants = [wanted("one", "R")]
    for _ in range(3):
        async with scene.bridge(USAGE):
            await scene.passing(POLL)
    assert len(scene.vtn.messages("oadrRegisterReport")) == 1
    assert len(scene.vtn.messages("oadrCreatedReport")) == 1
