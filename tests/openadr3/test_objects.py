"""Programs, events and their kin: kept verbatim, wherever they come from."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from bridge.notation import from_json, millis
from tests.openadr3.clients import prices, subscription
from tests.peers import (
    Device,
    RawVtn,
    SimClock,
    event,
    eventually,
    kept_prices,
    kept_readings,
    levels,
    quiet,
    signal,
    started,
)
from tests.utilities import GridX

NOON = datetime(2027, 3, 14, 19, tzinfo=UTC)
HOUR = timedelta(hours=1)
START = "2027-03-14T19:00:00Z"


async def test_what_a_client_writes_reaches_a_device_and_the_price_history(vtn, tmp_path):
    clock, device = SimClock(NOON), Device()
    async with (
        started(device),
        vtn(clock, devices=[{"name": "heater", "url": device.url, "lead": "1h"}]) as call,
    ):
        bl = call("bl")
        program = await bl.made("/programs", {"programName": "local"})
        made = await bl.made("/events", prices(program["id"], START, 0.25, -0.05))
        await eventually(lambda: device.state["price"] == Decimal("0.25"))
        assert "event.received" in device.types()
        await bl.put(f"/events/{made['id']}", prices(program["id"], START, 0.30, -0.05))
        await eventually(
            lambda: "event.updated" in device.types() and device.state["price"] == Decimal("0.30")
        )
        clock.pass_time(HOUR)
        await eventually(lambda: device.state["price"] == Decimal("-0.05"))
        kept = await kept_prices(call.bridge.store, "local", NOON)
        assert [row.value for row in kept] == [Decimal("0.3"), Decimal("-0.05")]
        await bl.delete(f"/events/{made['id']}")
        await eventually(
            lambda: "event.cancelled" in device.types() and device.state["price"] is None
        )
        await quiet(tmp_path / "bridge.db", clock)
        # what held was held; what was to come is withdrawn
        kept = await kept_prices(call.bridge.store, "local", NOON)
        assert [row.value for row in kept] == [Decimal("0.3")]


async def test_an_event_may_be_aimed_at_devices_too(vtn):
    clock, ours, theirs = SimClock(NOON), Device(), Device()
    devices = [
        {"name": "ours", "url": ours.url, "groups": ["heaters"]},
        {"name": "theirs", "url": theirs.url, "groups": ["lamps"]},
    ]
    async with started(ours, theirs):
        for about, device in zip(devices, (ours, theirs), strict=True):
            about["url"] = device.url
        async with vtn(clock, devices=devices) as call:
            program = await call("bl").made("/programs", {"programName": "local"})
            await call("bl").made("/events", prices(program["id"], START, 1, targets=["heaters"]))
            await eventually(lambda: ours.state["price"] == 1)
            assert theirs.state["price"] is None


async def passing(clock, condition, step=timedelta(seconds=10)):
    """Let time pass until a condition, which asks the VTN, holds."""
    for _ in range(300):
        if await condition():
            return
        clock.pass_time(step)
        await asyncio.sleep(0.005)
    raise AssertionError("it never came to hold")


async def test_what_the_utility_sends_is_there_and_can_only_be_read(vtn):
    utility, clock = RawVtn(), SimClock(NOON)
    cpp = {"context": "http://utility.example/CPP"}
    utility.list(
        event("E1", NOON, signal([0.1] * 24)),
        event("E2", NOON, levels([1]), targets="<ei:groupID>g1</ei:groupID>", **cpp),
        event("T1", NOON, levels([2]), test="true", **cpp),
    )
    async with (
        started(utility),
        vtn(clock, sources=[{"name": "utility", "vtn_url": utility.url}]) as call,
    ):
        bl, ven = call("bl"), call("ven1")

        async def names(client=bl):
            return {e["eventName"] for e in (await client.get("/events")).json}

        async def all_there():
            return await names() == {"E1", "E2"}  # a test is no event of OpenADR 3

        await passing(clock, all_there)
        programs = {p["programName"]: p for p in (await bl.get("/programs")).json}
        assert set(programs) == {"EV2A", "CPP"}
        (first,) = (await bl.get("/events", params={"programName": "EV2A"})).json
        assert (len(first["intervals"]), first["programID"]) == (24, programs["EV2A"]["id"])
        # aimed at a group: hidden until it is granted
        assert await names(ven) == {"E1"}
        await bl.made(
            "/vens",
            {"objectType": "BL_VEN_REQUEST", "clientID": "ven1", "venName": "v", "targets": ["g1"]},
        )
        assert await names(ven) == {"E1", "E2"}
        for path, body in (
            (f"/programs/{first['programID']}", {"programName": "mine"}),
            (f"/events/{first['id']}", {"programID": first["programID"]}),
        ):
            assert (await bl.put(path, body)).status == 403
            answer = await bl.delete(path)
            assert (answer.status, "can only be read" in answer.json["detail"]) == (403, True)
        assert (await bl.post("/events", prices(first["programID"], START, 1))).status == 403
        utility.list(event("E1", NOON, signal([0.1] * 24), modification=1, status="cancelled"))

        async def all_gone():
            return not await names()

        await passing(clock, all_gone)


async def test_price_days_are_events(vtn, tmp_path):
    utility, clock = GridX(), SimClock(datetime(2026, 3, 8, 12, tzinfo=UTC))
    days = [clock.now().date() + timedelta(days=n) for n in (-1, 0, 1)]
    for n, day in enumerate(days):
        utility.publish(day, f"0.{n + 1}00000")
    async with started(utility):
        source = {
            "kind": "gridx", "name": "pge", "base_url": utility.base, "utility": "PGE",
            "series": [{"rate": "EELEC", "circuit": "Eagle Rock"}], "backfill_from": "2026-03-07",
        }  # fmt: skip
        utility.days["EELEC", "Eagle Rock", None] = utility.days["EELEC", "013532223", None]
        async with vtn(clock, sources=[source]) as call:
            ven = call("ven1")

            async def ask(**query):
                return from_json((await ven.get("/events", params=query)).text)

            async def all_there():
                return len(await ask()) == 3

            await passing(clock, all_there, timedelta(minutes=5))
            found = await ask()
            assert [e["eventName"] for e in found] == [f"EELEC-Eagle Rock-{day}" for day in days]
            assert [len(e["intervals"]) for e in found] == [
                24,
                23,
                24,
            ]  # the clocks go forward on the 8th
            (program,) = (await ven.get("/programs")).json
            assert program["programName"] == "EELEC-Eagle Rock"
            assert program["payloadDescriptors"][0]["currency"] == "USD"
            assert all(e["programID"] == program["id"] and " " not in e["id"] for e in found)
            first = found[1]["intervals"][0]
            assert first["intervalPeriod"] == {"start": "2026-03-08T08:00:00Z", "duration": "PT1H"}
            assert str(first["payloads"][0]["values"][0]) == "0.200000"
            assert from_json((await ven.get(f"/events/{found[1]['id']}")).text) == found[1]
            # pages, windows, names
            assert [await ask(skip=n, limit=1) for n in range(4)] == [[e] for e in found] + [[]]
            # the site is at UTC, where the 7th of California reaches into the 8th
            assert (
                await ask(
                    programName="EELEC-Eagle Rock", dateStart="2026-03-08", dateEnd="2026-03-08"
                )
                == found[:2]
            )
            assert await ask(dateStart="2026-03-08T08:00:00Z", dateEnd="2026-03-09T07:00:00Z") == [
                found[1]
            ]
            assert await ask(programName="another") == []
            assert await ask(programID=program["id"], active="true") == found[1:]
            assert await ask(targets="g1") == []
            for bad in ("2026-13-40", f"{program['id']}-2026-02-30", f"{program['id']}-2020-01-01"):
                assert (await ven.get(f"/events/{bad}")).status == 404
            answer = await call("bl").delete(f"/events/{found[0]['id']}")
            assert answer.status == 403
            # a VEN reports on a price day
            report = {"eventID": found[1]["id"], "clientName": "v", "resources": []}
            made = await ven.made("/reports", report)
            assert [
                r["id"]
                for r in (await ven.get("/reports", params={"programID": program["id"]})).json
            ] == [made["id"]]


async def test_a_name_is_free_again_and_the_history_stays(vtn):
    clock = SimClock(NOON)
    async with vtn(clock) as call:
        bl = call("bl")
        program = await bl.made("/programs", {"programName": "P"})
        await bl.made("/events", prices(program["id"], "2027-03-14T10:00:00Z", 1, 2))
        gone = await bl.delete(f"/programs/{program['id']}")
        assert gone.json == program
        path = f"/programs/{program['id']}"
        answers = [
            await bl.get(path),
            await bl.put(path, {"programName": "P"}),
            await bl.delete(path),
        ]
        assert [a.status for a in answers] == [404] * 3
        assert (await bl.get("/events")).json == []
        another = await bl.made("/programs", {"programName": "P"})
        assert another["id"] != program["id"]
        former = f"P until 2027-03-14T19:00:00Z {program['id']}"
        assert [p["programName"] for p in await call.bridge.store.prices.programs(NOON)] == [
            "P",
            former,
        ]
        assert len(await kept_prices(call.bridge.store, former, NOON - 10 * HOUR)) == 2


async def test_deleting_a_program_takes_what_hangs_on_it(vtn):
    async with vtn() as call:
        bl, ven = call("bl"), call("ven1")
        program = await bl.made("/programs", {"programName": "P"})
        other = await bl.made("/programs", {"programName": "Q"})
        kept = await bl.made("/events", prices(other["id"], START, 1))
        made = await bl.made("/events", prices(program["id"], START, 1))
        await ven.made(
            "/subscriptions", subscription("http://127.0.0.1:9/", "EVENT", programID=program["id"])
        )
        await ven.made("/reports", {"eventID": made["id"], "clientName": "c", "resources": []})
        await bl.delete(f"/programs/{program['id']}")
        assert [e["id"] for e in (await bl.get("/events")).json] == [kept["id"]]
        assert (await bl.get("/reports")).json == []
        assert len((await bl.get("/subscriptions")).json) == 1  # it is told of it
        # a cancelled event keeps its reports: what was used was used
        report = await ven.made(
            "/reports", {"eventID": kept["id"], "clientName": "c", "resources": []}
        )
        await bl.delete(f"/events/{kept['id']}")
        assert [r["id"] for r in (await ven.get("/reports")).json] == [report["id"]]


async def test_reports_are_kept_verbatim_and_as_readings(vtn):
    async with vtn() as call:
        program = await call("bl").made("/programs", {"programName": "P"})
        made = await call("bl").made("/events", prices(program["id"], START, 1))
        usage = {
            "eventID": made["id"], "clientName": "c",
            "payloadDescriptors": [{"objectType": "REPORT_PAYLOAD_DESCRIPTOR", "payloadType": "USAGE", "units": "KWH"}],
            "resources": [{
                "resourceName": "meter", "intervalPeriod": {"start": START, "duration": "PT1H"},
                "intervals": [{"id": 0, "payloads": [{"type": "USAGE", "values": [0.5]}, {"type": "DATA_QUALITY", "values": ["OK"]}]}],
            }],
        }  # fmt: skip
        report = await call("ven1").made("/reports", usage)
        assert {k: report[k] for k in usage} == usage
        (reading,) = kept_readings(call.bridge.store.path)
        del reading["since"]
        assert reading == {
            "meter": "openadr3:ven1:meter", "direction": "net", "kind": "usage", "unit": "KWH",
            "quality": "OK", "client": "openadr3:ven1", "report": report["id"],
            "start": millis(NOON), "length": 3_600_000, "amount": Decimal("0.5"),
        }  # fmt: skip
        usage["resources"][0]["intervals"][0]["payloads"][0]["values"] = [0.75]
        await call("ven1").put(f"/reports/{report['id']}", usage)
        (reading,) = kept_readings(call.bridge.store.path)
        assert reading["amount"] == Decimal("0.75")


async def test_an_unchanged_list_is_not_sent_again_and_a_long_one_is_packed(vtn):
    async with vtn() as call:
        bl = call("bl")
        program = await bl.made("/programs", {"programName": "P"})
        await bl.made("/events", prices(program["id"], START, *[0.1] * 24))
        plain = await bl.get("/events", headers={"Accept-Encoding": "identity"})
        packed = await bl.get("/events", headers={"Accept-Encoding": "gzip"})
        assert (packed.headers["Content-Encoding"], packed.text) == ("gzip", plain.text)
        assert packed.headers["ETag"] != plain.headers["ETag"]
        for one in (plain, packed):
            again = await bl.get("/events", headers={"If-None-Match": one.headers["ETag"]})
            assert (again.status, again.text) == (304, "")
        await bl.put(f"/programs/{program['id']}", {"programName": "P2"})
        again = await bl.get("/events", headers={"If-None-Match": plain.headers["ETag"]})
        assert again.status == 304  # a change to something else
        await bl.made("/events", prices(program["id"], START, 1))
        again = await bl.get("/events", headers={"If-None-Match": plain.headers["ETag"]})
        assert (again.status, len(again.json)) == (200, 2)


async def test_what_is_active_changes_with_the_clock(vtn):
    clock = SimClock(NOON)
    async with vtn(clock) as call:
        bl = call("bl")
        program = await bl.made("/programs", {"programName": "P"})

        async def active():
            found = await bl.get("/events", params={"active": "true"})
            return [e.get("eventName") for e in found.json]

        for name, start, more in (
            ("past", "2027-03-14T10:00:00Z", {}),
            ("now", START, {}),
            ("coming", "2027-03-20T10:00:00Z", {}),
            ("endless", START, {"duration": "P9999Y"}),
        ):
            await bl.made("/events", prices(program["id"], start, 1, eventName=name, **more))
        assert await active() == ["now", "coming", "endless"]
        clock.pass_time(HOUR)
        assert await active() == ["coming", "endless"]
        clock.pass_time(timedelta(days=500))
        assert await active() == ["endless"]
