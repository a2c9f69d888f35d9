"""A VTN written from the specification that asks for reports and keeps what it is told."""

import re
from collections import defaultdict
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from aiohttp import web

from bridge.notation import read_duration, read_time
from bridge.wire import openleadr
from tests.peers import OK, RawVtn, payload, stamp


class Told(NamedTuple):
    """What an accepted update says of an interval."""

    update: str
    request: str
    r_id: str
    start: datetime
    length: timedelta
    value: Decimal | bool | None
    quality: str


def wanted(name, *r_ids, specifier="telemetry-usage", granularity="PT15M", back="PT15M",
           start=None, length="PT0S"):  # fmt: skip
    """Write an oadrReportRequest."""
    interval = (
        "<ei:reportInterval><xcal:properties>"
        f"<xcal:dtstart><xcal:date-time>{stamp(start)}</xcal:date-time></xcal:dtstart>"
        f"<xcal:duration><xcal:duration>{length}</xcal:duration></xcal:duration>"
        "</xcal:properties></ei:reportInterval>"
        if start
        else ""
    )
    points = "".join(
        f"<ei:specifierPayload><ei:rID>{r}</ei:rID><ei:readingType>Direct Read</ei:readingType>"
        "</ei:specifierPayload>"
        for r in r_ids
    )
    return (
        f"<oadr:oadrReportRequest><ei:reportRequestID>{name}</ei:reportRequestID><ei:reportSpecifier>"
        f"<ei:reportSpecifierID>{specifier}</ei:reportSpecifierID>"
        f"<xcal:granularity><xcal:duration>{granularity}</xcal:duration></xcal:granularity>"
        f"<ei:reportBackDuration><xcal:duration>{back}</xcal:duration></ei:reportBackDuration>"
        f"{interval}{points}</ei:reportSpecifier></oadr:oadrReportRequest>"
    )


def create(*requests, request_id="c"):
    return payload(
        f'<oadr:oadrCreateReport ei:schemaVersion="2.0b"><pyld:requestID>{request_id}</pyld:requestID>'
        f"{''.join(requests)}<ei:venID>V1</ei:venID></oadr:oadrCreateReport>"
    )


def cancel_report(*names, to_follow=False, request_id="x"):
    ids = "".join(f"<ei:reportRequestID>{n}</ei:reportRequestID>" for n in names)
    return (
        f'<oadr:oadrCancelReport ei:schemaVersion="2.0b"><pyld:requestID>{request_id}</pyld:requestID>'
        f"{ids}<pyld:reportToFollow>{str(to_follow).lower()}</pyld:reportToFollow>"
        "<ei:venID>V1</ei:venID></oadr:oadrCancelReport>"
    )


def cancel(*names, **about):
    return payload(cancel_report(*names, **about))


REREGISTER = payload(
    '<oadr:oadrRequestReregistration ei:schemaVersion="2.0b"><ei:venID>V1</ei:venID>'
    "</oadr:oadrRequestReregistration>"
)


GONE = web.Response(status=599)  # stands for no answer at all


class Utility(RawVtn):
    """Asks for `wants` in answer to each registration of reports, and for more by `say`."""

    def __init__(self):
        super().__init__()
        self.wants: list[str] = []
        self.told: list[Told] = []  # by accepted updates, each once
        self.updates: list[tuple[str, str]] = []  # requestID and message of all, taken or not
        self.take = lambda xml: None  # returns what is answered to an update instead
        self.with_update = ""  # an oadrCancelReport to put into the next oadrUpdatedReport

    async def answer(self, request):
        content = await request.read()
        openleadr.read_tree(content)  # what the bridge says is valid, whatever it is
        said = await super().answer(request)
        if said is GONE:
            request.transport.abort()
            return web.Response()
        return said

    def _answer(self, kind, xml):
        if kind == "oadrRegisterReport":
            return payload(
                f'<oadr:oadrRegisteredReport ei:schemaVersion="2.0b">{OK.format("r")}'
                f"{''.join(self.wants)}<ei:venID>V1</ei:venID></oadr:oadrRegisteredReport>"
            )
        if kind == "oadrUpdateReport":
            return self._take(xml)
        return super()._answer(kind, xml)

    def _take(self, xml):
        update_id = re.search(r"requestID>(.*?)<", xml)[1]
        self.updates.append((update_id, xml))
        said = self.take(xml)
        taken = said is None or said == "lost"
        if taken and update_id not in {told.update for told in self.told}:
            self.told += read(xml)
        if said in {"lost", "never came"}:
            return GONE
        if said is not None:
            return said
        more, self.with_update = self.with_update, ""
        return payload(
            f'<oadr:oadrUpdatedReport ei:schemaVersion="2.0b">{OK.format(update_id)}{more}'
            "<ei:venID>V1</ei:venID></oadr:oadrUpdatedReport>"
        )

    def messages(self, kind):
        return [xml for k, xml in self.asked if k == kind]

    def values(self, r_id=None, request=None):
        """Return what was told: start → values in the order in which they came."""
        found = defaultdict(list)
        for told in self.told:
            if r_id in {None, told.r_id} and request in {None, told.request}:
                found[told.start].append(told.value)
        return dict(found)


def read(xml):
    """Return what an oadrUpdateReport says."""
    (message,) = openleadr.read_tree(xml.encode()).iterfind(".//{*}oadrUpdateReport")
    update = message.findtext("{*}requestID")
    return [
        Told(
            update,
            report.findtext("{*}reportRequestID"),
            interval.findtext(".//{*}rID"),
            read_time(interval.findtext("{*}dtstart/{*}date-time")),
            read_duration(interval.findtext("{*}duration/{*}duration")),
            _value(interval),
            interval.findtext(".//{*}oadrDataQuality"),
        )
        for report in message.iterfind("{*}oadrReport")
        for interval in report.iterfind("{*}intervals/{*}interval")
    ]


def _value(interval):
    online = interval.findtext(".//{*}oadrOnline")
    if online is not None:
        return online == "true"
    value = Decimal(interval.findtext(".//{*}payloadFloat/{*}value"))
    return None if value.is_nan() else value


def pending(xml):
    return re.findall(r"<ei:reportRequestID>(.*?)</ei:reportRequestID>", xml)


def code(xml):
    return re.search(r"responseCode>(\d+)<", xml)[1]
