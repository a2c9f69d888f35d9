"""Reports through restarts, changed settings, and VENs that do not do as they should."""

from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from bridge.app import running
from bridge.config import Settings
from tests.openadr2 import raw_messages as messages
from tests.openadr2.raw_site import Site
from tests.openadr2.raw_ven import PREFIX
from tests.openadr2.test_raw_ven import asked_for, hour, readings
from tests.openadr3.clients import until

USAGE = {"report": "TELEMETRY_USAGE", "every": "10m", "sampling": "5m"}
STATUS = {"report": "TELEMETRY_STATUS", "every": "1h", "sampling": "15m"}
HISTORY = {"report": "HISTORY_USAGE", "history": "2d", "sampling": "15m"}
OFFERS = (messages.usage_offer(), messages.status_offer(), messages.history_offer())


@asynccontextmanager
async def bridge(site, *reports):
    """Run a bridge that wishes for these reports; VENs go on where they were."""
    settings = Settings.model_validate(site.settings(reports=list(reports)))
    async with running(settings) as found:
        site.url, site.admin = found.addresses["openadr2"], found.addresses["admin"]
        for ven in site.vens:
            ven.url = site.url + PREFIX
        yield


@pytest.fixture
async def site(tmp_path):
    made = Site(tmp_path)
    yield made
    await made.close()


async def message(ven, kind):
    async def asked():
        answer = await ven.poll()
        return answer if answer.kind == kind else None

    return await until(asked)


async def test_what_was_asked_for_goes_on_after_a_restart(site):
    async with bridge(site, USAGE):
        ven = await site.registered("heater")
        (wanted,) = await asked_for(ven, *OFFERS)
        assert (wanted.specifier, wanted.every, wanted.sampling) == (
            "usage",
            timedelta(minutes=10),
            timedelta(minutes=5),
        )
    async with bridge(site, USAGE):
        assert (await ven.poll()).kind == "oadrResponse"
        rows = [(hour(-1), "PT5M", {"energy": 1.5})]
        answer = await ven.update_report(
            messages.report(wanted.id, "usage", "TELEMETRY_USAGE", rows)
        )
        assert answer.good
        assert answer.element.find(".//{*}oadrCancelReport") is None
        assert len(readings(site, "heater")) == 1
        (item,) = (await site.asked("/api/v1/vens"))["items"]
        assert [(r["report"], r["every"], r["last"] is not None) for r in item["reports"]] == [
            ("TELEMETRY_USAGE", "PT10M", True)
        ]


async def test_changed_wishes_are_told_by_poll(site):
    async with bridge(site, USAGE):
        ven = await site.registered("heater")
        (usage,) = await asked_for(ven, *OFFERS)
    async with bridge(site, STATUS):
        created = await message(ven, "oadrCreateReport")
        (status,) = created.report_requests()
        assert (status.specifier, status.every) == ("status", timedelta(hours=1))
        assert (await ven.created_report(status.id, request_id=created.text("p:requestID"))).good
        cancelled = await message(ven, "oadrCancelReport")
        assert cancelled.text("e:reportRequestID") == usage.id
        assert (await ven.canceled_report(request_id=cancelled.text("p:requestID"))).good
        assert (await ven.poll()).kind == "oadrResponse"
        # What is reported all the same is kept, and cancelled again.
        rows = [(hour(-1), "PT5M", {"energy": 1.5})]
        answer = await ven.update_report(
            messages.report(usage.id, "usage", "TELEMETRY_USAGE", rows)
        )
        assert answer.good
        assert answer.element.findtext(".//{*}oadrCancelReport/{*}reportRequestID") == usage.id
        assert len(readings(site, "heater")) == 1


async def test_one_that_never_answers_a_cancelled_report_is_left_alone(site):
    async with bridge(site, USAGE):
        ven = await site.registered("heater")
        await asked_for(ven, *OFFERS)
    async with bridge(site):
        await message(ven, "oadrCancelReport")
        kinds = [(await ven.poll()).kind for _ in range(8)]
        assert kinds.count("oadrCancelReport") == 2
        assert kinds[-2:] == ["oadrResponse"] * 2


async def test_history_is_asked_for_once(site):
    async with bridge(site, HISTORY):
        ven = await site.registered("heater")
        answer = await ven.register_report(*OFFERS)
        (wanted,) = answer.report_requests()
        request = answer.element.find("{*}oadrReportRequest/{*}reportSpecifier")
        assert request.findtext("{*}reportInterval/{*}properties/{*}duration/{*}duration") == "P2D"
        past = [(hour(-n), "PT15M", {"past": n}) for n in (3, 2)]
        assert (
            await ven.update_report(messages.report(wanted.id, "history", "HISTORY_USAGE", past))
        ).good
        assert len(readings(site, "heater")) == 2
        assert (await ven.register_report(*OFFERS)).report_requests() == []
    async with bridge(site, HISTORY):
        assert (await ven.poll()).kind == "oadrResponse"


async def test_wishes_are_for_some_vens_and_some_resources(site):
    wishes = [{**USAGE, "ven": "heat*", "resource": "energy"}]
    async with bridge(site, *wishes):
        heater, pump = await site.registered("heater"), await site.registered("pump")
        (wanted,) = await asked_for(heater, *OFFERS)
        assert wanted.points == ["energy"]
        assert await asked_for(pump, *OFFERS) == []


async def test_what_is_no_number_is_not_kept_and_what_was_never_described_is(site):
    async with bridge(site, USAGE):
        ven = await site.registered("heater")
        (wanted,) = await asked_for(ven, *OFFERS)
        rows = [
            (hour(-1) + timedelta(minutes=5 * n), "PT5M", {"energy": v})
            for n, v in enumerate(["NaN", "INF", "1e3", "-2"])
        ]
        assert (
            await ven.update_report(messages.report(wanted.id, "usage", "TELEMETRY_USAGE", rows))
        ).good
        assert sorted(r["amount"] for r in readings(site, "heater")) in (
            [-2000, 1e6],
            [-0.002, 1],
            [-2, 1000],
        )
        said = messages.report(
            "never-asked", "unheard-of", "TELEMETRY_USAGE", [(hour(-2), "PT5M", {"thing": 7})]
        )
        answer = await ven.update_report(said)
        assert answer.good
        assert answer.element.findtext(".//{*}oadrCancelReport/{*}reportRequestID") == "never-asked"
        (kept,) = readings(site, "heater", "never-asked")
        assert (kept["meter"], kept["amount"], kept["unit"]) == ("openadr2:heater:thing", 7, "")
