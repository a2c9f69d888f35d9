"""A VEN in pull mode written from the OpenADR 2.0b specification, with no library for it.

It speaks over mutual TLS, signs and checks signatures by hand, and holds every answer against
the official schema, so that an error the bridge and openleadr share does not hide here.
"""

import ssl
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientTimeout, TCPConnector
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.openadr2 import raw_messages as messages
from tests.openadr2.pki import Identity
from tests.openadr2.raw_reading import Answer, length
from tests.openadr2.raw_signatures import shown_in, sign, verify

PREFIX = "/OpenADR2/Simple/2.0b"
XML = {"Content-Type": "application/xml"}


class RawVen:
    """A VEN; `async with` it, or call `close`."""

    def __init__(
        self,
        name: str,
        url: str,
        cert: Path,
        key: Path,
        ca: Path,
        sign: bool | str = False,
        *,
        signers: Iterable[x509.Certificate] = (),
        ven_id: str | None = None,
    ) -> None:
        self.name, self.url = name, url.removesuffix(PREFIX).rstrip("/") + PREFIX
        self.cert, self.key, self.ca, self.sign = cert, key, ca, sign
        self.shown = x509.load_pem_x509_certificate(cert.read_bytes())
        self.private = serialization.load_pem_private_key(key.read_bytes(), None)
        self.signers = list(signers)  # who may sign what the VTN says; empty: the authority's
        self.ven_id = ven_id
        self.registration_id: str | None = None
        self.poll_every = 0.0
        self.nonces: set[str] = set()
        self._http: ClientSession | None = None

    @classmethod
    def of(cls, who: Identity, url: str, ca: Path, **more: Any) -> "RawVen":
        return cls(who.name, url, who.cert, who.key, ca, **more)

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(self.ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.cert, self.key)
        return context

    @property
    def http(self) -> ClientSession:
        if self._http is None:
            self._http = ClientSession(
                connector=TCPConnector(ssl=self.context(), limit=4),
                timeout=ClientTimeout(total=30),
                skip_auto_headers=["Content-Type", "User-Agent"],
            )
        return self._http

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def __aenter__(self) -> "RawVen":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # Sending

    async def post(
        self,
        content: bytes,
        service: str,
        *,
        headers: dict[str, str] | None = None,
        method: str = "POST",
    ) -> Answer:
        """Send bytes to a service and read what comes back."""
        url = f"{self.url}/{service}"
        said = XML if headers is None else headers
        async with self.http.request(method, url, data=content, headers=said) as reply:
            return Answer.read(reply.status, await reply.read(), reply.content_type)

    def write(self, body: str, **signing: Any) -> bytes:
        """Write a message, signed where this VEN signs or is told how."""
        message = messages.wrap(body)
        if not self.sign and not signing:
            return message.encode()
        cert, key = signing.pop("cert", self.shown), signing.pop("key", self.private)
        return sign(message, cert, key, **signing)

    async def send(self, body: str, service: str | None = None, **signing: Any) -> Answer:
        """Send a message to its service; check the signature of the answer where it was signed."""
        where = service or messages.SERVICES[messages.kind_of(body)]
        answer = await self.post(self.write(body, **signing), where)
        if self.sign and answer.good:
            answer.signed = self.check(answer.content)
        return answer

    def check(self, content: bytes) -> Any:
        """Check by hand that the VTN signed this, now and for the first time."""
        found = verify(content, self.signers or [self._issued(content)])
        assert found.nonce not in self.nonces, "the VTN used a nonce twice"
        self.nonces.add(found.nonce)
        return found

    def _issued(self, content: bytes) -> x509.Certificate:
        """Return the certificate that is shown, once the authority's signature on it is right."""
        cert = shown_in(content)
        cert.verify_directly_issued_by(x509.load_pem_x509_certificate(self.ca.read_bytes()))
        return cert

    # Registration

    async def query(self) -> Answer:
        return await self.send(messages.query_registration(messages.fresh()))

    async def register(self, **more: Any) -> Answer:
        """Register, and note what the VTN has given."""
        about = {"name": self.name, "ven_id": self.ven_id, "signed": bool(self.sign)}
        if self.registration_id:
            about["registration_id"] = self.registration_id
        body = messages.create_party_registration(
            **{"request_id": messages.fresh(), **about, **more}
        )
        answer = await self.send(body)
        if answer.good and answer.kind == "oadrCreatedPartyRegistration":
            self.ven_id = answer.text("e:venID")
            self.registration_id = answer.text("e:registrationID")
            every = answer.text("o:oadrRequestedOadrPollFreq/c:duration")
            self.poll_every = length(every).total_seconds() if every else 0.0
        return answer

    async def cancel_registration(self, registration_id: str | None = None) -> Answer:
        """End the registration."""
        body = messages.cancel_party_registration(
            registration_id or self.registration_id or "", self.ven_id, messages.fresh()
        )
        answer = await self.send(body)
        if answer.good and registration_id is None:
            self.registration_id = None
        return answer

    async def canceled_registration(self, request_id: str = "") -> Answer:
        """Answer the VTN's oadrCancelPartyRegistration."""
        return await self.send(
            messages.canceled_party_registration(self.registration_id, self.ven_id, request_id)
        )

    async def respond(self, service: str = "EiRegisterParty", code: int = 200) -> Answer:
        return await self.send(messages.response(self.ven_id, "", code), service)

    # Events

    async def poll(self) -> Answer:
        return await self.send(messages.poll(self.ven_id or ""))

    async def request_event(self, limit: int | None = None) -> Answer:
        return await self.send(messages.request_event(self.ven_id or "", limit, messages.fresh()))

    async def created_event(
        self, *answers: tuple[str, int, str], request_id: str = "", code: int = 200
    ) -> Answer:
        """Say how this VEN opts, for each event and modification."""
        return await self.send(messages.created_event(self.ven_id or "", answers, request_id, code))

    async def answer(self, distributed: Answer, opt: str = "optIn") -> Answer | None:
        """Opt for whatever asks for it in an oadrDistributeEvent."""
        asked = [(*e.version, opt) for e in distributed.events() if e.required == "always"]
        if not asked:
            return None
        return await self.created_event(*asked, request_id=distributed.text("p:requestID"))

    # Reports

    async def register_report(self, *offers: str) -> Answer:
        return await self.send(messages.register_report(self.ven_id, offers, messages.fresh()))

    async def created_report(self, *pending: str, request_id: str = "") -> Answer:
        return await self.send(messages.created_report(self.ven_id, pending, request_id))

    async def canceled_report(self, *pending: str, request_id: str = "") -> Answer:
        return await self.send(messages.canceled_report(self.ven_id, pending, request_id))

    async def update_report(self, *reports: str) -> Answer:
        return await self.send(messages.update_report(self.ven_id, reports, messages.fresh()))

    async def usage(
        self, request: str, start: datetime, values: dict[str, float], span: str = "PT1M"
    ) -> Answer:
        """Report what was used in one interval."""
        said = messages.report(request, "usage", "TELEMETRY_USAGE", [(start, span, values)])
        return await self.update_report(said)

    # Opts

    async def create_opt(self, opt_id: str, **about: Any) -> Answer:
        return await self.send(
            messages.create_opt(
                self.ven_id or "", opt_id, **{"request_id": messages.fresh(), **about}
            )
        )

    async def cancel_opt(self, opt_id: str) -> Answer:
        return await self.send(messages.cancel_opt(self.ven_id or "", opt_id, messages.fresh()))
