"""EiRegisterParty, EiReport, EiOpt and OadrPoll: what each message of a VEN does."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import uuid4

import structlog
from lxml import etree

from bridge.model import OptType
from bridge.vens import Message, Point, Request, Ven, VenStore, Wish
from bridge.vtn.openadr2.board import Board
from bridge.vtn.openadr2.events import Events
from bridge.vtn.openadr2.opted import out_by_schedule
from bridge.vtn.openadr2.outs import Outs
from bridge.vtn.openadr2.replies import (
    COMPLIANCE,
    INVALID_DATA,
    INVALID_ID,
    NOT_ALLOWED,
    NOT_AUTHORIZED,
    OK,
    PROFILES,
    Refusal,
    Reply,
    done,
    response,
)
from bridge.wire import openadr2_reports, openadr2_requests

log = structlog.get_logger()

MOST_TIMES, MOST_OPTS = 20, 20  # of one opt, and opts of one VEN
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """A checked message: who says what, and when it came."""

    ven: Ven
    kind: str
    element: etree._Element
    signed: bool
    large: bool  # whether reading it takes long
    connection: object  # the same for messages over one connection
    at: datetime

    @property
    def request_id(self) -> str:
        """Return its requestID, or that which it answers."""
        return openadr2_requests.request_id(self.element)


Handler = Callable[[Asked], Awaitable[Reply]]


class Services:
    """Answers every message type that a VEN may send."""

    def __init__(
        self, vtn_id: str, poll: timedelta, wishes: tuple[Wish, ...],
        store: VenStore, board: Board, outs: Outs,
    ) -> None:  # fmt: skip
        self._vtn_id, self._poll, self._wishes = vtn_id, poll, wishes
        self._store, self._board, self._outs = store, board, outs
        self._events = Events(vtn_id, board)
        self._handlers: Mapping[str, Handler] = {
            "oadrQueryRegistration": self._query,
            "oadrCreatePartyRegistration": self._register,
            "oadrCancelPartyRegistration": self._cancel_registration,
            "oadrCanceledPartyRegistration": self._registration_cancelled,
            "oadrPoll": self._polled,
            "oadrRequestEvent": self._request_events,
            "oadrCreatedEvent": self._answer_events,
            "oadrRegisterReport": self._register_reports,
            "oadrCreatedReport": self._report_created,
            "oadrUpdateReport": self._update_report,
            "oadrCanceledReport": self._report_cancelled,
            "oadrCreateOpt": self._create_opt,
            "oadrCancelOpt": self._cancel_opt,
        }

    async def answer(self, asked: Asked) -> Reply:
        """Do what a message says and return the answer; raise Refusal or WireError."""
        if asked.kind == "oadrResponse":  # an answer to ours, which asks for nothing
            return self._done(asked)
        handler = self._handlers.get(asked.kind)
        if handler is None:
            raise Refusal(COMPLIANCE, f"{asked.kind} is nothing that this VTN is told by a VEN")
        if asked.ven.registration_id is None and "Registration" not in asked.kind:
            if asked.kind == "oadrPoll":
                return Reply("oadrRequestReregistration", {"ven_id": asked.ven.ven_id})
            raise Refusal(NOT_AUTHORIZED, "this VEN is not registered: send oadrQueryRegistration")
        return await handler(asked)

    # --- EiRegisterParty (section 9.2) -------------------------------------------------------

    async def _query(self, asked: Asked) -> Reply:
        return self._party(asked, asked.ven.registration_id)

    async def _register(self, asked: Asked) -> Reply:
        said, ven = openadr2_requests.read_registration(asked.element), asked.ven
        if said.profile != "2.0b":
            raise Refusal(COMPLIANCE, f"profile {said.profile} is not served here: 2.0b is")
        if said.transport != "simpleHttp" or not said.pull:
            raise Refusal(
                COMPLIANCE,
                "this VTN is asked by VENs and calls none: register with transport simpleHttp and "
                "oadrHttpPullModel true",
            )
        # Where we know of none, one that was given before we were set up anew does no harm.
        if ven.registration_id and said.registration_id not in {None, ven.registration_id}:
            raise Refusal(INVALID_ID, "this registrationID is not this VEN's; register without one")
        knows = said.registration_id is not None
        given = await self._store.register(
            ven.name, said.ven_name, signs=asked.signed, knows=knows, at=asked.at
        )
        log.info("VEN registered", ven=ven.name, ven_name=said.ven_name, signs=asked.signed,
                 again=ven.registration_id is not None)  # fmt: skip
        return self._party(asked, given)

    def _party(self, asked: Asked, registration_id: str | None) -> Reply:
        return Reply(
            "oadrCreatedPartyRegistration",
            {
                "response": response(asked.request_id),
                "registration_id": registration_id,
                "ven_id": asked.ven.ven_id if registration_id else None,
                "vtn_id": self._vtn_id,
                "profiles": PROFILES,
                "requested_oadr_poll_freq": self._poll,
            },
        )

    async def _cancel_registration(self, asked: Asked) -> Reply:
        self._need_registration(asked)
        await self._store.deregister(asked.ven.name)
        log.info("VEN cancelled its registration", ven=asked.ven.name)
        return Reply(
            "oadrCanceledPartyRegistration",
            {
                "response": response(asked.request_id),
                "registration_id": asked.ven.registration_id,
                "ven_id": asked.ven.ven_id,
            },
        )

    async def _registration_cancelled(self, asked: Asked) -> Reply:
        self._need_registration(asked)
        if not await self._store.deregister(asked.ven.name, if_asked=True):
            raise Refusal(INVALID_ID, "no cancellation of the registration was asked for")
        return self._done(asked)

    def _need_registration(self, asked: Asked) -> None:
        said = openadr2_requests.registration_id(asked.element)
        if asked.ven.registration_id is None or said != asked.ven.registration_id:
            raise Refusal(
                INVALID_ID, "this registrationID is not this VEN's", {"registration_id": said}
            )

    # --- OadrPoll (section 9.7) ----------------------------------------------------------------

    async def _polled(self, asked: Asked) -> Reply:
        ven, owed = asked.ven, self._board.is_owed(asked.ven, asked.at)
        if owed and self._board.events_first(ven):
            return await self._events.distribute(ven, asked.connection, asked.at)
        if message := self._board.next_message(ven):
            if message.kind == "oadrCancelReport" and self._board.told_enough(message):
                report = [message.payload["report"]]
                await self._store.message_done(ven.name, message.kind, report)
            return self._told(ven, message)
        if owed:
            return await self._events.distribute(ven, asked.connection, asked.at)
        return done("", ven.ven_id)

    def _told(self, ven: Ven, message: Message) -> Reply:
        """Return what a VEN is to be told, as the message that says so."""
        said: dict[str, Any] = {"ven_id": ven.ven_id, "request_id": uuid4().hex}
        if message.kind == "oadrCreateReport":
            request = Request.read(message.payload["request"])
            said |= {"request_id": request.request_id, "report_requests": [_asked_for(request)]}
        elif message.kind == "oadrCancelReport":
            report = message.payload["report"]
            said |= {"request_id": report, "report_request_id": report, "report_to_follow": False}
        elif message.kind == "oadrCancelPartyRegistration":
            said["registration_id"] = ven.registration_id
        return Reply(message.kind, said)

    # --- EiEvent (section 9.1) ---------------------------------------------------------------

    async def _request_events(self, asked: Asked) -> Reply:
        limit = openadr2_requests.reply_limit(asked.element)
        return await self._events.distribute(
            asked.ven, asked.connection, asked.at, asked.request_id, limit
        )

    async def _answer_events(self, asked: Asked) -> Reply:
        answers = await _read(asked, openadr2_requests.read_answers)
        events, problem = await self._events.answered(asked.ven, answers, asked.at)
        await self._outs.settle(asked.at, events)
        if problem:
            raise Refusal(INVALID_ID, problem)
        return self._done(asked)

    # --- EiReport (section 9.3) --------------------------------------------------------------

    async def _register_reports(self, asked: Asked) -> Reply:
        offered = await _read(asked, openadr2_reports.read_offered)
        wanted = await self._store.save_reports(asked.ven.name, offered, self._wishes, asked.at)
        return Reply(
            "oadrRegisteredReport",
            {
                "response": response(asked.request_id),
                "report_requests": [_asked_for(request) for request in wanted],
                "ven_id": asked.ven.ven_id,
            },
        )

    async def _report_created(self, asked: Asked) -> Reply:
        pending = openadr2_requests.pending_reports(asked.element)
        requests = {asked.request_id, *pending}
        await self._store.message_done(asked.ven.name, "oadrCreateReport", requests)
        code = openadr2_requests.response_code(asked.element)
        if code != str(OK):
            log.warning("VEN refuses a report", ven=asked.ven.name, code=code)
        return self._done(asked)

    async def _report_cancelled(self, asked: Asked) -> Reply:
        await self._store.message_done(asked.ven.name, "oadrCancelReport", [asked.request_id])
        return self._done(asked)

    async def _update_report(self, asked: Asked) -> Reply:
        element, ven = asked.element, asked.ven
        known: dict[str, Mapping[str, Point]] = {
            specifier: await self._store.points(ven.name, specifier)
            for specifier in openadr2_reports.specifiers(element)
        }
        requests = openadr2_reports.request_ids(element)
        samplings = await self._store.samplings(ven.name, requests)
        readings = await _read(
            asked, lambda message: openadr2_reports.read_update(message, known, samplings)
        )
        unknown = await self._store.save_readings(ven.name, readings, requests, asked.at)
        said: dict[str, Any] = {"response": response(asked.request_id), "ven_id": ven.ven_id}
        if unknown:  # what was measured is kept, and asked for no more
            said["cancel_report"] = {
                "request_id": uuid4().hex, "report_request_id": sorted(unknown),
                "report_to_follow": False, "ven_id": ven.ven_id,
            }  # fmt: skip
        return Reply("oadrUpdatedReport", said)

    # --- EiOpt (section 9.4) -------------------------------------------------------------------

    async def _create_opt(self, asked: Asked) -> Reply:
        opt, ven = await _read(asked, openadr2_requests.read_opt), asked.ven
        no = {"opt_id": opt.opt_id}
        if not opt.opt_id:
            raise Refusal(INVALID_ID, "optID: is empty", no)
        if bool(opt.event) == bool(opt.times) or len(opt.times) > MOST_TIMES:
            raise Refusal(
                INVALID_DATA, "an opt is for one event (qualifiedEventID), or for times, of which"
                f" there are at most {MOST_TIMES}", no,
            )  # fmt: skip
        if opt.times and max(end for _, end in opt.times) <= asked.at:
            raise Refusal(INVALID_DATA, "the times of the opt are over", no)
        others = [o for o in self._board.opts(ven) if o.opt_id != opt.opt_id]
        if len(others) >= MOST_OPTS:
            raise Refusal(NOT_ALLOWED, f"a VEN has at most {MOST_OPTS} opts; cancel some", no)
        offer = self._board.offer(ven, opt.event) if opt.event else None
        number = opt.modification or 0
        if opt.event and (offer is None or number > offer.modification):
            raise Refusal(
                INVALID_ID, f"event {opt.event!r} with modification {number} was not told to this"
                " VEN", no,
            )  # fmt: skip
        answers, _ = self._without(ven, opt.opt_id)  # one of this id that was for something else
        if offer:
            opt = replace(opt, event=offer.event)
        if offer and not opt.resources:  # it is as if the event had been answered so
            said = self._board.said(ven)[offer.event].answered
            answers[offer.event] = max(number, said or 0), opt.opt
        await self._store.add_opt(ven.name, opt, answers, asked.at)
        self._board.note_answers(ven, answers, asked.at)
        return await self._opted(asked, "oadrCreatedOpt", opt.opt_id)

    async def _cancel_opt(self, asked: Asked) -> Reply:
        opt_id, ven = openadr2_requests.opt_id(asked.element), asked.ven
        answers, since = self._without(ven, opt_id)
        since = since or asked.at
        if not await self._store.drop_opt(ven.name, opt_id, answers, since):
            raise Refusal(INVALID_ID, f"there is no opt {opt_id!r} of this VEN", {"opt_id": opt_id})
        self._board.note_answers(ven, answers, since)
        return await self._opted(asked, "oadrCanceledOpt", opt_id)

    def _without(
        self, ven: Ven, opt_id: str
    ) -> tuple[dict[str, tuple[int, OptType | None]], datetime | None]:
        """Return what holds, and since when, of an event whose opt is gone, if the last word."""
        opts = self._board.opts(ven)
        had = next((o for o in opts if o.opt_id == opt_id), None)
        if had is None or had.event is None or had.resources:
            return {}, None
        said, offer = self._board.said(ven).get(had.event), self._board.offer(ven, had.event)
        if said is None or offer is None or (said.at and had.at and said.at > had.at):
            return {}, None
        left = [o for o in opts if o.event == had.event and not o.resources and o is not had]
        out = left[-1].opt == "optOut" if left else out_by_schedule(opts, offer)[0]
        since = left[-1].at if left else None
        return {had.event: (said.answered or 0, "optOut" if out else "optIn")}, since

    async def _opted(self, asked: Asked, kind: str, opt_id: str) -> Reply:
        self._board.look_again()
        await self._board.refresh()
        await self._outs.settle(asked.at, self._board.concerned(asked.ven))
        said = {"response": response(asked.request_id), "opt_id": opt_id}
        return Reply(kind, {**said, "ven_id": asked.ven.ven_id})

    def _done(self, asked: Asked) -> Reply:
        return done(asked.request_id, asked.ven.ven_id)


async def _read(asked: Asked, read: Callable[[etree._Element], T]) -> T:
    """Read a message, off the event loop where it is large."""
    return await asyncio.to_thread(read, asked.element) if asked.large else read(asked.element)


def _asked_for(request: Request) -> dict[str, Any]:
    """Return an oadrReportRequest as openleadr writes it."""
    specifier: dict[str, Any] = {
        "report_specifier_id": request.specifier,
        "granularity": request.sampling,
        "report_back_duration": request.every,
        "specifier_payloads": [
            {"r_id": r_id, "reading_type": reading_type} for r_id, reading_type in request.points
        ],
    }
    if request.start and request.length:
        specifier["report_interval"] = {"dtstart": request.start, "duration": request.length}
    return {"report_request_id": request.request_id, "report_specifier": specifier}
