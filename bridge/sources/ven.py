"""One VEN's requests to its VTN, over openleadr's messages and our own transport."""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import aiohttp
from aiohttp import ClientTimeout, DummyCookieJar, TCPConnector
from lxml import etree
from openleadr import OpenADRClient

from bridge import certificates
from bridge.errors import SourceError, Unreachable, Unregistered, WireError
from bridge.model import Answer, PartOpt, Registration
from bridge.wire import openleadr
from bridge.wire.openadr2_telemetry import enveloped
from bridge.wire.openleadr import Message
from bridge.wire.signatures import ReplayGuard, Signer

LARGEST_ANSWER = 8_000_000  # bytes; about two years of hourly prices
TIMEOUT = ClientTimeout(total=60, sock_connect=5, sock_read=20)
# OpenADR 2.0b, table of response codes: what says that we are not, or not any more, known.
NOT_KNOWN = {452, 463}
OK = 200


class Status(SourceError):  # noqa: N818 -- reads as a fact at the raise
    """The VTN answered with an HTTP status that is none of success."""

    def __init__(self, status: int, reason: str | None) -> None:
        super().__init__(f"the VTN answered HTTP {status} {reason or ''}".strip())
        self.status = status


class _Pin(aiohttp.Fingerprint):
    """Looks at the VTN's certificate after the handshake, before a request is written.

    Keeps it, to compare signatures with; refuses it where it has not the fingerprint
    that is `wanted`: OpenADR's 10 bytes, or the whole SHA-256.
    """

    def __init__(self, wanted: str | None) -> None:
        super().__init__(b"\0" * 32)
        self._wanted = wanted
        self.peer: bytes | None = None

    def check(self, transport: asyncio.Transport) -> None:
        tls = transport.get_extra_info("ssl_object")
        if tls is None:
            return
        self.peer = tls.getpeercert(binary_form=True)
        if self._wanted and not (
            self.peer and certificates.fingerprint_matches(self._wanted, self.peer)
        ):
            raise aiohttp.ServerFingerprintMismatch(b"", b"", "", 0)


class Ven(OpenADRClient):
    """openleadr's client for its registration and messages, with none of its own running."""

    def __init__(
        self,
        *,
        name: str,
        url: str,
        context: ssl.SSLContext | None,
        signer: Signer | None = None,
        fingerprint: str | None = None,
        proxy: str | None = None,
        ven_id: str | None = None,
        known: Registration | None = None,
    ) -> None:
        openleadr.harden()
        super().__init__(
            name, url, ven_id=known.ven_id if known else ven_id, show_fingerprint=False
        )
        self._create_message: Callable[..., bytes] = openleadr.message_writer(signer)
        self._given_id = ven_id  # by the settings, for good
        self.registration_id = known.registration_id if known else None
        self._signer, self._signs = signer, signer is not None
        self._guard = ReplayGuard()
        self._context, self._proxy = context, proxy
        self._pin = _Pin(fingerprint)
        self._session: aiohttp.ClientSession | None = None
        self._refusal: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            # aiohttp verifies nothing by a fingerprint alone: the context goes with each
            # request, and the pin with the connector, so that both are looked at.
            connector=TCPConnector(ssl=self._pin, limit=1, keepalive_timeout=30),
            timeout=TIMEOUT,
            headers={"content-type": "application/xml"},
            cookie_jar=DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session:
            await self._session.close()

    # --- what is asked and said -----------------------------------------------------------

    async def register(self, *, reporting: bool = False) -> Registration:
        """Query, create (or renew) the registration; say that there are no reports, if so."""
        try:
            await self.query_registration()
            given: Any = await self.create_party_registration(
                xml_signature=self._signs, registration_id=self.registration_id
            )
            if given is None or not (self.registration_id and self.ven_id):
                code = self._refusal.get("response_code")
                said = f"{code} {self._refusal.get('response_description')}"
                raise Unregistered(
                    f"the VTN refused the registration ({said});"
                    " does it know this ven_name and the certificate's fingerprint?"
                )
            payload = given[1]
            if not reporting:
                await self.register_reports([])
        except (KeyError, TypeError, AttributeError) as error:  # openleadr reads on regardless
            raise SourceError(
                f"the VTN's answer to the registration makes no sense ({error!r})"
            ) from error
        poll = payload.get("requested_oadr_poll_freq") or timedelta(seconds=10)
        return Registration(self.ven_id, self.registration_id, payload.get("vtn_id"), poll)

    def forget(self) -> None:
        """Forget the ids that the VTN has forgotten."""
        self.ven_id, self.registration_id = self._given_id, None

    async def ask_events(self) -> Message:
        """Ask for all events, without a limit."""
        return await self._ask("EiEvent", "oadrRequestEvent", request_id=_request_id())

    async def ask_poll(self) -> Message:
        """Ask for the next message."""
        return await self._ask("OadrPoll", "oadrPoll")

    async def tell_opts(self, request_id: str, answers: Sequence[Answer]) -> str | None:
        """Tell the VTN our opts; return what it had against them, if anything."""
        answer = await self._ask(
            "EiEvent",
            "oadrCreatedEvent",
            response=_ok(request_id),
            event_responses=[
                {
                    **_ok(request_id),
                    "event_id": told.foreign_id,
                    "modification_number": told.modification,
                    "opt_type": told.opt,
                }
                for told in answers
            ],
        )
        code, said = code_of(answer)
        return None if code == OK else f"{code}: {said}"

    async def tell_part(self, part: PartOpt, at: datetime) -> str | None:
        """Tell the VTN the opt of a resource; return what it had against it, if anything."""
        answer = await self._ask(
            "EiOpt",
            "oadrCreateOpt",
            opt_id=_request_id(),
            opt_type=part.opt,
            opt_reason="participating" if part.opt == "optIn" else "notParticipating",
            created_date_time=at,
            request_id=_request_id(),
            event_id=part.foreign_id,
            modification_number=part.modification,
            targets=[{"resource_id": part.resource}],
        )
        code, said = code_of(answer)
        return None if code == OK else f"{code}: {said}"

    async def tell_report(self, signed_object: str, *, may_be_empty: bool = False) -> Message:
        """Send a message of EiReport that is written already; return the answer."""
        if self._signer:  # a signature is of the moment, what it is of is as it was
            content = await asyncio.to_thread(self._signer.sign, signed_object)
        else:
            content = enveloped(signed_object)
        return await self._exchange("EiReport", content, may_be_empty=may_be_empty)

    async def say_ok(self, service: str) -> None:
        """Acknowledge a message that needs no more."""
        await self._say(service, "oadrResponse", response=_ok(""))

    async def say_cancelled(self, message: Message) -> None:
        """Confirm that the VTN ended the registration."""
        request_id = str(message.payload.get("request_id") or "")
        await self._say(
            "EiRegisterParty",
            "oadrCanceledPartyRegistration",
            response=_ok(request_id),
            registration_id=self.registration_id,
        )
        self.forget()

    async def decline(self, message: Message) -> None:
        """Answer what this VEN does not do: take reports, or give some where none are set."""
        request_id = str(message.payload.get("request_id") or "")
        if message.type == "oadrRegisterReport":
            await self._say(
                "EiReport",
                "oadrRegisteredReport",
                response=_ok(request_id),
                report_requests=[],
            )
        elif message.type in {"oadrCreateReport", "oadrCancelReport", "oadrUpdateReport"}:
            no = {
                "response_code": 452,
                "response_description": "this VEN offers no reports",
                "request_id": request_id,
            }
            await self._say("EiReport", "oadrResponse", response=no)
        else:
            raise SourceError(f"the VTN sent an {message.type} where none belongs")

    # --- transport ------------------------------------------------------------------------

    async def _ask(self, service: str, kind: str, **payload: Any) -> Message:
        """Send a message; return the answer, which must not be a refusal."""
        text = self._create_message(kind, ven_id=self.ven_id, **payload)
        message = await self._exchange(service, text)
        code, said = code_of(message)
        if code in NOT_KNOWN and kind in {"oadrPoll", "oadrRequestEvent"}:
            raise Unregistered(f"the VTN answered {code}: {said}")
        if code != OK and message.type == "oadrDistributeEvent":
            raise SourceError(f"the VTN answered {code}: {said}")
        return message

    async def _say(self, service: str, kind: str, **payload: Any) -> None:
        """Send a message whose answer says nothing; some VTNs answer nothing at all."""
        text = self._create_message(kind, ven_id=self.ven_id, **payload)
        await self._exchange(service, text, may_be_empty=True)

    async def _perform_request(self, service: str, message: bytes) -> tuple[str, dict[str, Any]]:
        """Carry openleadr's own requests (registration) over our transport."""
        answer = await self._exchange(service, message)
        self._refusal = answer.payload.get("response") or {}
        return answer.type, answer.payload

    async def _exchange(
        self, service: str, content: bytes, *, may_be_empty: bool = False
    ) -> Message:
        if self._session is None:
            raise SourceError("the connection to the VTN is closed")
        try:
            async with self._session.post(
                f"{self.vtn_url}/{service}", data=content,
                ssl=self._context or True, proxy=self._proxy, allow_redirects=False,
            ) as reply:  # fmt: skip
                said = await _limited(reply)
                if reply.status != OK:
                    raise Status(reply.status, reply.reason)
        except TimeoutError as error:
            raise SourceError("the VTN did not answer in time") from error
        except (aiohttp.ClientError, OSError, ssl.SSLError) as error:
            raise Unreachable(_explain(error)) from error
        if not said and may_be_empty:
            return Message("", {}, etree.Element("nothing"))
        if not said:
            raise SourceError("the VTN answered nothing (HTTP 200 with an empty body)")
        signer = self._pin.peer if self._signs else None  # the very VTN that was connected to
        try:
            return await asyncio.to_thread(openleadr.read_message, said, signer, self._guard)
        except WireError as error:
            raise SourceError(str(error)) from error


async def _limited(reply: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in reply.content.iter_chunked(65536):
        content += chunk
        if len(content) > LARGEST_ANSWER:
            raise SourceError(f"the VTN's answer is larger than {LARGEST_ANSWER // 1_000_000} MB")
    return bytes(content)


def _explain(error: Exception) -> str:
    """Say what a failed connection means to a person."""
    if isinstance(error, aiohttp.ServerFingerprintMismatch):
        return (
            "the VTN's certificate has another fingerprint than vtn_fingerprint says; "
            "if it was renewed, ask the utility for the new one"
        )
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the VTN closed the connection without an answer; does it accept our certificate?"
    trouble = certificates.explain_handshake(getattr(error, "os_error", error))
    if trouble or not isinstance(error, aiohttp.ClientConnectorError):
        return trouble or f"{type(error).__name__}: {error}"
    # Its own text holds an address in memory, and would be another each time.
    return f"{error.host}:{error.port} cannot be reached: {error.os_error.strerror}"


def code_of(message: Message) -> tuple[int, str]:
    """Return the code with which a message answers one of ours, and what it says beside it."""
    response = message.payload.get("response") or {}
    return int(response.get("response_code") or OK), str(response.get("response_description"))


def _ok(request_id: str) -> dict[str, Any]:
    return {"response_code": OK, "response_description": "OK", "request_id": request_id}


def _request_id() -> str:
    return str(uuid4())
