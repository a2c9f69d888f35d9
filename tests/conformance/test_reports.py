"""Reports: VENs write them on events, BL reads them (Appendix A: RP)."""

import pytest

from tests.conformance.bodies import UNKNOWN, name, report


@pytest.fixture
def only_vens_write(vtn):
    if vtn.profile.bl_writes_reports:
        pytest.skip("BL holds write_reports")


async def test_a_ven_creates_a_report(make, ven1):
    """RP1: the body also carries the programID of 3.0, which 3.1 does not know."""
    event = await make.event()
    made = await make.report(ven1, event, programID=event["programID"])
    assert (made["eventID"], made["clientID"]) == (event["id"], ven1.client_id)


@pytest.mark.usefixtures("only_vens_write")
async def test_bl_creates_no_report(make, bl):
    """RP2."""
    event = await make.event()
    assert (await make.asked(bl, "reports", report(event["id"]))).status == 403


async def test_bl_that_may_write_reports_does(vtn, make, bl):
    """RP2, where BL holds write_reports."""
    if not vtn.profile.bl_writes_reports:
        pytest.skip("BL does not hold write_reports")
    assert await make.report(bl)


async def test_bl_lists_reports(bl, ven1, make):
    """RP3."""
    made = await make.report(ven1)
    assert made["id"] in await bl.ids("/reports")


async def test_a_ven_lists_its_reports(ven1, make):
    """RP4."""
    made = await make.report(ven1)
    assert made["id"] in await ven1.ids("/reports")


async def test_bl_reads_a_report(bl, ven1, make):
    """RP5."""
    made = await make.report(ven1)
    found = await bl.get(f"/reports/{made['id']}")
    assert (found.status, found.json["resources"]) == (200, made["resources"])


async def test_a_ven_reads_its_report(ven1, make):
    """RP6."""
    made = await make.report(ven1)
    found = await ven1.get(f"/reports/{made['id']}")
    assert (found.status, found.json["resources"]) == (200, made["resources"])


async def test_a_ven_updates_its_report(ven1, make):
    """RP7."""
    made = await make.report(ven1)
    body = report(made["eventID"], reportName="UpdatedReport")
    answer = await ven1.put(f"/reports/{made['id']}", body)
    assert (answer.status, answer.json["reportName"]) == (200, "UpdatedReport")
    assert (await ven1.get(f"/reports/{made['id']}")).json["reportName"] == "UpdatedReport"


@pytest.mark.usefixtures("only_vens_write")
async def test_bl_updates_no_report(bl, ven1, make):
    """RP8."""
    made = await make.report(ven1)
    body = report(made["eventID"], reportName="UpdatedReport")
    assert (await bl.put(f"/reports/{made['id']}", body)).status == 403


async def test_a_ven_deletes_its_report(ven1, make):
    """RP9."""
    made = await make.report(ven1)
    assert (await ven1.delete(f"/reports/{made['id']}")).status == 200
    assert (await ven1.get(f"/reports/{made['id']}")).status == 404


@pytest.mark.usefixtures("only_vens_write")
async def test_bl_deletes_no_report(bl, ven1, make):
    """RP10."""
    made = await make.report(ven1)
    assert (await bl.delete(f"/reports/{made['id']}")).status == 403
    assert (await ven1.get(f"/reports/{made['id']}")).status == 200


async def test_a_report_needs_an_event_that_exists(ven1, make):
    assert (await make.asked(ven1, "reports", report(UNKNOWN))).status in {400, 404, 409}


async def test_reports_are_listed_by_the_program_of_their_event(bl, ven1, make):
    """A report has no programID of its own since 3.1."""
    event, _other = await make.event(), await make.report(ven1)
    made = await make.report(ven1, event)
    assert await bl.ids("/reports", programID=event["programID"]) == {made["id"]}
    assert await ven1.ids("/reports", programID=event["programID"]) == {made["id"]}


async def test_reports_are_listed_by_event(bl, ven1, make):
    made, _other = await make.report(ven1), await make.report(ven1)
    assert await bl.ids("/reports", eventID=made["eventID"]) == {made["id"]}


async def test_reports_are_listed_by_client_name(bl, ven1, make):
    made, _other = await make.report(ven1), await make.report(ven1)
    assert await bl.ids("/reports", clientName=made["clientName"]) == {made["id"]}


async def test_filters_add_up(bl, ven1, make):
    """Definition, Response Filtering: results must match every filter term."""
    made, other = await make.report(ven1), await make.report(ven1)
    assert await bl.ids("/reports", eventID=made["eventID"], clientName=made["clientName"])
    assert not await bl.ids("/reports", eventID=made["eventID"], clientName=other["clientName"])


async def test_report_names_need_not_be_unique(ven1, make):
    event, wanted = await make.event(), name("report")
    made = [await make.report(ven1, event, reportName=wanted) for _ in range(2)]
    assert made[0]["id"] != made[1]["id"]
