"""Reports to a VTN that goes away, fails, refuses and forgets."""

import pytest
from aiohttp import web

from bridge.certificates import read_key
from bridge.wire.signatures import Signer
from tests.peers import NS, response
from tests.reporting.scene import HOUR, MINUTE, NOON, QUARTER, USAGE, all_of, edges
from tests.reporting.upstream import (
    wanted,
)


async def test_after_an_outage_all_is_told_and_nothing_twice(scene):
    scene.vtn.wants = [wanted("one", "R", granularity="PT1M", back="PT5M")]
    async with scene.bridge({**USAGE, "every": "1m"}):
        await scene.measure(NOON, range(3000), step=MINUTE)
        await scene.passing(QUARTER)
        before = len(scene.vtn.updates)
        await scene.vtn.stop()
        scene.vtn.wants = []  # it remembers what it asked for
        await scene.passing(18 * HOUR)
        assert len(scene.vtn.updates) == before
        await scene.back()
        await scene.until(lambda: len(scene.vtn.told) >= 1095)
        assert scene.vtn.values() == {
            start: [n] for n, start in enumerate(edges(NOON, len(scene.vtn.told), MINUTE))
        }
        sizes = [xml.count("<ei:interval>") for _, xml in scene.vtn.updates]
        assert max(sizes) == 500
        starts = [told.start for told in scene.vtn.told]
        assert starts == sorted(starts)


async def test_polls_and_events_go_on_while_a_backlog_is_told(scene):
    scene.vtn.wants = [wanted("past", "R", specifier="history-usage", granularity="PT1M",
                              start=NOON - 100 * HOUR, length="P30D")]  # fmt: skip
    async with scene.bridge({**USAGE, "every": "1m"}):
        await scene.until(lambda: len(scene.vtn.told) >= 6000)
    kinds = [kind for kind, _ in scene.vtn.asked]
    assert kinds.count("oadrUpdateReport") == 12
    assert len(scene.vtn.told) == 6000


async def test_an_update_whose_answer_is_lost_is_sent_again_as_it_was(scene):
    scene.vtn.wants = [wanted("one", "R")]
    lost = ["lost", "lost"]
    scene.vtn.take = lambda _: lost.pop() if lost else None
    async with scene.bridge(USAGE):
        scene.vtn.wants = []
        await scene.measure(NOON, range(1, 9))
        await scene.passing(HOUR)
    first, second, third, *_ = scene.vtn.updates
    assert first == second == third
    assert scene.vtn.values() == {start: [n] for n, start in enumerate(edges(NOON, 4), 1)}


@pytest.mark.parametrize("how", ["empty", "never came"])
async def test_one_report_that_always_fails_keeps_no_other_from_its_turn(scene, how):
    scene.vtn.wants = [wanted("bad", "R", granularity="PT30M", back="PT30M"), wanted("good", "R")]
    scene.vtn.take = lambda xml: (
        None if ">bad<" not in xml else web.Response(text="") if how == "empty" else how
    )
    async with scene.bridge(USAGE):
        await scene.measure(NOON, [1] * 60)
        await scene.passing(12 * HOUR, QUARTER)
    assert len(scene.vtn.values(request="good")) >= 44
    bad = {xml for _, xml in scene.vtn.updates if ">bad<" in xml}
    assert bad, "it is tried all the same"


async def test_an_update_survives_a_restart_as_it_was(scene):
    scene.vtn.wants = [wanted("one", "R")]
    scene.vtn.take = lambda _: "lost"
    async with scene.bridge(USAGE):
        await scene.measure(NOON, range(1, 9))
        await scene.passing(QUARTER)
    scene.vtn.take = lambda _: None
    assert len(scene.vtn.messages("oadrRegisterReport")) <= 2
    asked = len(scene.vtn.asked)
    scene.vtn.wants = []
    async with scene.bridge(USAGE):
        await scene.passing(HOUR)
    assert len({update for update, _ in scene.vtn.updates}) == 5
    assert len(set(scene.vtn.updates)) == 5
    assert scene.vtn.updates[-5][0] == scene.vtn.updates[0][0]
    assert "oadrCreatePartyRegistration" not in [k for k, _ in scene.vtn.asked[asked:]]
    assert scene.vtn.values() == {start: [n] for n, start in enumerate(edges(NOON, 5), 1)}


async def test_what_is_refused_is_tried_thrice_then_others_go_on(scene):
    scene.vtn.wants = [wanted("bad", "R", granularity="PT30M"), wanted("good", "R")]
    scene.vtn.take = lambda xml: response(454) if ">bad<" in xml and refusing else None
    refusing = True
    async with scene.bridge(USAGE):
        await scene.measure(NOON, [1] * 20)
        await scene.passing(QUARTER * 2)
        assert "bad is not taken (the VTN answered oadrResponse 454" in scene.job.warning
        await scene.passing(QUARTER)
        assert "given up" in scene.job.warning
        assert scene.job.problem is None
        tried = [update for update, xml in scene.vtn.updates if ">bad<" in xml]
        assert (len(tried), len(set(tried))) == (3, 1)
        refusing = False
        await scene.passing(QUARTER)
        assert scene.job.warning is None
        assert scene.vtn.values(request="bad") == {NOON + HOUR / 2: [2]}
        assert scene.vtn.values(request="good") == all_of(edges(NOON, 4), 1)


async def test_what_a_vtn_fails_at_is_tried_for_a_day(scene, logged):
    scene.vtn.wants = [wanted("one", "R", back="PT1H")]
    scene.vtn.take = lambda _: web.Response(status=503) if failing else None
    failing, scene.vtn.poll = True, "PT15M"
    async with scene.bridge(USAGE):
        await scene.measure(NOON, range(1, 200))
        await scene.passing(20 * HOUR, QUARTER)
        assert "HTTP 503" in scene.job.warning
        assert scene.job.problem is None  # events are followed as ever
        assert len({update for update, _ in scene.vtn.updates}) == 1
        failing = False
        await scene.passing(HOUR, QUARTER)
        assert scene.vtn.values() == {start: [n] for n, start in enumerate(edges(NOON, 84), 1)}
        failing = True
        await scene.passing(26 * HOUR, QUARTER)
        assert [e["report"] for e in logged if "given up" in e["event"]] == ["one"]
        assert len({update for update, _ in scene.vtn.updates}) >= 3


async def test_a_vtn_that_chokes_on_gaps_is_told_what_is_known(scene):
    scene.vtn.wants = [wanted("one", "R")]
    scene.vtn.take = lambda xml: web.Response(status=500) if "NaN" in xml and choking else None
    choking = True
    async with scene.bridge(USAGE):
        await scene.measure(NOON, [1, None, None, 4, 5, 6, None])
        await scene.passing(4 * HOUR)
        assert scene.vtn.values() == {NOON + n * QUARTER: [n + 1] for n in (0, 3, 4, 5)}
        await scene.measure(NOON + QUARTER, [2, 3])
        await scene.passing(HOUR)
        assert scene.vtn.values() == {NOON + n * QUARTER: [n + 1] for n in range(6)}
        choking = False
        await scene.passing(2 * HOUR)
        assert scene.vtn.values()[NOON + 6 * QUARTER] == [None]
        assert scene.job.warning is None


async def test_a_vtn_that_was_away_is_told_anew_and_may_have_forgotten(scene):
    scene.vtn.wants = [wanted("old", "R")]
    async with scene.bridge(USAGE):
        await scene.measure(NOON, range(1, 60))
        await scene.passing(HOUR)
        await scene.vtn.stop()
        scene.vtn.wants = [wanted("new", "R", start=NOON + 3 * HOUR)]
        await scene.passing(3 * HOUR)
        await scene.back()
        await scene.passing(2 * HOUR)
    assert scene.vtn.values() == {s: [n] for n, s in enumerate(edges(NOON, 24), 1)}
    assert set(scene.vtn.values(request="old")) == set(edges(NOON, 4))


async def test_a_vtn_without_reports_is_followed_all_the_same(scene):
    scene.vtn.fail = lambda: (
        web.Response(status=404)
        if scene.vtn.asked[-1][0] == "oadrRegisterReport"
        else scene.vtn._answer(*scene.vtn.asked[-1])
    )
    async with scene.bridge(USAGE):
        await scene.passing(HOUR)
        assert scene.job.problem is None
        assert "HTTP 404" in scene.job.warning
        tries = len(scene.vtn.messages("oadrRegisterReport"))
        assert 3 < tries < 30
        scene.vtn.fail = None
        await scene.passing(10 * MINUTE)
        assert scene.job.warning is None


async def test_signed_updates_say_the_same_with_a_signature_of_the_moment(scene):
    scene.more["sign"] = True
    scene.vtn.wants = [wanted("one", "R")]
    signer = Signer((scene.certs / "vtn.crt").read_bytes(), read_key(scene.certs / "vtn.key", None))
    lost = ["lost"]
    scene.vtn.take = lambda _: lost.pop() if lost else None
    answer = scene.vtn._answer
    scene.vtn._answer = lambda kind, xml: signed(signer, answer(kind, xml))
    async with scene.bridge(USAGE):
        scene.vtn.wants = []
        await scene.measure(NOON, [1, 2])
        await scene.passing(2 * QUARTER)
        assert scene.job.problem is None
    (first, one), (second, two), *_ = scene.vtn.updates
    assert first == second
    assert one != two
    assert one.partition("<oadr:oadrSignedObject")[2] == two.partition("<oadr:oadrSignedObject")[2]
    assert scene.vtn.values() == {NOON: [1], NOON + QUARTER: [2]}


def signed(signer, said):
    """Return an answer of the utility, signed by it."""
    if not isinstance(said, str):
        return said
    inner = said[said.index("<oadr:oadrSignedObject>") : said.rindex("</oadr:oadrPayload>")]
    opened = inner.replace(
        "<oadr:oadrSignedObject>", f'<oadr:oadrSignedObject {NS} oadr:Id="oadrSignedObject">', 1
    )
    return signer.sign(opened).decode()
