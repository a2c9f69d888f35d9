"""Report messages: what is written is valid and reads back, what is read spoils nothing."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from bridge.errors import WireError
from bridge.notation import read_time, write_duration
from bridge.reporting import REPORTS, Asked, Cell, Offer, Plan, Resource, floored, plan
from bridge.wire import openadr2_reports, openadr2_telemetry, openleadr
from bridge.wire.openadr2_telemetry import Refused, enveloped
from tests.reporting.scene import HOUR, MINUTE, NOON, QUARTER
from tests.reporting.upstream import cancel, create, wanted

TEXT = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=20)
LENGTHS = st.integers(1, 86400 * 400).map(lambda s: timedelta(seconds=s))
TIMES = st.integers(315_532_800, 7_258_118_400).map(lambda s: datetime.fromtimestamp(s, UTC))
AMOUNTS = st.decimals(
    allow_nan=False, allow_infinity=False, places=6, min_value=-1e9, max_value=1e9
)
RESOURCES = st.builds(Resource, TEXT, TEXT, st.booleans(), LENGTHS)


def element(signed_object):
    """Return a message that was written, as a VTN reads it."""
    return openleadr.read_message(enveloped(signed_object)).element


@given(st.lists(RESOURCES, unique_by=lambda r: (r.status, r.name)), TEXT)
def test_what_is_offered_reads_back(resources, ven_id):
    offer = Offer(resources)
    said = element(openadr2_telemetry.write_offer(offer, ven_id, "r", NOON))
    found = {o.specifier: o for o in openadr2_reports.read_offered(said)}
    assert found.keys() == offer.reports.keys()
    for specifier, points in offer.reports.items():
        assert found[specifier].name == REPORTS[specifier]
        assert [p.r_id for p in found[specifier].points] == list(points)
        for point in found[specifier].points:
            resource = points[point.r_id]
            assert point.resource == resource.name
            assert point.shortest == point.longest == resource.every
            if not resource.status:
                assert (point.unit, point.exponent, point.report_type) == ("KWH", 0, "usage")


CELLS = st.lists(
    st.tuples(TEXT, TIMES, LENGTHS, st.one_of(AMOUNTS, st.none())), min_size=1, max_size=20
).map(lambda rows: [Cell(*row) for row in rows])


@given(CELLS, TEXT, TEXT)
def test_amounts_read_back_exactly_and_gaps_not_at_all(cells, name, ven_id):
    asked = Asked(name, "telemetry-usage", tuple({c.r_id for c in cells}), MINUTE, HOUR)
    said = element(openadr2_telemetry.write_update(asked, cells, ven_id, "u", NOON))
    points = {r: openadr2_reports.Point(r, r, "usage", "Direct Read", "KWH") for r in asked.r_ids}
    found = openadr2_reports.read_update(said, {"telemetry-usage": points}, {})
    assert [(r.meter, r.start, r.length, r.value, r.request_id) for r in found] == [
        (c.r_id, c.start, c.length, c.value, name) for c in cells if c.value is not None
    ]
    assert {r.unit for r in found} <= {"KWH"}
    quality = [e.text for e in said.iterfind(".//{*}oadrDataQuality")]
    assert [q == "No Quality - No Value" for q in quality] == [c.value is None for c in cells]


@given(st.lists(st.tuples(TIMES, st.booleans()), min_size=1, max_size=5))
def test_states_read_back(states):
    cells = [Cell("R", at, QUARTER, online) for at, online in states]
    asked = Asked("s", "telemetry-status", ("R",), QUARTER, HOUR)
    said = element(openadr2_telemetry.write_update(asked, cells, "V", "u", NOON))
    found = openadr2_reports.read_update(said, {}, {})
    assert [bool(r.value) for r in found if r.kind == "ONLINE"] == [online for _, online in states]
    assert not any(r.value for r in found if r.kind == "MANUAL_OVERRIDE")


@given(TEXT, st.lists(TEXT), st.lists(st.builds(Refused, TEXT, st.sampled_from([452, 461]), TEXT)))
def test_answers_are_valid(name, pending, refused):
    for write in (openadr2_telemetry.write_created, openadr2_telemetry.write_cancelled):
        said = element(write("V", name, pending, refused))
        code = said.findtext("{*}eiResponse/{*}responseCode")
        assert code == str(refused[0].code if refused else 200)
        assert said.findtext("{*}eiResponse/{*}requestID") == name
        found = [e.text for e in said.iterfind("{*}oadrPendingReports/{*}reportRequestID")]
        assert found == sorted(pending)


@given(TIMES, st.one_of(LENGTHS, st.just(timedelta(0))), LENGTHS, st.booleans())
def test_a_request_reads_as_it_was_written(start, back, length, bounded):
    request = wanted(
        "one", "R", "S", "R", granularity=write_duration(length), back=write_duration(back),
        start=start if bounded else None, length=write_duration(length),
    )  # fmt: skip
    (found,) = openadr2_telemetry.read_requests(
        openleadr.read_message(create(request).encode()).element
    )
    assert found == Asked(
        "one", "telemetry-usage", ("R", "S"), length, back,
        start if bounded else None, length if bounded else None,
    )  # fmt: skip
    assert Asked.read(found.document) == found


def test_a_cancellation_reads_as_it_was_written():
    for to_follow in (False, True):
        message = openleadr.read_message(cancel("a", "b", "a", to_follow=to_follow).encode())
        found = openadr2_telemetry.read_cancelled(message.element)
        assert (found.request_id, found.reports, found.to_follow) == ("x", ("a", "b"), to_follow)


ODD = ["", " ", "0", "-1", "NaN", "P", "PT", "P0D", "-PT1H", "P99999999999D", "PT99999999999999S",
       "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2027-03-01T12:00:00", "x" * 1000, "METADATA"]  # fmt: skip
GOOD = create(
    wanted("one", "R", start=NOON, length="PT1H"), wanted("two", "R", "S"),
    wanted("three", "R", specifier="history-usage", start=NOON),
)  # fmt: skip


@settings(max_examples=300)
@given(st.data())
def test_a_request_that_makes_no_sense_spoils_no_other_and_nothing_else(data):
    tree = etree.fromstring(GOOD.encode())
    requests = list(tree.iter("{*}oadrReportRequest"))
    for _ in range(data.draw(st.integers(1, 4))):
        if len(requests[1]) == 0:
            break
        victim = data.draw(st.sampled_from([e for e in requests[1].iter() if e is not requests[1]]))
        change = data.draw(st.integers(0, 2))
        if change == 0:
            victim.text = data.draw(st.one_of(st.sampled_from(ODD), TEXT))
        elif change == 1 and victim.getparent() is not None:
            victim.getparent().remove(victim)
        else:
            victim.append(etree.fromstring(etree.tostring(victim)))
    found = openadr2_telemetry.read_requests(tree[0][0])
    assert [f.request_id for f in found][0::2] == ["one", "three"]
    for asked in found:
        if isinstance(asked, Asked) and asked.specifier in REPORTS:
            assert Asked.read(asked.document) == asked
    try:
        message = openleadr.read_message(etree.tostring(tree))
    except WireError:
        return  # not valid: never acted on
    assert message.type == "oadrCreateReport"


# --- when a report is told of what ---------------------------------------------------------------


@given(
    st.sampled_from(sorted(REPORTS)), LENGTHS, st.one_of(LENGTHS, st.just(timedelta(0))),
    st.one_of(TIMES, st.none()), st.one_of(LENGTHS, st.none()), LENGTHS, TIMES,
)  # fmt: skip
def test_a_plan_tells_each_interval_once_it_is_over(
    specifier, granularity, back, start, length, every, now
):
    asked = Asked("one", specifier, ("R",), granularity, back, start, length)
    made = plan(asked, every, now)
    assert Plan.read(made.document) == made
    assert made.end is None or (made.end > made.origin and made.floor(made.end) == made.end)
    to = made.told_to(now)
    assert made.origin <= to
    assert to <= now or to == made.origin
    assert made.floor(to) == to
    due = made.next_due(now)
    assert due is None or due > now
    if due:
        assert made.told_to(due) >= to
        assert due == made.end or made.told_to(due - timedelta(seconds=1)) == to
    else:
        assert to == made.end


def test_reports_lie_on_the_clock():
    noon_and_some = read_time("2027-03-01T12:07:23Z")
    asked = Asked("one", "telemetry-usage", ("R",), QUARTER, HOUR)
    made = plan(asked, QUARTER, noon_and_some)
    assert (made.origin, made.next_due(noon_and_some)) == (NOON, NOON + HOUR)
    asked = Asked("one", "telemetry-usage", ("R",), HOUR, HOUR, NOON + QUARTER)
    assert plan(asked, QUARTER, noon_and_some).origin == NOON + QUARTER
    assert floored(noon_and_some, 24 * HOUR) == NOON - 12 * HOUR
