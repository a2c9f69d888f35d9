"""A day's work of `openadr3` and `python-oa3-client`: a utility that prices, a home that reads.

Runs where only these are installed: `with_oa3_client.py BASE_URL PROGRAM...`; the programs are
those that the bridge has from its utilities. Prints what came of it as a line of JSON; an
assertion that does not hold ends it.
"""

import json
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pendulum
from openadr3_client import BlClient, VenClient

BASE, *UTILITIES = sys.argv[1:]
START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
PRICES = [0.1, 0.017, -0.0325, 0.123456789, 1e-06, 12]
NAMES = {"programName": "Oa3-TOU", "venName": "oa3-home", "resourceName": "oa3-meter"}
PRICED = {
    "objectType": "EVENT_PAYLOAD_DESCRIPTOR",
    "payloadType": "PRICE",
    "units": "KWH",
    "currency": "USD",
}
EVERYTHING = ["CREATE", "UPDATE", "DELETE"]


def did(response, status=200):
    """Return what was answered; it has to be answered so."""
    assert response.status_code == status, (response.request, response.status_code, response.text)
    return response.json()


def priced(program, prices, name="today"):
    return {
        "programID": program,
        "eventName": name,
        "intervalPeriod": {"start": START.isoformat(), "duration": "PT1H"},
        "intervals": [
            {"id": n, "payloads": [{"type": "PRICE", "values": [price]}]}
            for n, price in enumerate(prices)
        ],
    }


def read(event):
    """Return when each price begins, and the price, as the library has them."""
    return [
        [interval.interval_period.start.in_timezone("UTC").isoformat(), str(payload.values[0])]
        for interval in event.resolved_intervals()
        for payload in interval.payloads
        if payload.type == "PRICE"
    ]


def hears(channel, wanted, within=3.0):
    """Whether a notification comes."""
    end = time.monotonic() + within
    while wanted not in notifications(channel) and time.monotonic() < end:
        time.sleep(0.02)
    return wanted in notifications(channel)


def notifications(channel):
    """Return what was notified; what comes twice, by overlapping topics, is said once."""
    return sorted({f"{m.payload.operation} {m.payload.object_type}" for m in channel.messages})


def heard(channel, *wanted):
    """Wait for notifications and return all that there were."""
    for one in wanted:
        assert hears(channel, one, 10), (one, notifications(channel))
    return notifications(channel)


def work(bl, ven):
    done = {}

    # --- who there is -----------------------------------------------------------------------
    ven.register(NAMES["venName"])
    me = ven.ven_id
    ven.register(NAMES["venName"])  # finds itself
    assert ven.ven_id == me
    meter = {"objectType": "VEN_RESOURCE_REQUEST", "venID": me, "resourceName": "meter"}
    meter_id = did(ven.create_resource(meter), 201)["id"]
    meter |= {"resourceName": NAMES["resourceName"]}
    did(ven.update_resource(meter_id, meter))
    assert ven.resource(meter_id).resource_name == NAMES["resourceName"]
    assert [r.id for r in bl.resources(venID=me)] == [meter_id]
    aimed = {"objectType": "BL_VEN_REQUEST", "clientID": "ven_client", "venName": NAMES["venName"]}
    did(bl.update_ven(me, {**aimed, "targets": ["feeder-7"]}))
    assert ven.ven(me).targets == ["feeder-7"]

    # --- a program, and who wants to be told ------------------------------------------------
    program = {"programName": NAMES["programName"], "payloadDescriptors": [PRICED]}
    made = did(bl.create_program(program), 201)["id"]
    did(bl.create_program(program), 409)
    did(ven.create_program({"programName": "mine"}), 403)
    assert ven.resolve_program_id(NAMES["programName"]) == made

    said = ven.discover_notifiers()
    assert said["WEBHOOK"] is True
    hook = ven.add_webhook(host="127.0.0.1", bearer_token="oa3-hook")
    hook.start()
    channels = {"webhook": hook}
    if ven.vtn_supports_mqtt():
        channels["mqtt"] = ven.add_mqtt(ven.get_mqtt_broker_uris()[0])
        channels["mqtt"].start()
    for channel in channels.values():
        ven.subscribe([NAMES["programName"]], ["EVENT", "PROGRAM"], EVERYTHING, channel)
    if "mqtt" in channels:
        topics = [did(ven.get_mqtt_topics_ven_events())["topics"]["ALL"]]
        channels["mqtt"].subscribe_topics(topics)
        did(ven.get_mqtt_topics_reports(), 403)
        wait_until_subscribed(channels["mqtt"])
    # What subscribe() is answered it does not say: look whether it is there.
    [subscription] = ven.subscriptions(programID=made)
    assert subscription.object_operations[0].callback_url == hook.callback_url

    # --- prices -------------------------------------------------------------------------------
    event = did(bl.create_event(priced(made, PRICES)), 201)["id"]
    did(bl.create_event(priced("nowhere", PRICES)), 409)
    did(ven.create_event(priced(made, PRICES)), 403)
    for name, channel in channels.items():
        done[name] = heard(channel, "CREATE EVENT")
    [found] = ven.poll_events(NAMES["programName"])
    assert found.id == event
    starts = [(START + timedelta(hours=n)).isoformat() for n in range(len(PRICES))]
    done["prices"] = [price for _, price in read(found)]
    assert [start for start, _ in read(found)] == starts
    descriptor = ven.program(made).payload_descriptors[0]
    assert (descriptor.payload_type, descriptor.units, descriptor.currency) == (
        "PRICE",
        "KWH",
        "USD",
    )

    did(bl.update_event(event, priced(made, [0.25], "changed")))
    assert [price for _, price in read(ven.event(event))] == ["0.25"]
    window = {
        "date_start": pendulum.now("UTC").add(days=7),
        "date_end": pendulum.now("UTC").add(days=9),
    }
    assert ven.poll_events(NAMES["programName"], **window) == []

    # What the bridge has from its utilities is read in the same way.
    done["utilities"] = {
        name: [price for e in ven.poll_events(name) for price in read(e)] for name in UTILITIES
    }

    # --- usage --------------------------------------------------------------------------------
    usage = {"id": 0, "payloads": [{"type": "USAGE", "values": [1.234567]}]}
    resource = {
        "resourceName": NAMES["resourceName"],
        "intervalPeriod": {"start": START.isoformat(), "duration": "PT1H"},
        "intervals": [usage],
    }
    report = {"eventID": event, "clientName": NAMES["venName"], "resources": [resource]}
    report["payloadDescriptors"] = [
        {"objectType": "REPORT_PAYLOAD_DESCRIPTOR", "payloadType": "USAGE", "units": "KWH"}
    ]
    reported = did(ven.create_report(report), 201)["id"]
    did(bl.create_report(report), 403)
    [got] = bl.reports(eventID=event)
    assert (got.id, got.client_id) == (reported, "ven_client")
    done["usage"] = str(got.resources[0].intervals[0].payloads[0].values[0])
    did(ven.update_report(reported, {**report, "reportName": "corrected"}))
    assert bl.report(reported).report_name == "corrected"
    assert [r.id for r in bl.reports(programID=made)] == [reported]

    # --- page by page -------------------------------------------------------------------------
    more = {did(bl.create_event(priced(made, [n], f"more-{n}")), 201)["id"] for n in range(4)}
    pages = [ven.events(programID=made, skip=n, limit=2) for n in (0, 2, 4, 6)]
    done["pages"] = [len(page) for page in pages]
    assert {e.id for page in pages for e in page} == {event, *more}
    did(ven.get_events(limit=51), 400)

    # --- only for whom it is meant ------------------------------------------------------------
    aimed = {**priced(made, [0.5], "aimed"), "targets": ["feeder-7", "feeder-8"]}
    hidden = did(bl.create_event({**aimed, "targets": ["feeder-8"]}), 201)["id"]
    shown = did(bl.create_event(aimed), 201)["id"]
    assert ven.event(shown).targets == ["feeder-7"]  # and nothing of others' targets
    did(ven.get_event_by_id(hidden), 404)
    assert [e.id for e in ven.events(targets="feeder-7")] == [shown]
    if "mqtt" in channels:
        came = f"OpenADR/3.1.0/vens/{me}/events/create"
        assert [m.payload.object.id for m in channels["mqtt"].await_messages_on_topic(came, 1)] == [
            shown
        ]

    # --- and all away -------------------------------------------------------------------------
    did(bl.delete_event(event))
    for name, channel in channels.items():
        done[name] = heard(channel, "CREATE EVENT", "UPDATE EVENT", "DELETE EVENT")
    did(ven.get_event_by_id(event), 404)
    did(bl.update_program(made, {**program, "attributes": [{"type": "LOCAL", "values": [True]}]}))
    done["told_of_own_program"] = hears(hook, "UPDATE PROGRAM")
    did(ven.update_subscription(subscription.id, {
        "clientName": "renamed", "objectOperations": [{
            "objects": ["PROGRAM"], "operations": EVERYTHING,
            "callbackUrl": hook.callback_url, "bearerToken": "oa3-hook"}]}))  # fmt: skip
    assert [s.id for s in ven.subscriptions(clientName="renamed")] == [subscription.id]
    did(bl.update_program(made, program))
    done["webhook"] = heard(hook, *done["webhook"], "UPDATE PROGRAM")
    did(ven.delete_subscription(subscription.id))
    did(bl.delete_program(made))
    did(ven.delete_resource(meter_id))
    did(ven.delete_ven(me))
    left = [
        *bl.events(programID=made), *bl.reports(), *bl.subscriptions(), *bl.vens(), *bl.resources(),
        *(p for p in bl.programs() if p.id == made),
    ]  # fmt: skip
    assert not left, left
    return done


def wait_until_subscribed(channel):
    """The library does not say when the broker has taken a subscription: a moment is enough."""
    time.sleep(0.5)
    assert channel.is_connected


with ExitStack() as stack:
    bl = stack.enter_context(BlClient(url=BASE, client_id="bl_client", client_secret="1001"))
    ven = stack.enter_context(VenClient(url=BASE, client_id="ven_client", client_secret="999"))
    print(json.dumps(work(bl, ven)))
