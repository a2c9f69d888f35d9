"""The `openadr2` listener: who asks, whether it may, and what it said, before anything is done.

Each message is by an enrolled certificate, of a venID that is bound to it, valid by the schema,
and signed where that is asked for. Whatever else comes gets an answer that says what is wrong.
"""

import asyncio
import hashlib
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Literal, TypeVar

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from lxml import etree

from bridge import certificates
from bridge.clock import Clock
from bridge.errors import StoreError, Unfit, WireError
from bridge.notation import from_millis, millis
from bridge.vens import Ven, VenStore
from bridge.vtn.openadr2.board import Board
from bridge.vtn.openadr2.identity import Identity
from bridge.vtn.openadr2.replies import (
    COMPLIANCE,
    INVALID_DATA,
    NOT_AUTHORIZED,
    Refusal,
    Reply,
    response,
    write,
)
from bridge.vtn.openadr2.services import Asked, Services
from bridge.web.limits import Patience
from bridge.wire import openadr2_requests
from bridge.wire.openleadr import element_in, is_signed, read_tree
from bridge.wire.signatures import ReplayGuard, is_elliptic

log = structlog.get_logger()
T = TypeVar("T")

PREFIX = "/OpenADR2/Simple/2.0b"
LARGEST_BODY = 1024 * 1024
LARGE = 20_000  # bytes that are parsed in about a millisecond
MOST_STRANGERS = 20  # messages in a minute by one certificate that is not enrolled
_XML = {"Content-Type": "application/xml"}
LONGEST_POLL, MOST_POLLS = 2_000, 2_000  # bytes of one that is remembered, and how many are
BURST = 2.0  # seconds' worth of messages that may come at once


@dataclass(frozen=True, slots=True)
class Terms:
    """What is asked of each message."""

    vtn_id: str
    signatures: bool | Literal["per-ven"] = False
    replay_window: timedelta = timedelta(minutes=5)
    clock_skew: timedelta = timedelta(minutes=1)
    rate_limit: int = 100  # messages a second of one VEN

    def asks(self, ven: Ven) -> bool:
        """Whether a VEN's messages must be signed."""
        return self.signatures is True or (self.signatures == "per-ven" and ven.signs)


@dataclass(frozen=True, slots=True)
class _Peer:
    """Whose certificate a connection has shown."""

    der: bytes
    ven: Ven
    connection: object

    def asks(
        self, element: etree._Element, at: datetime, *, signed: bool = False, large: bool = False
    ) -> Asked:
        """Return what it says in a message."""
        kind = etree.QName(element).localname
        return Asked(self.ven, kind, element, signed, large, self.connection, at)


class Endpoint:
    """Answers the messages of VENs over HTTP."""

    def __init__(
        self, terms: Terms, identity: Identity, services: Services, board: Board,
        store: VenStore, clock: Clock,
    ) -> None:  # fmt: skip
        self._terms, self._identity, self._services = terms, identity, services
        self._board, self._store, self._clock = board, store, clock
        self._guard = ReplayGuard(terms.replay_window, terms.clock_skew)
        self._strangers = Patience()
        self._rates = _Rates(terms.rate_limit)
        self._polls: dict[bytes, etree._Element] = {}

    def site(self) -> web.Application:
        """Return the application of the listener."""
        site = web.Application(client_max_size=LARGEST_BODY)
        for service in sorted(set(openadr2_requests.SERVICES.values())):
            site.router.add_post(f"{PREFIX}/{service}", partial(self.answer, service))
        return site

    async def answer(self, service: str, request: web.Request) -> web.Response:
        """POST /OpenADR2/Simple/2.0b/{service}; what goes wrong inside is not told outside."""
        try:
            return await self._answer(service, request)
        except web.HTTPException as error:
            return _plainly(error)
        except (web.RequestPayloadError, HttpProcessingError):
            return web.Response(text="the body is not in its Content-Encoding", status=400)
        except StoreError as error:
            log.critical("store failed", problem=str(error))
            return web.Response(text="the store cannot be read now", status=503)
        except Exception:  # whatever else it is, the VEN learns only that it is ours
            log.exception("message failed", service=service)
            return web.Response(text="a mistake in the bridge; its log tells more", status=500)

    async def _answer(self, service: str, request: web.Request) -> web.Response:
        der = _certificate(request)
        sha256 = hashlib.sha256(der).hexdigest().upper()
        await self._board.refresh()
        known = self._board.ven_of(sha256) or await self._looked_up(sha256)
        if known is None:
            return self._stranger(der, sha256)
        ven, fingerprint = known
        ends = ven.certificates[fingerprint] or await self._recognise(ven, fingerprint, sha256, der)
        if ends <= self._clock.now():  # a connection may outlive it
            return self._no(f"the certificate ended at {ends:%Y-%m-%d %H:%M} UTC", ven.ven_id)
        if not self._rates.allow(ven.name):
            raise web.HTTPTooManyRequests(text="too many messages", headers={"Retry-After": "1"})
        if "xml" not in request.content_type:
            raise web.HTTPUnsupportedMediaType(text="write Content-Type: application/xml")
        if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise web.HTTPUnsupportedMediaType(text="send the message as it is, not packed")
        connection = request.transport.get_extra_info("peername") if request.transport else None
        content = await request.read()
        await self._board.refresh()  # much may have happened while it came
        known = self._board.ven_of(sha256)
        if known is None:
            return self._stranger(der, sha256)
        peer = _Peer(der, known[0], connection)
        poll = self._polls.get(content)
        if poll is not None and not self._terms.asks(peer.ven):
            return _xml(write(await self._replied(peer.asks(poll, self._now()), service)))
        return await self._answer_anew(peer, service, content)

    async def _answer_anew(self, peer: _Peer, service: str, content: bytes) -> web.Response:
        """Answer a message that was not read before, as polls are over and over."""
        ven, at = peer.ven, self._now()
        try:
            tree = await _off_loop(len(content), read_tree, content)
        except WireError as error:
            log.info("message cannot be read", ven=ven.name, problem=str(error))
            return self._refused(peer, INVALID_DATA, str(error), HTTPStatus.BAD_REQUEST)
        signed = is_signed(tree)
        try:
            if self._terms.asks(ven) and not signed:
                raise WireError("the message is not signed, but a signature is asked for")
            signer = peer.der if signed else None
            element = await _off_loop(len(content), element_in, tree, signer, self._guard)
            asked = peer.asks(element, at, signed=signed, large=len(content) > LARGE)
        except (WireError, ValueError) as error:
            log.warning("message is not a VEN's own", ven=ven.name, problem=str(error))
            return self._refused(peer, NOT_AUTHORIZED, str(error))
        reply = await self._replied(asked, service)
        if not signed:
            if reply.kind == "oadrResponse" and asked.kind == "oadrPoll":
                self._remember(content, element)
            return _xml(write(reply))
        with_key = self._identity.signer(elliptic=is_elliptic(tree))
        return _xml(await _off_loop(sum(map(len, reply.events)), write, reply, with_key))

    def _now(self) -> datetime:
        """Return the time as it is kept, so that what is kept is neither before nor after it."""
        return from_millis(millis(self._clock.now()))

    def _remember(self, content: bytes, poll: etree._Element) -> None:
        """Keep a poll that was read: unsigned, a VEN's are the same, byte for byte."""
        if len(content) < LONGEST_POLL:
            if len(self._polls) >= MOST_POLLS:
                self._polls.clear()
            self._polls[content] = poll

    async def _replied(self, asked: Asked, service: str) -> Reply:
        """Return the answer to a message, be it that it is refused."""
        ven = asked.ven
        try:
            self._check(asked, service)
            await self._board.confirm(ven, asked.connection, asked.at)
            await self._store.heard_from(ven.name, asked.at)
            return await self._services.answer(asked)
        except Refusal as refusal:
            log.info("message refused", ven=ven.name, message=asked.kind, code=refusal.code,
                     problem=refusal.text)  # fmt: skip
            return refusal.reply(asked.kind, asked.request_id, self._terms.vtn_id, ven.ven_id)
        except (WireError, Unfit, ValueError, OverflowError) as error:
            log.info("message makes no sense", ven=ven.name, message=asked.kind, problem=str(error))
            senseless = Refusal(INVALID_DATA, str(error)[:500])
            return senseless.reply(asked.kind, asked.request_id, self._terms.vtn_id, ven.ven_id)
        finally:
            if asked.kind != "oadrPoll":  # it may have changed something
                self._board.look_again()

    def _check(self, asked: Asked, service: str) -> None:
        said = openadr2_requests.ven_id(asked.element)
        if said is not None and said != asked.ven.ven_id:
            raise Refusal(
                NOT_AUTHORIZED, f"the certificate is not that of the venID {said[:100]!r}"
            )
        belongs = openadr2_requests.SERVICES.get(asked.kind)
        if asked.kind == "oadrResponse" or belongs == service:
            return
        where = f"belongs to {PREFIX}/{belongs}" if belongs else "is for VENs, not for a VTN"
        raise Refusal(COMPLIANCE, f"{asked.kind} {where}")

    async def _looked_up(self, sha256: str) -> tuple[Ven, str] | None:
        """Return whose certificate this is if it was enrolled this very moment."""
        self._board.look_again()
        await self._board.refresh()
        return self._board.ven_of(sha256)

    def _stranger(self, der: bytes, sha256: str) -> web.Response:
        """Answer who is not enrolled; nothing of what it says is looked at."""
        if not self._strangers.lasts(sha256, MOST_STRANGERS):
            raise web.HTTPTooManyRequests(
                text="too many messages without an enrolled certificate",
                headers={"Retry-After": "60"},
            )
        self._strangers.note(sha256)
        shown = certificates.short_fingerprint(ssl.DER_cert_to_PEM_cert(der))
        log.warning("certificate is not enrolled", fingerprint=shown,
                    remedy=f"openadr-bridge ven add NAME --fingerprint {shown}")  # fmt: skip
        return self._no(f"the certificate with fingerprint {shown} is not enrolled at this VTN", "")

    def _no(self, text: str, ven_id: str) -> web.Response:
        said = {"response": response("", NOT_AUTHORIZED, text), "ven_id": ven_id}
        return _xml(write(Reply("oadrResponse", said)))

    def _refused(
        self, peer: _Peer, code: int, text: str, status: HTTPStatus = HTTPStatus.OK
    ) -> web.Response:
        said = {"response": response("", code, text[:1000]), "ven_id": peer.ven.ven_id}
        return _xml(write(Reply("oadrResponse", said)), status)

    async def _recognise(self, ven: Ven, fingerprint: str, sha256: str, der: bytes) -> datetime:
        """Pin a certificate that was enrolled by its whole SHA-256; return when it ends."""
        ends = certificates.end_of(der)
        await self._store.recognised(fingerprint, sha256, self._clock.now(), ends)
        log.info("certificate seen for the first time", ven=ven.name, ends=ends)
        self._board.look_again()
        await self._board.refresh()
        return ends


class _Rates:
    """Lets each VEN say so much in a second, and for a moment more."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._left: dict[str, tuple[float, float]] = {}  # name → messages left, as of when

    def allow(self, name: str) -> bool:
        """Whether one more message of a VEN is looked at."""
        now, full = time.monotonic(), self._most * BURST
        left, then = self._left.get(name, (full, now))
        left = min(full, left + (now - then) * self._most)
        self._left[name] = (max(left - 1, 0.0), now)
        return left >= 1


async def _off_loop(size: int, work: Callable[..., T], *about: object) -> T:
    """Do what takes long for a large message without holding up the others."""
    return await asyncio.to_thread(work, *about) if size > LARGE else work(*about)


def _certificate(request: web.Request) -> bytes:
    """Return the certificate (DER) that the client has shown in the handshake."""
    tls = request.transport.get_extra_info("ssl_object") if request.transport else None
    found: bytes | None = tls.getpeercert(binary_form=True) if tls else None
    if found is None:
        raise web.HTTPForbidden(text="a client certificate is needed")
    return found


def _xml(content: bytes, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    return web.Response(body=content, status=status, headers=_XML)


def _plainly(error: web.HTTPException) -> web.Response:
    """Return what is said of a request that is no message, in a line of text."""
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        text = f"the message is larger than {LARGEST_BODY} bytes"
    else:
        text = error.text or error.reason
    headers = {k: v for k, v in error.headers.items() if k == "Retry-After"}
    return web.Response(text=text, status=error.status, headers=headers)
