"""A day's work of ElaadNL's `openadr3-client`: a utility that prices, a home that reads.

Runs where only this is installed: `with_openadr3_client.py BASE_URL PROGRAM...`; the programs are
those that the bridge has from its utilities. Prints what came of it as a line of JSON; an
assertion that does not hold ends it.
"""

import json
import os
import sys
import threading
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"  # tokens over http, on this machine only

from openadr3_client._models.common.attribute import Attribute
from openadr3_client._models.common.interval import Interval
from openadr3_client._models.common.interval_period import IntervalPeriod
from openadr3_client.bl.http_factory import BusinessLogicHttpClientFactory
from openadr3_client.oadr310._vtn.interfaces.filters import PaginationFilter, TargetFilter
from openadr3_client.oadr310._vtn.mqtt.client import MQTTClient
from openadr3_client.oadr310.models.event.event import EventUpdate, NewEvent
from openadr3_client.oadr310.models.event.event_payload import (
    EventPayload,
    EventPayloadDescriptor,
    EventPayloadType,
)
from openadr3_client.oadr310.models.program.program import NewProgram, ProgramUpdate
from openadr3_client.oadr310.models.program.program_attribute import ProgramAttributeType
from openadr3_client.oadr310.models.report.report import NewReport, ReportResource, ReportUpdate
from openadr3_client.oadr310.models.report.report_payload import ReportPayload, ReportPayloadType
from openadr3_client.oadr310.models.resource.resource import (
    NewResourceVenRequest,
    ResourceUpdateVenRequest,
)
from openadr3_client.oadr310.models.subscriptions.subscription import (
    NewSubscription,
    Object,
    ObjectOperation,
    Operation,
    SubscriptionUpdate,
)
from openadr3_client.oadr310.models.unit import Unit
from openadr3_client.oadr310.models.ven.ven import NewVenVenRequest, VenUpdateBlRequest
from openadr3_client.ven.http_factory import VirtualEndNodeHttpClientFactory
from openadr3_client.version import OADRVersion
from pydantic import ValidationError
from requests import HTTPError

BASE, *UTILITIES = sys.argv[1:]
HOW = {"allow_insecure_http": True, "version": OADRVersion.OADR_310}
HOUR = timedelta(hours=1)
START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
PRICES = [0.1, 0.017, -0.0325, 0.123456789, 1e-06, 12]
ALL = PaginationFilter(skip=0, limit=50)
WITHIN = 10  # seconds for a notification


def refused(status, call, *values, **named):
    """What is asked has to be refused so; return why."""
    try:
        call(*values, **named)
    except HTTPError as error:
        said = error.response
    else:
        said = None
    assert said is not None, f"was not refused with {status}: {call}"
    assert said.status_code == status, said.text
    return said.json()["detail"]


def not_understood(error):
    """Return what it is of an answer that the library does not understand."""
    return [".".join(map(str, e["loc"])) + ": " + e["msg"] for e in error.errors()]


def intervals(prices):
    return tuple(
        Interval(id=n, payloads=(EventPayload(type=EventPayloadType.PRICE, values=(price,)),))
        for n, price in enumerate(prices)
    )


def priced(program, prices, name="today", kind=NewEvent, **others):
    return kind(
        program_id=program,
        event_name=name,
        interval_period=IntervalPeriod(start=START, duration=HOUR),
        intervals=intervals(prices),
        **others,
    )


def read(event):
    """Return when each price begins, and the price; the library leaves both to its users."""
    found, start = [], None
    for interval in event.intervals:
        period = interval.interval_period or (event.interval_period if start is None else None)
        start = period.start if period else start
        for payload in interval.payloads:
            if payload.type == EventPayloadType.PRICE:
                found.append([start.astimezone(UTC).isoformat(), str(payload.values[0])])
        start += (interval.interval_period or event.interval_period).duration
    return found


class Heard:
    """Notifications as they come, from whatever side."""

    def __init__(self):
        self.said, self._news = [], threading.Condition()

    def add(self, body):
        with self._news:
            said = json.loads(body)
            self.said.append(f"{said['operation']} {said['objectType']}")
            self._news.notify_all()

    def wait(self, *wanted):
        with self._news:
            assert self._news.wait_for(lambda: {*wanted} <= {*self.said}, WITHIN), self.said
            return sorted({*self.said})


@contextmanager
def webhook(heard, token):
    """Receive notifications, as a VEN has to by itself: the library has no receiver."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self._reply(200, "".join(parse_qs(urlsplit(self.path).query)["echo"]).encode())

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            known = self.headers["Authorization"] == f"Bearer {token}"
            if known:
                heard.add(body)
            self._reply(200 if known else 401)

        def _reply(self, status, body=b""):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/told"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def mqtt(heard, binding, *topics):
    """Receive notifications with the library's MQTT client, which is paho's and told how."""
    client, ready = MQTTClient(binding), threading.Event()
    client.on_message = lambda _client, _data, message: heard.add(message.payload)
    client.on_subscribe = lambda *_: ready.set()
    [uri] = binding.uris
    client.connect(uri.host, uri.port)
    client.loop_start()
    client.subscribe([(topic, 1) for topic in topics])
    try:
        assert ready.wait(WITHIN), "the broker takes no subscription"
        yield
    finally:
        client.disconnect()
        client.loop_stop()


def subscribe(ven, program, url, token, done):
    """Subscribe to what this library can say; return its subscription where it understood that.

    It knows the operations by their names of OpenADR 3.0.1, of which only DELETE is one of 3.1.0;
    and it wants the bearer token back, which a VTN may keep to itself.
    """

    def wanted(operation):
        entry = ObjectOperation(
            objects=(Object.EVENT,), operations=(operation,), callback_url=url, bearer_token=token
        )
        return NewSubscription(
            client_name="elaad-home", program_id=program, object_operations=(entry,)
        )

    why = refused(400, ven.subscriptions.create_subscription, wanted(Operation.POST))
    assert "'CREATE'" in why  # says what would be right
    try:
        return ven.subscriptions.create_subscription(wanted(Operation.DELETE))
    except ValidationError as error:  # it is there nevertheless
        done["subscription"] = not_understood(error)
        return None


def told_of_broker(ven, done):
    """Return the broker; the library does not understand a VTN that has none."""
    try:
        return ven.notifiers.get_notifiers().mqtt
    except ValidationError as error:
        done["notifiers"] = not_understood(error)
        return None


def who(bl, ven):
    """Register a ven and its meter, each changed once."""
    me = ven.vens.create_ven(NewVenVenRequest(ven_name="elaad-home"))
    refused(409, ven.vens.create_ven, NewVenVenRequest(ven_name="elaad-home-2"))
    [found] = ven.vens.get_vens("elaad-home", None, None)
    assert (found.id, found.client_id) == (me.id, "ven_client")
    update = VenUpdateBlRequest(
        ven_name="elaad-home", client_id="ven_client", targets=("feeder-7",)
    )
    bl.vens.update_ven_by_id(me.id, update)
    assert ven.vens.get_ven_by_id(me.id).targets == ("feeder-7",)

    new = NewResourceVenRequest(resource_name="meter", ven_id=me.id)
    meter = ven.resources.create_resource(new)
    ven.resources.update_resource_by_id(
        meter.id, ResourceUpdateVenRequest(resource_name="elaad-meter", ven_id=me.id)
    )
    [found] = bl.resources.get_resources(ven_id=me.id, resource_name="elaad-meter")
    assert found.id == meter.id
    return me, meter


def offer(bl, ven):
    """Offer a program."""
    priced_in = EventPayloadDescriptor(
        payload_type=EventPayloadType.PRICE, units=Unit.KWH, currency="EUR"
    )
    about = {"program_name": "Elaad-TOU", "payload_descriptors": (priced_in,)}
    program = bl.programs.create_program(NewProgram(**about))
    refused(409, bl.programs.create_program, NewProgram(**about))
    local = Attribute(type=ProgramAttributeType.LOCAL, values=(True,))
    bl.programs.update_program_by_id(program.id, ProgramUpdate(**about, attributes=[local]))
    [found] = [p for p in ven.programs.get_programs(None, ALL) if p.id == program.id]
    assert found.payload_descriptors == (priced_in,)
    assert found.attributes.get_by_type(ProgramAttributeType.LOCAL).values == (True,)
    return program


def prices(bl, ven, program, done):
    """Price a few hours, and read them."""
    event = bl.events.create_event(priced(program.id, PRICES))
    refused(409, bl.events.create_event, priced("nowhere", PRICES))
    [found] = ven.events.get_events(None, None, program.id)
    assert found.id == event.id
    done["prices"] = [price for _, price in read(found)]
    assert [start for start, _ in read(found)] == [
        (START + n * HOUR).isoformat() for n in range(len(PRICES))
    ]
    bl.events.update_event_by_id(event.id, priced(program.id, [0.25], "changed", EventUpdate))
    assert [price for _, price in read(ven.events.get_event_by_id(event.id))] == ["0.25"]

    # What the bridge has from its utilities is read in the same way.
    ids = {p.program_name: p.id for p in ven.programs.get_programs(None, ALL)}
    done["utilities"] = {name: prices_of(ven, ids[name]) for name in UTILITIES}
    return event


def prices_of(ven, program):
    """Return a program's prices, or what it is of its events that the library refuses."""
    try:
        events = ven.events.get_events(None, ALL, program)
    except ValidationError as error:
        return not_understood(error)
    return [price for event in events for price in read(event)]


def usage(bl, ven, program, event, done):
    """Report usage, and read that."""

    def report(kind, **others):
        payload = ReportPayload(type=ReportPayloadType.USAGE, values=(1.234567,))
        resource = ReportResource(
            resource_name="elaad-meter",
            interval_period=IntervalPeriod(start=START, duration=HOUR),
            intervals=(Interval(id=0, payloads=(payload,)),),
        )
        return kind(event_id=event.id, client_name="elaad-home", resources=(resource,), **others)

    made = ven.reports.create_report(report(NewReport))
    [found] = bl.reports.get_reports(None, program.id, None, None)
    assert (found.id, found.client_id) == (made.id, "ven_client")
    done["usage"] = str(found.resources[0].intervals[0].payloads[0].values[0])
    ven.reports.update_report_by_id(made.id, report(ReportUpdate, report_name="corrected"))
    assert bl.reports.get_report_by_id(made.id).report_name == "corrected"
    return made


def pages(bl, ven, program, event, done):
    """Read events page by page, and those for someone only by whom they are for."""
    more = {bl.events.create_event(priced(program.id, [n], f"more-{n}")).id for n in range(4)}
    found = [
        ven.events.get_events(None, PaginationFilter(skip=n, limit=2), program.id)
        for n in (0, 2, 4, 6)
    ]
    done["pages"] = [len(page) for page in found]
    assert {e.id for page in found for e in page} == {event.id, *more}
    refused(400, ven.events.get_events, None, PaginationFilter(skip=0, limit=51), None)

    aimed = [
        bl.events.create_event(priced(program.id, [0.5], "aimed", targets=targets))
        for targets in (("feeder-7", "feeder-8"), ("feeder-8",))
    ]
    [shown] = ven.events.get_events(TargetFilter(targets=["feeder-7"]), ALL, None)
    assert (shown.id, shown.targets) == (aimed[0].id, ("feeder-7",))  # none of others' targets
    refused(404, ven.events.get_event_by_id, aimed[1].id)


def work(bl, ven, stack):
    done = {}
    me, meter = who(bl, ven)
    program = offer(bl, ven)

    hook, broker = Heard(), Heard()
    url = stack.enter_context(webhook(hook, "elaad-hook"))
    subscription = subscribe(ven, program.id, url, "elaad-hook", done)
    binding = told_of_broker(ven, done)
    if binding:
        shared = ven.notifiers.get_event_topics_for_program(program.id).topics.all
        own = ven.notifiers.get_event_topics_for_ven(me.id).topics.all
        refused(403, ven.notifiers.get_report_topics)
        stack.enter_context(mqtt(broker, binding, shared, own))

    event = prices(bl, ven, program, done)
    report = usage(bl, ven, program, event, done)
    pages(bl, ven, program, event, done)

    bl.events.delete_event_by_id(event.id)
    refused(404, ven.events.get_event_by_id, event.id)
    done["webhook"] = hook.wait("DELETE EVENT")
    if binding:
        done["mqtt"] = broker.wait("CREATE EVENT", "UPDATE EVENT", "DELETE EVENT")
    if subscription:
        change = SubscriptionUpdate(
            client_name="renamed", object_operations=subscription.object_operations
        )
        ven.subscriptions.update_subscription_by_id(subscription.id, change)
        [found] = ven.subscriptions.get_subscriptions(None, None, "renamed", None)
        ven.subscriptions.delete_subscription_by_id(found.id)

    ven.reports.delete_report_by_id(report.id)
    bl.programs.delete_program_by_id(program.id)
    ven.resources.delete_resource_by_id(meter.id)
    ven.vens.delete_ven_by_id(me.id)
    left = [
        *bl.events.get_events(None, None, program.id),
        *bl.reports.get_reports(None, None, None, None),
        *bl.subscriptions.get_subscriptions(None, None, None, None),
        *bl.vens.get_vens(None, None, None),
        *bl.resources.get_resources(),
        *(p for p in bl.programs.get_programs(None, None) if p.id == program.id),
    ]
    assert not left, left
    return done


bl = BusinessLogicHttpClientFactory.create_http_bl_client(BASE, "bl_client", "1001", **HOW)
ven = VirtualEndNodeHttpClientFactory.create_http_ven_client(BASE, "ven_client", "999", **HOW)
with ExitStack() as stack:
    print(json.dumps(work(bl, ven, stack)))
